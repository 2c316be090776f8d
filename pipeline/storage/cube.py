"""The frames cube: a plain zarr v3 array of whole trains, filled and read chunk by chunk at the speed of memory.

The array is created by zarr and any zarr reader opens it. Its chunks are compressed and decompressed here, into memory
that is used again: through zarr's own path the same codec takes five to ten times as long, most of it spent on touching
new memory. A chunk is written aside and renamed, so that it is whole or not there.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numcodecs import blosc
from zarr.codecs import BloscCodec

from pipeline.errors import DataError, ProductError
from pipeline.storage import store

__all__ = ["PackedChunk", "chunk_bytes", "chunk_trains", "create_cube", "write_chunk"]

_CODEC = BloscCodec(cname="lz4", clevel=1, shuffle="shuffle", typesize=2)
_local = threading.local()
# the threads are ours: a block of trains each
blosc.use_threads = False


def create_cube(path: Path, labels: xr.Dataset, *, shape: Mapping[str, int], chunk: int, attrs: Any) -> None:
    """Create an empty uint16 cube `frames` (train, pulse, y, x) with its coordinates, to be filled by `write_chunk`.

    `chunk` is the number of trains in a chunk; the other dims are not cut.
    """
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    with store.quiet():
        store.plain(labels).to_zarr(partial, mode="w", zarr_format=3, consolidated=False)
        sizes = tuple(shape.values())
        zarr.open_group(partial, mode="r+").create_array(
            "frames",
            shape=sizes,
            chunks=(min(chunk, sizes[0]), *sizes[1:]),
            dtype="uint16",
            compressors=_CODEC,
            dimension_names=tuple(shape),
            attributes=attrs,
        )
        zarr.consolidate_metadata(partial)
    store.replace_folder(partial, path)


def chunk_trains(path: Path) -> int:
    """Return the number of trains in a chunk of a cube."""
    return _chunk_shape(path)[0]


def _chunk_file(path: Path, number: int) -> Path:
    return path / "frames" / "c" / str(number) / "0" / "0" / "0"


def chunk_bytes(path: Path, number: int) -> int:
    """Return the size of a chunk on disk; 0 where there is none."""
    try:
        return _chunk_file(path, number).stat().st_size
    except OSError:
        return 0


def _chunk_shape(path: Path) -> tuple[int, ...]:
    # read as JSON: opening the array through zarr takes half a millisecond per chunk
    grid = json.loads((path / "frames" / "zarr.json").read_bytes())["chunk_grid"]
    return tuple(grid["configuration"]["chunk_shape"])


def write_chunk(path: Path, number: int, block: np.ndarray, aside: Path | None = None) -> int:
    """Write one chunk; returns its size on disk [bytes].

    Parameters
    ----------
    path
        The cube.
    number
        Position of the chunk along the trains.
    block
        Exactly one chunk, (trains, pulse, y, x) uint16, C-contiguous; trains beyond the end of the run are zero.
    aside
        Folder on the same file system where the chunk is written before it is renamed into place; beside it unless given.

    Raises
    ------
    DataError
        If the block is not one chunk: two writers of one chunk would lose trains silently.
    """
    chunks = _chunk_shape(path)
    if block.shape != chunks or block.dtype != np.dtype("<u2") or not block.flags.c_contiguous:
        raise DataError(f"{path}: a block of {block.dtype} {block.shape} is not one chunk of uint16 {chunks}")
    target = _chunk_file(path, number)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = (aside or target.parent) / f".{uuid.uuid4().hex}.partial"
    size = partial.write_bytes(blosc.compress(block, b"lz4", _CODEC.clevel, blosc.SHUFFLE))
    partial.replace(target)
    return size


class PackedChunk:
    """One compressed chunk in memory, opened a few frames at a time: what is small stays near the processor.

    Raises
    ------
    ProductError
        If the chunk is missing or damaged: it is never read as zeros.
    """

    def __init__(self, path: Path, number: int, shape: tuple[int, ...]):
        self._name = f"{path}: chunk {number}"
        self._frames = shape[0] * shape[1]
        self._frame = shape[2:]
        self._packed = _reused(int(np.prod(shape)) * 2 + blosc.MAX_OVERHEAD)
        try:
            with _chunk_file(path, number).open("rb", buffering=0) as file:
                self._size = file.readinto(self._packed)
        except OSError as error:
            raise self._unreadable(error) from None
        # the buffer holds an older chunk behind a file that was cut: lengths are in bytes 4 to 16 of a Blosc header
        expected = (int(np.prod(shape)) * 2, self._size)
        if self._size < 16 or tuple(np.frombuffer(self._packed, "<u4", 4)[[1, 3]].tolist()) != expected:
            raise self._unreadable("it is damaged")

    def frames(self, first: int, count: int) -> np.ndarray:
        """Return frames (count, y, x), counted through all trains of the chunk; valid until the next call."""
        if _get_items is None:
            return self._all()[first : first + count]
        out = _reused_frames(count, self._frame)
        items = int(np.prod(self._frame))
        source = (ctypes.c_char * self._size).from_buffer(self._packed)
        done = _get_items(source, first * items, count * items, out.ctypes.data)
        if done != out.nbytes:
            raise self._unreadable("it is damaged")
        return out

    def _all(self) -> np.ndarray:
        out = _reused_frames(self._frames, self._frame)
        try:
            blosc.decompress(memoryview(self._packed)[: self._size], out)
        except (ValueError, RuntimeError) as error:
            raise self._unreadable(error) from None
        return out

    def _unreadable(self, why: object) -> ProductError:
        return ProductError(f"{self._name} cannot be read ({why}); reprocess --from frames")


def _reused(size: int) -> bytearray:
    packed: bytearray | None = getattr(_local, "packed", None)
    if packed is None or len(packed) < size:
        packed = _local.packed = bytearray(size)
    return packed


def _reused_frames(count: int, frame: tuple[int, ...]) -> np.ndarray:
    out: np.ndarray | None = getattr(_local, "frames", None)
    if out is None or len(out) < count or out.shape[1:] != frame:
        out = _local.frames = np.empty((count, *frame), np.uint16)
    return out[:count]


def _load_get_items() -> Any:
    """Return `blosc_getitem` of the Blosc library inside numcodecs, or None where it is not exported.

    numcodecs itself only decompresses whole buffers.
    """
    try:
        function = ctypes.CDLL(blosc.__file__).blosc_getitem
    except (AttributeError, OSError):
        return None
    function.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.c_void_p]
    function.restype = ctypes.c_int
    return function


_get_items = _load_get_items()
