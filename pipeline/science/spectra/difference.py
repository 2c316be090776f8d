"""Sums → optical densities and their difference: ratio of sums, −ln, and errors from the data.

The estimator of a bin is −ln(Σ I_pumped / Σ I_unpumped). Its bias is (σ²_u/S²_u − σ²_p/S²_p)/2 with the bin's sums S, so
it vanishes with the number of pulses; the mean of single-pulse ratios or of their logarithms keeps a bias of the order
of one over the photons per pulse however long one measures. Ratio of sums also weights every pulse by its photons,
which is the minimum-variance weight at the photon limit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import numpy as np
import xarray as xr

from pipeline.science.spectra.uncertainty import moderated_variance
from pipeline.science.sums.accumulate import mean_coordinate, total, without_pump
from pipeline.science.sums.contrast import Contrast, counts_of, is_change, log_contrast, pulse_scatter, ratio

__all__ = ["Along", "TrainNoise", "difference", "estimate", "in_run_difference", "log_change"]

ENOUGH_TRAINS = 30
"""Degrees of freedom of trains that tell the noise of a change by themselves."""
Along = Literal["energy", "delay"]
Value = float | xr.DataArray
TrainNoise = Mapping[tuple[str, str], float]
"""Variance of ln(I_a / I_b) that the pulses of a train share, by pair of beams."""


def difference(
    sums: xr.Dataset,
    constant: tuple[Value, Value],
    *,
    along: Along,
    axis: xr.DataArray,
    train_noise: TrainNoise | None = None,
) -> xr.Dataset:
    """Return optical densities and their difference with errors, compared with a constant.

    delta_xas = −ln(S_pumped / S_unpumped) + c with the constant c, ln(I_pumped / I_unpumped) without pump. Its error is
    part of every `_stderr` here and also given alone as `reference_stderr`: bins that share a constant share its error.
    Where there is no reference beam the optical densities are NaN.

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
        The constant and its standard error: numbers, or over dims of the sums.
    along
        Coordinate that was scanned.
    axis
        Common coordinate of the bins.
    train_noise
        Variance that the pulses of a train share, see `pipeline.science.spectra.reference.noise_of_trains`.

    Returns
    -------
    Dataset: od_unpumped, od_pumped, delta_xas with _stderr, delta_xas_stderr_shot, reference_stderr, n_pulses, n_trains,
    photons_*.
    """
    c, c_stderr = constant
    estimated = _Estimated(sums, along, axis, train_noise)
    delta, variance, shot = estimated.of(ratio("pumped", "unpumped"))
    result = xr.Dataset({"delta_xas": c - delta})
    result["delta_xas_stderr"] = np.sqrt(variance + c_stderr**2)
    result["delta_xas_stderr_shot"] = np.sqrt(shot + c_stderr**2)
    result["reference_stderr"] = xr.zeros_like(delta) + c_stderr
    for name, beam, offset, error in (("od_unpumped", "unpumped", 0.0, 0.0), ("od_pumped", "pumped", c, c_stderr)):
        od, od_variance = estimated.density(ratio(beam, "reference"))
        result[name] = offset - od
        result[f"{name}_stderr"] = np.sqrt(od_variance + error**2)
    return _counted(result, sums)


_ON, _OFF = ratio("pumped", "unpumped"), ratio(*map(without_pump, ("pumped", "unpumped")))


def log_change(
    sums: xr.Dataset, *, along: Along, axis: xr.DataArray, train_noise: TrainNoise | None = None
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return what the pump does to ln(S_pumped / S_unpumped), its variance, and that of photon and read noise alone.

    Less the same of the pulses without pump where the sums are by condition, else compared with nothing. Where trains hold
    pulses of both conditions, what these share cancels; where trains are all of one or the other, both errors add up.
    Parameters are those of `estimate`.
    """
    estimated = _Estimated(sums, along, axis, train_noise)
    if "n_pulses_off" not in sums:
        return estimated.of(_ON)
    if _trains_hold_both(sums):
        return estimated.of((*_ON, *_negative(_OFF)))
    with_pump, without = estimated.of(_ON), estimated.of(_OFF)
    return with_pump[0] - without[0], with_pump[1] + without[1], with_pump[2] + without[2]


def in_run_difference(
    sums: xr.Dataset, *, along: Along, axis: xr.DataArray, train_noise: TrainNoise | None = None
) -> xr.Dataset:
    """Return the same, compared with the pulses without pump of the same cell.

    delta_xas = −ln(S_pumped / S_unpumped) with the pump, less the same without it. Films, splitting ratio and whatever
    drifts slowly are in both and cancel; see `log_change`.

    Parameters are those of `difference`; the sums are by condition. NaN where a cell lacks one of the conditions.
    """
    estimated = _Estimated(sums, along, axis, train_noise)
    delta, variance, shot = log_change(sums, along=along, axis=axis, train_noise=train_noise)
    result = xr.Dataset({"delta_xas": -delta})
    result["delta_xas_stderr"], result["delta_xas_stderr_shot"] = np.sqrt(variance), np.sqrt(shot)
    result["reference_stderr"] = xr.zeros_like(delta)
    unpumped = tuple((sign, (beam, without_pump(beam))) for sign, (beam,) in ratio("unpumped", "reference"))
    od, od_variance = estimated.density(unpumped)
    result["od_unpumped"], result["od_unpumped_stderr"] = -od, np.sqrt(od_variance)
    result["od_pumped"] = result["od_unpumped"] + result["delta_xas"]
    result["od_pumped_stderr"] = np.sqrt(estimated.density((*_ON, *_negative(_OFF), *unpumped))[1])
    return _counted(result, sums)


def _negative(contrast: Contrast) -> Contrast:
    return tuple((-sign, beams) for sign, beams in contrast)


def _trains_hold_both(sums: xr.Dataset) -> bool:
    """Return whether pulses with pump and without it are of the same trains, mostly."""
    shared = sums["n_trains"] + sums["n_trains_off"] - sums["n_trains_any"]
    return float(shared.sum()) > 0.5 * float(np.minimum(sums["n_trains"], sums["n_trains_off"]).sum())


class _Estimated(NamedTuple):
    """Contrasts of the same sums on the same axis."""

    sums: xr.Dataset
    along: Along
    axis: xr.DataArray
    train_noise: TrainNoise | None

    def of(self, contrast: Contrast) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
        return estimate(self.sums, contrast, along=self.along, axis=self.axis, train_noise=self.train_noise)

    def density(self, contrast: Contrast) -> tuple[xr.DataArray, xr.DataArray]:
        """Return a contrast with the reference beam and its variance; NaN without that beam."""
        if "reference" in [str(b) for b in self.sums["beam"].values]:
            return self.of(contrast)[:2]
        nothing = xr.full_like(self.sums["n_pulses"], np.nan, dtype=np.float64)
        return nothing, nothing


def _counted(result: xr.Dataset, sums: xr.Dataset) -> xr.Dataset:
    counts = ("n_pulses", "n_trains", *(["n_pulses_off"] if "n_pulses_off" in sums else []))
    result = result.assign({name: sums[name] for name in counts})
    for beam in ("pumped", "unpumped"):
        result[f"photons_{beam}"] = total(sums, "photons").sel(beam=beam, drop=True)
    return result.drop_vars("beam", errors="ignore")


def estimate(
    sums: xr.Dataset, contrast: Contrast, *, along: Along, axis: xr.DataArray, train_noise: TrainNoise | None = None
) -> tuple[xr.DataArray, xr.DataArray, xr.DataArray]:
    """Return a contrast of sums on the common axis, its variance, and that of photon and read noise alone.

    Parameters
    ----------
    sums
        From `accumulate`, one of whose dims is `axis.dims[0]`.
    contrast
        Of beams, see `pipeline.science.sums.contrast`.
    along, axis
        Coordinate that was scanned, and its common values.
    train_noise
        Variance that the pulses of a train share; none: learned from these sums alone.
    """
    dim = str(axis.dims[0])
    mean, spread = mean_coordinate(sums, along)
    value, _, shot = log_contrast(sums, contrast)
    slope = _applied(dim, _row_slope, 1, value, mean)[0]
    _, scatter, _ = log_contrast(sums, contrast, slope=slope, along=along)
    n_trains, n_pulses = counts_of(sums, contrast)
    # in a change by the pump pulses tell less than trains: what trains share is in the pulses, and cancels
    by_trains = is_change(contrast) and float((n_trains - 1).clip(min=0).sum()) >= ENOUGH_TRAINS
    variance = moderated_variance(
        scatter,
        shot,
        n_trains,
        pulses=None if by_trains else pulse_scatter(sums, contrast),
        n_pulses=n_pulses,
        train_variance=_of_trains(train_noise, contrast),
        along=dim,
    )
    moved, variance, shot = _applied(dim, _row_moved, 3, value, mean, spread, axis, variance, shot)
    return moved, variance, shot


def _of_trains(train_noise: TrainNoise | None, contrast: Contrast) -> float:
    """Return the variance that pulses of a train share in a ratio, of whatever condition."""
    if train_noise is None or len(contrast) != 2:
        return 0.0
    a, b = (beams[0].removesuffix(without_pump("")) for _, beams in contrast)
    return train_noise.get((a, b), 0.0)


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
