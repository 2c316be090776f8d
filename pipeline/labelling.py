"""What a pulse is: its delay and fluence, whether it counts, and the bookkeeping of those that do not."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.io import manifest, store
from pipeline.job import Job
from pipeline.science.agreement import FIGURES, compare_runs
from pipeline.science.quality import run_quality
from pipeline.science.selection import count_reasons, select_pulses
from pipeline.science.spectra import quality_cells
from pipeline.science.timing import pulse_delay
from schemas.config import DelayScanRun
from schemas.datasets import QUALITY

__all__ = ["fluence_of", "labelled", "quality_of", "select"]


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
            raise DataError(f"run {number}: {error}") from None
        pulses = pulses.assign_coords(delay=delay, nominal_delay=base.variable)
        if isinstance(scan, DelayScanRun) and scan.energy is not None:
            pulses = pulses.assign_coords(energy=("train", np.full(pulses.sizes["train"], scan.energy)))
    pulses = pulses.assign_coords(fluence=fluence_of(job, number))
    return pulses.assign(code=select(job, pulses, number))


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


def quality_of(job: Job, runs: dict[int, xr.Dataset], energy_bins: Any, delay_bins: Any) -> xr.Dataset:
    """Return the group `/quality`: per run, what became of its frames and pulses, and how good they are."""
    rows = []
    agreement = compare_runs(
        {s.run: runs[s.run] for s in job.energy_scans},
        {s.run: runs[s.run] for s in job.delay_scans},
        energy_bins=energy_bins,
        delay_bins=delay_bins,
    )
    for number, run in runs.items():
        science = job.config.run_of(number)
        kind = (
            "flat_field" if science is None else ("delay_scan" if isinstance(science, DelayScanRun) else "energy_scan")
        )
        cell = quality_cells(run, kind=kind, energy_bins=energy_bins, delay_bins=delay_bins)
        reasons = count_reasons(np.where((run["code"].values == 0) & (cell < 0), 9, run["code"].values))
        counts = manifest.read(job.run_dir(number)).get("inventory", {}).get("counts", {})
        blank = manifest.read(job.run_dir(number)).get("pulses", {}).get("n_blank", 0)
        row = {
            "frames_expected": (run.sizes["train"] + counts.get("missing", 0)) * run.sizes["pulse"],
            "frames_read": int(run["present"].sum()),
            "frames_blank": blank,
            "pulses_used": reasons.pop("used"),
            "trains_missing": counts.get("missing", 0),
            "trains_partial": counts.get("partial", 0),
            "trains_suspect": counts.get("suspect", 0),
            **{
                f"trains_{why}": counts.get(why, 0)
                for why in ("truncated", "misindexed", "duplicate", "duplicate_pulse")
            },
            "sequences_missing": counts.get("missing_sequences", 0),
            **{f"dropped_{reason}": n for reason, n in reasons.items()},
            **run_quality(run, cell, along="delay" if kind == "delay_scan" else "energy"),
            **agreement.get(number, dict.fromkeys(FIGURES, np.nan)),
        }
        rows.append(row)
    data = {name: ("run", np.array([row[name] for row in rows])) for name in rows[0]}
    return QUALITY.describe(xr.Dataset(data, coords={"run": np.array(list(runs), np.int64)}))
