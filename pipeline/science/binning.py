"""Bins of photon energy and delay: given by the user, or found in the data.

A scan that steps has groups of equal readings with empty space between them; a sweep does not. Groups become one bin
each, a sweep is cut into bins of equal width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import DataError

__all__ = ["assign", "centred_edges", "energy_edges", "grid_edges", "step_centres", "step_edges", "sweep_edges"]


def step_centres(values: np.ndarray, *, resolution: float = 0.0) -> np.ndarray | None:
    """Return the centres of the steps of a scan, or None if it sweeps.

    Parameters
    ----------
    values
        Readings in the order in which they were taken; NaN is ignored.
    resolution
        Readings closer than this belong together in any case.

    Notes
    -----
    The sorted readings are cut where the gap is larger than `resolution` and at least five times the gaps inside a
    step; the cut is believed when most neighbours in time stay in their step, or when many readings come back to the
    same few places (a scan that is repeated quickly).
    """
    taken = np.asarray(values, np.float64)
    taken = taken[np.isfinite(taken)]
    if len(taken) == 0:
        return None
    order = np.sort(taken)
    gaps = np.diff(order)
    span = order[-1] - order[0]
    if span <= resolution or len(taken) < 3:
        return np.array([np.median(order)]) if span <= resolution else _few(order, resolution)
    floor = max(resolution, span * 1e-9)
    cut = _largest_jump(gaps, floor)
    if cut is None:
        return None
    label = np.concatenate([[0], np.cumsum(gaps > cut)])
    centres = np.array([order[label == k].mean() for k in range(label[-1] + 1)])
    step_of = np.searchsorted(0.5 * (centres[1:] + centres[:-1]), taken)
    stays = np.mean(step_of[1:] == step_of[:-1])
    crowded = np.median(np.bincount(step_of)) >= 8
    return centres if stays >= 0.4 or crowded else None


def _few(order: np.ndarray, resolution: float) -> np.ndarray:
    keep = np.concatenate([[True], np.diff(order) > resolution])
    return order[keep]


def _largest_jump(gaps: np.ndarray, floor: float) -> float | None:
    """Return a threshold between the gaps inside steps and those between them, or None where they are one kind."""
    ranked = np.sort(np.maximum(gaps, floor * 1e-3))
    ratio = ranked[1:] / ranked[:-1]
    # the cut must lie above the resolution
    ratio[ranked[1:] <= floor] = 0.0
    if not len(ratio) or ratio.max() < 5.0:
        return None
    k = int(np.argmax(ratio))
    return float(max(np.sqrt(ranked[k] * ranked[k + 1]), floor))


def centred_edges(centres: np.ndarray, *, outer: float) -> np.ndarray:
    """Return edges half-way between centres; the outermost bins reach `outer` beyond their centres."""
    middle = 0.5 * (centres[1:] + centres[:-1])
    return np.concatenate([[centres[0] - outer], middle, [centres[-1] + outer]])


def grid_edges(start: float, stop: float, step: float) -> np.ndarray:
    """Return the edges of bins centred on start, start + step, …, stop."""
    n = int(np.floor((stop - start) / step + 1e-6)) + 1
    return start + step * (np.arange(n + 1) - 0.5)


def step_edges(centres: np.ndarray) -> np.ndarray:
    """Return edges half-way between steps; the outer bins are as wide as their neighbours."""
    if len(centres) == 1:
        return np.array([-np.inf, np.inf])
    return centred_edges(centres, outer=float(np.diff(centres).max()))


def sweep_edges(values: np.ndarray, *, width: float) -> np.ndarray:
    """Return edges of equal bins, one of them centred on a multiple of the width, that cover all finite values."""
    finite = values[np.isfinite(values)]
    first = np.floor(finite.min() / width + 0.5)
    last = np.floor(finite.max() / width + 0.5)
    return width * (np.arange(first, last + 2) - 0.5)


def energy_edges(scans: Sequence[np.ndarray]) -> np.ndarray:
    """Return common edges for the energies of several scans.

    Parameters
    ----------
    scans
        Energies [eV] of each run's trains in time order.

    Notes
    -----
    Steps of all scans that agree within a tenth of the smallest step are one bin. Where any scan sweeps, all are cut
    into bins of the monochromator's typical resolution (2·10⁻⁴ of the energy), or wider where a bin would hold fewer
    than eight trains.

    Raises
    ------
    DataError
        If no scan has any energy.
    """
    finite = [s[np.isfinite(s)] for s in scans]
    finite = [s for s in finite if len(s)]
    if not finite:
        raise DataError("no train of the energy scans has a photon energy; set sources.energy")
    everything = np.concatenate(finite)
    resolution = 2e-6 * float(np.median(everything))
    steps = [step_centres(s, resolution=resolution) for s in finite]
    if all(s is not None for s in steps):
        centres = step_centres_of_all([s for s in steps if s is not None])
        return step_edges(centres)
    span = float(np.ptp(everything))
    shortest = min(len(s) for s in finite)
    width = _round_up(max(1.0001 * span * 8 / shortest, 2e-4 * float(np.median(everything))))
    return sweep_edges(everything, width=width)


def step_centres_of_all(steps: Sequence[np.ndarray]) -> np.ndarray:
    """Return the union of the step positions of several scans, those that agree counted once."""
    centres = np.sort(np.concatenate(steps))
    smallest = min((float(np.diff(s).min()) for s in steps if len(s) > 1), default=0.0)
    split = np.flatnonzero(np.diff(centres) > max(0.1 * smallest, 1e-9 * abs(centres).max()))
    return np.array([part.mean() for part in np.split(centres, split + 1)])


def _round_up(value: float) -> float:
    """Return the next of 1, 2, 5 · 10ⁿ."""
    power = 10.0 ** np.floor(np.log10(value))
    return float(next(m * power for m in (1.0, 2.0, 5.0, 10.0) if m * power >= value * (1 - 1e-9)))


def assign(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the bin of each value, -1 outside all bins (and for NaN); the last edge belongs to the last bin."""
    index = np.searchsorted(edges, values, side="right") - 1
    n = len(edges) - 1
    index = np.where(values == edges[-1], n - 1, index)
    return np.where(np.isfinite(values) & (index >= 0) & (index < n), index, -1)
