"""Where the search for the lowest minimum begins: few traces that stand for all, a bracket of time zero, sets of taus."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_distribution

from pipeline.science.kinetics._basis import KineticData
from pipeline.science.kinetics._ties import with_ties
from pipeline.science.kinetics.problem import Problem

__all__ = ["abridged", "start_points", "with_given", "with_time_zero"]

FloatArray = NDArray[np.float64]

_FEW = 6
_CHANCE = 1e-5
"""Probability of χ² below which a delay, or two neighbours, begin the signal."""
_STARTS = (
    *((0, 1, 3, 4), (0, 2, 2, 4), (4, 3, 2, 3), (0, 0, 2, 3), (0, 3, 2, 5), (0, 1, 0, 5), (4, 0, 0, 5), (0, 3, 1, 3)),
    *((0, 2, 0, 3), (4, 3, 4, 5), (8, 1, 0, 4), (8, 3, 3, 4), (8, 1, 2, 3), (0, 2, 1, 4), (0, 3, 3, 5), (13, 0, 0, 5)),
    *((0, 1, 0, 4), (0, 2, 1, 2), (13, 1, 0, 4), (8, 2, 4, 5), (0, 0, 1, 5), (0, 3, 1, 2), (8, 3, 2, 4), (4, 0, 1, 2)),
    *((13, 2, 4, 5), (0, 2, 0, 5), (0, 1, 0, 1), (0, 1, 0, 3), (4, 0, 1, 4), (0, 3, 2, 4), (4, 0, 2, 3), (0, 3, 2, 3)),
    *(
        (26, 0, 0, 4),
        (26, 0, 2, 4),
        (26, 1, 2, 4),
        (26, 2, 1, 4),
        (26, 3, 1, 3),
        (26, 3, 3, 5),
        (36, 1, 1, 4),
        (36, 3, 1, 4),
    ),
)
"""Steps that time zero lies before the onset, and places of the three taus on scales of rises and decays. Of all 240 such
starts these lead most often to the lowest minimum of traces with random times, amplitudes and signs: one of them does in
98 of 100 that they were not chosen on. The last ones are for signals whose beginning is hidden in the noise."""
_SLOW = 8.0
"""Steps from the onset to half the height that are many."""
_BEFORE_ALL = 0.3
"""So far before the first delay [ps] time zero may lie."""
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
    chosen = _strongest(data)
    few = _with_traces(problem, data.signal[chosen], data.weight[chosen])
    own = few.data._replace(allowed_sign=data.allowed_sign[chosen], offset=data.offset[chosen])
    return few._replace(data=own), False


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


def with_time_zero(problem: Problem) -> Problem:
    """Bracket a free time zero around the onset of the signal; in the squared form it may lie well before it."""
    data = problem.data
    if not problem.free[0]:
        return problem
    begin = problem.start.copy()
    if data.prior[1, 0] == 0.0:
        begin[0], half = _onset(data)
        after = max(0.3, 3.0 * problem.spacing, 6.0 * begin[1])
        # what comes first may be hidden in the noise, but not all of it before the first delay
        low = begin[0] - max(after, min(40.0 * problem.spacing, begin[0] - data.delay[0] + _BEFORE_ALL))
        high = half + after
    else:
        reach = max(8.0 / data.prior[1, 0], 1e-6)
        low, high = begin[0] - reach, begin[0] + reach
    bounds = data.bounds.copy()
    bounds[:, 0] = max(low, bounds[0, 0]), min(high, bounds[1, 0])
    return problem._replace(data=data._replace(bounds=bounds), start=begin)


def _onset(data: KineticData) -> tuple[float, float]:
    """Return the delays [ps] at which the strongest traces leave the constant that they began with, and reach half their height."""
    strong = _strongest(data)
    weight, signal = np.square(data.weight[strong]), data.signal[strong]
    zero = np.zeros((len(weight), 1))
    sums = [np.concatenate([zero, np.cumsum(v, axis=1)[:, :-1]], axis=1) for v in (weight, weight * signal)]
    known = sums[0] + data.offset[strong, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        # a trace without a constant knows it for certain; before the first point an unknown one may be anything
        squares = np.square(signal - np.nan_to_num(sums[1] / known)) / (1.0 / weight + 1.0 / known)
    squares = np.where(weight > 0, squares, 0.0).sum(axis=0)
    n = int((weight > 0).any(axis=1).sum())
    seen = chi2_distribution.sf(squares, n) < _CHANCE
    seen[:-1] |= chi2_distribution.sf(squares[:-1] + squares[1:], 2 * n) < _CHANCE
    half = int(np.argmax(squares >= 0.25 * squares.max()))
    first = int(np.argmax(seen)) if seen.any() else half
    return float(data.delay[min(first, half)]), float(data.delay[half])


def _strongest(data: KineticData) -> NDArray[np.int64]:
    strength = np.sum(np.square(data.signal * data.weight), axis=1)
    return np.sort(np.argsort(-strength, kind="stable")[:_FEW])


def with_given(problem: Problem, starts: FloatArray) -> FloatArray:
    """Return starts (..., parameter) that obey what is said of the parameters: held values, bounds, formulas."""
    held = ~problem.free & ~problem.tied
    return with_ties(problem, np.where(held, problem.start, np.clip(starts, *problem.data.bounds)))


def start_points(problem: Problem) -> list[FloatArray]:
    """Return the starts of the search, in the scale of the delays.

    Where the signal takes long from its onset to half its height, the onset may be an outlier: then also from the latter.
    """
    h, n, data = problem.spacing, len(problem.start) - 2, problem.data
    span = float(data.delay[-1] - data.delay[0])
    rises, decays = np.geomspace(1.5 * h, 0.02 * span, 4), np.geomspace(2.0 * h, 0.15 * span, 6)
    origins = {float(problem.start[0])}
    is_free = problem.free[0] and data.prior[1, 0] == 0.0
    if is_free and (half := _onset(data)[1]) > problem.start[0] + _SLOW * h:
        origins.add(half)
    rows = []
    for origin, (early, rise, *later) in product(sorted(origins), _STARTS):
        if is_free and early and origin - early * h < data.delay[0] - _BEFORE_ALL:
            continue
        zero = origin - (early * h if is_free else 0.0)
        orders = permutations(later) if n == 3 and not problem.is_symmetric else [later]
        rows += [[zero, problem.start[1], *np.log([rises[rise], *decays[list(order)]][:n])] for order in orders]
    return [np.array(one) for one in dict.fromkeys(map(tuple, with_given(problem, np.array(rows)).tolist()))]
