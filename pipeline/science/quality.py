"""How good a run is: noise over photon noise, a null test, drift along the burst, and where its pulses went."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.stats import chi2

from pipeline.science.accumulate import accumulate, mean_coordinate
from pipeline.science.difference import Along, estimate_ratio
from pipeline.science.selection import REASONS

__all__ = ["run_quality"]


def run_quality(pulses: xr.Dataset, cell: np.ndarray, *, along: Along = "energy") -> dict[str, float]:
    """Return the quality figures of one run.

    Parameters
    ----------
    pulses
        photons, photons_stderr, n_saturated (train, pulse, beam), `code` (train, pulse).
    cell
        Bin of each pulse, -1 for those that do not count.
    along
        Coordinate that the run scans.

    Returns
    -------
    dict
        noise_ratio: scatter of ln(I_pumped / I_unpumped) of single pulses over the photon and read noise, 1.0 at the
        shot-noise limit; noise_ratio_reference: the same of the unpumped over the reference beam. Pulses are compared
        with those of their train, whose energy they share (with their bin where trains are short). null_chi2: χ² per
        degree of freedom of the difference of delta_xas between odd and even trains; null_chi2_unpumped: the same of
        od_unpumped; null_p and null_p_unpumped: how probable that is by chance. drift and drift_stderr: change of
        delta_xas from the first to the last pulse of the burst. saturated_fraction.
    """
    n_cells = int(cell.max()) + 1 if (cell >= 0).any() else 1
    beams = [str(b) for b in pulses["beam"].values]
    a, b = beams.index("pumped"), beams.index("unpumped")
    used = cell >= 0
    photons, stderr = pulses["photons"].values, pulses["photons_stderr"].values
    code = pulses["code"].values
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
    result["null_chi2"], result["null_p"] = _odd_even(pulses, cell, n_cells, ("pumped", "unpumped"), along)
    if "reference" in beams:
        result["null_chi2_unpumped"], result["null_p_unpumped"] = _odd_even(
            pulses, cell, n_cells, ("unpumped", "reference"), along
        )
    pulse = np.broadcast_to(np.arange(cell.shape[1]), cell.shape)[used].astype(np.float64)
    if np.ptp(pulse) > 0:
        drift, error = _slope(pulse / np.ptp(pulse), ratio, 1.0 / variance, group, int(group.max()) + 1)
        result["drift"], result["drift_stderr"] = drift, error * max(np.nan_to_num(result["noise_ratio"]), 1.0)
    return result


_FIGURES = (
    "saturated_fraction",
    "noise_ratio",
    "noise_ratio_reference",
    "null_chi2",
    "null_p",
    "null_chi2_unpumped",
    "null_p_unpumped",
    "drift",
    "drift_stderr",
)


def _groups(cell: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Return which used pulses are compared: those of a train, or of a bin where trains have fewer than three."""
    per_train = used.sum(axis=1)
    if np.median(per_train[per_train > 0]) < 3:
        return cell[used]
    return np.broadcast_to(np.arange(len(cell))[:, None], cell.shape)[used]


def _scatter(value: np.ndarray, variance: np.ndarray, group: np.ndarray) -> float:
    residual, dof = _about_bin_mean(value, 1.0 / variance, group, int(group.max()) + 1)
    return float(np.sqrt(np.sum(residual**2 / variance) / dof)) if dof > 0 else np.nan


def _log_ratio(photons: np.ndarray, stderr: np.ndarray, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
    value = -np.log(photons[:, a] / photons[:, b])
    return value, (stderr[:, a] / photons[:, a]) ** 2 + (stderr[:, b] / photons[:, b]) ** 2


def _about_bin_mean(value: np.ndarray, weight: np.ndarray, cell: np.ndarray, n: int) -> tuple[np.ndarray, int]:
    total = np.bincount(cell, weight, n)
    mean = np.bincount(cell, weight * value, n) / np.where(total > 0, total, 1.0)
    return value - mean[cell], len(value) - int((total > 0).sum())


def _slope(x: np.ndarray, y: np.ndarray, weight: np.ndarray, cell: np.ndarray, n: int) -> tuple[float, float]:
    x0, _ = _about_bin_mean(x, weight, cell, n)
    y0, _ = _about_bin_mean(y, weight, cell, n)
    information = float(np.sum(weight * x0**2))
    if information <= 0:
        return np.nan, np.nan
    return float(np.sum(weight * x0 * y0) / information), float(1.0 / np.sqrt(information))


def _odd_even(
    pulses: xr.Dataset, cell: np.ndarray, n_cells: int, pair: tuple[str, str], along: Along
) -> tuple[float, float]:
    odd = (pulses["train_id"].values.astype(np.int64) % 2).astype(bool)
    whole = accumulate(pulses, cell, n_cells, along=along)
    axis = mean_coordinate(whole, along)[0]
    filled = np.flatnonzero(np.isfinite(axis.values))
    if not len(filled):
        return np.nan, np.nan
    halves = []
    for half in (odd, ~odd):
        sums = accumulate(pulses, np.where(half[:, None], cell, -1), n_cells, along=along).isel(cell=filled)
        halves.append(estimate_ratio(sums, *pair, along=along, axis=axis.isel(cell=filled)))
    z2 = ((halves[0][0] - halves[1][0]) ** 2 / (halves[0][1] + halves[1][1])).values
    z2 = z2[np.isfinite(z2)]
    return (float(np.mean(z2)), float(chi2.sf(np.sum(z2), len(z2)))) if len(z2) else (np.nan, np.nan)
