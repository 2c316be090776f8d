"""How well a kinetics fit knows its parameters: covariance, profile intervals, design bound, parametric bootstrap.

An interval of tau is found by fixing log tau, minimising over everything else, and asking where the cost exceeds its
minimum by the quantile of chi-square with one degree of freedom. Where it never does before the bound of the search, the
interval is open: 0 or infinity. Symmetric errors in linear tau are not used: they cover 70 % where 95 % is promised.

The errors of the data are taken at their word as long as chi-square is acceptable; one that is not widens all errors by
the root of the reduced chi-square. Nothing shortens them: dividing by a chi-square that is low by chance undercovers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import f as f_distribution

from pipeline.science.kinetics._projection_kernel import normal_matrix, trace_model, whiten
from pipeline.science.kinetics._ties import tangent
from pipeline.science.kinetics.problem import Problem
from pipeline.science.kinetics.search import Solution, baselines, baselines_of, canonical, refine

__all__ = [
    "Covariance",
    "Refit",
    "bootstrap_parameters",
    "chi_square",
    "correlation",
    "covariance",
    "describes",
    "design_bound",
    "error_scale",
    "has_signal",
    "inverse",
    "profile_intervals",
    "refit_replicates",
    "stderr_from_interval",
]

FloatArray = NDArray[np.float64]
LEVELS = (0.6827, 0.95, 0.9973)
"""The last one serves the verdict, and the standard error where an interval is open."""
_NORMAL = np.sqrt(chi2_distribution.ppf(LEVELS, 1))
_CHANCE = 1e-4
_ACCEPTABLE = 0.05
"""Probability of chi-square below which the errors of the data are not taken at their word."""
_MISFIT = 1e-3
"""Probability of chi-square below which a form does not describe the data."""
_UNKNOWN = 1e12
"""Variance of what the data do not touch, in scaled units."""
_ROUNDS = 3
"""How often ends are sought again from points that were passed beyond them."""
_TOLERANCE = 0.03
"""Accuracy of a crossing in units of sqrt(delta cost), about 3 % of a standard error."""


Refit = Callable[[Problem, Solution, int, float], Solution]
"""Problem, a solution near by, a parameter's number and value → the solution with that parameter held there."""


class Covariance(NamedTuple):
    """Covariance of theta (parameter, parameter), and of theta and A of every trace (trace, fitted, fitted)."""

    theta: FloatArray
    traces: FloatArray


def chi_square(problem: Problem, solution: Solution) -> float:
    """Sum of squared weighted residuals, priors left out."""
    return float(np.sum(np.square(problem.data.weight * (problem.data.signal - _model(problem, solution)))))


def error_scale(problem: Problem, solution: Solution) -> float:
    """Factor by which the variance of the data is widened: the reduced chi-square where it is not acceptable, else 1."""
    chi2 = chi_square(problem, solution)
    return chi2 / problem.dof if chi2_distribution.sf(chi2, problem.dof) < _ACCEPTABLE else 1.0


def describes(chi2: float, dof: float) -> bool:
    """Whether chance allows this chi-square (probability above 1 in 1000), so that the form describes the data."""
    return bool(chi2_distribution.sf(chi2, dof) > _MISFIT)


def has_signal(problem: Problem, chi2: float) -> bool:
    """Whether the fit beats a mere baseline, by an F-test at a level that a search over many starts needs."""
    data = problem.data
    flat = data.signal - baselines_of(data, data.signal)[:, None]
    improvement = float(np.sum(np.square(data.weight * flat))) - chi2
    n_fitted = int(problem.free.sum()) + problem.n_amplitudes
    ratio = improvement / n_fitted / max(chi2 / problem.dof, 1e-300)
    return bool(f_distribution.sf(ratio, n_fitted, problem.dof) < _CHANCE)


def covariance(problem: Problem, solution: Solution, scale: float = 1.0) -> Covariance:
    """Gauss-Newton covariance at a solution times `scale`, fixed parameters with zero variance."""
    data = problem.data
    n_par, n_term, n_trace = solution.theta.size, solution.amplitudes.shape[1], len(data.signal)
    hessian, blocks = _normal(problem, solution)
    theta = _theta_covariance(problem, solution, hessian)
    traces = np.zeros((n_trace, n_par + n_term, n_par + n_term))
    traces[:, :n_par, :n_par] = theta
    for e in range(n_trace):
        inner = inverse(blocks[e, n_par:-1, n_par:-1], np.ones(n_term, dtype=bool))
        gain = -inner @ blocks[e, n_par:-1, :n_par]
        traces[e, n_par:, :n_par] = gain @ theta
        traces[e, :n_par, n_par:] = traces[e, n_par:, :n_par].T
        traces[e, n_par:, n_par:] = inner + gain @ theta @ gain.T
    return Covariance(scale * theta, scale * traces)


def correlation(covariance: FloatArray) -> FloatArray:
    """Correlations from covariances (..., row, column); zero where there is no or an infinite variance, one on the diagonal."""
    sd = np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1))
    sharpness = np.where(np.isfinite(sd) & (sd > 0), 1.0 / np.where(sd > 0, sd, 1.0), 0.0)
    with np.errstate(invalid="ignore"):
        scaled = np.nan_to_num(covariance * sharpness[..., :, None] * sharpness[..., None, :])
    diagonal = np.arange(sd.shape[-1])
    scaled[..., diagonal, diagonal] = 1.0
    return np.asarray(scaled, np.float64)


def design_bound(problem: Problem, solution: Solution) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Cramer-Rao bound of this design without the amplitude prior.

    Returns
    -------
    standard deviations of theta, and of the principal directions in log tau (ascending) with the directions as columns.
    """
    bare = problem._replace(data=problem.data._replace(ridge=np.zeros_like(problem.data.ridge)))
    matrix = _theta_covariance(problem, solution, _normal(bare, solution)[0])
    variances, directions = np.linalg.eigh(matrix[2:, 2:])
    return np.sqrt(np.diag(matrix)), np.sqrt(np.maximum(variances, 0.0)), directions


def profile_intervals(
    problem: Problem,
    minima: list[Solution],
    scale: float,
    errors: FloatArray,
    *,
    accept_lower: bool = False,
    refit: Refit | None = None,
) -> tuple[FloatArray, Solution | None]:
    """Confidence intervals of theta at 68.27, 95 and 99.73 %, dims (level, parameter, bound), open ends as +-inf.

    Parameters
    ----------
    problem, minima
        The problem and its minima, lowest first; an interval is the union over all that the level allows.
    scale
        Factor of the variance of the data, see `error_scale`.
    errors
        Rough standard deviations of theta, the first step outwards.
    accept_lower
        Go on where the profile meets a lower minimum (data without a signal have no lowest one).
    refit
        What fits everything else anew; None: the product form.

    Returns
    -------
    intervals, and a lower minimum if the profile met one (the intervals are then not valid).
    """
    thresholds, again = np.sqrt(scale) * _NORMAL, refit or _refit_at
    best, seen = minima[0], list(minima[1:])
    out = np.empty((len(LEVELS), best.theta.size, 2))
    out[...] = best.theta[:, None]
    ends = [(int(p), side, 2 * side - 1) for p in np.flatnonzero(problem.free | problem.tied) for side in (0, 1)]
    for p, side, direction in ends:
        out[:, p, side], lower, passed = _profile_outward(
            problem, best, best.cost, p, direction, thresholds, float(errors[p]), again
        )
        if lower is not None and not accept_lower:
            return out, lower
        seen += passed
    # a valley may turn back in one time while it goes on in another: who walks along the other one passes what lies outside
    for _ in range(_ROUNDS):
        before = out.copy()
        for (p, side, direction), level in product(ends, range(len(LEVELS))):
            end, reach = out[level, p, side], best.cost + thresholds[level] ** 2
            outside = [
                s for s in seen if s.cost < reach and direction * (s.theta[p] - end) > _TOLERANCE * float(errors[p])
            ]
            if not outside:
                continue
            farthest = max(outside, key=lambda s, p=p, d=direction: float(d * s.theta[p]))  # type: ignore[misc]
            crossings, lower, passed = _profile_outward(
                problem, farthest, best.cost, p, direction, thresholds[level:], float(errors[p]), again
            )
            if lower is not None and not accept_lower:
                return out, lower
            seen += passed
            out[level:, p, side] = direction * np.maximum(direction * out[level:, p, side], direction * crossings)
        if (out == before).all():
            break
    return out, None


def stderr_from_interval(value: float, ends: FloatArray, wald: float, reach: FloatArray) -> float:
    """One number for the error: half the interval's width at 1, 2 and 3 sigma, whichever says most, per sigma.

    In a regular problem the three agree and pulls have width 1; a second minimum shows in the wider ones only. Where an
    end is open no single number serves, and the widest of the linear estimate and of the intervals' sides is taken.

    Parameters
    ----------
    value, wald
        The value and its linear standard error.
    ends
        Interval ends, dims (level, bound) as from `profile_intervals`, in the unit of the value.
    reach
        Lower and upper limit of the search, which stand for open ends.
    """
    if np.isfinite(ends).all() and reach[0] < ends[2, 0] and ends[2, 1] < reach[1]:
        return float((0.5 * (ends[:, 1] - ends[:, 0]) / _NORMAL).max())
    closed = np.where(np.isneginf(ends) | (ends < reach[0]), reach[0], np.where(ends > reach[1], reach[1], ends))
    sides = np.abs(closed - value)
    # an end that is open at 99.7 % only would make the error as large as the search range
    sides[2] = np.where(np.isfinite(ends[2]) | ~np.isfinite(ends[1]), sides[2], np.minimum(sides[2], 3.0 * sides[1]))
    return float(max(wald, (sides / _NORMAL[:, None]).max()))


def bootstrap_parameters(
    problem: Problem, minima: list[Solution], *, n_draws: int, rng: np.random.Generator, scale: float = 1.0
) -> FloatArray:
    """Refits of simulated data around the best fit, dims (draw, parameter) of theta.

    Percentiles of these are intervals; reflected ("basic") ones are not, they cover 40 to 65 % where 68 % is promised.
    """
    best = minima[0]
    data = problem.data
    truth = _model(problem, best)
    noise = np.sqrt(scale) * np.where(data.weight > 0, 1.0 / np.where(data.weight > 0, data.weight, 1.0), 0.0)
    draws = (problem.peak * (truth + noise * rng.standard_normal(truth.shape)) for _ in range(n_draws))
    return refit_replicates(problem, minima, draws)


def refit_replicates(problem: Problem, minima: list[Solution], replicates: Iterable[FloatArray]) -> FloatArray:
    """Refits of replicates of the data (trace, delay), in the signal's unit; dims (draw, parameter) of theta.

    Each starts from the three lowest minima of the data themselves: a replicate may prefer another than they do.
    """
    data = problem.data
    draws = []
    for replicate in replicates:
        signal = np.where((data.weight > 0) & np.isfinite(replicate), replicate / problem.peak, 0.0)
        weight = np.where(np.isfinite(replicate), data.weight, 0.0)
        simulated = problem._replace(data=data._replace(signal=signal, weight=weight))
        fits = [refine(simulated, m, thorough=True, tolerance=1e-6) for m in minima[:3]]
        draws.append(canonical(min(fits, key=lambda s: s.cost), problem).theta)
    return np.array(draws).reshape(len(draws), minima[0].theta.size)


def _profile_outward(
    problem: Problem,
    begin: Solution,
    base: float,
    p: int,
    direction: int,
    thresholds: FloatArray,
    step: float,
    refit: Refit,
) -> tuple[FloatArray, Solution | None, list[Solution]]:
    """Where sqrt(cost - base) crosses each threshold, going one way from `begin` with everything else refitted.

    Returns the crossings, a lower minimum if there was one, and the points that were passed.
    """
    bound = problem.data.bounds[0 if direction < 0 else 1, p]
    width = {0: 0.5 * problem.spacing, 1: 0.5 * problem.spacing}.get(p, 0.5)
    stride = float(np.clip(step if np.isfinite(step) else width, 1e-6, 2.0 * width))
    known: list[tuple[float, float, Solution]] = [(float(begin.theta[p]), np.sqrt(max(begin.cost - base, 0.0)), begin)]
    crossings = np.full(len(thresholds), direction * np.inf)
    lower: Solution | None = None
    for level, threshold in enumerate(thresholds):
        while (
            known[-1][1] < threshold
            and lower is None
            and direction * (bound - known[-1][0]) > 1e-12
            and len(known) < 60
        ):
            x = _next(known, threshold, direction, stride, bound)
            found = refit(problem, known[-1][2], p, x)
            if found.cost < base - 1e-3 - 1e-9 * base:
                lower = found
            known.append((x, float(np.sqrt(max(found.cost - base, 0.0))), found))
        if known[-1][1] < threshold:
            break
        if lower is not None:
            break
        crossings[level] = _root(problem, known, p, threshold, refit)
    return crossings, lower, [canonical(one, problem) for _, _, one in known[1:]]


def _next(
    known: list[tuple[float, float, Solution]], threshold: float, direction: int, stride: float, bound: float
) -> float:
    """A step outwards that should just pass the threshold, by the slope so far."""
    x, z, _ = known[-1]
    step = stride
    if len(known) > 1:
        x0, z0, _ = known[-2]
        slope = (z - z0) / abs(x - x0)
        step = float(np.clip(1.1 * (threshold - z) / max(slope, 1e-300), 0.1 * stride, 2.5 * abs(x - x0)))
        step = min(step, 4.0 * stride)
    x += direction * step
    return min(x, bound) if direction > 0 else max(x, bound)


def _root(
    problem: Problem, known: list[tuple[float, float, Solution]], p: int, threshold: float, refit: Refit
) -> float:
    """Crossing between the last point below and the first point above, by regula falsi with bisection as fallback."""
    above = next(i for i in range(len(known)) if known[i][1] >= threshold)
    if above == 0:
        return known[0][0]
    (xa, za, sa), (xb, zb, _) = known[above - 1], known[above]
    for trial in range(12):
        if zb - threshold < _TOLERANCE or threshold - za < _TOLERANCE or abs(xb - xa) < 1e-9:
            break
        fraction = (threshold - za) / (zb - za) if trial % 3 < 2 else 0.5
        x = xa + float(np.clip(fraction, 0.05, 0.95)) * (xb - xa)
        found = refit(problem, sa, p, x)
        z = float(np.sqrt(max(found.cost - known[0][2].cost + known[0][1] ** 2, 0.0)))
        known.insert(above, (x, z, found))
        if z >= threshold:
            xb, zb = x, z
        else:
            xa, za, sa = x, z, found
            above += 1
    return float(xa + (xb - xa) * (threshold - za) / max(zb - za, 1e-300))


def _refit_at(problem: Problem, near: Solution, p: int, x: float) -> Solution:
    theta = near.theta.copy()
    theta[p] = x
    return refine(problem, near._replace(theta=theta), fixed=p, tolerance=3e-4, max_iterations=40)


def _normal(problem: Problem, solution: Solution) -> tuple[FloatArray, FloatArray]:
    """Normal matrix over theta, and of every trace over theta, its amplitudes and the residual."""
    (theta, amplitudes, signs, _), data = solution, problem.data
    size = theta.size + amplitudes.shape[1] + 1
    phi, blocks = np.empty((data.ridge.size, data.delay.size)), np.empty((len(data.signal), size, size))
    residual = data.weight * (data.signal - trace_model(theta, amplitudes, signs, data))
    for row, weight, precision in zip(residual, data.weight, data.offset.tolist(), strict=True):
        whiten(row, weight, precision)
    d_phi = np.empty((theta.size, *phi.shape))
    return normal_matrix(theta, amplitudes, signs, data, phi, d_phi, residual, blocks)[0], blocks


def _model(problem: Problem, solution: Solution) -> FloatArray:
    """Fitted traces (trace, delay) on their baselines, in scaled units."""
    model = trace_model(solution.theta, solution.amplitudes, solution.signs, problem.data)
    return np.asarray(model + baselines(problem, solution)[:, None], dtype=np.float64)


def _theta_covariance(problem: Problem, solution: Solution, hessian: FloatArray) -> FloatArray:
    """Covariance of theta from its normal matrix; what is tied varies with what its formula names."""
    if not problem.tied.any():
        return inverse(hessian, problem.free)
    along = tangent(problem, solution.theta)
    return np.asarray(along @ inverse(along.T @ hessian @ along, problem.free) @ along.T, dtype=np.float64)


def inverse(
    matrix: FloatArray,
    free: NDArray[np.bool_],
    *,
    least: float = 1e-12,
    smallest: float = 1e-13,
    unknown: float = _UNKNOWN,
) -> FloatArray:
    """Inverse of a normal matrix over the free parameters, zero for the others.

    Parameters
    ----------
    matrix, free
        Normal matrix (parameter, parameter), and which parameters are fitted.
    least
        A parameter whose diagonal element is not above this has the variance `unknown`.
    smallest
        Lower limit of the eigenvalues of the matrix scaled to a unit diagonal.
    """
    out = np.zeros_like(matrix)
    diagonal = np.diag(matrix)
    known = free & (diagonal > least)
    out[free & ~known, free & ~known] = unknown
    index = np.flatnonzero(known)
    scale = np.sqrt(diagonal[index])
    values, vectors = np.linalg.eigh(matrix[np.ix_(index, index)] / np.outer(scale, scale))
    values = np.maximum(values, smallest)
    out[np.ix_(index, index)] = (vectors / values) @ vectors.T / np.outer(scale, scale)
    return out
