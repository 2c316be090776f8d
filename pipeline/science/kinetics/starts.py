"""Where the search for the lowest minimum begins: few traces that stand for all, a bracket of time zero, a grid of taus."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
from numpy.typing import NDArray

from pipeline.science.kinetics._basis import KineticData
from pipeline.science.kinetics._projection_kernel import screen
from pipeline.science.kinetics._ties import with_ties
from pipeline.science.kinetics.problem import Problem

__all__ = ["abridged", "screened", "with_given", "with_time_zero"]

FloatArray = NDArray[np.float64]

_STARTS = 6
_FEW = 6
_DISTANCE = 0.85
_ALIKE = 0.3
"""Largest logarithm by which weights may differ from a product of trace and delay and still count as alike."""
_ITERATIONS = 3


def abridged(problem: Problem) -> tuple[Problem, bool]:
    """Return the problem with few traces for the search, and whether these stand for all of them.

    Without the square, traces of alike weights may be rotated among each other: the amplitudes follow linearly, and the
    cost of all is that of their principal combinations plus what no times would change much. Otherwise the strongest
    traces are taken.
    """
    data = problem.data
    if len(data.signal) <= _FEW:
        return problem, False
    measured = (data.weight > 0).any(axis=1)
    weight = data.weight[measured]
    if data.power == 1 and (weight > 0).all():
        common = np.exp(np.log(weight).mean(axis=0))
        ratio = weight / common
        if np.abs(np.log(ratio / ratio.mean(axis=1, keepdims=True))).max() < _ALIKE:
            few = _with_traces(problem, _principal(data.weight * data.signal) / common, common)
            # each combination stands on a constant of its own, known as well as those of most traces
            offset = np.full(_FEW, np.median(data.offset[measured] / np.square(ratio.mean(axis=1))))
            return few._replace(data=few.data._replace(offset=offset)), True
    strength = np.sum(np.square(data.signal * data.weight), axis=1)
    chosen = np.sort(np.argsort(-strength, kind="stable")[:_FEW])
    few = _with_traces(problem, data.signal[chosen], data.weight[chosen])
    of_chosen = {"allowed_sign": data.allowed_sign[chosen], "offset": data.offset[chosen]}
    return few._replace(data=few.data._replace(**of_chosen)), False


def _principal(pulls: FloatArray) -> FloatArray:
    """The strongest orthogonal combinations (few, delay) of the rows, by subspace iteration from the strongest rows."""
    strength = np.sum(np.square(pulls), axis=1)
    rows = pulls[np.sort(np.argsort(-strength, kind="stable")[:_FEW])]
    for _ in range(_ITERATIONS):
        directions, _ = np.linalg.qr(pulls @ rows.T)
        rows = directions.T @ pulls
    return np.asarray(rows, dtype=np.float64)


def _with_traces(problem: Problem, signal: FloatArray, weight: FloatArray) -> Problem:
    data = problem.data._replace(
        signal=np.ascontiguousarray(signal),
        weight=np.ascontiguousarray(np.broadcast_to(weight, signal.shape)),
        allowed_sign=np.ones(len(signal), dtype=np.int64),
    )
    return problem._replace(data=data)


def with_time_zero(problem: Problem, strong: KineticData) -> Problem:
    """Bracket a free time zero by a scan over the delays with a few fixed shapes, on the traces of `strong`."""
    data = problem.data
    if not problem.free[0]:
        return problem
    begin = problem.start.copy()
    if data.prior[1, 0] == 0.0:
        power = np.sum(np.square(strong.signal * strong.weight), axis=0)
        n_before_peak = int(np.argmax(power)) + 1
        near = np.unique(data.delay[: n_before_peak + 1])
        times = np.sort(np.concatenate([[near[0] - problem.spacing], near, 0.5 * (near[1:] + near[:-1])]))
        times = times[:: max(len(times) // 40, 1)]
        shapes = np.log(_shapes(problem))
        starts = np.concatenate([np.column_stack([t0 * np.ones(len(shapes)), shapes]) for t0 in times])
        starts = with_given(problem, np.ascontiguousarray(np.insert(starts, 1, begin[1], axis=1)))
        costs = screen(starts, strong)
        begin[0] = starts[int(np.argmin(costs)), 0]
        reach = max(0.3, 3.0 * problem.spacing, 6.0 * begin[1])
    else:
        reach = max(8.0 / data.prior[1, 0], 1e-6)
    bounds = data.bounds.copy()
    bounds[:, 0] = max(begin[0] - reach, bounds[0, 0]), min(begin[0] + reach, bounds[1, 0])
    return problem._replace(data=data._replace(bounds=bounds), start=begin)


def with_given(problem: Problem, starts: FloatArray) -> FloatArray:
    """Return starts (..., parameter) that obey what is said of the parameters: held values, bounds, formulas."""
    held = ~problem.free & ~problem.tied
    return with_ties(problem, np.where(held, problem.start, np.clip(starts, *problem.data.bounds)))


def _shapes(problem: Problem) -> FloatArray:
    """Three sets of taus [ps] for the scan of time zero."""
    h, n = problem.spacing, len(problem.start) - 2
    span = float(problem.data.delay[-1] - problem.data.delay[0])
    middle, late = np.sqrt(h * span) * 0.3, np.sqrt(h * span) * 3.0
    return np.array([[rise, max(middle, 2 * h), late][:n] for rise in (h, 4 * h, 16 * h)])


def screened(problem: Problem) -> list[FloatArray]:
    """The best grid points that lie apart, as starts."""
    n_tau = problem.start.size - 2
    span = float(problem.data.delay[-1] - problem.data.delay[0])
    lowest, highest = np.exp(problem.data.bounds[:, 2:])
    rises = np.geomspace(1.5 * problem.spacing, 0.05 * span, 5)
    decays = np.geomspace(2.0 * problem.spacing, 0.5 * span, 6)
    later = list((permutations if n_tau == 3 and not problem.is_symmetric else combinations)(decays, n_tau - 1))
    taus = np.array([[rise, *rest] for rise in rises for rest in later])
    shifts = (-1.0, 0.0, 1.0) if problem.free[0] and problem.data.prior[1, 0] == 0.0 else (0.0,)
    grid = []
    for shift in shifts:
        block = np.empty((len(taus), 2 + n_tau))
        block[:, 0] = problem.start[0] + 0.5 * shift * max(problem.spacing, problem.start[1])
        block[:, 1] = problem.start[1]
        block[:, 2:] = np.log(np.clip(taus, lowest, highest))
        grid.append(block)
    starts = np.ascontiguousarray(with_given(problem, np.concatenate(grid)))
    costs = screen(starts, problem.data)
    chosen: list[FloatArray] = []
    for i in np.argsort(costs, kind="stable"):
        if all(np.linalg.norm(starts[i, 2:] - c[2:]) > _DISTANCE for c in chosen):
            chosen.append(starts[i])
        if len(chosen) == _STARTS:
            break
    return chosen
