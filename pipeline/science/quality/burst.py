"""The difference along the burst: does it change from the first to the last pulse of a train, and at which pulse?

What the pump leaves behind (heat, carriers, a sample that is drawn away) builds up from pulse to pulse. Two tests look for
it in every run, and on request all results are resolved by pulse index.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import chi2

__all__ = ["about_mean", "burst_drift", "burst_profile", "pulse_groups", "resolved"]

MAX_VALUES = 4_000_000
"""Bins times groups that are resolved without being asked for by number; a variable is then 32 MB at most."""
SIGNAL = 1e-4
"""A difference that varies over the bins less surely than this has no amplitude that could change."""


def burst_drift(
    ratio: np.ndarray, variance: np.ndarray, pulse: np.ndarray, group: np.ndarray, cell: np.ndarray
) -> dict[str, float]:
    """Return how the difference changes from the first to the last pulse of the burst.

    Pulses are compared inside their group (train), so that nothing that varies from train to train enters. With x from 0
    (first pulse) to 1 (last) and Δ the difference of the pulse's bin, y = y_group + drift · x, and with both terms free
    y = y_group + common · x + build_up · Δ · x. A drift common to all bins is what heat or the detector does; one in
    proportion to Δ is excitation that builds up or wears off, whose mean over a spectrum may be nothing.

    Parameters
    ----------
    ratio, variance
        −ln(I_pumped / I_unpumped) of each pulse and its variance (pulse).
    pulse
        Index of the pulse in its train (pulse).
    group, cell
        Numbers of the train and of the bin (pulse).

    Returns
    -------
    dict
        drift [OD] and build_up (relative to the mean difference), each with _stderr. NaN: one pulse per train, or no
        difference that stands out from the noise.
    """
    found = dict.fromkeys(("drift", "drift_stderr", "build_up", "build_up_stderr"), float("nan"))
    span = float(np.ptp(pulse))
    if span == 0:
        return found
    weight = 1.0 / variance
    x = (pulse - pulse.min()) / span
    y0, freedom = about_mean(ratio, weight, group)
    x0, _ = about_mean(x, weight, group)
    noise = max(float(np.sum(weight * y0**2)) / freedom, 1.0) if freedom > 0 else 1.0
    common = _least_squares([x0], y0, weight)
    if common is None:
        return found
    found["drift"], found["drift_stderr"] = common[0], common[1] * np.sqrt(noise)
    shape, kept = _difference_of_bins(ratio, weight, cell, noise)
    if kept > 0:
        scaled, _ = about_mean(x * shape, weight, group)
        both = _least_squares([scaled, x0], y0, weight)
        if both is not None:
            # noise in the bins' own difference makes it look larger than it is
            found["build_up"], found["build_up_stderr"] = both[0] / kept, both[1] / kept * np.sqrt(noise)
    return found


def burst_profile(
    ratio: np.ndarray, variance: np.ndarray, pulse: np.ndarray, group: np.ndarray, n_pulses: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean deviation of the difference at each pulse index from that of its train, and its standard error.

    Parameters are those of `burst_drift`; NaN at an index without pulses.
    """
    weight = 1.0 / variance
    y0, freedom = about_mean(ratio, weight, group)
    total = np.bincount(pulse, weight, n_pulses)
    there = total > 0
    safe = np.where(there, total, 1.0)
    value = np.where(there, np.bincount(pulse, weight * y0, n_pulses) / safe, np.nan)
    noise = max(float(np.sum(weight * y0**2)) / freedom, 1.0) if freedom > 0 else 1.0
    # a pulse is part of the mean that it is compared with
    own = freedom / len(ratio) if len(ratio) else 1.0
    return value, np.where(there, np.sqrt(noise * own / safe), np.nan)


def about_mean(value: np.ndarray, weight: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, int]:
    """Return values less the weighted mean of their group, and the degrees of freedom that are left."""
    n = int(group.max()) + 1 if len(group) else 0
    total = np.bincount(group, weight, n)
    mean = np.bincount(group, weight * value, n) / np.where(total > 0, total, 1.0)
    return value - mean[group], len(value) - int((total > 0).sum())


def _least_squares(columns: list[np.ndarray], y: np.ndarray, weight: np.ndarray) -> tuple[float, float] | None:
    """Return the first coefficient of a weighted fit and its standard error, None where it is not determined."""
    design = np.stack(columns)
    information = (design * weight) @ design.T
    if np.linalg.matrix_rank(information, hermitian=True) < len(columns):
        return None
    covariance = np.linalg.inv(information)
    return float((covariance @ ((design * weight) @ y))[0]), float(np.sqrt(covariance[0, 0]))


def _difference_of_bins(
    ratio: np.ndarray, weight: np.ndarray, cell: np.ndarray, noise: float
) -> tuple[np.ndarray, float]:
    """Return the difference of each pulse's bin about the run's mean, and which part of its variance is no noise."""
    total = np.bincount(cell, weight)
    filled = total > 0
    mean = np.bincount(cell, weight * ratio) / np.where(filled, total, 1.0)
    centre = float(np.sum(total * mean) / np.sum(total))
    statistic = float(np.sum(total * (mean - centre) ** 2)) / noise
    freedom = int(filled.sum()) - 1
    if freedom < 1 or chi2.sf(statistic, freedom) > SIGNAL:
        return np.zeros(len(ratio)), 0.0
    return (mean - centre)[cell], 1.0 - freedom / statistic


def pulse_groups(n_pulses: int, bins: int, groups: int | None = None) -> list[np.ndarray]:
    """Return the pulse indices of each group: neighbours, all groups of nearly the same size.

    Parameters
    ----------
    n_pulses
        Pulses per train.
    bins
        Bins that are resolved.
    groups
        Number of groups; None: each index by itself, fewer where the result would exceed `MAX_VALUES`.
    """
    wanted = n_pulses if groups is None else groups
    if groups is None and n_pulses * bins > MAX_VALUES:
        wanted = max(MAX_VALUES // bins, 2)
    return [part for part in np.array_split(np.arange(n_pulses), min(wanted, n_pulses)) if len(part)]


def resolved(
    function: Callable[..., xr.Dataset],
    runs: Sequence[xr.Dataset],
    groups: Sequence[np.ndarray],
    constants: Sequence[tuple[float, float]],
    **options: Any,
) -> xr.Dataset:
    """Return the difference of every group of pulses, on the bins and coordinates of all pulses.

    Parameters
    ----------
    function
        `spectra` or `delay_scans`.
    runs
        Its runs.
    groups
        Pulse indices of each group.
    constants
        Flat-field constant of each group with its standard error.
    options
        Other options of the function.

    Returns
    -------
    Dataset: delta_xas with _stderr and _stderr_shot, n_pulses and flat_field_constant with _stderr over a leading dim
    pulse, whose coordinates are the mean, first and last index of each group.
    """
    names = [
        *("delta_xas", "delta_xas_stderr", "delta_xas_stderr_shot", "n_pulses"),
        *("flat_field_constant", "flat_field_constant_stderr"),
    ]
    parts = [function(runs, pulses=g, constant=c, **options)[names] for g, c in zip(groups, constants, strict=True)]
    return xr.concat(parts, dim="pulse").assign_coords(
        pulse=[float(np.mean(g)) for g in groups],
        first_pulse=("pulse", [int(g[0]) for g in groups]),
        last_pulse=("pulse", [int(g[-1]) for g in groups]),
    )
