"""Sums → optical densities and their difference: ratio of sums, −ln, and errors from the data.

The estimator of a bin is −ln(Σ I_pumped / Σ I_unpumped). Its bias is (σ²_u/S²_u − σ²_p/S²_p)/2 with the bin's sums S, so
it vanishes with the number of pulses; the mean of single-pulse ratios or of their logarithms keeps a bias of the order
of one over the photons per pulse however long one measures. Ratio of sums also weights every pulse by its photons,
which is the minimum-variance weight at the photon limit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import xarray as xr

from pipeline.science.accumulate import log_ratio, mean_coordinate, pulse_scatter, total
from pipeline.science.uncertainty import moderated_variance

__all__ = ["Along", "difference", "estimate_ratio", "no_difference"]

Along = Literal["energy", "delay"]


def difference(sums: xr.Dataset, constant: tuple[float, float], *, along: Along, axis: xr.DataArray) -> xr.Dataset:
    """Return optical densities and their difference with errors.

    delta_xas = −ln(S_pumped / S_unpumped) + c with the flat-field constant c. The error of c is common to all bins; it
    is part of every `_stderr` here and also given alone as attribute `flat_field_constant_stderr`. Where there is no
    reference beam the optical densities are NaN.

    The cells of one bin number share a coordinate but not their pulses: a cell's value is that of the curve at its own
    mean coordinate m, plus half the curvature times the spread v of the coordinate. It is moved to the common axis by
    f(x) ≈ value − f'·(m − x) − f''·v/2 with derivatives from the neighbouring bins. The additional noise is a fraction
    |m − x| / spacing of a bin's own, so the errors stay as they are. A step that is sharper than the bins overshoots by
    a twenty-fourth of its height where pulses fill the bins; where the stage dwells the spread is nothing.

    Parameters
    ----------
    sums
        From `accumulate` over any dims, one of which is `axis.dims[0]`.
    constant
        Flat-field constant and its standard error.
    along
        Coordinate that was scanned.
    axis
        Common coordinate of the bins.

    Returns
    -------
    Dataset: od_unpumped, od_pumped, delta_xas with _stderr, delta_xas_stderr_shot, n_pulses, n_trains, photons_*.
    """
    c, c_stderr = constant
    delta, variance, shot = estimate_ratio(sums, "pumped", "unpumped", along=along, axis=axis)
    result = xr.Dataset({"delta_xas": c - delta})
    result["delta_xas_stderr"] = np.sqrt(variance + c_stderr**2)
    result["delta_xas_stderr_shot"] = np.sqrt(shot + c_stderr**2)
    has_reference = "reference" in [str(b) for b in sums["beam"].values]
    for name, beam, offset, error in (("od_unpumped", "unpumped", 0.0, 0.0), ("od_pumped", "pumped", c, c_stderr)):
        if has_reference:
            od, od_variance, _ = estimate_ratio(sums, beam, "reference", along=along, axis=axis)
        else:
            od, od_variance = xr.full_like(delta, np.nan), xr.full_like(delta, np.nan)
        result[name] = offset - od
        result[f"{name}_stderr"] = np.sqrt(od_variance + error**2)
    result["n_pulses"] = sums["n_pulses"]
    result["n_trains"] = sums["n_trains"]
    for beam in ("pumped", "unpumped"):
        result[f"photons_{beam}"] = total(sums, "photons").sel(beam=beam, drop=True)
    result.attrs.update(flat_field_constant=c, flat_field_constant_stderr=c_stderr)
    return result.drop_vars("beam", errors="ignore")


def estimate_ratio(
    sums: xr.Dataset, a: str, b: str, *, along: Along, axis: xr.DataArray
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return ln(S_a/S_b) on the common axis, its variance, and that of photon and read noise alone.

    Parameters
    ----------
    sums
        From `accumulate`, one of whose dims is `axis.dims[0]`.
    a, b
        Beams.
    along, axis
        Coordinate that was scanned, and its common values.
    """
    value, _, shot = log_ratio(sums, a, b)
    dim = str(axis.dims[0])
    mean, spread = mean_coordinate(sums, along)
    slope, bend = _along(dim, _slope, value, mean), _along(dim, _curvature, value, mean)
    _, scatter, _ = log_ratio(sums, a, b, slope=slope, along=along)
    pulses = pulse_scatter(sums, a, b)
    variance = moderated_variance(scatter, shot, sums["n_trains"], pulses=pulses, along=dim)
    moved = value - (slope * (mean - axis)).fillna(0.0) - 0.5 * (bend * spread).fillna(0.0)
    return moved, variance, shot


def _along(
    dim: str, function: Callable[[np.ndarray, np.ndarray], np.ndarray], value: xr.DataArray, at: xr.DataArray
) -> xr.DataArray:
    """Apply a function of (values, coordinate) to every row along a dim, empty cells left out (NaN there)."""

    def row(f: np.ndarray, x: np.ndarray) -> np.ndarray:
        result = np.full(f.shape, np.nan)
        good = np.isfinite(f) & np.isfinite(x)
        # cells whose mean coordinates coincide or run backwards have no slope
        if good.sum() >= 3 and (np.diff(x[good]) > 0).all():
            gap = np.diff(x[good])
            left, right = np.append(gap[:1], gap), np.append(gap, gap[-1:])
            # two cells that nearly coincide (a step cut by a bin edge) have no slope between them
            apart = np.minimum(left, right) > 0.05 * np.maximum(left, right)
            result[good] = np.where(apart, function(f[good], x[good]), 0.0)
        return result

    found: xr.DataArray = xr.apply_ufunc(
        row,
        value,
        at,
        input_core_dims=[[dim], [dim]],
        output_core_dims=[[dim]],
        vectorize=True,
        output_dtypes=[np.float64],
    )
    return found.transpose(*value.dims)


def _slope(f: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.asarray(np.gradient(f, x))


def _curvature(f: np.ndarray, x: np.ndarray) -> np.ndarray:
    left, right = x[1:-1] - x[:-2], x[2:] - x[1:-1]
    inner = 2 * ((f[2:] - f[1:-1]) / right - (f[1:-1] - f[:-2]) / left) / (left + right)
    return np.concatenate([inner[:1], inner, inner[-1:]])


def no_difference(dims: tuple[str, ...]) -> xr.Dataset:
    """Return the dataset of `difference` for no runs at all."""
    shape = (0,) * len(dims)
    floats = [f"{v}{s}" for v in ("od_unpumped", "od_pumped", "delta_xas") for s in ("", "_stderr")]
    result = xr.Dataset(
        {n: (dims, np.empty(shape)) for n in [*floats, "delta_xas_stderr_shot", "photons_pumped", "photons_unpumped"]}
    )
    for name in ("n_pulses", "n_trains"):
        result[name] = (dims, np.empty(shape, np.int64))
    coords = {d: (d, np.empty(0)) for d in dims if d != "scan"}
    if "scan" in dims:
        coords |= {"fluence": ("scan", np.empty(0)), "energy": ("scan", np.empty(0))}
    result = result.assign_coords(coords)
    result.attrs.update(flat_field_constant=0.0, flat_field_constant_stderr=0.0)
    return result
