"""The frames cube of a run: which part of the frames is stored, together with everything recorded with them.

The cube is filled in the pass that reduces the raw frames (`pipeline.stages.reduce`), but it is a result of its own: the
reader, the part that is kept and the code here decide whether it is current, not the reduction.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from pipeline.euxfel.frame_source import FrameSource
from pipeline.euxfel.reader import Run
from pipeline.science.detector.blank import not_blank
from pipeline.science.detector.crop import Crop, crop_to_beams
from pipeline.stages.code import code_hash
from pipeline.storage import cube as cubes
from pipeline.storage import store
from schemas.datasets.measured import FRAMES

if TYPE_CHECKING:
    from pipeline.job import Job

__all__ = ["Chunk", "Target", "create_cube", "crop_of", "cube_of", "frames_code", "recorded", "recorded_frames"]

READ_FRAMES = 64
"""Frames that are read before they are reduced: 8 MB, still near the processor when the kernel sees them."""

_local = threading.local()

RECORDED = ("trigger", "arrival", "intensity", "dark_frame", "pulse_slot", "laser", "laser_known")
"""What was recorded beside the frames and is data, not a coordinate, in the pulses."""


@dataclass(frozen=True)
class Target:
    """The cube that blocks fill, one chunk of `trains` trains each, with these rows and columns of the module.

    Chunks are written in the folder `aside` first, if there is one.
    """

    path: Path
    rows: slice
    columns: slice
    trains: int
    aside: Path | None = None


Place = tuple[np.ndarray, np.ndarray]
"""Positions (train, pulse) of some frames."""


def recorded_frames(source: FrameSource, rows: slice) -> Iterator[tuple[np.ndarray, np.ndarray, Place]]:
    """Yield frames (n, y, x) of some rows of the module, which of them hold anything (n,), and their positions.

    Memory is used again: what is yielded is valid until the next step.
    """
    index = source.index
    buffer = workspace("raw", (READ_FRAMES, rows.stop - rows.start, index.frame_shape[1]), index.dtype)
    for frames, train, pulse in source.blocks(slice(0, len(index.row)), rows=rows, buffer=buffer):
        yield frames, not_blank(frames), (train, pulse)


class Chunk:
    """A chunk of the cube while it is filled."""

    def __init__(self, target: Target, n_pulses: int):
        self._target = target
        rows, columns = (part.stop - part.start for part in (target.rows, target.columns))
        self._frames = workspace("chunk", (target.trains, n_pulses, rows, columns), np.dtype(np.uint16))

    def put(self, frames: np.ndarray, place: Place) -> None:
        """Take frames of the cube's rows and all columns."""
        self._frames[place] = frames[:, :, self._target.columns]

    def write(self, number: int, present: np.ndarray) -> int:
        """Write the chunk of this number, zero where nothing was recorded; returns its size on disk [bytes]."""
        # the memory holds an earlier chunk there
        self._frames[: len(present)][~present] = 0
        self._frames[len(present) :] = 0
        return cubes.write_chunk(self._target.path, number, self._frames, self._target.aside)


def workspace(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return this thread's buffer of a name: touching new memory costs more than reading."""
    buffer: np.ndarray | None = getattr(_local, name, None)
    if buffer is None or buffer.shape != shape or buffer.dtype != dtype:
        buffer = np.empty(shape, dtype)
        setattr(_local, name, buffer)
    return buffer


def frames_code() -> str:
    """Return the hash of the code that determines the content of a cube."""
    return code_hash(__name__)


def cube_of(job: Job, run: int) -> Path:
    """Return the frames cube of a run."""
    return job.run_dir(run) / "frames.zarr"


def crop_of(job: Job, calibration: xr.Dataset) -> Crop | None:
    """Return the crop of the frames to store, or None."""
    keep = job.config.frames.keep
    if keep == "none":
        return None
    if keep == "beams":
        return crop_to_beams(calibration)
    return Crop(slice(0, calibration.attrs["module_rows"]), slice(0, calibration.attrs["module_columns"]))


def create_cube(run: Run, keep: Crop, target: Target) -> None:
    """Create the empty cube of a run with all that was recorded beside the frames as coordinates."""
    trains, pulses = run.index.row.shape
    labels = run.labels.set_coords(list(run.labels.data_vars)).assign_coords(keep.coords())
    labels = labels.assign_coords(blank=(("train", "pulse"), np.zeros((trains, pulses), bool)))
    labels.attrs = {"run": run.number, "source": run.index.source}
    shape = {"train": trains, "pulse": pulses, "y": keep.shape[0], "x": keep.shape[1]}
    cubes.create_cube(
        target.path, FRAMES.describe(labels), shape=shape, chunk=target.trains, attrs=FRAMES["frames"].attrs
    )
    FRAMES.check(store.open_dataset(target.path))


def recorded(cube: xr.Dataset) -> xr.Dataset:
    """Return what was recorded beside the frames of a cube, as the reader gives it for a raw run."""
    labels = cube.drop_vars(["frames", "y", "x"]).load()
    return labels.reset_coords([name for name in RECORDED if name in labels.coords])
