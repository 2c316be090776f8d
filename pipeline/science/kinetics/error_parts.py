r"""What the error of a time is made of, and how far a time moves when an input is wrong.

Time zero, response and the constants under the traces are fitted along with the times, or known beforehand with an error.
With :math:`V` the variance of a time, and :math:`V_{t}`, :math:`V_{t\sigma}`, :math:`V_{t\sigma b}` what it would be if time zero,
then also the response, then also the constants were known exactly,

.. math:: V = (V - V_t) + (V_t - V_{t\sigma}) + (V_{t\sigma} - V_{t\sigma b}) + V_{t\sigma b}.

The first part is :math:`(d\tau/dt_d)^2 \sigma^2(t_d)` with everything else fitted again at the moved time zero, the second
the same for the response at a known time zero. What time zero and response have in common is so counted once, with time zero.
"""

from __future__ import annotations

from typing import NamedTuple, Unpack

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.science.kinetics.intervals import covariance
from pipeline.science.kinetics.problem import FitOptions, Problem, build_problem, linear
from pipeline.science.kinetics.search import Solution, refine

__all__ = ["TIME_PARTS", "moved_times", "time_error_parts"]

FloatArray = NDArray[np.float64]
TIME_PARTS = ("t0", "irf", "reference", "statistics")
"""Parts of the variance of a time, in the order in which they are taken off."""


class _Restored(NamedTuple):
    problem: Problem
    best: Solution


def time_error_parts(traces: xr.Dataset, fit: xr.Dataset, **options: Unpack[FitOptions]) -> xr.DataArray:
    """Return the standard errors of the times in parts whose squares sum up to the square of `stderr`.

    Parameters
    ----------
    traces, fit
        What `fit_kinetics` was given and what it returned.
    options
        Its options.

    Returns
    -------
    DataArray (source, parameter) [ps], source as in `TIME_PARTS`; statistics is the noise of the traces.
    """
    problem, best = _restored(traces, fit, options)
    held = problem.free.copy()
    variances = [_variance(problem, best)]
    for p in (0, 1):
        held[p] = False
        variances.append(_variance(problem._replace(free=held.copy()), best))
    known = problem.data._replace(offset=np.full_like(problem.data.offset, np.inf))
    variances.append(_variance(problem._replace(free=held, data=known), best))
    total = np.array([*variances, np.zeros_like(variances[0])])
    # rounding must not make a part negative
    parts = np.maximum(-np.diff(total, axis=0), 0.0)
    whole = parts.sum(axis=0)
    shares = np.where(whole > 0, parts / np.where(whole > 0, whole, 1.0), 0.0)
    errors = np.sqrt(shares) * fit["stderr"].values
    return xr.DataArray(
        errors, dims=("source", "parameter"), coords={"source": list(TIME_PARTS), "parameter": fit["parameter"].values}
    )


def moved_times(
    traces: xr.Dataset,
    fit: xr.Dataset,
    *,
    zero_moved: float = 0.0,
    moved: xr.Dataset | None = None,
    **options: Unpack[FitOptions],
) -> xr.DataArray:
    """Return by how much the parameters move when the input is wrong, refitted from the minimum that was found.

    Parameters
    ----------
    traces, fit, options
        As in `time_error_parts`.
    zero_moved
        How far a time zero that is held is moved [ps].
    moved
        The traces with other values of delta_xas.

    Returns
    -------
    DataArray (parameter) [ps], moved less as found.

    Raises
    ------
    ValueError
        If the moved traces are not on the axes of the traces.
    """
    problem, best = _restored(traces, fit, options)
    theta = best.theta.copy()
    theta[0] += zero_moved
    if moved is not None:
        xr.align(traces["delta_xas"], moved["delta_xas"], join="exact", copy=False)
        signal = moved["delta_xas"].transpose("trace", "delay").sortby("delay").values / problem.peak
        signal = np.ascontiguousarray(np.where(problem.data.weight > 0, signal, 0.0))
        problem = problem._replace(data=problem.data._replace(signal=signal))
    found = refine(problem, best._replace(theta=theta), thorough=True)
    return fit["value"].copy(data=linear(found.theta) - linear(best.theta)).rename("moved")


def _restored(traces: xr.Dataset, fit: xr.Dataset, options: FitOptions) -> _Restored:
    """Return the problem of a fit, and its minimum."""
    ordered = traces.transpose("trace", "delay").sortby("delay")
    delay, signal, stderr = (ordered[n].values.astype(np.float64) for n in ("delay", "delta_xas", "delta_xas_stderr"))
    problem = build_problem(delay, signal, stderr, baseline_stderr=fit["baseline_prior"].values, **options)
    value = fit["value"].values
    theta = np.concatenate([value[:2], np.log(value[2:])])
    factor = problem.peak ** (1.0 / problem.data.power)
    amplitudes = np.ascontiguousarray(np.nan_to_num(fit["amplitude"].transpose("trace", "term").values) / factor)
    return _Restored(problem, refine(problem, Solution(theta, amplitudes, fit["sign"].values.copy(), 0.0)))


def _variance(problem: Problem, best: Solution) -> FloatArray:
    """Variance of theta (parameter,); of log tau, which is that of tau in relative terms."""
    return np.asarray(np.diag(covariance(problem, best).theta), np.float64)
