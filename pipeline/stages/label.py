"""What a pulse is: its delay and fluence, whether it counts."""

from __future__ import annotations

import logging

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.job import Job
from pipeline.science.labels.selection import select_pulses
from pipeline.science.labels.timing import pulse_delay
from pipeline.storage import store
from schemas.config.runs import DelayScanRun

log = logging.getLogger("trxas")

__all__ = ["fluence_of", "labelled", "select"]


def fluence_of(job: Job, number: int) -> float:
    """Return the pump fluence of a run [mJ/cm²]; 0 for the flat field, whose pump is off."""
    scan = job.config.run_of(number)
    return scan.fluence if scan is not None else 0.0


def labelled(job: Job, number: int) -> xr.Dataset:
    """Return a run's pulses with delay, fluence and the reason why a pulse does not count."""
    pulses = store.open_dataset(job.run_dir(number) / "pulses.zarr").load()
    scan = job.config.run_of(number)
    options = job.config.delay
    if scan is not None:
        nominal = None if isinstance(scan, DelayScanRun) else scan.delay

        def at(use_arrival: bool) -> xr.DataArray:
            return pulse_delay(pulses, t0=options.t0, sign=options.sign, nominal=nominal, use_arrival=use_arrival)

        try:
            delay, base = at(options.use_arrival), at(False)[:, 0]
        except DataError as error:
            # its pulses are counted as `no_delay`; the other runs go on
            log.warning("run %d: %s", number, error)
            delay = xr.DataArray(np.full(pulses["present"].shape, np.nan), dims=("train", "pulse"))
            base = delay[:, 0]
        pulses = pulses.assign_coords(delay=delay, nominal_delay=base.variable)
        if isinstance(scan, DelayScanRun) and scan.energy is not None:
            pulses = pulses.assign_coords(energy=("train", np.full(pulses.sizes["train"], scan.energy)))
    pulses = pulses.assign_coords(fluence=fluence_of(job, number))
    return pulses.assign(drop_reason=select(job, pulses, number))


def select(job: Job, pulses: xr.Dataset, number: int) -> xr.DataArray:
    """Return why each pulse of a run is left out, see `select_pulses`."""
    science = job.config.run_of(number) is not None
    filters = job.config.filters
    return select_pulses(
        pulses,
        min_intensity=filters.min_intensity,
        max_saturated=filters.max_saturated,
        exclude_pulses=filters.exclude_pulses,
        need_delay=science,
        need_energy=science,
    )
