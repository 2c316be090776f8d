"""c(E, t) to look at: what was measured without pump, and the model over energy and over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from pipeline.science.spectra.pump_off import PumpOff, hours
from schemas.datasets.measured import REFERENCE

__all__ = ["pump_off_curve"]

POINTS = 80
"""Points of a curve."""


def pump_off_curve(model: PumpOff, numbers: Sequence[int], scans: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return the group `/reference`: measured points, c(E) at the mean time of the scans, its drift at one energy.

    Parameters
    ----------
    model
        c(E, t); its points name runs by their place in a list.
    numbers
        Run numbers of that list.
    scans
        Runs with pump: energy (train) [eV] and train_id.
    """
    points = model.points
    at, when = points["energy"].values, points["hours"].values
    used = np.concatenate([at, *(run["energy"].values for run in scans)])
    times = [hours(run["train_id"].values) for run in scans]
    mean, start = float(np.mean(np.concatenate(times))), float(when.min())
    energy = np.linspace(np.nanmin(used), np.nanmax(used), POINTS)
    middle = _common_energy(at, points["run"].values)
    time = np.linspace(min(start, *(t[0] for t in times)), max(float(when.max()), *(t[-1] for t in times)), POINTS)
    value, noise, unknown = model.at(energy, np.full(POINTS, mean))
    there, noise_then, unknown_then = model.at(np.full(POINTS + 1, middle), np.append(time, mean))
    measured = {
        "measured": points["c"].values,
        "measured_stderr": points["c_stderr"].values,
        "measured_energy": at,
        "measured_hours": when - start,
        "measured_run": np.asarray(numbers, np.int64)[points["run"].values],
    }
    curve = {"c": value, "c_stderr": noise, "c_stderr_systematic": unknown}
    drift = {
        "drift": there[:-1] - there[-1],
        "drift_stderr": noise_then[:-1],
        "drift_stderr_systematic": unknown_then[:-1],
    }
    data = {
        name: (dim, one)
        for dim, group in (("point", measured), ("energy", curve), ("hours", drift))
        for name, one in group.items()
    }
    result = xr.Dataset(data, {"energy": energy, "hours": time - start}).assign(drift_energy=middle)
    return REFERENCE.describe(result)


def _common_energy(energy: np.ndarray, run: np.ndarray) -> float:
    """Return the energy [eV], to a tenth, that most runs have; of several the middle one."""
    pairs = np.unique(np.stack([np.round(energy, 1), run]), axis=1)
    values, count = np.unique(pairs[0], return_counts=True)
    most = values[count == count.max()]
    return float(most[len(most) // 2])
