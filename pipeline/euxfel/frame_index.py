"""Frame index of a run: (train, pulse) → (file, row), with all irregularities counted.

Frames are found by train id and pulse id, never by position: a train with frames missing does not shift the next.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from extra_data import FileAccess

from pipeline.errors import DataError
from pipeline.euxfel.run_files import RunFiles
from schemas.instrument import Role

__all__ = ["FrameIndex", "detector_source", "index_frames"]

NO_CELL = np.uint16(65535)


@dataclass(frozen=True)
class FrameIndex:
    """The frames of one detector module in one run.

    `row[i, j]` is the row of train i and pulse j in the file `file[i]`, -1 where no frame was recorded.
    """

    source: str
    key: str
    module: int | None
    files: tuple[Path, ...]
    dataset: str
    train_id: np.ndarray
    file: np.ndarray
    pulse_id: np.ndarray
    row: np.ndarray
    cell_id: np.ndarray
    frame_shape: tuple[int, int]
    dtype: np.dtype
    counts: dict[str, int]
    notes: list[str] = field(default_factory=list)

    @property
    def present(self) -> np.ndarray:
        """Whether a frame was recorded, by train and pulse."""
        return self.row >= 0

    @property
    def frame_bytes(self) -> int:
        """Size of a frame on disk."""
        return int(np.prod(self.frame_shape)) * self.dtype.itemsize

    def part(self, trains: slice) -> FrameIndex:
        """Return the index of some trains only: what a worker needs to know, whatever the length of the run."""
        columns = {name: getattr(self, name)[trains] for name in ("train_id", "file", "row", "cell_id")}
        return replace(self, **columns, counts={}, notes=[])


def detector_source(files: RunFiles, role: Role) -> tuple[str, int | None]:
    """Return the detector's source and module; raises DataError naming what the run holds instead."""
    if "{module}" not in role.source:
        if role.source not in files.sources:
            raise DataError(_no_source(files, role.source))
        return role.source, None
    head, tail = role.source.split("{module}", 1)
    there = sorted(
        int(s[len(head) : len(s) - len(tail)])
        for s in files.sources
        if s.startswith(head) and s.endswith(tail) and s[len(head) : len(s) - len(tail)].isdigit()
    )
    if role.module != "auto":
        wanted = role.module
    elif len(there) == 1:
        wanted = there[0]
    else:
        wanted = role.usual_module
    if wanted not in there:
        if there:
            raise DataError(
                f"run {files.run}: module {wanted} of {role.source} is not in the run (modules there: "
                f"{', '.join(map(str, there))}); set sources.frames.module"
            )
        raise DataError(_no_source(files, role.source))
    return f"{head}{wanted}{tail}", wanted


def _no_source(files: RunFiles, source: str) -> str:
    detectors = sorted(s for s in files.sources if ":xtdf" in s or "/DET/" in s) or sorted(files.sources)
    listed = ", ".join(detectors[:4]) + (", …" if len(detectors) > 4 else "") if detectors else "nothing"
    if files.problems:
        return f"run {files.run}: no readable file holds {source}: {'; '.join(files.problems)}; copy the run again"
    return f"run {files.run}: no source {source}; there: {listed}; set sources.frames.source"


def index_frames(files: RunFiles, role: Role) -> FrameIndex:
    """Find every frame of the detector role in a run.

    Suspect trains, trains recorded twice, and index entries that point outside the data are left out and counted.

    Raises
    ------
    DataError
        If the run has no such source, or no frame of it can be read.
    """
    source, module = detector_source(files, role)
    name = f"INSTRUMENT/{source}/{role.key.replace('.', '/')}"
    parts = [_Part(number, f, source, name) for number, f in enumerate(files.with_source(source))]
    usable = [p for p in parts if p.frames is not None]
    if not usable:
        raise DataError(f"run {files.run}: {source} {role.key}: no frames; the detector was not recording")
    shapes = {p.shape for p in usable}
    if len(shapes) > 1:
        raise DataError(f"run {files.run}: {source} {role.key}: frame shape changes between files: {sorted(shapes)}")
    counts: Counter[str] = Counter()
    notes: list[str] = []
    trains = _collect(usable, counts, notes)
    if not trains:
        raise DataError(f"run {files.run}: {source} {role.key}: every train is empty or suspect")
    order = sorted(trains)
    pulse_id = np.unique(np.concatenate([trains[t].pulse_id for t in order]))
    row = np.full((len(order), len(pulse_id)), -1, np.int64)
    cell = np.full(row.shape, NO_CELL, np.uint16)
    for i, train in enumerate(order):
        place = np.searchsorted(pulse_id, trains[train].pulse_id)
        row[i, place] = trains[train].rows
        cell[i, place] = trains[train].cell_id
    _report_gaps(files, source, np.array(order, np.uint64), row, counts, notes)
    return FrameIndex(
        source=source,
        key=role.key,
        module=module,
        files=tuple(Path(p.file.filename) for p in parts),
        dataset=name,
        train_id=np.array(order, np.uint64),
        file=np.array([trains[t].file for t in order], np.int64),
        pulse_id=pulse_id.astype(np.uint64),
        row=row,
        cell_id=cell,
        frame_shape=next(iter(shapes)),
        dtype=usable[0].dtype,
        counts=dict(counts),
        notes=notes,
    )


@dataclass(frozen=True)
class _Train:
    file: int
    rows: np.ndarray
    pulse_id: np.ndarray
    cell_id: np.ndarray


class _Part:
    """Part of the index that comes from one sequence file."""

    def __init__(self, number: int, file: FileAccess, source: str, name: str):
        self.number = number
        self.file = file
        dataset = file.file.get(name)
        self.frames = None if dataset is None else len(dataset)
        if dataset is None:
            return
        self.shape: tuple[int, int] = dataset.shape[-2:]
        self.dtype = dataset.dtype
        group = dataset.parent
        self.train_id = group["trainId"][()].reshape(-1)
        self.pulse_id = group["pulseId"][()].reshape(-1)
        self.cell_id = group["cellId"][()].reshape(-1)
        index_group = next(g for g in file.index_groups(source) if name.split(f"{source}/")[1].startswith(g))
        self.first, self.count = (a.astype(np.int64) for a in file.get_index(source, index_group))

    @property
    def label(self) -> str:
        return Path(self.file.filename).name


def _collect(parts: list[_Part], counts: Counter[str], notes: list[str]) -> dict[int, _Train]:
    trains: dict[int, _Train] = {}
    for part in parts:
        n_rows = min(part.frames or 0, len(part.train_id), len(part.pulse_id), len(part.cell_id))
        valid = part.file.validity_flag
        for i, train in enumerate(part.file.train_ids.tolist()):
            first, count = int(part.first[i]), int(part.count[i])
            if not valid[i]:
                _count(counts, notes, "suspect", f"train {train} in {part.label} is flagged as suspect")
            elif count == 0:
                continue
            elif first + count > n_rows:
                _count(counts, notes, "truncated", f"train {train} in {part.label}: index points past the data")
            elif (part.train_id[first : first + count] != train).any():
                _count(counts, notes, "misindexed", f"train {train} in {part.label}: index points at another train")
            elif train in trains:
                _count(counts, notes, "duplicate", f"train {train} is recorded twice ({part.label})")
            else:
                rows = np.arange(first, first + count)
                pulses, place = np.unique(part.pulse_id[rows], return_index=True)
                if len(pulses) < count:
                    _count(counts, notes, "duplicate_pulse", f"train {train} in {part.label}: pulse ids repeat")
                trains[train] = _Train(part.number, rows[place], pulses, part.cell_id[rows[place]])
    return trains


def _report_gaps(
    files: RunFiles, source: str, train_id: np.ndarray, row: np.ndarray, counts: Counter[str], notes: list[str]
) -> None:
    run_trains = files.train_ids()
    span = int(max(run_trains.max(), train_id.max()) - min(run_trains.min(), train_id.min())) + 1
    # a bogus train id far off would count as millions of missing trains
    expected = span if span <= 2 * max(len(run_trains), 10) else len(run_trains)
    missing = max(expected - len(train_id), 0)
    if missing:
        counts["missing"] = missing
        notes.append(f"{missing} of {expected} trains have no frames")
    per_train = Counter((row >= 0).sum(axis=1).tolist())
    if len(per_train) > 1:
        usual = max(per_train, key=lambda n: (per_train[n], n))
        counts["partial"] = sum(k for n, k in per_train.items() if n < usual)
        shown = ", ".join(f"{k} trains with {n}" for n, k in sorted(per_train.items())[:6])
        notes.append(f"frames per train differ: {shown}")
    sequences = files.sequences(source)
    others = set().union(*(files.sequences(s) for s in files.sources))
    absent = sorted((set(range(max(sequences | others) + 1)) | others) - sequences)
    if absent:
        counts["missing_sequences"] = len(absent)
        notes.append(f"no sequence {', '.join(map(str, absent[:8]))} of {source}")


def _count(counts: Counter[str], notes: list[str], reason: str, text: str) -> None:
    counts[reason] += 1
    if counts[reason] <= 3:
        notes.append(text)
