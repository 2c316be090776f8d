"""The flow: raw runs → published product, a task per run and per stage."""

from __future__ import annotations

import logging
from pathlib import Path

from prefect import flow

from flows import tasks
from pipeline.errors import DataError
from pipeline.job import Job, load_job
from pipeline.workflow import restart_from

__all__ = ["process"]

log = logging.getLogger("trxas")


@flow(name="trxas-process", flow_run_name="process-{config}", persist_result=False, validate_parameters=True)
def process(config: str, out: str | None = None, changes: list[str] | None = None, restart: str | None = None) -> str:
    """Process a dataset; returns the folder of the published version.

    A run that cannot be used is reported and left out; the others give their result all the same.

    Parameters
    ----------
    config
        Path of the config file.
    out
        Output folder; beside the config unless given.
    changes
        `key=value` changes of the config.
    restart
        Stage from which everything runs again even if it is current.
    """
    job = load_job(Path(config), out, changes or [])
    if restart is not None:
        restart_from(job, restart)
    job, inputs = _take_stock(job)
    tasks.task_calibrate(job, inputs)
    job = _reduce(job, inputs)
    tasks.task_label(job)
    tasks.task_bin_spectra(job)
    tasks.task_fit(job)
    return str(tasks.task_publish(job))


def _take_stock(job: Job) -> tuple[Job, dict[int, str]]:
    started = {run: tasks.task_inventory.submit(job, run) for run in job.all_runs}
    inputs: dict[int, str] = {}
    for run, future in started.items():
        try:
            inputs[run] = future.result()
        except DataError as error:
            job = _leave_out(job, run, error)
    return job, inputs


def _reduce(job: Job, inputs: dict[int, str]) -> Job:
    # runs one after the other: every run keeps all workers busy, and memory is that of one run
    for run in job.reduced_runs:
        try:
            tasks.task_reduce_run(job, run, inputs[run])
        except DataError as error:
            job = _leave_out(job, run, error)
    return job


def _leave_out(job: Job, run: int, error: DataError) -> Job:
    job = job.without(run, str(error))
    log.error("run %d is left out: %s", run, error)
    return job
