"""The frames of a raw run as one lazy array: a dask task per block of trains, nothing stored."""

from __future__ import annotations

import dask.array as da
import numpy as np
import xarray as xr
from dask.base import tokenize
from dask.delayed import delayed

from pipeline.errors import DataError
from pipeline.euxfel.frame_index import FrameIndex
from pipeline.euxfel.frame_source import shared_source
from pipeline.euxfel.reader import Run
from pipeline.storage.lazy_cube import CHUNK_BYTES
from schemas.datasets.measured import FRAMES

__all__ = ["lazy_frames"]


def lazy_frames(run: Run, *, rows: slice = slice(None), columns: slice = slice(None)) -> xr.DataArray:
    """Return the frames of a raw run, read when they are computed.

    Parameters
    ----------
    run
        From `open_run`.
    rows, columns
        Part of the module, in pixels; step 1.

    Returns
    -------
    DataArray (train, pulse, y, x) uint16 [ADU], chunks of whole trains, with all that was recorded beside the frames as
    coordinates in memory. Zero where no frame was recorded (`present` is False).

    Raises
    ------
    DataError
        If the part of the module is empty; when computed, if a file cannot be read, naming the run, the file and the trains.
    """
    index = run.index
    height, width = index.frame_shape
    inside = slice(*rows.indices(height)[:2]), slice(*columns.indices(width)[:2])
    shape = tuple(max(part.stop - part.start, 0) for part in inside)
    if not all(shape):
        raise DataError(f"run {run.number}: rows {rows} and columns {columns} hold no pixel of {height} x {width}")
    trains, pulses = index.row.shape
    step = max(1, CHUNK_BYTES // (pulses * shape[0] * width * index.dtype.itemsize))
    blocks = []
    for first in range(0, trains, step):
        part = index.part(slice(first, first + step))
        lazy = delayed(_read, pure=True, traverse=False)(
            run.number, part, *inside, dask_key_name=_name(run, part, inside)
        )
        size = (len(part.train_id), pulses, *shape)
        blocks.append(da.from_delayed(lazy, size, np.uint16, meta=np.empty((0,) * 4, np.uint16)))
    labels = run.labels.set_coords(list(run.labels.data_vars))
    frames = labels.assign(frames=(("train", "pulse", "y", "x"), da.concatenate(blocks))).assign_coords(
        y=np.arange(inside[0].start, inside[0].stop, dtype=np.int16),
        x=np.arange(inside[1].start, inside[1].stop, dtype=np.int16),
    )
    return FRAMES.describe(frames)["frames"].assign_attrs(run=run.number, source=index.source)


def _name(run: Run, part: FrameIndex, inside: tuple[slice, slice]) -> str:
    # two runs, two parts or a file that was written anew are not the same task
    files = list(zip(map(str, part.files), part.identities, strict=True))
    return f"read-frames-{tokenize(run.number, files, part.dataset, part.file, part.row, inside)}"


def _read(run: int, index: FrameIndex, rows: slice, columns: slice) -> np.ndarray:
    """Return all frames of an index (train, pulse, y, x)."""
    cube = np.zeros((*index.row.shape, rows.stop - rows.start, columns.stop - columns.start), np.uint16)
    for block, train, pulse in shared_source(run, index).blocks(slice(0, len(index.train_id)), rows=rows):
        cube[train, pulse] = block[:, :, columns]
    return cube
