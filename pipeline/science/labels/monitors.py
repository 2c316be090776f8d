"""What the monitors of timing count from: the session's mean, and which runs deviate from it.

The absolute value of an arrival monitor or of a trigger delay means nothing: it holds cables and electronics. What counts
is the deviation from a reference that all runs of a session share; then a run without the monitor, whose deviation counts
as nothing, lands on the same axis as the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from schemas.catalogue import note
from schemas.notes import Note

__all__ = ["monitor_notes", "session_mean"]

CLIP = 5.0
"""Readings so many σ from the median are left out of the mean."""
STEP = 0.02
"""Smallest deviation [ps] of a run's mean that is told, however quiet the monitor."""


def session_mean(runs: Mapping[int, xr.Dataset], name: str) -> float:
    """Return the mean reading [ps] of a monitor over all pulses of all runs; 0 where no run has it.

    Readings more than five σ from the median are left out, σ being 1.48 times the median distance from it: neither stray
    readings nor a run whose monitor has jumped moves the axis of the others.

    Parameters
    ----------
    runs
        Pulses of the scans by number: `name` (train) or (train, pulse) [ps], NaN or absent where it was not recorded;
        present and dark_frame (train, pulse).
    name
        arrival or trigger.

    References
    ----------
    Huber, Robust Statistics (Wiley, 1981), for the median distance as a scale.
    """
    parts = [_readings(run, name) for run in runs.values()]
    readings = np.concatenate(parts) if parts else np.empty(0)
    return _clipped_mean(readings) if len(readings) else 0.0


def monitor_notes(runs: Mapping[int, xr.Dataset], name: str) -> list[Note]:
    """Name the runs that lack a monitor that others have, and those whose mean is further off than its jitter allows.

    A run deviates where its mean is more than three times the jitter (of a pulse about the mean of its run, the median
    over the runs) from the session's, and more than 20 fs. Parameters are those of `session_mean`.
    """
    readings = {number: _readings(run, name) for number, run in runs.items()}
    there = {number: values for number, values in readings.items() if len(values)}
    if not there:
        return []
    common = session_mean(runs, name)
    means = {number: _clipped_mean(values) for number, values in there.items()}
    jitter = float(np.median([_scale(values) for values in there.values()]))
    notes = [note("delay.monitor_missing", run=n, monitor=name) for n in readings if n not in there]
    for number, mean in means.items():
        if abs(mean - common) > max(3 * jitter, STEP):
            about: dict[str, Any] = {"monitor": name, "apart_fs": 1e3 * (mean - common), "jitter_fs": 1e3 * jitter}
            notes.append(note("delay.monitor_differs", run=number, **about))
    return notes


def _readings(run: xr.Dataset, name: str) -> np.ndarray:
    """Return what a monitor read in frames that hold an X-ray pulse, one after the other."""
    if name not in run:
        return np.empty(0)
    lit = run["present"] & ~run["dark_frame"]
    values = run[name].broadcast_like(lit).where(lit).values
    return np.asarray(values[np.isfinite(values)], np.float64)


def _scale(values: np.ndarray) -> float:
    return float(1.4826 * np.median(np.abs(values - np.median(values))))


def _clipped_mean(values: np.ndarray) -> float:
    apart = np.abs(values - np.median(values))
    return float(values[apart <= CLIP * _scale(values)].mean())
