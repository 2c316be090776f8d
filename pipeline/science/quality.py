"""How good a run is: noise over photon noise, a null test, drift along the burst, and where its pulses went."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.stats import chi2

from pipeline.science.accumulate import accumulate, log_ratio
from pipeline.science.uncertainty import moderated_variance

__all__ = ["run_quality"]


def run_quality(pulses: xr.Dataset, cell: np.ndarray) -> dict[str, float]:
    """Return the quality figures of one run.

    Parameters
    ----------
    pulses
        photons, photons_stderr, n_saturated (train, pulse, beam), `code` (train, pulse).
    cell
        Bin of each pulse, -1 for those that do not count; figures are relative to the bins' means.

    Returns
    -------
    dict
        noise_ratio: scatter of ln(I_pumped / I_unpumped) of single pulses over the photon and read noise, 1.0 at the
        shot-noise limit; noise_ratio_reference: the same of the unpumped over the reference beam (the absorption changes
        inside an energy bin count as noise here). null_chi2: χ² per degree of freedom of the difference of
        delta_xas between odd and even trains; null_chi2_unpumped: the same of od_unpumped; null_p and
        null_p_unpumped: how probable that is by chance. drift and drift_stderr: change
        of delta_xas from the first to the last pulse of the burst. saturated_fraction.
    """
    n_cells = int(cell.max()) + 1 if (cell >= 0).any() else 1
    beams = [str(b) for b in pulses["beam"].values]
    a, b = beams.index("pumped"), beams.index("unpumped")
    used = cell >= 0
    photons, stderr = pulses["photons"].values, pulses["photons_stderr"].values
    code = pulses["code"].values
    lit = (code == 0) | (code == 6)
    saturated = (pulses["n_saturated"].values.sum(axis=2) > 0) & lit
    result = {
        "saturated_fraction": float(saturated.sum() / lit.sum()) if lit.any() else np.nan,
        "noise_ratio": np.nan,
        "noise_ratio_reference": np.nan,
        "null_chi2": np.nan,
        "null_p": np.nan,
        "null_chi2_unpumped": np.nan,
        "null_p_unpumped": np.nan,
        "drift": np.nan,
        "drift_stderr": np.nan,
    }
    if used.sum() < 3:
        return result
    ratio, variance = _log_ratio(photons[used], stderr[used], a, b)
    residual, dof = _about_bin_mean(ratio, 1.0 / variance, cell[used], n_cells)
    if dof > 0:
        result["noise_ratio"] = float(np.sqrt(np.sum(residual**2 / variance) / dof))
    if dof > 0 and "reference" in beams:
        other, expected = _log_ratio(photons[used], stderr[used], b, beams.index("reference"))
        rest, _ = _about_bin_mean(other, 1.0 / expected, cell[used], n_cells)
        result["noise_ratio_reference"] = float(np.sqrt(np.sum(rest**2 / expected) / dof))
    result["null_chi2"], result["null_p"] = _odd_even(pulses, cell, n_cells, ("pumped", "unpumped"))
    if "reference" in beams:
        result["null_chi2_unpumped"], result["null_p_unpumped"] = _odd_even(
            pulses, cell, n_cells, ("unpumped", "reference")
        )
    pulse = np.broadcast_to(np.arange(cell.shape[1]), cell.shape)[used].astype(np.float64)
    if np.ptp(pulse) > 0 and dof > 1:
        drift, error = _slope(pulse / np.ptp(pulse), ratio, 1.0 / variance, cell[used], n_cells)
        result["drift"], result["drift_stderr"] = drift, error * max(result["noise_ratio"], 1.0)
    return result


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


def _odd_even(pulses: xr.Dataset, cell: np.ndarray, n_cells: int, pair: tuple[str, str]) -> tuple[float, float]:
    odd = (pulses["train_id"].values.astype(np.int64) % 2).astype(bool)
    values, variances = [], []
    for half in (odd, ~odd):
        sums = accumulate(pulses, np.where(half[:, None], cell, -1), n_cells)
        ratio, scatter, shot = log_ratio(sums, *pair)
        values.append(ratio.values)
        variances.append(moderated_variance(scatter, shot, sums["n_trains"]).values)
    z2 = (values[0] - values[1]) ** 2 / (variances[0] + variances[1])
    z2 = z2[np.isfinite(z2)]
    return (float(np.mean(z2)), float(chi2.sf(np.sum(z2), len(z2)))) if len(z2) else (np.nan, np.nan)
