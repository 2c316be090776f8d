"""c(E, t): the ratio of the sample beams without pump, from all that was measured without pump, and what that cannot know.

c is a Gaussian process: a constant that nothing is known of, and, from the usual sizes of what beamtimes see (`Usual`),
films that differ (in proportion to the optical density), a splitting ratio that changes with photon energy, a drift with
time and wear of the pumped film. Where c was measured, data outweigh these sizes; where it was not, they are its error.
How far c may bend between measured energies is learned from the data, by their likelihood. C. E. Rasmussen, C. K. I.
Williams, Gaussian Processes for Machine Learning (2006), sections 2.2, 2.7 and 5.4.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from pipeline.errors import DataError
from pipeline.science.spectra.difference import TrainNoise, estimate
from pipeline.science.sums.accumulate import accumulate_runs, join_limbs, mean_coordinate
from pipeline.science.sums.binning import assign
from pipeline.science.sums.contrast import log_contrast, ratio
from schemas.usual import USUAL, Usual

__all__ = ["PumpOff", "fit_pump_off", "hours", "pump_off_points", "unpumped_density", "without_ratio"]

Array = NDArray[np.float64]
TRAINS_PER_HOUR = 36_000.0
MAX_ENERGIES = 120
"""Energies of a pump-off scan that are told apart; more are averaged."""
LEARNED = ((0.0, 3e-4, 1e-3, 3e-3, 1e-2), (0.3, 1.0, 3.0), (1.0, 0.5, 2.0, 4.0))
"""Tried: size [OD] and length [eV] of the bends of c(E), and factors on the usual drifts."""


WANDERS = (0.5, 0.33)
"""How much of drift and wear is at random, in an hour and from one run to the next."""


def hours(train_id: NDArray[np.integer]) -> Array:
    """Return the time of trains [h] on the machine's clock of 10 Hz."""
    return np.asarray(train_id, np.float64) / TRAINS_PER_HOUR


def pump_off_points(runs: Sequence[xr.Dataset], *, train_noise: TrainNoise | None = None) -> xr.Dataset:
    """Return what was measured without pump: c at energies and times.

    Parameters
    ----------
    runs
        Pulses without pump, with `drop_reason` (train, pulse; 0 = used), energy (train) [eV] and train_id.
    train_noise
        Variance that the pulses of a train share.

    Returns
    -------
    Dataset over (point): c = −ln(I_pumped / I_unpumped) with _stderr, energy [eV], hours [h], run (number in the list).

    Raises
    ------
    DataError
        If no pulse counts.
    """
    rows = [found for k, run in enumerate(runs) if (found := _points_of(run, k, train_noise)) is not None]
    if not rows:
        raise DataError("no pulse without pump counts; is it a run with X-rays?")
    return xr.concat(rows, "point")


def unpumped_density(runs: Sequence[xr.Dataset]) -> xr.DataArray | None:
    """Return the optical density of the unpumped sample over energy [eV], roughly, from all runs; None: no reference beam."""
    if "reference" not in [str(b) for b in runs[0]["beam"].values]:
        return None
    energy, density, weight = [], [], []
    for run in runs:
        if (binned := _by_energy(run)) is not None:
            value, _, shot = log_contrast(binned, ratio("unpumped", "reference"))
            good = np.isfinite(value.values) & (shot.values > 0)
            energy.append(np.round(mean_coordinate(binned, "energy")[0].values[good], 2))
            density.append(-value.values[good])
            weight.append(1.0 / shot.values[good])
    at, group = np.unique(np.concatenate(energy), return_inverse=True)
    total = np.bincount(group.ravel(), np.concatenate(weight))
    mean = np.bincount(group.ravel(), np.concatenate(weight) * np.concatenate(density)) / total
    return xr.DataArray(mean, dims="energy", coords={"energy": at})


def _by_energy(run: xr.Dataset) -> xr.Dataset | None:
    """Return the sums of a run by energy, at most `MAX_ENERGIES` of them; None where no pulse counts."""
    energy = _used_energy(run)
    known = energy[np.isfinite(energy)]
    if not len(known):
        return None
    width = max(float(np.ptp(known)) / MAX_ENERGIES, 1e-4 * float(np.median(known)))
    edges = np.arange(known.min() - 0.5 * width, known.max() + width, width)
    sums = join_limbs(accumulate_runs([run], [assign(energy, edges)], len(edges) - 1))
    return sums.isel(cell=np.flatnonzero(sums["n_pulses"].values))


def _used_energy(run: xr.Dataset) -> Array:
    """Return the energy of each train [eV], NaN of those without a pulse that counts."""
    used = (run["drop_reason"].transpose("train", "pulse").values == 0).any(axis=1)
    return np.where(used, run["energy"].values, np.nan)


def _points_of(run: xr.Dataset, number: int, train_noise: TrainNoise | None) -> xr.Dataset | None:
    if (sums := _by_energy(run)) is None:
        return None
    axis, _ = mean_coordinate(sums, "energy")
    value, variance, _ = estimate(sums, ratio("pumped", "unpumped"), along="energy", axis=axis, train_noise=train_noise)
    good = np.isfinite(value.values) & (variance.values > 0)
    if not good.any():
        return None
    time = np.interp(axis.values, *_time_at(_used_energy(run), hours(run["train_id"].values)))
    data = {"c": -value.values, "c_stderr": np.sqrt(variance.values), "energy": axis.values, "hours": time}
    data["run"] = np.full(len(time), number)
    return xr.Dataset({name: ("point", v[good]) for name, v in data.items()})


def _time_at(energy: Array, time: Array) -> tuple[Array, Array]:
    """Return energies in order and the mean time at which each was measured."""
    known = np.isfinite(energy)
    values, where = np.unique(np.round(energy[known], 4), return_inverse=True)
    return values, np.bincount(where.ravel(), time[known]) / np.bincount(where.ravel())


class PumpOff(NamedTuple):
    """c(E, t), fitted: the mean of processes that describe what was measured, by how well they do."""

    processes: tuple[_Process, ...]
    weights: tuple[float, ...]

    @property
    def points(self) -> xr.Dataset:
        """What was measured."""
        return self.processes[0].points

    def at(self, energy: Array, time: Array) -> tuple[Array, Array, Array]:
        """Return c, its standard error from the noise of what was measured, and what else is not known of it.

        Parameters
        ----------
        energy, time
            Photon energies [eV] and times [h], of one shape.
        """
        found = [process.at(energy, time) for process in self.processes]
        value, noise, unknown = (
            sum(w * f[i] ** k for w, f in zip(self.weights, found, strict=True)) for i, k in enumerate((1, 2, 2))
        )
        apart = sum(w * (f[0] - value) ** 2 for w, f in zip(self.weights, found, strict=True))
        return np.asarray(value), np.sqrt(noise), np.sqrt(unknown + apart)

    def modes(self, energy: Array, time: Array, *, part: float = 0.99) -> Array:
        """Return what is not known of c at some energies and times as independent errors (mode, place).

        Each is one standard deviation of its own; the sum of their squares is, but for a small part, the variance.
        """
        pairs = [(process.unknown(energy, time), w) for process, w in zip(self.processes, self.weights, strict=True)]
        values, vectors = np.linalg.eigh(sum(w * covariance for covariance, w in pairs))
        order = np.argsort(values)[::-1]
        values = np.maximum(values[order], 0.0)
        n = int(np.searchsorted(np.cumsum(values), part * values.sum())) + 1 if values.sum() > 0 else 0
        return np.asarray((vectors[:, order[:n]] * np.sqrt(values[:n])).T)

    def film_ratio(self, time: Array) -> tuple[Array, Array]:
        """Return the thickness of the pumped film over that of the other at times [h], and its standard error.

        It is what c has in proportion to the optical density, whose lines and edges a splitting ratio does not have.
        """
        found = [process.film_ratio(np.ravel(time).astype(np.float64)) for process in self.processes]
        value = sum(w * f[0] for w, f in zip(self.weights, found, strict=True))
        variance = sum(w * (f[1] ** 2 + (f[0] - value) ** 2) for w, f in zip(self.weights, found, strict=True))
        return np.reshape(value, np.shape(time)), np.sqrt(np.reshape(variance, np.shape(time)))


class _Process(NamedTuple):
    """One Gaussian process. Numbers over (point): what was measured."""

    points: xr.Dataset
    density: xr.DataArray
    """od (energy): optical density of the unpumped sample, to which a difference of the films is proportional."""
    runs: Array
    """Start and end [h] (run, 2) of the runs with pump, each of which wears the film, in order."""
    usual: Usual
    bends: tuple[float, float]
    """Size [OD] and length [eV] of the bends of c(E)."""

    def at(self, energy: Array, time: Array) -> tuple[Array, Array, Array]:
        """Return what `PumpOff.at` does."""
        shape = np.shape(energy)
        where = np.ravel(energy).astype(np.float64), np.ravel(time).astype(np.float64)
        weight, cross, covariance, mean = self._weights(where)
        c, noise = self.points["c"].values, self.points["c_stderr"].values ** 2
        value = weight @ (c - mean) + mean
        spread = self._variance(where) - 2 * np.einsum("ij,ij->i", weight, cross)
        spread = spread + np.einsum("ij,jk,ik->i", weight, covariance, weight)
        statistical = np.sqrt(weight**2 @ noise)
        return value.reshape(shape), statistical.reshape(shape), np.sqrt(np.maximum(spread, 0)).reshape(shape)

    def unknown(self, energy: Array, time: Array) -> Array:
        """Return the covariance of what is not known of c at some energies and times."""
        where = energy, time
        weight, cross, covariance, _ = self._weights(where)
        mixed = weight @ cross.T
        return np.asarray(self._covariance(where, where) - mixed - mixed.T + weight @ covariance @ weight.T)

    def _weights(self, where: tuple[Array, Array]) -> tuple[Array, Array, Array, float]:
        """Return the weights of what was measured at some places, its covariance with these and with itself, and its mean."""
        own = self.points["energy"].values, self.points["hours"].values
        covariance = self._covariance(own, own)
        noise = self.points["c_stderr"].values ** 2
        solved = cho_factor(covariance + np.diag(noise + 1e-14))
        cross = self._covariance(where, own)
        ones, c = np.ones(len(noise)), self.points["c"].values
        # a constant that nothing is known of: generalised least squares, as in universal kriging
        of_ones = cho_solve(solved, ones)
        mean = float(of_ones @ c / (of_ones @ ones))
        weight = cho_solve(solved, cross.T).T
        weight = weight + np.outer((1.0 - weight.sum(axis=1)) / (of_ones @ ones), of_ones)
        return weight, cross, covariance, mean

    def film_ratio(self, time: Array) -> tuple[Array, Array]:
        """Return what `PumpOff.film_ratio` does."""
        own = self.points["energy"].values, self.points["hours"].values
        solved = cho_factor(self._covariance(own, own) + np.diag(self.points["c_stderr"].values ** 2 + 1e-14))
        u, start, films = self.usual, float(own[1][0]), self._films(own[0])
        worn, first = self._worn(time) - self._worn(start), self._worn(own[1]) - self._worn(start)
        cross = u.films**2 * (films - self._films(float(own[0][0])))[None, :]
        cross = cross + u.wear**2 * _trend(worn, first, WANDERS[1]) * films[None, :]
        prior = u.films**2 + u.wear**2 * np.diag(_trend(worn, worn, WANDERS[1]))
        ones, c = np.ones(len(films)), self.points["c"].values
        of_ones = cho_solve(solved, ones)
        mean = float(of_ones @ c / (of_ones @ ones))
        weight = cho_solve(solved, cross.T).T
        variance = prior - np.einsum("ij,ij->i", weight, cross) + (weight @ ones) ** 2 / (of_ones @ ones)
        return 1.0 + weight @ (c - mean), np.sqrt(np.maximum(variance, 0.0))

    def likelihood(self) -> float:
        """Return the logarithm of the restricted likelihood of what was measured."""
        own = self.points["energy"].values, self.points["hours"].values
        covariance = self._covariance(own, own) + np.diag(self.points["c_stderr"].values ** 2 + 1e-14)
        factor = cho_factor(covariance)
        ones, c = np.ones(len(covariance)), self.points["c"].values
        of_ones = cho_solve(factor, ones)
        residual = c - float(of_ones @ c / (of_ones @ ones))
        size = 2 * float(np.sum(np.log(np.diag(factor[0])))) + float(np.log(of_ones @ ones))
        return -0.5 * (float(residual @ cho_solve(factor, residual)) + size)

    def _covariance(self, a: tuple[Array, Array], b: tuple[Array, Array]) -> Array:
        (e_a, t_a), (e_b, t_b) = a, b
        # relative to the first measurement: what all share is in the free constant
        d_a, d_b = self._films(e_a), self._films(e_b)
        u = self.usual
        centre = float(self.points["energy"].values[0])
        result = u.films**2 * np.outer(d_a - self._films(centre), d_b - self._films(centre))
        result = result + u.splitting**2 * np.outer(e_a - centre, e_b - centre)
        result = result + self._bent(e_a, e_b) - self._bent(e_a, np.full_like(e_b, centre))
        result = result - self._bent(np.full_like(e_a, centre), e_b) + self.bends[0] ** 2
        start = float(self.points["hours"].values[0])
        result = result + u.drift**2 * _trend(t_a - start, t_b - start, WANDERS[0])
        worn_a, worn_b, first = (self._worn(t) for t in (t_a, t_b, start))
        return np.asarray(result + u.wear**2 * np.outer(d_a, d_b) * _trend(worn_a - first, worn_b - first, WANDERS[1]))

    def _variance(self, a: tuple[Array, Array]) -> Array:
        """Return the diagonal of the covariance of places with themselves."""
        energy, time = a
        u, first = self.usual, self.points.isel(point=0)
        e_0, t_0 = float(first["energy"]), float(first["hours"])
        films = self._films(energy)
        result = u.films**2 * (films - self._films(e_0)) ** 2 + u.splitting**2 * (energy - e_0) ** 2
        result = result + 2 * self.bends[0] ** 2 * (1 - np.exp(-0.5 * ((energy - e_0) / self.bends[1]) ** 2))
        worn = np.abs(self._worn(time) - self._worn(t_0))
        gone = np.abs(time - t_0)
        drift, wear = (x**2 + w**2 * x for x, w in zip((gone, worn), WANDERS, strict=True))
        return np.asarray(result + u.drift**2 * drift + u.wear**2 * films**2 * wear)

    def _bent(self, a: Array, b: Array) -> Array:
        size, length = self.bends
        return np.asarray(size**2 * np.exp(-0.5 * ((a[:, None] - b[None, :]) / length) ** 2))

    def _worn(self, time: Array | float) -> Array:
        """Return how many runs with pump were over at a time."""
        ends = np.concatenate([np.arange(n, n + 2) for n in range(len(self.runs))]) if len(self.runs) else np.zeros(1)
        at = self.runs.ravel() if len(self.runs) else np.zeros(1)
        return np.asarray(np.interp(time, at, ends))

    def _films(self, energy: Array | float) -> Array:
        return np.asarray(np.interp(energy, self.density["energy"].values, self.density.values))


def _trend(a: Array, b: Array, wander: float) -> Array:
    """Return the covariance of a linear trend of unit rate and a random walk, both 0 at 0; the walk goes both ways."""
    a, b = a[:, None], b[None, :]
    walk = np.where(a * b > 0, np.minimum(np.abs(a), np.abs(b)), 0.0)
    return np.asarray(a * b + wander**2 * walk)


def fit_pump_off(
    points: xr.Dataset, density: xr.DataArray | None, runs: Sequence[tuple[float, float]], *, usual: Usual = USUAL
) -> PumpOff:
    """Return c(E, t) from what was measured without pump.

    The size and length of its bends, and a factor on the usual drifts where runs without pump were repeated, are not
    known: all that are tried count by their likelihood (and factors the less, the farther from 1).

    Parameters
    ----------
    points
        From `pump_off_points`.
    density
        Optical density of the unpumped sample over energy [eV], in order; None: unknown, any shape of c(E) is possible.
    runs
        Start and end [h] of the runs with pump.
    usual
        Sizes of what is not measured.
    """

    def process(size: float, length: float, factor: float) -> _Process:
        scaled = usual.model_copy(update={"drift": usual.drift * factor, "wear": usual.wear * factor})
        known = density if density is not None else xr.DataArray([0.0], dims="energy", coords={"energy": [0.0]})
        return _Process(points, known, np.array(sorted(runs), np.float64).reshape(-1, 2), scaled, (size, length))

    sizes: Sequence[float]
    lengths: Sequence[float]
    factors: Sequence[float]
    sizes, lengths, factors = LEARNED
    if len(np.unique(np.round(points["energy"].values, 2))) < 4:
        sizes, lengths = (1e-3 if density is not None else 0.5 * usual.films,), (1.0,)
    if len(np.unique(points["run"].values)) < 3:
        factors = (1.0,)
    tried = {which: process(*which) for which in itertools.product(sizes, lengths, factors)}
    score = np.array([one.likelihood() - 0.5 * (np.log(f) / np.log(2.0)) ** 2 for (_, _, f), one in tried.items()])
    weight = np.exp(score - score.max())
    kept = [(one, w) for one, w in zip(tried.values(), weight, strict=True) if w > 0.02]
    total = sum(w for _, w in kept)
    return PumpOff(tuple(one for one, _ in kept), tuple(float(w / total) for _, w in kept))


def without_ratio(run: xr.Dataset, model: PumpOff) -> xr.Dataset:
    """Return a run whose pumped beam is multiplied by exp(c(E, t)): without pump, both sample beams are then alike.

    Parameters
    ----------
    run
        photons and photons_stderr (train, pulse, beam), energy (train) [eV], train_id.
    model
        c(E, t).
    """
    energy, time = run["energy"].values, hours(run["train_id"].values)
    known = np.isfinite(energy)
    if not known.any():
        return run
    grid = np.unique(np.round(energy[known], 3))
    if len(grid) > 4 * MAX_ENERGIES:
        grid = np.linspace(grid[0], grid[-1], 4 * MAX_ENERGIES)
    ends = [model.at(grid, np.full(len(grid), t))[0] for t in (time[0], time[-1])]
    first, last = (np.interp(np.where(known, energy, grid[0]), grid, c) for c in ends)
    share = (time - time[0]) / max(time[-1] - time[0], 1e-12)
    factor = xr.DataArray(np.exp(first + share * (last - first)), dims="train")
    of_beam = xr.where(run["beam"] == "pumped", factor, 1.0)
    return run.assign(
        {
            n: (run[n] * of_beam).transpose(*run[n].dims).assign_attrs(run[n].attrs)
            for n in ("photons", "photons_stderr")
        }
    )
