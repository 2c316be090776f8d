"""The stages of `pipeline.workflow` as Prefect tasks: one line each.

Whether there is anything to do is decided by the stage itself (same inputs, options, code), so Prefect's own cache is
off: its keys know nothing of files on disk.
"""

from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from flows.progress import tell
from pipeline import workflow
from pipeline.job import Job

__all__ = [
    "task_bin_spectra",
    "task_calibrate",
    "task_fit",
    "task_inventory",
    "task_label",
    "task_publish",
    "task_reduce_run",
]

_OPTIONS: dict[str, Any] = {"cache_policy": NO_CACHE, "persist_result": False}


@task(name="inventory", task_run_name="inventory-r{run:04d}", **_OPTIONS)
def task_inventory(job: Job, run: int) -> str:
    """Audit a run and hash its files."""
    return workflow.inventory(job, run)


@task(name="calibrate", **_OPTIONS)
def task_calibrate(job: Job, inputs: dict[int, str]) -> str:
    """Make the calibration."""
    return workflow.calibrate(job, inputs, progress=tell)


@task(name="reduce", task_run_name="reduce-r{run:04d}", **_OPTIONS)
def task_reduce_run(job: Job, run: int, inputs: str) -> bool:
    """Reduce a run to frames cube and pulses."""
    return workflow.reduce_run(job, run, inputs, progress=tell)


task_label = task(name="label", **_OPTIONS)(workflow.label)
task_bin_spectra = task(name="spectra", **_OPTIONS)(workflow.bin_spectra)
task_fit = task(name="fits", **_OPTIONS)(workflow.fit)
task_publish = task(name="publish", **_OPTIONS)(workflow.publish_product)
