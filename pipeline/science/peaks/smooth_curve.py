"""A smooth curve through the points of a spectrum: as smooth as the data say, no shape of a line assumed.

ΔXAS(E) is a Gaussian process of zero mean, a² [k((E − E′)/ℓ) + 1 + u u′] with u = (E − middle)/half, so that a constant and a slope are free. Family of k
and length ℓ are those of the largest evidence (C. E. Rasmussen, C. K. I. Williams, Gaussian Processes for Machine Learning, MIT Press 2006, chapter 5)
summed over the spectra of a dataset; a and, where the scatter asks for it, a factor on the errors belong to each spectrum.

The mean of the process lies too low on every peak. Two steps take that off: the length of the smoother is 0.8 ℓ, and what it leaves of the data is smoothed
once more and added (J. W. Tukey, Exploratory Data Analysis, 1977: twicing). The curve stays linear in the data, so its errors are exact: those of the data,
and what a curve drawn from the process with length ℓ does between and beside the points.
"""

from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Kernel", "SmoothCurve", "choose_kernel", "smooth"]

Floats = NDArray[np.float64]
Family = Literal["gaussian", "rational", "matern"]
_FAMILIES: tuple[Family, ...] = ("gaussian", "rational", "matern")
_ALPHA = 2.0  # of the rational quadratic: lines with wings
_SLOPE = {"gaussian": 1.0, "rational": 1.0, "matern": 7.0 / 5.0}  # variance of the slope times ℓ²
_SHORTER = 0.8  # length of the smoother over that of the evidence: see test_extrema for what it does to bias and errors
_N_LENGTHS = 14
_N_DECIDING = 16  # spectra whose evidence chooses the kernel: the most significant
_HEIGHTS = np.r_[0.0, np.geomspace(0.1, 8.0, 12)]  # a over the rms of the spectrum
_SCALES = np.r_[1.0, np.geomspace(1.2, 12.0, 10)]
_SCALE_COST = 3.3  # gain of ln evidence below which errors stay as they are: chance does more once in a hundred


@dataclass(frozen=True)
class Kernel:
    """Covariance of the process for a = 1."""

    family: Family
    length: float
    middle: float
    half: float

    def __call__(self, energy: Floats, other: Floats) -> tuple[Floats, Floats, Floats]:
        """Return the covariance (energy, other) of the curve, its slope and its curvature at `energy` with the curve at `other`."""
        distance = (energy[:, None] - other[None, :]) / self.length
        value, slope, curvature = _shape(self.family, distance)
        u, v = (energy[:, None] - self.middle) / self.half, (other[None, :] - self.middle) / self.half
        return value + 1.0 + u * v, slope / self.length + v / self.half, curvature / self.length**2

    def of_slopes(self, energy: Floats) -> Floats:
        """Return the covariance of the slopes at several energies."""
        return np.asarray(1.0 / self.half**2 - self(energy, energy)[2])

    def shortened(self) -> "Kernel":
        """Return the kernel of the smoother."""
        return Kernel(self.family, _SHORTER * self.length, self.middle, self.half)


def _shape(family: Family, r: Floats) -> tuple[Floats, Floats, Floats]:
    """Return k(r), k′(r) and k″(r)."""
    if family == "gaussian":
        k = np.exp(-(r**2) / 2)
        return k, -r * k, (r**2 - 1) * k
    if family == "rational":
        b = 1 + r**2 / (2 * _ALPHA)
        return b**-_ALPHA, -r * b ** (-_ALPHA - 1), b ** (-_ALPHA - 2) * ((_ALPHA + 1) / _ALPHA * r**2 - b)
    s = np.sqrt(7) * np.abs(r)  # Matérn, ν = 7/2
    e = np.exp(-s)
    first = -np.sign(r) * np.sqrt(7) * s * (3 + 3 * s + s**2) / 15 * e
    return (1 + s + 0.4 * s**2 + s**3 / 15) * e, first, -7 * (3 + 3 * s - s**3) / 15 * e


class SmoothCurve:
    """The curve of one spectrum: linear in its data. `height` is a, `scale` the factor on its errors."""

    def __init__(self, kernel: Kernel, energy: Floats, weight: Floats, height: float, scale: float) -> None:
        """Take the bins' energies and 1/σ; 0 marks a bin that was not measured."""
        self.height, self.scale = height, scale
        self._kernel, self._short, self._energy = kernel, kernel.shortened(), energy
        self._variance = np.where(weight > 0, scale / np.where(weight > 0, weight, 1.0), 0.0) ** 2
        self._prior = kernel(energy, energy)[0]
        smoother = self._short(energy, energy)[0]
        once = self._solve(smoother, weight)
        self._twice = once @ (2.0 * np.eye(len(energy)) - smoother @ once)
        self._once = self._solve(self._prior, weight)
        left = np.eye(len(energy)) - smoother @ self._twice
        used = weight > 0
        whitened = left[np.ix_(used, used)] * weight[used, None] / weight[None, used]
        self.freedom = float(np.sum(whitened**2))

    def _solve(self, covariance: Floats, weight: Floats) -> Floats:
        whitened = weight[:, None] * covariance * weight
        inner = self.scale**2 * np.eye(len(weight)) + self.height**2 * whitened
        return np.asarray(self.height**2 * weight[:, None] * np.linalg.solve(inner, np.diag(weight)))

    def rows(self, energy: Floats, order: int = 0) -> Floats:
        """Return what (energy, bin), times the data, is the curve (order 0), its slope (1) or its curvature (2)."""
        return np.asarray(self._short(energy, self._energy)[order] @ self._twice)

    def curvature(self, energy: Floats, values: Floats) -> Floats:
        """Return the curvature that errors need: between that of the curve, which noise moves most, and that of the process' mean, a little too small."""
        mean = self._kernel(energy, self._energy)[2] @ (self._once @ values)
        own = self.rows(energy, 2) @ values
        return np.asarray(np.where(mean * own > 0, np.sign(mean) * np.sqrt(np.abs(mean * own)), mean))

    def covariance(self, energy: Floats, order: int = 0) -> Floats:
        """Return the covariance of the errors of the curve (order 0) or its slope (1) at several energies."""
        rows, prior = self.rows(energy, order), self._kernel(energy, self._energy)[order]
        own = self._kernel.of_slopes(energy) if order else self._kernel(energy, energy)[0]
        missed = own - rows @ prior.T - prior @ rows.T + rows @ self._prior @ rows.T
        return np.asarray((rows * self._variance) @ rows.T + self.height**2 * missed)


def choose_kernel(energy: Floats, values: Floats, weights: Floats) -> Kernel:
    """Return the kernel of the largest evidence summed over spectra (spectrum, energy); `weights` are 1/σ, 0 for no data."""
    middle, half = 0.5 * (energy[0] + energy[-1]), 0.5 * (energy[-1] - energy[0])
    step = float(np.median(np.diff(energy)))
    lengths = np.geomspace(max(0.7 * step, 0.1 * half), 2.0 * half, _N_LENGTHS)
    significance = np.sum((values * weights) ** 2, axis=1)
    deciding = np.argsort(-significance, kind="stable")[:_N_DECIDING]
    candidates = [Kernel(family, float(length), middle, half) for family, length in product(_FAMILIES, lengths)]
    evidence = [_evidence(k, energy, values[deciding], weights[deciding]).max(axis=(1, 2)).sum() for k in candidates]
    return candidates[int(np.argmax(evidence))]


def smooth(kernel: Kernel, energy: Floats, values: Floats, weights: Floats) -> list[SmoothCurve]:
    """Return the curve of every spectrum."""
    evidence = _evidence(kernel, energy, values, weights)
    scale, height = np.divmod(np.argmax(evidence.reshape(len(values), -1), axis=1), len(_HEIGHTS))
    heights, scales = _HEIGHTS[height] * _rms(values, weights), _SCALES[scale]
    return [SmoothCurve(kernel, energy, *one) for one in zip(weights, heights.tolist(), scales.tolist(), strict=True)]


def _rms(values: Floats, weights: Floats) -> Floats:
    used = weights > 0
    return np.asarray(np.sqrt(np.sum(values**2 * used, axis=1) / np.maximum(used.sum(axis=1), 1)))


def _evidence(kernel: Kernel, energy: Floats, values: Floats, weights: Floats) -> Floats:
    """Return ln evidence (spectrum, factor on the errors, height), up to a constant of each spectrum."""
    covariance = kernel(energy, energy)[0]
    eigenvalue, vectors = np.linalg.eigh(weights[:, :, None] * covariance * weights[:, None, :])
    power = np.einsum("sij,si->sj", vectors, values * weights) ** 2
    height = _rms(values, weights)[:, None] * _HEIGHTS
    variance = (
        _SCALES[None, :, None, None] ** 2
        + height[:, None, :, None] ** 2 * np.maximum(eigenvalue, 0.0)[:, None, None, :]
    )
    result = -0.5 * np.sum(power[:, None, None, :] / variance + np.log(variance), axis=-1)
    # a bin that was not measured has no error to enlarge
    result += np.log(_SCALES)[None, :, None] * np.sum(weights == 0, axis=1)[:, None, None]
    result[:, 1:] -= _SCALE_COST
    return np.asarray(result)
