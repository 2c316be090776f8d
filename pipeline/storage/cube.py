"""The frames cube: a plain zarr v3 array of whole trains, filled and read chunk by chunk.

zarr creates the array and any zarr reader can open it. Chunks are compressed and decompressed here, into reused buffers,
because zarr's own codec path does not keep up with the detector (docs/decisions/0004). A chunk is written to a temporary
file and renamed, so that it is either complete or absent.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import xarray as xr
import zarr
from numcodecs import blosc
from zarr.codecs import BloscCodec, Crc32cCodec

from pipeline.compat import partial_decoder
from pipeline.errors import DataError, ProductError
from pipeline.storage import store

__all__ = ["PackedChunk", "chunk_bytes", "chunk_trains", "create_cube", "write_chunk"]

_CODEC = BloscCodec(cname="lz4", clevel=1, shuffle="shuffle", typesize=2)
_SUM = 4
"""Bytes of the CRC32C at the end of a chunk: Blosc does not notice a flipped bit."""
_local = threading.local()
# parallelism is over train blocks, one per thread
blosc.use_threads = False


def create_cube(path: Path, labels: xr.Dataset, *, shape: Mapping[str, int], chunk: int, attrs: Any) -> None:
    """Create an empty uint16 cube `frames` (train, pulse, y, x) with its coordinates, to be filled by `write_chunk`.

    `chunk` is the number of trains in a chunk; the other dims are not chunked.
    """
    sizes = tuple(shape.values())
    with store.replaced(path) as partial:
        encoding = store.encoding_of(labels)
        store.plain(labels).to_zarr(partial, mode="w", zarr_format=3, consolidated=False, encoding=encoding)
        zarr.open_group(partial, mode="r+").create_array(
            "frames",
            shape=sizes,
            chunks=(min(chunk, sizes[0]), *sizes[1:]),
            dtype="uint16",
            compressors=(_CODEC, Crc32cCodec()),
            dimension_names=tuple(shape),
            attributes=attrs,
        )
        zarr.consolidate_metadata(partial)


def chunk_trains(path: Path) -> int:
    """Return the number of trains in a chunk of a cube."""
    return int(_array(path).chunks[0])


def chunk_bytes(path: Path, number: int) -> int:
    """Return the size of a chunk on disk; 0 if it does not exist."""
    try:
        return _chunk_file(path, _array(path), number).stat().st_size
    except OSError:
        return 0


def _array(path: Path) -> zarr.Array:
    return zarr.open_array(path / "frames", mode="r", zarr_format=3)


def _chunk_file(path: Path, array: zarr.Array, number: int) -> Path:
    return path / "frames" / array.metadata.encode_chunk_key((number, 0, 0, 0))


def write_chunk(path: Path, number: int, block: np.ndarray, aside: Path | None = None) -> int:
    """Write a chunk, by its position along the trains; returns its size on disk [bytes].

    The block is (trains, pulse, y, x) uint16, C-contiguous, padded with zeros beyond the end of the run. It is written next
    to its place, or in the folder `aside` on the same file system, and then renamed.

    Raises
    ------
    DataError
        If the block is not one chunk: two writers of one chunk would lose trains silently.
    """
    array = _array(path)
    if block.shape != array.chunks or block.dtype != np.dtype("<u2") or not block.flags.c_contiguous:
        raise DataError(f"{path}: a block of {block.dtype} {block.shape} is not one chunk of uint16 {array.chunks}")
    target = _chunk_file(path, array, number)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = (aside or target.parent) / f".{uuid.uuid4().hex}.partial"
    packed = blosc.compress(block, b"lz4", _CODEC.clevel, blosc.SHUFFLE)
    with partial.open("wb") as file:
        size = file.write(packed) + file.write(_sum_of(packed))
    partial.replace(target)
    return size


def _sum_of(packed: bytes | np.ndarray) -> bytes:
    return int(google_crc32c.value(packed)).to_bytes(_SUM, "little")


class PackedChunk:
    """One compressed chunk in memory, decompressed a few frames at a time so that they stay in the CPU cache.

    Raises
    ------
    ProductError
        If the chunk is missing or damaged: it is never read as zeros.
    """

    def __init__(self, path: Path, number: int, shape: tuple[int, ...]):
        self._name = f"{path}: chunk {number}"
        self._shape = (shape[0] * shape[1], *shape[2:])
        size = int(np.prod(shape)) * 2
        self._packed = _reused_bytes(size + blosc.MAX_OVERHEAD + _SUM)
        try:
            with _chunk_file(path, _array(path), number).open("rb", buffering=0) as file:
                read = file.readinto(self._packed) - _SUM
        except OSError as error:
            raise self._unreadable(error) from None
        # after a truncated file the reused buffer holds parts of an older chunk; a Blosc header has its lengths in bytes 4 to 16
        if read < 16 or np.frombuffer(self._packed, "<u4", 4)[[1, 3]].tolist() != [size, read]:
            raise self._unreadable("it is damaged")
        if _sum_of(np.frombuffer(self._packed, np.uint8, read)) != self._packed[read : read + _SUM]:
            raise self._unreadable("it is damaged")
        self._whole = self._decoded(read) if _decode is None else None

    def frames(self, first: int, count: int) -> np.ndarray:
        """Return frames (count, y, x), counted through all trains of the chunk; valid until the next call."""
        if _decode is None or self._whole is not None:
            return np.asarray(self._whole)[first : first + count]
        out = _reused_frames((count, *self._shape[1:]))
        pixels = int(np.prod(self._shape[1:]))
        if not _decode(self._packed, first * pixels, count * pixels, out):
            raise self._unreadable("it is damaged")
        return out

    def _decoded(self, size: int) -> np.ndarray:
        out = _reused_frames(self._shape)
        try:
            blosc.decompress(memoryview(self._packed)[:size], out)
        except (ValueError, RuntimeError) as error:
            raise self._unreadable(error) from None
        return out

    def _unreadable(self, why: object) -> ProductError:
        return ProductError(f"{self._name} cannot be read ({why}); reprocess --from frames")


def _reused_bytes(size: int) -> bytearray:
    packed: bytearray | None = getattr(_local, "packed", None)
    if packed is None or len(packed) < size:
        packed = _local.packed = bytearray(size)
    return packed


def _reused_frames(shape: tuple[int, ...]) -> np.ndarray:
    out: np.ndarray | None = getattr(_local, "frames", None)
    if out is None or len(out) < shape[0] or out.shape[1:] != shape[1:]:
        out = _local.frames = np.empty(shape, np.uint16)
    return out[: shape[0]]


_decode = partial_decoder()
