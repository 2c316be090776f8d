"""Frame index of a run: (train, pulse) → (file, row), with all irregularities counted.

Frames are found by train id and pulse id, never by position: a train with frames missing does not shift the next.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import h5py
import numpy as np

from pipeline.errors import DataError
from pipeline.euxfel.exdf_file import ExdfFile
from pipeline.euxfel.file_identity import FileIdentity
from pipeline.euxfel.run_files import RunFiles, usual
from schemas.instrument import Role

__all__ = ["FrameIndex", "detector_source", "index_frames"]

NO_CELL = np.uint16(65535)
COLUMNS = ("trainId", "pulseId", "cellId")
SLOTS = 2700
"""Slots of a train: a train has no more frames, and no larger pulse ids."""


@dataclass(frozen=True)
class FrameIndex:
    """The frames of one detector module in one run.

    `row[i, j]` is the row of train i and pulse j in the file `file[i]`, -1 where no frame was recorded.
    """

    source: str
    key: str
    module: int | None
    files: tuple[Path, ...]
    identities: tuple[FileIdentity, ...]
    """Of the files, when they were indexed."""
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
    counts: Counter[str] = Counter()
    notes: list[str] = []
    parts = _parts(files, source, role.key, notes)
    if not parts:
        reasons = f" ({'; '.join(notes)})" if notes else ""
        raise DataError(f"run {files.run}: {source} {role.key}: no frames; the detector was not recording{reasons}")
    trains = _collect(parts, counts, notes)
    if not trains:
        reasons = f" ({'; '.join(notes)})" if notes else ""
        raise DataError(f"run {files.run}: {source} {role.key}: every train is empty or suspect{reasons}")
    order = sorted(trains)
    pulse_id = np.unique(np.concatenate([trains[t].pulse_id for t in order]))
    row = np.full((len(order), len(pulse_id)), -1, np.int64)
    cell = np.full(row.shape, NO_CELL, np.uint16)
    for i, train in enumerate(order):
        place = np.searchsorted(pulse_id, trains[train].pulse_id)
        row[i, place] = trains[train].rows
        cell[i, place] = trains[train].cell_id
    sequences = {p.file.sequence for p in parts}
    _report_gaps(files, source, np.array(order, np.uint64), row, sequences, counts, notes)
    _report_cells(cell, notes)
    return FrameIndex(
        source=source,
        key=role.key,
        module=module,
        files=tuple(p.file.path for p in parts),
        identities=tuple(p.file.identity for p in parts),
        dataset=parts[0].file.name_of(source, role.key),
        train_id=np.array(order, np.uint64),
        file=np.array([trains[t].file for t in order], np.int64),
        pulse_id=pulse_id.astype(np.uint64),
        row=row,
        cell_id=cell,
        frame_shape=parts[0].frame_shape,
        dtype=parts[0].dtype,
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
    """What one sequence file says of its frames."""

    def __init__(self, file: ExdfFile, source: str, key: str):
        self.file = file
        data, *columns = (self._there(source, k) for k in (key, *(_beside(key, c) for c in COLUMNS)))
        what = f"{file.name}: {source} {key}"
        if not (data.ndim == 3 or (data.ndim == 4 and data.shape[1] == 1)) or 0 in data.shape[1:]:
            raise DataError(f"{what} has the shape {data.shape}, not (frames, 1, y, x) or (frames, y, x)")
        if data.dtype != np.uint16 and data.dtype.kind != "f":
            raise DataError(f"{what} is {data.dtype}, neither raw uint16 nor corrected")
        for column, name in zip(columns, COLUMNS, strict=True):
            if column.dtype.kind not in "iu" or column.size != len(column):
                raise DataError(f"{what}: {name} is no column of whole numbers but {column.dtype} {column.shape}")
        self.frame_shape: tuple[int, int] = data.shape[-2:]
        self.dtype = data.dtype
        self.first, self.count = file.index(source, file.index_group(source, key))
        self.inside = self.first + self.count <= min(len(data), *(len(c) for c in columns))
        self.unwritten = _unwritten(data)
        self.usable = file.validity_flag & (self.count > 0) & (self.count <= SLOTS) & self.inside
        """Trains whose frames are where the index says."""
        first, count = self.first[self.usable], self.count[self.usable]
        self.start = np.zeros(len(self.count), np.int64)
        self.start[self.usable] = np.cumsum(count) - count
        rows = np.repeat(first - self.start[self.usable], count) + np.arange(count.sum())
        # whatever does not fit into these was never an id
        self.train_id, self.pulse_id, self.cell_id = (
            file.read(column, rows).reshape(-1).astype(np.int64) for column in columns
        )

    def _there(self, source: str, key: str) -> h5py.Dataset:
        found = self.file.numbers(self.file.name_of(source, key))
        if found is None:
            raise DataError(f"{self.file.name}: {source}: there is no {key} for its frames")
        return found

    def train(self, number: int, i: int) -> tuple[_Train, str]:
        """Return the frames of the i-th train, and why they cannot be its; empty if they can."""
        first, here = int(self.first[i]), slice(int(self.start[i]), int(self.start[i] + self.count[i]))
        pulses, cells = self.pulse_id[here], self.cell_id[here]
        fault = ""
        if (self.train_id[here] != int(self.file.train_ids[i])).any():
            fault = "index points at another train"
        elif pulses.min() < 0 or pulses.max() >= SLOTS:
            fault = f"pulse ids from {pulses.min()} to {pulses.max()}; a train has {SLOTS} slots"
        elif cells.min() < 0 or cells.max() >= NO_CELL:
            fault = f"memory cells from {cells.min()} to {cells.max()}"
        unique, place = np.unique(pulses, return_index=True)
        return _Train(number, first + place, unique, cells[place]), fault


def _unwritten(data: h5py.Dataset) -> int:
    """Return how many of the declared frames were never written; they are found one by one when they are read."""
    if data.chunks is None:
        return 0 if data.id.get_storage_size() else len(data)
    per_frame = int(np.prod([-(-s // c) for s, c in zip(data.shape[1:], data.chunks[1:], strict=True)]))
    return max(len(data) - data.id.get_num_chunks() * data.chunks[0] // per_frame, 0)


def _beside(key: str, column: str) -> str:
    return f"{key.rpartition('.')[0]}.{column}".removeprefix(".")


def _parts(files: RunFiles, source: str, key: str, notes: list[str]) -> list[_Part]:
    """Return the sequences that can be used together; the others are told."""
    parts = []
    for file in files.with_source(source):
        try:
            parts.append(_Part(file, source, key))
        except DataError as error:
            notes.append(f"{error}; the sequence is left out")
    if not parts:
        return []
    notes += [f"{p.file.name}: {p.unwritten} of its frames were never written" for p in parts if p.unwritten]
    kind = usual([((p.frame_shape, str(p.dtype)), int(p.count[p.usable].sum())) for p in parts])
    notes += [
        f"{p.file.name}: frames are {p.dtype} {p.frame_shape}, in most files {kind[1]} {kind[0]}; the sequence is left out"
        for p in parts
        if (p.frame_shape, str(p.dtype)) != kind
    ]
    return [p for p in parts if (p.frame_shape, str(p.dtype)) == kind]


def _collect(parts: list[_Part], counts: Counter[str], notes: list[str]) -> dict[int, _Train]:
    trains: dict[int, _Train] = {}
    unordered: Counter[str] = Counter()
    for number, part in enumerate(parts):
        valid = part.file.validity_flag
        for i, train in enumerate(part.file.train_ids.tolist()):
            where = f"train {train} in {part.file.name}"
            if not valid[i]:
                _count(counts, notes, "suspect", f"{where} is flagged as suspect")
            elif part.count[i] == 0:
                continue
            elif not part.inside[i]:
                _count(counts, notes, "truncated", f"{where}: index points past the data")
            elif not part.usable[i]:
                _count(counts, notes, "misindexed", f"{where}: index says {part.count[i]} frames")
            else:
                found, fault = part.train(number, i)
                if fault:
                    _count(counts, notes, "misindexed", f"{where}: {fault}")
                    continue
                if train in trains:
                    _count(counts, notes, "duplicate", f"{where} is recorded twice")
                    continue
                if (np.diff(part.pulse_id[part.start[i] : part.start[i] + part.count[i]]) < 0).any():
                    _count(unordered, notes, "unordered", f"{where}: pulse ids fall")
                if len(found.pulse_id) < part.count[i]:
                    _count(counts, notes, "duplicate_pulse", f"{where}: pulse ids repeat")
                trains[train] = found
    return trains


def _report_cells(cell: np.ndarray, notes: list[str]) -> None:
    """Say so where frames cannot all be from the memory cells that are said."""
    known = cell != NO_CELL
    if cell.shape[1] > 1 and len(np.unique(cell[known])) == 1:
        notes.append(f"cellId is {cell[known][0]} in all frames: their dark level may be that of other memory cells")
    usual = np.array([np.bincount(cell[known[:, k], k]).argmax() for k in range(cell.shape[1])])
    if moved := int((known & (cell != usual)).sum()):
        notes.append(f"{moved} frames are from another memory cell than most of their pulse id")


def _report_gaps(
    files: RunFiles,
    source: str,
    train_id: np.ndarray,
    row: np.ndarray,
    sequences: set[int],
    counts: Counter[str],
    notes: list[str],
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
    others = set().union(*(files.sequences(s) for s in files.sources))
    absent = sorted((set(range(max(sequences | others) + 1)) | others) - sequences)
    if absent:
        counts["missing_sequences"] = len(absent)
        notes.append(f"no sequence {', '.join(map(str, absent[:8]))} of {source}")


def _count(counts: Counter[str], notes: list[str], reason: str, text: str) -> None:
    counts[reason] += 1
    if counts[reason] <= 3:
        notes.append(text)
