"""Least squares behind the mixture, first step: the ground component in the unpumped spectra.

Parameters of the ground component, in this order everywhere: scale, shift [eV], variance of the extra Gaussian broadening [eV^2], slope of the background,
and the factors of further columns of the background where there are any (the tail of an edge).
The extra broadening enters by its variance v because a convolution obeys the heat equation, dg/dv = g''/2, which makes its derivative exact.
"""

from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline

from pipeline.errors import DataError

__all__ = [
    "NARROWEST",
    "GroundFit",
    "GroundShape",
    "Merged",
    "Scans",
    "common_stderr",
    "compared_cells",
    "fit_ground",
    "fitted_curve",
    "inverse_of_used",
    "is_late",
    "left_over",
    "merge_scans",
    "scans_of",
    "window_of",
]

Floats = NDArray[np.float64]
_FWHM2_PER_VARIANCE = 8.0 * np.log(2.0)
_MIN_BINS = 6
NARROWEST = -((0.5 / 2.355) ** 2)
"""Smallest variance of the extra broadening [eV^2]: a DOS that is broader than the sample may become narrower."""
_MAX_GAIN = 30.0
"""About how much a frequency of the DOS is amplified at most, where a DOS that is too broad is made narrower."""
_DELAY_TOLERANCE = 0.01  # ps; a delay from the data (stage and arrival times) is not exactly the nominal one


class GroundShape:
    """A component on a uniform fine grid that can be shifted and broadened further, with derivatives.

    Parameters
    ----------
    grid, values
        Uniform energies [eV] and the component; outside the grid its end values continue.
    """

    def __init__(self, grid: Floats, values: Floats) -> None:
        self.grid = grid
        self.step = float(grid[1] - grid[0])
        self._pad = len(grid) // 2
        padded = np.pad(values, self._pad, mode="edge")
        # mirrored continuation makes the periodic transform blind to a difference between the two ends
        self._transform = np.fft.rfft(np.concatenate([padded, padded[::-1]]))
        self._frequency = 2.0 * np.pi * np.fft.rfftfreq(2 * len(padded), self.step)
        self._splines: dict[float, CubicSpline] = {}

    def spline(self, variance: float) -> CubicSpline:
        """Spline through the component after broadening by `variance` [eV^2]."""
        if variance not in self._splines:
            if len(self._splines) > 64:
                self._splines.clear()
            full = np.fft.irfft(self._transform * self._filter(variance), 2 * len(self.grid) + 4 * self._pad)
            values = full[self._pad : self._pad + len(self.grid)]
            self._splines[variance] = CubicSpline(self.grid, values, bc_type="natural")
        return self._splines[variance]

    def _filter(self, variance: float) -> Floats:
        """Return the transform of a Gaussian; below zero its inverse, which fades where it would amplify too much."""
        if variance >= 0:
            return np.asarray(np.exp(-0.5 * variance * self._frequency**2))
        gain = np.exp(np.minimum(-0.5 * variance * self._frequency**2, 100.0))
        return np.asarray(gain / (1.0 + ((gain - 1.0) / _MAX_GAIN) ** 4))

    def __call__(self, energy: Floats, variance: float, order: int = 0) -> Floats:
        """Value or derivative with respect to energy; beyond the grid the end value continues."""
        where = np.clip(energy, self.grid[0], self.grid[-1])
        result = np.asarray(self.spline(variance)(where, order))
        return result if order == 0 else np.where(where == energy, result, 0.0)


class Scans(NamedTuple):
    """One measured quantity inside the window: values and 1 / sigma^2 (0: missing), (scan, energy)."""

    values: Floats
    weights: Floats
    modes: Floats
    """Independent errors that scans share, one standard deviation each (mode, scan, energy)."""


class Merged(NamedTuple):
    """The unpumped spectra of all scans, each with an unknown constant of its own, as one weighted least-squares problem in the curve.

    chi2(m) = m' P m - 2 m' r + c; P and r have the constants of the scans already minimised away, so no scan's level counts.
    """

    energy: Floats
    precision: Floats
    moment: Floats
    constant: float
    scans: Scans
    n_points: int
    n_scans: int


class GroundFit(NamedTuple):
    """theta = scale, shift, variance, slope and factors of further columns; `gain` (theta, scan, energy): how every unpumped value moves theta."""

    theta: Floats
    covariance: Floats
    gain: Floats
    chi2: float
    dof: int
    columns: Floats
    """Further columns of the background (energy, column)."""


def window_of(energy: Floats, window: tuple[float, float]) -> slice:
    """Energies inside the window, ends included."""
    tolerance = 1e-9 * abs(window[1])
    begin, end = np.searchsorted(energy, [window[0] - tolerance, window[1] + tolerance])
    if end - begin < _MIN_BINS:
        covered = f"{energy[0]:g} ... {energy[-1]:g} eV" if len(energy) else "no energies"
        msg = (
            f"only {end - begin} energies inside the mixture window {window[0]:g} ... {window[1]:g} eV, the fit needs {_MIN_BINS}: "
            f"the spectra cover {covered}; widen mixture.window"
        )
        raise DataError(msg)
    return slice(int(begin), int(end))


def is_late(spectra: xr.Dataset, min_delay: float) -> NDArray[np.bool_]:
    """Delays (delay,) that count as `min_delay` [ps] or later."""
    return np.asarray(spectra["delay"].values >= min_delay - _DELAY_TOLERANCE)


def compared_cells(measured: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Of late spectra (fluence, delay), those at delays that all fluences with one share; all, where none is shared.

    Shares still move with delay, so only those of equal delays tell how they depend on fluence.
    """
    shared = measured[measured.any(axis=1)].all(axis=0)
    return measured & shared if shared.any() and measured.any() else measured


def common_stderr(spectra: xr.Dataset) -> float:
    """Error of the constant between the beams, which every ΔXAS shares; 0 where it is not known apart."""
    found = float(spectra["flat_field_constant_stderr"]) if "flat_field_constant_stderr" in spectra else 0.0
    return found if np.isfinite(found) else 0.0


def scans_of(spectra: xr.Dataset, name: str, inside: slice, *, common: float = 0.0) -> Scans:
    """Variable and weights of `spectra` as (fluence x delay, energy in the window); an error common to all values is taken out of the weights."""
    dims = ("fluence", "delay", "energy")
    values = spectra[name].transpose(*dims).values[..., inside]
    sigma = spectra[name + "_stderr"].transpose(*dims).values[..., inside]
    usable = np.isfinite(values) & np.isfinite(sigma) & (sigma > 0)
    variance = np.where(usable, sigma, 1.0) ** 2
    # rounding must not make a value exact
    weights = np.where(usable, 1.0 / np.maximum(variance - common**2, 1e-3 * variance), 0.0)
    n = values.shape[-1]
    modes = np.zeros((0, *values.shape))
    if name == "delta_xas" and "systematic_mode" in spectra:
        modes = np.nan_to_num(spectra["systematic_mode"].transpose("mode", *dims).values[..., inside]) * usable
        modes = modes[modes.any(axis=(1, 2, 3))]
    return Scans(
        np.where(usable, values, 0.0).reshape(-1, n),
        weights.reshape(-1, n),
        modes.reshape(len(modes), values[..., 0].size, n),
    )


def merge_scans(spectra: xr.Dataset, window: tuple[float, float]) -> Merged:
    """Merge `od_unpumped` over fluences and delays, free of the constant of every scan."""
    inside = window_of(spectra["energy"].values, window)
    scans = scans_of(spectra, "od_unpumped", inside)
    values, weights = scans.values, scans.weights
    total = weights.sum(axis=1)
    used = total > 0
    if not used.any():
        msg = f"no unpumped spectrum between {window[0]:g} and {window[1]:g} eV: every value is missing"
        raise DataError(msg)
    inverse = np.where(used, 1.0 / np.where(used, total, 1.0), 0.0)
    mean = (weights * values).sum(axis=1) * inverse
    centred = (values - mean[:, None]) * (weights > 0)
    precision = np.diag(weights.sum(axis=0)) - np.einsum("ke,kf,k->ef", weights, weights, inverse)
    moment = (weights * centred).sum(axis=0)
    energy = spectra["energy"].values[inside].astype(np.float64)
    chi2 = float((weights * centred**2).sum())
    return Merged(energy, precision, moment, chi2, scans, int((weights > 0).sum()), int(used.sum()))


# --- ground component ------------------------------------------------------------------------------------------------------


def fit_ground(
    shape: GroundShape,
    merged: Merged,
    *,
    shifts: Floats,
    max_fwhm: float,
    columns: Floats | None = None,
    start: Floats | None = None,
) -> GroundFit:
    """Scale x shape(E - shift; variance) + slope (E - mean E) + a constant per scan, shift inside the range of `shifts`.

    `columns` (energy, column): what else the background may hold, in any amount; `start`: theta to begin with.
    """
    more = np.zeros((len(merged.energy), 0)) if columns is None else columns
    theta = _ground_start(shape, merged, shifts, max_fwhm) if start is None else start
    theta = np.concatenate([theta, np.zeros(4 + more.shape[1] - len(theta))])
    limits = np.array([-np.inf, np.inf])[:, None] * np.ones(len(theta))
    limits[:, 1], limits[:, 2] = (shifts[0], shifts[-1]), (0.0, max_fwhm**2 / _FWHM2_PER_VARIANCE)
    theta = _minimum(shape, merged, theta, more, limits)
    if theta[2] == 0.0:
        limits[0, 2] = NARROWEST
        theta = _minimum(shape, merged, theta, more, limits)
    chi2, _, curvature = _ground_equations(shape, merged, theta, more)
    covariance = inverse_of_used(curvature)
    jacobian = _ground_jacobian(shape, merged.energy, theta, more)
    weights = merged.scans.weights
    total = weights.sum(axis=1)
    mean = (weights @ jacobian) / np.where(total > 0, total, 1.0)[:, None]
    centred = jacobian[None, :, :] - mean[:, None, :]
    gain = np.einsum("pq,keq,ke->pke", covariance, centred, weights)
    return GroundFit(theta, covariance, gain, float(chi2), merged.n_points - merged.n_scans - len(theta), more)


def _minimum(shape: GroundShape, merged: Merged, theta: Floats, more: Floats, limits: Floats) -> Floats:
    """Return theta at the minimum of chi2 inside limits (low or high, theta)."""
    damping = 1e-3
    chi2, descent, curvature = _ground_equations(shape, merged, theta, more)
    for _ in range(100):
        held = ((theta <= limits[0]) & (descent < 0)) | ((theta >= limits[1]) & (descent > 0))
        scale = np.sqrt(np.maximum(np.diag(curvature), 1e-300))
        system = curvature / np.outer(scale, scale) + damping * np.eye(len(theta))
        system[held], system[:, held] = 0.0, 0.0
        system[held, held] = 1.0
        # columns of a tail may be one another's multiples
        step = np.linalg.lstsq(system, np.where(held, 0.0, descent / scale), rcond=1e-14)[0] / scale
        trial = np.clip(theta + step, *limits)
        new = _ground_equations(shape, merged, trial, more)
        moved = float(np.max(np.abs(trial - theta) * scale))
        if new[0] <= chi2:
            theta, (chi2, descent, curvature), damping = trial, new, damping * 0.1
        else:
            damping *= 5.0
        if moved < 1e-5 or damping > 1e12:
            break
    return theta


def fitted_curve(shape: GroundShape, merged: Merged, fit: GroundFit) -> Floats:
    """Return what was fitted to the unpumped spectra (energy), without their levels."""
    return _curve(_ground_jacobian(shape, merged.energy, fit.theta, fit.columns), fit.theta)


def left_over(merged: Merged, curve: Floats) -> Floats:
    """Return the mean unpumped spectrum less a curve (energy), whose own mean is nothing: no scan's level is known."""
    weights, values = merged.scans.weights, merged.scans.values
    total = weights.sum(axis=1)
    level = (weights * (values - curve)).sum(axis=1) / np.where(total > 0, total, 1.0)
    seen = weights.sum(axis=0)
    return np.asarray((weights * (values - curve - level[:, None])).sum(axis=0) / np.where(seen > 0, seen, 1.0))


def _curve(jacobian: Floats, theta: Floats) -> Floats:
    return np.asarray(theta[0] * jacobian[:, 0] + jacobian[:, 3:] @ theta[3:])


def _ground_start(shape: GroundShape, merged: Merged, shifts: Floats, max_fwhm: float) -> Floats:
    """Scale and slope in closed form on a grid of shifts and broadenings; the best with a positive scale."""
    best, start = np.inf, np.array([1.0, 0.0, 0.0, 0.0])
    line = merged.energy - merged.energy.mean()
    for fwhm in max_fwhm * np.array([0.02, 0.15, 0.3, 0.5, 0.8]):
        variance = fwhm**2 / _FWHM2_PER_VARIANCE
        for shift in shifts:
            basis = np.stack([shape(merged.energy - shift, variance), line], axis=1)
            normal, right = basis.T @ merged.precision @ basis, basis.T @ merged.moment
            if np.linalg.cond(normal) > 1e13:
                continue
            linear = np.linalg.solve(normal, right)
            chi2 = -float(linear @ right)
            if linear[0] > 0 and chi2 < best:
                best, start = chi2, np.array([linear[0], shift, variance, linear[1]])
    if not np.isfinite(best):
        msg = "the unpumped spectrum holds nothing like the ground DOS in the mixture window: check the DOS energies and mixture.window"
        raise DataError(msg)
    return start


def _ground_jacobian(shape: GroundShape, energy: Floats, theta: Floats, more: Floats) -> Floats:
    where = energy - theta[1]
    value, first, second = (shape(where, theta[2], order) for order in range(3))
    own = np.stack([value, -theta[0] * first, 0.5 * theta[0] * second, energy - energy.mean()], axis=1)
    return np.concatenate([own, more], axis=1)


def _ground_equations(shape: GroundShape, merged: Merged, theta: Floats, more: Floats) -> tuple[float, Floats, Floats]:
    jacobian = _ground_jacobian(shape, merged.energy, theta, more)
    curve = _curve(jacobian, theta)
    pull = merged.moment - merged.precision @ curve
    chi2 = merged.constant - float(curve @ (merged.moment + pull))
    return chi2, jacobian.T @ pull, jacobian.T @ merged.precision @ jacobian


def inverse_of_used(normal: Floats) -> Floats:
    used = np.diag(normal) > 0
    inverse = np.zeros_like(normal)
    scale = np.sqrt(np.diag(normal)[used])
    block = normal[np.ix_(used, used)] / np.outer(scale, scale)
    inverse[np.ix_(used, used)] = np.linalg.pinv(block, rcond=1e-13, hermitian=True) / np.outer(scale, scale)
    return inverse
