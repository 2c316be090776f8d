"""A kinetics fit as an lmfit `ModelResult`: one model over all traces, at the minimum that `fit_kinetics` found.

The priors (on the amplitudes, and on measured parameters) are rows after those of the data: the datum is 0 or the measured
value, the weight 1 over the prior's standard deviation. So lmfit minimises the same sum of squares.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.science.kinetics.model import amplitude_products, exponential_table, kinetic_basis
from pipeline.science.lmfit_results import interval_ends, result_at

if TYPE_CHECKING:
    import lmfit
    from lmfit.model import ModelResult

__all__ = ["kinetic_result", "kinetics"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
MEASURED = -1
"""`quantity` of a row that is a measured point."""
_PARAMETER = 10
"""`quantity` of a row that is the prior of parameter number 0; below are the products of amplitudes."""


def kinetics(
    delay: FloatArray,
    trace: IntArray,
    sign: FloatArray,
    quantity: IntArray,
    energy: FloatArray,
    power: int,
    t_d: float = 0.0,
    irf_sigma: float = 0.05,
    **others: float,
) -> FloatArray:
    """Return the model of all traces, row by row: measured points first, then what the priors speak of.

    Parameters
    ----------
    delay
        Delay of the row [ps].
    trace
        Number of the row's trace.
    sign
        Sign of that trace.
    quantity
        -1: ΔXAS at the row's delay. 0, 1, ...: that coefficient of the trace, A_i for power 1, A_i A_j (i <= j) for power
        2, which the prior on the amplitudes holds near 0. 10, 11, ...: parameter t_d, irf_sigma [ps], log tau1 ...
    energy
        Photon energy of the row's trace [eV], for whoever plots; no part of the formula.
    power
        2: squared form, 1: not squared.
    t_d, irf_sigma
        Time zero and response [ps].
    others
        tau1 ... [ps], the amplitudes of every trace, A1_0 being A1 of trace 0, and the constant b_0 under it, if any [OD].

    Returns
    -------
    ndarray
        Dims (row,).
    """
    # lmfit makes numbers with a decimal point of all of them
    trace, quantity, power = np.asarray(trace, np.int64), np.asarray(quantity, np.int64), int(power)
    taus = [others[f"tau{i + 1}"] for i in range(3) if f"tau{i + 1}" in others]
    terms = range(1, len(taus) + 1)
    out = np.empty(len(quantity))
    used, row = np.unique(trace[trace >= 0], return_inverse=True)
    amplitudes = np.array([[others[f"A{i}_{k}"] for i in terms] for k in used.tolist()])
    coefficients = amplitude_products(amplitudes, power)
    constants = np.array([others.get(f"b_{k}", 0.0) for k in used.tolist()])
    row_of = np.zeros(len(trace), dtype=np.int64)
    row_of[trace >= 0] = row
    points = quantity == MEASURED
    times, at = np.unique(delay[points], return_inverse=True)
    basis = kinetic_basis(times, t_d=t_d, irf_sigma=irf_sigma, taus=taus, power=power)
    out[points] = sign[points] * np.einsum("rc,cr->r", coefficients[row_of[points]], basis[:, at])
    out[points] += constants[row_of[points]]
    held = (quantity >= 0) & (quantity < _PARAMETER)
    out[held] = coefficients[row_of[held], quantity[held]]
    theta = np.array([t_d, irf_sigma, *np.log(taus)])
    measured = quantity >= _PARAMETER
    out[measured] = theta[quantity[measured] - _PARAMETER]
    return out


class _Rows(NamedTuple):
    """What the model is compared with: data and weights (row,), and the independent variables."""

    data: FloatArray
    weights: FloatArray
    independent: dict[str, Any]


def kinetic_result(traces: xr.Dataset, fit: xr.Dataset) -> ModelResult:
    """Return lmfit's result of a fit of `fit_kinetics`, made at its minimum.

    `best_fit` holds the fitted difference at the measured points, trace after trace, then the rows of the priors (see
    `kinetics`); chi-square and the number of data points of the report count these too. Standard errors are those of
    the fit (`stderr`, from the profile of chi-square), correlations are linear, and `ci_out` holds the profile intervals.

    Parameters
    ----------
    traces, fit
        What `fit_kinetics` was given and what it returned.

    Returns
    -------
    lmfit.model.ModelResult
        Parameters t_d, irf_sigma, tau1 ... [ps] and A1_0, A2_0 ...: A_i of trace number 0; b_0: its baseline, held.
    """
    import lmfit

    ordered = traces.transpose("trace", "delay")
    used = np.flatnonzero(np.isfinite(fit["amplitude"].values).all(axis=0))
    rows = _rows(ordered, fit, used)
    terms = [str(t) for t in fit["term"].values]
    parameters = _shared(fit)
    for k in used.tolist():
        for i, term in enumerate(terms):
            parameters.add(f"{term}_{k}", value=float(fit["amplitude"][i, k]))
            parameters[f"{term}_{k}"].stderr = float(fit["amplitude_stderr"][i, k])
        if float(fit["baseline_prior"][k]) > 0:
            # held, so that a refit keeps what the prior says of it; the errors of the others know that it was free
            parameters.add(f"b_{k}", value=float(fit["baseline"][k]), vary=False)
            parameters[f"b_{k}"].stderr = float(fit["baseline_stderr"][k])
    # the other parameters reach the function as keywords, whose number lmfit leaves open
    model = lmfit.Model(kinetics, independent_vars=list(rows.independent), param_names=["t_d", "irf_sigma"])
    ends = {
        str(name): interval_ends(float(fit["value"][p]), fit["ci68"].values[p], fit["ci95"].values[p])
        for p, name in enumerate(fit["parameter"].values)
        if not bool(fit["fixed"][p])
    }
    free = [p for p, name in enumerate(fit["parameter"].values) if parameters[str(name)].vary]
    correlation = _correlation(fit, np.array(free, np.int64), used)
    n_points = int(fit.attrs["n_points"])
    return result_at(model, parameters, *rows, correlation=correlation, intervals=ends, n_points=n_points)


def _rows(traces: xr.Dataset, fit: xr.Dataset, used: IntArray) -> _Rows:
    power = int(fit.attrs["power"])
    signal, stderr = traces["delta_xas"].values, traces["delta_xas_stderr"].values
    number, at = np.nonzero(np.isfinite(signal) & np.isfinite(stderr))
    energies = traces["energy"].values if "energy" in traces.coords else np.zeros(len(signal))
    prior, scale = fit.attrs["amplitude_prior"], float(fit.attrs["signal_scale"])
    n_columns = 0 if prior == "none" else exponential_table(power, fit.sizes["term"]).n_columns
    of_trace, column = np.repeat(used, n_columns), np.tile(np.arange(n_columns), len(used))
    centres, precisions, parameters = _priors(fit)
    trace = np.concatenate([number, of_trace, np.full(len(parameters), -1)]).astype(np.int64)
    behind = np.zeros(len(trace) - len(number))
    sharpness = 0.0 if prior == "none" else float(prior) ** -power / scale
    return _Rows(
        np.concatenate([signal[number, at], np.zeros(len(column)), centres]),
        np.concatenate([1.0 / stderr[number, at], np.full(len(column), sharpness), precisions]),
        {
            "delay": np.concatenate([traces["delay"].values[at], behind]),
            "trace": trace,
            "sign": np.concatenate([fit["sign"].values[number], behind + 1.0]),
            "quantity": np.concatenate([np.full(len(number), MEASURED), column, parameters + _PARAMETER]),
            "energy": np.where(trace >= 0, energies[trace], 0.0).astype(np.float64),
            "power": power,
        },
    )


def _priors(fit: xr.Dataset) -> tuple[FloatArray, FloatArray, IntArray]:
    """Values, 1 / standard error and numbers of the parameters that were measured; of a tau the logarithm."""
    known = [(p, one["value"], one["stderr"]) for p, one in enumerate(_known(fit).values()) if "stderr" in one]
    number, value, stderr = np.array(known, np.float64).reshape(-1, 3).T
    is_tau = number > 1
    centres = np.where(is_tau, np.log(np.where(is_tau, value, 1.0)), value)
    return centres, np.where(is_tau, value, 1.0) / stderr, number.astype(np.int64)


def _known(fit: xr.Dataset) -> dict[str, dict[str, Any]]:
    """Return what was said of every parameter before the fit, by name."""
    said = json.loads(fit.attrs["parameters"])
    return {str(name): said.get(str(name), {}) for name in fit["parameter"].values}


def _shared(fit: xr.Dataset) -> lmfit.Parameters:
    """Return the shared parameters at the minimum: held, bounded and tied as they were in the fit."""
    import lmfit

    parameters, known = lmfit.Parameters(), _known(fit)
    for p, name in enumerate(known):
        low, high = fit["search_bounds"].values[p]
        value, held = float(fit["value"][p]), bool(fit["fixed"][p])
        if held or "expr" in known[name]:
            low, high = -np.inf, np.inf
        parameters.add(name, value=value, vary=not held, min=min(low, value), max=max(high, value))
        parameters[name].stderr = float(fit["stderr"][p])
        if "stderr" in known[name]:
            parameters[name].user_data = {"stderr": known[name]["stderr"]}
    for name, said in known.items():
        if "expr" in said:
            parameters[name].expr = said["expr"]
            parameters[name].vary = False
    return parameters


def _correlation(fit: xr.Dataset, free: IntArray, used: IntArray) -> FloatArray:
    """Correlation of the free shared parameters and all amplitudes; traces know of each other through the shared ones."""
    n_par, n_term = fit.sizes["parameter"], fit.sizes["term"]
    shared = fit["correlation"].values[np.ix_(free, free)]
    blocks = fit["trace_correlation"].values
    across = np.concatenate([np.empty((0, len(free))), *(blocks[k][n_par:, free] for k in used)])
    amplitudes = across @ np.linalg.pinv(shared, hermitian=True) @ across.T
    for i, k in enumerate(used):
        own = slice(i * n_term, (i + 1) * n_term)
        amplitudes[own, own] = blocks[k][n_par:, n_par:]
    return np.block([[shared, across.T], [across, amplitudes]])
