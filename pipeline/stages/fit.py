"""Spectra → peaks, kinetics and mixture: the fits of a dataset, put together as the product's groups.

`pipeline.science` knows one fit of given data and no config. Here it is decided, from the config and the data, what is
fitted to what, what is tried where that fails, and what a person must be told.
"""

from __future__ import annotations

from contextlib import suppress

import xarray as xr

from pipeline.errors import DataError
from pipeline.job import Job
from pipeline.science.peaks.lines import fit_peaks
from pipeline.science.peaks.windows import difference_window
from pipeline.science.spectra.resampling import Replicates
from pipeline.stages.base import Context, Made, Stage
from pipeline.stages.bin import BIN, resample_scans
from pipeline.stages.budget_inputs import known_inputs
from pipeline.stages.calibrate import CALIBRATE
from pipeline.stages.find_time_zero import time_zero_of
from pipeline.stages.fit_budget import NOTHING_KNOWN, Inputs, error_budget
from pipeline.stages.fit_kinetics import SEED, fit_all_kinetics
from pipeline.stages.fit_mixture import Models, fit_late_spectra
from pipeline.stages.label import LABEL, labelled_runs
from pipeline.stages.model_results import model_results
from pipeline.storage.dos_files import read_dos
from pipeline.storage.hashes import FileHashes
from schemas.catalogue import note
from schemas.config import Config
from schemas.config.fit_options import DosColumn
from schemas.datasets.budget import BUDGET
from schemas.datasets.fitted import MIXTURE, MODEL_RESULTS, PEAKS
from schemas.datasets.kinetic_fits import COMPONENTS, KINETICS, TIME_ZERO
from schemas.datasets.target_fits import TARGET
from schemas.notes import Note

__all__ = ["FIT", "dos_models", "fit_all"]


def fit_all(
    spectra: xr.Dataset,
    delay_scan: xr.Dataset,
    config: Config,
    models: Models,
    replicates: Replicates | None = None,
    inputs: Inputs = NOTHING_KNOWN,
) -> tuple[dict[str, xr.Dataset], list[Note]]:
    """Return the groups peaks, kinetics, components, target, mixture, budget and model_results, and what a person must know.

    Parameters
    ----------
    spectra, delay_scan
        See `schemas.datasets.measured`.
    config
        Options of the fits.
    models
        Name -> (ground, excited) DOS over energy [eV], the one that is reported first; empty for built-in peaks.
    replicates
        Differences of resampled trains, where `kinetics.bootstrap` asks for them.
    inputs
        What is known of the errors of the inputs, for the error budget.

    Raises
    ------
    CoverageError
        If a DOS that was given does not cover the window.
    """
    notes: list[Note] = []
    empty = spectra.sizes["energy"] == 0
    window = config.peaks.window
    if window == "auto":
        window = difference_window(spectra) if not empty else (0.0, 1.0)
    try:
        peaks = fit_peaks(spectra, window=window)
    except DataError as error:
        notes += [] if empty else [note("peaks.not_fitted", reason=error)]
        peaks = PEAKS.empty({"peak": ["A", "B"], **{name: spectra[name].values for name in ("fluence", "delay")}})
    of_kinetics, fits, kinetic_notes = fit_all_kinetics(spectra, delay_scan, config, replicates)
    mixture, of_mixture = fit_late_spectra(spectra, config, models, window)
    files = model_results(fits, spectra, peaks, mixture, min_delay=config.mixture.min_delay)
    groups = {
        "peaks": peaks,
        **of_kinetics,
        "mixture": mixture,
        "model_results": files,
    }
    groups[BUDGET.name] = error_budget(spectra, delay_scan, config, models, groups, fits, window, inputs)
    return groups, [*notes, *kinetic_notes, *of_mixture]


def _make(context: Context, run: int | None, key: str) -> Made:
    job, spectra = context.job, BIN.result(context.job)
    zero: dict[str, xr.Dataset] = {}
    of_zero: list[Note] = []
    # there need be no delay scan, nor a step in one
    with suppress(DataError):
        zero[TIME_ZERO.name], of_zero = time_zero_of(job, spectra["delay_scan"], LABEL.result(job))
    calibration = CALIBRATE.result(job, key=CALIBRATE.recorded_key(context, None))["/"]
    inputs = known_inputs(job, spectra, calibration, zero.get(TIME_ZERO.name))
    replicates = None
    if job.config.kinetics.bootstrap == "trains":
        replicates = resample_scans(job, labelled_runs(job), n_draws=job.config.kinetics.n_bootstrap, seed=SEED)
    results, notes = fit_all(spectra["spectra"], spectra["delay_scan"], job.config, dos_models(job), replicates, inputs)
    return Made(results | zero, [*of_zero, *notes])


def dos_models(job: Job) -> Models:
    """Return the DOS that the config names, by the name of their model; empty for built-in peaks."""

    def read(dos: DosColumn) -> xr.DataArray:
        return read_dos(job.base / dos.file, dos.column, energy_zero=job.config.mixture.energy_zero)

    return {name: (read(ground), read(excited)) for name, (ground, excited) in job.config.mixture.models.items()}


def _dos_files(job: Job) -> list[str]:
    """Return the content hashes of the DOS files that the config names."""
    files = sorted({job.base / dos.file for pair in job.config.mixture.models.values() for dos in pair})
    hashes = FileHashes(job.stage_dir / "dos.json")
    return [hashes.of(path)["sha256"] for path in files if path.is_file()]


FIT = Stage(
    name="fits",
    title="fits",
    make=_make,
    makes={
        spec.name: spec for spec in (PEAKS, KINETICS, COMPONENTS, TARGET, MIXTURE, BUDGET, MODEL_RESULTS, TIME_ZERO)
    },
    store="fits.zarr",
    needs=(BIN,),
    options=("peaks", "kinetics", "mixture", "delay", "energy"),
    reads=_dos_files,
)
