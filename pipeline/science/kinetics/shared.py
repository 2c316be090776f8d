"""Kinetics of the difference: time constants shared by all traces, with intervals that cover what they promise."""

from __future__ import annotations

import json
from typing import NamedTuple, Unpack

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.science.kinetics._ties import check_ties
from pipeline.science.kinetics.baseline import baseline_errors, baseline_is_demanded
from pipeline.science.kinetics.intervals import (
    Covariance,
    bootstrap_parameters,
    chi_square,
    correlation,
    covariance,
    describes,
    design_bound,
    error_scale,
    has_signal,
    profile_intervals,
    refit_replicates,
    stderr_from_interval,
)
from pipeline.science.kinetics.problem import FitOptions, Problem, build_problem, linear
from pipeline.science.kinetics.report import (
    bootstrap_summary,
    decay_spectra,
    numbers_from_fit,
    systematic_shifts,
    verdicts,
    well_determined,
    without_prior,
)
from pipeline.science.kinetics.search import Solution, distinct, model_traces, polish, refine, solve
from schemas.datasets.kinetic_fits import KINETIC_FIT

__all__ = ["KineticFit", "fit_kinetics", "solve_kinetics", "with_bootstrap"]

FloatArray = NDArray[np.float64]
_RIVAL = 9.0
"""Minima that lie less than this above the lowest one are rivals of it."""
_ATTEMPTS = 4


class KineticFit(NamedTuple):
    """A fit, and what a bootstrap needs of it."""

    result: xr.Dataset
    """See `fit_kinetics`."""
    problem: Problem
    minima: list[Solution]
    scale: float
    """Factor on the variance of the data that makes χ²/dof 1 where it is too large."""


def fit_kinetics(
    traces: xr.Dataset,
    *,
    systematics: bool = True,
    n_bootstrap: int = 0,
    seed: int = 0,
    replicates: xr.DataArray | None = None,
    **options: Unpack[FitOptions],
) -> xr.Dataset:
    """Fit the time constants shared by all traces, each trace with its own amplitudes and sign.

    Parameters
    ----------
    traces
        delta_xas and delta_xas_stderr [OD], dims (trace, delay), NaN where a trace lacks a delay; coordinates
        delay(delay) [ps] and, if known, energy(trace) [eV]. baseline_stderr (trace) [OD], if there: how well the constant
        under a trace is known to be zero, NaN: not at all. Where that is 0 the trace has none, unless the data of all demand it (χ² falls
        by what chance does once in 370): then it is free.
    systematics
        Refit with t_d and irf_sigma moved by 10 fs where they are fixed.
    n_bootstrap, seed
        Number of parametric bootstrap draws, and the seed of their generator.
    replicates
        delta_xas of resampled trains, dims (draw, trace, delay), in place of parametric draws.
    options
        power, n_exponentials, irf_sigma, t_d, parameters, amplitude_prior: see `FitOptions`. With an `expr` in
        `parameters` a fit takes five to ten times as long.

    Returns
    -------
    Dataset as in `KINETIC_FIT`. Over parameter (t_d, irf_sigma, tau1, ...) [ps]: value, stderr, ci68 and ci95 (bound;
    open ends are 0 or ±inf), identifiable, verdict, crb (Cramér-Rao bound without the amplitude prior),
    value_without_prior (the minimum next to it without that prior); over (term, trace): amplitude; over (trace, delay):
    fit and residual [OD]. attrs["parameters"] is JSON: name -> what was said of the parameter.

    Raises
    ------
    DataError
        If there are fewer points than parameters, a standard error is not positive, or a tied time comes out negative.
    ConfigError
        If an option has none of the values above.

    References
    ----------
    Mitrano et al., Sci. Adv. 5, eaax3346 (2019); Golub and Pereyra, SIAM J. Numer. Anal. 10, 413 (1973).
    """
    found = solve_kinetics(traces, systematics=systematics, **options)
    if n_bootstrap or replicates is not None:
        return with_bootstrap(found, n_draws=n_bootstrap, seed=seed, replicates=replicates)
    return found.result


def with_bootstrap(
    fit: KineticFit, *, n_draws: int = 0, seed: int = 0, replicates: xr.DataArray | None = None
) -> xr.Dataset:
    """Return the result of a fit with the bootstrap of its parameters; arguments as in `fit_kinetics`.

    Raises
    ------
    ValueError
        If the replicates are not on the axes of the traces.
    """
    if replicates is not None:
        xr.align(fit.result["fit"], replicates, join="exact", exclude=["draw"], copy=False)
        again = replicates.transpose("draw", "trace", "delay").sortby("delay").values
        draws = refit_replicates(fit.problem, fit.minima, again)
    else:
        rng = np.random.default_rng(seed)
        draws = bootstrap_parameters(fit.problem, fit.minima, n_draws=n_draws, rng=rng, scale=fit.scale)
    return KINETIC_FIT.describe(fit.result.merge(bootstrap_summary(linear(draws))))


def solve_kinetics(traces: xr.Dataset, *, systematics: bool = True, **options: Unpack[FitOptions]) -> KineticFit:
    """Fit as `fit_kinetics` does, and keep what a bootstrap needs."""
    order = np.argsort(traces["delay"].values, kind="stable")
    ordered = traces.transpose("trace", "delay").isel(delay=order)
    delay, signal, stderr = (ordered[n].values.astype(np.float64) for n in ("delay", "delta_xas", "delta_xas_stderr"))
    if delay.size < 2 or delay[-1] == delay[0]:
        raise DataError(f"kinetics need several delays, got {delay.size}")
    known = traces["baseline_stderr"].values if "baseline_stderr" in traces else np.zeros(len(signal))
    known = np.where(np.isfinite(known), known, np.nanmax(np.abs(signal), initial=0.0))
    problem = build_problem(delay, signal, stderr, baseline_stderr=known, **options)
    minima = solve(problem)
    if not known.any() and baseline_is_demanded(problem, minima[0]):
        known = np.full(len(signal), problem.peak)
        problem = build_problem(delay, signal, stderr, baseline_stderr=known, **options)
        minima = solve(problem)
    intervals, minima, scale = _intervals(problem, minima)
    best, spread = minima[0], covariance(problem, minima[0], scale)
    rivals = [m for m in minima[1:] if m.cost - best.cost < _RIVAL * scale]
    check_ties(problem, best.theta)
    parts = [_amplitudes(problem, best, spread), numbers_from_fit(problem, best, spread)]
    result = xr.merge(
        [_parameters(problem, best, rivals, intervals, scale, spread), *parts, decay_spectra(problem, best, spread)]
    )
    prior = options.get("amplitude_prior", 3.0)
    if prior is not None:
        result["value_without_prior"] = ("parameter", without_prior(problem, best))
    if systematics:
        result["systematic"] = systematic_shifts(problem, best)
    result["baseline"], result["baseline_stderr"] = (
        ("trace", problem.peak * v) for v in baseline_errors(problem, best, spread)
    )
    result["baseline_prior"] = ("trace", known)
    model = model_traces(problem, best)
    result["fit"] = (("trace", "delay"), model)
    result["residual"] = (("trace", "delay"), signal - model)
    of_traces = {name: c for name, c in ordered.coords.items() if c.dims == ("trace",)}
    result = result.assign_coords({"delay": delay, **of_traces})
    result.attrs = {
        "power": problem.data.power,
        "n_exponentials": len(problem.names) - 2,
        "amplitude_prior": "none" if prior is None else prior,
        "n_minima": sum(m.cost - best.cost < 4.0 * scale for m in minima),
        "n_points": problem.n_points,
        "signal_scale": problem.peak,
        "parameters": json.dumps({n: k.said() for n, k in zip(problem.names, problem.known, strict=True)}),
    }
    said = verdicts(problem, best, result, rivals)
    result["verdict"] = ("parameter", ["", "", *(note.text for note in said)])
    result["verdict_code"] = ("parameter", ["", "", *(note.code for note in said)])
    described = KINETIC_FIT.describe(result.isel(delay=np.argsort(order, kind="stable")))
    return KineticFit(described, problem, minima, scale)


def _intervals(problem: Problem, minima: list[Solution]) -> tuple[FloatArray, list[Solution], float]:
    """Profile intervals; started again where the profile itself meets a lower minimum."""
    for attempt in range(_ATTEMPTS):
        scale = error_scale(problem, minima[0])
        errors = np.sqrt(np.diag(covariance(problem, minima[0], scale).theta))
        last = attempt == _ATTEMPTS - 1
        intervals, lower = profile_intervals(problem, minima, scale, errors, accept_lower=last)
        if lower is None:
            break
        found = polish(problem, refine(problem, lower, thorough=True))
        minima = distinct(problem, [found, *minima])
    return intervals, minima, scale


def _parameters(
    problem: Problem,
    best: Solution,
    rivals: list[Solution],
    intervals: FloatArray,
    scale: float,
    spread: Covariance,
) -> xr.Dataset:
    names, free = list(problem.names), problem.free | problem.tied
    value, chi2, limits = linear(best.theta), chi_square(problem, best), problem.data.bounds
    ends = linear(intervals.swapaxes(-1, -2)).swapaxes(-1, -2)
    # an IRF that may be zero has an interval that is open towards zero
    ends[:, 1, 0] = np.where(np.isneginf(ends[:, 1, 0]), 0.0, ends[:, 1, 0])
    seen = has_signal(problem, chi2)
    if not seen:
        # a minimum of noise is sharp where it hangs on one point, and says nothing
        ends[:, 2:] = np.where(free[2:, None], [0.0, np.inf], ends[:, 2:])
    reach = linear(limits)
    reach = np.where(np.isfinite(reach), reach, np.stack([value - 10 * problem.spacing, value + 10 * problem.spacing]))
    jacobian = np.concatenate([[1.0, 1.0], value[2:]])
    # a linear error beyond the search range says no more than the range does
    wald = np.where(free, np.minimum(np.sqrt(np.diag(spread.theta)) * jacobian, reach[1] - reach[0]), 0.0)
    stderr = np.array([stderr_from_interval(value[p], ends[:, p], wald[p], reach[:, p]) for p in range(len(value))])
    # what is tied has no bounds of its own
    at_bound = problem.free & ((best.theta <= limits[0] + 1e-6) | (best.theta >= limits[1] - 1e-6))
    bound, sd, directions = design_bound(problem, best)
    identifiable: NDArray[np.bool_] = np.array(~at_bound & np.isfinite(ends[1]).all(axis=-1))
    identifiable[1] &= not free[1] or bool(ends[1, 1, 0] > 0)
    # the test of the bound asks the data alone: the prior on the amplitudes closes intervals that they leave open
    others = np.array([linear(m.theta)[2:] for m in rivals]).reshape(-1, len(value) - 2)
    identifiable[2:] &= well_determined(value[2:], ends[1:, 2:], np.sqrt(scale) * bound[2:], others) | ~free[2:]
    # a wrong form gives narrow intervals too: a value that chi-square contradicts is none, however sharp
    identifiable &= ~free | (seen and describes(chi2, problem.dof))
    pair = ("parameter", "bound")
    return xr.Dataset(
        {
            "value": ("parameter", value),
            "stderr": ("parameter", np.where(free, stderr, 0.0)),
            "ci68": (pair, ends[0]),
            "ci95": (pair, ends[1]),
            "at_bound": ("parameter", at_bound),
            "identifiable": ("parameter", identifiable),
            "fixed": ("parameter", ~free),
            "search_bounds": (pair, linear(limits).T),
            "crb": ("parameter", bound * jacobian),
            "correlation": (("parameter", "parameter2"), correlation(spread.theta)),
            "log_tau_sd": ("direction", np.sqrt(scale) * sd),
            "log_tau_direction": (("parameter_tau", "direction"), directions),
            "chi2": chi2,
            "dof": problem.dof,
            "redchi": chi2 / problem.dof,
        },
        coords={"parameter": names, "parameter2": names, "parameter_tau": names[2:], "bound": ["lower", "upper"]},
    )


def _amplitudes(problem: Problem, best: Solution, spread: Covariance) -> xr.Dataset:
    factor = problem.peak ** (1.0 / problem.data.power)
    measured = (problem.data.weight > 0).any(axis=1, keepdims=True)
    stderr = np.sqrt(np.diagonal(spread.traces, axis1=1, axis2=2)[:, best.theta.size :])
    terms = [f"A{i + 1}" for i in range(best.amplitudes.shape[1])]
    fitted = [*problem.names, *terms]
    return xr.Dataset(
        {
            "amplitude": (("term", "trace"), np.where(measured, best.amplitudes, np.nan).T * factor),
            "amplitude_stderr": (("term", "trace"), np.where(measured, stderr, np.nan).T * factor),
            "sign": ("trace", best.signs),
            "trace_correlation": (("trace", "fitted", "fitted2"), correlation(spread.traces)),
        },
        coords={"term": terms, "fitted": fitted, "fitted2": fitted},
    )
