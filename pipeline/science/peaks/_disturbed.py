"""Spectra that carry more than their errors say: how much larger the errors must be for lines to describe them.

Trains that arrive at different times while the signal rises, or a pump that fluctuates, change neighbouring energies by different factors; with one train
per energy nothing but the misfit of the lines shows it. Two kinds of enlarged errors are compared, and the more probable one is taken:

    everywhere alike  σ² → k σ²  (R. T. Birge, Phys. Rev. 40, 207 (1932)),      growing with the lines  σ² → σ² + κ² (A(E)² + B(E)²),

with k and κ such that χ² becomes ν − 2 for ν degrees of freedom: then what is fitted with them has pulls of unit variance, that of Student's t being ν/(ν − 2).
"""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import chi2

from pipeline.science.peaks._line_models import N_FREEST, Lines, freest_lines
from pipeline.science.peaks.line_shape import gaussian

__all__ = ["MISFIT", "chi2_of", "scale_by_itself", "scale_by_lines"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]
MISFIT = 1e-2
"""A χ² that chance exceeds less often than this says that the errors of a spectrum are not all there is."""
_LARGEST_SHARE = 4.0  # κ² above this is no disturbance of the lines
_ROUNDS = 6  # enlarged errors change the lines, and these the misfit
_SETTLED = 0.05  # relative change of the errors below which that is at an end


def scale_by_itself(energy: Floats, values: Floats, weights: Floats, n_bins: Ints) -> Floats:
    """Return the factor on the error of every bin (spectrum, energy); 1 where the errors do.

    Each spectrum is judged by two lines free in everything and a constant: no choice of model and no other spectrum has
    a part in it.
    """
    scale = np.ones_like(values)
    freedom = n_bins - N_FREEST
    rows = np.flatnonzero(freedom > 0)
    for _ in range(_ROUNDS):
        if not len(rows):
            break
        lines, offset = freest_lines(energy, values[rows], weights[rows] / scale[rows] ** 2)
        misfit = weights[rows] * (values[rows] - lines.sum(axis=1) - offset[:, None]) ** 2
        before = scale[rows]
        signal = weights[rows] * np.sum(lines**2, axis=1)
        scale[rows] = _enlarged(misfit, signal, weights[rows] > 0, freedom[rows])
        rows = rows[np.abs(np.log(scale[rows] / before)).max(axis=1) > _SETTLED]
    return scale


def scale_by_lines(
    lines: Lines, scale: Floats, energy: Floats, values: Floats, weights: Floats, n_bins: Ints
) -> Floats:
    """Return the factors again, now from lines that share widths with other spectra and so leave more freedom.

    Only spectra in which both lines were found change, and only those that were found disturbed before.
    """
    curve = _curves(lines, energy)
    misfit = weights * (values - curve.sum(axis=1) - lines.offset[:, None]) ** 2
    signal = weights * np.sum(curve**2, axis=1)
    freedom = np.maximum(n_bins - lines.n_parameters, 1)
    chosen = (scale > 1.0).any(axis=1) & np.isfinite(lines.values[:, 0]).all(axis=1)
    found = _enlarged(misfit[chosen], signal[chosen], weights[chosen] > 0, freedom[chosen])
    result = scale.copy()
    result[chosen] = found
    return result


def chi2_of(lines: Lines, energy: Floats, values: Floats, weights: Floats) -> Floats:
    """Return χ² of given lines (spectrum); one that was not found adds nothing."""
    return np.asarray(
        np.sum(weights * (values - _curves(lines, energy).sum(axis=1) - lines.offset[:, None]) ** 2, axis=1)
    )


def _curves(lines: Lines, energy: Floats) -> Floats:
    position, fwhm, height = (lines.values[:, k, :, None] for k in range(3))
    return np.asarray(np.nan_to_num(height * gaussian(energy, position, fwhm)))


def _enlarged(misfit: Floats, signal: Floats, used: NDArray[np.bool_], freedom: Ints) -> Floats:
    """Return the factors of several spectra; `misfit` and `signal`: squares of the residual and the lines over σ²."""
    factor = np.ones_like(misfit)
    for k in np.flatnonzero(chi2.sf(misfit.sum(axis=1), freedom) < MISFIT):
        factor[k] = _enlarged_row(misfit[k], signal[k], used[k], max(float(freedom[k]) - 2.0, 1.0))
    return factor


def _enlarged_row(misfit: Floats, signal: Floats, used: NDArray[np.bool_], wanted: float) -> Floats:
    def left(share: float) -> float:
        return float(np.sum(misfit / (1.0 + share * signal))) - wanted

    everywhere = np.full(len(misfit), np.sum(misfit) / wanted)
    if left(_LARGEST_SHARE) > 0:
        return np.sqrt(everywhere)
    with_lines = 1.0 + brentq(left, 0.0, _LARGEST_SHARE) * signal
    cost = [float(np.sum((np.log(v) + misfit / v)[used])) for v in (everywhere, with_lines)]
    return np.asarray(np.sqrt(everywhere if cost[0] <= cost[1] else with_lines))
