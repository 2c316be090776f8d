"""Replicates of spectra and delay scans from resampled trains, for a bootstrap that knows nothing of the error bars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.science.labels.condition import ON
from pipeline.science.sums.binning import assign
from pipeline.science.sums.edges import Bins, edges_of_delay, edges_of_energy, group_scans, nominal_edges
from schemas.datasets.measured import REFERENCES

__all__ = ["Replicates", "resampled_differences", "train_weights"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Replicates(NamedTuple):
    """delta_xas of resampled trains: (draw, fluence, delay, energy) and (draw, scan, delay)."""

    spectra: xr.DataArray
    delay_scan: xr.DataArray


def train_weights(stratum: IntArray, rng: np.random.Generator) -> FloatArray:
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
    cubes: xr.Dataset,
    scans: xr.Dataset,
    *,
    energy_bins: Bins,
    delay_bins: Bins,
    n_draws: int,
    seed: int = 0,
) -> Replicates:
    """Draw the trains of every bin anew, again and again.

    The trains of one bin are a stratum (a train whose pulses fall into several belongs where most of its photons are).
    A replicate is the difference plus the change of ln(S_unpumped / S_pumped) that the weights of the trains make, less
    that of the pulses without pump where these are the reference. A bin of a single train has nothing to draw from: it
    gets noise of its standard error instead.

    Parameters
    ----------
    energy_runs, delay_runs, energy_bins, delay_bins
        As for `spectra` and `delay_scans`.
    cubes, scans
        What they gave.
    n_draws, seed
        Number of replicates, and the seed of their generator.

    Returns
    -------
    Replicates, NaN where a draw leaves a bin without photons.
    """
    rng = np.random.default_rng(seed)
    cells = _energy_scan_cells(energy_runs, energy_bins, delay_bins) if energy_runs else ([], (0, 0, 0))
    of_cubes = _replicates(energy_runs, cubes, *cells, n_draws, rng)
    cells_2 = _delay_scan_cells(delay_runs, delay_bins) if delay_runs else ([], (0, 0))
    return Replicates(of_cubes, _replicates(delay_runs, scans, *cells_2, n_draws, rng))


def _energy_scan_cells(
    runs: Sequence[xr.Dataset], energy_bins: Bins, delay_bins: Bins
) -> tuple[list[IntArray], tuple[int, int, int]]:
    """Bin (train, pulse) over (fluence, delay, energy) of every run, -1 outside, and the number of bins."""
    e_edges, d_edges = edges_of_energy(runs, energy_bins), edges_of_delay(runs, delay_bins)
    fluence = np.unique([float(r["fluence"]) for r in runs])
    shape = (len(fluence), len(d_edges[0]) - 1, len(e_edges) - 1)
    cells = []
    for run, edges in zip(runs, d_edges, strict=True):
        d, e = assign(run["delay"].values, edges), assign(run["energy"].values, e_edges)[:, None]
        f = int(np.searchsorted(fluence, float(run["fluence"])))
        inside = (d >= 0) & (e >= 0) & (run["drop_reason"].values == 0)
        cells.append(np.where(inside, (f * shape[1] + d) * shape[2] + e, -1))
    return cells, shape


def _delay_scan_cells(runs: Sequence[xr.Dataset], delay_bins: Bins) -> tuple[list[IntArray], tuple[int, int]]:
    """The same over (scan, delay)."""
    edges, groups = nominal_edges(runs, delay_bins), group_scans(runs)
    number = {id(run): k for k, group in enumerate(groups) for run in group}
    cells = []
    for run in runs:
        d = assign(run["delay"].values, edges)
        inside = (d >= 0) & (run["drop_reason"].values == 0)
        cells.append(np.where(inside, number[id(run)] * (len(edges) - 1) + d, -1))
    return cells, (len(groups), len(edges) - 1)


def _replicates(
    runs: Sequence[xr.Dataset],
    original: xr.Dataset,
    cells: list[IntArray],
    shape: tuple[int, ...],
    n_draws: int,
    rng: np.random.Generator,
) -> xr.DataArray:
    """Difference plus the change of the log ratio, on the bins that are kept."""
    value = original["delta_xas"]
    out = np.broadcast_to(value.values, (n_draws, *value.shape)).copy()
    dims = ("draw", *value.dims)
    if not runs:
        return xr.DataArray(out, dims=dims, attrs=value.attrs)
    train, cell, photons = _train_sums(runs, cells, int(np.prod(shape)))
    stratum = _largest(train, cell, photons.sum(axis=0), sum(r.sizes["train"] for r in runs))
    counts = np.bincount(cell, minlength=int(np.prod(shape))).reshape(shape)
    # the same bins are kept as in the original: those that hold a pulse at any other coordinate
    kept = np.ix_(
        *(
            np.arange(n) if dim in ("scan", "fluence") else np.flatnonzero(counts.any(axis=_others(k, len(shape))))
            for k, (dim, n) in enumerate(zip(value.dims, shape, strict=True))
        )
    )
    alone, error = counts[kept] < 2, np.nan_to_num(original["delta_xas_stderr"].values)
    own = np.zeros(value.shape, bool)
    if "reference" in original:
        own = np.asarray((original["reference"] == REFERENCES[0]).broadcast_like(value).transpose(*value.dims))

    def change(weight: FloatArray) -> FloatArray:
        on, off = (_log_ratio(cell, pair, weight, shape)[kept] for pair in (photons[:2], photons[2:]))
        return np.where(own, on - off, on)

    now = change(np.ones(len(cell)))
    for i in range(n_draws):
        drawn = change(train_weights(stratum, rng)[train])
        out[i] += np.where(alone, error * rng.standard_normal(error.shape), now - drawn)
    return xr.DataArray(out, dims=dims, attrs=value.attrs)


def _train_sums(
    runs: Sequence[xr.Dataset], cells: list[IntArray], n_cells: int
) -> tuple[IntArray, IntArray, FloatArray]:
    """Photons (pumped and unpumped, with pump and without; pair) of every pair of train and cell; trains counted over all runs."""
    trains, places, sums, first = [], [], [], 0
    for run, cell in zip(runs, cells, strict=True):
        t, p = np.nonzero(cell >= 0)
        key, number = np.unique((first + t) * n_cells + cell[t, p], return_inverse=True)
        photons = run["photons"].transpose("train", "pulse", "beam")
        beams = [photons.sel(beam=b).values[t, p].astype(np.float64) for b in ("pumped", "unpumped")]
        on = run["condition"].transpose("train", "pulse").values[t, p] == ON if "condition" in run.coords else True
        seen = [x * which for which in (on, np.logical_not(on)) for x in beams]
        sums.append(np.array([np.bincount(number.ravel(), weights=s, minlength=len(key)) for s in seen]))
        trains.append(key // n_cells)
        places.append(key % n_cells)
        first += run.sizes["train"]
    return np.concatenate(trains), np.concatenate(places), np.concatenate(sums, axis=1)


def _largest(train: IntArray, cell: IntArray, photons: FloatArray, n_trains: int) -> IntArray:
    """Cell of each train with most of its photons, -1 for trains without any."""
    out = np.full(n_trains, -1)
    order = np.argsort(photons, kind="stable")
    out[train[order]] = cell[order]
    return out


def _log_ratio(cell: IntArray, photons: FloatArray, weight: FloatArray, shape: tuple[int, ...]) -> FloatArray:
    """ln(S_pumped / S_unpumped) per cell, NaN where one of them is not positive."""
    n = int(np.prod(shape))
    pumped, unpumped = (np.bincount(cell, weights=weight * x, minlength=n) for x in photons)
    good = (pumped > 0) & (unpumped > 0)
    ratio = np.where(good, pumped, 1.0) / np.where(good, unpumped, 1.0)
    return np.where(good, np.log(ratio), np.nan).reshape(shape)


def _others(k: int, n: int) -> tuple[int, ...]:
    return tuple(i for i in range(n) if i != k)
