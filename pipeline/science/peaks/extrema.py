"""Peaks A and B of the difference as a person sees them: the maximum and the minimum of ΔXAS, at every fluence and delay.

Position, height and width are those of a smooth curve through the points (`smooth_curve`): f′(E_0) = 0, f(E_0), and the distance of the points beside E_0
where f = f(E_0)/2. Their errors are those of the curve, carried on linearly: σ(E_0) = σ(f′(E_0)) / |f″(E_0)|. No line is fitted.

An extremum counts if the curve falls on either side of it, down to the lowest point inside the window, by more than the noise lets it. A constant in ΔXAS
does not change that; a slope may, so it is asked again after a straight line is taken off that is as steep as the flatter of the two ends of the window.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError
from pipeline.science.peaks.smooth_curve import Kernel, SmoothCurve, choose_kernel, smooth
from schemas.datasets.fitted import PEAKS

__all__ = ["find_extrema", "mean_separation", "usable", "window_slice"]

Floats = NDArray[np.float64]
_MIN_BINS = 7
"""The smallest number of bins in which peaks are sought."""
_SIGNS = {"A": 1.0, "B": -1.0}
_PER_LENGTH = 20  # points of the grid that the extremum is sought on
_ENDS = (
    0.1,
    0.2,
)  # of the window, at either end: where its slope is taken, so near that a peak beside it does not reach in


class _Extremum(NamedTuple):
    position: float
    amplitude: float
    fwhm: float
    position_stderr: float
    amplitude_stderr: float
    fwhm_stderr: float
    position_stderr_systematic: float
    amplitude_stderr_systematic: float


_NONE = _Extremum(*[np.nan] * 8)
_REST = ("separation", "separation_stderr", "redchi", "dof", "stderr_scale")


def find_extrema(
    spectra: xr.Dataset, *, window: tuple[float, float] = (526.5, 531.0), min_significance: float = 4.5
) -> xr.Dataset:
    """Find the maximum A and the minimum B of ΔXAS at every fluence and delay.

    Parameters
    ----------
    spectra
        `delta_xas` and `delta_xas_stderr`, dims (fluence, delay, energy); energy in eV. NaN bins are left out. With
        `systematic_mode` (mode, fluence, delay, energy), the errors that these make are found too.
    window
        Photon energies in which peaks are sought [eV], both ends included.
    min_significance
        By how many standard errors an extremum must stand out.

    Returns
    -------
    xr.Dataset
        dims peak ("A", "B"), fluence, delay: `position` [eV], `amplitude` [OD], `fwhm` [eV], each with `_stderr`; `detected`. A peak that is not detected is
        NaN. `position_stderr_systematic`, `amplitude_stderr_systematic` where the spectra have systematic modes.
        dims fluence, delay: `separation` = position B − position A with `_stderr`; `shift` = position of A minus its position at the latest delay of that
        fluence where A was detected, with `_stderr` (0 there by definition; elsewhere the common error of the reference is included, so shifts at one
        fluence are correlated); `redchi` and `dof` of the spectrum about the curve; `stderr_scale`, the factor on its errors;
        `n_bins`. attrs `kernel`, `length_eV`: how smooth.

    Raises
    ------
    ConfigError
        The window is empty or reversed.
    DataError
        The spectra have fewer than seven energies inside the window.
    """
    inside = window_slice(spectra["energy"].values, window)
    names = [n for n in ("delta_xas", "delta_xas_stderr", "systematic_mode") if n in spectra]
    data = spectra[names].transpose(..., "fluence", "delay", "energy").isel(energy=inside)
    energy = data["energy"].values.astype(np.float64)
    values, weights = (a.reshape(-1, len(energy)) for a in usable(data))
    modes = None
    if "systematic_mode" in data:
        modes = np.nan_to_num(data["systematic_mode"].values).reshape(data.sizes["mode"], -1, len(energy))
    kernel = choose_kernel(energy, values, weights)
    rows = []
    for k, curve in enumerate(smooth(kernel, energy, values, weights)):
        row = [np.nan] * (2 * len(_NONE) + len(_REST))
        if np.any(weights[k] > 0):
            of_spectrum = None if modes is None else modes[:, k]
            row = _of_spectrum(_Seen(kernel, curve, energy, values[k], weights[k], of_spectrum), min_significance)
        rows.append(row)
    result = _with_shift(_dataset(rows, {n: data[n] for n in ("fluence", "delay")}, systematic=modes is not None))
    result["n_bins"] = (("fluence", "delay"), np.sum(weights > 0, axis=1).reshape(result["redchi"].shape))
    attrs = {
        "window": [float(window[0]), float(window[1])],
        "kernel": kernel.family,
        "length_eV": kernel.length,
        "min_significance": float(min_significance),
    }
    return PEAKS.describe(result).assign_attrs(attrs)


def mean_separation(peaks: xr.Dataset, *, min_delay: float = -np.inf) -> tuple[float, float]:
    """Inverse-variance mean of the separation B - A [eV] and its error over all fluences and delays >= `min_delay` [ps]; NaN if none."""
    late = peaks["delay"] >= min_delay
    value = peaks["separation"].where(late).values
    weight = 1.0 / peaks["separation_stderr"].values ** 2
    good = np.isfinite(value) & np.isfinite(weight)
    if not good.any():
        return float("nan"), float("nan")
    total = weight[good].sum()
    return float((weight[good] * value[good]).sum() / total), float(1.0 / np.sqrt(total))


def usable(data: xr.Dataset) -> tuple[Floats, Floats]:
    """Return ΔXAS and 1/σ (fluence, delay, energy), both 0 where a bin was not measured or a spectrum has too few."""
    values, sigma = (data[n].transpose("fluence", "delay", "energy").values for n in ("delta_xas", "delta_xas_stderr"))
    good = np.isfinite(values) & np.isfinite(sigma) & (sigma > 0)
    good &= good.sum(axis=-1, keepdims=True) >= _MIN_BINS
    return np.where(good, values, 0.0), np.where(good, 1.0 / np.where(good, sigma, 1.0), 0.0)


def window_slice(energy: Floats, window: tuple[float, float]) -> slice:
    """Return which energies lie inside the window; see `find_extrema` for what it raises."""
    low, high = window
    if not low < high:
        msg = f"peaks window {low} ... {high} eV is empty: give it as (low, high) with low < high"
        raise ConfigError(msg)
    if np.any(np.diff(energy) <= 0):
        msg = "the energies of the spectra do not increase: sort them before fitting peaks"
        raise DataError(msg)
    tolerance = 1e-9 * abs(high)
    begin, end = np.searchsorted(energy, [low - tolerance, high + tolerance])
    if end - begin < _MIN_BINS:
        covered = f"{energy[0]:g} ... {energy[-1]:g} eV" if len(energy) else "no energies"
        msg = (
            f"only {end - begin} energies inside the peaks window {low:g} ... {high:g} eV, peaks need {_MIN_BINS}: "
            f"the spectra cover {covered}; widen peaks.window or use finer energy bins"
        )
        raise DataError(msg)
    return slice(int(begin), int(end))


class _Seen:
    """One spectrum with its curve, on a grid fine enough for every extremum to lie between two points."""

    def __init__(
        self, kernel: Kernel, curve: SmoothCurve, energy: Floats, values: Floats, weight: Floats, modes: Floats | None
    ) -> None:
        self.curve, self.values, self._modes = curve, values, modes
        measured = energy[weight > 0]
        low, high = measured[0], measured[-1]
        self._grid = np.linspace(low, high, int(_PER_LENGTH * (high - low) / kernel.shortened().length) + 2)
        self._f, self._slope = (curve.rows(self._grid, order) @ values for order in (0, 1))
        left = values - curve.rows(energy) @ values
        self.chi2 = float(np.sum((left * weight) ** 2))

    def extremum(self, sign: float, least: float) -> _Extremum:
        """Return the maximum (sign 1) or the minimum (−1) that stands out most; NaN where none does by `least` standard errors."""
        f, slope = sign * self._f, sign * self._slope
        tops = np.flatnonzero((slope[:-1] > 0) & (slope[1:] <= 0))
        if not len(tops):
            return _NONE
        i = int(max(tops, key=lambda k: min(f[k] - f[: k + 1].min(), f[k] - f[k + 1 :].min())))
        position = self._root(i)
        if not min(self._significance(sign, position, tilt) for tilt in (0.0, *map(self._tilt, _ENDS))) >= least:
            return _NONE
        return self._described(position, sign)

    def positions_covariance(self, positions: Floats) -> Floats:
        """Return the covariance of the positions of several extrema."""
        curvature = self.curve.curvature(positions, self.values)
        return self.curve.covariance(positions, 1) / np.outer(curvature, curvature)

    def _root(self, i: int) -> float:
        """Return where the slope is zero between two points of the grid, by the rule of false position."""
        (a, b), (slope_a, slope_b) = self._grid[i : i + 2], self._slope[i : i + 2]
        guess = a - slope_a * (b - a) / (slope_b - slope_a)
        here = np.array([guess])
        step = (self.curve.rows(here, 1) @ self.values) / (self.curve.rows(here, 2) @ self.values)
        return float(np.clip(guess - step[0], a, b))

    def _tilt(self, part: float) -> float:
        """Return the slope of the flatter of both ends of the window; 0 where they do not go the same way."""
        n = max(int(part * len(self._grid)), 1)
        width = self._grid[n] - self._grid[0]
        first, last = (self._f[n] - self._f[0]) / width, (self._f[-1] - self._f[-1 - n]) / width
        return float(min(first, last, key=abs)) if first * last > 0 else 0.0

    def _significance(self, sign: float, position: float, tilt: float) -> float:
        """Return by how many standard errors the curve, less a slope, falls on the side where it falls least."""
        level = sign * (self._f - tilt * self._grid)
        z = []
        for side in (self._grid < position, self._grid > position):
            if not side.any():
                return 0.0
            k = np.flatnonzero(side)[np.argmin(level[side])]
            ends = np.array([position, self._grid[k]])
            top = sign * ((self.curve.rows(ends[:1]) @ self.values)[0] - tilt * position)
            variance = np.array([1.0, -1.0]) @ self.curve.covariance(ends) @ np.array([1.0, -1.0])
            z.append((top - level[k]) / np.sqrt(variance) if variance > 0 else 0.0)
        return float(min(z))

    def _described(self, position: float, sign: float) -> _Extremum:
        here = np.array([position])
        amplitude = float((self.curve.rows(here) @ self.values)[0])
        curvature = float(self.curve.curvature(here, self.values)[0])
        if sign * curvature >= 0:
            return _NONE
        position_stderr = np.sqrt(self.curve.covariance(here, 1)[0, 0]) / abs(curvature)
        amplitude_stderr = np.sqrt(self.curve.covariance(here)[0, 0])
        moved = higher = np.nan
        if self._modes is not None:
            moved, higher = (
                float(np.sqrt(np.sum((self._modes @ self.curve.rows(here, order)[0]) ** 2))) for order in (1, 0)
            )
        width, width_stderr = self._width(position, amplitude)
        errors = (float(position_stderr), float(amplitude_stderr), width_stderr)
        return _Extremum(position, amplitude, width, *errors, moved / abs(curvature), higher)

    def _width(self, position: float, amplitude: float) -> tuple[float, float]:
        """Return the full width at half the amplitude and its error; NaN where the curve does not come down so far."""
        above = np.sign(amplitude) * (self._f - amplitude / 2) > 0
        top = int(np.argmin(np.abs(self._grid - position)))
        below_left, below_right = np.flatnonzero(~above[:top]), np.flatnonzero(~above[top:])
        if not (len(below_left) and len(below_right)):
            return np.nan, np.nan
        places = [below_left[-1], top + below_right[0] - 1]
        if places[0] == places[1]:
            return np.nan, np.nan
        a, b = self._f[places] - amplitude / 2, self._f[[p + 1 for p in places]] - amplitude / 2
        left, right = self._grid[places] + a / (a - b) * (self._grid[1] - self._grid[0])
        slope = self.curve.rows(np.array([left, right]), 1) @ self.values
        # f(E_side) = f(E_0)/2: the side moves by (δf(E_0)/2 − δf(E_side)) / f′(E_side)
        part = np.array([0.5 / slope[1] - 0.5 / slope[0], 1.0 / slope[0], -1.0 / slope[1]])
        variance = part @ self.curve.covariance(np.array([position, left, right])) @ part
        return float(right - left), float(np.sqrt(max(variance, 0.0)))


def _of_spectrum(seen: _Seen, least: float) -> list[float]:
    """Return both peaks, one after the other, and what belongs to the spectrum as a whole."""
    pair = [seen.extremum(sign, least) for sign in _SIGNS.values()]
    positions = np.array([p.position for p in pair])
    apart = apart_stderr = np.nan
    if np.isfinite(positions).all():
        apart = positions[1] - positions[0]
        apart_stderr = np.sqrt(np.array([-1.0, 1.0]) @ seen.positions_covariance(positions) @ np.array([-1.0, 1.0]))
    dof = seen.curve.freedom
    return [*pair[0], *pair[1], apart, apart_stderr, seen.chi2 / dof if dof > 0 else np.nan, dof, seen.curve.scale]


def _dataset(rows: list[list[float]], coords: dict[str, xr.DataArray], *, systematic: bool) -> xr.Dataset:
    out = xr.Dataset(coords={"peak": list(_SIGNS), **coords})
    shape, n = (coords["fluence"].size, coords["delay"].size), len(_Extremum._fields)
    table = np.array(rows).reshape(*shape, 2 * n + len(_REST))
    for i, name in enumerate(_Extremum._fields):
        if systematic or not name.endswith("systematic"):
            out[name] = (("peak", "fluence", "delay"), np.stack([table[..., i], table[..., n + i]]))
    for i, name in enumerate(_REST):
        out[name] = (("fluence", "delay"), table[..., 2 * n + i])
    return out.assign(detected=np.isfinite(out["position"]))


def _with_shift(peaks: xr.Dataset) -> xr.Dataset:
    position, error = peaks["position"].values[0], peaks["position_stderr"].values[0]
    shift, shift_stderr = np.full_like(position, np.nan), np.full_like(position, np.nan)
    order = np.argsort(peaks["delay"].values)
    for f in range(len(shift)):
        seen = order[np.isfinite(position[f, order])]
        if len(seen):
            latest = seen[-1]
            shift[f] = position[f] - position[f, latest]
            shift_stderr[f] = np.hypot(error[f], error[f, latest])
            shift_stderr[f, latest] = 0.0
    named = {"shift": shift, "shift_stderr": shift_stderr}
    return peaks.assign({name: (("fluence", "delay"), values) for name, values in named.items()})
