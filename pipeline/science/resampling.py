"""Replicates of spectra and delay scans from resampled trains, for a bootstrap that knows nothing of the error bars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.science.binning import assign
from pipeline.science.difference import TrainNoise
from pipeline.science.spectra import SAME_ENERGY, Bins, delay_scans, edges_of_energy, nominal_edges, spectra

__all__ = ["Replicates", "resampled_differences", "train_weights"]


class Replicates(NamedTuple):
    """delta_xas of resampled trains: (draw, fluence, delay, energy) and (draw, scan, delay)."""

    spectra: xr.DataArray
    delay_scan: xr.DataArray


def train_weights(stratum: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Draw a weight for every train: within each stratum n - 1 of its n trains with replacement, times n / (n - 1).

    Sums then vary as the trains do, without the deficit (n - 1) / n of drawing n trains; that matters for the four trains
    of a delay step. A train alone in its stratum keeps the weight 1, and so does stratum -1.

    Parameters
    ----------
    stratum
        Number of each train's stratum, -1 for trains that do not count.
    rng
        Generator of the draws.

    References
    ----------
    J. N. K. Rao, C. F. J. Wu, J. Am. Stat. Assoc. 83, 231 (1988).
    """
    weights = np.ones(len(stratum))
    order = np.argsort(stratum, kind="stable")
    ends = np.flatnonzero(np.diff(stratum[order])) + 1
    for members in np.split(order, ends):
        n = len(members)
        if n > 1 and stratum[members[0]] >= 0:
            weights[members] = n / (n - 1) * np.bincount(rng.integers(0, n, n - 1), minlength=n)
    return weights


def resampled_differences(
    energy_runs: Sequence[xr.Dataset],
    delay_runs: Sequence[xr.Dataset],
    *,
    energy_bins: Bins,
    delay_bins: Bins,
    constant: tuple[float, float],
    n_draws: int,
    seed: int = 0,
    train_noise: TrainNoise | None = None,
) -> Replicates:
    """Bin the pulses again and again with weighted trains.

    The trains of one bin are a stratum; each replicate is what the same binning makes of the pulses times their train's
    weight. A bin of a single train has nothing to draw from: it gets noise of its standard error instead.

    Parameters
    ----------
    energy_runs, delay_runs, energy_bins, delay_bins, constant, train_noise
        As for `spectra` and `delay_scans`.
    n_draws, seed
        Number of replicates, and the seed of their generator.
    """
    rng = np.random.default_rng(seed)

    def cubes(draw_runs: Sequence[xr.Dataset]) -> xr.Dataset:
        return spectra(
            draw_runs, energy_bins=energy_bins, delay_bins=delay_bins, constant=constant, train_noise=train_noise
        )

    def scans(draw_runs: Sequence[xr.Dataset]) -> xr.Dataset:
        return delay_scans(draw_runs, delay_bins=delay_bins, constant=constant, train_noise=train_noise)

    return Replicates(
        _replicates(
            energy_runs, cubes, _strata(energy_runs, _energy_bins(energy_runs, energy_bins), delay_bins), n_draws, rng
        ),
        _replicates(delay_runs, scans, _strata(delay_runs, _scan_groups(delay_runs), delay_bins), n_draws, rng),
    )


def _replicates(
    runs: Sequence[xr.Dataset],
    binned: Callable[[Sequence[xr.Dataset]], xr.Dataset],
    stratum: NDArray[np.int64],
    n_draws: int,
    rng: np.random.Generator,
) -> xr.DataArray:
    original = binned(runs)
    alone = original["n_trains"].values < 2
    error = np.nan_to_num(original["delta_xas_stderr"].values)
    ends = np.cumsum([r.sizes["train"] for r in runs])
    draws = []
    for _ in range(n_draws if len(runs) else 0):
        weights = np.split(train_weights(stratum, rng), ends[:-1])
        weighted = [
            r.assign(photons=r["photons"] * xr.DataArray(w, dims="train")) for r, w in zip(runs, weights, strict=True)
        ]
        values = binned(weighted)["delta_xas"].transpose(*original["delta_xas"].dims).values
        draws.append(values + np.where(alone, error * rng.standard_normal(error.shape), 0.0))
    shape = (n_draws, *original["delta_xas"].shape)
    stacked = np.array(draws) if draws else np.empty(shape)
    return xr.DataArray(stacked, dims=("draw", *original["delta_xas"].dims))


def _strata(runs: Sequence[xr.Dataset], energy_bin: Sequence[NDArray[np.int64]], delay_bins: Bins) -> NDArray[np.int64]:
    """Number the bins of all trains, run after run: fluence, energy, delay; -1 outside all bins."""
    if not runs:
        return np.empty(0, np.int64)
    edges, keys = nominal_edges(runs, delay_bins), []
    for run, energy in zip(runs, energy_bin, strict=True):
        delay = run["delay"].values
        usable = np.isfinite(delay).any(axis=1)
        median = np.full(len(delay), np.nan)
        median[usable] = np.nanmedian(delay[usable], axis=1)
        keys.append(np.column_stack([np.full(len(delay), float(run["fluence"])), energy, assign(median, edges)]))
    table = np.concatenate(keys)
    number = np.unique(table, axis=0, return_inverse=True)[1].ravel()
    return np.where((table[:, 1:] >= 0).all(axis=1), number, -1)


def _energy_bins(runs: Sequence[xr.Dataset], bins: Bins) -> list[NDArray[np.int64]]:
    """Energy bin of every train of energy scans."""
    edges = edges_of_energy(runs, bins) if runs else np.empty(0)
    return [np.asarray(assign(r["energy"].values, edges), np.int64) for r in runs]


def _scan_groups(runs: Sequence[xr.Dataset]) -> list[NDArray[np.int64]]:
    """Number of the fixed energy of every delay scan, repeated for its trains; nearly equal energies share one."""
    energy = np.array([float(np.nanmedian(r["energy"].values)) for r in runs])
    order = np.argsort(energy, kind="stable")
    group = np.zeros(len(runs), np.int64)
    group[order[1:]] = np.cumsum(np.diff(energy[order]) > SAME_ENERGY * energy[order[1:]])
    return [np.full(r.sizes["train"], g) for r, g in zip(runs, group, strict=True)]
