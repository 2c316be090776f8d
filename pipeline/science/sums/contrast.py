"""Ratios of sums and their errors: signed logarithms of what beams have seen.

A contrast is Σ_m s_m · ln(Σ of the beams of term m). ln(S_pumped / S_unpumped) is one; its change with the pump, where
pulses without pump were measured beside those with it, is another one with four terms.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.science.sums.accumulate import mean_coordinate, total, without_pump

__all__ = ["Contrast", "counts_of", "is_change", "log_contrast", "pulse_scatter", "ratio"]

Array = NDArray[np.float64]
Contrast = Sequence[tuple[float, tuple[str, ...]]]
"""Terms: sign of a logarithm, and the beams of whose sum it is. Slopes inside a cell go with the second one."""


def ratio(numerator: str, denominator: str) -> Contrast:
    """Return the contrast ln(S_numerator / S_denominator)."""
    return ((1.0, (numerator,)), (-1.0, (denominator,)))


def log_contrast(
    sums: xr.Dataset,
    contrast: Contrast,
    *,
    slope: xr.DataArray | None = None,
    along: Literal["energy", "delay"] = "energy",
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return a contrast per cell, its variance from the scatter of trains, and that from photon and read noise.

    With g_k = ∂(contrast) / ∂S_k, train t adds x_t = Σ_k g_k X_k,t; the variance is n/(n−1) · Σ_t x_t², the linearised
    train-wise jackknife (B. Efron, C. Stein, Ann. Stat. 9, 586 (1981)); Σ_t x_t² follows from the products, so no train
    is kept. Where the contrast changes with the scanned coordinate q, trains at different q inside a cell differ without
    being noisy: with the slope β, β · Σ_k X_k,t (q_t − q̄) / S is taken off x_t, with k and S of the second term, a divisor. NaN
    for a cell without photons; the scatter needs two trains. n counts trains of any condition: terms of both conditions
    are for cells whose trains hold both.

    Parameters
    ----------
    sums
        From `accumulate`.
    contrast
        See `Contrast`.
    slope
        Slope of the contrast against the coordinate that the sums were accumulated along, NaN or None: 0.
    along
        Name of that coordinate.
    """
    like, names, photons = _cells(sums)
    gradient, value = _gradient(names, photons, contrast)
    square = _quadratic(gradient, _products(sums, names, "product"))
    if slope is not None:
        xr.align(like, slope, join="exact", copy=False)
        beta = slope.transpose(*like.dims).fillna(0.0).values
        moved = {beam: g * beta for beam, g in _gradient(names, photons, (contrast[1],))[0].items()}
        q = mean_coordinate(sums, along)[0].transpose(*like.dims).fillna(0.0).values
        square = square + _slopes(sums, names, gradient, moved, q)
    n = _at_least_two(counts_of(sums, contrast)[0], like)
    scatter = np.where(np.isfinite(value), np.maximum(square, 0.0) * n / (n - 1), np.nan)
    noise = _by_beam(sums, "shot_variance")
    shot = sum((g**2 * noise[names.index(beam)] for beam, g in gradient.items()), np.zeros(value.shape))
    return like.copy(data=value), like.copy(data=scatter), like.copy(data=shot)


def pulse_scatter(sums: xr.Dataset, contrast: Contrast) -> xr.DataArray:
    """Return the variance of a contrast per cell from the scatter of single pulses, as if all were independent.

    It knows nothing of what pulses of a train share, but it is there for a bin of one train. NaN below two pulses. In a
    change by the pump, what pulses of a train share cancels and is taken off: with m pulses a train, Σ x² over pulses is
    N (s² + τ²) and over trains N (s² + m τ²), where s² is that of a pulse by itself.
    """
    like, names, photons = _cells(sums)
    gradient, value = _gradient(names, photons, contrast)
    square = _quadratic(gradient, _products(sums, names, "product_pulses"))
    if is_change(contrast):
        square = _alone(sums, names, gradient)
    n = _at_least_two(counts_of(sums, contrast)[1], like)
    return like.copy(data=np.where(np.isfinite(value), np.maximum(square, 0.0) * n / (n - 1), np.nan))


def is_change(contrast: Contrast) -> bool:
    """Return whether a contrast compares pulses with pump and without."""
    kinds = {tuple(beam.endswith(without_pump("")) for beam in beams) for _, beams in contrast}
    return {(True,), (False,)} <= kinds


def _alone(sums: xr.Dataset, names: list[str], gradient: dict[str, Array]) -> Array:
    """Return Σ x² over pulses, by condition, without what pulses of a train share."""
    found = []
    for off, suffix in ((False, ""), (True, without_pump(""))):
        own = {beam: g for beam, g in gradient.items() if beam.endswith(without_pump("")) == off}
        pulses, trains = (_quadratic(own, _products(sums, names, name)) for name in ("product_pulses", "product"))
        n_pulses, n_trains = (sums[f"{name}{suffix}"].values for name in ("n_pulses", "n_trains"))
        m = n_pulses / np.maximum(n_trains, 1)
        found.append(np.where(m > 1, (m * pulses - trains) / np.where(m > 1, m - 1, 1.0), pulses))
    return np.asarray(sum(found))


def counts_of(sums: xr.Dataset, contrast: Contrast) -> tuple[xr.DataArray, xr.DataArray]:
    """Return of how many trains and pulses a contrast is (cell); of both conditions, as many as its error tells.

    Errors of two means add up as those of one mean over n_on · n_off / (n_on + n_off) pulses.
    """
    off = [beam.endswith(without_pump("")) for _, beams in contrast for beam in beams]
    if not any(off):
        return sums["n_trains"], sums["n_pulses"]
    if all(off):
        return sums["n_trains_off"], sums["n_pulses_off"]
    n_on, n_off = sums["n_pulses"], sums["n_pulses_off"]
    if all(len(beams) > 1 for _, beams in contrast):
        return sums["n_trains_any"], n_on + n_off
    return sums["n_trains_any"], n_on * n_off / (n_on + n_off).where(n_on + n_off > 0, 1)


def _cells(sums: xr.Dataset) -> tuple[xr.DataArray, list[str], Array]:
    """Return an array over the cells without units, the names of the beams, and their photons (beam, …)."""
    like = sums["n_trains"].astype(np.float64).drop_attrs()
    return like, [str(b) for b in sums["beam"].values], _by_beam(sums, "photons")


def _by_beam(sums: xr.Dataset, name: str) -> Array:
    return np.asarray(total(sums, name).transpose("beam", *sums["n_trains"].dims).values)


def _at_least_two(n: xr.DataArray, like: xr.DataArray) -> Array:
    return np.asarray(n.where(n > 1).astype(np.float64).transpose(*like.dims).values)


def _gradient(names: list[str], photons: Array, contrast: Contrast) -> tuple[dict[str, Array], Array]:
    """Return the derivative of a contrast by the sum of each beam, and its value; NaN without photons."""
    seen = [photons[[names.index(beam) for beam in beams]].sum(axis=0) for _, beams in contrast]
    good = functools.reduce(operator.and_, [one > 0 for one in seen])
    gradient: dict[str, Array] = {}
    value = np.zeros(photons.shape[1:])
    for (sign, beams), one in zip(contrast, seen, strict=True):
        one = np.where(good, one, np.nan)
        value = value + sign * np.log(one)
        for beam in beams:
            gradient[beam] = gradient.get(beam, 0.0) + sign / one
    return gradient, value


Products = Callable[[str, str], Array]


def _products(sums: xr.Dataset, names: list[str], name: str) -> Products:
    """Return the function that gives the sum of products of two beams."""
    products = total(sums, name).transpose("pair", *sums["n_trains"].dims).values

    def product(first: str, second: str) -> Array:
        low, high = sorted((names.index(first), names.index(second)))
        return np.asarray(products[high * (high + 1) // 2 + low])

    return product


def _slopes(sums: xr.Dataset, names: list[str], gradient: dict[str, Array], moved: dict[str, Array], q: Array) -> Array:
    """Return what Σ_t x_t² changes by when Σ_k moved_k X_k,t (q_t − q̄) is added to x_t."""
    mixed = total(sums, "product_mixed").transpose("beam", "beam_b", *sums["n_trains"].dims).values
    product, shifted = _products(sums, names, "product"), _products(sums, names, "product_shifted")

    def by_y(x: str, y: str) -> Array:
        return np.asarray(mixed[names.index(x), names.index(y)])

    def about_mean(first: str, second: str) -> Array:
        both = by_y(first, second) + by_y(second, first)
        return shifted(first, second) - q * both + q**2 * product(first, second)

    result = _quadratic(moved, about_mean)
    for x, of_x in gradient.items():
        for y, of_y in moved.items():
            result = result + 2 * of_x * of_y * (by_y(x, y) - q * product(x, y))
    return result


def _quadratic(weight: dict[str, Array], product: Products) -> Array:
    """Return Σ_kl w_k w_l · (product of beams k and l)."""
    beams = list(weight)
    terms = [
        (1.0 if first == second else 2.0) * weight[first] * weight[second] * product(first, second)
        for k, first in enumerate(beams)
        for second in beams[: k + 1]
    ]
    return np.asarray(functools.reduce(operator.add, terms))
