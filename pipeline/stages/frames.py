"""The frames cube of a run: which part of the frames is stored, together with everything recorded with them.

The cube is filled in the pass that reduces the raw frames (`pipeline.stages.reduce`), but it is a result of its own: only
the reader, the part that is kept and this module decide whether it is current.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from pipeline.euxfel.reader import Run
from pipeline.job import Job
from pipeline.science.detector.crop import Crop, crop_to_beams
from pipeline.stages.code import code_hash
from pipeline.storage import cube as cubes
from pipeline.storage import store
from schemas.datasets.stages import FRAMES

__all__ = ["Target", "create_cube", "crop_of", "cube_of", "frames_code", "recorded"]

RECORDED = ("trigger", "arrival", "intensity", "dark_frame")
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
