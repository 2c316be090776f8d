"""Spectra → peaks, kinetics and mixture: the fits of a dataset, put together as the product's groups."""

from __future__ import annotations

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.kinetics import fit_all_kinetics
from pipeline.science.dos import builtin_dos
from pipeline.science.mixture import fit_mixture
from pipeline.science.peaks import fit_peaks
from pipeline.science.resampling import Replicates
from pipeline.science.windows import difference_window
from schemas.config import Config

__all__ = ["MODULES", "fit_all"]

MODULES = tuple(
    f"pipeline.{name}"
    for name in (
        "fits",
        "kinetics",
        "science.components",
        "science.resampling",
        "science.dos",
        "science.windows",
        *(f"science.{private}{topic}*" for topic in ("kinetic", "mixture", "peaks") for private in ("", "_")),
    )
)
"""Sources that shape the fits."""

TOLERANCE = 0.01
"""A measured delay counts as min_delay when it is this near below it [ps]."""
GROUND_LIMIT = 3.0
"""χ² per degree of freedom of the ground state above which the model is at fault."""


def fit_all(
    spectra: xr.Dataset,
    delay_scan: xr.Dataset,
    config: Config,
    curves: dict[str, xr.DataArray],
    replicates: Replicates | None = None,
) -> tuple[dict[str, xr.Dataset], list[str]]:
    """Return the groups peaks, kinetics, components and mixture, and warnings about what could not be fitted.

    Parameters
    ----------
    spectra, delay_scan
        See `schemas.datasets`.
    config
        Options of the fits.
    curves
        dos_ground and dos_excited over energy [eV], or empty for built-in ones.
    replicates
        Differences of resampled trains, where `kinetics.bootstrap` asks for them.
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
    mixture = _mixture(spectra, config, curves, window, warnings)
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
    curves: dict[str, xr.DataArray],
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
        if curves:
            ground, excited = curves["dos_ground"], curves["dos_excited"]
        else:
            ground, excited = builtin_dos(spectra, window=at, min_delay=options.min_delay)
            warnings.append("mixture: built-in model peaks stand for the DOS; alpha depends on that model")
        mixture = fit_mixture(
            spectra,
            ground,
            excited,
            window=at,
            min_delay=options.min_delay,
            gaussian_fwhm=options.gaussian_fwhm,
            lorentzian_fwhm=options.lorentzian_fwhm,
        )
        if float(mixture["ground_redchi"]) > GROUND_LIMIT:
            warnings.append(
                f"mixture: the ground-state DOS does not describe the unpumped spectrum (χ²/dof "
                f"{float(mixture['ground_redchi']):.1f}); alpha is less certain than its error says"
            )
        for fluence, redchi in zip(mixture["fluence"].values, mixture["redchi"].values, strict=True):
            if redchi > GROUND_LIMIT:
                warnings.append(
                    f"mixture at {fluence:g} mJ/cm²: the DOS do not describe the difference (χ²/dof {redchi:.1f})"
                )
        return mixture
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
            **{
                n: (curves, np.full((n_f, n_e), np.nan))
                for n in ("component_ground", "component_excited", "fit", "residual")
            },
        }
    )
    return result.assign_coords(fluence=spectra["fluence"].values, energy=spectra["energy"].values)
