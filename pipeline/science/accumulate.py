"""Pulses → mergeable sums: all that ratios of sums and their errors need, cell by cell.

A cell is one bin of (delay, energy). What is kept per cell: the number of pulses and of trains, the photon sums S_a of
every beam, Σ_trains X_a·X_b of the trains' photon sums X (the train is the unit of resampling), the variance expected
from photon and read noise, and the first two photon-weighted moments of energy and delay: the bin's own coordinates. Sums of two sets of trains
add up, so runs and blocks merge in any grouping.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr

from pipeline.science._accumulate_kernel import add_pulses

__all__ = ["accumulate", "log_ratio", "mean_coordinate", "merge_sums", "pulse_scatter"]


_MOMENTS = {"weight": "1", "energy_1": "eV", "energy_2": "eV^2", "delay_1": "ps", "delay_2": "ps^2"}


def accumulate(
    pulses: xr.Dataset, cell: np.ndarray, n_cells: int, *, along: Literal["energy", "delay"] = "energy"
) -> xr.Dataset:
    """Return the sums of one run's pulses.

    Parameters
    ----------
    pulses
        photons, photons_stderr (train, pulse, beam), energy (train) [eV], delay (train, pulse) [ps].
    cell
        Integer (train, pulse): number of the cell, -1 for pulses that do not count.
    n_cells
        Number of cells.
    along
        Coordinate that is scanned: a slope against it inside a cell is not noise, see `log_ratio`.

    Returns
    -------
    Dataset over (cell, order, beam, beam_b): n_pulses, n_trains, photons, product, shot_variance, and the moments weight,
    energy_1, energy_2, delay_1, delay_2 (cell).
    """
    beams = pulses.sizes["beam"]
    n, trains = np.zeros(n_cells, np.int64), np.zeros(n_cells, np.int64)
    total, shot = np.zeros((n_cells, beams)), np.zeros((n_cells, beams))
    product, moment = np.zeros((n_cells, 4, beams, beams)), np.zeros((n_cells, len(_MOMENTS)))
    order = ("train", "pulse", "beam")
    add_pulses(
        np.ascontiguousarray(cell, np.int64),
        np.ascontiguousarray(pulses["photons"].transpose(*order).values, np.float64),
        np.ascontiguousarray(pulses["photons_stderr"].transpose(*order).values, np.float64) ** 2,
        np.nan_to_num(pulses["energy"].values.astype(np.float64)),
        np.nan_to_num(pulses["delay"].transpose("train", "pulse").values.astype(np.float64)),
        0 if along == "energy" else 1,
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
            "product": (
                ("cell", "order", "beam", "beam_b"),
                product,
                {"units": "1", "long_name": "sum of products of train sums"},
            ),
            "shot_variance": (
                ("cell", "beam"),
                shot,
                {"units": "1", "long_name": "variance from photon and read noise"},
            ),
            **{
                name: ("cell", moment[:, i], {"units": units, "long_name": "sum over pulses, weighted by photons"})
                for i, (name, units) in enumerate(_MOMENTS.items())
            },
        },
        coords={"beam": pulses["beam"].values},
    )


def merge_sums(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return the sums of all parts together, added in the order given.

    The parts must be of different trains: a train split between two parts would count as two.
    """
    with xr.set_options(arithmetic_join="exact", keep_attrs=True):
        return functools.reduce(operator.add, parts)


def mean_coordinate(sums: xr.Dataset, name: str) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the photon-weighted mean of energy or delay in each cell, and its variance; NaN in empty cells."""
    weight = sums["weight"].where(sums["weight"] > 0)
    mean = sums[f"{name}_1"] / weight
    return mean, (sums[f"{name}_2"] / weight - mean**2).clip(min=0.0)


def log_ratio(
    sums: xr.Dataset, numerator: str, denominator: str, *, slope: xr.DataArray | None = None, along: str = "energy"
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return ln(S_a / S_b) per cell, its variance from the scatter of trains, and that from photon and read noise.

    With x_t = X_a,t / S_a − X_b,t / S_b the variance is n/(n−1) · Σ_t x_t², the linearised train-wise jackknife
    (B. Efron, C. Stein, Ann. Stat. 9, 586 (1981)); Σ_t x_t² follows from the products, so no train is kept. Where the
    ratio changes with the scanned coordinate q, trains at different q inside a cell differ without being noisy: with
    the slope β of ln(S_a/S_b), β · X_b,t (q_t − q̄) / S_b is taken off x_t. NaN for a cell without photons; the scatter
    needs two trains.

    Parameters
    ----------
    sums
        From `accumulate`.
    numerator, denominator
        Beams.
    slope
        Slope of the logarithm against the coordinate that the sums were accumulated along, NaN or None: 0.
    along
        Name of that coordinate.
    """
    a, b = sums["photons"].sel(beam=numerator, drop=True), sums["photons"].sel(beam=denominator, drop=True)
    good = (a > 0) & (b > 0)
    a, b = a.where(good), b.where(good)
    beams = [str(x) for x in sums["beam"].values]
    i, j = beams.index(numerator), beams.index(denominator)

    def product(order: int, first: int, second: int) -> xr.DataArray:
        return sums["product"].isel(order=order, beam=first, beam_b=second, drop=True)

    square = product(0, i, i) / a**2 + product(0, j, j) / b**2 - 2 * product(0, i, j) / (a * b)
    if slope is not None:
        beta = slope.fillna(0.0)
        q = mean_coordinate(sums, along)[0].fillna(0.0)
        mixed = (product(1, i, j) - q * product(0, i, j)) / (a * b) - (product(1, j, j) - q * product(0, j, j)) / b**2
        spread = (product(2, j, j) - 2 * q * product(1, j, j) + q**2 * product(0, j, j)) / b**2
        square = square - 2 * beta * mixed + beta**2 * spread
    n = sums["n_trains"].where(sums["n_trains"] > 1).astype(np.float64)
    scatter = (square.clip(min=0.0) * n / (n - 1)).where(good)
    shot = sums["shot_variance"].isel(beam=i, drop=True) / a**2 + sums["shot_variance"].isel(beam=j, drop=True) / b**2
    return xr.ufuncs.log(a / b), scatter, shot


def pulse_scatter(sums: xr.Dataset, numerator: str, denominator: str) -> xr.DataArray:
    """Return the variance of ln(S_a / S_b) per cell from the scatter of single pulses, as if all were independent.

    It knows nothing of what pulses of a train share, but it is there for a bin of one train. NaN below two pulses.
    """
    beams = [str(x) for x in sums["beam"].values]
    i, j = beams.index(numerator), beams.index(denominator)
    a, b = (sums["photons"].isel(beam=k, drop=True) for k in (i, j))
    pulses = sums["product"].isel(order=3)

    def product(first: int, second: int) -> xr.DataArray:
        return pulses.isel(beam=first, beam_b=second, drop=True)

    good = (a > 0) & (b > 0) & (sums["n_pulses"] > 1)
    square = product(i, i) / a**2 + product(j, j) / b**2 - 2 * product(i, j) / (a * b)
    n = sums["n_pulses"].astype(np.float64)
    return (square.clip(min=0.0) * n / (n - 1)).where(good)
