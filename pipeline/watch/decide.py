"""Decide which runs are complete, what is new and what to report; uses neither the clock nor the file system.

A look compares the files of a raw folder with the memory of earlier looks. A run is complete when the facility's marker
file exists, or when none of its files has changed for the settling time, by their modification times or by the local clock
since the state was first seen (clocks of file servers differ). Looking twice at the same state gives the same result, and
nothing is reported twice.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from pipeline.euxfel.raw_folder import Files, has_marker
from pipeline.storage.hashes import digest
from schemas.catalogue import note
from schemas.config import Config
from schemas.notes import Note

__all__ = ["Failure", "LastProcessing", "Look", "Memory", "Seen", "after_failure", "look", "resting"]

Failure = Literal["expected", "passing", "unexpected"]
"""An error of the data or the config; one that disk, network or machine may get over; one that is a fault of trxas."""
Faults = Callable[[int], list[str]]
Kinds = Callable[[list[int]], Mapping[int, str]]

SCANS = {"energy_scan": "energy_scans", "delay_scan": "delay_scans"}
PATIENCE = 3
"""So many unexpected errors in a row, and the same state is not tried again."""
FIRST_WAIT, GROWTH, LONGEST_WAIT = 300.0, 4.0, 3600.0
"""Time [s] before what failed is tried again; after every further failure so many times longer, up to a limit."""
NOT_COMPLETE = "it is not complete yet"
"""Why a listed run is not in a product. Constant, because the reason is part of the key of the product."""


@dataclass(frozen=True)
class Seen:
    """Remembered state of a run."""

    files: str
    """Hash of the names, sizes and times of its files."""
    since: float
    """When a look first saw this state [s since the epoch]."""
    complete: bool = False
    faults: list[str] = field(default_factory=list)
    """Files that cannot be opened."""
    kind: str | None = None
    """dark, flat_field, energy_scan, delay_scan or unknown; set only for runs that the config does not list."""


@dataclass(frozen=True)
class LastProcessing:
    """Outcome of the last processing."""

    key: str = ""
    runs: list[int] = field(default_factory=list)
    version: str | None = None
    error: str | None = None
    failure: Failure | None = None
    """What kind of error it was; None: there was none."""
    failures: int = 0
    """How many of the kind there were in a row."""
    again: float | None = None
    """When the same state is tried again [s since the epoch]; None: when something has changed."""


@dataclass(frozen=True)
class Memory:
    """State kept between looks."""

    runs: Mapping[int, Seen] = field(default_factory=dict)
    told: Sequence[str] = ()
    processed: LastProcessing = LastProcessing()


@dataclass(frozen=True)
class Look:
    """Result of a look."""

    key: str
    """Hash of what would be processed."""
    ready: list[int]
    """Complete runs of the dataset."""
    changes: list[str]
    """Config changes that add the scans found."""
    waiting: dict[int, str]
    """Scans of the dataset that are not complete, with the reason."""
    hold: str | None
    """Why processing is on hold although there may be new data."""
    news: bool
    """Whether there is something to process."""
    notes: list[Note]
    """Notes that have not been reported before."""
    settled_in: float
    """Time until every run that is still settling is complete [s]; 0 if none is settling."""

    @property
    def text(self) -> str:
        """State of the folder in one line."""
        runs = ", ".join(map(str, self.ready)) or "none"
        waits = f"; waiting: {', '.join(map(str, self.waiting))}" if self.waiting else ""
        return f"complete runs: {runs}{waits}" + (f"; {self.hold}" if self.hold else "")


def look(
    config: Config,
    folder: Mapping[int, Files],
    memory: Memory,
    now: float,
    *,
    faults: Faults,
    kinds: Kinds,
    code: str = "",
) -> tuple[Look, Memory]:
    """Decide what to do about the files of every run in a raw folder at a time [s since the epoch].

    `faults` opens the files of a run, `kinds` classifies runs that are not listed; both are called once per state of a run.
    Other `code` makes everything new. Returns the result and the memory for the next look, in which `processed` is left for the caller to update.
    """
    runs = {n: _state_of(n, files, memory.runs.get(n), config, now, faults) for n, files in folder.items()}
    base = [config.runs.dark, *config.runs.flat_fields[:1]]
    without_pump = [*config.runs.flat_fields[1:], *(s.run for s in config.runs.pump_off_scans)]
    listed = [*without_pump, *(s.run for s in config.runs.scans)]
    complete = {n for n, seen in runs.items() if seen.complete}
    runs |= _classified(runs, complete, base, listed, kinds)
    found = [n for n in sorted(complete) if runs[n].kind in SCANS and config.watch.fluence is not None]
    ready = [n for n in (*base, *listed, *found) if n in complete]
    waiting = {n: NOT_COMPLETE for n in listed if n not in complete}
    changes = _changes(config, {n: str(runs[n].kind) for n in found})
    key = digest(
        {
            "runs": {n: runs[n].files for n in ready},
            "config": config.model_dump(mode="json"),
            "new": changes,
            "code": code,
        }
    )
    settling = [n for n, files in folder.items() if n not in complete and _has_data(files)]
    hold = _hold(config, base, listed + found, complete, memory.processed, folder)
    due = key != memory.processed.key
    if hold is None and not due and memory.processed.failure in ("passing", "unexpected"):
        hold = _rest(memory.processed, now)
        due = hold is None
    notes = [*_notes(config, runs, base, listed), *([note("watch.on_hold", reason=hold)] if hold else [])]
    # a note is known by its text
    prints = [digest(one.text)[:12] for one in notes]
    new = [one for one, told in zip(notes, prints, strict=True) if told not in memory.told]
    result = Look(
        key=key,
        ready=ready,
        changes=changes,
        waiting=waiting,
        hold=hold,
        news=hold is None and due,
        notes=new,
        settled_in=max((config.watch.settle - _unchanged_for(folder[n], runs[n], now) for n in settling), default=0.0),
    )
    return result, Memory(runs, prints, memory.processed)


def after_failure(last: LastProcessing, key: str, error: str, failure: Failure, now: float) -> LastProcessing:
    """Return what is remembered of a processing that failed, or of a look that did: it has no key."""
    failures = last.failures + 1 if last.failure == failure else 1
    wait = min(FIRST_WAIT * GROWTH ** (failures - 1), LONGEST_WAIT)
    given_up = key != "" and (failure == "expected" or (failure == "unexpected" and failures >= PATIENCE))
    again = None if given_up else now + wait
    return LastProcessing(key, last.runs, last.version, error, failure, failures, again)


def resting(memory: Memory, now: float) -> str | None:
    """Return why there is no look at a time [s since the epoch]: the last ones failed; None if there is one."""
    last = memory.processed
    return None if last.key or last.failure is None else _rest(last, now)


def _rest(last: LastProcessing, now: float) -> str | None:
    if last.again is None:
        return (
            f"set aside after {last.failures} unexpected errors ({last.error}): nothing is tried before files, config or code "
            "change; --log-level DEBUG shows where they come from"
        )
    if now < last.again:
        return f"failed, {last.failures} in a row ({last.error}): tried again later"
    return None


def _state_of(number: int, files: Files, before: Seen | None, config: Config, now: float, faults: Faults) -> Seen:
    """Return the new state of a run; it is complete once it has its marker file or has settled."""
    identity = digest(files)
    if before is None or before.files != identity:
        before = Seen(identity, now)
    if before.complete or not _has_data(files):
        return before
    if not has_marker(files, config.watch.marker) and _unchanged_for(files, before, now) < config.watch.settle:
        return before
    return replace(before, complete=True, faults=faults(number))


def _has_data(files: Files) -> bool:
    return any(name.endswith(".h5") for name in files)


def _unchanged_for(files: Files, seen: Seen, now: float) -> float:
    """Return the time since a file of a run last changed [s]."""
    newest = max(mtime for _, mtime in files.values()) / 1e9
    return max(now - newest, now - seen.since)


def _classified(
    runs: Mapping[int, Seen], complete: set[int], base: list[int], listed: list[int], kinds: Kinds
) -> dict[int, Seen]:
    """Return the complete runs that are not listed, with their kind; needs the complete calibration runs for comparison."""
    unknown = [n for n in sorted(complete) if n not in (*base, *listed) and runs[n].kind is None]
    if not unknown or not complete.issuperset(base):
        return {}
    kind_of = kinds([*base, *unknown])
    return {n: replace(runs[n], kind=kind_of.get(n, "unknown")) for n in unknown}


def _changes(config: Config, found: Mapping[int, str]) -> list[str]:
    changes = []
    for kind, key in SCANS.items():
        new = [{"run": n, "fluence": config.watch.fluence} for n, k in found.items() if k == kind]
        if new:
            there = [s.model_dump(mode="json", exclude_none=True) for s in getattr(config.runs, key)]
            entries = ("{" + ", ".join(f"{k}: {v}" for k, v in entry.items()) + "}" for entry in [*there, *new])
            changes.append(f"runs.{key}=[{', '.join(entries)}]")
    return changes


def _hold(
    config: Config, base: list[int], scans: list[int], complete: set[int], last: LastProcessing, there: Collection[int]
) -> str | None:
    absent = [n for n in base if n not in complete]
    if absent:
        return f"waiting for calibration run {absent[0]}"
    if not complete & set(scans):
        return "waiting for the first scan"
    if last.version is not None:
        wanted = {*base, *scans} if config.watch.fluence is None else set(last.runs)
        lost = [n for n in last.runs if n in wanted and n not in complete]
        if lost:
            how = "changes" if lost[0] in there else "is gone"
            return f"run {lost[0]} is in the product and {how}: nothing is published until it is complete"
    return None


def _notes(config: Config, runs: Mapping[int, Seen], base: list[int], listed: list[int]) -> list[Note]:
    """Return all notes on complete runs."""
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
