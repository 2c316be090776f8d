"""Does the energy axis read the same in both directions? The shift between up and down sweeps, with its error.

A drive with play lags behind its encoder: a feature of the spectrum appears at a higher reading on the way up than on
the way down. With the readings x of trains that move up and down, the spectrum f and the backlash B

    OD_up(x) = f(x − B/2),   OD_down(x) = f(x + B/2).

B is found by least squares: both curves, moved by ±B/2, are compared on a common axis through cubic splines, and
B grows by the regression of their difference on the slope of their mean, until nothing is left. The noise of that slope
would pull the regression to zero; it is known and taken off.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.interpolate import CubicSpline

from pipeline.science.spectra.difference import estimate
from pipeline.science.sums.accumulate import accumulate_runs, mean_coordinate
from pipeline.science.sums.binning import assign
from pipeline.science.sums.contrast import ratio

__all__ = ["backlash", "directions"]

MIN_BINS = 5
"""Bins that both directions must have measured."""
TURN = 0.05
"""Part of the scan's range by which readings must go back before the direction counts as turned."""
MIN_INFORMATION = 2.0
"""The slopes' power must be so many times that of their noise: a flat spectrum says nothing about its axis."""
PRIOR_DOF = 4.0
"""Degrees of freedom that the curves' own errors are worth against the scatter of what is left between them."""


def directions(values: np.ndarray, *, turn: float = TURN) -> np.ndarray:
    """Return +1 for each reading on the way up, -1 on the way down, 0 where neither is sure.

    A way ends at its extreme, once readings have gone back by `turn` of the whole range: noise at a step is less. What lies
    between, and before the first move of that size, counts as neither: there the play is being taken up.
    """
    found = np.zeros(len(values), np.int64)
    index = np.flatnonzero(np.isfinite(values))
    if len(index) < 2:
        return found
    taken = values[index]
    threshold = turn * float(np.ptp(taken))
    sign, begin, low, high = 0, 0, 0, 0
    for k in range(1, len(taken)):
        low = k if taken[k] < taken[low] else low
        high = k if taken[k] > taken[high] else high
        falls, rises = taken[high] - taken[k] > threshold, taken[k] - taken[low] > threshold
        if (falls and sign >= 0) or (rises and sign <= 0):
            extreme = high if falls and sign >= 0 else low
            found[index[begin : extreme + 1]] = sign
            sign = -1 if falls and sign >= 0 else 1
            begin, low, high = k, k, k
    found[index[begin:]] = sign
    return found


def backlash(pulses: xr.Dataset, energy_edges: np.ndarray) -> tuple[float, float]:
    """Return the backlash of one energy scan [eV] and its standard error; NaN where it cannot be known.

    Parameters
    ----------
    pulses
        Pulses with `drop_reason` (train, pulse; 0 = used) and energy (train) [eV], trains in order of time.
    energy_edges
        Edges of the bins [eV].

    Returns
    -------
    tuple
        Reading of a feature on the way up less that on the way down, and its standard error. NaN where fewer than
        `MIN_BINS` bins were measured in both directions, or the spectrum has no structure above its noise. The spectrum
        is od_unpumped, or without a reference beam delta_xas.
    """
    curves = _both_ways(pulses, energy_edges)
    return (np.nan, np.nan) if curves is None else _shift_between(*curves)


class _Curve(NamedTuple):
    """Values y at x with independent variances v."""

    x: np.ndarray
    y: np.ndarray
    v: np.ndarray


def _both_ways(pulses: xr.Dataset, edges: np.ndarray) -> tuple[_Curve, _Curve] | None:
    beams = [str(b) for b in pulses["beam"].values]
    pair = ("unpumped", "reference") if "reference" in beams else ("pumped", "unpumped")
    way = directions(pulses["energy"].values)
    rows = assign(pulses["energy"].values, edges)
    curves = []
    for sign in (1, -1):
        sums = accumulate_runs([pulses], [np.where(way == sign, rows, -1)], len(edges) - 1)
        sums = sums.isel(cell=np.flatnonzero(sums["n_pulses"].values))
        if sums.sizes["cell"] < MIN_BINS:
            return None
        # at the bins' own means: the two ways do not share them
        axis, _ = mean_coordinate(sums, "energy")
        value, variance, _ = estimate(sums, ratio(*pair), along="energy", axis=axis)
        good = np.isfinite(value.values) & (variance.values > 0)
        curves.append(_thinned(_Curve(axis.values[good], -value.values[good], variance.values[good])))
    up, down = curves
    return (up, down) if min(len(up.x), len(down.x)) >= MIN_BINS else None


def _thinned(curve: _Curve) -> _Curve:
    """Return a curve with points that nearly coincide put together: a spline through both would follow their noise."""
    if len(curve.x) < 2:
        return curve
    gaps = np.diff(curve.x)
    group = np.concatenate([[0], np.cumsum(gaps > 0.4 * np.median(gaps))])
    weight = np.bincount(group, 1.0 / curve.v)
    x, y = (np.bincount(group, q / curve.v) / weight for q in (curve.x, curve.y))
    return _Curve(x, y, 1.0 / weight)


def _shift_between(up: _Curve, down: _Curve) -> tuple[float, float]:
    """Return the shift of `up` against `down` and its standard error, by iterated regression."""
    value, most = 0.0, 0.25 * float(min(np.ptp(up.x), np.ptp(down.x)))
    to_up, to_down = (CubicSpline(c.x, np.eye(len(c.x))) for c in (up, down))
    for _ in range(30):
        # abscissa of the spectrum, at places of the coarser curve that both have reached
        x_up, x_down = up.x - 0.5 * value, down.x + 0.5 * value
        at = min(x_up, x_down, key=len)
        at = at[(at >= max(x_up[0], x_down[0])) & (at <= min(x_up[-1], x_down[-1]))]
        if len(at) < MIN_BINS:
            return np.nan, np.nan
        u, d = to_up(at + 0.5 * value), to_down(at - 0.5 * value)
        u1, d1 = to_up(at + 0.5 * value, 1), to_down(at - 0.5 * value, 1)
        left = d @ down.y - u @ up.y
        covariance = (d * down.v) @ d.T + (u * up.v) @ u.T
        slope = 0.5 * (u1 @ up.y + d1 @ down.y)
        noise = 0.25 * ((u1**2) @ up.v + (d1**2) @ down.v)
        weight = 1.0 / np.diag(covariance)
        power, chance = float(np.sum(weight * slope**2)), float(np.sum(weight * noise))
        if power < (1.0 + MIN_INFORMATION) * chance:
            return np.nan, np.nan
        a = weight * slope / (power - chance)
        step = float(a @ left)
        # the curves' own errors are a guess where a bin is as wide as a line; what is left between them is not
        scale = (np.sum(weight * (left - step * slope) ** 2) + PRIOR_DOF) / (len(at) - 1 + PRIOR_DOF)
        error = float(np.sqrt(scale * (a @ covariance @ a)))
        value += float(np.clip(step, -0.1 * most, 0.1 * most))
        if abs(value) > most:
            return np.nan, np.nan
        if abs(step) < 1e-3 * error:
            return value, error
    return np.nan, np.nan
