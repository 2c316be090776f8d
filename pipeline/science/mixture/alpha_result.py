"""The excited fractions as an lmfit `ModelResult` of a model that is linear in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.science.lmfit_results import interval_ends, result_at
from pipeline.science.mixture._ground import common_stderr, compared_cells, is_late, scans_of

if TYPE_CHECKING:
    from lmfit.model import ModelResult

__all__ = ["mixture_result", "mixture_shares"]

FloatArray = NDArray[np.float64]


def mixture_shares(template: FloatArray, fluence: FloatArray, energy: FloatArray, **alpha: float) -> FloatArray:
    """Return ΔXAS of a mixture, row by row: alpha of the row's fluence times the difference of the two states.

    Parameters
    ----------
    template
        ΔXAS of a fraction of 1 at the row's energy [OD], at the shifts and widths that the fit found.
    fluence
        Number of the row's fluence.
    energy
        Photon energy of the row [eV], for whoever plots; no part of the formula.
    alpha
        alpha_0, alpha_1, ...: excited fraction at each fluence.
    """
    number = np.asarray(fluence, np.int64)
    shares = np.zeros(int(number.max()) + 1)
    for k in np.unique(number).tolist():
        shares[k] = alpha[f"alpha_{k}"]
    return np.asarray(shares[number] * template, np.float64)


def mixture_result(spectra: xr.Dataset, mixture: xr.Dataset, min_delay: float) -> ModelResult | None:
    """Return lmfit's result of the excited fractions of `fit_mixture`; None where there is none.

    The shape of the two states, found in a step of its own from the unpumped spectra, is given: lmfit varies alpha_0,
    alpha_1 ... only, each joint over the delays that `fit_mixture` compares. Their errors and covariance are those of the fit,
    which know of the shape's errors too; lmfit's minimiser finds those of the difference alone. A fluence whose alpha
    cannot tell the shape (0) has no result.
    """
    import lmfit

    alpha = mixture["alpha"].values
    known = np.flatnonzero(np.isfinite(alpha) & np.isfinite(mixture["alpha_stderr"].values))
    if not len(known) or not np.abs(alpha[known]).max() > 0:
        return None
    strongest = known[np.argmax(np.abs(alpha[known]))]
    template = mixture["fit"].transpose("fluence", "energy").values[strongest] / alpha[strongest]
    energy = mixture["energy"].values
    begin = int(np.searchsorted(spectra["energy"].values, energy[0]))
    scans = scans_of(spectra, "delta_xas", slice(begin, begin + len(energy)), common=common_stderr(spectra))
    cells = (spectra.sizes["fluence"], spectra.sizes["delay"])
    late = compared_cells(scans.weights.any(axis=1).reshape(cells) & is_late(spectra, min_delay))
    number = np.where(late, np.arange(cells[0])[:, None], -1).ravel()
    scan, at = np.nonzero(scans.weights * np.isin(number, known)[:, None])
    parameters = lmfit.Parameters()
    for k in known.tolist():
        parameters.add(f"alpha_{k}", value=float(alpha[k]))
        parameters[f"alpha_{k}"].stderr = float(mixture["alpha_stderr"][k])
    rows = {"template": template[at], "fluence": number[scan].astype(np.float64), "energy": energy[at]}
    stderr = mixture["alpha_stderr"].values[known]
    correlation = None
    if "alpha_covariance" in mixture:
        correlation = mixture["alpha_covariance"].values[np.ix_(known, known)] / np.outer(stderr, stderr)
    ends = {
        f"alpha_{k}": interval_ends(alpha[k], mixture["alpha_ci68"].values[k], mixture["alpha_ci95"].values[k])
        for k in known.tolist()
        if "alpha_ci68" in mixture
    }
    model = lmfit.Model(mixture_shares, independent_vars=list(rows), param_names=[])
    data, weights = scans.values[scan, at], np.sqrt(scans.weights[scan, at])
    return result_at(model, parameters, data, weights, rows, correlation=correlation, intervals=ends)
