"""What is complete, what is new, what has been said: the judgement of a watcher, without a clock and without files.

A look compares the files of a raw folder with what earlier looks remembered. A run is complete when the facility's marker
is there, or when none of its files changed for the settling time: by their own modification times, or by ours since the
first look that saw them so (clocks of file servers differ). The same look twice gives the same answer and tells nothing
twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pipeline.euxfel.raw_folder import Files, has_marker
from pipeline.storage.hashes import digest
from schemas.catalogue import note
from schemas.config import Config
from schemas.notes import Note

__all__ = ["Look", "Memory", "Processed", "Seen", "look"]

SCANS = {"energy_scan": "energy_scans", "delay_scan": "delay_scans"}
NOT_COMPLETE = "it is not complete yet"
"""Why a listed run is not in a product; the same words at every look, or each would be another product."""


@dataclass(frozen=True)
class Seen:
    """What is remembered of a run."""

    files: str
    """Identity of names, sizes and times of its files."""
    since: float
    """When a look first saw them so [s since the epoch]."""
    complete: bool = False
    faults: list[str] = field(default_factory=list)
    """Files that cannot be opened."""
    kind: str | None = None
    """dark, flat_field, energy_scan, delay_scan or unknown; only of runs that are not listed."""


@dataclass(frozen=True)
class Processed:
    """What was processed last."""

    key: str = ""
    runs: list[int] = field(default_factory=list)
    version: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class Memory:
    """All that is remembered between looks."""

    runs: Mapping[int, Seen] = field(default_factory=dict)
    told: Sequence[str] = ()
    processed: Processed = Processed()


@dataclass(frozen=True)
class Look:
    """What a look found."""

    key: str
    """Identity of what would be processed."""
    ready: list[int]
    """Complete runs of the dataset."""
    changes: list[str]
    """Changes of the config that add the runs that were found."""
    waiting: dict[int, str]
    """Scans of the dataset that are not complete, and why."""
    hold: str | None
    """Why nothing is processed although something may be new."""
    news: bool
    """Whether there is something to process."""
    notes: list[Note]
    """What has not been told before."""
    settled_in: float
    """Seconds after which the youngest of the runs that wait for time alone is complete; 0: none does."""

    @property
    def text(self) -> str:
        """One line on the state of the folder."""
        runs = ", ".join(map(str, self.ready)) or "none"
        waits = f"; waiting: {', '.join(map(str, self.waiting))}" if self.waiting else ""
        return f"complete runs: {runs}{waits}" + (f"; {self.hold}" if self.hold else "")


def look(
    config: Config,
    folder: Mapping[int, Files],
    memory: Memory,
    now: float,
    *,
    faults: Callable[[int], list[str]],
    kinds: Callable[[list[int]], Mapping[int, str]],
) -> tuple[Look, Memory]:
    """Judge a raw folder.

    Parameters
    ----------
    config
        The dataset.
    folder
        Files of every run that is there.
    memory
        What the look before returned.
    now
        Time [s since the epoch].
    faults
        Opens the files of a run and says what is wrong; called once per state of a run.
    kinds
        Classifies runs that are not listed; called once per state of a run.

    Returns
    -------
    Look, Memory
        The judgement, and what to remember; `Memory.processed` is for the caller to change.
    """
    runs = {n: _judge(n, files, memory.runs.get(n), config, now, faults) for n, files in folder.items()}
    base = [n for n in (config.runs.dark, config.runs.flat_field) if n is not None]
    listed = [s.run for s in config.runs.scans]
    complete = {n for n, seen in runs.items() if seen.complete}
    runs |= _classified(runs, complete, base, listed, kinds)
    found = [n for n in sorted(complete) if runs[n].kind in SCANS and config.watch.fluence is not None]
    ready = [n for n in (*base, *listed, *found) if n in complete]
    waiting = {n: NOT_COMPLETE for n in listed if n not in complete}
    changes = _changes(config, {n: str(runs[n].kind) for n in found})
    key = digest({"runs": {n: runs[n].files for n in ready}, "config": config.model_dump(mode="json"), "new": changes})
    young = [n for n, files in folder.items() if n not in complete and _has_data(files)]
    hold = _hold(config, base, listed + found, complete, memory.processed, folder)
    notes = [*_notes(config, runs, base, listed), *([note("watch.on_hold", reason=hold)] if hold else [])]
    new = [one for one in notes if _mark(one) not in memory.told]
    judged = Look(
        key=key,
        ready=ready,
        changes=changes,
        waiting=waiting,
        hold=hold,
        news=hold is None and key != memory.processed.key,
        notes=new,
        settled_in=max((config.watch.settle - _quiet(folder[n], runs[n], now) for n in young), default=0.0),
    )
    return judged, Memory(runs, [_mark(one) for one in notes], memory.processed)


def _judge(
    number: int, files: Files, before: Seen | None, config: Config, now: float, faults: Callable[[int], list[str]]
) -> Seen:
    identity = digest(files)
    if before is None or before.files != identity:
        before = Seen(identity, now)
    if before.complete or not _has_data(files):
        return before
    if not has_marker(files, config.watch.marker) and _quiet(files, before, now) < config.watch.settle:
        return before
    return replace(before, complete=True, faults=faults(number))


def _has_data(files: Files) -> bool:
    return any(name.endswith(".h5") for name in files)


def _quiet(files: Files, seen: Seen, now: float) -> float:
    """Return for how long [s] no file of a run has changed."""
    newest = max(mtime for _, mtime in files.values()) / 1e9
    return max(now - newest, now - seen.since)


def _classified(
    runs: Mapping[int, Seen],
    complete: set[int],
    base: list[int],
    listed: list[int],
    kinds: Callable[[list[int]], Mapping[int, str]],
) -> dict[int, Seen]:
    """Return complete runs that are not listed with their kind; the dark run must be there to compare with."""
    unknown = [n for n in sorted(complete) if n not in (*base, *listed) and runs[n].kind is None]
    if not unknown or not complete.issuperset(base):
        return {}
    told = kinds([*base, *unknown])
    return {n: replace(runs[n], kind=told.get(n, "unknown")) for n in unknown}


def _changes(config: Config, found: Mapping[int, str]) -> list[str]:
    changes = []
    for kind, key in SCANS.items():
        new = [{"run": n, "fluence": config.watch.fluence} for n, k in found.items() if k == kind]
        if new:
            there = [s.model_dump(mode="json", exclude_none=True) for s in getattr(config.runs, key)]
            entries = ", ".join(_flow(entry) for entry in [*there, *new])
            changes.append(f"runs.{key}=[{entries}]")
    return changes


def _flow(entry: Mapping[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in entry.items()) + "}"


def _hold(
    config: Config,
    base: list[int],
    scans: list[int],
    complete: set[int],
    processed: Processed,
    folder: Mapping[int, Files],
) -> str | None:
    absent = [n for n in base if n not in complete]
    if absent:
        return f"waiting for calibration run {absent[0]}"
    if not complete & set(scans):
        return "waiting for the first scan"
    if processed.version is not None:
        wanted = {*base, *scans} if config.watch.fluence is None else set(processed.runs)
        lost = [n for n in processed.runs if n in wanted and n not in complete]
        if lost:
            how = "changes" if lost[0] in folder else "is gone"
            return f"run {lost[0]} is in the product and {how}: nothing is published until it is complete"
    return None


def _notes(config: Config, runs: Mapping[int, Seen], base: list[int], listed: list[int]) -> list[Note]:
    """Return all there is to say of complete runs."""
    notes = []
    for number, seen in sorted(runs.items()):
        if not seen.complete:
            continue
        notes += [note("watch.unreadable", run=number, reason=fault) for fault in seen.faults]
        if number in (*base, *listed):
            notes += [note("watch.complete", run=number)] if not seen.faults else []
        elif seen.kind in SCANS and config.watch.fluence is not None:
            notes.append(note("watch.added", run=number, kind=seen.kind, fluence=config.watch.fluence))
        elif seen.kind in SCANS:
            notes.append(note("watch.not_listed", run=number, kind=seen.kind, key=SCANS[seen.kind]))
        elif seen.kind is not None:
            notes.append(note("watch.not_used", run=number, kind=seen.kind))
    return notes


def _mark(told: Note) -> str:
    return digest(told.text)[:12]
