"""The stages of `pipeline.workflow` as Prefect tasks: one line each.

Whether there is anything to do is decided by the stage itself (same inputs, options, code), so Prefect's own cache is
off: its keys know nothing of files on disk. A task is tried again only where the file system may get over it.
"""

import logging
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from flows import artifacts, settings
from flows.progress import timed
from pipeline import workflow
from pipeline.compute.workers import Workers
from pipeline.errors import may_pass
from pipeline.job import Job
from pipeline.storage.hashes import Identity
from pipeline.storage.places import Place
from pipeline.watch import look as watcher

__all__ = [
    "task_bin_spectra",
    "task_calibrate",
    "task_fit",
    "task_inventory",
    "task_label",
    "task_look",
    "task_publish",
    "task_reduce_run",
    "task_remember",
    "task_show",
]

log = logging.getLogger("trxas")
settings.tell_prefect()


def _passing(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    return may_pass(state.result(raise_on_failure=False))


_OPTIONS: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 4,
    "retry_delay_seconds": exponential_backoff(backoff_factor=5),
    "retry_jitter_factor": 0.3,
    "retry_condition_fn": _passing,
}
_TIMED: dict[str, Any] = {**_OPTIONS, "timeout_seconds": settings.timeout()}


_calibrate = timed(lambda job, inputs, **_: "calibration", workflow.calibrate)
_reduce_run = timed(lambda job, run, inputs, **_: f"run {run}", workflow.reduce_run)


@task(name="inventory", task_run_name="inventory-r{run:04d}", tags=["inventory"], **_OPTIONS)
def task_inventory(job: Job, run: int) -> Identity:
    """Audit a run, and begin to hash its files in the background."""
    return workflow.inventory(job, run)


@task(name="calibrate", tags=["calibrate"], **_TIMED)
def task_calibrate(job: Job, inputs: dict[int, Identity]) -> str:
    """Make the calibration."""
    with artifacts.progress_artifact(job.config.dataset, "calibrate", "calibration") as report:
        return _calibrate(job, inputs, progress=report)


@task(name="reduce", task_run_name="reduce-r{run:04d}", tags=["reduce"], **_TIMED)
def task_reduce_run(job: Job, run: int, inputs: Identity, workers: Workers) -> bool:
    """Reduce a run to frames cube and pulses."""
    name, text = job.config.dataset, f"run {run}: frames to pulses"
    with artifacts.progress_artifact(name, f"reduce-r{run:04d}", text) as report:
        done = _reduce_run(job, run, inputs, workers=workers, progress=report)
    log.info("run %d: %s", run, "reduced to pulses" if done else "pulses are current")
    return done


@task(name="show", tags=["show"], **_OPTIONS)
def task_show(version: Place, former: Place | None) -> None:
    """Show a version's summary, quality and figures in Prefect; figures only of another version than the former one."""
    artifacts.show_product(version, figures=version != former)


_label = timed(lambda job: "delays and fluences", workflow.label)
_bin_spectra = timed(lambda job: "spectra and delay scans", workflow.bin_spectra)
_fit = timed(lambda job: "fits", workflow.fit)
_publish = timed(lambda job: "product", workflow.publish_product)

task_label = task(name="label", tags=["label"], **_OPTIONS)(_label)
task_bin_spectra = task(name="spectra", tags=["spectra"], **_TIMED)(_bin_spectra)
task_fit = task(name="fits", tags=["fits"], **_TIMED)(_fit)
task_publish = task(name="publish", tags=["publish"], **_OPTIONS)(_publish)

task_look = task(name="look", tags=["watch"], **_OPTIONS)(watcher.look_now)
task_remember = task(name="remember", tags=["watch"], **_OPTIONS)(watcher.remember)
