"""Read detector frames at memory bandwidth.

Uncompressed HDF5 chunks are plain bytes at known places in the file: they are read with `preadv` straight into the
caller's buffer, without the HDF5 library, whose one lock per process makes threads wait for each other (docs/decisions/0005).
Only the rows asked for are read. Everything else (compressed, byte-swapped, external) goes through h5py.
"""

from __future__ import annotations

import os
import threading
import weakref
from array import array
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Self

import h5py
import numpy as np

from pipeline.errors import DataError
from pipeline.euxfel.file_identity import FileIdentity

__all__ = ["FrameReader"]

_MISSING = -1
_GIL_FREE_BYTES = 1 << 20  # one preadv call takes at most this much: it stays in the second-level cache
_h5_lock = threading.Lock()  # h5py has its own, but it is not held over open and close


class FrameReader:
    """Frames of one HDF5 dataset of shape (N, 1, y, x) or (N, y, x), by row number. Safe to share between threads.

    Parameters
    ----------
    path : the HDF5 file
    dataset_name : path of the dataset inside it

    Raises
    ------
    DataError
        The file or the dataset is not there, or the shape is not one of frames.
    """

    def __init__(self, path: str | os.PathLike[str], dataset_name: str) -> None:
        self.path = Path(path)
        self.dataset_name = dataset_name
        with _h5_lock:
            try:
                self._file = h5py.File(self.path, "r")
            except OSError as error:
                raise DataError(f"{self.path}: cannot be opened as HDF5 ({error})") from error
            try:
                self._dataset = self._file[dataset_name]
            except KeyError as error:
                self._file.close()
                raise DataError(f"{self.path}: no dataset {dataset_name}") from error
            shape = self._dataset.shape
            self._extra_axis = len(shape) == 4 and shape[1] == 1
            if not (self._extra_axis or len(shape) == 3):
                self._file.close()
                raise DataError(
                    f"{self.path}: {dataset_name} has shape {shape}, not (frames, 1, y, x) or (frames, y, x)"
                )
            self.n_frames = int(shape[0])
            self.frame_shape: tuple[int, int] = (int(shape[-2]), int(shape[-1]))
            self.dtype = np.dtype(self._dataset.dtype)
            self._places = self._chunk_places()
        self._fd = os.open(self.path, os.O_RDONLY)
        # also when it is only let go: workers keep a few readers and drop the oldest while others may still read
        self._close_fd = weakref.finalize(self, os.close, self._fd)
        self._size = os.fstat(self._fd).st_size

    @property
    def direct(self) -> bool:
        """Whether the frames are read past the HDF5 library."""
        return self._places is not None

    def read(self, first: int, count: int, out: np.ndarray | None = None, rows: slice | None = None) -> np.ndarray:
        """Read `count` frames from number `first` on.

        Parameters
        ----------
        first, count : range of frames
        out : C-contiguous buffer (at least count, y, x) of the dataset's dtype to read into; reusing one is several
            times faster than having new memory touched for the first time
        rows : image rows to read (default all)

        Returns
        -------
        (count, y, x) view of `out`. Frames that were never written hold the fill value: see `unwritten`.

        Raises
        ------
        DataError
            The range goes past the dataset, or the file past its end.
        """
        y0, y1, _ = (rows or slice(None)).indices(self.frame_shape[0])
        shape = (count, y1 - y0, self.frame_shape[1])
        if first < 0 or count < 0 or first + count > self.n_frames:
            raise DataError(
                f"{self.path}: frames {first} to {first + count - 1} asked for, {self.dataset_name} holds {self.n_frames}"
            )
        if out is None:
            out = np.empty(shape, self.dtype)
        if out.dtype != self.dtype or out.shape[1:] != shape[1:] or len(out) < count or not out.flags.c_contiguous:
            raise ValueError(
                f"out must be a C-contiguous {self.dtype} array of shape {shape}, got {out.dtype} {out.shape}"
            )
        out = out[:count]
        if count and self._places is not None:
            self._read_direct(self._places.of(first, count), first, out, y0)
        elif count:
            self._read_h5py(first, out, y0, y1)
        return out

    def unwritten(self, first: int = 0, count: int | None = None) -> np.ndarray:
        """(count,) bool: frames whose chunk was never written, so that reading gives the fill value."""
        count = self.n_frames - first if count is None else count
        return (self._places or self._chunks_read_by_hdf5).of(first, count) == _MISSING

    def identity(self) -> FileIdentity:
        """Return which file it is that is open, as it is now."""
        return FileIdentity.of(self._fd)

    def close(self) -> None:
        """Close the file; reading ends."""
        self._close_fd()
        with _h5_lock:
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- how

    def _read_direct(self, offsets: np.ndarray, first: int, out: np.ndarray, y0: int) -> None:
        row_bytes = self.frame_shape[1] * self.dtype.itemsize
        frame_bytes = self.frame_shape[0] * row_bytes
        wanted = out[0].nbytes
        memory = out.reshape(-1).view(np.uint8).data
        whole = wanted == frame_bytes
        per_call = max(1, _GIL_FREE_BYTES // frame_bytes) if whole else 1
        for i, n in _runs(offsets, frame_bytes, per_call):
            if offsets[i] == _MISSING:
                out[i : i + n] = self._dataset.fillvalue
                continue
            start = int(offsets[i]) + y0 * row_bytes
            self._pread(memory[i * wanted : (i + n) * wanted], start, first + i)

    def _pread(self, target: memoryview, start: int, frame: int) -> None:
        done = os.preadv(self._fd, [target], start)
        while done < len(target):  # a signal or a network file system may cut a read short
            more = os.preadv(self._fd, [target[done:]], start + done)
            if more == 0:
                raise DataError(
                    f"{self.path}: ends at byte {self._size}, inside frame {frame} of {self.dataset_name}; the file is truncated"
                )
            done += more

    def _read_h5py(self, first: int, out: np.ndarray, y0: int, y1: int) -> None:
        # with an axis less in memory than in the file HDF5 copies value by value: seven to fifty times slower
        target = out[:, None] if self._extra_axis else out
        source = np.s_[first : first + len(out), ..., y0:y1, :]
        with _h5_lock:
            try:
                self._dataset.read_direct(target, source)
            except OSError as error:
                raise DataError(
                    f"{self.path}: frames from {first} of {self.dataset_name} cannot be read ({error})"
                ) from error

    def _chunk_places(self) -> _Places | None:
        """Where the frames are in the file; None if only HDF5 can read it."""
        dataset, create = self._dataset, self._dataset.id.get_create_plist()
        if self.dtype.kind not in "uif" or not self.dtype.isnative or create.get_external_count():
            return None
        if dataset.chunks is None:
            start = dataset.id.get_offset()
            if create.get_layout() != h5py.h5d.CONTIGUOUS:
                return None
            places = np.array([] if start is None else [start], np.int64)
            return _Places(np.arange(len(places)), places, max(self.n_frames, 1), self._frame_bytes)
        if create.get_nfilters() or dataset.chunks[1:] != dataset.shape[1:]:
            return None
        first, at, size = self._chunks()
        wrong = (size != dataset.chunks[0] * self._frame_bytes) | (first % dataset.chunks[0] != 0)
        if wrong.any() or len(np.unique(at)) < len(at):
            raise DataError(f"{self.path}: {self.dataset_name}: the places of its frames in the file are damaged")
        return _Places(first, at, dataset.chunks[0], self._frame_bytes)

    @property
    def _frame_bytes(self) -> int:
        return self.frame_shape[0] * self.frame_shape[1] * self.dtype.itemsize

    def _chunks(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First frame, byte offset and size of every chunk that exists, by first frame."""
        first, at, size = array("q"), array("q"), array("q")

        def note(chunk: h5py.h5d.StoreInfo) -> None:
            first.append(chunk.chunk_offset[0])
            at.append(chunk.byte_offset)
            size.append(chunk.size)

        try:
            self._dataset.id.chunk_iter(note)
        except (OSError, RuntimeError, OverflowError) as error:
            raise DataError(f"{self.path}: {self.dataset_name}: its chunks cannot be found ({error})") from error
        order = np.argsort(np.array(first, np.int64), kind="stable")
        return tuple(np.array(a, np.int64)[order] for a in (first, at, size))  # type: ignore[return-value]

    @cached_property
    def _chunks_read_by_hdf5(self) -> _Places:
        """The frames of which all chunks exist, for datasets that only HDF5 can read; places say nothing."""
        dataset = self._dataset
        if dataset.chunks is None:
            return _Places(np.zeros(1, np.int64), np.zeros(1, np.int64), max(self.n_frames, 1), 0)
        per_frame = int(np.prod([-(-s // c) for s, c in zip(dataset.shape[1:], dataset.chunks[1:], strict=True)]))
        with _h5_lock:
            first, count = np.unique(self._chunks()[0], return_counts=True)
        whole = first[count == per_frame]
        return _Places(whole, np.zeros_like(whole), dataset.chunks[0], 0)


@dataclass(frozen=True)
class _Places:
    """Where chunks of `length` frames lie: memory is needed for those that exist, however many a file declares."""

    first: np.ndarray
    at: np.ndarray
    length: int
    step: int

    def of(self, first: int, count: int) -> np.ndarray:
        """Byte offset of frames, -1 where they were never written."""
        frame = np.arange(first, first + count, dtype=np.int64)
        if not len(self.first):
            return np.full(count, _MISSING, np.int64)
        inside = frame % self.length
        chunk = np.searchsorted(self.first, frame - inside).clip(max=len(self.first) - 1)
        return np.where(self.first[chunk] == frame - inside, self.at[chunk] + self.step * inside, _MISSING)


def _runs(offsets: np.ndarray, step: int, longest: int) -> list[tuple[int, int]]:
    """(start, length) of stretches of frames that lie one behind the other in the file (or are all missing)."""
    if longest <= 1:
        return [(i, 1) for i in range(len(offsets))]
    joined = np.diff(offsets) == step
    runs, start = [], 0
    for i in range(1, len(offsets) + 1):
        if i == len(offsets) or not joined[i - 1] or i - start == longest:
            runs.append((start, i - start))
            start = i
    return runs
