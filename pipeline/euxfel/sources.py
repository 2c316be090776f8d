"""Whether the runs hold the sources that config and profile name, and which others may be meant."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.euxfel.run_files import RunFiles
from schemas.instrument import Instrument, Role, RoleOverride
from schemas.near import near

__all__ = ["guess_detector", "guess_slow", "lacking"]

LISTED = 6
"""Keys of a source that are named in a message."""


def lacking(files: RunFiles, role: Role) -> str:
    """Return what a run lacks of a role, with the names in it that look alike; empty where source and key are there."""
    if role.source not in files.sources:
        alike = near(role.source, files.sources)
        found = f"alike: {', '.join(alike)}" if alike else f"none of its {len(files.sources)} sources looks alike"
        return f"no source {role.source} in the run; {found}"
    keys = files.keys(role.source)
    key = role.key.removesuffix(".value")
    if key in keys:
        return ""
    alike = near(key, keys) or sorted(keys)[:LISTED]
    return f"{role.source} has no key {key}; it has {', '.join(alike) or 'none'}"


def guess_detector(files: RunFiles, instrument: Instrument) -> tuple[Instrument, dict[str, RoleOverride | str | None]]:
    """Return the instrument with the detector source that the run really holds, where there is only one to choose."""
    head = instrument.frames.source.split("{module}")[0]
    if any(s.startswith(head) for s in files.sources):
        return instrument, {}
    detectors = sorted(s for s in files.sources if s.endswith(":xtdf"))
    if len(detectors) != 1:
        return instrument, {}
    change: dict[str, RoleOverride | str | None] = {"frames": detectors[0]}
    return instrument.with_sources(change), change


_WORDS = {"energy": ("energy", "mono"), "delay_stage": ("delay", "stage", "position")}


def guess_slow(name: str, role: Role, moved: Iterable[str]) -> RoleOverride | None:
    """Return the source and key that a role has in place of the profile's; None where that is not plain.

    Parameters
    ----------
    name
        energy or delay_stage.
    role
        As the profile has it.
    moved
        "source key" of what moves where this role should.
    """
    fits = [m.rpartition(" ")[::2] for m in sorted(moved) if any(w in m.casefold() for w in _WORDS[name])]
    same = [m for m in fits if m[1] == role.key]
    actual = [m for m in fits if m[1].casefold().startswith("actual")]
    for candidates in (same, actual, fits):
        if len(candidates) == 1:
            return RoleOverride(source=candidates[0][0], key=candidates[0][1])
    return None
