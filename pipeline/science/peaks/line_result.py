"""The lines of the difference in the hands of lmfit: one model over all spectra, and the `ModelResult` at the fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.science.lmfit_results import result_at
from pipeline.science.peaks.extrema import usable, window_slice
from pipeline.science.peaks.line_shape import gaussian

if TYPE_CHECKING:
    import lmfit
    from lmfit.model import ModelResult

__all__ = ["peak_lines", "peaks_result"]

FloatArray = NDArray[np.float64]
_LINES = ("A", "B")


def peak_lines(
    energy: FloatArray, spectrum: FloatArray, fluence: FloatArray, delay: FloatArray, **lines: float
) -> FloatArray:
    """Return the lines of all spectra, row by row.

    Parameters
    ----------
    energy
        Photon energy of the row [eV].
    spectrum
        Number of the row's spectrum.
    fluence, delay
        Of the row's spectrum [mJ/cm², ps], for whoever plots; no part of the formula.
    lines
        A_position_0, A_fwhm_0 [eV], A_amplitude_0 [OD] and the same for B, of spectrum 0 and every other; offset_0 [OD].
    """
    number = np.asarray(spectrum, np.int64)
    out = np.zeros(len(number))
    for k in np.unique(number).tolist():
        here = number == k
        out[here] = lines[f"offset_{k}"]
        for line in _LINES:
            if f"{line}_position_{k}" in lines:
                shape = gaussian(energy[here], lines[f"{line}_position_{k}"], lines[f"{line}_fwhm_{k}"])
                out[here] += lines[f"{line}_amplitude_{k}"] * shape
    return out


def peaks_result(spectra: xr.Dataset, peaks: xr.Dataset) -> ModelResult | None:
    """Return lmfit's result of the lines of `fit_peaks`; None where no spectrum shows one.

    Spectra to which a line was fitted take part, with the errors of the spectra times `stderr_scale`.
    """
    import lmfit

    if "line_position" not in peaks:
        return None
    dims = ("peak", "fluence", "delay")
    lines = {
        n: peaks[f"line_{n}"].transpose(*dims).values.reshape(2, -1)
        for q in ("position", "fwhm", "amplitude")
        for n in (q, f"{q}_stderr")
    }
    offset, offset_stderr, scale = (
        peaks[n].transpose(*dims[1:]).values.ravel() for n in ("offset", "offset_stderr", "stderr_scale")
    )
    inside = spectra[["delta_xas", "delta_xas_stderr"]].isel(
        energy=window_slice(spectra["energy"].values, peaks.attrs["window"])
    )
    values, weights = (a.reshape(-1, inside.sizes["energy"]) for a in usable(inside))
    found = np.isfinite(lines["position"])
    parameters, rows = lmfit.Parameters(), []
    for k in np.flatnonzero(found.any(axis=0)).tolist():
        for i in np.flatnonzero(found[:, k]).tolist():
            for name in ("position", "fwhm", "amplitude"):
                _add(parameters, f"{_LINES[i]}_{name}_{k}", lines[name][i, k], lines[f"{name}_stderr"][i, k])
        _add(parameters, f"offset_{k}", offset[k], offset_stderr[k])
        used = weights[k] > 0
        at = {n: inside[n].values for n in ("energy", "fluence", "delay")}
        f, d = divmod(k, inside.sizes["delay"])
        number, fluence, delay = (np.full(used.sum(), float(v)) for v in (k, at["fluence"][f], at["delay"][d]))
        rows.append((values[k][used], weights[k][used] / scale[k], at["energy"][used], number, fluence, delay))
    if not rows:
        return None
    data, weight, energy, spectrum, fluence, delay = (np.concatenate(column) for column in zip(*rows, strict=True))
    independent = {"energy": energy, "spectrum": spectrum, "fluence": fluence, "delay": delay}
    model = lmfit.Model(peak_lines, independent_vars=list(independent), param_names=[])
    return result_at(model, parameters, data, weight, independent)


def _add(parameters: lmfit.Parameters, name: str, value: float, stderr: float) -> None:
    parameters.add(name, value=float(value))
    if name.split("_")[1] == "fwhm":
        parameters[name].min = 1e-3
    parameters[name].stderr = float(stderr)
