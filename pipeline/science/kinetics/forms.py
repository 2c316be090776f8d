"""How far the data can tell model forms apart: number of exponentials, square or not, product or plain sum."""

from __future__ import annotations

from typing import Unpack

import numpy as np
import xarray as xr

from pipeline.science.kinetics.intervals import chi_square
from pipeline.science.kinetics.problem import FitOptions, build_problem
from pipeline.science.kinetics.search import solve
from schemas.datasets.kinetic_fits import KINETIC_FORMS

__all__ = ["compare_models", "form_name"]

_MODELS: dict[str, tuple[int, int, bool]] = {
    "squared, 3 exponentials": (2, 3, False),
    "squared, 2 exponentials": (2, 2, False),
    "squared, 1 exponential": (2, 1, False),
    "unsquared, 3 exponentials": (1, 3, False),
    "unsquared, 2 exponentials": (1, 2, False),
    "unsquared, 1 exponential": (1, 1, False),
    "plain sum, 3 exponentials": (1, 3, True),
}
"""Name: power, number of exponentials, plain."""


def form_name(power: int, n_exponentials: int) -> str:
    """Return the name of a product form, as `compare_models` has it."""
    return next(name for name, form in _MODELS.items() if form == (power, n_exponentials, False))


def compare_models(
    traces: xr.Dataset,
    **options: Unpack[FitOptions],
) -> xr.Dataset:
    """Fit every model form to the same traces.

    Parameters
    ----------
    traces, options
        As for `fit_kinetics`; without power, n_exponentials and parameters.

    Returns
    -------
    Dataset over model: chi2 (priors left out), n_parameters, aicc, delta_chi2 and delta_aicc against the squared form
    with three exponentials, and tau (model, parameter) [ps], NaN where a model has no such tau. A tau belongs to its
    formula: forms that differ by less than about 9 in chi2 may differ by half in tau1.

    Raises
    ------
    DataError
        If there are fewer points than parameters.

    References
    ----------
    Hurvich and Tsai, Biometrika 76, 297 (1989), for the corrected Akaike criterion.
    """
    ordered = traces.transpose("trace", "delay").isel(delay=np.argsort(traces["delay"].values, kind="stable"))
    data = [ordered[name].values.astype(np.float64) for name in ("delay", "delta_xas", "delta_xas_stderr")]
    chi2, n_parameters = np.empty(len(_MODELS)), np.empty(len(_MODELS), dtype=np.int64)
    known = traces["baseline_stderr"].values if "baseline_stderr" in traces else None
    tau, n_points = np.full((len(_MODELS), 3), np.nan), 0
    for i, (power, n, plain) in enumerate(_MODELS.values()):
        problem = build_problem(
            *data, **options | {"power": power, "n_exponentials": n}, plain=plain, baseline_stderr=known
        )
        best = solve(problem)[0]
        chi2[i] = chi_square(problem, best)
        n_parameters[i] = int(problem.free.sum()) + problem.n_amplitudes + problem.n_baselines
        tau[i, :n] = np.sort(np.exp(best.theta[2:])) if plain else np.exp(best.theta[2:])
        n_points = problem.n_points
    left = np.where(n_points - n_parameters - 1 > 0, n_points - n_parameters - 1.0, np.nan)
    aicc = chi2 + 2 * n_parameters + 2 * n_parameters * (n_parameters + 1) / left
    compared = {
        "chi2": chi2,
        "n_parameters": n_parameters,
        "aicc": aicc,
        "delta_chi2": chi2 - chi2[0],
        "delta_aicc": aicc - aicc[0],
    }
    out = xr.Dataset(coords={"model": list(_MODELS), "parameter": ["tau1", "tau2", "tau3"]})
    out = out.assign({name: ("model", values) for name, values in compared.items()})
    return KINETIC_FORMS.describe(out.assign(tau=(("model", "parameter"), tau)))
