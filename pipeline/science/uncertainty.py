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

__all__ = ["moderated_variance", "prior_of_ratio"]


PULSE_WEIGHT = 4.0
"""Degrees of freedom that the scatter of pulses is worth beside that of trains: it decides where there are none."""


def prior_of_ratio(ratio: np.ndarray, dof: np.ndarray, *, default: float = 1.0) -> tuple[float, float]:
    """Return the common variance ratio and the degrees of freedom that it is worth (infinite: no real scatter).

    Empirical Bayes for scaled χ² variances: G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 3, 3 (2004), section 6.2.

    Parameters
    ----------
    ratio
        Observed over expected variance per bin; NaN is ignored.
    dof
        Degrees of freedom of the observed variances.
    default
        What is believed before any train is seen, worth `PULSE_WEIGHT` degrees of freedom.
    """
    use = np.isfinite(ratio) & (dof > 0) & (ratio > 0)
    r, d = ratio[use], dof[use].astype(np.float64)
    total = float(np.sum(d)) + PULSE_WEIGHT
    pooled = (float(np.sum(d * r)) + PULSE_WEIGHT * default) / total
    # photon noise is a floor; a ratio below it is chance unless it is significant (then the gain is wrong)
    at_floor = 1.0 - 3.0 * np.sqrt(2.0 / total) < pooled < 1.0
    pooled = 1.0 if at_floor else pooled
    if len(r) < 3:
        return pooled, np.inf
    e = np.log(r) - digamma(d / 2) + np.log(d / 2)
    excess = float(np.var(e, ddof=1) - np.mean(polygamma(1, d / 2)))
    if excess <= 1e-3:
        return pooled, np.inf
    d0 = 2.0 * float(brentq(lambda x: float(polygamma(1, x)) - excess, 1e-3, 1e4))
    common = float(np.exp(np.mean(e) + digamma(d0 / 2) - np.log(d0 / 2)))
    return max(common, min(pooled, 1.0)), d0


def moderated_variance(
    scatter: xr.DataArray,
    shot: xr.DataArray,
    n_trains: xr.DataArray,
    *,
    pulses: xr.DataArray | None = None,
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
        Variance from the scatter of single pulses, which decides where bins hold one train.
    along
        Dim of the bins that were measured together; None: all.

    Returns
    -------
    DataArray like `shot`; NaN where `shot` is.
    """
    observed = scatter if pulses is None else pulses
    dims = [[along]] * 4 if along is not None else [list(map(str, shot.dims))] * 4
    result: xr.DataArray = xr.apply_ufunc(
        _moderate,
        scatter,
        shot,
        n_trains,
        observed,
        input_core_dims=dims,
        output_core_dims=[dims[0]],
        vectorize=True,
        output_dtypes=[np.float64],
    )
    return result.transpose(*shot.dims)


def _moderate(scatter: np.ndarray, shot: np.ndarray, n_trains: np.ndarray, pulses: np.ndarray) -> np.ndarray:
    dof = np.maximum(n_trains - 1, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio, of_pulses = scatter / shot, pulses / shot
    known = of_pulses[np.isfinite(of_pulses)]
    default = float(np.mean(known)) if len(known) else 1.0
    common, weight = prior_of_ratio(ratio.ravel(), dof.ravel(), default=default)
    if np.isinf(weight):
        return shot * common
    have = np.where(np.isfinite(ratio), dof, 0)
    own = np.where(have > 0, dof * np.nan_to_num(ratio), 0.0)
    return np.maximum(shot * (own + weight * common) / (have + weight), shot * min(common, 1.0))
