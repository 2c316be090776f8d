"""Search for the minima of a kinetics fit: the same starts every time, the same bits at the end.

They are found from many starts with free amplitudes, and from each other with rise and decay exchanged: the product of
rise and decays has false minima that a better optimiser does not avoid. A weak Gaussian prior on the amplitudes (sd = 3
peaks) keeps huge cancelling amplitudes from winning by a fraction of a chi-square unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.science.kinetics._basis import KineticData
from pipeline.science.kinetics._projection_kernel import minimise, trace_model
from pipeline.science.kinetics._ties import refine_tied, with_ties
from pipeline.science.kinetics.problem import Problem
from pipeline.science.kinetics.starts import abridged, start_points, with_given, with_time_zero

__all__ = [
    "Solution",
    "baselines",
    "baselines_of",
    "canonical",
    "distinct",
    "model_traces",
    "polish",
    "refine",
    "solve",
]

FloatArray = NDArray[np.float64]

_LATTICE = 2.0**10
_MOST, _EXCHANGED = 6, 3
"""Minima that are fitted to all traces, and of which times are exchanged."""
_WITHIN = 36.0
"""Excess of the cost, in units of the errors' scale, up to which a minimum is worth fitting to all traces or exchanging times of: 6 sigma."""


class Solution(NamedTuple):
    """One minimum: theta = (t_d, irf_sigma, log taus), amplitudes (trace, term) in scaled units."""

    theta: FloatArray
    amplitudes: FloatArray
    signs: NDArray[np.int64]
    cost: float


def solve(problem: Problem) -> list[Solution]:
    """Distinct minima, lowest first; the first one is polished and the same bits from any start."""
    few, stands_for_all = abridged(problem)
    located = with_time_zero(problem)
    few = few._replace(data=few.data._replace(bounds=located.data.bounds), start=located.start)
    candidates = start_points(few)
    if any(one.is_start for one in problem.known):
        extra = candidates[0].copy()
        for p, one in enumerate(problem.known):
            if one.is_start and one.value is not None:
                extra[p] = np.log(one.value) if p > 1 else one.value
        candidates.append(with_given(located, extra))
    minima = _exchanged(few, _minima(few, candidates))
    if len(few.data.signal) < len(problem.data.signal):
        lowest = minima[0].cost
        reach = lowest + _WITHIN * max(lowest / few.data.signal.size, 1.0) if stands_for_all else np.inf
        # rounded, because linear algebra may give other bits on another machine
        minima = _minima(located, [_on_lattice(located, m.theta) for m in minima[:_MOST] if m.cost < reach])
    best = polish(located, minima[0])
    return [best, *minima[1:]]


def _exchanged(problem: Problem, minima: list[Solution]) -> list[Solution]:
    """Distinct minima, with those found from the low ones when rise and decays change places."""
    if len(problem.names) < 4:
        return minima
    reach = minima[0].cost + _WITHIN * max(minima[0].cost / problem.data.signal.size, 1.0)
    pairs = [(2, later) for later in range(3, len(problem.names))]
    starts = []
    for one in minima[:_EXCHANGED]:
        for first, second in pairs if one.cost < reach else ():
            theta = one.theta.copy()
            theta[[first, second]] = theta[[second, first]]
            starts.append(with_given(problem, theta))
    return distinct(problem, [*minima, *_minima(problem, starts)])


def _minima(problem: Problem, starts: Sequence[FloatArray]) -> list[Solution]:
    """Distinct minima from given starts, lowest first."""
    return distinct(problem, [refine(problem, s, thorough=True, tolerance=1e-3) for s in starts])


def distinct(problem: Problem, found: Sequence[Solution]) -> list[Solution]:
    """Return solutions that differ in cost or taus, lowest first."""
    minima: list[Solution] = []
    for reached in sorted(found, key=lambda m: m.cost):
        one = canonical(reached, problem)
        if not any(_same(one, known) for known in minima):
            minima.append(one)
    return minima


def refine(
    problem: Problem,
    start: FloatArray | Solution,
    *,
    fixed: int | None = None,
    thorough: bool = False,
    tolerance: float = 1e-8,
    max_iterations: int = 60,
) -> Solution:
    """Local minimum from a parameter vector or a solution, with parameter number `fixed` held.

    Where parameters are tied to others, see `refine_tied`, it takes five to ten times as long.
    """
    if isinstance(start, Solution):
        theta, amplitudes, signs = start.theta.copy(), start.amplitudes.copy(), start.signs.copy()
    else:
        theta = start.copy()
        amplitudes = np.zeros((len(problem.data.signal), problem.n_terms))
        signs = np.where(problem.data.allowed_sign == 0, 1, problem.data.allowed_sign)
        thorough = True
    amplitudes = np.ascontiguousarray(amplitudes)
    if problem.tied.any():
        cost = refine_tied(problem, theta, amplitudes, signs, held=fixed, thorough=thorough, tolerance=tolerance)
        return Solution(theta, amplitudes, signs, cost)
    free = problem.free.copy()
    if fixed is not None:
        free[fixed] = False
    cost = minimise(theta, amplitudes, signs, free, problem.data, thorough, max_iterations, tolerance)
    return Solution(theta, amplitudes, signs, float(cost))


def canonical(solution: Solution, problem: Problem) -> Solution:
    """Relabel an exact symmetry away: tau2 < tau3, unless what is said of either forbids it."""
    theta, amplitudes = solution.theta.copy(), solution.amplitudes.copy()
    if theta.size == 5 and amplitudes.shape[1] == 3 and theta[3] > theta[4] and problem.may_exchange(theta):
        theta[[3, 4]] = theta[[4, 3]]
        amplitudes[:, [1, 2]] = amplitudes[:, [2, 1]]
    return solution._replace(theta=theta, amplitudes=np.ascontiguousarray(amplitudes))


def polish(problem: Problem, solution: Solution) -> Solution:
    """Converge, round the parameters to a lattice, converge again: the second path no longer knows the first."""
    close = canonical(refine(problem, solution, thorough=True, tolerance=1e-10, max_iterations=200), problem)
    last = refine(problem, _on_lattice(problem, close.theta), thorough=True, tolerance=1e-14, max_iterations=200)
    # a rounded start in a narrow valley may slide into another basin; then the unrounded result stands
    best = canonical(last if last.cost <= close.cost + 1e-6 else close, problem)
    if problem.data.power == 2:
        flip = np.where(best.amplitudes[:, :1] < 0, -1.0, 1.0)
        best = best._replace(amplitudes=np.ascontiguousarray(best.amplitudes * flip))
    return best


def _on_lattice(problem: Problem, theta: FloatArray) -> FloatArray:
    rounded = np.where(problem.free, np.round(theta * _LATTICE) / _LATTICE, theta)
    return with_ties(problem, np.clip(rounded, *problem.data.bounds))


def _same(a: Solution, b: Solution) -> bool:
    return abs(a.cost - b.cost) < 0.05 and bool(np.all(np.abs(a.theta[2:] - b.theta[2:]) < 0.3))


def model_traces(problem: Problem, solution: Solution) -> FloatArray:
    """Model (trace, delay) on the fitted delays in the signal's unit, on its baseline."""
    model = trace_model(solution.theta, solution.amplitudes, solution.signs, problem.data)
    return np.asarray(problem.peak * (model + baselines(problem, solution)[:, None]), dtype=np.float64)


def baselines(problem: Problem, solution: Solution) -> FloatArray:
    """Constant (trace) under each trace in scaled units; zero where it has none."""
    data = problem.data
    model = trace_model(solution.theta, solution.amplitudes, solution.signs, data)
    return baselines_of(data, data.signal - model)


def baselines_of(data: KineticData, residual: FloatArray) -> FloatArray:
    """Constant (trace) that prior and residuals (trace, delay) agree on."""
    weight = np.square(data.weight)
    return np.asarray((weight * residual).sum(axis=1) / (weight.sum(axis=1) + data.offset), dtype=np.float64)
