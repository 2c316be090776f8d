"""The kinetics fit itself: problem set-up, deterministic multi-start, canonical solution.

The lowest minimum is found from a log grid of taus screened with free amplitudes, not from one start: the product of
rise and decays has false minima that a better optimiser does not avoid. A weak Gaussian prior on the amplitudes (sd = 3
peaks) keeps huge cancelling amplitudes from winning by a fraction of a chi-square unit.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError
from pipeline.science.kinetics._basis import KineticData
from pipeline.science.kinetics._kernel import minimise, screen, trace_model
from pipeline.science.kinetics.model import exponential_table

__all__ = ["Problem", "Solution", "build_problem", "canonical", "model_traces", "polish", "refine", "solve"]

Setting = str | float | tuple[float, float]
FloatArray = NDArray[np.float64]

_STARTS = 6
_SCREENED_TRACES = 6
_DISTANCE = 0.85
_LATTICE = 2.0**10
_ARRAYS = [name for name in KineticData._fields if name != "power"]
_WIDEST_IRF = 0.3
"""Upper bound of a fitted sigma [ps], unless the delays are coarser: pump and X-ray pulses of 30 to 100 fs."""


class Problem(NamedTuple):
    """Scaled data, what is free, and how to get back to physical units."""

    data: KineticData
    names: tuple[str, ...]
    free: NDArray[np.bool_]
    start: FloatArray
    """Parameter values to begin with; the taus are placeholders."""
    peak: float
    spacing: float
    n_terms: int
    n_points: int
    n_amplitudes: int

    @property
    def dof(self) -> int:
        """Points minus all fitted numbers, at least 1."""
        return max(self.n_points - int(self.free.sum()) - self.n_amplitudes, 1)


class Solution(NamedTuple):
    """One minimum: theta = (t_d, irf_sigma, log taus), amplitudes (trace, term) in scaled units."""

    theta: FloatArray
    amplitudes: FloatArray
    signs: NDArray[np.int64]
    cost: float


def build_problem(
    delay: FloatArray,
    signal: FloatArray,
    stderr: FloatArray,
    *,
    power: int = 2,
    n_exponentials: int = 3,
    irf_sigma: Setting = "fit",
    t_d: Setting = "fit",
    amplitude_prior: float | None = 3.0,
    tau_bounds: tuple[float, float] | None = None,
    plain: bool = False,
) -> Problem:
    """Set up a fit of traces (trace, delay) on ascending delays; points with NaN are left out.

    Raises
    ------
    ConfigError
        For an unknown setting of t_d, irf_sigma, the power or the number of exponentials.
    DataError
        If a standard error is zero or negative, or there are too few points.
    """
    try:
        table = exponential_table(power, n_exponentials, plain=plain)
    except ValueError as error:
        raise ConfigError(f"kinetics: {error}; power is 1 or 2, n_exponentials 1 to 3") from None
    usable = np.isfinite(signal) & np.isfinite(stderr)
    if (stderr[usable] <= 0).any():
        raise DataError(f"{(stderr[usable] <= 0).sum()} points have delta_xas_stderr <= 0; leave them out as NaN")
    n_terms = table.n_columns if power == 1 else n_exponentials
    n_amplitudes = int(np.minimum(usable.sum(axis=1), n_terms).sum())
    free = np.array([t_d == "fit" or isinstance(t_d, tuple), irf_sigma == "fit" or isinstance(irf_sigma, tuple)])
    free = np.concatenate([free, np.ones(n_exponentials, dtype=bool)])
    needed = int(free.sum()) + n_amplitudes + 1
    if usable.sum() < needed:
        raise DataError(
            f"{usable.sum()} points in {len(signal)} traces are too few for {n_exponentials} exponentials: "
            f"at least {needed} are needed"
        )
    weight = np.where(usable, 1.0 / np.where(usable, stderr, 1.0), 0.0)
    peak = float(np.max(np.where(usable, np.abs(signal) - np.where(usable, stderr, 0.0), 0.0)))
    peak = peak if peak > 0 else float(np.max(np.abs(signal[usable])) or 1.0)
    spacing, span = _spacing(delay), float(delay[-1] - delay[0])
    lowest, highest = tau_bounds or (0.2 * spacing, 4.0 * span)
    taus = np.log([[lowest] * n_exponentials, [highest] * n_exponentials])
    time_zero = _setting(t_d, "t_d", float(delay[0]))
    sigma = _setting(irf_sigma, "irf_sigma", min(spacing, 0.5 * _WIDEST_IRF))
    if not sigma[0] >= 0:
        raise ConfigError(f"kinetics.irf_sigma is {sigma[0]:g} ps; give zero or a positive number, or fit")
    wide = (-np.inf, np.inf)
    sigma_bounds = (0.0, max(_WIDEST_IRF, 3 * spacing)) if irf_sigma == "fit" else (0.0, np.inf)
    bounds = np.concatenate([np.array([wide, sigma_bounds]).T, taus], axis=1)
    prior = np.zeros((2, 2 + n_exponentials))
    prior[:, 0], prior[:, 1] = time_zero, sigma
    ridge = 0.0 if amplitude_prior is None else amplitude_prior ** (-2.0 * power)
    data = KineticData(
        delay=np.ascontiguousarray(delay, dtype=np.float64),
        signal=np.where(usable, signal / peak, 0.0),
        weight=weight * peak,
        column=table.column,
        row_weight=table.weight,
        counts=table.counts,
        power=power,
        ridge=np.full(table.n_columns, ridge),
        prior=prior,
        bounds=bounds,
        max_step=np.array([2.0 * spacing, 2.0 * spacing] + [1.0] * n_exponentials),
        allowed_sign=_signs(signal / peak * (weight * peak), usable) if power == 2 else np.ones(len(signal), np.int64),
    )
    # one memory layout, or the kernels would be compiled once more for another
    contiguous: dict[str, Any] = {name: np.ascontiguousarray(getattr(data, name)) for name in _ARRAYS}
    data = data._replace(**contiguous)
    names = ("t_d", "irf_sigma", *(f"tau{i + 1}" for i in range(n_exponentials)))
    start = np.concatenate([[time_zero[0], sigma[0]], np.full(n_exponentials, np.log(spacing))])
    return Problem(data, names, free, start, peak, spacing, n_terms, int(usable.sum()), n_amplitudes)


def solve(problem: Problem, *, start: Sequence[float] | None = None) -> list[Solution]:
    """Distinct minima, lowest first; the first one is polished and the same bits from any start.

    Parameters
    ----------
    problem
        From `build_problem`.
    start
        Taus [ps] of one more start.
    """
    located = _with_time_zero(problem)
    candidates = _screened(located)
    if start is not None:
        extra = located.start.copy()
        extra[2:] = np.log(np.clip(start, *np.exp(located.data.bounds[:, 2])))
        candidates.append(extra)
    minima: list[Solution] = []
    for theta in sorted((refine(located, c, thorough=True, tolerance=1e-3) for c in candidates), key=lambda m: m.cost):
        found = canonical(theta)
        if not any(_same(found, known) for known in minima):
            minima.append(found)
    best = polish(located, minima[0])
    return [best, *minima[1:]]


def refine(
    problem: Problem,
    start: FloatArray | Solution,
    *,
    fixed: int | None = None,
    thorough: bool = False,
    tolerance: float = 1e-8,
    max_iterations: int = 60,
) -> Solution:
    """Local minimum from a parameter vector or a solution, with parameter number `fixed` held."""
    if isinstance(start, Solution):
        theta, amplitudes, signs = start.theta.copy(), start.amplitudes.copy(), start.signs.copy()
    else:
        theta = start.copy()
        amplitudes = np.zeros((len(problem.data.signal), problem.n_terms))
        signs = np.where(problem.data.allowed_sign == 0, 1, problem.data.allowed_sign)
        thorough = True
    amplitudes = np.ascontiguousarray(amplitudes)
    free = problem.free.copy()
    if fixed is not None:
        free[fixed] = False
    cost = minimise(theta, amplitudes, signs, free, problem.data, thorough, max_iterations, tolerance)
    return Solution(theta, amplitudes, signs, float(cost))


def canonical(solution: Solution) -> Solution:
    """Relabel the exact symmetries away: tau2 < tau3, and (squared form) A1 positive."""
    theta, amplitudes = solution.theta.copy(), solution.amplitudes.copy()
    if theta.size == 5 and amplitudes.shape[1] == 3 and theta[3] > theta[4]:
        theta[[3, 4]] = theta[[4, 3]]
        amplitudes[:, [1, 2]] = amplitudes[:, [2, 1]]
    return solution._replace(theta=theta, amplitudes=np.ascontiguousarray(amplitudes))


def polish(problem: Problem, solution: Solution) -> Solution:
    """Converge, round the parameters to a lattice, converge again: the second path no longer knows the first."""
    close = canonical(refine(problem, solution, thorough=True, tolerance=1e-10, max_iterations=200))
    theta = np.where(problem.free, np.round(close.theta * _LATTICE) / _LATTICE, close.theta)
    theta = np.clip(theta, *problem.data.bounds)
    last = refine(problem, theta, thorough=True, tolerance=1e-14, max_iterations=200)
    # a rounded start in a narrow valley may slide into another basin; then the unrounded result stands
    best = canonical(last if last.cost <= close.cost + 1e-6 else close)
    if problem.data.power == 2:
        flip = np.where(best.amplitudes[:, :1] < 0, -1.0, 1.0)
        best = best._replace(amplitudes=np.ascontiguousarray(best.amplitudes * flip))
    return best


def _same(a: Solution, b: Solution) -> bool:
    return abs(a.cost - b.cost) < 0.05 and bool(np.all(np.abs(a.theta[2:] - b.theta[2:]) < 0.3))


def _setting(setting: Setting, name: str, default: float) -> tuple[float, float]:
    """(centre, 1 / sd) of a parameter; 1 / sd is 0 where it is free or fixed."""
    if isinstance(setting, tuple):
        value, stderr = setting
        if not (np.isfinite(value) and stderr > 0):
            raise ConfigError(f"kinetics.{name}: a measured value needs a positive error, got {value} +- {stderr}")
        return float(value), 1.0 / float(stderr)
    if isinstance(setting, str):
        if setting != "fit":
            raise ConfigError(f"kinetics.{name} is {setting!r}; give a number in ps, a value with error, or fit")
        return default, 0.0
    return float(setting), 0.0


def _spacing(delay: FloatArray) -> float:
    """Typical step [ps] of the densely sampled part."""
    steps = np.diff(np.unique(delay))
    span = float(delay[-1] - delay[0])
    return max(float(np.quantile(steps, 0.25)), 1e-4 * span)


def _signs(pull: FloatArray, usable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Sign of each trace, 0 where positive and negative points both stand out of the noise."""
    expected = 0.5 * usable.sum(axis=1)
    squares = np.where(usable, np.square(pull), 0.0)
    up = np.maximum((squares * (pull > 0)).sum(axis=1) - expected, 0.0)
    down = np.maximum((squares * (pull < 0)).sum(axis=1) - expected, 0.0)
    clear = np.minimum(up, down) < 0.01 * np.maximum(up, down)
    return np.where(clear, np.where(up >= down, 1, -1), 0).astype(np.int64)


def _strongest(data: KineticData) -> KineticData:
    strength = np.sum(np.square(data.signal * data.weight), axis=1)
    chosen = np.sort(np.argsort(-strength, kind="stable")[:_SCREENED_TRACES])
    return data._replace(
        signal=np.ascontiguousarray(data.signal[chosen]),
        weight=np.ascontiguousarray(data.weight[chosen]),
        allowed_sign=data.allowed_sign[chosen],
    )


def _with_time_zero(problem: Problem) -> Problem:
    """Bracket a free time zero by a scan over the delays with a few fixed shapes."""
    data = problem.data
    if not problem.free[0]:
        return problem
    begin = problem.start.copy()
    if data.prior[1, 0] == 0.0:
        strong = _strongest(data)
        power = np.sum(np.square(strong.signal * strong.weight), axis=0)
        n_before_peak = int(np.argmax(power)) + 1
        near = np.unique(data.delay[: n_before_peak + 1])
        times = np.sort(np.concatenate([[near[0] - problem.spacing], near, 0.5 * (near[1:] + near[:-1])]))
        times = times[:: max(len(times) // 40, 1)]
        shapes = np.log(_shapes(problem))
        starts = np.concatenate([np.column_stack([t0 * np.ones(len(shapes)), shapes]) for t0 in times])
        starts = np.ascontiguousarray(np.insert(starts, 1, begin[1], axis=1))
        costs = np.empty(len(starts))
        screen(starts, strong, costs)
        begin[0] = starts[int(np.argmin(costs)), 0]
        reach = max(0.3, 3.0 * problem.spacing, 6.0 * begin[1])
    else:
        reach = max(8.0 / data.prior[1, 0], 1e-6)
    bounds = data.bounds.copy()
    bounds[:, 0] = begin[0] - reach, begin[0] + reach
    return problem._replace(data=data._replace(bounds=bounds), start=begin)


def _shapes(problem: Problem) -> FloatArray:
    """Three sets of taus [ps] for the scan of time zero."""
    h, n = problem.spacing, len(problem.start) - 2
    span = float(problem.data.delay[-1] - problem.data.delay[0])
    middle, late = np.sqrt(h * span) * 0.3, np.sqrt(h * span) * 3.0
    return np.array([[rise, max(middle, 2 * h), late][:n] for rise in (h, 4 * h, 16 * h)])


def _screened(problem: Problem) -> list[FloatArray]:
    """The best grid points that lie apart, as starts."""
    n_tau = problem.start.size - 2
    span = float(problem.data.delay[-1] - problem.data.delay[0])
    lowest, highest = np.exp(problem.data.bounds[:, 2])
    rises = np.geomspace(1.5 * problem.spacing, 0.05 * span, 5)
    decays = np.geomspace(2.0 * problem.spacing, 0.5 * span, 6)
    later = list(combinations(decays, n_tau - 1))
    taus = np.array([[rise, *rest] for rise in rises for rest in later])
    shifts = (-1.0, 0.0, 1.0) if problem.free[0] and problem.data.prior[1, 0] == 0.0 else (0.0,)
    grid = []
    for shift in shifts:
        block = np.empty((len(taus), 2 + n_tau))
        block[:, 0] = problem.start[0] + 0.5 * shift * max(problem.spacing, problem.start[1])
        block[:, 1] = problem.start[1]
        block[:, 2:] = np.log(np.clip(taus, lowest, highest))
        grid.append(block)
    starts = np.ascontiguousarray(np.concatenate(grid))
    costs = np.empty(len(starts))
    screen(starts, _strongest(problem.data), costs)
    chosen: list[FloatArray] = []
    for i in np.argsort(costs, kind="stable"):
        if all(np.linalg.norm(starts[i, 2:] - c[2:]) > _DISTANCE for c in chosen):
            chosen.append(starts[i])
        if len(chosen) == _STARTS:
            break
    return chosen


def model_traces(problem: Problem, solution: Solution) -> FloatArray:
    """Model (trace, delay) on the fitted delays in the signal's unit."""
    return problem.peak * np.asarray(
        trace_model(solution.theta, solution.amplitudes, solution.signs, problem.data), dtype=np.float64
    )
