"""Spectra → peaks, kinetics and mixture: the fits of a dataset, put together as the product's groups.

`pipeline.science` knows one fit of given data and no config. Here it is decided, from the config and the data, what is
fitted to what, what is tried where that fails, and what a person must be told.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.peaks.lines import fit_peaks
from pipeline.science.peaks.windows import difference_window
from pipeline.science.spectra.resampling import Replicates
from pipeline.stages.fit_kinetics import fit_all_kinetics
from pipeline.stages.fit_mixture import Models, fit_mixture
from schemas.config import Config
from schemas.products import GROUPS

__all__ = ["MODULES", "fit_all"]

MODULES = (
    "pipeline.stages.fit.*",
    "pipeline.science.kinetics.*",
    "pipeline.science.mixture.*",
    "pipeline.science.peaks.*",
)
"""Sources that shape the fits."""


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
        See `schemas.datasets.stages`.
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
    SpecError
        If a group is not as specified.
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
    mixture = fit_mixture(spectra, config, models, window, warnings)
    results = {"peaks": peaks, "kinetics": kinetics, "components": components, "mixture": mixture}
    return {name: GROUPS[name].check(group) for name, group in results.items()}, warnings


def _no_peaks(spectra: xr.Dataset) -> xr.Dataset:
    dims = ("peak", "fluence", "delay")
    shape = (2, spectra.sizes["fluence"], spectra.sizes["delay"])
    names = [f"{n}{s}" for n in ("position", "amplitude", "fwhm") for s in ("", "_stderr")]
    peaks = xr.Dataset({n: (dims, np.full(shape, np.nan)) for n in names}).assign(
        detected=(dims, np.zeros(shape, bool))
    )
    return peaks.assign_coords(peak=["A", "B"], fluence=spectra["fluence"].values, delay=spectra["delay"].values)
