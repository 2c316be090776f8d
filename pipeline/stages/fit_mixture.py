"""Late spectra → the excited fraction of every fluence: which spectra, which models, what to say about them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from pipeline.errors import CoverageError, DataError
from pipeline.science.mixture.dos_models import fit_builtin_models, fit_models
from schemas.config import Config

__all__ = ["Models", "fit_mixture"]

Models = Mapping[str, tuple[xr.DataArray, xr.DataArray]]
"""Name -> (ground, excited) DOS over energy [eV]."""

TOLERANCE = 0.01
"""A measured delay counts as min_delay when it is this near below it [ps]."""
MODEL_LIMIT = 0.1
"""Model error of α, as a fraction of it, that a person must know of."""
GROUND_LIMIT = 3.0
"""χ² per degree of freedom of the ground state above which the model is at fault."""


def fit_mixture(
    spectra: xr.Dataset,
    config: Config,
    models: Models,
    window: tuple[float, float],
    warnings: list[str],
) -> xr.Dataset:
    """Return the group mixture; appends to `warnings` what a person must know about it.

    Parameters
    ----------
    spectra
        See `schemas.datasets.stages`.
    config
        Options of the fit.
    models
        Name -> (ground, excited) DOS over energy [eV], the one that is reported first; empty for built-in peaks.
    window
        Energies [eV] where the config names none for the mixture.

    Raises
    ------
    CoverageError
        If a DOS that was given does not cover the window.
    """
    options = config.mixture
    at = options.window if options.window != "auto" else window
    late = spectra["delay"].values >= options.min_delay - TOLERANCE if spectra.sizes["energy"] else np.zeros(0, bool)
    if not late.any():
        warnings.append(f"no mixture: no spectrum at delays of {options.min_delay:g} ps or later")
        return _empty_mixture(spectra)
    try:
        broadening = {"gaussian_fwhm": options.gaussian_fwhm, "lorentzian_fwhm": options.lorentzian_fwhm}
        if models:
            mixture = fit_models(spectra, models, window=at, min_delay=options.min_delay, **broadening)
        else:
            mixture = fit_builtin_models(spectra, window=at, min_delay=options.min_delay)
            warnings.append("mixture: built-in model peaks stand for the DOS; alpha depends on that model")
        if float(mixture["ground_redchi"]) > GROUND_LIMIT:
            warnings.append(
                f"mixture: the ground-state DOS does not describe the unpumped spectrum (χ²/dof "
                f"{float(mixture['ground_redchi']):.1f}); alpha is less certain than its error says"
            )
        for fluence, share, error in zip(
            *(mixture[n].values for n in ("fluence", "alpha", "alpha_model_stderr")), strict=True
        ):
            if error > MODEL_LIMIT * abs(share):
                warnings.append(
                    f"mixture at {fluence:g} mJ/cm²: alpha = {100 * share:.2g} % differs between the DOS by {100 * error:.2g} %"
                )
        for fluence, redchi in zip(mixture["fluence"].values, mixture["redchi"].values, strict=True):
            if redchi > GROUND_LIMIT:
                warnings.append(
                    f"mixture at {fluence:g} mJ/cm²: the DOS do not describe the difference (χ²/dof {redchi:.1f})"
                )
        return mixture
    except CoverageError as error:
        raise CoverageError(f"mixture: {error}") from None
    except DataError as error:
        warnings.append(f"no mixture: {error}")
        return _empty_mixture(spectra)


def _empty_mixture(spectra: xr.Dataset) -> xr.Dataset:
    n_f, n_e = spectra.sizes["fluence"], spectra.sizes["energy"]
    per_fluence, curves = ("fluence",), ("fluence", "energy")
    scalars = ("ground_position", "ground_fwhm", "excited_position", "excited_fwhm", "slope", "intercept")
    result = xr.Dataset(
        {
            **{n: (per_fluence, np.full(n_f, np.nan)) for n in ("alpha", "alpha_stderr", "redchi")},
            **{f"{n}{s}": ((), np.nan) for n in scalars for s in ("", "_stderr")},
            "alpha_model_stderr": (per_fluence, np.full(n_f, np.nan)),
            **{f"{n}_model_stderr": ((), np.nan) for n in ("slope", "intercept")},
            **{
                n: (curves, np.full((n_f, n_e), np.nan))
                for n in ("component_ground", "component_excited", "fit", "residual")
            },
        }
    )
    return result.assign_coords(fluence=spectra["fluence"].values, energy=spectra["energy"].values)
