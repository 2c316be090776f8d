"""One EXDF file, judged: the only place that asks whether a file is built as it should be.

For a damaged file HDF5 raises whatever it likes, or believes what the file declares and asks for all memory. Here each of
that is a `DataError` that names the file and the part of it; whoever reads goes on with the other parts and files.
extra-data's `FileAccess` is not used: it keeps files open by name, also when another one has got the name since.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np

from pipeline.errors import DataError
from pipeline.euxfel.file_identity import FileIdentity

__all__ = ["ExdfFile", "first_line"]

Convert = Callable[[np.ndarray], np.ndarray]

_SEQUENCE = re.compile(r"-S(\d+)\.h5$")
_SLICE = 32 * 2**20
"""Bytes that are read and converted at a time."""
_LARGEST = 256 * 2**20
"""Bytes of a row, or of a chunk, that no real file has."""
_GAP = 1024
"""Rows that are read along with those wanted, rather than to read twice."""
_TINY = 2**20
"""Bytes that need no second look: a file may declare as much without holding it."""


class ExdfFile:
    """A file of a run: its trains, its sources, and values of its datasets."""

    def __init__(self, path: Path):
        """Open a file.

        Raises
        ------
        DataError
            If it is no EXDF file, or does not say which trains and sources it holds.
        """
        self.path, self.name = path, path.name
        self.identity = FileIdentity.of(path)
        self._h5: h5py.File | None = None
        found = _SEQUENCE.search(path.name)
        self.sequence = int(found[1]) if found else 0
        with self._told():
            version = self._version()
            sources = "METADATA/" + ("dataSourceId" if version == "0.5" else "dataSources/dataSourceId")
            self.control_sources, self.instrument_sources = _sources(self.h5[sources][:])
        self.train_ids = self._column("INDEX/trainId").astype(np.uint64)
        self.validity_flag = self._valid(version)
        self._groups: dict[str, list[str]] = {}

    @property
    def h5(self) -> h5py.File:
        """The open file; DataError if it is not the one that was opened first."""
        if self._h5 is None:
            self.identity.require(self.name, FileIdentity.of(self.path))
            self._h5 = h5py.File(self.path, "r")
        return self._h5

    def close(self) -> None:
        """Close the file until it is needed again."""
        if self._h5 is not None:
            self._h5.close()
            self._h5 = None

    @property
    def sources(self) -> frozenset[str]:
        """All sources of the file."""
        return self.control_sources | self.instrument_sources

    @property
    def valid_train_ids(self) -> np.ndarray:
        """Ids of the trains that are not suspect."""
        return self.train_ids[self.validity_flag]

    def keys(self, source: str) -> dict[str, tuple[int, ...]]:
        """Return the keys of a source with the shape of one entry; control keys as `name.value`, `name.timestamp`."""
        found: dict[str, tuple[int, ...]] = {}

        def note(key: str, value: object) -> None:
            if isinstance(value, h5py.Dataset) and value.shape is not None:
                found[key.replace("/", ".")] = tuple(value.shape[1:])

        with self._told(source):
            group = self.h5.get(self._root(source))
            if isinstance(group, h5py.Group):
                group.visititems(note)
        return found

    def name_of(self, source: str, key: str) -> str:
        """Return the name of the dataset of a key; a control key means its value."""
        control = source in self.control_sources
        full = f"{key}.value" if control and not key.endswith((".value", ".timestamp")) else key
        return f"{self._root(source)}/{full.replace('.', '/')}"

    def numbers(self, name: str) -> h5py.Dataset | None:
        """Return a dataset of numbers, None where there is nothing by its name.

        Raises
        ------
        DataError
            If something else is there.
        """
        with self._told(name):
            found = self.h5.get(name)
            if found is None:
                return None
            if not isinstance(found, h5py.Dataset):
                raise DataError(f"{self.name}: {name} is a {type(found).__name__.lower()}, not a dataset")
            if not found.shape or found.dtype.kind not in "iufb":
                raise DataError(f"{self.name}: {name} is no table of numbers but {found.dtype} {found.shape}")
            item, chunk = found.dtype.itemsize, found.chunks or ()
            if max(_size(found.shape[1:]), _size(chunk)) * item > _LARGEST:
                raise DataError(f"{self.name}: {name} declares {found.shape} in chunks of {found.chunks}")
        return found

    def index(self, source: str, group: str = "") -> tuple[np.ndarray, np.ndarray]:
        """Return first row and number of rows of each train of a source.

        Raises
        ------
        DataError
            If the file does not say so for each of its trains.
        """
        name = f"INDEX/{source}/{group}".rstrip("/")
        first = self._column(f"{name}/first")
        if f"{name}/count" not in self.h5 and f"{name}/last" in self.h5:
            count = (self._column(f"{name}/last") - first + 1) * np.minimum(self._column(f"{name}/status"), 1)
        else:
            count = self._column(f"{name}/count")
        n = len(self.train_ids)
        if min(len(first), len(count)) < n:
            raise DataError(f"{self.name}: {name} has {min(len(first), len(count))} entries for {n} trains")
        return first[:n], count[:n]

    def index_group(self, source: str, key: str) -> str:
        """Return the group of a key under which a source's rows are counted; empty for a control source."""
        return "" if source in self.control_sources else key.partition(".")[0]

    def read(self, dataset: h5py.Dataset, rows: np.ndarray, convert: Convert | None = None) -> np.ndarray:
        """Return rows of a dataset, and little else of it, however long it is.

        Raises
        ------
        DataError
            If they cannot be read, or are too many for what the file holds.
        """
        wanted = rows
        back: slice | np.ndarray = slice(None)
        if (np.diff(rows) <= 0).any():
            wanted, back = np.unique(rows, return_inverse=True)
        row_bytes = max(_size(dataset.shape[1:]) * dataset.dtype.itemsize, 1)
        if row_bytes * len(wanted) > max(4 * _held(dataset), _TINY):
            raise DataError(
                f"{self.name}: {dataset.name} declares {len(dataset)} rows, most of which were never written"
            )
        step = max(_SLICE // row_bytes, 1)
        found = [np.empty((0, *dataset.shape[1:]), dataset.dtype)]
        with self._told(dataset.name):
            for part in np.split(wanted, np.flatnonzero(np.diff(wanted) > _GAP) + 1):
                for start in range(0, len(part), step):
                    here = part[start : start + step]
                    block = dataset[int(here[0]) : int(here[-1]) + 1]
                    found.append(block if len(block) == len(here) else block[here - here[0]])
                    if convert is not None:
                        found[-1] = convert(found[-1])
        return np.concatenate(found[1:] or found)[back]

    # -- how

    @contextmanager
    def _told(self, what: str = "") -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except Exception as error:  # h5py raises many kinds for a damaged file
            raise DataError(f"{self.name}: {what}{' ' if what else ''}cannot be read ({first_line(error)})") from error

    def _root(self, source: str) -> str:
        return f"{'CONTROL' if source in self.control_sources else 'INSTRUMENT'}/{source}"

    def _version(self) -> str:
        # the first version had no number
        found = self.h5.get("METADATA/dataFormatVersion")
        return "0.5" if found is None else bytes(found[0]).decode("ascii")

    def _column(self, name: str) -> np.ndarray:
        """Return a column of whole numbers; those that no file can mean are the largest."""
        dataset = self.numbers(name)
        if dataset is None:
            raise DataError(f"{self.name}: no {name}")
        if dataset.dtype.kind not in "iu" or dataset.size != len(dataset):
            raise DataError(f"{self.name}: {name} is no column of whole numbers but {dataset.dtype} {dataset.shape}")
        if dataset.size * dataset.dtype.itemsize > max(4 * _held(dataset), _TINY):
            raise DataError(f"{self.name}: {name} declares {len(dataset)} entries, most of which were never written")
        with self._told(name):
            values = dataset[()].reshape(-1)
        # what is negative, or too large for int64, is as large as can be
        return np.minimum(values.astype(np.uint64), np.uint64(_HUGE)).astype(np.int64)

    def _valid(self, version: str) -> np.ndarray:
        """Return which trains are not suspect; a train without id is none."""
        ids = self.train_ids
        if version == "0.5":
            return (ids != 0) & _rising(ids)
        flags = self._column("INDEX/flag") != 0
        if len(flags) < len(ids):
            raise DataError(f"{self.name}: INDEX/flag has {len(flags)} entries for {len(ids)} trains")
        flags = flags[: len(ids)]
        # version 1.1 has the opposite meaning
        return (ids != 0) & (ids < _HUGE) & (~flags if version == "1.1" else flags)


_HUGE = 2**40
"""More rows than any file holds, and a train id that the machine reaches in thousands of years."""


def first_line(error: BaseException) -> str:
    """Return an error of another package in one line."""
    return (str(error) or type(error).__name__).splitlines()[0]


def _sources(listed: np.ndarray) -> tuple[frozenset[str], frozenset[str]]:
    control, instrument = set(), set()
    for entry in listed:
        category, _, name = entry.decode(errors="replace").partition("/")
        if category == "CONTROL":
            control.add(name)
        elif category == "INSTRUMENT":
            device, _, channel = name.partition(":")
            instrument.add(f"{device}:{channel.partition('/')[0]}")
    return frozenset(control), frozenset(instrument)


def _size(shape: tuple[int, ...]) -> int:
    """Return the product, in numbers of any length."""
    return int(np.prod(np.array(shape, dtype=object)))


def _held(dataset: h5py.Dataset) -> int:
    """Return the bytes of values that were ever written, before compression."""
    if dataset.chunks is None:
        return int(dataset.id.get_storage_size())
    return int(dataset.id.get_num_chunks()) * _size(dataset.chunks) * int(dataset.dtype.itemsize)


def _rising(ids: np.ndarray) -> np.ndarray:
    """Return which trains of a file without flags are in order: at each fall, those of the shorter side are not."""
    valid = np.ones(len(ids), bool)
    for i in np.flatnonzero(ids[1:] <= ids[:-1]):
        before, after = ids[: i + 1] >= ids[i + 1], ids[i + 1 :] <= ids[i]
        if before.sum() < after.sum():
            valid[: i + 1] &= ~before
        else:
            valid[i + 1 :] &= ~after
    return valid
