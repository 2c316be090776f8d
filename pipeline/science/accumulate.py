"""Pulses → mergeable sums: all that ratios of sums and their errors need, cell by cell.

A cell is one bin of (delay, energy). What is kept per cell: the number of pulses and of trains, the photon sums S_a of
every beam, Σ_trains X_a·X_b of the trains' photon sums X (the train is the unit of resampling), the variance expected
from photon and read noise, and the sums of energy and delay for the bin's mean coordinates. Sums of two sets of trains
add up, so runs and blocks merge in any grouping.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence

import numpy as np
import xarray as xr

from pipeline.science._accumulate_kernel import add_pulses

__all__ = ["accumulate", "log_ratio", "merge_sums"]


def accumulate(pulses: xr.Dataset, cell: np.ndarray, n_cells: int) -> xr.Dataset:
    """Return the sums of one run's pulses.

    Parameters
    ----------
    pulses
        photons, photons_stderr (train, pulse, beam), energy (train) [eV], delay (train, pulse) [ps].
    cell
        Integer (train, pulse): number of the cell, -1 for pulses that do not count.
    n_cells
        Number of cells.

    Returns
    -------
    Dataset over (cell, beam, beam_b): n_pulses, n_trains, photons, product, shot_variance, energy_sum, delay_sum.
    """
    beams = pulses.sizes["beam"]
    n, trains = np.zeros(n_cells, np.int64), np.zeros(n_cells, np.int64)
    total, shot = np.zeros((n_cells, beams)), np.zeros((n_cells, beams))
    product, moment = np.zeros((n_cells, beams, beams)), np.zeros((n_cells, 2))
    order = ("train", "pulse", "beam")
    add_pulses(
        np.ascontiguousarray(cell, np.int64),
        np.ascontiguousarray(pulses["photons"].transpose(*order).values, np.float64),
        np.ascontiguousarray(pulses["photons_stderr"].transpose(*order).values, np.float64) ** 2,
        np.nan_to_num(pulses["energy"].values.astype(np.float64)),
        np.nan_to_num(pulses["delay"].transpose("train", "pulse").values.astype(np.float64)),
        n,
        trains,
        total,
        product,
        shot,
        moment,
    )
    return xr.Dataset(
        {
            "n_pulses": ("cell", n, {"units": "1", "long_name": "pulses"}),
            "n_trains": ("cell", trains, {"units": "1", "long_name": "trains"}),
            "photons": (("cell", "beam"), total, {"units": "1", "long_name": "photons"}),
            "product": (("cell", "beam", "beam_b"), product, {"units": "1", "long_name": "sum of products of train sums"}),
            "shot_variance": (("cell", "beam"), shot, {"units": "1", "long_name": "variance from photon and read noise"}),
            "energy_sum": ("cell", moment[:, 0], {"units": "eV", "long_name": "sum of photon energies"}),
            "delay_sum": ("cell", moment[:, 1], {"units": "ps", "long_name": "sum of delays"}),
        },
        coords={"beam": pulses["beam"].values},
    )


def merge_sums(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return the sums of all parts together, added in the order given.

    The parts must be of different trains: a train split between two parts would count as two.
    """
    with xr.set_options(arithmetic_join="exact", keep_attrs=True):
        return functools.reduce(operator.add, parts)


def log_ratio(sums: xr.Dataset, numerator: str, denominator: str) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return ln(S_a / S_b) per cell, its variance from the scatter of trains, and that from photon and read noise.

    With x_t = X_a,t / S_a − X_b,t / S_b the variance is n/(n−1) · Σ_t x_t², the linearised train-wise jackknife
    (B. Efron, C. Stein, Ann. Stat. 9, 586 (1981)); Σ_t x_t² follows from the products, so no train is kept. NaN for a
    cell without photons; the scatter needs two trains.
    """
    a, b = sums["photons"].sel(beam=numerator, drop=True), sums["photons"].sel(beam=denominator, drop=True)
    good = (a > 0) & (b > 0)
    a, b = a.where(good), b.where(good)
    beams = [str(x) for x in sums["beam"].values]
    i, j = beams.index(numerator), beams.index(denominator)
    square = sums["product"].isel(beam=i, beam_b=i, drop=True) / a**2
    square = square + sums["product"].isel(beam=j, beam_b=j, drop=True) / b**2
    square = square - 2 * sums["product"].isel(beam=i, beam_b=j, drop=True) / (a * b)
    n = sums["n_trains"].where(sums["n_trains"] > 1).astype(np.float64)
    scatter = (square.clip(min=0.0) * n / (n - 1)).where(good)
    shot = sums["shot_variance"].isel(beam=i, drop=True) / a**2 + sums["shot_variance"].isel(beam=j, drop=True) / b**2
    return np.log(a / b), scatter, shot
