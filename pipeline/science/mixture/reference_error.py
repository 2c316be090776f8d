"""What the reference of ΔXAS cannot know, in the shares of the mixture: what the fit of its modes leaves open, and the films."""

from __future__ import annotations

import numpy as np
import xarray as xr

from schemas.datasets.fitted import MIXTURE

__all__ = ["per_film", "reference_error", "with_reference_error"]

NAMES = ("alpha", "slope", "intercept")


def per_film(spectra: xr.Dataset) -> xr.Dataset:
    """Return spectra whose ΔXAS is that of a pumped film as thick as the unpumped one, which α is a share of.

    Parameters
    ----------
    spectra
        delta_xas, od_pumped and od_unpumped (fluence, delay, energy), film_ratio (fluence, delay) where it is known.
    """
    if "film_ratio" not in spectra:
        return spectra
    ratio = spectra["film_ratio"]
    scaled = {n: spectra[n] / ratio for n in ("delta_xas", "delta_xas_stderr", "systematic_mode") if n in spectra}
    scaled = {n: v.transpose(*spectra[n].dims).assign_attrs(spectra[n].attrs) for n, v in scaled.items()}
    return spectra.assign(scaled | {"od_pumped": spectra["od_unpumped"] + scaled["delta_xas"]})


def reference_error(spectra: xr.Dataset, mixture: xr.Dataset) -> xr.Dataset:
    """Return the error of alpha (fluence), slope and intercept that is the reference's.

    Parameters
    ----------
    spectra
        film_ratio and film_ratio_stderr (fluence, delay) where there are any.
    mixture
        What the fit gave for them: alpha, slope, intercept, each with `_reference_stderr`.
    """
    square = {name: mixture[f"{name}_reference_stderr"].fillna(0.0) ** 2 for name in NAMES}
    if "film_ratio_stderr" in spectra:
        # films differ alike at all fluences
        error = float(np.nanmean((spectra["film_ratio_stderr"] / spectra["film_ratio"]).values))
        square = {name: value + (error * mixture[name]) ** 2 for name, value in square.items()}
    return xr.Dataset({name: np.sqrt(value) for name, value in square.items()})


def with_reference_error(mixture: xr.Dataset, error: xr.Dataset) -> xr.Dataset:
    """Return a mixture whose model errors hold those of the reference, which also stand by themselves, see `reference_error`."""
    total = {f"{n}_model_stderr": np.hypot(mixture[f"{n}_model_stderr"].fillna(0.0), error[n]) for n in NAMES}
    return MIXTURE.describe(mixture.assign(total | {f"{n}_reference_stderr": error[n] for n in NAMES}))
