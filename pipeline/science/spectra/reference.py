"""What the difference is compared with: the ratio of the beams without pump effect, and the noise that trains share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.labels.selection import REASONS, only_pulses
from pipeline.science.spectra.uncertainty import beyond_noise, moderated_variance
from pipeline.science.sums.accumulate import accumulate_runs
from pipeline.science.sums.contrast import log_contrast, pulse_scatter, ratio
from schemas.catalogue import note
from schemas.notes import Note

__all__ = ["EARLY", "before_time_zero", "constant_of", "flat_constant", "noise_of_trains"]

EARLY = -0.25
"""Delays [ps] before any response: a few widths of the instrument before time zero."""


def constant_of(flat: xr.Dataset | None, scans: Sequence[xr.Dataset]) -> tuple[tuple[float, float], list[Note]]:
    """Return the flat-field constant; without a flat-field run that of the pulses before time zero, if there are any."""
    if flat is not None:
        try:
            return flat_constant([flat]), []
        except DataError as error:
            raise DataError(f"runs.flat_field: {error}") from None
    try:
        return flat_constant(before_time_zero(scans)), [note("reference.flat_field_missing", before=EARLY)]
    except DataError:
        return (0.0, 0.0), [note("reference.offset_unknown")]


def before_time_zero(scans: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """Return scans of which only pulses count that came before any response; `drop_reason`, delay [ps] (train, pulse)."""
    late = REASONS.index("no_delay")
    return [
        run.assign(drop_reason=xr.where(run["delay"] < EARLY, run["drop_reason"], late).astype(np.uint8))
        for run in scans
    ]


def flat_constant(runs: Sequence[xr.Dataset], *, pulses: np.ndarray | None = None) -> tuple[float, float]:
    """Return ln(Σ I_pumped / Σ I_unpumped) of pulses without pump effect, and its standard error.

    Parameters
    ----------
    runs
        Pulses with `drop_reason` (0 = used): the flat-field run, or scans of which only pulses before time zero are used.
    pulses
        Indices of the pulses in their trains that count; None: all.

    Raises
    ------
    DataError
        If no pulse counts.
    """
    sums = _all_together(runs if pulses is None else [only_pulses(r, pulses) for r in runs])
    value, scatter, shot = log_contrast(sums, ratio("pumped", "unpumped"))
    if not np.isfinite(value[0]):
        raise DataError("no pulse of the flat-field run counts; is it a run with X-rays?")
    single = pulse_scatter(sums, ratio("pumped", "unpumped"))
    variance = moderated_variance(scatter, shot, sums["n_trains"], pulses=single, n_pulses=sums["n_pulses"])
    return float(value[0]), float(np.sqrt(variance[0]))


def noise_of_trains(runs: Sequence[xr.Dataset]) -> dict[tuple[str, str], float]:
    """Return the variance of ln(I_a / I_b) that the pulses of a train share, by pair of beams.

    What trains scatter more than their single pulses explain is noise of whole trains. A bin of one or two trains cannot
    know it, a run at fixed energy without pump effect does. 0 where it is not significant.

    Parameters
    ----------
    runs
        As for `flat_constant`, each at one energy.
    """
    sums = _all_together(runs)
    beams = [str(b) for b in sums["beam"].values]
    found = {}
    for a, b in (("pumped", "unpumped"), ("unpumped", "reference"), ("pumped", "reference")):
        if a not in beams or b not in beams:
            continue
        _, scatter, shot = (float(v[0]) for v in log_contrast(sums, ratio(a, b)))
        trains, expected = int(sums["n_trains"][0]), max(float(pulse_scatter(sums, ratio(a, b))[0]), shot)
        if trains > 1 and expected > 0 and beyond_noise(scatter / expected, trains - 1) > 1.0:
            found[a, b] = (scatter - expected) * trains
    return found


def _all_together(runs: Sequence[xr.Dataset]) -> xr.Dataset:
    return accumulate_runs(runs, (np.zeros(r.sizes["train"], np.int64) for r in runs), 1)
