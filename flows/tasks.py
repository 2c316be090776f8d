"""The stages of `pipeline.workflow` as Prefect tasks, built from its list.

Whether there is anything to do is decided by the stage itself (same inputs, options, code), so Prefect's own cache is
off: its keys know nothing of files on disk. A task is tried again only where the file system may get over it.
"""

from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from prefect import tags, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.tasks import Task, exponential_backoff

from flows import artifacts, settings
from flows.limits import one_at_a_time
from flows.progress import timed
from flows.server import retry_while_unreachable
from pipeline.errors import is_transient
from pipeline.stages.base import Context, Stage
from pipeline.stages.inventory import INVENTORY
from pipeline.storage.places import Place
from pipeline.watch import look as watcher
from pipeline.workflow import STAGES

__all__ = ["TASKS", "as_task", "task_look", "task_remember", "task_show"]

settings.tell_prefect()


def _may_pass(_task: Task[..., Any], _run: TaskRun, state: State[Any]) -> bool:
    return is_transient(state.result(raise_on_failure=False))


_OPTIONS: dict[str, Any] = {
    "cache_policy": NO_CACHE,
    "persist_result": False,
    "retries": 4,
    "retry_delay_seconds": exponential_backoff(backoff_factor=5),
    "retry_jitter_factor": 0.3,
    "retry_condition_fn": _may_pass,
    "timeout_seconds": settings.timeout(),
}


def _task_of(stage: Stage) -> Task[..., Any]:
    """Return a stage as a task that takes a context and a run number (None: the whole dataset)."""

    def work(context: Context, run: int | None) -> bool:
        if not stage.heavy:
            return stage.run(context, run)
        name, what = context.job.config.dataset, stage.name if run is None else f"{stage.name}-r{run:04d}"
        with artifacts.progress_artifact(name, what, stage.title.format(run=run)) as report:
            return stage.run(replace(context, progress=report), run)

    def shown(context: Context, run: int | None) -> bool:
        return timed(stage.title.format(run=run), lambda: work(context, run))

    run_name = f"{stage.name}-r{{run:04d}}" if stage.per_run else stage.name
    return task(name=stage.name, task_run_name=run_name, tags=[stage.name], **_OPTIONS)(
        work if stage is INVENTORY else shown
    )


TASKS = {stage.name: _task_of(stage) for stage in STAGES}


def as_task(stage: Stage, context: Context, run: int | None) -> None:
    """Run a stage as a task; only one heavy stage runs at a time on a machine."""
    with ExitStack() as held:
        if run is not None:
            held.enter_context(tags(f"run:{run}"))
        if stage.heavy:
            held.enter_context(one_at_a_time())
        retry_while_unreachable(TASKS[stage.name], context, run)


@task(name="show", tags=["show"], **_OPTIONS)
def task_show(version: Place, former: Place | None) -> None:
    """Show a version's summary, quality and figures in Prefect; figures only if the version is new."""
    artifacts.show_product(version, figures=version != former)


task_look = task(name="look", tags=["watch"], **_OPTIONS)(watcher.look_and_log)
task_remember = task(name="remember", tags=["watch"], **_OPTIONS)(watcher.remember)
