"""Kinetic parameters that are formulas of others (`expr`).

lmfit evaluates the formulas; the free shared parameters minimise the same sum of squares as in the compiled fit, which
still screens the starts and solves the amplitudes of every trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from pipeline.errors import ConfigError, DataError
from pipeline.science.kinetics._projection_kernel import minimise, trace_model, whiten
from pipeline.science.kinetics.model import amplitude_products
from pipeline.science.kinetics.problem import Problem, linear

if TYPE_CHECKING:
    import lmfit

__all__ = ["check_ties", "refine_tied", "tangent", "with_ties"]

FloatArray = NDArray[np.float64]
_SMALLEST = 1e-6
"""A tau [ps] that stands for what is not positive while the search goes on."""
_STIFF = 1e5
"""1 / sd with which a tied parameter is held at a value, for its profile."""
_ROUNDS = 3
_AT_BOUND = 1e-3
"""Distance from a bound, in theta, from which it is tried whether the bound itself is as good."""


def with_ties(problem: Problem, theta: FloatArray) -> FloatArray:
    """Return theta (..., parameter) with the tied parameters worked out from the others."""
    if not problem.tied.any():
        return theta
    formulas, rows = _formulas(problem), theta.reshape(-1, theta.shape[-1])
    return np.array([_tied(problem, formulas, row) for row in rows]).reshape(theta.shape)


def tangent(problem: Problem, theta: FloatArray) -> FloatArray:
    """Return d theta / d theta of the free parameters (parameter, parameter); columns of others are zero."""
    out = np.diag(problem.free.astype(np.float64))
    for p in np.flatnonzero(problem.free):
        step = np.zeros_like(theta)
        step[p] = 1e-6
        up, down = with_ties(problem, np.stack([theta + step, theta - step]))
        out[problem.tied, p] = ((up - down) / 2e-6)[problem.tied]
    return out


def check_ties(problem: Problem, theta: FloatArray) -> None:
    """Raise DataError if a formula gives at the solution what its parameter cannot be."""
    if not problem.tied.any():
        return
    values = _values(problem, _formulas(problem), theta)
    for p in np.flatnonzero(problem.tied):
        name, value = problem.names[p], values[p]
        if value < 0 if name == "irf_sigma" else name != "t_d" and value < _SMALLEST:
            raise DataError(
                f"kinetics.parameters.{name}: {problem.known[p].expr} is {value:.3g} ps at the best fit; it must be positive"
            )


def refine_tied(
    problem: Problem,
    theta: FloatArray,
    amplitudes: FloatArray,
    signs: NDArray[np.int64],
    *,
    held: int | None,
    thorough: bool,
    tolerance: float,
) -> float:
    """Local minimum over the free parameters, in place (theta, amplitudes, signs); returns the cost.

    `held`: number of a parameter that stays where it is; one that is tied is held through what its formula names.
    """
    free = problem.free.copy()
    if held is not None:
        free[held] = False
        if problem.tied[held]:
            prior = problem.data.prior.copy()
            prior[:, held] = theta[held], _STIFF
            problem = problem._replace(data=problem.data._replace(prior=prior))
    formulas, bounds = _formulas(problem), problem.data.bounds[:, free]

    def at(moved: FloatArray) -> FloatArray:
        trial = theta.copy()
        trial[free] = moved
        return _tied(problem, formulas, trial)

    theta[:] = at(theta[free])
    cost = _project(problem, theta, amplitudes, signs, thorough=thorough)
    for _ in range(_ROUNDS if free.any() else 0):
        before = cost
        found = least_squares(
            lambda moved: _residual(problem, at(moved), amplitudes, signs),
            np.clip(theta[free], *bounds),
            bounds=bounds,
            ftol=max(min(tolerance, 1e-8), 1e-13),
            xtol=1e-10,
            gtol=1e-12,
        ).x
        # a minimiser that stays inside never quite reaches a bound
        nearest = np.where(np.abs(found - bounds[0]) < np.abs(found - bounds[1]), *bounds)
        on_bounds = np.where(np.abs(found - nearest) < _AT_BOUND, nearest, found)
        for trial, gain in ((at(found), 0.0), (at(on_bounds), -1e-9 * cost)):
            a, s = amplitudes.copy(), signs.copy()
            value = _project(problem, trial, a, s)
            if value < cost - gain:
                theta[:], amplitudes[:], signs[:], cost = trial, a, s, value
        if not (thorough and problem.data.power == 2):
            break
        cost = _project(problem, theta, amplitudes, signs, thorough=True)
        if not cost < before - max(tolerance, 1e-9 * before):
            break
    return cost


def _residual(problem: Problem, theta: FloatArray, amplitudes: FloatArray, signs: NDArray[np.int64]) -> FloatArray:
    """Everything whose squares add up to the cost, with the amplitudes that are best at theta, sought from those given."""
    data, a, s = problem.data, amplitudes.copy(), signs.copy()
    _project(problem, theta, a, s)
    weighted = data.weight * (data.signal - trace_model(theta, a, s, data))
    for row, weight, precision in zip(weighted, data.weight, data.offset.tolist(), strict=True):
        whiten(row, weight, precision)
    ridge = np.sqrt(data.ridge) * amplitude_products(a, data.power)
    return np.concatenate([weighted.ravel(), ridge.ravel(), (theta - data.prior[0]) * data.prior[1]])


def _project(
    problem: Problem, theta: FloatArray, amplitudes: FloatArray, signs: NDArray[np.int64], *, thorough: bool = False
) -> float:
    """Solve the amplitudes at theta, in place; returns the cost."""
    return float(minimise(theta, amplitudes, signs, np.zeros_like(problem.free), problem.data, thorough, 0, 1.0))


def _formulas(problem: Problem) -> lmfit.Parameters:
    import lmfit

    parameters = lmfit.Parameters()
    for name in problem.names:
        parameters.add(name, value=1.0)
    for name, one in zip(problem.names, problem.known, strict=True):
        if one.expr is not None:
            parameters[name].expr = one.expr
    return parameters


def _values(problem: Problem, formulas: lmfit.Parameters, theta: FloatArray) -> FloatArray:
    """Return the parameters [ps] at theta, those that are tied by their formulas."""
    for name, value, tied in zip(problem.names, linear(theta).tolist(), problem.tied, strict=True):
        if not tied:
            formulas[name].value = value
    with np.errstate(invalid="ignore", divide="ignore"):
        formulas.update_constraints()
        values = np.array([formulas[name].value for name in problem.names], dtype=np.float64)
    for p in np.flatnonzero(~np.isfinite(values)):
        raise ConfigError(f"kinetics.parameters.{problem.names[p]}: {problem.known[p].expr} has no value")
    return values


def _tied(problem: Problem, formulas: lmfit.Parameters, theta: FloatArray) -> FloatArray:
    values = _values(problem, formulas, theta)
    values[1] = max(values[1], 0.0)
    values[2:] = np.log(np.maximum(values[2:], _SMALLEST))
    return np.where(problem.tied, values, theta)
