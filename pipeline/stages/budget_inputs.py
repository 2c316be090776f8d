"""Calibration, labels and spectra → what is known of the errors of the inputs, for the error budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import xarray as xr

from pipeline.job import Job
from pipeline.science.detector.pedestal import MATTERS
from pipeline.science.spectra.moved_inputs import moved_by_pedestal, moved_by_response
from pipeline.stages.fit_budget import Inputs, Moved
from pipeline.stages.label import roles_of
from pipeline.stages.reduce import REDUCE
from pipeline.storage import store

__all__ = ["known_inputs"]


def known_inputs(
    job: Job, binned: Mapping[str, xr.Dataset], calibration: xr.Dataset, time_zero: xr.Dataset | None
) -> Inputs:
    """Return what is known of the errors of time zero, energies, pedestal and response.

    Parameters
    ----------
    job
        The dataset.
    binned
        The groups spectra, delay_scan and quality.
    calibration
        That of the detector.
    time_zero
        The group time_zero, where there is one.
    """
    beams = {role: number for number, role in enumerate(roles_of(job)) if role != "reference"}
    flat = _flat_field(job, beams)
    data = [binned[name] for name in ("spectra", "delay_scan")]
    moved: dict[str, list[Moved]] = {}
    # a table without an error was given, or says that the response is linear
    if np.isfinite(float(calibration.get("linearity_chi2", np.nan))):
        moved["response"] = _together(moved_by_response(one, calibration, beams, flat) for one in data)
    if "pedestal_variance" in calibration and flat:
        pedestal = _pedestal(calibration, beams, flat, binned["quality"])
        moved["pedestal"] = _together(moved_by_pedestal(one, pedestal, flat) for one in data)
    offset = job.config.energy.offset_stderr
    return Inputs(
        t0=np.nan if time_zero is None else float(time_zero["t_d_stderr"]),
        energy=np.nan if offset is None else offset,
        moved=moved,
    )


def _together(moved: Iterable[list[xr.Dataset]]) -> list[Moved]:
    """Pair what the same errors do to spectra and to delay scans."""
    return [Moved(*pair) for pair in zip(*moved, strict=True)]


def _flat_field(job: Job, beams: Mapping[str, int]) -> dict[str, float]:
    """Return the mean photons per pulse of the beams in the first flat field; empty where there is none."""
    for number in job.flat_fields[:1]:
        photons = store.open_dataset(REDUCE.where(job, number))["photons"].mean(("train", "pulse")).values
        return {role: float(photons[beam]) for role, beam in beams.items()}
    return {}


def _pedestal(
    calibration: xr.Dataset, beams: Mapping[str, int], flat: Mapping[str, float], quality: xr.Dataset
) -> dict[str, float]:
    """Return how well the mean pedestal of a run is known to be taken off, by beam [photons per pulse].

    From the noise of the unlit pixels over the pulses of a run, that of the dark run over its cells, and what is too small
    to be taken off at all, any value up to the limit being as likely.
    """
    pulses = float(quality["pulses_used"].where(quality["pulses_used"] > 0).median())
    frame, dark = calibration["pedestal_variance"].values, calibration["pedestal_dark_variance"].values
    cells = calibration.sizes["cell"]
    return {
        role: float(np.sqrt(frame[b] / pulses + dark[b] / cells + (MATTERS * flat[role]) ** 2 / 3))
        for role, b in beams.items()
    }
