"""The frames of a run, read block by block through the quick reader, never as a whole."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np

from pipeline.errors import DataError
from pipeline.euxfel.chunkread import FrameReader
from pipeline.euxfel.file_identity import FileIdentity
from pipeline.euxfel.frame_index import FrameIndex

__all__ = ["FrameSource", "as_adu", "shared_source"]


class FrameSource:
    """Frames of a run, read in blocks of whole trains by any number of threads; can be sent to other processes.

    Use as a context manager: files are opened when first needed and closed at the end.
    """

    def __init__(self, run: int, index: FrameIndex, readers: _Readers | None = None):
        self.run = run
        self.index = index
        self._readers = readers or _Readers()

    def __reduce__(self) -> tuple[Any, ...]:
        return shared_source, (self.run, self.index)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._readers.close()

    def part(self, trains: slice) -> FrameSource:
        """Return the source of some trains only, counted from 0; it shares the open files."""
        return FrameSource(self.run, self.index.part(trains), self._readers)

    def blocks(
        self, trains: slice, *, rows: slice, buffer: np.ndarray | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Read the frames of some trains, cropped to some rows.

        Frames that were announced but never written are not yielded.

        Parameters
        ----------
        trains
            Positions of the trains.
        rows
            Rows of the module.
        buffer
            Memory (n, y, x) of the detector's dtype that is used again and again, for at most n frames at a time;
            without it new memory is taken for all that lie together.

        Yields
        ------
        frames : ndarray (n, y, x) uint16
            View into the buffer, valid until the next step; corrected input as by `as_adu`.
        train, pulse : ndarray (n,)
            Positions of each frame in the run.

        Raises
        ------
        DataError
            If a file cannot be read, naming the run, the file and the trains.
        """
        index = self.index
        for number in np.unique(index.file[trains]).tolist():
            mine = np.flatnonzero(index.file[trains] == number) + trains.start
            train, pulse = np.nonzero(index.present[mine])
            row = index.row[mine][train, pulse]
            order = np.argsort(row, kind="stable")
            row, train, pulse = row[order], mine[train[order]], pulse[order]
            try:
                reader = self._reader(number)
                written = ~reader.unwritten(int(row[0]), int(row[-1] - row[0]) + 1)[row - row[0]]
                row, train, pulse = row[written], train[written], pulse[written]
                own = buffer if buffer is not None and buffer.dtype == index.dtype else None
                for piece in _pieces(row, len(buffer) if buffer is not None else len(row)):
                    frames = reader.read(int(row[piece.start]), piece.stop - piece.start, own, rows)
                    yield as_adu(frames), train[piece], pulse[piece]
                # what was just read, too
                index.identities[number].require(reader.path.name, reader.identity())
            except (OSError, DataError) as error:
                first, last = index.train_id[mine[[0, -1]]]
                raise DataError(f"run {self.run}: trains {first} to {last} cannot be read: {error}") from None

    def _reader(self, number: int) -> FrameReader:
        return self._readers.of(self.index.files[number], self.index.dataset, self.index.identities[number])


class _Readers:
    """Open files, shared by threads; beyond a limit the least recently used ones are closed."""

    def __init__(self, limit: int | None = None):
        self._limit = limit
        self._open: OrderedDict[tuple[Any, ...], FrameReader] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, path: Path, dataset: str, identity: FileIdentity) -> FrameReader:
        """Return the reader of a file; DataError if another one has got its name since it was indexed."""
        identity.require(path.name, FileIdentity.of(path))
        key = (path, dataset, identity)
        with self._lock:
            if key not in self._open:
                self._open[key] = FrameReader(path, dataset)
            self._open.move_to_end(key)
            while self._limit is not None and len(self._open) > self._limit:
                self._open.popitem(last=False)
            return self._open[key]

    def close(self) -> None:
        """Close all."""
        for reader in self._open.values():
            reader.close()
        self._open.clear()


_OF_PROCESS = _Readers(limit=8)
"""A worker gets block after block of a file, each with a source of its own; opening it every time would cost more."""


def shared_source(run: int, index: FrameIndex) -> FrameSource:
    """Return a source that need not be closed: it shares the few files that this process keeps open."""
    return FrameSource(run, index, _OF_PROCESS)


CORRECTED_PEDESTAL = 64
"""ADU added to corrected frames, so that noise around zero stays positive."""


def as_adu(frames: np.ndarray) -> np.ndarray:
    """Return frames as uint16 ADU; raw frames as they are.

    Corrected frames are raw integers minus a constant per pixel and memory cell, so adding a pedestal and rounding gives
    the raw integers back up to a constant, which the dark run, treated alike, takes off: nothing is lost. Pixels that the
    correction masked (NaN) become 0, in the dark run too, and are found as dead. A frame that is zero everywhere stays
    so: it was never recorded.
    """
    if frames.dtype.kind == "u":
        return frames
    recorded = frames.reshape(len(frames), -1).any(axis=1)
    shifted = np.rint(np.nan_to_num(frames, nan=-np.inf) + CORRECTED_PEDESTAL).clip(0, 511).astype(np.uint16)
    shifted[~recorded] = 0
    return shifted


def _pieces(row: np.ndarray, longest: int) -> Iterator[slice]:
    """Yield stretches of consecutive rows, none longer than `longest`."""
    borders = [0, *(np.flatnonzero(np.diff(row) != 1) + 1).tolist(), len(row)]
    for start, stop in pairwise(borders):
        for first in range(start, stop, longest):
            yield slice(first, min(first + longest, stop))
