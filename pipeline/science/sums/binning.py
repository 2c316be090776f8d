"""Bins of photon energy and delay: given by the user, or found in the data.

A scan that steps has groups of equal readings with empty space between them; a sweep does not. Groups become one bin
each, a sweep is cut into bins of equal width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.errors import DataError

__all__ = [
    "assign",
    "centred_edges",
    "energy_edges",
    "grid_edges",
    "snap_to_steps",
    "step_centres",
    "step_centres_of_all",
    "step_edges",
    "sweep_edges",
]


MAX_SINGLE_STEPS = 200
"""A scan with one train per step keeps its steps, up to so many."""


SNAP = 0.06
"""Part of the steps' spacing within which a reading may scatter."""


ROUND = 0.1
"""Part of the steps' spacing to which the first of regular steps is rounded."""


MIN_SHARED = 4
"""So many steps of another scan must be among a scan's places before these count as steps: chance does not do that."""


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
    A scan that dwells shows its noise between neighbours in time: the lower quartile of their distances is noise as
    long as a step lasts two trains or more. The sorted readings are cut where the gap is far above that noise. A scan
    that is repeated quickly, or in random order, never dwells; its steps show as gaps that are far larger than all
    others, between places that were visited three times or more.
    """
    taken = np.asarray(values, np.float64)
    taken = taken[np.isfinite(taken)]
    if len(taken) == 0:
        return None
    order = np.sort(taken)
    if order[-1] - order[0] <= resolution or len(order) < 3:
        return _cut(order, resolution)
    noise = np.quantile(np.abs(np.diff(taken)), 0.25) / (0.3186 * np.sqrt(2))
    dwelling = _cut(order, max(6 * noise, resolution))
    # a scan in random order looks like one noisy step, if only neighbours in time are looked at
    believable = len(dwelling) > 1 or order[-1] - order[0] <= 50 * resolution
    if believable and _stays(taken, dwelling) >= 0.4 and not _wanders(taken, dwelling):
        return dwelling
    return _revisited(taken, visits=3, resolution=resolution)


def _revisited(taken: np.ndarray, *, visits: int, resolution: float) -> np.ndarray | None:
    """Return the places to which readings come back, or None where they lie everywhere."""
    order = np.sort(taken)
    gaps = np.sort(np.maximum(np.diff(order), 1e-3 * resolution + 1e-12))
    ratio = np.where(gaps[1:] > resolution, gaps[1:] / gaps[:-1], 0.0)
    k = int(np.argmax(ratio)) if len(ratio) else 0
    if not len(ratio) or ratio[k] < 5.0:
        return None
    places = _cut(order, max(np.sqrt(gaps[k] * gaps[k + 1]), resolution))
    return places if np.median(np.bincount(_nearest(taken, places))) >= visits else None


def _cut(order: np.ndarray, threshold: float) -> np.ndarray:
    return np.array([part.mean() for part in np.split(order, np.flatnonzero(np.diff(order) > threshold) + 1)])


def _nearest(values: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return np.searchsorted(0.5 * (centres[1:] + centres[:-1]), values)


def _stays(taken: np.ndarray, centres: np.ndarray) -> float:
    step = _nearest(taken, centres)
    return float(np.mean(step[1:] == step[:-1]))


def _wanders(taken: np.ndarray, centres: np.ndarray) -> bool:
    """Return whether readings move through their "steps" from end to end, as a slow sweep does.

    Neighbours in time are then much closer than readings of a step at large (von Neumann's ratio, 1 for noise).
    """
    step = _nearest(taken, centres)
    inside = step[1:] == step[:-1]
    moves = np.diff(taken)[inside]
    scatter = taken - centres[step]
    return bool(np.mean(moves**2) < 0.5 * 2 * np.mean(scatter**2)) if inside.any() else False


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
    Steps of all scans that agree within a third of the smallest step are one bin; sweeps are put on the same grid. A scan
    that takes a train per step beside scans that dwell keeps its own, finer steps where the others' are among them: a slow
    sweep looks the same but for that. Where all scans sweep, they are cut into bins of the monochromator's typical resolution (2·10⁻⁴ of the energy), or wider
    where a bin would hold fewer than three trains.

    Regular steps stand where they were planned, in round numbers, and not at the mean of their readings: a train more or less
    in one scan would move that, and with it the trains of all sweeps that lie at an edge.

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
    # scans that plainly step first; then those that take a train per step, or come to the same places
    plain = [step_centres(s, resolution=resolution) for s in finite]
    grids = [g for g in plain if g is not None and len(g) > 1]
    sparse = [
        g
        for s, own in zip(finite, plain, strict=True)
        if own is None and (g := _sparse_steps(s, resolution=resolution)) is not None
    ]
    if grids:
        known = step_centres_of_all(grids, resolution=resolution)
        grids += [g for g in sparse if _refines(g, known)]
    # sweeps are put on the grid of the scans that step
    if grids or sparse:
        return step_edges(_as_planned(step_centres_of_all(grids or sparse, resolution=resolution)))
    if len(finite) > 1 and (shared := _revisited(everything, visits=2, resolution=resolution)) is not None:
        return step_edges(_as_planned(shared))
    span = float(np.ptp(everything))
    if span <= 50 * resolution:
        return step_edges(np.array([np.median(everything)]))
    # trains of all scans are spread over the bins: as fine as the monochromator, or three trains each
    most = max(len(s) for s in finite)
    # 0.7: to the nearest of 1, 2, 5 rather than up
    width = _round_up(max(1.0001 * span * 3 / most, 0.7 * 2e-4 * float(np.median(everything))))
    return sweep_edges(everything, width=width)


def _as_planned(centres: np.ndarray) -> np.ndarray:
    """Return steps on the grid of round numbers that they were planned on, or as they are where there is none.

    Some places of the grid may be missing. The spacing has as few digits, and the grid begins at as round a number, as the
    steps allow: what a single reading adds to their mean does not reach so far.
    """
    if len(centres) < 3:
        return centres
    gaps = np.diff(centres)
    spacing = float(np.median(gaps[gaps < 1.3 * gaps.min()]))
    index = np.round((centres - centres[0]) / spacing)
    spacing = float(np.polyfit(index, centres, 1)[0])
    for digits in (1, 2, 3, 4):
        step = float(f"{spacing:.{digits - 1}e}")
        part = ROUND * step
        first = part * np.round(np.mean(centres - index * step) / part)
        grid = first + index * step
        if np.abs(grid - centres).max() < (SNAP + ROUND / 2) * step:
            return grid
    return centres


def snap_to_steps(scans: Sequence[np.ndarray], *, resolution: float) -> list[np.ndarray]:
    """Return the readings of scans that step replaced by their steps; sweeps as they are.

    At a step the readings scatter by the noise of the encoder while the quantity stands still; steps of several scans
    that agree are one. A scan any of whose readings lies further off than `SNAP` of the spacing is left alone: it may be
    a sweep.
    """
    finite = [scan[np.isfinite(scan)] for scan in scans]
    grids = [_plain_steps(scan, resolution) for scan in finite]
    known = [g for g in grids if g is not None]
    if not known:
        return list(scans)
    common = step_centres_of_all(known, resolution=resolution)
    spacing = float(np.diff(common).min()) if len(common) > 1 else np.inf
    result = []
    for scan, taken, grid in zip(scans, finite, grids, strict=True):
        near = common[_nearest(taken, common)] if len(taken) else taken
        if grid is None or np.abs(taken - near).max(initial=0.0) > SNAP * spacing:
            result.append(scan)
        else:
            result.append(np.where(np.isfinite(scan), common[_nearest(scan, common)], np.nan))
    return result


def _plain_steps(scan: np.ndarray, resolution: float) -> np.ndarray | None:
    steps = step_centres(scan, resolution=resolution) if len(scan) else None
    if steps is None and 2 < len(scan) <= MAX_SINGLE_STEPS and _is_regular(scan):
        steps = np.sort(scan)
    return steps


def _sparse_steps(scan: np.ndarray, *, resolution: float) -> np.ndarray | None:
    """Return the places of a scan that takes a train or two per step; None for a sweep, or for steps too fine to matter."""
    places = np.sort(scan) if _is_regular(scan) else _revisited(scan, visits=2, resolution=resolution)
    if places is None or not 1 < len(places) <= MAX_SINGLE_STEPS:
        return None
    return places if np.median(np.diff(places)) > 20 * resolution else None


def _refines(places: np.ndarray, steps: np.ndarray) -> bool:
    """Return whether steps are among the places of a scan: those of a sweep would lie anywhere between."""
    spacing = float(np.median(np.diff(places)))
    inside = steps[(steps > places[0] - 0.5 * spacing) & (steps < places[-1] + 0.5 * spacing)]
    distance = inside - places[_nearest(inside, places)]
    return len(inside) >= MIN_SHARED and bool(np.sqrt(np.mean(distance**2)) < SNAP * spacing)


def _is_regular(values: np.ndarray) -> bool:
    """Return whether values lie on a regular grid, of which some places may be missing."""
    steps = np.diff(np.sort(values))
    ratio = steps / np.median(steps) if len(steps) > 1 and np.median(steps) > 0 else np.zeros(1)
    return bool((np.round(ratio) >= 1).all() and (np.abs(ratio - np.round(ratio)) < 0.3).all())


def step_centres_of_all(steps: Sequence[np.ndarray], *, resolution: float = 0.0) -> np.ndarray:
    """Return the union of the step positions of several scans, those that agree counted once."""
    centres = np.sort(np.concatenate(steps))
    smallest = min((float(np.diff(s).min()) for s in steps if len(s) > 1), default=0.0)
    split = np.flatnonzero(np.diff(centres) > max(0.3 * smallest, resolution))
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
