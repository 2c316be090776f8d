"""EXDF files of one run: which file holds which source, and values by train id.

`extra_data.FileAccess` knows the format's versions and indexes; this module goes file by file instead of through
`RunDirectory`, because a run with one bad file or one train recorded twice must still be readable, with a report.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from extra_data import FileAccess

from pipeline.compat import proposal_folder
from pipeline.errors import ConfigError, DataError
from schemas.config import Proposal

__all__ = ["RunFiles", "TrainValues", "open_files", "raw_folder", "run_folder", "run_numbers"]

_RUN = re.compile(r"r(\d{4,5})")
_FILE = re.compile(r"(RAW|CORR|PROC)-R(\d+)-(\w+?)-S(\d{5})\.h5")
_ROWS = 256
"""Rows of a large array that are read and converted at a time."""

Convert = Callable[[np.ndarray], np.ndarray]


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
    files: tuple[FileAccess, ...]
    problems: tuple[str, ...] = field(default=())

    @property
    def sources(self) -> frozenset[str]:
        """All sources of the run."""
        return frozenset().union(*(f.control_sources | f.instrument_sources for f in self.files))

    def with_source(self, source: str) -> Iterator[FileAccess]:
        """Yield the files that hold a source, by sequence."""
        return (f for f in self.files if source in f.control_sources or source in f.instrument_sources)

    def keys(self, source: str) -> dict[str, tuple[int, ...]]:
        """Return the keys of a source with the shape of one entry; control keys by their value, without `.value`."""
        found: dict[str, tuple[int, ...]] = {}
        for file in self.with_source(source):
            control = source in file.control_sources
            for key in sorted(file.get_keys(source)):
                if control and not key.endswith(".value"):
                    continue
                dataset = file.file.get(f"{'CONTROL' if control else 'INSTRUMENT'}/{source}/{key.replace('.', '/')}")
                if dataset is not None:
                    found.setdefault(key.removesuffix(".value") if control else key, tuple(dataset.shape[1:]))
        return found

    def sequences(self, source: str) -> set[int]:
        """Return the sequence numbers of a source's files."""
        return {int(f.sequence or 0) for f in self.with_source(source)}

    def train_ids(self) -> np.ndarray:
        """Return the ids of all trains that any file holds, suspect ones left out."""
        ids = [f.valid_train_ids for f in self.files]
        return np.unique(np.concatenate(ids)) if ids else np.empty(0, np.uint64)

    def values(self, source: str, key: str, convert: Convert | None = None) -> TrainValues | None:
        """Return one value (or array) per train, the first of a train; None where the run lacks source or key.

        `convert` makes what is kept from a stretch of rows, so that an array that is large on disk is never read whole.
        """
        ids, values = [], []
        for file in self.with_source(source):
            found = _read(file, source, key, convert)
            if found is not None:
                ids.append(found.train_id)
                values.append(found.values)
        if not ids:
            return None
        widths = {v.shape[1:] for v in values}
        if len(widths) > 1:
            raise DataError(f"run {self.run}: {source}: {key} changes its shape between files: {sorted(widths)}")
        train_id, first = np.unique(np.concatenate(ids), return_index=True)
        return TrainValues(train_id, np.concatenate(values)[first])


def _read(file: FileAccess, source: str, key: str, convert: Convert | None = None) -> TrainValues | None:
    control = source in file.control_sources
    name = key if not control or key.endswith((".value", ".timestamp")) else f"{key}.value"
    dataset = file.file.get(f"{'CONTROL' if control else 'INSTRUMENT'}/{source}/{name.replace('.', '/')}")
    if dataset is None or not hasattr(dataset, "dtype") or dataset.dtype.kind not in "iufb":
        return None
    group = "" if control else name.partition(".")[0]
    first, count = file.get_index(source, group)
    usable = (count > 0) & (first + count <= len(dataset)) & file.validity_flag[: len(count)]
    if not usable.any():
        return None
    rows = first[usable].astype(np.int64)
    if convert is None:
        values = dataset[()]
    else:
        values = np.concatenate([convert(dataset[i : i + _ROWS]) for i in range(0, len(dataset), _ROWS)])
    return TrainValues(file.train_ids[: len(count)][usable], values[rows])


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
            files.append(FileAccess(str(name)))
        except Exception as error:  # h5py and extra-data raise many kinds for a damaged file
            problems.append(f"{name.name}: cannot be read ({str(error).splitlines()[0]})")
    run = _run_number(path, raw)
    if not files:
        if not raw and (there := run_numbers(path)):
            raise DataError(
                f"{path} holds runs ({', '.join(map(str, there[:20]))}{', …' if len(there) > 20 else ''}), it is none itself; "
                f"name one, e.g. {path / f'r{there[0]:04d}'}"
            )
        reason = f"none of its {len(raw)} files can be read" if raw else "it holds no .h5 files"
        raise DataError(f"run {run}: {path}: {reason}")
    files.sort(key=lambda f: (int(f.sequence or 0), f.filename))
    return RunFiles(run, path, tuple(files), tuple(problems))


def _run_number(path: Path, files: list[Path]) -> int:
    folder = _RUN.fullmatch(path.name)
    if folder:
        return int(folder[1])
    named = next((m for m in (_FILE.match(p.name) for p in files) if m), None)
    return int(named[2]) if named else 0
