"""Which pulses the pump reached: their condition, from a pattern or from the laser's bits of the bunch pattern.

The laser's slots of the bunch pattern start at 0 wherever the laser really is; X-ray slots start elsewhere. An offset
moves the laser's pattern onto the X-ray pulses.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from schemas.datasets.measured import CONDITION, CONDITIONS

__all__ = [
    "OFF",
    "ON",
    "UNKNOWN",
    "condition_by_laser",
    "condition_by_pulse",
    "condition_by_train",
    "laser_offsets",
    "one_condition",
]

ON, OFF = (CONDITIONS.index(name) for name in ("on", "off"))
UNKNOWN = len(CONDITIONS)
"""The laser's pattern was not recorded, or the X-ray pulse has no slot."""


def one_condition(run: xr.Dataset, condition: int) -> xr.DataArray:
    """Return the same condition for all pulses of a run (train, pulse)."""
    return _condition(np.full((run.sizes["train"], run.sizes["pulse"]), condition == ON))


def condition_by_pulse(run: xr.Dataset, pattern: Sequence[int]) -> xr.DataArray:
    """Return conditions (train, pulse) by a pattern over the X-ray pulses of a train; 1: pump on; it repeats.

    Frames that are without X-rays in every train (`dark_frame`) are not counted.
    """
    place: np.ndarray = np.maximum(np.cumsum(_lit(run)) - 1, 0)
    pumped: np.ndarray = np.asarray(pattern, bool)[place % len(pattern)]
    return _condition(np.broadcast_to(pumped, (run.sizes["train"], run.sizes["pulse"])))


def condition_by_train(run: xr.Dataset, pattern: Sequence[int], *, from_first: bool = False) -> xr.DataArray:
    """Return conditions (train, pulse) by a pattern over train ids, or counted from the first train of the run."""
    place = run["train_id"].values.astype(np.int64)
    start = place.min() if from_first else 0
    pumped: np.ndarray = np.asarray(pattern, bool)[(place - start) % len(pattern)]
    return _condition(np.broadcast_to(pumped[:, None], (run.sizes["train"], run.sizes["pulse"])))


def condition_by_laser(run: xr.Dataset, offset: int) -> xr.DataArray:
    """Return conditions (train, pulse) by the laser's slots of the bunch pattern, moved by an offset [slots].

    A slot in which the laser did not fire is a pulse without pump, whether planned or missed. Of a train whose pattern
    was not recorded, and of an X-ray pulse without slot, the condition is unknown.

    Parameters
    ----------
    run
        laser (train, slot) bool, laser_known (train) bool: the pattern was recorded; pulse_slot (pulse): slot of the
        frame's X-ray pulse, negative where it has none.
    offset
        Slot of an X-ray pulse less that of the laser pulse which reaches the sample with it.
    """
    laser: np.ndarray = run["laser"].transpose("train", "slot").values
    at: np.ndarray = run["pulse_slot"].values.astype(np.int64) - offset
    inside = (at >= 0) & (at < laser.shape[1])
    fires = laser[:, np.clip(at, 0, laser.shape[1] - 1)]
    unknown = ~run["laser_known"].values[:, None] | (at + offset < 0)[None, :]
    return _condition(np.where(inside, fires, False), unknown)


def laser_offsets(run: xr.Dataset) -> list[int]:
    """Return the offsets [slots] that put the laser on X-ray pulses, the likeliest first; none: it never fires.

    First: slot 0 of the laser's pattern is the first X-ray pulse. Then: both patterns count the same slots. Then: the
    laser's first pulse is the first, second, … X-ray pulse.
    """
    fires = np.flatnonzero(run["laser"].values.any(axis=run["laser"].dims.index("train")))
    slots = np.unique(run["pulse_slot"].values.astype(np.int64)[_lit(run)])
    slots = slots[slots >= 0]
    if not len(fires) or not len(slots):
        return []
    found: dict[int, None] = {}
    for offset in (slots[0], 0, *(slots - fires[0])):
        hit = np.isin(fires + offset, slots).sum()
        if hit >= 0.5 * min(len(fires), len(slots)):
            found[int(offset)] = None
    return list(found)


def _lit(run: xr.Dataset) -> np.ndarray:
    dark: np.ndarray = run["dark_frame"].transpose("train", "pulse").values
    lit: np.ndarray = np.logical_not(dark.all(axis=0))
    return lit


def _condition(pumped: np.ndarray, unknown: np.ndarray | None = None) -> xr.DataArray:
    names = [*CONDITIONS, "unknown"]
    flags = {"flag_values": list(range(len(names))), "flag_meanings": " ".join(names)}
    code = np.where(pumped, ON, OFF).astype(np.uint8)
    if unknown is not None:
        code = np.where(unknown, UNKNOWN, code).astype(np.uint8)
    return xr.DataArray(code, dims=CONDITION.dims, attrs=CONDITION.attrs | flags)
