"""Kinetic parameters that are formulas of others (`expr`): what the engine of the fit cannot do is done by lmfit's minimiser.

The engine still screens the starts and solves the amplitudes of every trace; lmfit's `least_squares` moves the shared
parameters that are free, with the formulas evaluated by lmfit, and minimises the same sum of squares, priors included.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError
from pipeline.science.kinetics._projection_kernel import minimise, trace_model
from pipeline.science.kinetics.model import amplitude_products
from pipeline.science.kinetics.problem import Problem

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
    parameters, out = _formulas(problem), np.array(theta, dtype=np.float64)
    # what has no value is told by `_theta`
    with np.errstate(invalid="ignore", divide="ignore"):
        for row in out.reshape(-1, out.shape[-1]):
            _set(problem, parameters, row)
            row[:] = _theta(problem, parameters)
    return out


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
    parameters = _formulas(problem)
    _set(problem, parameters, theta)
    for p in np.flatnonzero(problem.tied):
        name, value = problem.names[p], float(parameters[problem.names[p]].value)
        if value < 0 if name == "irf_sigma" else name != "t_d" and value < _SMALLEST:
            raise DataError(
                f"kinetics.parameters.{name}: {parameters[name].expr} is {value:.3g} ps at the best fit; it must be positive"
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
    """Local minimum over the free parameters by lmfit, in place (theta, amplitudes, signs); returns the cost.

    `held`: number of a parameter that stays where it is; one that is tied is held through what its formula names.
    """
    import lmfit

    free = problem.free.copy()
    if held is not None:
        free[held] = False
        if problem.tied[held]:
            prior = problem.data.prior.copy()
            prior[:, held] = theta[held], _STIFF
            problem = problem._replace(data=problem.data._replace(prior=prior))
    theta[:] = with_ties(problem, theta)
    cost = _project(problem, theta, amplitudes, signs, thorough=thorough)
    for _ in range(_ROUNDS if free.any() else 0):
        before = cost
        parameters = _formulas(problem)
        _set(problem, parameters, theta, free)
        # lmfit works out errors too, which are not used and may have no value where a parameter is held stiffly
        with np.errstate(invalid="ignore"):
            found = lmfit.minimize(
                lambda moved: _residual(problem, _theta(problem, moved), amplitudes, signs),
                parameters,
                method="least_squares",
                ftol=max(min(tolerance, 1e-8), 1e-13),
                xtol=1e-10,
                gtol=1e-12,
            )
        reached = _theta(problem, found.params)
        for trial, gain in ((reached, 0.0), (_on_bounds(problem, reached, free), -1e-9 * cost)):
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
    ridge = np.sqrt(data.ridge) * amplitude_products(a, data.power)
    return np.concatenate([weighted.ravel(), ridge.ravel(), (theta - data.prior[0]) * data.prior[1]])


def _project(
    problem: Problem,
    theta: FloatArray,
    amplitudes: FloatArray,
    signs: NDArray[np.int64],
    *,
    thorough: bool = False,
) -> float:
    """Solve the amplitudes at theta, in place; returns the cost."""
    return float(minimise(theta, amplitudes, signs, np.zeros_like(problem.free), problem.data, thorough, 0, 1.0))


def _on_bounds(problem: Problem, theta: FloatArray, free: NDArray[np.bool_]) -> FloatArray:
    """Return theta with what is close to a bound put on it: a minimiser that stays inside never quite reaches it."""
    out = theta.copy()
    for bound in problem.data.bounds:
        near = free & np.isfinite(bound) & (np.abs(theta - bound) < _AT_BOUND)
        out[near] = bound[near]
    return with_ties(problem, out)


def _formulas(problem: Problem) -> lmfit.Parameters:
    """Return the parameters of a problem with their formulas; a tau that is not tied is the exponential of its logarithm."""
    import lmfit

    parameters = lmfit.Parameters()
    for name, tied in zip(problem.names, problem.tied, strict=True):
        if name.startswith("tau") and not tied:
            parameters.add(f"log_{name}", value=0.0)
            parameters.add(name, expr=f"exp(log_{name})")
        else:
            parameters.add(name, value=1.0)
    for name, one in zip(problem.names, problem.known, strict=True):
        if one.expr is not None:
            parameters[name].expr = one.expr
    return parameters


def _set(
    problem: Problem, parameters: lmfit.Parameters, theta: FloatArray, free: NDArray[np.bool_] | None = None
) -> None:
    for p in np.flatnonzero(~problem.tied):
        name = problem.names[p]
        low, high = problem.data.bounds[:, p] if free is not None and free[p] else (-np.inf, np.inf)
        parameters[f"log_{name}" if name.startswith("tau") else name].set(
            value=float(np.clip(theta[p], low, high)), vary=free is not None and bool(free[p]), min=low, max=high
        )
    parameters.update_constraints()


def _theta(problem: Problem, parameters: lmfit.Parameters) -> FloatArray:
    theta = np.empty(len(problem.names))
    for p, (name, tied) in enumerate(zip(problem.names, problem.tied, strict=True)):
        is_tau = name.startswith("tau")
        value = float(parameters[f"log_{name}" if is_tau and not tied else name].value)
        if not np.isfinite(value):
            raise ConfigError(f"kinetics.parameters.{name}: {problem.known[p].expr} has no value")
        if tied and name != "t_d":
            value = float(np.log(max(value, _SMALLEST))) if is_tau else max(value, 0.0)
        theta[p] = value
    return theta
