"""Standard errors from few trains: variances moderated over bins.

A bin of five trains knows its own variance to 70 % only; intervals built on it are far too short as often as too long.
The expected variance (photons, read noise) is known bin by bin, and what exceeds it is much the same everywhere, so the
ratio observed/expected is shrunk to the common ratio, as far as its scatter over bins allows.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.optimize import brentq
from scipy.special import digamma, polygamma

__all__ = ["beyond_noise", "moderated_variance", "prior_of_ratio"]

EXPECTED_WEIGHT = 100.0
"""Degrees of freedom that the expected noise is worth beside that of trains, as long as the two agree."""


def prior_of_ratio(ratio: np.ndarray, dof: np.ndarray, *, default: float = 1.0) -> tuple[float, float]:
    """Return the common variance ratio and the degrees of freedom that it is worth (infinite: no real scatter).

    Empirical Bayes for scaled χ² variances: G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 3, 3 (2004), section 6.2. What is
    expected weighs the less the more surely the trains contradict it, and scatter of the ratio over bins is believed
    where it exceeds twice its own standard error: bins are not let below photon noise, so believing chance makes errors
    too long.

    Parameters
    ----------
    ratio
        Observed over expected variance per bin; NaN is ignored.
    dof
        Degrees of freedom of the observed variances.
    default
        What is believed before any train is seen, worth at most `EXPECTED_WEIGHT` degrees of freedom.
    """
    use = np.isfinite(ratio) & (dof > 0) & (ratio > 0)
    r, d = ratio[use], dof[use].astype(np.float64)
    if not len(r):
        return default, np.inf
    seen = float(np.sum(d))
    of_trains = float(np.sum(d * r)) / seen
    surprise = max(np.log(of_trains / default) ** 2 - 2.0 / seen, 0.0)
    weight = 2.0 / (2.0 / EXPECTED_WEIGHT + surprise)
    total = seen + weight
    pooled = (seen * of_trains + weight * default) / total
    # what is expected is a floor; a ratio below it is chance unless it is significant (then the gain is wrong). Above it
    # one standard error is chance as well: keeping what is above and not what is below makes errors too long
    as_expected = -3.0 < (pooled - 1.0) / np.sqrt(2.0 / total) < 1.0
    pooled = 1.0 if as_expected else pooled
    if len(r) < 3:
        return pooled, np.inf
    e = np.log(r) - digamma(d / 2) + np.log(d / 2)
    variance = float(np.var(e, ddof=1))
    excess = variance * (1.0 - 2.0 * np.sqrt(2.0 / (len(r) - 1))) - float(np.mean(polygamma(1, d / 2)))
    if excess <= 1e-3:
        return pooled, np.inf
    d0 = 2.0 * float(brentq(lambda x: float(polygamma(1, x)) - excess, 1e-3, 1e4))
    common = float(np.exp(np.mean(e) + digamma(d0 / 2) - np.log(d0 / 2)))
    return max(common, min(pooled, 1.0)), d0


def beyond_noise(ratio: float, dof: float, *, sigmas: float = 2.0) -> float:
    """Return an observed variance ratio, or 1 where it differs from 1 by less than so many standard errors."""
    return ratio if abs(ratio - 1.0) > sigmas * np.sqrt(2.0 / max(dof, 1.0)) else 1.0


def moderated_variance(
    scatter: xr.DataArray,
    shot: xr.DataArray,
    n_trains: xr.DataArray,
    *,
    pulses: xr.DataArray | None = None,
    n_pulses: xr.DataArray | None = None,
    train_variance: float = 0.0,
    along: str | None = None,
) -> xr.DataArray:
    """Return the variance per bin, the observed one shrunk towards expected variance × common ratio.

    Bins that were measured together share the ratio: those along one dim, for each fluence and delay apart. No bin gets
    less than photon noise, unless all do.

    Parameters
    ----------
    scatter
        Variance from the scatter of trains; NaN where there are fewer than two.
    shot
        Variance from photon and read noise.
    n_trains
        Trains in the bin.
    pulses
        Variance from the scatter of single pulses: what is expected of trains, and all there is where bins hold one.
    n_pulses
        Pulses in the bin, needed with `pulses`.
    train_variance
        Variance that the pulses of a train share, known from elsewhere (the flat-field run): expected of every train.
    along
        Dim of the bins that were measured together; None: all.

    Returns
    -------
    DataArray like `shot`; NaN where `shot` is.
    """
    dim = [along] if along is not None else list(map(str, shot.dims))
    observed = shot if pulses is None else pulses
    counted = xr.zeros_like(n_trains) if pulses is None or n_pulses is None else n_pulses
    result: xr.DataArray = xr.apply_ufunc(
        _moderate,
        scatter,
        shot,
        n_trains,
        observed,
        counted,
        kwargs={"train_variance": train_variance},
        input_core_dims=[dim] * 5,
        output_core_dims=[dim],
        vectorize=True,
        output_dtypes=[np.float64],
    )
    return result.transpose(*shot.dims)


def _moderate(
    scatter: np.ndarray,
    shot: np.ndarray,
    n_trains: np.ndarray,
    pulses: np.ndarray,
    n_pulses: np.ndarray,
    *,
    train_variance: float,
) -> np.ndarray:
    dof = np.maximum(n_trains - 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = shot + _excess_of_pulses(pulses, shot, n_pulses) / n_pulses + train_variance / n_trains
        expected = np.where(n_pulses > 0, expected, shot)
        ratio = scatter / expected
    common, weight = prior_of_ratio(ratio.ravel(), dof.ravel())
    if np.isinf(weight):
        return np.maximum(expected * common, shot * min(common, 1.0))
    have = np.where(np.isfinite(ratio), dof, 0)
    own = np.where(have > 0, dof * np.nan_to_num(ratio), 0.0)
    return np.maximum(expected * (own + weight * common) / (have + weight), shot * min(common, 1.0))


def _excess_of_pulses(pulses: np.ndarray, shot: np.ndarray, n_pulses: np.ndarray) -> float:
    """Return the variance of a single pulse beyond photon noise; 0 where the bins together do not show any."""
    known = np.isfinite(pulses) & np.isfinite(shot) & (n_pulses > 1)
    dof = np.where(known, n_pulses - 1, 0)
    total = float(np.sum(dof))
    if total == 0:
        return 0.0
    ratio = float(np.sum(dof[known] * (pulses / shot)[known])) / total
    if beyond_noise(ratio, total) <= 1.0:
        return 0.0
    return max(float(np.sum((dof * n_pulses)[known] * (pulses - shot)[known])) / total, 0.0)
