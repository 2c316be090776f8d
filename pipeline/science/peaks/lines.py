"""Peaks A and B of the difference, and beside them the two lines that ΔXAS may be made of.

ΔXAS(E) = a_A g(E; E_A, w_A) + a_B g(E; E_B, w_B) + c,  g(E; E_0, w) = exp(-4 ln2 (E - E_0)^2 / w^2),  a_A > 0 > a_B.

The peaks are those of `extrema`; each that was found starts one line. Lines that overlap push the extrema of their sum apart, so they lie nearer to each other
than the peaks. Lines nearer than about their width can hardly be told from others that are wider, higher and nearer still: `line_degenerate` says where.
"""

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import least_squares

from pipeline.science.peaks.extrema import find_extrema, usable, window_slice
from pipeline.science.peaks.line_shape import gaussian
from schemas.datasets.fitted import PEAKS

__all__ = ["fit_peaks"]

Floats = NDArray[np.float64]
_ENTANGLED = 0.9
"""A position that is so correlated with a width, of either line, is not known by itself."""
_OVERLAP = 0.5  # lines nearer than so much of their mean width
_HIGHEST = 10.0  # height of a line over the largest value: beyond it two lines are a derivative
_QUANTITIES = ("position", "fwhm", "amplitude")


def fit_peaks(spectra: xr.Dataset, *, window: tuple[float, float] = (526.5, 531.0)) -> xr.Dataset:
    """Find the peaks A and B of ΔXAS at every fluence and delay, and fit a line to each.

    Parameters
    ----------
    spectra
        As in `find_extrema`.
    window
        Photon energies that are used [eV], both ends included.

    Returns
    -------
    xr.Dataset
        What `find_extrema` returns, and the lines. dims peak, fluence, delay: `line_position` [eV], `line_amplitude` [OD], `line_fwhm` [eV], each with
        `_stderr`; NaN without a peak, without an error, or at a limit of the fit. dims fluence, delay: `line_correlation`, the largest correlation of a position
        with a width; `line_degenerate`; `line_redchi`; `offset` with `_stderr`, the constant c. Errors are those of `delta_xas_stderr` times `stderr_scale`.

    Raises
    ------
    ConfigError
        The window is empty or reversed.
    DataError
        The spectra have fewer than seven energies inside the window.
    """
    peaks = find_extrema(spectra, window=window)
    inside = spectra[["delta_xas", "delta_xas_stderr"]].isel(energy=window_slice(spectra["energy"].values, window))
    energy, (values, weights) = inside["energy"].values.astype(np.float64), usable(inside)
    shape = values.shape[:2]
    cubes = {n: np.full((2, *shape), np.nan) for q in _QUANTITIES for n in (f"line_{q}", f"line_{q}_stderr")}
    maps = {n: np.full(shape, np.nan) for n in ("offset", "offset_stderr", "line_redchi", "line_correlation")}
    degenerate = np.zeros(shape, bool)
    start = np.stack([peaks[n].values for n in _QUANTITIES])
    scale = peaks["stderr_scale"].values
    for at in np.ndindex(shape):
        line = _Lines(start[:, :, *at], energy, values[at], weights[at] / scale[at])
        if line.freedom < 0 or not (weights[at] > 0).any():
            continue
        line.fit()
        for i, name in enumerate(_QUANTITIES):
            cubes[f"line_{name}"][line.which, *at] = line.values[i]
            cubes[f"line_{name}_stderr"][line.which, *at] = line.stderr[i]
        maps["offset"][at], maps["offset_stderr"][at] = line.offset
        maps["line_redchi"][at] = line.chi2 * scale[at] ** 2 / line.freedom if line.freedom else np.nan
        maps["line_correlation"][at], degenerate[at] = line.correlation, line.degenerate
    peaks = peaks.assign(
        {n: (("peak", "fluence", "delay"), v) for n, v in cubes.items()}
        | {n: (("fluence", "delay"), v) for n, v in maps.items()}
        | {"line_degenerate": (("fluence", "delay"), degenerate)}
    )
    return PEAKS.describe(peaks)


class _Lines:
    """A line of the given sign at each peak (quantity, peak) that was found, and a constant, fitted to one spectrum."""

    def __init__(self, start: Floats, energy: Floats, values: Floats, weights: Floats) -> None:
        used = weights > 0
        self._energy, self._values, self._weights = energy[used], values[used], weights[used]
        self.which = np.flatnonzero(np.isfinite(start[0]))
        self._start, self._span = start[:, self.which], energy[-1] - energy[0]
        self._step = float(np.median(np.diff(energy)))
        self.freedom = len(self._values) - 3 * len(self.which) - 1

    def fit(self) -> None:
        n, sign = len(self.which), np.array([1.0, -1.0])[self.which]
        self._unit = float(np.abs(self._values).max()) or 1.0
        position, fwhm, amplitude = self._start
        width = np.where(np.isfinite(fwhm), fwhm, 0.2 * self._span)
        height = np.where(amplitude * sign > 0, amplitude, 0.1 * sign * self._unit) / self._unit
        low = np.r_[0 * position + self._energy[0], 0 * width + self._step, np.where(sign > 0, 0.0, -_HIGHEST), -np.inf]
        high = np.r_[0 * position + self._energy[-1], 0 * width + self._span, np.where(sign > 0, _HIGHEST, 0.0), np.inf]
        start = np.clip(np.r_[position, width, height, 0.0], low, high)
        fit = least_squares(self._residual, start, bounds=(low, high), x_scale="jac")
        with np.errstate(invalid="ignore", divide="ignore"):
            covariance = _inverse(fit.jac.T @ fit.jac)
            error = np.sqrt(np.diag(covariance))
            correlation = covariance / np.outer(error, error)
        self.chi2 = 2.0 * float(fit.cost)
        self.offset = self._unit * fit.x[-1], self._unit * error[-1]
        lines, errors = fit.x[:-1].reshape(3, n), error[:-1].reshape(3, n)
        unit = np.array([1.0, 1.0, self._unit])[:, None]
        known = fit.success and not fit.active_mask.any() and bool(np.isfinite(error).all())
        self.values, self.stderr = (np.where(known, unit * a, np.nan) for a in (lines, errors))
        entangled = np.abs(correlation[:n, n : 2 * n])
        self.correlation = float(entangled.max()) if n and known else np.nan
        near = n == 2 and abs(np.ptp(lines[0])) < _OVERLAP * lines[1].mean()
        self.degenerate = n > 0 and (not known or bool(near) or self.correlation > _ENTANGLED)

    def _residual(self, theta: Floats) -> Floats:
        position, fwhm, height = theta[:-1].reshape(3, -1, 1)
        curve = np.sum(height * gaussian(self._energy, position, fwhm), axis=0) + theta[-1]
        return np.asarray((self._unit * curve - self._values) * self._weights)


def _inverse(curvature: Floats) -> Floats:
    """Return the covariance; NaN where a parameter is not determined."""
    scale = np.sqrt(np.diag(curvature))
    scaled = curvature / np.outer(scale, scale)
    if not np.isfinite(scaled).all() or np.linalg.cond(scaled) > 1e12:
        return np.full_like(curvature, np.nan)
    return np.asarray(np.linalg.inv(scaled) / np.outer(scale, scale))
