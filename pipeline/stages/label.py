"""Pulse labels: delay, fluence, condition, drop reason and the roles of the beams.

This depends on a few numbers of the config only, so a better t0 costs seconds and reads no frames.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.job import Job
from pipeline.science.detector.pedestal import subtract_pump_light
from pipeline.science.labels.condition import OFF, ON
from pipeline.science.labels.join import joined, run_group
from pipeline.science.labels.monitors import monitor_notes, session_mean
from pipeline.science.labels.roles import assign_roles
from pipeline.science.labels.selection import only_condition, select_pulses
from pipeline.science.labels.timing import pulse_delay
from pipeline.stages.base import Context, Made, Stage
from pipeline.stages.find_time_zero import any_position, find_time_zero, form_of_time_zero
from pipeline.stages.label_conditions import conditions, judged
from pipeline.stages.reduce import REDUCE, pulses_of
from pipeline.stages.run_checks import run_notes
from schemas.config.runs import DelayScanRun
from schemas.datasets.measured import LABELS
from schemas.notes import Note

__all__ = ["LABEL", "labelled_runs", "roles_of"]

log = logging.getLogger("trxas")


def _make(context: Context, run: int | None, key: str) -> Made:
    job = context.job
    pulses = {number: pulses_of(job, number) for number in job.reduced_runs}
    axis, of_axis = _axis(job, pulses)
    if job.config.delay.t0 == "fit":
        # any zero will do to find the true one: it moves all delays alike
        early, _ = _labelled(job, pulses, axis)
        axis = axis | {"t0": find_time_zero(job, early, t0=axis["t0"])}
    labelled, notes = _labelled(job, pulses, axis)
    notes = [*of_axis, *notes, *run_notes(job, labelled)]
    return Made({run_group(n): _labels(one, axis["t0"]) for n, one in labelled.items()}, notes)


def _axis(job: Job, pulses: Mapping[int, xr.Dataset]) -> tuple[dict[str, Any], list[Note]]:
    """Return what makes the axis of delays, see `pulse_delay`, and which runs deviate; t0 is any where it is to be fitted."""
    options = job.config.delay
    scans = {number: run for number, run in pulses.items() if job.config.run_of(number) is not None}
    axis: dict[str, Any] = {"sign": options.sign, "t0": options.t0}
    if options.t0 == "fit":
        axis["t0"] = any_position([scans[scan.run] for scan in job.delay_scans])
    notes = []
    for name, reference, is_used in (
        ("arrival", options.arrival_reference, options.use_arrival),
        ("trigger", options.trigger_reference, True),
    ):
        axis[f"{name}_reference"] = session_mean(scans, name) if reference == "session" else reference
        notes += monitor_notes(scans, name) if is_used else []
    return axis, notes


def _labelled(
    job: Job, pulses: Mapping[int, xr.Dataset], axis: Mapping[str, Any]
) -> tuple[dict[int, xr.Dataset], list[Note]]:
    """Return all runs with their labels, and what a person must know about these."""
    timed = {number: _timed(job, number, one, axis) for number, one in pulses.items()}
    choices = conditions(job, timed)
    roles, notes = _roles(job, _selected(job, choices[0].of(timed), job.roles))
    condition, said = judged(job, choices, lambda c: _selected(job, c.of(timed), roles))
    return _selected(job, condition.of(timed), roles), [*notes, *said]


def _timed(job: Job, number: int, pulses: xr.Dataset, axis: Mapping[str, Any]) -> xr.Dataset:
    """Return a run's pulses with delay, nominal delay, fluence and energy as the config corrects or gives it."""
    pulses = pulses.assign_coords(energy=pulses["energy"] + job.config.energy.offset)
    scan = job.config.run_of(number)
    unknown = np.full(pulses["present"].shape, np.nan)
    delay, nominal = xr.DataArray(unknown, dims=("train", "pulse")), xr.DataArray(unknown[:, 0], dims="train")
    if scan is not None:
        given = None if isinstance(scan, DelayScanRun) else scan.delay

        def at(use_arrival: bool) -> xr.DataArray:
            return pulse_delay(pulses, nominal=given, use_arrival=use_arrival, **axis)

        try:
            delay, nominal = at(job.config.delay.use_arrival), at(False)[:, 0]
        except DataError as error:
            # its pulses get the drop reason `no_delay`; other runs are not affected
            log.warning("run %d: %s", number, error)
        if isinstance(scan, DelayScanRun) and scan.energy is not None:
            pulses = pulses.assign_coords(energy=("train", np.full(pulses.sizes["train"], scan.energy)))
    # no pump in flat fields and pump-off scans
    fluence = scan.fluence if scan is not None else 0.0
    return pulses.assign_coords(delay=delay.variable, nominal_delay=nominal.variable, fluence=fluence)


def _selected(job: Job, runs: Mapping[int, xr.Dataset], roles: Sequence[str]) -> dict[int, xr.Dataset]:
    """Return the runs with their beams named, and why each pulse is left out, which the reference beam decides with."""
    named = {n: run.assign_coords(beam=np.array(roles[: run.sizes["beam"]])) for n, run in runs.items()}
    return {n: run.assign(drop_reason=_drop_reason(job, run, n)) for n, run in named.items()}


def _drop_reason(job: Job, pulses: xr.Dataset, number: int) -> xr.DataArray:
    kind = job.config.kind_of(number)
    filters = job.config.filters
    return select_pulses(
        pulses,
        min_intensity=filters.min_intensity,
        max_saturated=filters.max_saturated,
        exclude_pulses=filters.exclude_pulses,
        need_delay=kind in ("energy_scan", "delay_scan"),
        need_energy=kind != "flat_field",
    )


def _roles(job: Job, runs: Mapping[int, xr.Dataset]) -> tuple[list[str], list[Note]]:
    """Return the roles of the beams from low to high x, and how they were found."""
    if job.roles_are_given:
        return job.roles, []
    flat = runs[job.flat_fields[0]] if job.flat_fields else None
    scans = [run for number, run in runs.items() if number not in job.flat_fields]
    # pulses without pump are one more state of the sample, at fluence 0
    parts = [only_condition(run, ON) for run in scans]
    parts += [only_condition(run, OFF).assign_coords(fluence=0.0) for run in scans if (run["condition"] == OFF).any()]
    return assign_roles(parts, flat, job.roles[: max(run.sizes["beam"] for run in runs.values())])


def _labels(run: xr.Dataset, t0: float) -> xr.Dataset:
    names = ["train_id", "energy", "delay", "nominal_delay", "fluence", "condition"]
    labels = run[["drop_reason"]].reset_coords(drop=True).assign_coords({name: run[name].variable for name in names})
    if "delay_stage" in run.variables:
        labels = labels.assign_coords(t0=((), t0, {"units": run["delay_stage"].attrs["units"]}))
    return labels.assign_coords(role=("beam", run["beam"].values))


def labelled_runs(job: Job) -> dict[int, xr.Dataset]:
    """Return the pulses of every run with all their labels, see `joined`."""
    labels = LABEL.result(job)
    return {n: _without_pump_light(joined(pulses_of(job, n), labels[run_group(n)])) for n in job.reduced_runs}


def _without_pump_light(run: xr.Dataset) -> xr.Dataset:
    return subtract_pump_light(run, run["condition"] == ON) if (run["condition"] == OFF).any() else run


def roles_of(job: Job) -> list[str]:
    """Return the roles of the beams from low to high x."""
    return max(([str(role) for role in one["role"].values] for one in LABEL.result(job).values()), key=len)


LABEL = Stage(
    name="labels",
    title="delays and fluences",
    make=_make,
    makes={"*": LABELS},
    store="labels.zarr",
    needs=(REDUCE,),
    options=("runs", "pump", "delay", "energy", "beams", "filters"),
    reads=form_of_time_zero,
)
