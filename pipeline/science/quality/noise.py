"""How good a run is: noise over photon noise, a null test, drift along the burst, and where its pulses went."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.stats import chi2

from pipeline.science.labels.selection import REASONS
from pipeline.science.labels.timing import known_delay
from pipeline.science.quality.burst import about_mean, burst_drift, burst_profile, effects_of_delay
from pipeline.science.spectra.difference import Along, TrainNoise, estimate, log_change
from pipeline.science.spectra.reference import EARLY
from pipeline.science.sums.accumulate import accumulate, mean_coordinate
from pipeline.science.sums.contrast import ratio as ratio_of

__all__ = ["BLUR", "SETTLED", "Early", "profile_of_burst", "run_quality"]

SETTLED = 0.5
"""Delay [ps] from which the signal changes too slowly for the arrival of pulses to matter."""
BLUR = 0.03
"""Spread of delays [ps] from which a spectrum in the rise of the signal is blurred: half a usual instrument response."""


class Early(NamedTuple):
    """Pulses of which those before time zero must show no difference."""

    pulses: xr.Dataset
    cell: np.ndarray
    """Bin of each pulse (train, pulse), -1 for those that do not count."""
    constant: tuple[float, float] | None
    """ln(I_pumped / I_unpumped) without pump, and its standard error; None: pulses without pump in the same bins tell."""


def run_quality(
    pulses: xr.Dataset,
    cell: np.ndarray,
    *,
    along: Along = "energy",
    early: Early | None = None,
    train_noise: TrainNoise | None = None,
) -> dict[str, float]:
    """Return the quality figures of one run.

    Parameters
    ----------
    pulses
        photons, photons_stderr, n_saturated (train, pulse, beam), `drop_reason` (train, pulse).
    cell
        Bin of each pulse, -1 for those that do not count.
    along
        Coordinate that the run scans.
    early
        What is tested before time zero; None: nothing.
    train_noise
        Variance that the pulses of a train share, see `pipeline.science.spectra.scans.noise_of_trains`.

    Returns
    -------
    dict
        noise_ratio: scatter of ln(I_pumped / I_unpumped) of single pulses over the photon and read noise, 1.0 at the
        shot-noise limit; noise_ratio_reference: the same of the unpumped over the reference beam. Pulses are compared
        with those of their train, whose energy they share (with their bin where trains are short). null_chi2: χ² per
        degree of freedom of the difference of delta_xas between odd and even trains; null_chi2_unpumped: the same of
        od_unpumped; null_chi2_early: the same of delta_xas against zero at delays before `EARLY`; null_p, null_p_unpumped
        and null_p_early: how probable that is by chance. drift and build_up with _stderr: see
        `pipeline.science.quality.burst.burst_drift`. saturated_fraction.
    """
    n_cells = int(cell.max()) + 1 if (cell >= 0).any() else 1
    beams = [str(b) for b in pulses["beam"].values]
    a, b = beams.index("pumped"), beams.index("unpumped")
    used = cell >= 0
    photons, stderr = pulses["photons"].values, pulses["photons_stderr"].values
    code = pulses["drop_reason"].values
    lit = (code == 0) | (code == REASONS.index("saturated"))
    saturated = (pulses["n_saturated"].values.sum(axis=2) > 0) & lit
    result = dict.fromkeys(_FIGURES, float("nan"))
    result["saturated_fraction"] = float(saturated.sum() / lit.sum()) if lit.any() else np.nan
    if used.sum() < 3:
        return result
    group = _groups(cell, used)
    ratio, variance = _log_ratio(photons[used], stderr[used], a, b)
    result["noise_ratio"] = _scatter(ratio, variance, group)
    if "reference" in beams:
        result["noise_ratio_reference"] = _scatter(
            *_log_ratio(photons[used], stderr[used], b, beams.index("reference")), group
        )
    result["null_chi2"], result["null_p"] = _odd_even(
        pulses, cell, n_cells, ("pumped", "unpumped"), along=along, train_noise=train_noise
    )
    if "reference" in beams:
        result["null_chi2_unpumped"], result["null_p_unpumped"] = _odd_even(
            pulses, cell, n_cells, ("unpumped", "reference"), along=along, train_noise=train_noise
        )
    if early is not None:
        result["null_chi2_early"], result["null_p_early"] = _before_time_zero(
            early, along=along, train_noise=train_noise
        )
    effects = effects_of_delay(ratio, variance, cell[used], known_delay(pulses)[used], along=along)
    return result | burst_drift(ratio, variance, _pulse_index(cell, used), group, cell[used], effects)


def profile_of_burst(pulses: xr.Dataset, cell: np.ndarray, *, along: Along = "energy") -> tuple[np.ndarray, np.ndarray]:
    """Return the mean deviation of delta_xas at each pulse index from its train's mean, and its standard error.

    What pulses of a train differ by because they lie in different bins, or at different delays inside one, is taken off.
    Parameters are those of `run_quality`; NaN where an index has no pulse.
    """
    used = cell >= 0
    if used.sum() < 3:
        return np.full(cell.shape[1], np.nan), np.full(cell.shape[1], np.nan)
    beams = [str(b) for b in pulses["beam"].values]
    photons, stderr = (pulses[n].values[used] for n in ("photons", "photons_stderr"))
    ratio, variance = _log_ratio(photons, stderr, beams.index("pumped"), beams.index("unpumped"))
    group, index = _groups(cell, used), _pulse_index(cell, used)
    effects = effects_of_delay(ratio, variance, cell[used], known_delay(pulses)[used], along=along)
    return burst_profile(ratio, variance, index, group, cell.shape[1], cell[used], effects)


def _pulse_index(cell: np.ndarray, used: np.ndarray) -> np.ndarray:
    return np.broadcast_to(np.arange(cell.shape[1]), cell.shape)[used]


_FIGURES = (
    "saturated_fraction",
    "noise_ratio",
    "noise_ratio_reference",
    "null_chi2",
    "null_p",
    "null_chi2_unpumped",
    "null_p_unpumped",
    "null_chi2_early",
    "null_p_early",
    "drift",
    "drift_stderr",
    "build_up",
    "build_up_stderr",
)


def _groups(cell: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Return which used pulses are compared: those of a train, or of a bin where trains have fewer than three."""
    per_train = used.sum(axis=1)
    if np.median(per_train[per_train > 0]) < 3:
        return cell[used]
    return np.broadcast_to(np.arange(len(cell))[:, None], cell.shape)[used]


def _scatter(value: np.ndarray, variance: np.ndarray, group: np.ndarray) -> float:
    residual, dof = about_mean(value, 1.0 / variance, group)
    return float(np.sqrt(np.sum(residual**2 / variance) / dof)) if dof > 0 else np.nan


def _log_ratio(photons: np.ndarray, stderr: np.ndarray, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
    value = -np.log(photons[:, a] / photons[:, b])
    return value, (stderr[:, a] / photons[:, a]) ** 2 + (stderr[:, b] / photons[:, b]) ** 2


def _odd_even(
    pulses: xr.Dataset,
    cell: np.ndarray,
    n_cells: int,
    pair: tuple[str, str],
    *,
    along: Along,
    train_noise: TrainNoise | None,
) -> tuple[float, float]:
    odd = _odd(pulses, cell)
    whole = accumulate(pulses, cell, n_cells, along=along)
    axis = mean_coordinate(whole, along)[0]
    filled = np.flatnonzero(np.isfinite(axis.values))
    if not len(filled):
        return np.nan, np.nan
    halves = []
    for half in (odd, ~odd):
        sums = accumulate(pulses, np.where(half[:, None], cell, -1), n_cells, along=along).isel(cell=filled)
        axis_here = axis.isel(cell=filled)
        halves.append(estimate(sums, ratio_of(*pair), along=along, axis=axis_here, train_noise=train_noise))
    z2 = ((halves[0][0] - halves[1][0]) ** 2 / (halves[0][1] + halves[1][1])).values
    z2 = z2[np.isfinite(z2)]
    return (float(np.mean(z2)), float(chi2.sf(np.sum(z2), len(z2)))) if len(z2) else (np.nan, np.nan)


def _odd(pulses: xr.Dataset, cell: np.ndarray) -> np.ndarray:
    """Return which trains are odd: by train id, or where that leaves one half empty (every second train) by their order."""
    odd = (pulses["train_id"].values.astype(np.int64) % 2).astype(bool)
    used = (cell >= 0).any(axis=1)
    if (odd & used).any() and (~odd & used).any():
        return odd
    return np.asarray(np.cumsum(used) % 2 == 1)


def _before_time_zero(
    early: Early,
    *,
    along: Along,
    train_noise: TrainNoise | None,
) -> tuple[float, float]:
    """Return χ²/dof and probability of delta_xas = 0 at early delays; the constant's error is common to all bins."""
    pulses, (constant, error) = early.pulses, early.constant or (0.0, 0.0)
    cell = np.where((early.cell >= 0) & (pulses["delay"].values < EARLY), early.cell, -1)
    if not (cell >= 0).any():
        return np.nan, np.nan
    by_condition = early.constant is None
    sums = accumulate(pulses, cell, int(cell.max()) + 1, along=along, by_condition=by_condition)
    sums = sums.isel(cell=np.flatnonzero(sums["n_pulses"] > 0))
    axis = mean_coordinate(sums, along)[0]
    value, variance, _ = log_change(sums, along=along, axis=axis, train_noise=train_noise)
    good = np.isfinite(value.values) & np.isfinite(variance.values)
    if not good.any():
        return np.nan, np.nan
    difference, weight = (constant - value.values)[good], 1.0 / variance.values[good]
    # inverse of diag(v) + c² by Sherman and Morrison
    shared = error**2 / (1.0 + error**2 * np.sum(weight))
    statistic = float(np.sum(weight * difference**2) - shared * np.sum(weight * difference) ** 2)
    return statistic / int(good.sum()), float(chi2.sf(statistic, int(good.sum())))
