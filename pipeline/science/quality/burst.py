"""The difference along the burst: does it change from the first to the last pulse of a train, and at which pulse?

What the pump leaves behind (heat, carriers, a sample that is drawn away) builds up from pulse to pulse. Two tests look for
it in every run, and on request all results are resolved by pulse index.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import chi2

from schemas.datasets.measured import BURST_DELAY_SCAN, BURST_SPECTRA

__all__ = ["about_mean", "burst_drift", "burst_profile", "effects_of_delay", "pulse_groups", "resolved"]

MAX_VALUES = 4_000_000
"""Bins times groups that are resolved without being asked for by number; a variable is then 32 MB at most."""
SIGNAL = 1e-4
"""A difference that varies over the bins less surely than this has no amplitude that could change."""
SAME_DELAY = 0.002
"""Delays [ps] of a bin that differ by less than this are one delay: an encoder's noise."""
ALIKE = 0.02
"""A drift of which other changes along the burst leave less than this part is not told from them."""


def burst_drift(
    ratio: np.ndarray,
    variance: np.ndarray,
    pulse: np.ndarray,
    group: np.ndarray,
    cell: np.ndarray,
    nuisance: Sequence[np.ndarray] = (),
) -> dict[str, float]:
    """Return how the difference changes from the first to the last pulse of the burst.

    Pulses are compared inside their group (train), so that nothing that varies from train to train enters. With x from
    −½ (first pulse) to ½ (last) and Δ the difference of the pulse's bin, y = y_group + s · Δ + drift · x, and with both
    terms free y = y_group + s · Δ + common · x + build_up · Δ · x. A drift common to all bins is what heat or the detector
    does; one in proportion to Δ is excitation that builds up or wears off, whose mean over a spectrum may be nothing. The
    term s · Δ is there for trains whose pulses fall into several bins (of delay); in one bin it is part of y_group.

    Errors are those of the scatter where it is: a pulse counts with its own squared residual (J. G. MacKinnon, H. White,
    J. Econometrics 29, 305 (1985), HC2), because pulses that see the sample at different delays scatter where the
    difference is large and nowhere else.

    Parameters
    ----------
    ratio, variance
        −ln(I_pumped / I_unpumped) of each pulse and its variance (pulse).
    pulse
        Index of the pulse in its train (pulse).
    group, cell
        Numbers of the train and of the bin (pulse).
    nuisance
        What else is known to change the difference from pulse to pulse, see `effects_of_delay` (pulse): free to be
        there in any amount, so that it is not taken for a drift.

    Returns
    -------
    dict
        drift [OD] and build_up (relative to the mean difference), each with _stderr. NaN: one pulse per train, no
        difference that stands out from the noise, or a change along the burst that the nuisance explains as well.
    """
    found = dict.fromkeys(("drift", "drift_stderr", "build_up", "build_up_stderr"), float("nan"))
    span = float(np.ptp(pulse))
    if span == 0:
        return found
    weight = 1.0 / variance
    x = (pulse - pulse.min()) / span - 0.5
    y0, freedom = about_mean(ratio, weight, group)
    noise = max(float(np.sum(weight * y0**2)) / freedom, 1.0) if freedom > 0 else 1.0
    shape, kept = _difference_of_bins(ratio, weight, cell, noise)
    known = [shape, *nuisance] if kept > 0 else list(nuisance)
    estimate = _Within(weight, group, known)
    found["drift"], found["drift_stderr"] = estimate(ratio, x)
    if kept > 0:
        value, error = estimate(ratio, x * shape, x)
        # noise in the bins' own difference makes it look larger than it is
        found["build_up"], found["build_up_stderr"] = value / kept, error / kept
    return found


def effects_of_delay(
    ratio: np.ndarray, variance: np.ndarray, cell: np.ndarray, delay: np.ndarray, *, along: str
) -> list[np.ndarray]:
    """Return in which ways delays that differ inside a bin change a pulse's difference.

    With τ the delay of the pulse less the mean of its bin, to first order it changes by τ · ∂Δ/∂t. In a delay scan the
    slope is that of the bins; in an energy scan, whose pulses are all near one delay, Δ as a whole rises or falls, τ · Δ.

    Parameters
    ----------
    ratio, variance, cell
        See `burst_drift`.
    delay
        Delay of each pulse [ps], arrival time included if it is known (pulse).
    along
        energy or delay: what the run scans.

    Returns
    -------
    list of arrays (pulse), none where all pulses of a bin have one delay.
    """
    weight = 1.0 / variance
    tau, _ = about_mean(delay, weight, cell)
    if not np.isfinite(tau).all() or np.ptp(tau) < SAME_DELAY:
        return []
    total = np.bincount(cell, weight)
    filled = total > 0
    safe = np.where(filled, total, 1.0)
    mean = np.bincount(cell, weight * ratio) / safe
    if along == "energy":
        centre = float(np.sum(total * mean) / np.sum(total))
        return [tau * (mean - centre)[cell]]
    at = (np.bincount(cell, weight * delay) / safe)[filled]
    if len(at) < 2 or not (np.diff(at) > 0).all():
        return []
    slope = np.zeros(len(total))
    slope[filled] = np.gradient(mean[filled], at)
    return [tau * slope[cell]]


def burst_profile(
    ratio: np.ndarray,
    variance: np.ndarray,
    pulse: np.ndarray,
    group: np.ndarray,
    n_pulses: int,
    cell: np.ndarray,
    nuisance: Sequence[np.ndarray] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean deviation of the difference at each pulse index from that of its train, and its standard error.

    Parameters are those of `burst_drift`; NaN at an index without pulses. What bins and `nuisance` explain is taken off.
    """
    weight = 1.0 / variance
    y0, freedom = about_mean(ratio, weight, group)
    noise = max(float(np.sum(weight * y0**2)) / freedom, 1.0) if freedom > 0 else 1.0
    shape, _ = _difference_of_bins(ratio, weight, cell, noise)
    left = _Within(weight, group, [shape, *nuisance]).without_known(ratio)
    total = np.bincount(pulse, weight, n_pulses)
    there = total > 0
    safe = np.where(there, total, 1.0)
    value = np.where(there, np.bincount(pulse, weight * left, n_pulses) / safe, np.nan)
    # a pulse is part of the mean that it is compared with
    own = freedom / len(ratio) if len(ratio) else 1.0
    scatter = np.bincount(pulse, (weight * left) ** 2, n_pulses) / safe**2 / own
    return value, np.where(there, own * np.sqrt(scatter), np.nan)


def about_mean(value: np.ndarray, weight: np.ndarray, group: np.ndarray) -> tuple[np.ndarray, int]:
    """Return values less the weighted mean of their group, and the degrees of freedom that are left."""
    n = int(group.max()) + 1 if len(group) else 0
    total = np.bincount(group, weight, n)
    mean = np.bincount(group, weight * value, n) / np.where(total > 0, total, 1.0)
    return value - mean[group], len(value) - int((total > 0).sum())


class _Within:
    """Weighted least squares inside groups, with some columns always free."""

    def __init__(self, weight: np.ndarray, group: np.ndarray, known: Sequence[np.ndarray]) -> None:
        self.weight, self.group, self.root = weight, group, np.sqrt(weight)
        self.known = [self._inside(column) for column in known]
        total = np.bincount(group, weight)
        # a pulse is part of the mean that it is compared with
        self.leverage = weight / np.where(total > 0, total, 1.0)[group]

    def __call__(self, y: np.ndarray, wanted: np.ndarray, *others: np.ndarray) -> tuple[float, float]:
        """Return the coefficient of `wanted` and its standard error, NaN where the data do not tell it from the rest."""
        target, residual, basis = self._inside(wanted), self._inside(y), self._basis(map(self._inside, others))
        length = float(target @ target)
        target = target - basis @ (basis.T @ target)
        residual = residual - basis @ (basis.T @ residual)
        power = float(target @ target)
        if power <= ALIKE * length:
            return np.nan, np.nan
        value = float(target @ residual) / power
        left = residual - value * target
        # two pulses of very unequal weight leave nothing of the heavier one: its scatter is that of the other
        spare = np.maximum(1.0 - self.leverage - target**2 / power, 0.1)
        return value, float(np.sqrt(np.sum(target**2 * left**2 / spare))) / power

    def without_known(self, y: np.ndarray) -> np.ndarray:
        """Return y about the mean of its group, less what the known columns explain."""
        residual, basis = self._inside(y), self._basis([])
        return np.asarray((residual - basis @ (basis.T @ residual)) / self.root)

    def _inside(self, column: np.ndarray) -> np.ndarray:
        return np.asarray(self.root * about_mean(column, self.weight, self.group)[0])

    def _basis(self, others: Iterable[np.ndarray]) -> np.ndarray:
        """Return orthonormal columns that span those always free and these."""
        columns = [(c, float(np.linalg.norm(c))) for c in (*others, *self.known)]
        most = max((length for _, length in columns), default=0.0)
        scaled = [c / length for c, length in columns if length > 1e-9 * most]
        if not scaled:
            return np.zeros((len(self.weight), 0))
        basis, sizes, _ = np.linalg.svd(np.stack(scaled, axis=1), full_matrices=False)
        return np.asarray(basis[:, sizes > 1e-6])


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
    result = xr.concat(parts, dim="pulse").assign_coords(
        pulse=[float(np.mean(g)) for g in groups],
        first_pulse=("pulse", [int(g[0]) for g in groups]),
        last_pulse=("pulse", [int(g[-1]) for g in groups]),
    )
    return (BURST_DELAY_SCAN if "scan" in result.dims else BURST_SPECTRA).describe(result)
