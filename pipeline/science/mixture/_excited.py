"""Least squares behind the mixture, second step: the excited share in ΔXAS with every error carried over."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, minimize_scalar

from pipeline.science.mixture._ground import NARROWEST, GroundFit, GroundShape, Scans, inverse_of_used

__all__ = ["Components", "ExcitedFit", "best_shape", "best_shift", "fit_excited"]

Floats = NDArray[np.float64]
_AREAS = (0.1, 10.0)
"""Area of a free excited peak over that of the ground peak."""


class Components(NamedTuple):
    """Ground and excited shape with the fitted ground parameters.

    `area` and `widening` [eV^2] make the excited component larger and broader than its DOS; 1 and 0 unless they are fitted.
    """

    ground: GroundShape
    excited: GroundShape
    fit: GroundFit
    area: float = 1.0
    widening: float = 0.0
    measured: Floats | None = None
    """The ground component as it was measured, at the energies of the fit, in place of the DOS."""
    moved: Callable[[Floats, float], Floats] | None = None
    """What the DOS lacks of the ground component, moved by an energy: the excited component lacks the same."""

    def excited_part(self, energy: Floats, shift: float, order: int = 0) -> Floats:
        """Excited component or its derivative with respect to energy, for a share of 1."""
        scale, _, variance = self.fit.theta[:3]
        part = scale * self.area * self.excited(energy - shift, variance + self.widening, order)
        if self.moved is not None and order == 0:
            part = part + self.moved(energy, shift - float(self.fit.theta[1]))
        return np.asarray(part)

    def template(self, energy: Floats, shift: float) -> Floats:
        """ΔXAS of a share of 1: scale [excited(E - shift) - ground(E - ground shift)]."""
        return np.asarray(self.excited_part(energy, shift) - self.ground_part(energy))

    def ground_part(self, energy: Floats) -> Floats:
        """Ground component: the DOS as fitted, or what was measured."""
        scale, ground_shift, variance = self.fit.theta[:3]
        if self.measured is not None:
            return self.measured
        return np.asarray(scale * self.ground(energy - ground_shift, variance))

    def ground_derivatives(self, energy: Floats, shift: float, *, tied: bool) -> Floats:
        """Derivative of the template with respect to theta: (energy, theta); `tied`: the excited shift follows the ground's."""
        scale, ground_shift, variance = self.fit.theta[:3]
        here = energy - ground_shift
        moved = scale * self.ground(here, variance, 1)
        if tied:
            moved = moved - self.excited_part(energy, shift, 1)
        widened = 0.5 * (self.excited_part(energy, shift, 2) - scale * self.ground(here, variance, 2))
        own = np.stack([self.template(energy, shift) / scale, moved, widened], axis=1)
        return np.pad(own, ((0, 0), (0, len(self.fit.theta) - 3)))

    def excited_derivatives(self, energy: Floats, shift: float, mode: str) -> Floats:
        """Derivative of the template with respect to what is fitted of the excited component: (energy, [log area, widening,] shift)."""
        columns = []
        if mode == "width":
            columns.append(0.5 * self.excited_part(energy, shift, 2))
        if mode == "shape":
            columns += [self.excited_part(energy, shift), 0.5 * self.excited_part(energy, shift, 2)]
        columns.append(
            -self.excited_part(energy, shift, 1) if mode in ("free", "width", "shape") else np.zeros_like(energy)
        )
        return np.stack(columns, axis=1)


class ExcitedFit(NamedTuple):
    """Shares per group, the shift of the excited component, and their errors."""

    alpha: Floats
    shift: float
    covariance: (
        Floats  # groups [, log area, widening], shift; errors of the ground component and of the common offset included
    )
    independent: Floats  # variance of each share from the noise of its own scans alone
    chi2: Floats
    unknown: Floats
    """What the baseline adds to the covariance."""


def fall_of_chi2(parts: Components, energy: Floats, scans: Scans, group: NDArray[np.int_], shift: float) -> float:
    """Fall of chi2 of ΔXAS that the shares make at a shift."""
    return _shares(parts.template(energy, shift), scans, group, int(group.max()) + 1).gain


def best_shift(
    parts: Components, energy: Floats, scans: Scans, group: NDArray[np.int_], shifts: Floats
) -> tuple[float, float]:
    """Excited shift with the smallest chi2 (shares in closed form) whose shares are positive on the whole, and how much chi2 falls by it."""
    n_groups = int(group.max()) + 1

    def cost(shift: float) -> float:
        found = _shares(parts.template(energy, shift), scans, group, n_groups)
        return -found.gain if np.sum(np.nan_to_num(found.alpha) * found.precision) > 0 else 0.0

    values = np.array([cost(shift) for shift in shifts])
    at = int(np.argmin(values))
    bounds = (float(shifts[max(at - 1, 0)]), float(shifts[min(at + 1, len(shifts) - 1)]))
    best = minimize_scalar(cost, bounds=bounds, method="bounded", options={"xatol": 1e-7})
    return float(best.x), -float(best.fun)


def best_shape(
    parts: Components, energy: Floats, scans: Scans, group: NDArray[np.int_], start: float, *, area: bool
) -> tuple[Components, float, float]:
    """Widening and shift of the excited component, and its area, with the smallest chi2 (shares in closed form): the components, the shift, and the fall of chi2."""
    n_groups = int(group.max()) + 1
    used = group >= 0
    variance = float(parts.fit.theta[2])
    narrowest = -0.95 * variance if area and variance > 0 else NARROWEST - variance - 1e-6
    widest = max(9.0 * variance, 1.0)
    free = slice(None) if area else slice(1, None)

    def parts_of(x: Floats) -> tuple[Components, float]:
        full = np.concatenate([np.zeros(3 - len(x)), x])
        return parts._replace(area=float(np.exp(full[0])), widening=float(full[1])), float(full[2])

    def residual(x: Floats) -> Floats:
        made, shift = parts_of(x)
        template = made.template(energy, shift)
        found = _shares(template, scans, group, n_groups)
        misfit = found.values[used] - np.nan_to_num(found.alpha)[group[used], None] * template
        return np.concatenate([(np.sqrt(scans.weights[used]) * misfit).ravel(), found.sizes])

    low, high = np.log(_AREAS)
    found = least_squares(
        residual,
        [0.0, 0.0, start][free],
        bounds=([low, narrowest, start - 2.0][free], [high, widest, start + 2.0][free]),
        x_scale=[0.1, 0.05, 0.1][free],
        ftol=1e-12,
        xtol=1e-10,
        gtol=1e-12,
    )
    nothing = _without_shares(scans, used)
    return *parts_of(found.x), nothing - 2.0 * float(found.cost)


class _Shares(NamedTuple):
    alpha: Floats
    precision: Floats
    """Of each share from its own scans alone."""
    sizes: Floats
    """Of each mode of the baseline."""
    values: Floats
    """ΔXAS without the baseline."""
    gain: float
    """Fall of chi2 that the shares make."""


def _shares(template: Floats, scans: Scans, group: NDArray[np.int_], n_groups: int) -> _Shares:
    """Share per group of scans, -1: left out, and the baseline, whose modes have a size of 0 ± 1 beforehand."""
    used = group >= 0
    normal = _sum_by_group((scans.weights[used] * template**2).sum(axis=1), group[used], n_groups)
    right = _sum_by_group((scans.weights[used] * scans.values[used] * template).sum(axis=1), group[used], n_groups)
    safe = np.where(normal > 0, normal, 1.0)
    if not len(scans.modes):
        alpha = np.where(normal > 0, right / safe, np.nan)
        gain = float(np.sum(np.nan_to_num(alpha) ** 2 * normal))
        return _Shares(alpha, normal, np.zeros(0), scans.values, gain)
    weighed = scans.weights[used] * scans.modes[:, used]
    mixed = np.stack([_sum_by_group((one * template).sum(axis=1), group[used], n_groups) for one in weighed])
    own, of_values = _of_modes(scans, used)
    sizes = np.asarray(np.linalg.solve(own - (mixed / safe) @ mixed.T, of_values - (mixed / safe) @ right), np.float64)
    alpha = np.where(normal > 0, (right - sizes @ mixed) / safe, np.nan)
    values = scans.values - np.tensordot(sizes, scans.modes, 1)
    fall = np.nan_to_num(alpha) @ right + sizes @ of_values - of_values @ np.linalg.solve(own, of_values)
    return _Shares(alpha, normal, sizes, values, float(fall))


def _of_modes(scans: Scans, used: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Normal matrix of the modes of the baseline, with what is known beforehand, and its right side."""
    flat = scans.modes[:, used].reshape(len(scans.modes), -1)
    weighed = scans.weights[used].ravel() * flat
    return weighed @ flat.T + np.eye(len(flat)), weighed @ scans.values[used].ravel()


def _without_shares(scans: Scans, used: NDArray[np.bool_]) -> float:
    """chi2 of ΔXAS without any share."""
    nothing = float((scans.weights[used] * scans.values[used] ** 2).sum())
    if len(scans.modes):
        own, right = _of_modes(scans, used)
        nothing -= float(right @ np.linalg.solve(own, right))
    return nothing


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
    offset_stderr: float = 0.0,
) -> ExcitedFit:
    """Shares per group at the given excited shift, with the covariance of shares, shift and ground parameters.

    Parameters
    ----------
    cross
        Covariance of the unpumped OD and ΔXAS of the same bin, (scan, energy): both contain the unpumped intensity.
    group, n_groups
        Group of every scan, -1 for scans left out; number of groups, empty ones included.
    mode
        "free": the shift was fitted to these scans, "shape": area and width too; "ground": it is the shift of the ground component; "fixed": it is a
        given number.
    offset_stderr
        Error of a constant that all values of ΔXAS share and that is not in the weights.
    """
    template = parts.template(energy, shift)
    found = _shares(template, scans, group, n_groups)
    alpha, precision = found.alpha, found.precision
    used = np.flatnonzero(group >= 0)
    weights = scans.weights[used]
    known = np.nan_to_num(alpha)[group[used]]
    own = parts.excited_derivatives(energy, shift, mode)
    n, modes = n_groups + own.shape[1], scans.modes[:, used]
    jacobian = np.zeros((len(used), len(energy), n + len(modes)))
    jacobian[np.arange(len(used)), :, group[used]] = template
    jacobian[:, :, n_groups:n] = known[:, None, None] * own
    jacobian[:, :, n:] = np.moveaxis(modes, 0, -1)
    normal = np.einsum("kep,ke,keq->pq", jacobian, weights, jacobian, optimize=True)
    normal[n:, n:] += np.eye(len(modes))
    inverse = inverse_of_used(normal)
    unknown = inverse[:n, :n] - inverse_of_used(normal[:n, :n]) if len(modes) else np.zeros((n, n))
    ground = known[:, None, None] * parts.ground_derivatives(energy, shift, tied=mode == "ground")
    carry = -inverse @ np.einsum("kep,ke,keq->pq", jacobian, weights, ground, optimize=True)
    # noise of ΔXAS moves the shares directly, the noise of the unpumped spectra in the same bins moves them through the ground parameters
    shared = (
        inverse
        @ np.einsum("kep,ke,qke->pq", jacobian, weights * cross[used], parts.fit.gain[:, used], optimize=True)
        @ carry.T
    )
    level = offset_stderr * (inverse @ np.einsum("kep,ke->p", jacobian, weights))
    covariance = inverse + carry @ parts.fit.covariance @ carry.T + shared + shared.T + np.outer(level, level)
    covariance = covariance[:n, :n]
    if mode == "ground":
        covariance[-1, -1] = parts.fit.covariance[1, 1]
    misfit = found.values[used] - known[:, None] * template
    chi2 = _sum_by_group((weights * misfit**2).sum(axis=1), group[used], n_groups)
    independent = np.where(precision > 0, 1.0 / np.where(precision > 0, precision, 1.0), np.nan)
    return ExcitedFit(alpha, shift, covariance, independent, chi2, unknown)
