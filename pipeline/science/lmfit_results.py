"""A known minimum as an lmfit `ModelResult`, which lmfit can read, evaluate and refit."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import lmfit
    from lmfit.model import ModelResult

__all__ = ["as_json", "as_report", "interval_ends", "result_at"]

FloatArray = NDArray[np.float64]
_MANY, _LEAST = 100, 0.1
"""Number of parameters above which small correlations are left out, as lmfit's reports do; and what is small."""
_MESSAGE = "minimum of the search by trxas; lmfit's minimisers can go on from here"


def result_at(
    model: lmfit.Model,
    parameters: lmfit.Parameters,
    data: FloatArray,
    weights: FloatArray,
    independent: Mapping[str, Any],
    *,
    correlation: FloatArray | None = None,
    intervals: Mapping[str, Sequence[tuple[float, float]]] | None = None,
    n_points: int | None = None,
) -> ModelResult:
    """Return the result of a fit whose minimum is known.

    Parameters
    ----------
    model
        The model; its function must be one that a module holds, or the result could not be read again.
    parameters
        At the minimum, with standard errors.
    data, weights
        Dims (row,): what is fitted, and 1 / standard error.
    independent
        The model's independent variables.
    correlation
        Dims (varied, varied), of the parameters that vary, in their order. The covariance is made from it and the standard
        errors; without it there are the standard errors only.
    intervals
        Name -> (probability, end) from the lowest to the highest end, the best value in the middle with probability 0, as
        lmfit's `conf_interval` gives them.
    n_points
        Number of rows that are data, the first ones; all unless given. R² is theirs.
    """
    from lmfit.model import ModelResult

    parameters, first = copy.deepcopy(parameters), copy.deepcopy(parameters)
    names = [name for name, one in parameters.items() if one.vary]
    for one in first.values():
        one.stderr = one.correl = None
    result = ModelResult(
        model, first, data=data, weights=weights, fcn_args=(data, weights), fcn_kws=dict(independent), scale_covar=False
    )
    result.init_params, result.params = first, parameters
    result.init_values = result.best_values = {name: float(one.value) for name, one in parameters.items()}
    result.best_fit = result.init_fit = np.asarray(model.eval(parameters, **independent), np.float64)
    result.residual = (data - result.best_fit) * weights
    result.var_names, result.nvarys, result.ndata = names, len(names), len(data)
    result.nfree = max(result.ndata - result.nvarys, 1)
    result.chisqr = float(np.sum(np.square(result.residual)))
    result.redchi = result.chisqr / result.nfree
    likelihood = result.ndata * np.log(max(result.chisqr, 1e-300) / result.ndata)
    result.aic = float(likelihood + 2 * result.nvarys)
    result.bic = float(likelihood + np.log(result.ndata) * result.nvarys)
    points, fitted = data[:n_points], result.best_fit[:n_points]
    spread = float(np.sum(np.square(points - points.mean())))
    result.rsquared = 1.0 - float(np.sum(np.square(points - fitted))) / max(spread, 1e-300)
    result.nfev, result.success, result.aborted, result.message = 0, True, False, _MESSAGE
    result.errorbars, result.covar = all(parameters[name].stderr is not None for name in names), None
    result.ci_out = {name: [tuple(end) for end in ends] for name, ends in (intervals or {}).items()} or None
    if correlation is not None:
        stderr = np.array([parameters[name].stderr for name in names], dtype=np.float64)
        result.covar = correlation * np.outer(stderr, stderr)
        # of hundreds of parameters, all pairs would be most of the file, and the covariance holds them anyway
        least = 0.0 if len(names) <= _MANY else _LEAST
        for i, name in enumerate(names):
            large = np.flatnonzero(np.abs(correlation[i]) >= least)
            parameters[name].correl = {names[j]: round(float(correlation[i, j]), 9) for j in large if j != i}
    return result


def interval_ends(value: float, ci68: FloatArray, ci95: FloatArray) -> list[tuple[float, float]]:
    """Return a parameter's intervals (bound,) in the form of `result_at`."""
    probability = (0.95, 0.6827, 0.0, 0.6827, 0.95)
    ends = (ci95[0], ci68[0], value, ci68[1], ci95[1])
    return [(p, float(end)) for p, end in zip(probability, ends, strict=True)]


def as_report(result: ModelResult, *lines: str) -> str:
    """Return lmfit's report as text, after lines of our own and before the intervals."""
    from lmfit import ci_report

    parts = [*lines, "", result.fit_report(min_correl=0.5)]
    if result.ci_out:
        parts += ["[[Intervals]]", ci_report(result.ci_out, with_offset=False)]
    return "\n".join(parts) + "\n"


def as_json(result: ModelResult) -> str:
    """Return what `lmfit.model.load_modelresult` reads; the same text for the same result, wherever it was made."""
    content = json.loads(result.dumps())
    # lmfit names the first module in memory that knows the function; it is at home in one
    content["model"]["value"][0]["funcdef"]["importer"] = result.model.func.__module__
    for which in ("params", "init_params"):
        parameters = json.loads(content[which])
        # and lists every function of its formulas in an order that changes; it needs the parameters among them
        symbols = parameters["unique_symbols"]
        parameters["unique_symbols"] = {name: symbols[name] for name in getattr(result, which) if name in symbols}
        content[which] = json.dumps(parameters)
    return json.dumps(content) + "\n"
