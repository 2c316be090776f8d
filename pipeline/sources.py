"""Whether the runs hold the sources that config and profile name, and which others may be meant."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.errors import ConfigError, DataError
from pipeline.io.exdf import RunFiles, open_files
from pipeline.job import Job
from schemas.instrument import Instrument, Role, RoleOverride
from schemas.near import near

__all__ = ["check_sources", "guess_detector", "guess_slow", "lacking"]

LISTED = 6
"""Keys of a source that are named in a message."""


def check_sources(job: Job) -> None:
    """Before hours are spent on reading frames, refuse a config whose energy, stage or overridden source no scan holds that needs it.

    A source that some runs hold is not a fault of the config: the others count their pulses as without energy or delay.
    The detector is judged where its frames are sought.

    Raises
    ------
    ConfigError
        Naming run, source and those of the run that look alike.
    """
    wanted = {name: runs for name, runs in _needed(job).items() if runs}
    opened: dict[int, RunFiles | None] = {}
    for name, runs in wanted.items():
        role, first = job.instrument.role(name), ""
        for number in runs if role is not None else []:
            if number not in opened:
                opened[number] = _open(job, number)
            files = opened[number]
            fault = "" if files is None or role is None else lacking(files, role)
            if not fault:
                break
            first = first or f"run {number}: {fault}; `trxas inspect {job.raw_run(number)}` lists all"
        else:
            if first:
                raise ConfigError(f"sources.{name}: {first}")


def _needed(job: Job) -> dict[str, list[int]]:
    """Return the runs in which each role must be: what the config gives by hand need not be recorded."""
    spectra, scans = job.energy_scans, job.delay_scans
    everywhere = [s.run for s in spectra] + [s.run for s in scans]
    named = {str(n): everywhere for n, change in job.config.sources.items() if change is not None and n != "frames"}
    return named | {
        "energy": [s.run for s in spectra] + [s.run for s in scans if s.energy is None],
        "delay_stage": [s.run for s in spectra if s.delay is None] + [s.run for s in scans],
    }


def _open(job: Job, number: int) -> RunFiles | None:
    """Return the files of a run; None where some cannot be read, which is told later and may explain what is missing."""
    try:
        files = open_files(job.raw_run(number))
    except DataError:
        return None
    return None if files.problems else files


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
