"""Do the data agree with what is said about the pump?

Two facts need no model of the sample. Pulses of one condition are alike: no period is left in −ln(I_pumped / I_unpumped)
along pulses or trains. And without pump that ratio is the same at every delay and fluence, so of two conditions the one
that varies less is without pump.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xarray as xr

from pipeline.science.labels.condition import OFF, ON
from pipeline.science.sums.accumulate import accumulate
from pipeline.science.sums.binning import assign, step_centres, step_edges
from pipeline.science.sums.contrast import log_contrast, pulse_scatter, ratio

__all__ = ["Period", "find_period", "swapped", "variation"]

FLOOR = 3e-4
"""Difference of a ratio [OD] that tells nothing."""
SIGNIFICANT = 8.0
"""How many standard deviations χ² must be above its degrees of freedom."""
PERIODS = range(2, 9)
FEWEST = 10
"""Trains beyond one of each class and step, from which their scatter is known."""
MAX_CELLS = 60
"""Bins of energy or delay of a run: a rough look."""


class Period(NamedTuple):
    """A period that the data show."""

    along: str
    """pulses or trains."""
    length: int
    size: float
    """rms difference of its members [OD]."""


def find_period(
    runs: Sequence[xr.Dataset], still: Sequence[xr.Dataset] = (), *, condition: int | None = None
) -> Period | None:
    """Return the period, of 2 to 8 pulses or trains, with which the ratio of the sample beams changes; None: with none.

    Parameters
    ----------
    runs
        Pulses of scans, beams named, with `drop_reason`, energy, delay and `condition`.
    still
        Pulses of runs without pump: a period that is in them too (memory cells that are not alike) is taken off.
    condition
        Which pulses are looked at; None: all.
    """
    best: tuple[float, Period | None] = (SIGNIFICANT, None)
    for length in PERIODS:
        along_pulses = [_of_pulses(run, length, condition) for run in runs]
        usual = [_of_pulses(run, length, None) for run in still]
        best = _better(best, "pulses", length, along_pulses, usual)
        best = _better(best, "trains", length, [_of_trains(run, length, condition) for run in runs], [])
    return best[1]


Table = tuple[np.ndarray, np.ndarray]
"""By how much each class of pulses or trains differs from the mean of its cell (cell, class), and the variance of that."""


def _better(
    best: tuple[float, Period | None], along: str, length: int, tables: Sequence[Table], usual: Sequence[Table]
) -> tuple[float, Period | None]:
    """Return the more significant of the best so far and a new one."""
    value, variance = (np.concatenate([t[i] for t in tables]) for i in (0, 1))
    if usual:
        always, error = _mean(*(np.concatenate([t[i] for t in usual]) for i in (0, 1)))
        value, variance = value - always, variance + error
    known = np.isfinite(value) & np.isfinite(variance)
    if not known.any():
        return best
    dof = known.sum() * (length - 1) / length
    z = float((np.sum((value**2 / (variance + FLOOR**2))[known]) - dof) / np.sqrt(2 * dof))
    return (z, Period(along, length, float(np.sqrt(np.mean(value[known] ** 2))))) if z > best[0] else best


def _of_pulses(run: xr.Dataset, length: int, condition: int | None) -> Table:
    """Compare pulses of the same trains; a trend from first to last is taken off: classes differ in their mean place."""
    cell, n_cells = _cells(run, condition)
    place = _place(run)
    periods = (int(place.max()) + 1) // length // 2 * 2
    if periods < 2:
        return np.full((0, length), np.nan), np.full((0, length), np.nan)
    inside = (place >= 0) & (place < periods * length)
    kind = place % length * 2 + (place >= periods * length // 2)
    value, variance = _ratio(run, np.where(inside & (cell >= 0), cell * length * 2 + kind, -1), n_cells * length * 2)
    shape = (n_cells, length, 2)
    value, variance = value.reshape(shape), variance.reshape(shape)
    mean = value.mean(axis=1, keepdims=True)
    slope = (mean[:, 0, 1] - mean[:, 0, 0]) / (periods * length / 2)
    apart = (value - mean).mean(axis=2) - slope[:, None] * (np.arange(length) - (length - 1) / 2)
    return apart, variance.mean(axis=2) / 2


def _of_trains(run: xr.Dataset, length: int, condition: int | None) -> Table:
    """Compare trains at the same step of a scan; a sweep has none that can be compared.

    How far trains scatter by themselves must be known from trains of one class: with pump, near time zero, they scatter more than
    any run without it tells, by their arrival.
    """
    step = _steps(run)
    nothing = np.full((0, length), np.nan)
    if step is None:
        return nothing, nothing
    value, shot = _by_train(run, condition)
    kind = run["train_id"].values.astype(np.int64) % length
    known = np.isfinite(value) & (step >= 0)
    group = step[known] * length + kind[known]
    size = (int(step.max()) + 1) * length
    count = np.bincount(group, minlength=size)
    mean = np.bincount(group, value[known], minlength=size) / np.where(count > 0, count, np.nan)
    within = float(np.sum((value[known] - mean[group]) ** 2))
    freedom = int(known.sum() - (count > 0).sum())
    if not known.any() or freedom < FEWEST:
        return nothing, nothing
    single = max(float(np.median(shot[known])), within / freedom)
    table = mean.reshape(-1, length)
    seen = np.isfinite(table).sum(axis=1)
    table = table - np.where(seen > 1, np.nansum(table, axis=1) / np.maximum(seen, 1), np.nan)[:, None]
    return table, single / np.where(count > 0, count, np.nan).reshape(-1, length)


def _by_train(run: xr.Dataset, condition: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return −ln(S_pumped / S_unpumped) of each train and its variance from photon noise."""
    cell, _ = _cells(run, condition)
    n = run.sizes["train"]
    sums = accumulate(run, np.where(cell >= 0, np.arange(n)[:, None], -1), n)
    value, _, shot = log_contrast(sums, ratio("pumped", "unpumped"))
    return -value.values, shot.values


def _steps(run: xr.Dataset) -> np.ndarray | None:
    """Return the number of the step (train) at which a scan stood, -1 where that is not known; None: it swept."""
    values = run["energy"].values if _scans_energy(run) else run["nominal_delay"].values
    known = np.isfinite(values)
    if not known.any():
        return None
    resolution = 2e-5 * float(np.median(values[known])) if _scans_energy(run) else 5e-3
    centres = step_centres(values, resolution=resolution)
    return None if centres is None else np.where(known, assign(values, step_edges(centres)), -1)


def _mean(value: np.ndarray, variance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the weighted mean over cells (class) and its variance; 0 where nothing is known."""
    known = np.isfinite(value) & np.isfinite(variance)
    weight = np.where(known, 1.0 / np.where(known, variance, 1.0), 0.0)
    total = np.maximum(weight.sum(axis=0), 1e-300)
    return np.sum(weight * np.where(known, value, 0.0), axis=0) / total, np.where(known.any(axis=0), 1.0 / total, 0.0)


def swapped(runs: Sequence[xr.Dataset]) -> bool:
    """Return whether pulses said to be without pump vary with delay and fluence, significantly more than the others."""
    on, off = (variation(runs, condition) for condition in (ON, OFF))
    return off[0] - on[0] > SIGNIFICANT * np.sqrt(2 * (max(on[1], off[1]) + 2 * max(on[0], off[0])))


def variation(runs: Sequence[xr.Dataset], condition: int) -> tuple[float, int]:
    """Return χ² of the ratio of the sample beams against one value for all delays and fluences, and its degrees of freedom.

    Energy scans are compared with each other, energy by energy; in a delay scan delays are.

    Parameters
    ----------
    runs
        As for `find_period`.
    condition
        Which pulses are looked at.
    """
    chi2, dof = 0.0, 0
    scans = [r for r in runs if _scans_energy(r)]
    for members in (scans, *([r] for r in runs if not _scans_energy(r))):
        if not members:
            continue
        edges = _edges(np.concatenate([r["energy"].values for r in members])) if members is scans else None
        tables = []
        for run in members:
            cell, n_cells = _cells(run, condition, edges)
            tables.append(np.stack(_ratio(run, cell, n_cells)))
        value, variance = np.stack(tables, axis=1) if members is scans else np.stack(tables)[0][:, :, None]
        known = np.isfinite(value) & np.isfinite(variance)
        mean, _ = _mean(value, variance + FLOOR**2)
        chi2 += float(np.sum(np.where(known, (value - mean) ** 2 / (variance + FLOOR**2), 0.0)))
        dof += int(known.sum() - known.any(axis=0).sum())
    return chi2, dof


def _ratio(run: xr.Dataset, cell: np.ndarray, n_cells: int) -> tuple[np.ndarray, np.ndarray]:
    """Return −ln(S_pumped / S_unpumped) of each cell, and its variance, no less than pulses or trains scatter."""
    sums = accumulate(run, cell, n_cells)
    contrast = ratio("pumped", "unpumped")
    value, scatter, shot = log_contrast(sums, contrast)
    single = pulse_scatter(sums, contrast).fillna(0.0)
    trains = scatter.where(sums["n_trains"] > 3).fillna(0.0)
    return -value.values, np.maximum(np.maximum(shot.values, single.values), trains.values)


def _cells(run: xr.Dataset, condition: int | None, edges: np.ndarray | None = None) -> tuple[np.ndarray, int]:
    """Return the cell of energy or delay (train, pulse) of pulses of a condition that count, and the number of cells."""
    used = run["drop_reason"].transpose("train", "pulse").values == 0
    if condition is not None:
        used = used & (run["condition"].transpose("train", "pulse").values == condition)
    along = run["energy"].values if _scans_energy(run) else np.nan_to_num(run["nominal_delay"].values)
    edges = _edges(along) if edges is None else edges
    return np.where(used, assign(along, edges)[:, None], -1), len(edges) - 1


def _edges(values: np.ndarray) -> np.ndarray:
    known = values[np.isfinite(values)]
    if not len(known):
        return np.array([-1.0, 1.0])
    width = max(float(np.ptp(known)) / MAX_CELLS, 1e-6)
    return np.arange(known.min() - 0.5 * width, known.max() + width, width)


def _scans_energy(run: xr.Dataset) -> bool:
    energy = run["energy"].values[np.isfinite(run["energy"].values)]
    return len(energy) > 0 and float(np.ptp(energy)) > 2e-4 * float(np.median(energy))


def _place(run: xr.Dataset) -> np.ndarray:
    """Return the place (train, pulse) of a pulse among the X-ray pulses of its train, -1 where there is none."""
    lit = ~run["dark_frame"].transpose("train", "pulse").values.all(axis=0)
    return np.broadcast_to(np.where(lit, np.cumsum(lit) - 1, -1), (run.sizes["train"], run.sizes["pulse"]))
