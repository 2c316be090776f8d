"""The frames cube: a plain zarr v3 array of whole trains, filled and read chunk by chunk at the speed of memory.

The array is created by zarr and any zarr reader opens it. Its chunks are compressed and decompressed here, into memory
that is used again: through zarr's own path the same codec takes five to ten times as long, most of it spent on touching
new memory. A chunk is written aside and renamed, so that it is whole or not there.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numcodecs import blosc
from zarr.codecs import BloscCodec

from pipeline.errors import DataError, ProductError
from pipeline.io import store

__all__ = ["chunk_trains", "create_cube", "read_chunk", "write_chunk"]

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
    return int(zarr.open_array(path / "frames", mode="r").chunks[0])


def _chunk_file(path: Path, number: int) -> Path:
    return path / "frames" / "c" / str(number) / "0" / "0" / "0"


def write_chunk(path: Path, number: int, block: np.ndarray) -> None:
    """Write one chunk.

    Parameters
    ----------
    path
        The cube.
    number
        Position of the chunk along the trains.
    block
        Exactly one chunk, (trains, pulse, y, x) uint16, C-contiguous; trains beyond the end of the run are zero.

    Raises
    ------
    DataError
        If the block is not one chunk: two writers of one chunk would lose trains silently.
    """
    chunks = zarr.open_array(path / "frames", mode="r").chunks
    if block.shape != chunks or block.dtype != np.dtype("<u2") or not block.flags.c_contiguous:
        raise DataError(f"{path}: a block of {block.dtype} {block.shape} is not one chunk of uint16 {chunks}")
    target = _chunk_file(path, number)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{os.getpid()}-{threading.get_ident()}.partial")
    partial.write_bytes(blosc.compress(block, b"lz4", _CODEC.clevel, blosc.SHUFFLE))
    partial.replace(target)


def read_chunk(path: Path, number: int, out: np.ndarray) -> np.ndarray:
    """Read one chunk into a buffer of exactly its shape; returns the buffer.

    Raises
    ------
    ProductError
        If the chunk is missing or damaged: it is never read as zeros.
    """
    # a compressed chunk is never longer than the chunk itself and a few bytes
    room = out.nbytes + 4096
    packed = getattr(_local, "packed", None)
    if packed is None or len(packed) < room:
        packed = _local.packed = bytearray(room)
    try:
        with _chunk_file(path, number).open("rb", buffering=0) as file:
            size = file.readinto(packed)
        blosc.decompress(memoryview(packed)[:size], out)
    except (OSError, ValueError, RuntimeError) as error:
        raise ProductError(f"{path}: chunk {number} cannot be read ({error}); reprocess --from frames") from None
    return out
