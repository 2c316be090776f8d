"""Search for the minima of the target model: the times of the kinetic fit, and beside them shares and the move of a line."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import least_squares

from pipeline.science.kinetics._target_projection import Cube, Projected, cube_of, knots_of, project
from pipeline.science.kinetics.intervals import inverse
from pipeline.science.kinetics.parameters import Known
from pipeline.science.kinetics.problem import Problem
from pipeline.science.kinetics.search import Solution, baselines_of, distinct
from pipeline.science.kinetics.starts import start_points, with_time_zero

__all__ = [
    "RIVAL",
    "Model",
    "aicc",
    "chi_square",
    "degrees_of_freedom",
    "moving_minima",
    "refined",
    "spread_of",
    "species_minima",
    "still_minima",
    "target_model",
]

FloatArray = NDArray[np.float64]

RIVAL = 9.0
"""Minima that lie less than this above the lowest one are rivals of it."""
_REACH = 0.15
"""Part of the range of energies by which a line may move."""
_SHARES = (0.7, 0.3, -0.5)
_MOVES = (-0.4, 0.4)
"""Starts: shares that return with tau2, and moves in units of the largest."""
_FREE_SHARE = 5.0
_REFINED, _FOLLOWED = 5, 2
"""Starts that are followed to their minimum, and minima of the species from which the line is sought."""
_DRAWS, _MOST_NOISE = 40, 0.75
"""Draws of noise that tell what the noise of the spectra adds to the slopes, and the largest part of them that it is taken for."""
_STEPS_PER_KNOT = (1.0, 0.7)
"""Knots of the line, in steps of energy; with fewer the times are off before χ² notices (τ3 by 0.5 standard errors at 2 steps)."""


class Model(NamedTuple):
    """One of the models, ready to be fitted: its parameters follow those of the kinetic fit."""

    problem: Problem
    cube: Cube


def target_model(
    problem: Problem, energy: FloatArray, *, n_free: int = 1, steps_per_knot: float | None = None
) -> Model:
    """Set up a model on a problem of the kinetic fit with three times.

    Energies (trace) in eV; with `n_free` 1 one spectrum, with 2 those of two species, and knots for a line that moves.
    """
    reach = _REACH * float(energy.max() - energy.min())
    extra = {"returning": _FREE_SHARE} | ({"lattice": _FREE_SHARE} if n_free == 1 else {})
    knots = np.empty(0)
    if steps_per_knot is not None:
        extra["shift"], knots = reach, knots_of(energy, reach, steps_per_knot)
    limits = np.array([[-v for v in extra.values()], list(extra.values())])
    data, n = problem.data, len(extra)
    data = data._replace(
        prior=np.concatenate([data.prior, np.zeros((2, n))], axis=1),
        bounds=np.concatenate([data.bounds, limits], axis=1),
        ridge=np.zeros_like(data.ridge),
    )
    known = (*problem.known, *(Known(low=-v, high=v) for v in extra.values()))
    free, names = np.append(problem.free, np.ones(n, dtype=bool)), (*problem.names, *extra)
    wider = problem._replace(
        data=data, known=known, free=free, names=names, start=np.append(problem.start, np.zeros(n))
    )
    return Model(wider, cube_of(data, energy, knots, n_free))


def still_minima(model: Model, species: list[Solution]) -> list[Solution]:
    """Distinct minima of one spectrum, lowest first, from those of the species."""
    starts = [np.append(m.theta, 0.0) for m in species[:_FOLLOWED]]
    return distinct(model.problem, [refined(model, one) for one in starts])


def species_minima(model: Model, shared: xr.Dataset) -> list[Solution]:
    """Distinct minima, lowest first, from the starts of the kinetic fit that lie lowest, and from what that fit found."""
    problem = model.problem
    five = problem._replace(
        data=problem.data._replace(bounds=problem.data.bounds[:, :5], prior=problem.data.prior[:, :5]),
        known=problem.known[:5],
        free=problem.free[:5],
        names=problem.names[:5],
        start=problem.start[:5],
    )
    value = shared["value"].values
    times = [*start_points(with_time_zero(five)), np.array([*value[:2], *np.log(value[2:])])]
    starts = [np.array([*one, share]) for one in times for share in _SHARES]
    costs = np.array([project(model.cube, one).cost for one in starts])
    lowest = [*np.argsort(costs, kind="stable")[:_REFINED], *range(len(starts) - len(_SHARES), len(starts))]
    return distinct(problem, [refined(model, starts[i]) for i in lowest])


def moving_minima(problem: Problem, energy: FloatArray, species: list[Solution]) -> tuple[Model, list[Solution]]:
    """Distinct minima of the line that moves, from those of the species, with the knots that AICc asks for."""
    starts = [m.theta for m in species[:_FOLLOWED]]
    tried: list[tuple[float, Model, list[Solution]]] = []
    for steps in _STEPS_PER_KNOT:
        model = target_model(problem, energy, steps_per_knot=steps)
        reach = model.problem.data.bounds[1, -1]
        begin = [m.theta for m in tried[-1][2][:_FOLLOWED]] if tried else []
        begin = begin or [np.array([*one, 0.0, m * reach]) for one in starts for m in _MOVES]
        minima = _as_absorption(model, distinct(model.problem, [refined(model, one) for one in begin]))
        found = project(model.cube, minima[0].theta)
        dof = degrees_of_freedom(model, found)
        tried.append((aicc(chi_square(model, found), model.problem.n_points, dof), model, minima))
    return min(tried, key=lambda one: one[0])[1:]


def _as_absorption(model: Model, minima: list[Solution]) -> list[Solution]:
    """Put first what moves a line that absorbs: to first order one that emits moves the other way and does as well."""
    lines = [project(model.cube, m.theta).line.sum() for m in minima]
    upright = [m for m, area in zip(minima, lines, strict=True) if area > 0]
    if upright and upright[0].cost - minima[0].cost < RIVAL:
        return upright
    return minima


def refined(model: Model, start: FloatArray, fixed: int | None = None, tolerance: float = 1e-7) -> Solution:
    """Local minimum by Gauss-Newton steps within bounds, parameter number `fixed` held."""
    cube, problem = model.cube, model.problem
    free = problem.free.copy()
    if fixed is not None:
        free[fixed] = False
    low, high = problem.data.bounds[:, free]
    theta = start.copy()
    at: dict[bytes, Projected] = {}

    def solved(values: FloatArray) -> Projected:
        # residuals and slopes are asked for one after the other at the same values
        if (key := values.tobytes()) not in at:
            theta[free] = values
            at.clear()
            at[key] = project(cube, theta)
        return at[key]

    def rows(values: FloatArray) -> FloatArray:
        found = solved(values)
        return np.concatenate([found.residual, (theta - problem.data.prior[0]) * problem.data.prior[1]])

    def slopes(values: FloatArray) -> FloatArray:
        return np.concatenate([solved(values).jacobian, np.diag(problem.data.prior[1])])[:, free]

    begin = np.clip(start[free], low + 1e-9, high - 1e-9)
    done = least_squares(
        rows, begin, jac=slopes, bounds=(low, high), x_scale="jac", xtol=1e-6, ftol=tolerance, max_nfev=60
    )
    theta[free] = done.x
    found = project(cube, theta)
    return Solution(theta.copy(), found.spectra, np.ones(len(found.spectra), dtype=np.int64), found.cost)


def degrees_of_freedom(model: Model, found: Projected) -> int:
    """Points less all that was fitted, at least 1."""
    used = int(model.problem.free.sum()) + round(found.n_linear) + model.problem.n_baselines
    return max(model.problem.n_points - used, 1)


def chi_square(model: Model, found: Projected) -> float:
    """Return χ² of the data, the constant under each trace solved for."""
    rest = model.problem.data.signal - found.model
    rest = rest - baselines_of(model.problem.data, rest)[:, None]
    return float(np.square(model.problem.data.weight * rest).sum())


def aicc(chi2: float, n: int, dof: int) -> float:
    """Corrected Akaike information criterion of n points."""
    fitted = n - dof
    return chi2 + 2 * fitted + 2 * fitted * (fitted + 1) / max(n - fitted - 1, 1)


def spread_of(model: Model, theta: FloatArray) -> tuple[FloatArray, float]:
    """Covariance of theta, and by how much the intervals of the times must be wider than their curvature says.

    The slopes rest on spectra that are noisy themselves. Their noise adds Q to the normal matrix J'J, but as much to the
    variance of the gradient as to the curvature that seems to be known: the covariance is (J'J - Q)^-1 J'J (J'J - Q)^-1.
    Slopes are linear in the data, so Q is the mean of J'J over data of noise alone.
    """
    free, prior = model.problem.free, np.diag(model.problem.data.prior[1] ** 2)
    slopes = project(model.cube, theta).jacobian
    rng, data, noisy = np.random.default_rng(0), model.cube.data, np.zeros_like(prior)
    for _ in range(_DRAWS):
        noise = rng.standard_normal(data.signal.shape) / np.where(data.weight > 0, data.weight, np.inf)
        cube = cube_of(data._replace(signal=noise), model.cube.energy, model.cube.knots, model.cube.n_free)
        of_noise = project(cube, theta).jacobian
        noisy += of_noise.T @ of_noise / _DRAWS
    seen = slopes.T @ slopes + prior
    root = _root(inverse(seen, free))
    parts, directions = np.linalg.eigh(root.T @ noisy @ root)
    left = 1.0 - np.minimum(parts, _MOST_NOISE)
    along = root @ directions
    spread, curvature = (along / left**k @ along.T for k in (2, 1))
    times = np.flatnonzero(free[:5])
    return spread, float(np.sqrt((np.diag(spread) / np.diag(curvature).clip(1e-300))[times].max(initial=1.0)))


def _root(matrix: FloatArray) -> FloatArray:
    """Return a square root R of a covariance, R R' = matrix, which may have rows of zeros."""
    values, vectors = np.linalg.eigh(matrix)
    return np.asarray(vectors * np.sqrt(np.maximum(values, 0.0)))
