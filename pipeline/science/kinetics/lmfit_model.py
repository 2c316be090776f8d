"""A kinetics fit in the hands of lmfit: its parameters with errors and correlations, for `kinetic_lmfit_model`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    import lmfit

__all__ = ["lmfit_parameters"]


def lmfit_parameters(fit: xr.Dataset, trace: int = 0) -> lmfit.Parameters:
    """Return one trace's parameters of a `fit_kinetics` result: values, standard errors, correlations, what is fixed.

    They evaluate and refit with `kinetic_lmfit_model(power, sign)`, power being `fit.attrs["power"]` and sign the
    trace's `fit["sign"]`.

    Parameters
    ----------
    fit
        From `fit_kinetics` with three exponentials.
    trace
        Number of the trace, whose amplitudes are taken.

    Returns
    -------
    lmfit.Parameters t_d, irf_sigma, tau1, tau2, tau3 [ps], A1, A2, A3. The correlation of a tau is that of its
    logarithm, the same to first order.

    Raises
    ------
    ValueError
        If the fit has fewer exponentials: the lmfit model has three.
    """
    import lmfit

    if fit.sizes["term"] != 3:
        raise ValueError(f"the lmfit model has three exponentials, the fit has {fit.sizes['term']}")
    one = fit.isel(trace=trace)
    names = [str(n) for n in one["fitted"].values]
    value = np.concatenate([one["value"].values, one["amplitude"].values]).tolist()
    stderr = np.concatenate([one["stderr"].values, one["amplitude_stderr"].values]).tolist()
    fixed = np.concatenate([one["fixed"].values, np.zeros(3, bool)]).tolist()
    correlation = one["trace_correlation"].values.tolist()
    parameters = lmfit.Parameters()
    for i, name in enumerate(names):
        low = {"irf_sigma": 0.0, "tau1": 1e-3, "tau2": 1e-3, "tau3": 1e-3}.get(name, -np.inf)
        parameters.add(name, value=value[i], vary=not fixed[i], min=low)
        parameters[name].stderr = 0.0 if fixed[i] else stderr[i]
        parameters[name].correl = (
            {other: correlation[i][j] for j, other in enumerate(names) if j != i and not fixed[j]}
            if not fixed[i]
            else None
        )
    return parameters
