"""Kinetics of the difference signal: shared time constants over all traces, with intervals that can be believed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.science.kinetics._ties import check_ties
from pipeline.science.kinetics.intervals import (
    Covariance,
    bootstrap_parameters,
    chi_square,
    covariance,
    describes,
    design_bound,
    error_scale,
    has_signal,
    profile_intervals,
    refit_replicates,
    stderr_from_interval,
)
from pipeline.science.kinetics.parameters import Setting
from pipeline.science.kinetics.problem import Problem, build_problem
from pipeline.science.kinetics.report import (
    bootstrap_summary,
    decay_spectra,
    numbers_from_fit,
    systematic_shifts,
    verdicts,
    without_prior,
)
from pipeline.science.kinetics.search import Solution, model_traces, polish, refine, solve
from schemas.datasets.kinetic_fits import KINETIC_FIT

if TYPE_CHECKING:
    import lmfit

__all__ = ["KineticFit", "fit_kinetics", "solve_kinetics", "with_bootstrap"]

FloatArray = NDArray[np.float64]
_FACTOR = 3.0
"""A tau whose 95 % interval spans more than this factor is called not identifiable."""
_FACTOR_AT_3_SIGMA = 4.0
"""And so is one whose 99.73 % interval spans more than this: a chance fit with a short tau1 looks sharper than it is."""
_ATTEMPTS = 4
_LARGEST_BOUND = 0.6
"""So is one whose Cramer-Rao bound without the amplitude prior is a larger fraction than this."""


def fit_kinetics(
    traces: xr.Dataset,
    *,
    power: int = 2,
    irf_sigma: Setting = "fit",
    t_d: Setting = "fit",
    parameters: lmfit.Parameters | None = None,
    n_exponentials: int = 3,
    amplitude_prior: float | None = 3.0,
    tau_bounds: tuple[float, float] | None = None,
    start: Sequence[float] | None = None,
    systematics: bool = True,
    n_bootstrap: int = 0,
    seed: int = 0,
    replicates: xr.DataArray | None = None,
) -> xr.Dataset:
    """Fit the time constants shared by all traces, each trace with its own amplitudes and sign.

    Parameters
    ----------
    traces
        Dims (trace, delay): delta_xas and delta_xas_stderr [OD], NaN where a trace lacks a delay; coordinates
        delay(delay) [ps] and, if known, energy(trace) [eV].
    power
        2 as printed (squared form), 1 without the square.
    irf_sigma, t_d
        Gaussian response and time zero [ps]: "fit", a number (fixed), or (value, standard error) as a measured prior.
    parameters
        What is said of t_d, irf_sigma, tau1 ... as lmfit writes it, from `kinetic_parameters`: value, min, max, vary,
        expr, a prior. Instead of irf_sigma and t_d, not beside them. Values, bounds and priors are the engine's own; with
        `expr` lmfit's minimiser takes its place, which takes ten to twenty times as long.
    n_exponentials
        3; or 2 (rise and one decay) or 1 (rise only).
    amplitude_prior
        Standard deviation of the amplitudes' prior in units of the largest signal (for the squared form, of their
        products A_i A_j its square); None switches it off.
    tau_bounds
        Search range of the taus [ps]; from the delays unless given: a fifth of a step to four times the range.
    start
        Taus [ps] of an additional start; the result is the same from any.
    systematics
        Refit with t_d and irf_sigma moved by 10 fs where they are fixed.
    n_bootstrap, seed
        Number of parametric bootstrap draws, and the seed of their generator.
    replicates
        Replicates of delta_xas (draw, trace, delay) from resampled trains; they take the place of parametric draws.

    Returns
    -------
    Dataset with, over parameter (t_d, irf_sigma, tau1, ...) [ps]: value, stderr, ci68, ci95 (bound: lower, upper; open
    ends are 0 or +-inf), at_bound, identifiable, fixed, crb (bound of the design without prior), systematic,
    search_bounds (parameter, bound) [ps]; value_without_prior (the neighbouring minimum without the amplitude prior),
    correlation (parameter, parameter2; of the log taus); over term and trace: amplitude, amplitude_stderr; sign;
    fit and residual (trace, delay) [OD]; redchi, chi2, dof; log_tau_sd and log_tau_direction (the principal
    directions); t50 (strongest trace) and signal (time, trace); rate, das (decay, trace): see `decay_spectra`;
    trace_correlation (trace, fitted, fitted2) of the shared parameters and the trace's amplitudes; with a bootstrap,
    bootstrap (draw, parameter), bootstrap_stderr, bootstrap_ci68, bootstrap_ci95. verdict and
    verdict_code (parameter) are the text and the code of what is known of a tau, see `schemas.catalogue`; empty for the others. attrs["parameters"] is JSON, name -> what was
    said of the parameter.

    Raises
    ------
    DataError
        If there are fewer points than parameters, a standard error is not positive, or a tied time comes out negative.
    ConfigError
        For a setting that is none of the above.

    References
    ----------
    Mitrano et al., Sci. Adv. 5, eaax3346 (2019); Golub and Pereyra, SIAM J. Numer. Anal. 10, 413 (1973).
    """
    found = solve_kinetics(
        traces,
        power=power,
        irf_sigma=irf_sigma,
        t_d=t_d,
        parameters=parameters,
        n_exponentials=n_exponentials,
        amplitude_prior=amplitude_prior,
        tau_bounds=tau_bounds,
        start=start,
        systematics=systematics,
    )
    if n_bootstrap or replicates is not None:
        return with_bootstrap(found, n_draws=n_bootstrap, seed=seed, replicates=replicates)
    return found.result


class KineticFit(NamedTuple):
    """A fit and the inside of it, from which a bootstrap goes on without fitting again."""

    result: xr.Dataset
    """See `fit_kinetics`."""
    problem: Problem
    minima: list[Solution]
    scale: float
    """Factor on the variances of the data that makes χ²/dof 1 where it is above."""


def with_bootstrap(
    fit: KineticFit, *, n_draws: int = 0, seed: int = 0, replicates: xr.DataArray | None = None
) -> xr.Dataset:
    """Return the result of a fit with the bootstrap of its parameters; see `fit_kinetics`.

    Parameters
    ----------
    fit
        From `solve_kinetics`.
    n_draws, seed
        Number of parametric draws, and the seed of their generator.
    replicates
        Replicates of delta_xas (draw, trace, delay) from resampled trains, in place of parametric draws.

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
    return KINETIC_FIT.describe(fit.result.merge(bootstrap_summary(_linear(draws))))


def solve_kinetics(
    traces: xr.Dataset,
    *,
    power: int = 2,
    irf_sigma: Setting = "fit",
    t_d: Setting = "fit",
    parameters: lmfit.Parameters | None = None,
    n_exponentials: int = 3,
    amplitude_prior: float | None = 3.0,
    tau_bounds: tuple[float, float] | None = None,
    start: Sequence[float] | None = None,
    systematics: bool = True,
) -> KineticFit:
    """Fit as `fit_kinetics` does, and keep what a bootstrap needs."""
    order = np.argsort(traces["delay"].values, kind="stable")
    ordered = traces.transpose("trace", "delay").isel(delay=order)
    delay = ordered["delay"].values.astype(np.float64)
    if delay.size < 2 or delay[-1] == delay[0]:
        raise DataError(f"kinetics need several delays, got {delay.size}")
    signal = np.asarray(ordered["delta_xas"].values, dtype=np.float64)
    stderr = np.asarray(ordered["delta_xas_stderr"].values, dtype=np.float64)
    problem = build_problem(
        delay,
        signal,
        stderr,
        power=power,
        n_exponentials=n_exponentials,
        irf_sigma=irf_sigma,
        t_d=t_d,
        amplitude_prior=amplitude_prior,
        tau_bounds=tau_bounds,
        parameters=parameters,
    )
    minima = solve(problem, start=start)
    intervals, minima, scale, spread = _intervals(problem, minima)
    best = minima[0]
    check_ties(problem, best.theta)
    result = _parameters(problem, best, intervals, scale, spread)
    result = result.merge(_amplitudes(problem, best, scale, spread, power))
    result = result.merge(numbers_from_fit(problem, best, spread, scale, delay))
    result = result.merge(decay_spectra(problem, best, spread, scale))
    if amplitude_prior is not None:
        bare = without_prior(problem, best)
        result["value_without_prior"] = ("parameter", bare)
    if systematics:
        result["systematic"] = systematic_shifts(problem, best)
    model = model_traces(problem, best)
    result["fit"] = (("trace", "delay"), model)
    result["residual"] = (("trace", "delay"), signal - model)
    result = result.assign_coords(delay=delay)
    result = result.assign_coords({name: c for name, c in ordered.coords.items() if c.dims == ("trace",)})
    result.attrs = {
        "power": power,
        "n_exponentials": n_exponentials,
        "amplitude_prior": "none" if amplitude_prior is None else amplitude_prior,
        "n_minima": sum(m.cost - best.cost < 4.0 * scale for m in minima),
        "n_points": problem.n_points,
        "signal_scale": problem.peak,
        "parameters": json.dumps({n: k.said() for n, k in zip(problem.names, problem.known, strict=True)}),
    }
    known = verdicts(problem, best, result)
    result["verdict"] = ("parameter", ["", "", *(note.text for note in known)])
    result["verdict_code"] = ("parameter", ["", "", *(note.code for note in known)])
    described = KINETIC_FIT.describe(result.isel(delay=np.argsort(order, kind="stable")))
    return KineticFit(described, problem, minima, scale)


def _intervals(problem: Problem, minima: list[Solution]) -> tuple[FloatArray, list[Solution], float, Covariance]:
    """Profile intervals; started again where the profile itself meets a lower minimum."""
    for attempt in range(_ATTEMPTS):
        scale = error_scale(problem, minima[0])
        spread = covariance(problem, minima[0])
        errors = np.sqrt(scale * np.diag(spread.theta))
        last = attempt == _ATTEMPTS - 1
        intervals, lower = profile_intervals(problem, minima, scale, errors, accept_lower=last)
        if lower is None:
            break
        found = polish(problem, refine(problem, lower, thorough=True))
        minima = sorted([found, *minima], key=lambda m: m.cost)
        minima = [m for i, m in enumerate(minima) if i == 0 or m.cost - minima[0].cost > 0.05]
    return intervals, minima, scale, spread


def _parameters(
    problem: Problem, best: Solution, intervals: FloatArray, scale: float, spread: Covariance
) -> xr.Dataset:
    names, free = list(problem.names), problem.free | problem.tied
    value, chi2 = _linear(best.theta), chi_square(problem, best)
    ends = intervals.copy()
    ends[..., 2:, :] = np.exp(ends[..., 2:, :])
    # an IRF that may be zero has an interval that is open towards zero
    ends[:, 1, 0] = np.where(np.isneginf(ends[:, 1, 0]), 0.0, ends[:, 1, 0])
    reach = _linear(problem.data.bounds)
    reach = np.where(np.isfinite(reach), reach, np.stack([value - 10 * problem.spacing, value + 10 * problem.spacing]))
    jacobian = np.concatenate([[1.0, 1.0], value[2:]])
    wald = np.sqrt(scale * np.diag(spread.theta)) * jacobian
    # a linear error beyond the search range says no more than the range does
    wald = np.where(free, np.minimum(wald, reach[1] - reach[0]), 0.0)
    stderr = np.array([stderr_from_interval(value[p], ends[:, p], wald[p], reach[:, p]) for p in range(len(value))])
    stderr = np.where(free, stderr, 0.0)
    limits = problem.data.bounds
    # what is tied has no bounds of its own
    at_bound = problem.free & ((best.theta <= limits[0] + 1e-6) | (best.theta >= limits[1] - 1e-6))
    bound, sd, directions = design_bound(problem, best)
    identifiable: NDArray[np.bool_] = np.array(~at_bound & np.isfinite(ends[1]).all(axis=-1))
    identifiable[1] &= not free[1] or bool(ends[1, 1, 0] > 0)
    # the test of the bound asks the data alone: the prior on the amplitudes closes intervals that they leave open
    identifiable[2:] &= (ends[1, 2:, 1] <= _FACTOR * ends[1, 2:, 0]) & (np.sqrt(scale) * bound[2:] <= _LARGEST_BOUND)
    identifiable[2:] &= ends[2, 2:, 1] <= _FACTOR_AT_3_SIGMA * ends[2, 2:, 0]
    # a wrong form gives narrow intervals too: a value that chi-square contradicts is none, however sharp
    identifiable &= ~free | (has_signal(problem, chi2) and describes(chi2, problem.dof))
    deviations = np.sqrt(np.diag(spread.theta))
    divisor = np.where(free & (deviations > 0), deviations, 1.0)
    correlation = spread.theta / np.outer(divisor, divisor)
    np.fill_diagonal(correlation, 1.0)
    pair = ("parameter", "bound")
    taus = names[2:]
    return xr.Dataset(
        {
            "value": ("parameter", value),
            "stderr": ("parameter", stderr),
            "ci68": (pair, ends[0]),
            "ci95": (pair, ends[1]),
            "at_bound": ("parameter", at_bound),
            "identifiable": ("parameter", identifiable),
            "fixed": ("parameter", ~free),
            "search_bounds": (pair, _linear(limits).T),
            "crb": ("parameter", bound * jacobian),
            "correlation": (("parameter", "parameter2"), correlation),
            "log_tau_sd": ("direction", np.sqrt(scale) * sd),
            "log_tau_direction": (("parameter_tau", "direction"), directions),
            "chi2": chi2,
            "dof": problem.dof,
            "redchi": chi2 / problem.dof,
        },
        coords={"parameter": names, "parameter2": names, "parameter_tau": taus, "bound": ["lower", "upper"]},
    )


def _amplitudes(problem: Problem, best: Solution, scale: float, spread: Covariance, power: int) -> xr.Dataset:
    factor = problem.peak ** (1.0 / power)
    n_par = best.theta.size
    variances = np.diagonal(spread.traces, axis1=1, axis2=2)[:, n_par:]
    measured = (problem.data.weight > 0).any(axis=1, keepdims=True)
    amplitude = np.where(measured, best.amplitudes, np.nan).T * factor
    stderr = np.where(measured, np.sqrt(scale * variances), np.nan).T * factor
    terms = [f"A{i + 1}" for i in range(best.amplitudes.shape[1])]
    sd = np.sqrt(np.diagonal(spread.traces, axis1=1, axis2=2))
    correlation = spread.traces / np.where(sd > 0, sd, 1.0)[:, :, None] / np.where(sd > 0, sd, 1.0)[:, None, :]
    correlation[:, np.arange(sd.shape[1]), np.arange(sd.shape[1])] = 1.0
    return xr.Dataset(
        {
            "amplitude": (("term", "trace"), amplitude),
            "amplitude_stderr": (("term", "trace"), stderr),
            "sign": ("trace", best.signs),
            "trace_correlation": (("trace", "fitted", "fitted2"), correlation),
        },
        coords={"term": terms, "fitted": [*problem.names, *terms], "fitted2": [*problem.names, *terms]},
    )


def _linear(theta: FloatArray) -> FloatArray:
    out = np.array(theta, dtype=np.float64)
    out[..., 2:] = np.exp(out[..., 2:])
    return out
