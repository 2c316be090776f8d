"""One delay per pulse.

Sign convention: a positive delay means that the pump comes first.

    delay = sign · (stage − t0) · 2/c − (trigger − its reference) + (arrival − its reference)

A longer path of the optical delay line seen by the pump makes it later; `sign` says which way the stage is mounted
(+1: larger reading, larger delay). A larger trigger delay makes the pump later, so the delay smaller. A larger arrival
time makes the X-ray pulse later, so the delay larger. Both count from a reference that all runs share, because their
absolute values mean nothing; see `monitors`.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.sums.binning import assign
from schemas.datasets.measured import PULSE_DELAY, PULSES

__all__ = ["PS_PER_MM", "delay_spread", "known_delay", "ps_per_unit", "pulse_delay"]

SPEED_OF_LIGHT_MM_PER_PS = 0.299792458
PS_PER_MM = 2.0 / SPEED_OF_LIGHT_MM_PER_PS
"""Delay per stage travel: the light goes there and back."""


def pulse_delay(
    labels: xr.Dataset,
    *,
    t0: float = 0.0,
    sign: int = 1,
    nominal: float | None = None,
    use_arrival: bool = True,
    trigger_reference: float = 0.0,
    arrival_reference: float = 0.0,
) -> xr.DataArray:
    """Return the pump-probe delay of every pulse.

    Parameters
    ----------
    labels
        delay_stage (train) in mm or ps, trigger (train) [ps], arrival (train, pulse) [ps]; NaN where not recorded.
    t0
        Stage reading at time zero, in the stage's unit.
    sign
        +1 where a larger reading means a larger delay.
    nominal
        Delay [ps] that replaces stage and trigger, for runs whose stage was not recorded.
    use_arrival
        Whether the arrival time is added. A run without any arrival data is used without; in a run with arrival
        data, a pulse that lacks it has no delay (NaN) and is counted as dropped.
    trigger_reference, arrival_reference
        Readings [ps] that count as zero.

    Returns
    -------
    DataArray (train, pulse) [ps], NaN where unknown.

    Raises
    ------
    DataError
        If there is neither a nominal delay nor any stage position, or the stage's unit is none of these.
    """
    if nominal is not None:
        base = np.full(labels.sizes["train"], float(nominal))
    else:
        stage = labels["delay_stage"].values.astype(np.float64)
        if np.isnan(stage).all():
            raise DataError("the delay stage was not recorded; set sources.delay_stage or the run's `delay:`")
        base = sign * (stage - t0) * ps_per_unit(labels["delay_stage"])
        trigger = labels["trigger"].values if "trigger" in labels else np.full(len(base), np.nan)
        if not np.isnan(trigger).all():
            base = base - (trigger - trigger_reference)
    delay = np.broadcast_to(base[:, None], (labels.sizes["train"], labels.sizes["pulse"])).copy()
    if use_arrival and "arrival" in labels and not np.isnan(labels["arrival"].values).all():
        delay += labels["arrival"].transpose("train", "pulse").values - arrival_reference
    return xr.DataArray(delay, dims=PULSE_DELAY.dims, attrs=PULSE_DELAY.attrs)


def ps_per_unit(stage: xr.DataArray) -> float:
    """Return the delay [ps] that one unit of the stage's reading makes.

    Parameters
    ----------
    stage
        A position of the stage, any dims, in mm or ps as its attribute `units` says.

    Raises
    ------
    DataError
        If the unit is none of these.
    """
    units = stage.attrs.get("units")
    known = PULSES["delay_stage"].known_units
    if units not in known:
        raise DataError(
            f"delay_stage: units {units!r} found, {' or '.join(known)} expected; set sources.delay_stage.unit"
        )
    return PS_PER_MM if units == "mm" else 1.0


def known_delay(pulses: xr.Dataset) -> np.ndarray:
    """Return the delay of every pulse (train, pulse) [ps] with its arrival time, used or not, where that was recorded.

    An arrival time that the delay leaves out counts from the run's mean.
    """
    delay: np.ndarray = pulses["delay"].transpose("train", "pulse").values
    if "arrival" not in pulses:
        return delay
    nominal = np.broadcast_to(pulses["nominal_delay"].values[:, None], delay.shape)
    there = np.isfinite(delay)
    if not (delay[there] == nominal[there]).all():
        return delay
    arrival = pulses["arrival"].transpose("train", "pulse").values
    mean = arrival[np.isfinite(arrival)].mean() if np.isfinite(arrival).any() else 0.0
    return np.asarray(delay + np.nan_to_num(arrival - mean))


def delay_spread(pulses: xr.Dataset, edges: np.ndarray) -> float:
    """Return the rms of the delays [ps] of a run's pulses about the mean of their delay bin: what blurs a step in time.

    Parameters
    ----------
    pulses
        delay (train, pulse) and nominal_delay (train) [ps], `drop_reason` (train, pulse; 0 = used). Where the delay leaves a
        recorded `arrival` (train, pulse) [ps] out, that is added here: it blurs all the same.
    edges
        Edges of the delay bins [ps].
    """
    delay = pulses["delay"].transpose("train", "pulse").values
    index = np.where(pulses["drop_reason"].transpose("train", "pulse").values == 0, assign(delay, edges), -1)
    used = index >= 0
    if not used.any():
        return float("nan")
    true = known_delay(pulses)[used]
    group = index[used]
    mean = np.bincount(group, true) / np.maximum(np.bincount(group), 1)
    return float(np.sqrt(np.mean((true - mean[group]) ** 2)))
