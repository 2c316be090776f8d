"""Which bins there are: edges of energy and delay found in the runs or given, and which delay scans add up."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.science.sums.binning import (
    MAX_SINGLE_STEPS,
    assign,
    energy_edges,
    grid_edges,
    step_centres,
    step_centres_of_all,
    step_edges,
    sweep_edges,
)

__all__ = [
    "SAME_ENERGY",
    "Bins",
    "edges_of_delay",
    "edges_of_energy",
    "energy_of_scan",
    "group_scans",
    "is_same_energy",
    "nominal_edges",
]

MOST_BINS = 100_000
"""Delay bins that are still made; more would not say more, and fill the memory."""
SAME_ENERGY = 2e-4
"""Delay scans whose energies differ by less than this fraction add up."""

Bins = Sequence[float] | tuple[float, float, float] | float | None


def edges_of_energy(runs: Sequence[xr.Dataset], bins: Bins) -> np.ndarray:
    """Return energy bin edges [eV] common to some runs: as given (edges, or start, stop, step of centres) or found."""
    if bins is None:
        return energy_edges([r["energy"].values for r in runs])
    if isinstance(bins, tuple) and len(bins) == 3:
        return grid_edges(*bins)
    return np.asarray(bins, np.float64)


def nominal_edges(runs: Sequence[xr.Dataset], bins: Bins, *, resolution: float = 5e-3) -> np.ndarray:
    """Return delay bin edges [ps] common to some runs.

    Parameters
    ----------
    runs
        delay (train, pulse) [ps]; the nominal delay is the median of a train.
    bins
        Edges, a width, or None for the steps of the stage.
    resolution
        Stage readings closer than this [ps] are the same step.
    """
    runs = [r for r in runs if np.isfinite(r["nominal_delay"].values).any()]
    medians = [_train_median(r["delay"].values) for r in runs]
    everything = np.concatenate(medians) if medians else np.empty(0)
    everything = everything[np.isfinite(everything)]
    if not len(everything):
        raise DataError("no train has a delay; set sources.delay_stage or the runs' `delay:`")
    if isinstance(bins, float | int):
        # as far as the jitter inside trains reaches, but not to every stray reading of the arrival monitor
        reach = 4 * max(_scatter_in_trains(r["delay"].values, m) for r, m in zip(runs, medians, strict=True))
        low, high = everything.min() - reach, everything.max() + reach
        if (high - low) / float(bins) > MOST_BINS:
            raise DataError(
                f"delay.bin: a width of {bins:g} ps makes more than {MOST_BINS} bins from {low:g} to {high:g} ps"
            )
        return sweep_edges(np.array([low, high]), width=float(bins))
    if bins is not None:
        return np.asarray(bins, np.float64)
    if (steps := _stage_steps(runs, resolution=resolution)) is not None:
        return step_edges(steps[0] + steps[1])
    places = np.unique(np.round(everything / resolution) * resolution)
    if len(places) <= MAX_SINGLE_STEPS:
        return step_edges(step_centres_of_all([places], resolution=resolution))
    return sweep_edges(everything, width=max(float(np.ptp(everything)) / MAX_SINGLE_STEPS, 0.01))


def _stage_steps(runs: Sequence[xr.Dataset], *, resolution: float = 5e-3) -> tuple[np.ndarray, float] | None:
    """Return the nominal delays [ps] at which the stage stood, and how far the arrival time moves them all; None: it swept."""
    runs = [r for r in runs if np.isfinite(r["nominal_delay"].values).any()]
    steps = [step_centres(r["nominal_delay"].values, resolution=resolution) for r in runs]
    if not steps or any(s is None for s in steps):
        return None
    moved = [_train_median(r["delay"].values) - r["nominal_delay"].values for r in runs]
    found = step_centres_of_all([s for s in steps if s is not None], resolution=resolution)
    return found, float(np.nanmedian(np.concatenate(moved)))


def edges_of_delay(runs: Sequence[xr.Dataset], bins: Bins) -> list[np.ndarray]:
    """Return the delay bin edges [ps] of each energy scan, the same number of bins for all.

    Given bins are those of all runs. Found ones are one bin per stage position; a pulse whose arrival time moves it goes
    to the nearest position that was visited at its own fluence (bins of the others have no width there): what leaks
    into a position that a fluence never visited would be a biased sample of delays.
    """
    edges = nominal_edges(runs, bins)
    steps = _stage_steps(runs) if bins is None else None
    if steps is None:
        return [edges] * len(runs)
    centres, offset = steps
    visited: dict[float, set[int]] = {}
    for run in runs:
        index = assign(run["nominal_delay"].values, step_edges(centres))
        visited.setdefault(float(run["fluence"]), set()).update(index[index >= 0].tolist())
    own = {}
    for fluence, places in visited.items():
        known = np.array(sorted(places), np.int64)
        inner = step_edges(centres[known] + offset) if len(known) else np.full(1, np.inf)
        own[fluence] = inner[np.searchsorted(known, np.arange(len(edges)))]
    return [own[float(run["fluence"])] for run in runs]


def _train_median(delay: np.ndarray) -> np.ndarray:
    usable = np.isfinite(delay).any(axis=1)
    result = np.full(len(delay), np.nan)
    if usable.any():
        result[usable] = np.nanmedian(delay[usable], axis=1)
    return result


def _scatter_in_trains(delay: np.ndarray, median: np.ndarray) -> float:
    """Return a robust σ of the pulses' delays about the median of their train."""
    known = np.isfinite(median)
    return float(np.nanmedian(np.abs(delay[known] - median[known, None]))) / 0.6745 if known.any() else 0.0


def group_scans(runs: Sequence[xr.Dataset]) -> list[list[xr.Dataset]]:
    """Return the delay scans that add up, by fluence and energy."""
    groups: list[list[xr.Dataset]] = []
    for run in sorted(runs, key=lambda r: (float(r["fluence"]), energy_of_scan(r))):
        last = groups[-1][0] if groups else None
        same = last is not None and float(last["fluence"]) == float(run["fluence"])
        if last is not None and same and bool(is_same_energy(energy_of_scan(run), np.array(energy_of_scan(last)))):
            groups[-1].append(run)
        else:
            groups.append([run])
    return groups


def is_same_energy(energy: float, others: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which photon energies [eV] are that of a scan, to `SAME_ENERGY`; NaN is none."""
    return np.asarray(np.abs(energy - others) <= SAME_ENERGY * others)


def energy_of_scan(run: xr.Dataset) -> float:
    """Return the photon energy [eV] of a delay scan, the median over its trains; NaN where none is known."""
    known = run["energy"].values[np.isfinite(run["energy"].values)]
    return float(np.median(known)) if len(known) else np.nan
