"""EXDF files of one run: which file holds which source, and values by train id.

This goes file by file, because a run with one bad file, or one train recorded twice, must still be readable, with a report.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from pipeline.compat import proposal_folder
from pipeline.errors import ConfigError, DataError
from pipeline.euxfel.exdf_file import ExdfFile
from pipeline.euxfel.file_identity import FileIdentity
from schemas.config import Proposal

__all__ = ["RunFiles", "TrainValues", "open_files", "raw_folder", "run_folder", "run_numbers", "usual"]

_RUN = re.compile(r"r(\d{4,5})")
_FILE = re.compile(r"(RAW|CORR|PROC)-R(\d+)-(\w+?)-S(\d{5})\.h5")

Convert = Callable[[np.ndarray], np.ndarray]
Shape = TypeVar("Shape")


@dataclass(frozen=True)
class TrainValues:
    """Values of one key by train: `values[i]` belongs to `train_id[i]`; train ids increase and are unique."""

    train_id: np.ndarray
    values: np.ndarray

    def at(self, train_id: np.ndarray) -> np.ndarray:
        """Return the values of these trains as float64, NaN where there is none."""
        shape = (len(train_id), *self.values.shape[1:])
        found = np.full(shape, np.nan)
        if len(self.train_id):
            row, hit = self.rows(train_id)
            found[hit] = self.values[row[hit]]
        return found

    def rows(self, train_id: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which row belongs to each of these trains, and whether there is one (the row is any if not)."""
        row = np.searchsorted(self.train_id, train_id).clip(max=len(self.train_id) - 1)
        return row, self.train_id[row] == train_id


@dataclass(frozen=True)
class RunFiles:
    """The readable files of a run and what could not be read."""

    run: int
    path: Path
    files: tuple[ExdfFile, ...]
    problems: tuple[str, ...] = field(default=())
    faults: dict[str, None] = field(default_factory=dict)
    """Parts of files that turned out to be damaged when they were read, in this order, each once."""

    @property
    def sources(self) -> frozenset[str]:
        """All sources of the run."""
        return frozenset().union(*(f.sources for f in self.files))

    def with_source(self, source: str) -> Iterator[ExdfFile]:
        """Yield the files that hold a source, by sequence."""
        return (f for f in self.files if source in f.sources)

    def keys(self, source: str) -> dict[str, tuple[int, ...]]:
        """Return the keys of a source with the shape of one entry; control keys by their value, without `.value`."""
        found: dict[str, tuple[int, ...]] = {}
        for file in self.with_source(source):
            control = source in file.control_sources
            try:
                keys = file.keys(source)
            except DataError as error:
                self.faults[str(error)] = None
                continue
            for key in sorted(keys):
                if not control or key.endswith(".value"):
                    found.setdefault(key.removesuffix(".value") if control else key, keys[key])
        return found

    def sequences(self, source: str) -> set[int]:
        """Return the sequence numbers of a source's files."""
        return {f.sequence for f in self.with_source(source)}

    def train_ids(self) -> np.ndarray:
        """Return the ids of all trains that any file holds, suspect ones left out."""
        ids = [f.valid_train_ids for f in self.files]
        return np.unique(np.concatenate(ids)) if ids else np.empty(0, np.uint64)

    def values(self, source: str, key: str, convert: Convert | None = None) -> TrainValues | None:
        """Return one value (or array) per train, the first of a train; None where the run lacks source or key.

        `convert` makes what is kept from a stretch of rows, so that an array that is large on disk is never read whole.
        A file in which they are damaged, or of another shape than in most, is left out and told in `faults`.
        """
        found: list[tuple[ExdfFile, TrainValues]] = []
        for file in self.with_source(source):
            try:
                values = _read(file, source, key, convert)
            except DataError as error:
                self.faults[f"{error}; its values are left out"] = None
                continue
            if values is not None:
                found.append((file, values))
        if not found:
            return None
        shape = usual([(v.values.shape[1:], len(v.values)) for _, v in found])
        for file, other in found:
            if other.values.shape[1:] != shape:
                said = f"{file.name}: {source} {key} has the shape {other.values.shape[1:]}, in most files {shape}"
                self.faults[f"{said}; its values are left out"] = None
        kept = [v for _, v in found if v.values.shape[1:] == shape]
        train_id, first = np.unique(np.concatenate([v.train_id for v in kept]), return_index=True)
        return TrainValues(train_id, np.concatenate([v.values for v in kept])[first])

    def require_unchanged(self) -> None:
        """Raise DataError, naming the file, if one of the files is not what it was when it was opened."""
        for file in self.files:
            try:
                file.identity.require(file.name, FileIdentity.of(file.path))
            except DataError as error:
                raise DataError(f"run {self.run}: {error}") from error

    def close(self) -> None:
        """Close the files until they are needed again."""
        for file in self.files:
            file.close()


def usual(found: list[tuple[Shape, int]]) -> Shape:
    """Return what most rows have, of pairs (what, rows); the first where it is as many."""
    rows: dict[Shape, int] = {}
    for what, n in found:
        rows[what] = rows.get(what, 0) + n
    return max(rows, key=lambda what: rows[what])


def _read(file: ExdfFile, source: str, key: str, convert: Convert | None = None) -> TrainValues | None:
    dataset = file.numbers(file.name_of(source, key))
    if dataset is None:
        return None
    first, count = file.index(source, file.index_group(source, key))
    usable = (count > 0) & (first + count <= len(dataset)) & file.validity_flag
    if not usable.any():
        return None
    return TrainValues(file.train_ids[usable], file.read(dataset, first[usable], convert))


def raw_folder(raw: str | Proposal, base: Path) -> Path:
    """Return the folder of rNNNN runs; raises ConfigError if it does not exist."""
    if isinstance(raw, Proposal):
        try:
            return proposal_folder(raw.proposal) / "raw"
        except OSError as error:
            raise DataError(f"proposal {raw.proposal}: not found on this machine ({error}); give raw: FOLDER") from None
    folder = (base / raw).resolve()
    if not folder.is_dir():
        raise ConfigError(f"raw: {folder} is not a folder; `raw:` is relative to the config file")
    return folder


def run_numbers(folder: Path) -> list[int]:
    """Return the run numbers in a raw folder."""
    matches = (_RUN.fullmatch(p.name) for p in folder.iterdir() if p.is_dir())
    return sorted(int(m[1]) for m in matches if m)


def run_folder(folder: Path, run: int) -> Path:
    """Return the folder of one run; raises DataError saying which runs there are."""
    path = folder / f"r{run:04d}"
    if not path.is_dir():
        there = run_numbers(folder)
        listed = ", ".join(map(str, there[:20])) + (", …" if len(there) > 20 else "") if there else "no runs at all"
        raise DataError(f"run {run}: no folder {path.name} in {folder}; there: {listed}")
    return path


def open_files(path: Path) -> RunFiles:
    """Open the files of a run folder; unreadable ones become `problems`.

    Raises
    ------
    DataError
        If the folder holds no readable EXDF file at all.
    """
    if not path.is_dir():
        raise DataError(f"{path}: no such folder; name the folder of one run, e.g. raw/r0003")
    names = sorted(path.glob("*.h5"))
    recorded = {m[3] for p in names if (m := _FILE.match(p.name)) and m[1] == "RAW"}
    # a corrected copy beside the raw files of the same aggregator would count every train twice
    raw = [p for p in names if not ((m := _FILE.match(p.name)) and m[1] != "RAW" and m[3] in recorded)]
    files, problems = [], []
    for name in raw:
        try:
            files.append(ExdfFile(name))
        except DataError as error:
            problems.append(str(error))
    run = _run_number(path, raw)
    if not files:
        if not raw and (there := run_numbers(path)):
            raise DataError(
                f"{path} holds runs ({', '.join(map(str, there[:20]))}{', …' if len(there) > 20 else ''}), it is none itself; "
                f"name one, e.g. {path / f'r{there[0]:04d}'}"
            )
        reason = f"none of its {len(raw)} files can be read" if raw else "it holds no .h5 files"
        raise DataError(f"run {run}: {path}: {reason}")
    files.sort(key=lambda f: (f.sequence, f.name))
    return RunFiles(run, path, tuple(files), tuple(problems))


def _run_number(path: Path, files: list[Path]) -> int:
    folder = _RUN.fullmatch(path.name)
    if folder:
        return int(folder[1])
    named = next((m for m in (_FILE.match(p.name) for p in files) if m), None)
    return int(named[2]) if named else 0
