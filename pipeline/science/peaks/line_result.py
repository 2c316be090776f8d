"""The lines of the difference in the hands of lmfit: one model over all spectra, and the `ModelResult` at the fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.science.lmfit_results import result_at
from pipeline.science.peaks._line_kernel import HEIGHT_PRIOR
from pipeline.science.peaks.line_shape import gaussian

if TYPE_CHECKING:
    import lmfit
    from lmfit.model import ModelResult

__all__ = ["peak_lines", "peaks_result"]

FloatArray = NDArray[np.float64]
_LINES = ("A", "B")
_MEASURED = -1


def peak_lines(
    energy: FloatArray,
    spectrum: FloatArray,
    quantity: FloatArray,
    fluence: FloatArray,
    delay: FloatArray,
    **lines: float,
) -> FloatArray:
    """Return the lines of all spectra, row by row: measured points first, then the heights, which a weak prior holds.

    Parameters
    ----------
    energy
        Photon energy of the row [eV].
    spectrum
        Number of the row's spectrum.
    quantity
        -1: ΔXAS; 0, 1: height of the spectrum's line A, B, which the prior holds near 0.
    fluence, delay
        Of the row's spectrum [mJ/cm², ps], for whoever plots; no part of the formula.
    lines
        A_position_0, A_fwhm_0 [eV], A_amplitude_0 [OD] and the same for B, of spectrum 0 and every other; offset_0 [OD].
    """
    number, kind = np.asarray(spectrum, np.int64), np.asarray(quantity, np.int64)
    out = np.zeros(len(number))
    for k in np.unique(number).tolist():
        here = (number == k) & (kind == _MEASURED)
        out[here] = lines.get(f"offset_{k}", 0.0)
        for i, line in enumerate(_LINES):
            if f"{line}_position_{k}" in lines:
                height = lines[f"{line}_amplitude_{k}"]
                out[here] += height * gaussian(energy[here], lines[f"{line}_position_{k}"], lines[f"{line}_fwhm_{k}"])
                out[(number == k) & (kind == i)] = height
    return out


def peaks_result(spectra: xr.Dataset, peaks: xr.Dataset) -> ModelResult | None:
    """Return lmfit's result of the lines of `fit_peaks`; None where no spectrum shows one.

    Spectra in which a line was found take part. Widths that all spectra share (attrs `widths`) were found from all of them
    and are held. Errors of the data are those of the spectra times `stderr_scale`, which for a spectrum with a disturbance
    that grows with its lines is a mean over its energies: there lmfit's minimum may lie a little beside. The weak prior on
    the heights is one row per line.
    """
    import lmfit

    dims = ("peak", "fluence", "delay")
    table = {n: peaks[n].transpose(*dims).values.reshape(2, -1) for n in ("position", "fwhm", "amplitude", "detected")}
    errors = {n: peaks[f"{n}_stderr"].transpose(*dims).values.reshape(2, -1) for n in ("position", "fwhm", "amplitude")}
    used = np.flatnonzero(table["detected"].any(axis=0))
    if not len(used):
        return None
    widths, has_offset = str(peaks.attrs["widths"]), bool(peaks.attrs["constant_offset"])
    parameters, rows = lmfit.Parameters(), _Rows(spectra, peaks)
    for k in used.tolist():
        found = [i for i in range(2) if table["detected"][i, k]]
        for i in found:
            for name in ("position", "fwhm", "amplitude"):
                held = name == "fwhm" and widths.startswith("common")
                _add(parameters, f"{_LINES[i]}_{name}_{k}", table[name][i, k], errors[name][i, k], vary=not held)
        if widths == "shared" and len(found) == 2:
            parameters[f"B_fwhm_{k}"].expr = f"A_fwhm_{k}"
            parameters[f"B_fwhm_{k}"].vary = False
        if has_offset:
            offset, error = (peaks[n].transpose(*dims[1:]).values.ravel()[k] for n in ("offset", "offset_stderr"))
            _add(parameters, f"offset_{k}", offset, error, vary=True)
        rows.add(k, found)
    data, weights, independent, n_points = rows.finished()
    model = lmfit.Model(peak_lines, independent_vars=list(independent), param_names=[])
    return result_at(model, parameters, data, weights, independent, n_points=n_points)


def _add(parameters: lmfit.Parameters, name: str, value: float, stderr: float, *, vary: bool) -> None:
    parameters.add(name, value=float(value), vary=vary)
    if name.split("_")[1] == "fwhm":
        parameters[name].min = 1e-3
    parameters[name].stderr = float(stderr)


class _Rows:
    """The rows of the spectra that take part: measured points, and heights with their prior."""

    def __init__(self, spectra: xr.Dataset, peaks: xr.Dataset) -> None:
        low, high = peaks.attrs["window"]
        energy = spectra["energy"].values
        inside = (energy >= low - 1e-9 * high) & (energy <= high + 1e-9 * high)
        dims = ("fluence", "delay", "energy")
        self._energy = energy[inside]
        self._values, self._stderr = (
            spectra[n].transpose(*dims).values[..., inside].reshape(-1, inside.sum())
            for n in ("delta_xas", "delta_xas_stderr")
        )
        self._scale = peaks["stderr_scale"].transpose(*dims[:2]).values.ravel()
        self._n_delays = spectra.sizes["delay"]
        self._fluence, self._delay = spectra["fluence"].values, spectra["delay"].values
        self._points: list[tuple[FloatArray, ...]] = []
        self._heights: list[tuple[FloatArray, ...]] = []

    def add(self, k: int, found: list[int]) -> None:
        """Add a spectrum with the numbers of its lines."""
        value, stderr = self._values[k], self._stderr[k]
        usable = np.isfinite(value) & np.isfinite(stderr) & (stderr > 0)
        n, ones = int(usable.sum()), np.ones(int(usable.sum()))
        weights = 1.0 / (stderr[usable] * self._scale[k])
        self._points.append((value[usable], weights, self._energy[usable], k * ones, _MEASURED * ones))
        width = HEIGHT_PRIOR * np.abs(value[usable]).max() if n else 1.0
        heights = np.ones(len(found))
        self._heights.append((0 * heights, heights / width, 0 * heights, k * heights, np.array(found, np.float64)))

    def finished(self) -> tuple[FloatArray, FloatArray, dict[str, FloatArray], int]:
        """Return data, weights, the independent variables, and how many rows are data."""
        columns = [np.concatenate(column) for column in zip(*self._points, *self._heights, strict=True)]
        data, weights, energy, spectrum, quantity = columns
        number = spectrum.astype(np.int64)
        independent = {
            "energy": energy,
            "spectrum": spectrum,
            "quantity": quantity,
            "fluence": self._fluence[number // self._n_delays].astype(np.float64),
            "delay": self._delay[number % self._n_delays].astype(np.float64),
        }
        return data, weights, independent, sum(len(p[0]) for p in self._points)
