"""A stored frames cube as one lazy array, for those who go on with dask and xarray."""

from __future__ import annotations

import math
from pathlib import Path

import xarray as xr

from pipeline.storage import cube, store

__all__ = ["CHUNK_BYTES", "lazy_cube"]

CHUNK_BYTES = 64 * 1024**2
"""Bytes of a dask chunk, if one train, or one chunk of the store, is not more than that."""


def lazy_cube(path: Path) -> xr.DataArray:
    """Return the frames of a cube (train, pulse, y, x) uint16 [ADU], read when they are computed.

    What was recorded beside the frames is in memory as coordinates. A chunk of the array holds whole chunks of the store.

    Raises
    ------
    ProductError
        If there is no cube.
    """
    stored = store.open_dataset(path)
    frames = stored["frames"].variable
    trains = cube.chunk_trains(path)
    size = trains * frames.dtype.itemsize * math.prod(frames.shape[1:])
    whole = trains * max(1, CHUNK_BYTES // size)
    # what has other dims, the slots of the laser, cannot be a coordinate of an array; the pulses have it
    coords = stored.coords.to_dataset().drop_dims(set(stored.dims) - set(frames.dims)).load().coords
    return xr.DataArray(frames.chunk({"train": whole}), coords, name="frames").assign_attrs(stored.attrs)
