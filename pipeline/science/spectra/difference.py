"""Sums → optical densities and their difference: ratio of sums, −ln, and errors from the data.

The estimator of a bin is −ln(Σ I_pumped / Σ I_unpumped). Its bias is (σ²_u/S²_u − σ²_p/S²_p)/2 with the bin's sums S, so
it vanishes with the number of pulses; the mean of single-pulse ratios or of their logarithms keeps a bias of the order
of one over the photons per pulse however long one measures. Ratio of sums also weights every pulse by its photons,
which is the minimum-variance weight at the photon limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr

from pipeline.science.spectra.uncertainty import moderated_variance
from pipeline.science.sums.accumulate import log_ratio, mean_coordinate, pulse_scatter, total

__all__ = ["Along", "TrainNoise", "difference", "estimate_ratio", "no_difference"]

Along = Literal["energy", "delay"]
TrainNoise = Mapping[tuple[str, str], float]
"""Variance of ln(I_a / I_b) that the pulses of a train share, by pair of beams."""


def difference(
    sums: xr.Dataset,
    constant: tuple[float, float],
    *,
    along: Along,
    axis: xr.DataArray,
    train_noise: TrainNoise | None = None,
) -> xr.Dataset:
    """Return optical densities and their difference with errors.

    delta_xas = −ln(S_pumped / S_unpumped) + c with the flat-field constant c. The error of c is common to all bins; it
    is part of every `_stderr` here and also given alone as `flat_field_constant_stderr`: between any two bins the
    covariance of delta_xas is its square. Where there is no reference beam the optical densities are NaN.

    The cells of one bin number share a coordinate but not their pulses: a cell's value is that of the curve at its own
    mean coordinate m, plus half the curvature times the spread v of the coordinate. It is moved to the common axis by
    f(x) ≈ value − f'·(m − x) − f''·v/2 with derivatives from the neighbouring bins, whose noise is part of the error. A
    step that is sharper than the bins overshoots by a twenty-fourth of its height where pulses fill the bins; where the
    stage dwells the spread is nothing.

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
    train_noise
        Variance that the pulses of a train share, see `pipeline.science.spectra.scans.noise_of_trains`.

    Returns
    -------
    Dataset: od_unpumped, od_pumped, delta_xas with _stderr, delta_xas_stderr_shot, n_pulses, n_trains, photons_*, and
    the scalar flat_field_constant with _stderr.
    """
    c, c_stderr = constant
    delta, variance, shot = estimate_ratio(sums, "pumped", "unpumped", along=along, axis=axis, train_noise=train_noise)
    result = xr.Dataset({"delta_xas": c - delta})
    result["delta_xas_stderr"] = np.sqrt(variance + c_stderr**2)
    result["delta_xas_stderr_shot"] = np.sqrt(shot + c_stderr**2)
    has_reference = "reference" in [str(b) for b in sums["beam"].values]
    for name, beam, offset, error in (("od_unpumped", "unpumped", 0.0, 0.0), ("od_pumped", "pumped", c, c_stderr)):
        if has_reference:
            od, od_variance, _ = estimate_ratio(
                sums, beam, "reference", along=along, axis=axis, train_noise=train_noise
            )
        else:
            od, od_variance = xr.full_like(delta, np.nan), xr.full_like(delta, np.nan)
        result[name] = offset - od
        result[f"{name}_stderr"] = np.sqrt(od_variance + error**2)
    result["n_pulses"] = sums["n_pulses"]
    result["n_trains"] = sums["n_trains"]
    for beam in ("pumped", "unpumped"):
        result[f"photons_{beam}"] = total(sums, "photons").sel(beam=beam, drop=True)
    result = result.assign(flat_field_constant=c, flat_field_constant_stderr=c_stderr)
    return result.drop_vars("beam", errors="ignore")


def estimate_ratio(
    sums: xr.Dataset, a: str, b: str, *, along: Along, axis: xr.DataArray, train_noise: TrainNoise | None = None
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
    train_noise
        Variance that the pulses of a train share; none: learned from these sums alone.
    """
    dim = str(axis.dims[0])
    mean, spread = mean_coordinate(sums, along)
    value, _, shot = log_ratio(sums, a, b)
    slope = _applied(dim, _row_slope, 1, value, mean)[0]
    _, scatter, _ = log_ratio(sums, a, b, slope=slope, along=along)
    variance = moderated_variance(
        scatter,
        shot,
        sums["n_trains"],
        pulses=pulse_scatter(sums, a, b),
        n_pulses=sums["n_pulses"],
        train_variance=(train_noise or {}).get((a, b), 0.0),
        along=dim,
    )
    moved, variance, shot = _applied(dim, _row_moved, 3, value, mean, spread, axis, variance, shot)
    return moved, variance, shot


def _applied(dim: str, function: Callable[..., Any], results: int, *arrays: xr.DataArray) -> tuple[xr.DataArray, ...]:
    """Apply a function to every row along a dim."""
    found = xr.apply_ufunc(
        function,
        *arrays,
        input_core_dims=[[dim]] * len(arrays),
        output_core_dims=[[dim]] * results,
        vectorize=True,
        output_dtypes=[np.float64] * results,
    )
    rows = found if isinstance(found, tuple) else (found,)
    return tuple(r.transpose(*arrays[0].dims) for r in rows)


def _row_slope(value: np.ndarray, mean: np.ndarray) -> np.ndarray:
    result = np.full(value.shape, np.nan)
    good = np.isfinite(value) & np.isfinite(mean)
    if (apart := _apart(mean[good])) is not None:
        result[good] = np.where(apart, _slope(value[good], mean[good]), 0.0)
    return result


def _row_moved(
    value: np.ndarray, mean: np.ndarray, spread: np.ndarray, axis: np.ndarray, *variances: np.ndarray
) -> tuple[np.ndarray, ...]:
    """Move one row to the axis. The move is linear in the row, so its variance follows from unit vectors.

    A value depends on its two neighbours at most two places off; vectors with every fifth bin set give all weights.
    """
    good = np.isfinite(value) & np.isfinite(mean)
    x = mean[good]
    if (apart := _apart(x)) is None:
        return (value, *variances)
    shift = np.where(apart, x - axis[good], 0.0)
    bend = np.where(apart, 0.5 * spread[good], 0.0)

    def move(f: np.ndarray) -> np.ndarray:
        return np.asarray(f - shift * _slope(f, x) - bend * _curvature(f, x))

    every_fifth = np.arange(5)[:, None] == np.arange(len(x)) % 5
    results = [value.copy(), *(v.copy() for v in variances)]
    results[0][good] = move(value[good])
    for row in results[1:]:
        row[good] = np.sum(move(every_fifth * np.sqrt(row[good])) ** 2, axis=0)
    return tuple(results)


def _apart(x: np.ndarray) -> np.ndarray | None:
    """Return where a row has derivatives; None where cells coincide or run backwards, or are fewer than three."""
    gap = np.diff(x)
    if len(x) < 3 or not (gap > 0).all():
        return None
    left, right = np.append(gap[:1], gap), np.append(gap, gap[-1:])
    # two cells that nearly coincide (a step cut by a bin edge) have no slope between them
    return np.asarray(np.minimum(left, right) > 0.05 * np.maximum(left, right))


def _slope(f: np.ndarray, x: np.ndarray) -> np.ndarray:
    return np.asarray(np.gradient(f, x, axis=-1))


def _curvature(f: np.ndarray, x: np.ndarray) -> np.ndarray:
    left, right = x[1:-1] - x[:-2], x[2:] - x[1:-1]
    middle = f[..., 1:-1]
    inner = 2 * ((f[..., 2:] - middle) / right - (middle - f[..., :-2]) / left) / (left + right)
    return np.concatenate([inner[..., :1], inner, inner[..., -1:]], axis=-1)


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
    return result.assign(flat_field_constant=0.0, flat_field_constant_stderr=0.0)
