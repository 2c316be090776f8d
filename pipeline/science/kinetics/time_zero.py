"""Time zero from delay scans: the t_d of the kinetic form, with an error that knows what the form leaves open.

Time zero is where the response begins in the kinetic form, not where the signal has reached half its height: the squared
form starts flat, and where amplitudes have different signs the first lobe may be hidden in the noise. What is lost there is
in the error: t_d is scanned over the whole onset, everything else is fitted at each of its values, from many starts, and
mean and standard deviation of exp(−χ²/2) over t_d are the result. Weak knowledge of what such samples do (times of the
field within a factor of two or three, a response of some 50 fs) keeps the fit from the rest of the parameter space.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_distribution

from pipeline.errors import DataError
from pipeline.science.kinetics._projection_kernel import screen
from pipeline.science.kinetics.intervals import covariance, error_scale
from pipeline.science.kinetics.parameters import Setting
from pipeline.science.kinetics.problem import Problem, build_problem
from pipeline.science.kinetics.search import Solution, model_traces, refine
from schemas.datasets.kinetic_fits import TIME_ZERO

__all__ = ["fit_time_zero"]

FloatArray = NDArray[np.float64]

RESPONSE = (0.05, 0.02)
"""What is known of the response [ps] where the config says nothing: σ and its error."""
TIMES = np.log([0.18, 0.35, 1.8])
"""Logarithms of the times [ps] that are expected …"""
TIMES_SD = np.array([0.6, 0.6, 0.8])
"""… and how far these may be off."""
ONSET = 20.0
"""χ² above which a point, or two neighbours of one sign, begins the signal."""
BEFORE, AFTER = 0.6, 0.15
"""How far time zero may lie from where the signal is first seen [ps]."""
SLOWEST, SLOWEST_REVERSED = 5.0, 1.5
"""A signal that takes longer [ps] from its onset to half its height is no step; on a reversed axis, the end of a slow decay
must not look like one."""
LARGEST_OFFSET = 0.3
"""An offset before the onset that is a larger part of the signal is signal itself."""
QUIET = 0.25
"""So long before the signal is seen [ps] a scan stands on its offset alone."""
REACH = 16.0
"""Excess of χ² up to which t_d is scanned."""
CHAINS = 8
CHANCE = 1e-3
"""Probability of χ² below which points before the onset are no constant."""
DISAGREE = 0.05
"""Probability of χ² between scans below which the error is enlarged."""
_START_TIMES = ((0.06, 0.12, 0.22, 0.4, 1.0), (0.1, 0.2, 0.4, 0.8), (0.7, 1.5, 3.5, 10.0))
_STARTS, _MOST_STARTS = 2, 24
"""Starts at each time zero, and of all these."""


class _Found(NamedTuple):
    value: float
    stderr: float
    model: FloatArray
    """Best curve on the delays of the scan, the offset included."""


def fit_time_zero(
    scans: xr.Dataset, *, power: int = 2, n_exponentials: int = 3, irf_sigma: Setting = "fit"
) -> xr.Dataset:
    """Fit time zero to delay scans, each by itself, and combine what they say.

    A scan counts where its signal begins after its first delay and rises within 5 ps. An offset before the onset that is
    more than three errors large is taken off. Scans that begin with a signal and end without one precede the pump: their
    axis runs the wrong way, and time zero is fitted on the reversed one.

    Parameters
    ----------
    scans
        Delay scans over (scan, delay): delta_xas and delta_xas_stderr [OD], NaN where a scan lacks a delay; delay [ps] from
        any zero; fluence and energy along scan.
    power, n_exponentials
        Of the kinetic form.
    irf_sigma
        σ of the response [ps]: fit, a number, or (value, standard error).

    Returns
    -------
    t_d [ps] with its standard error, enlarged by √(χ²/dof) where scans disagree; chi2, dof, p of that; is_reversed; along
    scan time_zero [ps] with its standard error, NaN where a scan has no step; fit (scan, delay) [OD].

    Raises
    ------
    DataError
        If no scan has a step.

    References
    ----------
    Murphy and van der Vaart, J. Am. Stat. Assoc. 95, 449 (2000), for the profile likelihood as a distribution.
    """
    ordered = scans.transpose("scan", "delay").sortby("delay")
    delay = ordered["delay"].values.astype(np.float64)
    signal, stderr = (ordered[n].values.astype(np.float64) for n in ("delta_xas", "delta_xas_stderr"))
    settings = {"power": power, "n_exponentials": n_exponentials, "irf_sigma": irf_sigma}
    found, is_reversed = _fit_all(delay, signal, stderr, settings, SLOWEST), False
    if not any(found):
        mirrored = _fit_all(-delay[::-1], signal[:, ::-1], stderr[:, ::-1], settings, SLOWEST_REVERSED)
        found, is_reversed = [one and _mirrored(one) for one in mirrored], any(mirrored)
    if not any(found):
        raise DataError(
            f"no step in {len(signal)} delay scan{'' if len(signal) == 1 else 's'}: no scan has delays without a signal, "
            "then a rise within 5 ps"
        )
    nothing = _Found(np.nan, np.nan, np.full(delay.size, np.nan))
    rows = [one or nothing for one in found]
    value, error = (np.array([getattr(one, name) for one in rows]) for name in ("value", "stderr"))
    with_step = np.isfinite(value)
    weight = np.where(with_step, 1.0 / np.where(with_step, error, 1.0) ** 2, 0.0)
    mean = float(np.sum(weight * np.where(with_step, value, 0.0)) / weight.sum())
    chi2, dof = float(np.sum(weight * np.where(with_step, value - mean, 0.0) ** 2)), int(with_step.sum()) - 1
    p = float(chi2_distribution.sf(chi2, dof)) if dof else 1.0
    scale = chi2 / dof if p < DISAGREE else 1.0
    result = xr.Dataset(
        {
            "t_d": mean,
            "t_d_stderr": float(np.sqrt(scale / weight.sum())),
            "chi2": chi2,
            "dof": dof,
            "p": p,
            "is_reversed": is_reversed,
            "time_zero": ("scan", value),
            "time_zero_stderr": ("scan", error),
            "fit": (("scan", "delay"), np.stack([one.model for one in rows])),
        },
        coords={"delay": delay, **{n: ("scan", ordered[n].values) for n in ("fluence", "energy")}},
    )
    return TIME_ZERO.describe(result)


def _mirrored(one: _Found) -> _Found:
    return _Found(-one.value, one.stderr, one.model[::-1])


def _fit_all(
    delay: FloatArray, signal: FloatArray, stderr: FloatArray, settings: Mapping[str, Any], slowest: float
) -> list[_Found | None]:
    return [_fit(delay, *row, settings, slowest) for row in zip(signal, stderr, strict=True)]


def _fit(
    delay: FloatArray, signal: FloatArray, stderr: FloatArray, settings: Mapping[str, Any], slowest: float
) -> _Found | None:
    """Return time zero of one scan, or None where there is no step."""
    usable = np.isfinite(signal) & np.isfinite(stderr) & (stderr > 0)
    t, y, sigma = delay[usable], signal[usable], stderr[usable]
    if len(t) < 6:
        return None
    offset, uncertain = _offset(t, y, sigma)
    at = _onset((y - offset) / sigma)
    if at is None or at == 0:
        return None
    size = np.abs(y - offset)
    half = t[at:][size[at:] > 0.5 * size.max()]
    if not len(half) or half[0] - t[at] > slowest:
        return None
    reach = t[at] - BEFORE - 0.5 * (half[0] - t[at]), t[at] + AFTER
    try:
        problem = _prepared(t, y - offset, sigma, reach, settings)
    except DataError:
        return None
    minima = _minima(problem)
    if not reach[0] < minima[0].theta[0] < reach[1]:
        return None
    value, error = _moments(problem, minima)
    if uncertain:
        signal_moved = problem.data.signal - uncertain / problem.peak
        moved = problem._replace(data=problem.data._replace(signal=signal_moved))
        error = float(np.hypot(error, refine(moved, minima[0], thorough=True).theta[0] - minima[0].theta[0]))
    model = np.full(delay.size, np.nan)
    model[usable] = model_traces(problem, minima[0])[0] + offset
    return _Found(value, error, model)


def _offset(t: FloatArray, y: FloatArray, sigma: FloatArray) -> tuple[float, float]:
    """Return the constant that a scan stands on and its error; zeros where there is none to be seen before the onset."""
    weight = sigma**-2.0
    total = np.cumsum(weight)
    before = np.cumsum(weight * y)[:-1] / total[:-1]
    at = _onset((y[1:] - before) / np.sqrt(sigma[1:] ** 2 + 1.0 / total[:-1]))
    early = t < t[1 + at] - QUIET if at is not None else np.zeros(t.shape, bool)
    if not early.any():
        return 0.0, 0.0
    mean, error = float(np.average(y[early], weights=weight[early])), float(weight[early].sum() ** -0.5)
    scatter = float(np.sum(weight[early] * (y[early] - mean) ** 2))
    is_constant = chi2_distribution.sf(scatter, max(int(early.sum()) - 1, 1)) > CHANCE
    is_small = abs(mean) < LARGEST_OFFSET * np.abs(y - mean).max()
    return (mean, error) if abs(mean) > 3 * error and is_constant and is_small else (0.0, 0.0)


def _onset(pull: FloatArray) -> int | None:
    """Return the first point that stands out of the noise, alone or with its neighbour, or None."""
    alone = pull**2 > ONSET
    left, right = pull[:-1], pull[1:]
    alike = (left * right > 0) & (np.minimum(np.abs(left), np.abs(right)) > 2) & (left**2 + right**2 > ONSET)
    seen = np.flatnonzero(alone | np.append(alike, False))
    return int(seen[0]) if len(seen) else None


def _prepared(
    t: FloatArray, y: FloatArray, sigma: FloatArray, reach: tuple[float, float], settings: Mapping[str, Any]
) -> Problem:
    """Return the fit of one scan with time zero in reach, and with what is known of response and times."""
    known = RESPONSE if settings["irf_sigma"] == "fit" else settings["irf_sigma"]
    problem = build_problem(t, y[None], sigma[None], **{**settings, "irf_sigma": known})
    n = len(problem.names) - 2
    prior, bounds = problem.data.prior.copy(), problem.data.bounds.copy()
    prior[:, 2:] = TIMES[:n], 1.0 / TIMES_SD[:n]
    bounds[:, 0] = reach
    bounds[:, 2:] = np.log([[0.02], [max(50.0, 4 * float(np.ptp(t)))]])
    start = np.concatenate([[reach[1] - AFTER], problem.start[1:2], TIMES[:n]])
    return problem._replace(data=problem.data._replace(prior=prior, bounds=bounds), start=start)


def _minima(problem: Problem) -> list[Solution]:
    """Return distinct minima, lowest first, from the best times at each time zero."""
    n = len(problem.names) - 2
    times = [row for row in product(*_START_TIMES[:n]) if n < 3 or row[2] > row[1]]
    low, high = problem.data.bounds[:, 0]
    zeros = np.arange(low + 0.05, high, 0.05)
    starts = np.array([[zero, problem.start[1], *np.log(row)] for zero in zeros for row in times])
    costs = screen(starts, problem.data)
    costs += np.sum(((starts - problem.data.prior[0]) * problem.data.prior[1]) ** 2, axis=1)
    chosen: list[int] = []
    for zero in zeros:
        own: list[int] = []
        here = np.flatnonzero(starts[:, 0] == zero)
        for i in here[np.argsort(costs[here], kind="stable")]:
            if all(np.linalg.norm(starts[i, 2:] - starts[k, 2:]) > 0.8 for k in own):
                own.append(int(i))
            if len(own) == _STARTS:
                break
        chosen += own
    chosen = sorted(chosen, key=lambda i: float(costs[i]))[:_MOST_STARTS]
    found = [refine(problem, starts[i], thorough=True, tolerance=1e-3) for i in chosen]
    minima: list[Solution] = []
    for one in sorted(found, key=lambda m: m.cost):
        if not any(abs(one.cost - m.cost) < 0.05 and abs(one.theta[0] - m.theta[0]) < 5e-3 for m in minima):
            minima.append(one)
    return minima


def _moments(problem: Problem, minima: list[Solution]) -> tuple[float, float]:
    """Return mean and standard deviation of t_d under exp(−χ²/2), everything else being fitted at each t_d."""
    best = minima[0]
    scale = error_scale(problem, best)
    step = float(np.clip(0.4 * np.sqrt(scale * covariance(problem, best).theta[0, 0]), 1e-3, 0.01))
    cost: dict[int, float] = {}
    for begin in [m for m in minima if m.cost - best.cost < REACH * scale][:CHAINS]:
        middle = round(begin.theta[0] / step)
        for direction in (1, -1):
            one, place = begin, middle + min(direction, 0)
            low, high = problem.data.bounds[:, 0]
            while low <= place * step <= high:
                theta = one.theta.copy()
                theta[0] = place * step
                one = refine(problem, one._replace(theta=theta), fixed=0, tolerance=1e-3, max_iterations=40)
                cost[place] = min(one.cost, cost.get(place, np.inf))
                if one.cost - best.cost > REACH * scale:
                    break
                place += direction
    # a minimum at the end of the reach may lie between two places
    times = np.array([best.theta[0], *(step * place for place in cost)])
    weight = np.exp(-0.5 * (np.array([best.cost, *cost.values()]) - best.cost) / scale)
    mean = float(np.average(times, weights=weight))
    return mean, float(np.sqrt(np.average((times - mean) ** 2, weights=weight)))
