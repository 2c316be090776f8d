"""What a kinetics fit says beside its parameters: signal at given delays, rise time, spectra of the decays, verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import chi2

from pipeline.science.kinetics._projection_kernel import trace_model
from pipeline.science.kinetics.intervals import Covariance, describes
from pipeline.science.kinetics.model import (
    amplitude_products,
    decay_names,
    kinetic_trace,
    product_derivatives,
    trace_gradients,
)
from pipeline.science.kinetics.problem import Problem, linear
from pipeline.science.kinetics.search import Solution, canonical, refine
from schemas.catalogue import note
from schemas.datasets.kinetic_fits import KINETIC_FIT
from schemas.notes import Note

__all__ = [
    "contradicted",
    "ELSEWHERE",
    "TIMES",
    "bootstrap_summary",
    "decay_spectra",
    "numbers_from_fit",
    "systematic_shifts",
    "verdicts",
    "well_determined",
    "withheld",
    "without_prior",
]

FloatArray = NDArray[np.float64]
TIMES = (0.3, 1.0, 60.0)
"""Delays [ps] at which the fitted difference is quoted."""
_SHIFT = 0.010
"""Systematic [ps] of a fixed time zero or response: what a good independent measurement still leaves."""
ELSEWHERE = np.log(1.25)
"""Difference of log tau from which another minimum has another time."""
_FACTOR = 1.5
"""A tau is identifiable if its 95 % interval stays within this factor of its value, ..."""
_FACTOR_AT_3_SIGMA = 4.0
"""... its 99.73 % interval spans less than this (a chance fit with a short tau1 looks sharper than it is), ..."""
_LARGEST_BOUND = 0.6
"""... and its relative Cramér-Rao bound without the amplitude prior is at most this."""
_WANTED = 0.2
"""Relative error at which a tau counts as measured when the needed signal-to-noise ratio is quoted."""


def numbers_from_fit(problem: Problem, best: Solution, spread: Covariance) -> xr.Dataset:
    """Signal at 0.3, 1 and 60 ps and the time of half rise: well known even where the taus are not.

    Errors follow from the joint covariance of the shared parameters and each trace's amplitudes.
    """
    delay = problem.data.delay
    covered = [_covered(t, delay) for t in TIMES]
    usable = np.outer(covered, (problem.data.weight > 0).any(axis=1))
    value, gradient = _curves(problem, best, np.array(TIMES))
    variance = np.einsum("eip,epq,eiq->ie", gradient, spread.traces, gradient)
    error = np.sqrt(np.maximum(variance, 0.0))
    strongest, times = _strongest(problem), _fine_axis(delay)
    one = best._replace(**{name: getattr(best, name)[[strongest]] for name in ("amplitudes", "signs")})
    (curve,), (gradient,) = _curves(problem, one, times)
    t50, slope = _half_rise(times, curve)
    t50_error = np.nan
    if np.isfinite(t50):
        top = int(np.argmax(np.abs(curve)))
        at = np.array([np.interp(t50, times, g) for g in gradient.T])
        # d t50 = (half of the change of the top - change at t50) / slope
        row = (0.5 * gradient[top] - at) / slope
        t50_error = float(np.sqrt(max(row @ spread.traces[strongest] @ row, 0.0)))
    out = xr.Dataset({"t50": t50, "t50_stderr": t50_error}, coords={"time": np.array(TIMES)})
    for name, numbers in (("signal", value.T), ("signal_stderr", error)):
        out[name] = (("time", "trace"), np.where(usable, numbers * problem.peak, np.nan))
    return out


def decay_spectra(problem: Problem, best: Solution, spread: Covariance) -> xr.Dataset:
    """Amplitude of every decay after the rise, trace by trace: the decay-associated spectra of a global fit.

    Expanded, the model is (1 - e^{-x/tau1})^p times a sum of c_d e^{-r_d x}: with p = 1 the c_d are A1, A2, A3 at the
    rates 0, 1/tau2, 1/tau3; with p = 2 they are s A_i A_j (twice that for i != j) at the sums of two such rates. They
    are linear in the signal, so they add up over energies where the A do not.

    Returns
    -------
    Dataset over decay (named by its rate): rate [1/ps]; over (decay, trace): das and das_stderr [OD], the error from the
    joint covariance of A and the shared parameters.
    """
    power, n_par = problem.data.power, best.theta.size
    names, counts = decay_names(power, problem.n_terms)
    twice = np.ones(len(names))
    if power == 2:
        twice = 2.0 - amplitude_products(np.eye(problem.n_terms), 2).sum(axis=0)
    das = best.signs[:, None] * twice * amplitude_products(best.amplitudes, power)
    jacobian = twice * product_derivatives(best.amplitudes, power)
    variance = np.einsum("ekd,ekl,eld->ed", jacobian, spread.traces[:, n_par:, n_par:], jacobian)
    error = np.sqrt(np.maximum(variance, 0.0))
    measured: NDArray[np.bool_] = np.any(problem.data.weight > 0, axis=1, keepdims=True)
    rate = counts @ np.exp(-best.theta[3:])
    out = xr.Dataset({"rate": ("decay", rate)}, coords={"decay": names})
    out["das"] = (("decay", "trace"), np.where(measured, problem.peak * das, np.nan).T)
    out["das_stderr"] = (("decay", "trace"), np.where(measured, problem.peak * error, np.nan).T)
    return out


def bootstrap_summary(draws: FloatArray) -> xr.Dataset:
    """Percentile intervals of bootstrap draws (draw, parameter) [ps]; the standard error is half the 68 % one.

    The standard deviation of the draws would follow the few that fall into another minimum.
    """
    ends = [np.quantile(draws, [0.5 - 0.5 * level, 0.5 + 0.5 * level], axis=0).T for level in (0.6827, 0.95)]
    pair = ("parameter", "bound")
    return xr.Dataset(
        {
            "bootstrap": (("draw", "parameter"), draws),
            "bootstrap_stderr": ("parameter", 0.5 * (ends[0][:, 1] - ends[0][:, 0])),
            "bootstrap_ci68": (pair, ends[0]),
            "bootstrap_ci95": (pair, ends[1]),
        }
    )


def systematic_shifts(problem: Problem, best: Solution) -> xr.DataArray:
    """Largest change of each parameter [ps] when a fixed t_d or irf_sigma moves by +-10 fs, added in quadrature."""
    total = np.zeros(best.theta.size)
    for p in (0, 1):
        if problem.free[p] or problem.tied[p]:
            continue
        shifts = []
        for move in (-_SHIFT, _SHIFT):
            theta = best.theta.copy()
            theta[p] = theta[p] + move if p == 0 else max(theta[p] + move, 0.0)
            moved = refine(problem, best._replace(theta=theta), thorough=True, tolerance=1e-4)
            shifts.append(np.abs(linear(moved.theta) - linear(best.theta)))
        total += np.square(np.max(shifts, axis=0)) * (np.arange(total.size) != p)
    return xr.DataArray(np.sqrt(total), dims="parameter", coords={"parameter": list(problem.names)})


def without_prior(problem: Problem, best: Solution) -> FloatArray:
    """Parameters [ps] at the local minimum that the fit slides to when the amplitudes are left free."""
    bare = problem._replace(data=problem.data._replace(ridge=np.zeros_like(problem.data.ridge)))
    return linear(canonical(refine(bare, best, tolerance=1e-6, max_iterations=100), bare).theta)


def well_determined(value: FloatArray, ends: FloatArray, bound: FloatArray, others: FloatArray) -> NDArray[np.bool_]:
    """Return which times are determined: by their intervals, the Cramér-Rao bound, and where other minima place them.

    Parameters
    ----------
    value
        Times [ps] (parameter,).
    ends
        Intervals at 95 and 99.7 % (level, parameter, bound) [ps].
    bound
        Smallest relative error that the data alone allow (parameter,).
    others
        Times of the other minima that χ² allows (minimum, parameter) [ps].
    """
    # all of these are false for an end that is 0 or infinite
    found = (ends[0, :, 1] <= _FACTOR * value) & (value <= _FACTOR * ends[0, :, 0])
    found &= ends[1, :, 1] <= _FACTOR_AT_3_SIGMA * ends[1, :, 0]
    found &= bound <= _LARGEST_BOUND
    inside = (ends[0, :, 0] <= others) & (others <= ends[0, :, 1])
    found &= (inside | (np.abs(np.log(others / value)) < ELSEWHERE)).all(axis=0)
    return np.asarray(found, dtype=bool)


def verdicts(problem: Problem, best: Solution, result: xr.Dataset, rivals: Sequence[Solution] = ()) -> list[Note]:
    """Return what is known of every tau, in their order: its value with the interval, or what instead and what would be needed.

    `rivals`: other minima that χ² allows, lowest first.
    """
    return [_verdict(problem, best, result, rivals, p) for p in range(2, len(problem.names))]


def contradicted(target: xr.Dataset, who: str, value: xr.DataArray, ci95: xr.DataArray | None = None) -> xr.Dataset:
    """Return a fit none of whose times is called known, if another description that χ² allows has other ones.

    A time is another one if it lies outside the 95 % interval, and this one outside its, and both differ by more than a quarter.

    Parameters
    ----------
    target
        From `fit_target`.
    who
        The other description, in words.
    value, ci95
        Its times (parameter,) [ps] and, where there are any, their intervals (parameter, bound).
    """
    taus = [str(n) for n in target["parameter"].values if str(n).startswith("tau")]
    own, theirs, ends = (one.sel(parameter=taus).values for one in (target["value"], value, target["ci95"]))
    apart = (np.abs(np.log(theirs / own)) > ELSEWHERE) & ((theirs < ends[:, 0]) | (theirs > ends[:, 1]))
    if ci95 is not None:
        low, high = ci95.sel(parameter=taus).values.T
        apart &= (own < low) | (own > high)
    known = target["identifiable"]
    if not apart.any() or not known.sel(parameter=taus).any():
        return target
    free = target["stderr"] > 0
    said = {
        name: note("kinetics.tau_of_target_rival", parameter=name, value=mine, who=who, rival=other)
        for name, mine, other in zip(taus, own.tolist(), theirs.tolist(), strict=True)
        if bool((free & known).sel(parameter=name))
    }
    names = target["parameter"].values.tolist()
    kept = known & ~xr.DataArray([n in said for n in names], dims="parameter")
    out = target.assign(identifiable=("parameter", kept.values))
    for variable, words in (("verdict", "text"), ("verdict_code", "code")):
        before = zip(names, target[variable].values.tolist(), strict=True)
        out[variable] = ("parameter", [getattr(said[n], words) if n in said else v for n, v in before])
    return out


def withheld(result: xr.Dataset) -> xr.Dataset:
    """Return a fit with free amplitudes whose times are not called known, because the line moves while they run."""
    out, free = result.copy(), ~result["fixed"]
    out["identifiable"] = result["identifiable"] & ~free
    taus = [str(n) for n in result["parameter"].values if str(n).startswith("tau") and bool(free.sel(parameter=n))]
    said = {n: note("kinetics.tau_of_moving_line", parameter=n) for n in taus}
    for name, words in (("verdict", "text"), ("verdict_code", "code")):
        before = zip(result["parameter"].values.tolist(), result[name].values.tolist(), strict=True)
        out[name] = ("parameter", [getattr(said[n], words) if n in said else v for n, v in before])
    return KINETIC_FIT.describe(out)


def _verdict(problem: Problem, best: Solution, result: xr.Dataset, rivals: Sequence[Solution], p: int) -> Note:
    value, chi_square, dof = (float(v) for v in (result["value"][p], result["chi2"], result["dof"]))
    low, high = result["ci95"].values[p].tolist()
    known = {"parameter": problem.names[p], "low": low, "high": high}
    if bool(result["fixed"][p]):
        return note("kinetics.tau_given", parameter=problem.names[p], value=value)
    if bool(result["identifiable"][p]):
        return note("kinetics.tau_determined", value=value, **known)
    if not describes(chi_square, dof):
        end = f"{high:.2g}" if np.isfinite(high) else "open"
        probability = float(chi2.sf(chi_square, dof))
        return note("kinetics.tau_of_misfit", redchi=chi_square / dof, probability=probability, **known | {"high": end})
    given = problem.known[p]
    if bool(result["at_bound"][p]) and (given.low > 0 or np.isfinite(given.high)):
        return note("kinetics.tau_at_bound", parameter=problem.names[p], value=value)
    for other in rivals if low > 0 or np.isfinite(high) else ():
        if abs(other.theta[p] - best.theta[p]) > ELSEWHERE:
            rival, excess = float(np.exp(other.theta[p])), other.cost - best.cost
            low, high = (f"{end:.2g}" if np.isfinite(end) else "open" for end in (low, high))
            return note(
                "kinetics.tau_rival", value=value, rival=rival, excess=excess, **known | {"low": low, "high": high}
            )
    below = f"down to its bound of {given.low:.3g} ps" if given.low > 0 else "below"
    above = f"up to its bound of {given.high:.3g} ps" if np.isfinite(given.high) else "above"
    ratio = _signal_to_noise(problem, best)
    needed = ratio * float(result["crb"][p]) / value / _WANTED
    advice = f"about {_round(needed)} is needed with these delays"
    if not needed < 1e5:
        advice = "no ratio in reach would do with these delays"
    elif needed < 1.2 * ratio:
        advice = f"other solutions fit nearly as well (linear error {float(result['stderr'][p]):.2g} ps)"
    return note(_instead(low, high), ratio=_round(ratio), advice=advice, below=below, above=above, **known)


def _instead(low: float, high: float) -> str:
    """Return the code for a tau [ps] of which only the 95 % interval is known."""
    if np.isfinite(high):
        return "kinetics.tau_upper_limit" if low <= 0 else "kinetics.tau_between"
    return "kinetics.tau_lower_limit" if low > 0 else "kinetics.tau_not_determined"


def _signal_to_noise(problem: Problem, best: Solution) -> float:
    """Largest fitted signal of the strongest trace over its median error."""
    strongest, data = _strongest(problem), problem.data
    curve = trace_model(best.theta, best.amplitudes, best.signs, data)[strongest]
    used = data.weight[strongest] > 0
    return float(np.max(np.abs(curve[used])) * np.median(data.weight[strongest][used]))


def _curves(problem: Problem, best: Solution, times: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Fitted traces (trace, time) in scaled units, and their derivatives (trace, time, theta and own amplitude)."""
    t_d, irf_sigma, *taus = linear(best.theta).tolist()
    a, power, sign = best.amplitudes, problem.data.power, best.signs
    value, gradient = (
        f(times, t_d=t_d, irf_sigma=irf_sigma, taus=taus, amplitudes=a, power=power)
        for f in (kinetic_trace, trace_gradients)
    )
    return sign[:, None] * value, sign[:, None, None] * gradient


def _half_rise(times: FloatArray, curve: FloatArray) -> tuple[float, float]:
    """Time at which |curve| first passes half its largest value, and the signed slope there."""
    size = np.abs(curve)
    top = int(np.argmax(size))
    above = np.flatnonzero(size[: top + 1] >= 0.5 * size[top])
    if not len(above) or above[0] == 0:
        return np.nan, np.nan
    i = int(above[0])
    fraction = (0.5 * size[top] - size[i - 1]) / (size[i] - size[i - 1])
    slope = (curve[i] - curve[i - 1]) / (times[i] - times[i - 1])
    return float(times[i - 1] + fraction * (times[i] - times[i - 1])), float(slope)


def _fine_axis(delay: FloatArray) -> FloatArray:
    steps = [np.linspace(a, b, 41) for a, b in pairwise(delay)]
    return np.unique(np.concatenate(steps))


def _covered(time: float, delay: FloatArray) -> bool:
    """Whether the delays reach a time, 1 % short of it counting (59.8 ps stands for 60 ps)."""
    return bool(delay[0] <= time <= 1.01 * delay[-1])


def _strongest(problem: Problem) -> int:
    return int(np.argmax(np.sum(np.square(problem.data.signal * problem.data.weight), axis=1)))


def _round(number: float) -> str:
    return f"{float(f'{number:.2g}'):g}"
