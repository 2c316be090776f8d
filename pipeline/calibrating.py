"""From a dark run and a flat-field run to the calibration of a dataset: which frames are read, and in which order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from pipeline import ingest
from pipeline.errors import ConfigError, DataError
from pipeline.io.euxfel import Run, open_run
from pipeline.io.tables import read_nonlinearity
from pipeline.job import Job
from pipeline.science.detector.beams import beam_dataset, find_beams
from pipeline.science.detector.calibration import build_calibration
from pipeline.science.detector.dark import dark_calibration, dark_sums
from schemas.config.detector import Beams

__all__ = ["make_calibration", "nonlinearity_of"]

FLAT_FRAMES = 4000
"""Flat-field frames used for calibration: photon transfer and beam ratios are known to 0.1 % from these."""
IMAGE_FRAMES = 2000
"""Frames of the mean image on which the beams are found."""

Progress = Callable[[str, int, int], None]


def make_calibration(
    job: Job, nonlinearity: Any, *, progress: Progress | None = None
) -> tuple[xr.Dataset, xr.DataArray]:
    """Return the calibration of a dataset and the mean image on which the beams were found.

    Parameters
    ----------
    job
        The dataset.
    nonlinearity
        See `nonlinearity_of`.

    Raises
    ------
    DataError
        If a run lacks frames, the beams are not found, or the calibration fails; names the runs.
    """
    runs = job.config.runs
    run = _open(job, job.reduced_runs[0])
    if _open(job, runs.dark).index.dtype.kind != run.index.dtype.kind:
        raise DataError(
            f"runs {runs.dark} and {run.number} are not both raw or both corrected; take them from one folder"
        )
    dark = _dark(job, progress)
    image = _mean_image(run, dark, progress)
    beams = _beams(job, image, dark, run.number)
    flat = None
    if runs.flat_field is not None:
        flat = ingest.sample_frames(run, ingest.crop_to_beams(beams), FLAT_FRAMES)
    settings = job.config.detector
    try:
        calibration = build_calibration(
            dark,
            beams,
            flat,
            gain=None if settings.gain == "auto" else settings.gain,
            nonlinearity=nonlinearity,
            flat_field_order=None if settings.flat_field == "none" else settings.flat_field.order,
            saturation=settings.saturation,
        )
    except DataError as error:
        raise DataError(f"calibration of runs {runs.dark} and {run.number}: {error}") from None
    rows, columns = run.index.frame_shape
    corrected = int(run.index.dtype.kind == "f")
    return calibration.assign_attrs(module_rows=rows, module_columns=columns, corrected_input=corrected), image


def nonlinearity_of(job: Job) -> Any:
    """Return auto, none, or the table of the file that the config names."""
    choice = job.config.detector.nonlinearity
    return choice if choice in ("auto", "none") else read_nonlinearity(job.base / choice)


def _open(job: Job, number: int) -> Run:
    return open_run(job.raw_run(number), job.instrument)


def _dark(job: Job, progress: Progress | None) -> xr.Dataset:
    run = _open(job, job.config.runs.dark)
    cells = np.unique(run.index.cell_id[run.index.present])
    sums = None
    trains = list(range(len(run.index.train_id)))
    for done, (block, cell) in enumerate(ingest.dark_blocks(run, trains)):
        sums = dark_sums(block, np.searchsorted(cells, cell), len(cells), out=sums)
        _tell(progress, f"dark run {run.number}", done + 1, len(trains))
    if sums is None:
        raise DataError(f"run {run.number}: the dark run holds no frames; choose another dark run")
    return dark_calibration(sums, cell_id=cells)


def _mean_image(run: Run, dark: xr.Dataset, progress: Progress | None) -> xr.DataArray:
    """Return the mean dark-subtracted image of frames spread over a run, X-ray pulses only."""
    cells = dark["cell_id"].values
    lit = ~run.labels["dark_frame"].values
    trains = ingest.spread_trains(run, IMAGE_FRAMES)
    sums = None
    for done, train in enumerate(trains):
        for block, cell in ingest.dark_blocks(run, [train]):
            shown = np.isin(cell, cells) & np.isin(cell, run.index.cell_id[train][lit[train]])
            sums = dark_sums(block[shown], np.searchsorted(cells, cell[shown]), len(cells), out=sums)
        _tell(progress, f"image of run {run.number}", done + 1, len(trains))
    if sums is None or not sums.count.any():
        raise DataError(f"run {run.number}: no frame shares a memory cell with the dark run; record another dark run")
    offset = np.einsum("c,cyx->yx", sums.count.astype(np.float64), np.nan_to_num(dark["dark_mean"].values))
    mean = (sums.total.sum(axis=0, dtype=np.float64) - offset) / sums.count.sum()
    attrs = {"units": "ADU", "long_name": "mean dark-subtracted image"}
    return xr.DataArray(mean, dims=("y", "x"), coords={"y": dark["y"], "x": dark["x"]}, attrs=attrs)


def _beams(job: Job, image: xr.DataArray, dark: xr.Dataset, run: int) -> xr.Dataset:
    choice = job.config.beams
    if isinstance(choice, Beams):
        regions = choice.model_dump()
        height, width = image.shape
        for role, (_, x1, _, y1) in ((r, v) for r, v in regions.items() if v is not None):
            if x1 > width or y1 > height:
                raise ConfigError(f"beams.{role}: reaches beyond the module of {width} × {height} pixels")
        return beam_dataset([tuple(regions[role]) for role in job.roles])
    try:
        return find_beams(image, bad=dark["bad_pixel"], count=len(job.roles))
    except DataError as error:
        raise DataError(f"run {run}: {error}") from None


def _tell(progress: Progress | None, text: str, done: int, total: int) -> None:
    if progress is not None:
        progress(text, done, total)
