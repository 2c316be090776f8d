"""The flows: raw runs → published product, a task per run and per stage; and the same from a later stage on.

Their docstrings say "Args:" because Prefect shows in its forms what it finds there.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow, tags
from pydantic import Field

from flows import settings, tasks
from flows.limits import one_at_a_time
from flows.server import retry_while_unreachable
from flows.states import completed, failed, named_flow_run
from pipeline.errors import DataError, TrxasError
from pipeline.job import Job, load_job
from pipeline.results.compare import other_settings
from pipeline.stages.inventory import check_sources
from pipeline.storage import versions as publish
from pipeline.storage.claim import claimed
from pipeline.storage.hashes import Identity
from pipeline.workflow import restart_from, workers_of

__all__ = ["Change", "Stage", "process", "reprocess"]

log = logging.getLogger("trxas")

Stage = Literal["frames", "pulses", "spectra", "fits"]
Change = Annotated[
    str,
    Field(
        # no brackets: Prefect takes them for markup when it says what does not match
        pattern=r"^\w+(\.\w+)*\s*=.+$",
        description="key=value of the config; the value is YAML",
        examples=["kinetics.power=1", "delay.t0=120.02"],
    ),
]


@flow(name="trxas-process", persist_result=False, validate_parameters=True)
def process(
    config: str,
    out: str | None = None,
    changes: list[Change] = [],  # noqa: B006 (Prefect copies it; its UI then asks for a list)
    restart: Stage | None = None,
    waiting: dict[int, str] | None = None,
    work: str | None = None,
) -> str:
    """Process a dataset; returns the published version, a folder or a URL.

    A run that cannot be used is reported and left out; the others give their result all the same.

    Args:
        config: Path of the config file, as the worker's machine sees it.
        out: Output folder, or a URL to publish to; `out` beside the config unless given.
        changes: `key=value` changes of the config.
        restart: Stage from which everything runs again even if it is current.
        waiting: Scan runs to leave out for now, and why.
        work: Folder of the working stores; the output folder unless given.
    """
    try:
        job = load_job(Path(config), out, changes, work=work)
        with named_flow_run("process", job.config.dataset), claimed(job.out, "process", wait=settings.PATIENCE):
            return _stages(job, restart, waiting or {})
    except TrxasError as error:
        return failed(error)


@flow(name="trxas-reprocess", persist_result=False, validate_parameters=True)
def reprocess(
    config: str,
    stage: Stage = "fits",
    changes: list[Change] = [],  # noqa: B006
    out: str | None = None,
    work: str | None = None,
) -> str:
    """Process a dataset again from a stage on, with changes of the config; what comes before is taken from the stores.

    Args:
        config: Path of the config file, as the worker's machine sees it.
        stage: First stage that runs again, even if it is current; earlier ones run where a change demands it.
        changes: `key=value` changes of the config.
        out: Output folder, or a URL to publish to; `out` beside the config unless given.
        work: Folder of the working stores; the output folder unless given.
    """
    try:
        job = load_job(Path(config), out, changes, work=work)
        with (
            named_flow_run(f"reprocess-{stage}", job.config.dataset),
            claimed(job.out, "reprocess", wait=settings.PATIENCE),
        ):
            return _stages(job, stage, {})
    except TrxasError as error:
        return failed(error)


def _stages(job: Job, restart: str | None, waiting: dict[int, str]) -> Any:
    for run, reason in waiting.items():
        job = job.without(run, reason)
    if restart is not None:
        restart_from(job, restart)
    former = publish.latest(job.product_dir)
    job, inputs = _take_stock(job)
    with one_at_a_time():
        retry_while_unreachable(tasks.task_calibrate, job, inputs)
        job = _reduce(job, inputs)
    retry_while_unreachable(tasks.task_label, job)
    retry_while_unreachable(tasks.task_bin_spectra, job)
    retry_while_unreachable(tasks.task_fit, job)
    version = retry_while_unreachable(tasks.task_publish, job)
    # what cannot be shown is published all the same
    retry_while_unreachable(tasks.task_show, version, former, return_state=True)
    return completed(str(version), job.failed, other_settings(former, version))


def _take_stock(job: Job) -> tuple[Job, dict[int, Identity]]:
    check_sources(job)
    started = {}
    for run in job.all_runs:
        with tags(f"run:{run}"):
            started[run] = tasks.task_inventory.submit(job, run)
    inputs: dict[int, Identity] = {}
    for run, future in started.items():
        try:
            inputs[run] = future.result()
        except DataError as error:
            job = _leave_out(job, run, error)
    return job, inputs


def _reduce(job: Job, inputs: dict[int, Identity]) -> Job:
    # runs one after the other: every run keeps all workers busy, and memory is that of one run
    with workers_of(job) as workers:
        for run in job.reduced_runs:
            try:
                with tags(f"run:{run}"):
                    retry_while_unreachable(tasks.task_reduce_run, job, run, inputs[run], workers)
            except DataError as error:
                job = _leave_out(job, run, error)
    return job


def _leave_out(job: Job, run: int, error: DataError) -> Job:
    job = job.without(run, str(error))
    log.error("run %d is left out: %s", run, error)
    return job
