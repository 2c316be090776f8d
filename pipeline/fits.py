"""Spectra → peaks, kinetics and mixture: the fits of a dataset, put together as the product's groups."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from pipeline.errors import CoverageError, DataError
from pipeline.kinetics import fit_all_kinetics
from pipeline.science.mixture.models import fit_builtin_models, fit_models
from pipeline.science.peaks.fit import fit_peaks
from pipeline.science.peaks.windows import difference_window
from pipeline.science.spectra.resampling import Replicates
from schemas.config import Config

__all__ = ["MODULES", "fit_all"]

Models = Mapping[str, tuple[xr.DataArray, xr.DataArray]]

MODULES = (
    "pipeline.fits",
    "pipeline.kinetics",
    "pipeline.science.kinetics.*",
    "pipeline.science.mixture.*",
    "pipeline.science.peaks.*",
    "pipeline.science.spectra.resampling",
)
"""Sources that shape the fits."""

TOLERANCE = 0.01
"""A measured delay counts as min_delay when it is this near below it [ps]."""
MODEL_LIMIT = 0.1
"""Model error of α, as a fraction of it, that a person must know of."""
GROUND_LIMIT = 3.0
"""χ² per degree of freedom of the ground state above which the model is at fault."""


def fit_all(
    spectra: xr.Dataset,
    delay_scan: xr.Dataset,
    config: Config,
    models: Models,
    replicates: Replicates | None = None,
) -> tuple[dict[str, xr.Dataset], list[str]]:
    """Return the groups peaks, kinetics, components and mixture, and warnings about what could not be fitted.

    Parameters
    ----------
    spectra, delay_scan
        See `schemas.datasets`.
    config
        Options of the fits.
    models
        Name -> (ground, excited) DOS over energy [eV], the one that is reported first; empty for built-in peaks.
    replicates
        Differences of resampled trains, where `kinetics.bootstrap` asks for them.

    Raises
    ------
    CoverageError
        If a DOS that was given does not cover the window.
    """
    warnings: list[str] = []
    empty = spectra.sizes["energy"] == 0
    window = config.peaks.window
    if window == "auto":
        window = difference_window(spectra) if not empty else (0.0, 1.0)
    try:
        peaks = fit_peaks(spectra, window=window)
    except DataError as error:
        warnings.append(f"no peaks: {error}")
        peaks = _no_peaks(spectra)
    kinetics, components = fit_all_kinetics(spectra, delay_scan, config, warnings, replicates)
    mixture = _mixture(spectra, config, models, window, warnings)
    return {"peaks": peaks, "kinetics": kinetics, "components": components, "mixture": mixture}, warnings


def _no_peaks(spectra: xr.Dataset) -> xr.Dataset:
    dims = ("peak", "fluence", "delay")
    shape = (2, spectra.sizes["fluence"], spectra.sizes["delay"])
    names = [f"{n}{s}" for n in ("position", "amplitude", "fwhm") for s in ("", "_stderr")]
    peaks = xr.Dataset({n: (dims, np.full(shape, np.nan)) for n in names}).assign(
        detected=(dims, np.zeros(shape, bool))
    )
    return peaks.assign_coords(peak=["A", "B"], fluence=spectra["fluence"].values, delay=spectra["delay"].values)


def _mixture(
    spectra: xr.Dataset,
    config: Config,
    models: Models,
    window: tuple[float, float],
    warnings: list[str],
) -> xr.Dataset:
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
