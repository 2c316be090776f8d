"""Fits → what lmfit reads of them: one `ModelResult` and its report per fit, as files of the product."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from pipeline.science.kinetics.lmfit_model import kinetic_result
from pipeline.science.lmfit_results import as_json, as_report
from pipeline.science.mixture.alpha_result import mixture_result
from pipeline.science.peaks.line_result import peaks_result

if TYPE_CHECKING:
    from lmfit.model import ModelResult

__all__ = ["Fitted", "files_of", "model_results"]

Fitted = Mapping[float, tuple[xr.Dataset, xr.Dataset]]
"""Fluence [mJ/cm²] → the traces that were fitted, and what `fit_kinetics` found."""
_PRIORS = (
    "Below, chi-square and data points count the rows of the priors too (pipeline.science.kinetics.lmfit_model says which);\n"
    "intervals are profiles of chi-square, and an end of 0, -inf or inf is open."
)
_LINES = (
    "Two lines fitted to peaks A and B of the difference; the peaks themselves are where the difference is largest."
)
_SHAPE = "The two states' shapes are given here; the errors are those of the whole fit and know of the shapes' errors."


def model_results(
    fits: Fitted, spectra: xr.Dataset, peaks: xr.Dataset, mixture: xr.Dataset, *, min_delay: float
) -> xr.Dataset:
    """Return the files (file,): `kinetics_8mJcm2.json`, its report `kinetics_8mJcm2.txt`, and so on.

    Parameters
    ----------
    fits
        The kinetics of each fluence.
    spectra, peaks, mixture
        The groups of the product.
    min_delay
        First delay [ps] of the mixture.
    """
    texts: dict[str, str] = {}
    for fluence, (traces, fit) in fits.items():
        redchi = f"χ²/dof of the data: {float(fit['redchi']):.4g} with {int(fit['dof'])} degrees of freedom"
        lines = [
            f"Kinetics at {fluence:g} mJ/cm²",
            redchi,
            *(text for text in fit["verdict"].values.tolist() if text),
            _PRIORS,
        ]
        result = kinetic_result(traces, fit)
        texts[f"kinetics_{fluence:g}mJcm2.json"] = as_json(result)
        texts[f"kinetics_{fluence:g}mJcm2.txt"] = as_report(result, *lines)
    lines_found = peaks_result(spectra, peaks)
    if lines_found is not None:
        texts["peaks.json"] = as_json(lines_found)
        texts["peaks.txt"] = as_report(lines_found, _LINES, _spectra_named(lines_found))
    shares = mixture_result(spectra, mixture, min_delay)
    if shares is not None:
        named = [f"alpha_{k}: {f:g} mJ/cm²" for k, f in enumerate(spectra["fluence"].values.tolist())]
        texts["mixture.json"] = as_json(shares)
        texts["mixture.txt"] = as_report(shares, "Excited fraction", *named, _SHAPE)
    strings = np.dtypes.StringDType()
    return xr.Dataset(
        {"text": ("file", np.array(list(texts.values()), dtype=strings))},
        coords={"file": np.array(list(texts), dtype=strings)},
    )


def _spectra_named(result: ModelResult) -> str:
    """Return which number is which spectrum, a line each."""
    of = {n: result.userkws[n] for n in ("spectrum", "fluence", "delay")}
    first = np.unique(of["spectrum"], return_index=True)[1]
    return "\n".join(f"{of['spectrum'][i]:.0f}: {of['fluence'][i]:g} mJ/cm², {of['delay'][i]:.4g} ps" for i in first)


def files_of(results: xr.Dataset) -> dict[str, str]:
    """Return the texts of the files by their path in a version."""
    return {
        f"fits/{name}": str(text) for name, text in zip(results["file"].values, results["text"].values, strict=True)
    }
