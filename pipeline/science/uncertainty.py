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


def prior_of_ratio(ratio: np.ndarray, dof: np.ndarray) -> tuple[float, float]:
    """Return the common variance ratio and the degrees of freedom that it is worth (infinite: no real scatter).

    Empirical Bayes for scaled χ² variances: G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 3, 3 (2004), section 6.2.
    Without any usable bin the ratio is 1: the expected variance.

    Parameters
    ----------
    ratio
        Observed over expected variance per bin; NaN is ignored.
    dof
        Degrees of freedom of the observed variances.
    """
    use = np.isfinite(ratio) & (dof > 0) & (ratio > 0)
    if not use.any():
        return 1.0, np.inf
    r, d = ratio[use], dof[use].astype(np.float64)
    pooled = float(np.sum(d * r) / np.sum(d))
    # photon noise is a floor; a ratio below it is chance unless it is significant (then the gain is wrong)
    at_floor = 1.0 - 3.0 * np.sqrt(2.0 / np.sum(d)) < pooled < 1.0
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


def moderated_variance(scatter: xr.DataArray, shot: xr.DataArray, n_trains: xr.DataArray) -> xr.DataArray:
    """Return the variance per bin, the observed one shrunk towards expected variance × common ratio.

    Parameters
    ----------
    scatter
        Variance from the scatter of trains; NaN where there are fewer than two.
    shot
        Variance from photon and read noise.
    n_trains
        Trains in the bin.

    Returns
    -------
    DataArray like `shot`; NaN where `shot` is.
    """
    dof = (n_trains - 1).clip(min=0)
    ratio = scatter / shot
    common, weight = prior_of_ratio(ratio.values.ravel(), dof.values.ravel())
    if np.isinf(weight):
        return shot * common
    own = xr.where(np.isfinite(ratio), dof * ratio, 0.0)
    have = xr.where(np.isfinite(ratio), dof, 0)
    return shot * (own + weight * common) / (have + weight)
