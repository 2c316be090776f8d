"""The calibration of a dataset from its dark run and a run with light: the flat field, or the first scan.

Without a flat-field run the beams are sought in the first scan, and `detector.gain` must be given.

The dark run is read whole, however long it is, so its sums are entered in a ledger as they grow, and stay there until the
calibration is made; so does the mean image. Sums are whole numbers: it makes no difference where they are taken up again.
What else is read of the flat-field run is a few thousand frames, whatever its length, and is read again.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from pipeline.errors import ConfigError, DataError
from pipeline.euxfel.reader import Run, open_run
from pipeline.euxfel.samples import frames_by_train, sample_frames, spread_trains
from pipeline.job import Job
from pipeline.science.detector.assemble import build_calibration
from pipeline.science.detector.beam_photons import prepare, reduce_block
from pipeline.science.detector.beams import beam_dataset, find_beams
from pipeline.science.detector.crop import crop_to_beams
from pipeline.science.detector.dark import DarkSums, dark_calibration, dark_sums
from pipeline.science.detector.unlit import at_shifted_level, chip_shifts, unlit_pixels, with_unlit_pixels
from pipeline.stages.base import Context, Made, Progress, Stage
from pipeline.stages.code import code_hash
from pipeline.stages.inventory import INVENTORY
from pipeline.storage.hashes import digest
from pipeline.storage.ledger import CheckpointThrottle, Ledger
from pipeline.storage.record import Record
from pipeline.storage.tables import read_nonlinearity
from schemas.catalogue import note
from schemas.config.detector import Beams
from schemas.datasets.calibration import CALIBRATION, IMAGE
from schemas.notes import Note

__all__ = ["CALIBRATE", "make_calibration"]

log = logging.getLogger("trxas")

FLAT_FRAMES = 4000
"""Flat-field frames used for calibration: photon transfer and beam ratios are known to 0.1 % from these."""
PEDESTAL_FRAMES = 1000
"""Flat-field frames from which the pedestal since the dark run is known to 0.005 ADU."""
PEDESTAL_MATTERS = 3e-4
"""Pedestal over the light of a pixel in the beams from which on it is taken for moved between dark run and flat field."""
SWAPPED = 2.0
"""Light [ADU per pixel] in a dark run that no pedestal explains."""
IMAGE_FRAMES = 2000
"""Frames of the mean image on which the beams are found."""


class Ledgers(NamedTuple):
    """Where a killed calibration goes on; what is in them depends on no option of the config."""

    dark: Ledger
    image: Ledger

    @classmethod
    def of(cls, context: Context) -> Ledgers:
        """Return the ledgers beside the stores of the two runs, for the identities of their files and of the code."""
        job, code = context.job, code_hash(__name__)
        dark, bright = (INVENTORY.recorded_key(context, run) for run in _runs_of(job))
        return cls(
            Ledger(job.run_dir(job.config.runs.dark) / "blocks", digest([dark, code])),
            Ledger(job.run_dir(job.reduced_runs[0]) / "image", digest([dark, bright, code])),
        )

    def remove(self) -> None:
        """Forget what belongs to these runs; what others have begun stays."""
        for ledger in self:
            if ledger.is_open:
                ledger.remove()


def _runs_of(job: Job) -> tuple[int, int]:
    """Return the dark run and the run with light."""
    return job.config.runs.dark, job.reduced_runs[0]


@dataclass(frozen=True)
class _Calibrate(Stage):
    """The stage that depends on two runs only. Its store is named by its key, so earlier calibrations remain."""

    def where(self, job: Job, run: int | None = None, key: str = "") -> Path:
        """Return the store of the calibration that a key names."""
        return job.calibrations / key / self.store

    def key(self, context: Context, run: int | None = None) -> str:
        """Return the hash of both runs' files, options and code, or the name of the calibration that the config takes."""
        job = context.job
        if (name := job.config.detector.calibration) != "auto":
            return _made_before(job, name)
        inputs = [INVENTORY.recorded_key(context, run) for run in _runs_of(job)]
        # without a flat field, of the same run only the beams are taken
        return digest([inputs, bool(job.flat_fields), job.options(*self.options), self.reads(job), code_hash(__name__)])

    def is_current(self, context: Context, run: int | None, key: str) -> bool:
        """Return whether a calibration of this key is there, whoever made it, and note that this dataset takes it."""
        if not self.where(context.job, run, key).exists():
            return False
        if self.records(context.job).key(self.name) != key:
            self.records(context.job).put(self.name, Record(key, _notes(self.result(context.job, run, key)["/"])))
        return True

    def run(self, context: Context, run: int | None = None) -> bool:
        """Make the calibration unless it is there; killed, it goes on where it was."""
        made = super().run(context, run)
        if context.job.config.detector.calibration == "auto":
            Ledgers.of(context).remove()
        return made


def _made_before(job: Job, key: str) -> str:
    there = sorted(p.parent.name for p in job.calibrations.glob("*/calibration.zarr"))
    if key not in there:
        raise ConfigError(
            f"detector.calibration: {key!r} is not in {job.calibrations}; there: {', '.join(there) or 'none'}"
        )
    return key


def _make(context: Context, run: int | None, key: str) -> Made:
    ledgers = Ledgers.of(context)
    context.require_unchanged(*_runs_of(context.job))
    calibration, image = make_calibration(context.job, ledgers=ledgers, progress=context.progress)
    context.require_unchanged(*_runs_of(context.job))
    return Made({"/": calibration, "image": image.rename("image").to_dataset()}, _notes(calibration))


def _notes(calibration: xr.Dataset) -> list[Note]:
    """Return what a person must know of the detector; a calibration of an earlier version says nothing."""
    said, attrs = [], calibration.attrs
    if not attrs.get("response_described", 1):
        code = "response.not_described" if attrs["photons_relative"] else "response.gain_given"
        size = 100 * float(calibration["linearity_misfit"])
        said.append(note(code, chi2=float(calibration["linearity_chi2"]), misfit_percent=size))
    if "unlit" not in calibration and attrs.get("pedestal_lacking"):
        said.append(note("pedestal.unknown", reason=attrs["pedestal_reason"]))
    return said


def make_calibration(
    job: Job, *, ledgers: Ledgers | None = None, progress: Progress | None = None
) -> tuple[xr.Dataset, xr.DataArray]:
    """Return the calibration of a dataset and the mean image on which the beams were found.

    Parameters
    ----------
    job
        The dataset.
    ledgers
        Where sums are entered, and taken from if they are there.

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
    dark = _dark(job, None if ledgers is None else ledgers.dark, progress)
    image = _mean_image(run, dark, None if ledgers is None else ledgers.image, progress)
    _require_light(image, runs.dark, run.number)
    beams = _beams(job, image, dark, run.number)
    flat = None
    if job.flat_fields:
        crop = crop_to_beams(beams)
        flat = sample_frames(run, FLAT_FRAMES, rows=crop.rows, columns=crop.columns)
    try:
        calibration = _built(job, dark, beams, flat)
        unlit, reason = _unlit(job, run, image, dark, beams)
        if unlit is not None:
            calibration = with_unlit_pixels(calibration, dark, unlit, chip=job.instrument.frames.chip)
            shift = _shift(run, calibration, image) if flat is not None else None
            if shift is not None:
                # photon transfer, non-linearity and weights of the flat field want its own dark level
                dark = at_shifted_level(dark, unlit, shift, chip=job.instrument.frames.chip)
                calibration = _built(job, dark, beams, flat)
                calibration = with_unlit_pixels(calibration, dark, unlit, chip=job.instrument.frames.chip)
                reason = f"moved by up to {np.abs(shift).max():.2f} ADU between dark run and flat field, and followed"
    except DataError as error:
        damage = "".join(f"; run {one.number}: {one.audit[0]}" for one in (_open(job, runs.dark), run) if one.audit)
        raise DataError(f"calibration of runs {runs.dark} and {run.number}: {error}{damage}") from None
    lacking = unlit is None and job.config.detector.pedestal == "auto" and run.index.dtype.kind != "f"
    calibration = calibration.assign_attrs(pedestal_reason=reason, pedestal_lacking=int(lacking))
    rows, columns = run.index.frame_shape
    corrected = int(run.index.dtype.kind == "f")
    return calibration.assign_attrs(module_rows=rows, module_columns=columns, corrected_input=corrected), image


def _built(job: Job, dark: xr.Dataset, beams: xr.Dataset, flat: xr.Dataset | None) -> xr.Dataset:
    settings = job.config.detector
    return build_calibration(
        dark,
        beams,
        flat,
        gain=None if settings.gain == "auto" else settings.gain,
        nonlinearity=_nonlinearity(job),
        flat_field_order=None if settings.flat_field == "none" else settings.flat_field.order,
        saturation=settings.saturation,
    )


def _unlit(
    job: Job, run: Run, image: xr.DataArray, dark: xr.Dataset, beams: xr.Dataset
) -> tuple[xr.DataArray | None, str]:
    """Return the unlit pixels that tell the pedestal, or None, and why."""
    if job.config.detector.pedestal == "none":
        return None, "switched off"
    if run.index.dtype.kind == "f":
        return None, "corrected frames have no pedestal"
    try:
        return unlit_pixels(image, dark, beams, chip=job.instrument.frames.chip), "followed with unlit pixels"
    except DataError as error:
        return None, str(error)


def _shift(run: Run, calibration: xr.Dataset, image: xr.DataArray) -> np.ndarray | None:
    """Return the pedestal [ADU] of each chip in the flat field, None where none has moved by more than noise."""
    crop, kernel = crop_to_beams(calibration), prepare(calibration)
    if kernel.unlit is None:
        return None
    sample = sample_frames(run, PEDESTAL_FRAMES, rows=crop.rows, columns=crop.columns)
    present = sample["present"].values
    raw, cell = sample["frames"].values[present], sample["cell_id"].values[present]
    light = reduce_block(raw, cell, kernel, y0=crop.rows.start, x0=crop.columns.start)[0].sum(axis=1)
    origin = (kernel.origin[0] - crop.rows.start, kernel.origin[1] - crop.columns.start)
    shift, stderr = chip_shifts(kernel.unlit.shifts(raw, kernel.row(cell), origin), light)
    level = float(np.median(image.values[calibration["weight"].values > 0]))
    moved = np.abs(shift) > np.maximum(5 * stderr, PEDESTAL_MATTERS * level)
    return shift if moved.any() and np.isfinite(shift).all() else None


def _nonlinearity(job: Job) -> Any:
    """Return auto, none, or the table of the file that the config names."""
    choice = job.config.detector.nonlinearity
    return choice if choice in ("auto", "none") else read_nonlinearity(job.base / choice)


def _open(job: Job, number: int) -> Run:
    return open_run(job.raw_run(number), job.instrument)


def _dark(job: Job, ledger: Ledger | None, progress: Progress | None) -> xr.Dataset:
    run = _open(job, job.config.runs.dark)
    cells = np.unique(run.index.cell_id[run.index.present])
    trains = len(run.index.train_id)
    done, sums = (0, None) if ledger is None else _entered(ledger)
    throttle = CheckpointThrottle(2 * 4 * len(cells) * int(np.prod(run.index.frame_shape)))
    for train, block, cell in frames_by_train(run, range(done, trains)):
        # a train may come in several blocks: it is done when the next one begins
        if ledger is not None and sums is not None and train > done and throttle.due:
            throttle.enter(ledger, train, _arrays(sums))
        done = train
        sums = dark_sums(block, np.searchsorted(cells, cell), len(cells), out=sums)
        _tell(progress, f"dark run {run.number}", train + 1, trains)
    if sums is None:
        raise DataError(f"run {run.number}: the dark run holds no frames; choose another dark run")
    if ledger is not None and done < trains:
        throttle.enter(ledger, trains, _arrays(sums))
    return dark_calibration(sums, cell_id=cells)


def _entered(ledger: Ledger) -> tuple[int, DarkSums | None]:
    """Return how many trains are in the sums of a ledger, and these."""
    if not ledger.is_open:
        ledger.begin()
    finished = ledger.finished()
    if not finished:
        return 0, None
    trains = max(finished)
    log.info("%s: the sums over %d trains were there", ledger.folder.parent.name, trains)
    return trains, DarkSums(**finished[trains][0])


def _arrays(sums: DarkSums) -> dict[str, np.ndarray]:
    return {"count": sums.count, "total": sums.total, "total_sq": sums.total_sq}


def _mean_image(run: Run, dark: xr.Dataset, ledger: Ledger | None, progress: Progress | None) -> xr.DataArray:
    """Return the mean dark-subtracted image of frames spread over a run, X-ray pulses only."""
    if ledger is not None and not ledger.is_open:
        ledger.begin()
    finished = {} if ledger is None else ledger.finished()
    if finished:
        mean = finished[0][0]["mean"]
    else:
        mean = _averaged(run, dark, progress)
        if ledger is not None:
            ledger.add(0, {"mean": mean})
    coords = {"y": dark["y"], "x": dark["x"]}
    return xr.DataArray(mean, dims=("y", "x"), coords=coords, attrs=IMAGE["image"].attrs)


def _averaged(run: Run, dark: xr.Dataset, progress: Progress | None) -> np.ndarray:
    cells = dark["cell_id"].values
    with_x_rays = ~run.labels["dark_frame"].values
    if not (with_x_rays & run.index.present).any():
        raise DataError(
            f"run {run.number}: no frame has an X-ray pulse, says the bunch pattern: is it the dark run? Check runs.dark and "
            "runs.flat_field"
        )
    trains = spread_trains(run, IMAGE_FRAMES)
    sums = None
    for train, block, cell in frames_by_train(run, trains):
        shown = np.isin(cell, cells) & np.isin(cell, run.index.cell_id[train][with_x_rays[train]])
        sums = dark_sums(block[shown], np.searchsorted(cells, cell[shown]), len(cells), out=sums)
        _tell(progress, f"image of run {run.number}", trains.index(train) + 1, len(trains))
    if sums is None or not sums.count.any():
        raise DataError(f"run {run.number}: no frame shares a memory cell with the dark run; record another dark run")
    offset = np.einsum("c,cyx->yx", sums.count.astype(np.float64), np.nan_to_num(dark["dark_mean"].values))
    mean: np.ndarray = (sums.total.sum(axis=0, dtype=np.float64) - offset) / sums.count.sum()
    return mean


def _require_light(image: xr.DataArray, dark: int, bright: int) -> None:
    """Raise DataError if there is light in the dark run rather than in the other one."""
    low, high = np.nanpercentile(image.values, [5, 95])
    if -low > max(high, SWAPPED):
        raise DataError(
            f"run {dark} has more light than run {bright}, by {-low:.0f} ADU per pixel: are runs.dark and runs.flat_field "
            "swapped?"
        )


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
        return find_beams(image, bad=dark["bad_pixel"], count=job.beam_count)
    except DataError as error:
        raise DataError(f"run {run}: {error}") from None


def _tell(progress: Progress | None, text: str, done: int, total: int) -> None:
    if progress is not None:
        progress(text, done, total)


def _table(job: Job) -> Any:
    """Return the content of the non-linearity file that the config names."""
    found = _nonlinearity(job)
    return found if isinstance(found, str) else found.tolist()


CALIBRATE = _Calibrate(
    name="calibration",
    title="calibration",
    make=_make,
    makes={"/": CALIBRATION, "image": IMAGE},
    store="calibration.zarr",
    needs=(INVENTORY,),
    options=("detector", "beams"),
    reads=_table,
    heavy=True,
)
