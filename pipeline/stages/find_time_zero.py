"""Delay scans → time zero: on the way to labels where `delay.t0` is fit, and beside the fits for every product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.job import Job
from pipeline.science.kinetics.time_zero import RESPONSE, fit_time_zero
from pipeline.science.labels.timing import ps_per_unit
from pipeline.science.spectra.compared import NO_REFERENCE, compared, outside_reference
from pipeline.science.spectra.reference import noise_of_trains
from pipeline.science.spectra.scans import delay_scans
from schemas.catalogue import note
from schemas.config.axes import BinWidth
from schemas.config.fit_options import Kinetics, Measured
from schemas.notes import Note

__all__ = ["any_position", "find_time_zero", "form_of_time_zero", "time_zero_of"]

WAY_OUT = "give the stage position at time zero as delay.t0"
SIGMAS = 3.0
CHANCE = 1e-3
"""A χ² between scans that is less probable is told."""


def form_of_time_zero(job: Job) -> Any:
    """Return what the labels depend on besides their own options: the kinetic form, where it says what time zero is."""
    return _form(job.config.kinetics) if job.config.delay.t0 == "fit" else None


def any_position(scans: Sequence[xr.Dataset]) -> float:
    """Return a stage position among those of the scans, in the stage's unit, to count from while time zero is unknown."""
    positions = [scan["delay_stage"].values for scan in scans if "delay_stage" in scan.variables]
    known = np.concatenate([p[np.isfinite(p)] for p in positions]) if positions else np.empty(0)
    return float(np.median(known)) if len(known) else 0.0


def find_time_zero(job: Job, runs: Mapping[int, xr.Dataset], *, t0: float) -> float:
    """Return the stage position at time zero, in the stage's unit, from labelled pulses whose delays count from `t0`.

    Raises
    ------
    DataError
        If there is no delay scan, or none has a step.
    """
    scans = [runs[scan.run] for scan in job.delay_scans]
    if not scans:
        raise DataError(f"delay.t0 is fit, and there is no delay scan to find it from; {WAY_OUT}")
    flats = [runs[n] for n in job.flat_fields]
    noise = noise_of_trains(flats[:1]) if flats else {}
    bins = job.config.delay.bin
    try:
        # an offset is taken off before the onset, so without a flat field any constant will do
        outside = outside_reference(flats, [], scans, train_noise=noise)[0] if flats else NO_REFERENCE
        binned = compared(
            delay_scans,
            scans,
            outside,
            # bins that are given in ps count from a zero that is not known yet
            delay_bins=bins.width if isinstance(bins, BinWidth) else None,
            train_noise=noise,
            workers=job.workers,
        )
        found = fit_time_zero(binned, **_form(job.config.kinetics))
    except DataError as error:
        raise DataError(f"delay.t0 is fit, and cannot be found: {error}; {WAY_OUT}") from None
    return t0 + job.config.delay.sign * float(found["t_d"]) / ps_per_unit(_stage(scans))


def time_zero_of(job: Job, delay_scan: xr.Dataset, labels: Mapping[str, xr.Dataset]) -> tuple[xr.Dataset, list[Note]]:
    """Return the group time_zero, and what a person must know about it.

    Parameters
    ----------
    job
        The dataset.
    delay_scan
        Its binned delay scans.
    labels
        Labels of all runs; they hold the stage position from which the delays count.

    Raises
    ------
    DataError
        If no scan has a step.
    """
    found = fit_time_zero(delay_scan, **_form(job.config.kinetics))
    zero, stderr = float(found["t_d"]), float(found["t_d_stderr"])
    notes = []
    if found["is_reversed"]:
        notes.append(note("delay.sign_wrong"))
    if float(found["p"]) < CHANCE:
        each = zip(*(found[n].values.tolist() for n in ("fluence", "energy", "time_zero")), strict=True)
        rows = ", ".join(f"{1e3 * t:+.0f} fs at {f:g} mJ/cm², {e:.2f} eV" for f, e, t in each if np.isfinite(t))
        notes.append(note("delay.scans_disagree", chi2=float(found["chi2"]) / int(found["dof"]), scans=rows))
    t0 = next((one["t0"] for one in labels.values() if "t0" in one.coords), None)
    if t0 is None:
        return found, notes
    units, per_unit = {"units": t0.attrs["units"]}, ps_per_unit(t0)
    stage = float(t0) + job.config.delay.sign * zero / per_unit
    found = found.assign(
        stage=((), stage, units), stage_stderr=((), stderr / per_unit, units), t0=((), float(t0), units)
    )
    if job.config.delay.t0 != "fit" and abs(zero) > SIGMAS * stderr + _response(job.config.kinetics):
        about: dict[str, Any] = {"zero_fs": 1e3 * zero, "stderr_fs": 1e3 * stderr, "stage": stage}
        notes.append(note("delay.zero_off", t0=float(t0), **about))
    return found, notes


def _stage(scans: Sequence[xr.Dataset]) -> xr.DataArray:
    return next(scan["delay_stage"] for scan in scans if "delay_stage" in scan.variables)


def _form(options: Kinetics) -> dict[str, Any]:
    known = options.setting("irf_sigma")
    response = (known.value, known.stderr) if isinstance(known, Measured) else known
    return {"power": options.power, "n_exponentials": options.n_exponentials, "irf_sigma": response}


def _response(options: Kinetics) -> float:
    """Return σ of the response [ps]."""
    known = options.setting("irf_sigma")
    return RESPONSE[0] if known == "fit" else float(known.value if isinstance(known, Measured) else known)
