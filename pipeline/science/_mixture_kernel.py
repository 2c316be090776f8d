"""Least squares behind the mixture: the ground component in the unpumped spectra, then the excited share in ΔXAS with every error carried over.

Parameters of the ground component, in this order everywhere: scale, shift [eV], variance of the extra Gaussian broadening [eV^2], slope of the background.
The extra broadening enters by its variance v because a convolution obeys the heat equation, dg/dv = g''/2, which makes its derivative exact.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.optimize import minimize_scalar

from pipeline.errors import DataError

__all__ = [
    "Components",
    "ExcitedFit",
    "GroundFit",
    "GroundShape",
    "Merged",
    "Scans",
    "best_shift",
    "fit_excited",
    "fit_ground",
    "ground_curve",
    "merge_scans",
    "scans_of",
    "window_of",
]

Floats = NDArray[np.float64]
_FWHM2_PER_VARIANCE = 8.0 * np.log(2.0)
_MIN_BINS = 6


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
            full = np.fft.irfft(
                self._transform * np.exp(-0.5 * variance * self._frequency**2), 2 * len(self.grid) + 4 * self._pad
            )
            values = full[self._pad : self._pad + len(self.grid)]
            self._splines[variance] = CubicSpline(self.grid, values, bc_type="natural")
        return self._splines[variance]

    def __call__(self, energy: Floats, variance: float, order: int = 0) -> Floats:
        """Value or derivative with respect to energy; beyond the grid the end value continues."""
        where = np.clip(energy, self.grid[0], self.grid[-1])
        result = np.asarray(self.spline(variance)(where, order))
        return result if order == 0 else np.where(where == energy, result, 0.0)


@dataclass(frozen=True)
class Scans:
    """One measured quantity inside the window: values and 1 / sigma^2 (0: missing), (scan, energy)."""

    values: Floats
    weights: Floats


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
    """theta = scale, shift, variance, slope; `gain` (4, scan, energy): how every unpumped value moves theta."""

    theta: Floats
    covariance: Floats
    gain: Floats
    chi2: float
    dof: int
    at_limit: bool


class ExcitedFit(NamedTuple):
    """Shares per group, the shift of the excited component, and their errors."""

    alpha: Floats
    shift: float
    covariance: Floats  # (groups + 1) square, the last row is the shift; ground errors included
    independent: Floats  # variance of each share from the noise of its own scans alone
    chi2: Floats


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


def scans_of(spectra: xr.Dataset, name: str, inside: slice) -> Scans:
    """Variable and weights of `spectra` as (fluence x delay, energy in the window)."""
    dims = ("fluence", "delay", "energy")
    values = spectra[name].transpose(*dims).values[..., inside]
    sigma = spectra[name + "_stderr"].transpose(*dims).values[..., inside]
    usable = np.isfinite(values) & np.isfinite(sigma) & (sigma > 0)
    weights = np.where(usable, 1.0 / np.where(usable, sigma, 1.0) ** 2, 0.0)
    n = values.shape[-1]
    return Scans(np.where(usable, values, 0.0).reshape(-1, n), weights.reshape(-1, n))


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


def fit_ground(shape: GroundShape, merged: Merged, *, shifts: Floats, max_fwhm: float) -> GroundFit:
    """Scale x shape(E - shift; variance) + slope (E - mean E) + a constant per scan, shift inside the range of `shifts`."""
    theta = _ground_start(shape, merged, shifts, max_fwhm)
    limits = np.array(
        [[-np.inf, shifts[0], 0.0, -np.inf], [np.inf, shifts[-1], max_fwhm**2 / _FWHM2_PER_VARIANCE, np.inf]]
    )
    damping = 1e-3
    chi2, descent, curvature = _ground_equations(shape, merged, theta)
    for _ in range(100):
        held = ((theta <= limits[0]) & (descent < 0)) | ((theta >= limits[1]) & (descent > 0))
        scale = np.sqrt(np.maximum(np.diag(curvature), 1e-300))
        system = curvature / np.outer(scale, scale) + damping * np.eye(4)
        system[held], system[:, held] = 0.0, 0.0
        system[held, held] = 1.0
        step = np.linalg.solve(system, np.where(held, 0.0, descent / scale)) / scale
        trial = np.clip(theta + step, *limits)
        new = _ground_equations(shape, merged, trial)
        moved = float(np.max(np.abs(trial - theta) * scale))
        if new[0] <= chi2:
            theta, (chi2, descent, curvature), damping = trial, new, damping * 0.1
        else:
            damping *= 5.0
        if moved < 1e-5 or damping > 1e12:
            break
    covariance = _inverse_of_used(curvature)
    jacobian = _ground_jacobian(shape, merged.energy, theta)
    weights = merged.scans.weights
    total = weights.sum(axis=1)
    mean = (weights @ jacobian) / np.where(total > 0, total, 1.0)[:, None]
    centred = jacobian[None, :, :] - mean[:, None, :]
    gain = np.einsum("pq,keq,ke->pke", covariance, centred, weights)
    at_limit = bool(np.any(theta[1:3] <= limits[0, 1:3]) or np.any(theta[1:3] >= limits[1, 1:3]))
    return GroundFit(theta, covariance, gain, float(chi2), merged.n_points - merged.n_scans - 4, at_limit)


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


def ground_curve(shape: GroundShape, energy: Floats, theta: Floats) -> Floats:
    """The component without its background."""
    return np.asarray(theta[0] * shape(energy - theta[1], theta[2]))


def _ground_jacobian(shape: GroundShape, energy: Floats, theta: Floats) -> Floats:
    where = energy - theta[1]
    value, first, second = (shape(where, theta[2], order) for order in range(3))
    return np.stack([value, -theta[0] * first, 0.5 * theta[0] * second, energy - energy.mean()], axis=1)


def _ground_equations(shape: GroundShape, merged: Merged, theta: Floats) -> tuple[float, Floats, Floats]:
    jacobian = _ground_jacobian(shape, merged.energy, theta)
    curve = ground_curve(shape, merged.energy, theta) + theta[3] * jacobian[:, 3]
    pull = merged.moment - merged.precision @ curve
    chi2 = merged.constant - float(curve @ (merged.moment + pull))
    return chi2, jacobian.T @ pull, jacobian.T @ merged.precision @ jacobian


# --- excited share -----------------------------------------------------------------------------------------------------------


class Components(NamedTuple):
    """Ground and excited shape with the fitted ground parameters."""

    ground: GroundShape
    excited: GroundShape
    fit: GroundFit

    def template(self, energy: Floats, shift: float) -> Floats:
        """ΔXAS of a share of 1: scale [excited(E - shift) - ground(E - ground shift)]."""
        scale, ground_shift, variance, _ = self.fit.theta
        difference = self.excited(energy - shift, variance) - self.ground(energy - ground_shift, variance)
        return np.asarray(scale * difference)

    def ground_derivatives(self, energy: Floats, shift: float, *, tied: bool) -> Floats:
        """Derivative of the template with respect to scale, shift, variance, slope: (energy, 4); `tied`: the excited shift follows the ground's."""
        scale, ground_shift, variance, _ = self.fit.theta
        here, there = energy - ground_shift, energy - shift
        moved = scale * self.ground(here, variance, 1)
        if tied:
            moved = moved - scale * self.excited(there, variance, 1)
        widened = 0.5 * scale * (self.excited(there, variance, 2) - self.ground(here, variance, 2))
        return np.stack([self.template(energy, shift) / scale, moved, widened, np.zeros_like(energy)], axis=1)


def best_shift(
    parts: Components, energy: Floats, scans: Scans, group: NDArray[np.int_], shifts: Floats
) -> tuple[float, float]:
    """Excited shift with the smallest chi2 (shares in closed form) whose shares are positive on the whole, and how much chi2 falls by it."""
    n_groups = int(group.max()) + 1

    def cost(shift: float) -> float:
        alpha, precision = _shares(parts.template(energy, shift), scans, group, n_groups)
        alpha = np.nan_to_num(alpha)
        return -float(np.sum(alpha**2 * precision)) if np.sum(alpha * precision) > 0 else 0.0

    values = np.array([cost(shift) for shift in shifts])
    at = int(np.argmin(values))
    bounds = (float(shifts[max(at - 1, 0)]), float(shifts[min(at + 1, len(shifts) - 1)]))
    best = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-7})
    return float(best.x), -float(best.fun)


def _shares(template: Floats, scans: Scans, group: NDArray[np.int_], n_groups: int) -> tuple[Floats, Floats]:
    """Share and its precision per group of scans; group -1 is left out."""
    used = group >= 0
    normal = _sum_by_group((scans.weights[used] * template**2).sum(axis=1), group[used], n_groups)
    right = _sum_by_group((scans.weights[used] * scans.values[used] * template).sum(axis=1), group[used], n_groups)
    return np.where(normal > 0, right / np.where(normal > 0, normal, 1.0), np.nan), normal


def _sum_by_group(values: Floats, group: NDArray[np.int_], n_groups: int) -> Floats:
    return np.asarray(np.bincount(group, values, n_groups), dtype=np.float64)


def fit_excited(
    parts: Components,
    energy: Floats,
    scans: Scans,
    cross: Floats,
    group: NDArray[np.int_],
    n_groups: int,
    *,
    shift: float,
    mode: str,
) -> ExcitedFit:
    """Shares per group at the given excited shift, with the covariance of shares, shift and ground parameters.

    Parameters
    ----------
    cross
        Covariance of the unpumped OD and ΔXAS of the same bin, (scan, energy): both contain the unpumped intensity.
    group, n_groups
        Group of every scan, -1 for scans left out; number of groups, empty ones included.
    mode
        "free": the shift was fitted to these scans; "ground": it is the shift of the ground component; "fixed": it is a given number.
    """
    template = parts.template(energy, shift)
    alpha, precision = _shares(template, scans, group, n_groups)
    used = np.flatnonzero(group >= 0)
    weights = scans.weights[used]
    known = np.nan_to_num(alpha)[group[used]]
    jacobian = np.zeros((len(used), len(energy), n_groups + 1))
    jacobian[np.arange(len(used)), :, group[used]] = template
    if mode == "free":
        scale, _, variance, _ = parts.fit.theta
        jacobian[:, :, -1] = -known[:, None] * scale * parts.excited(energy - shift, variance, 1)
    normal = np.einsum("kep,ke,keq->pq", jacobian, weights, jacobian, optimize=True)
    inverse = _inverse_of_used(normal)
    ground = known[:, None, None] * parts.ground_derivatives(energy, shift, tied=mode == "ground")
    carry = -inverse @ np.einsum("kep,ke,keq->pq", jacobian, weights, ground, optimize=True)
    # noise of ΔXAS moves the shares directly, the noise of the unpumped spectra in the same bins moves them through the ground parameters
    shared = (
        inverse
        @ np.einsum("kep,ke,qke->pq", jacobian, weights * cross[used], parts.fit.gain[:, used], optimize=True)
        @ carry.T
    )
    covariance = inverse + carry @ parts.fit.covariance @ carry.T + shared + shared.T
    if mode == "ground":
        covariance[-1, -1] = parts.fit.covariance[1, 1]
    misfit = scans.values[used] - known[:, None] * template
    chi2 = _sum_by_group((weights * misfit**2).sum(axis=1), group[used], n_groups)
    independent = np.where(precision > 0, 1.0 / np.where(precision > 0, precision, 1.0), np.nan)
    return ExcitedFit(alpha, shift, covariance, independent, chi2)


def _inverse_of_used(normal: Floats) -> Floats:
    used = np.diag(normal) > 0
    inverse = np.zeros_like(normal)
    scale = np.sqrt(np.diag(normal)[used])
    block = normal[np.ix_(used, used)] / np.outer(scale, scale)
    inverse[np.ix_(used, used)] = np.linalg.pinv(block, rcond=1e-13, hermitian=True) / np.outer(scale, scale)
    return inverse
