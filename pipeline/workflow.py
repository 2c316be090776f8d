"""Start reading here: the stages in processing order, and the loop that runs them.

    raw run → frames → pulses → labels → spectra → peaks, kinetics, mixture → product

A stage is skipped if its result is current, that is, if its inputs, options and code are unchanged. The command line,
the tests and the Prefect flow all call `process`; the flow runs each stage as a task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.compute.workers import Workers
from pipeline.errors import ConfigError, DataError
from pipeline.job import Job
from pipeline.stages.base import Context, Progress, Stage
from pipeline.stages.bin import BIN
from pipeline.stages.calibrate import CALIBRATE
from pipeline.stages.fit import FIT
from pipeline.stages.inject import INJECT
from pipeline.stages.inventory import INVENTORY, check_sources
from pipeline.stages.label import LABEL
from pipeline.stages.publish import PUBLISH, published, runs_left_out
from pipeline.stages.reduce import REDUCE
from pipeline.storage.places import Place

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "RESTARTS",
    "STAGES",
    "Processed",
    "RunStage",
    "context_of",
    "in_place",
    "inject",
    "process",
    "restart_from",
    "run_stages",
]

STAGES = (INVENTORY, CALIBRATE, REDUCE, LABEL, BIN, FIT, PUBLISH)
"""All stages, in the order in which they run. REDUCE makes two results in one pass: the frames cube and the pulses."""

RESTARTS = {"frames": REDUCE, "pulses": REDUCE, "spectra": BIN, "fits": FIT}
"""Restart points, and the first stage that each of them reruns."""

RunStage = Callable[[Stage, Context, int | None], Any]
"""How a stage is run, for a run's number or for the dataset: in place, or as a task of a flow."""

log = logging.getLogger("trxas")


def in_place(stage: Stage, context: Context, run: int | None) -> None:
    """Run a stage here and now."""
    stage.run(context, run)


class Processed(NamedTuple):
    """Result of processing a dataset."""

    version: Place
    """The published version, a folder or a URL."""
    left_out: Mapping[int, str]
    """Runs that could not be used, with the reason."""


def process(
    job: Job,
    *,
    progress: Progress | None = None,
    restart: str | None = None,
    waiting: Mapping[int, str] | None = None,
    client: Client | None = None,
    run: RunStage = in_place,
) -> Processed:
    """Process a dataset from raw runs to a published product.

    A run that cannot be used is left out and reported; the other runs are still processed.

    Parameters
    ----------
    job
        The dataset.
    progress
        Callback that receives the progress of the heavy stages.
    restart
        Restart point (a key of `RESTARTS`): this stage and all later ones rerun even if current.
    waiting
        Runs to leave out for now, with the reason.
    client
        A dask client to use instead of `compute.cluster`; it is not closed.
    run
        Function that runs a stage; calls it directly by default.

    Raises
    ------
    TrxasError
        If the dataset cannot be processed; the message is one line naming run, source, value and remedy.
    """
    for left_out, reason in (waiting or {}).items():
        job = job.without(left_out, reason)
    if restart is not None:
        restart_from(job, restart)
    check_sources(job)
    context = context_of(job, progress, client)
    with context.workers:
        run_stages(context, STAGES, run)
    return Processed(published(context.job), context.job.failed)


def inject(job: Job, *, n: int, seed: int, progress: Progress | None = None) -> Place:
    """Put n known signals into the pulses of a processed dataset, fit them, and publish the product with `/injection`.

    Raw data are not looked at. A product that has these injections already stays as it is.

    Raises
    ------
    ProductError
        If the dataset is not processed with this config and program.
    """
    for number, reason in runs_left_out(job).items():
        job = job.without(number, reason)
    context = context_of(job, progress)
    INJECT.ask(context, n=n, seed=seed)
    PUBLISH.run(context)
    return published(job)


def run_stages(context: Context, stages: Iterable[Stage], run: RunStage = in_place) -> None:
    """Run stages in order, unless they are current; a run that cannot be used is left out of the context's job.

    Raises
    ------
    TrxasError
        If what is not about one run cannot be made.
    """
    for stage in stages:
        for number in stage.runs(context.job):
            try:
                run(stage, context, number)
            except DataError as error:
                if number is None:
                    raise
                context.job = context.job.without(number, str(error))
                log.error("run %d is left out: %s", number, error)


def context_of(job: Job, progress: Progress | None = None, client: Client | None = None) -> Context:
    """Return the context shared by all stages. Its workers come from the client or the config; a cluster starts on first use."""
    return Context(job, Workers(job.config.compute, job.out / "logs", client=client), progress)


def restart_from(job: Job, name: str) -> None:
    """Discard the results of a stage and all later ones, so that the next `process` recomputes them.

    Raises
    ------
    ConfigError
        If `name` is not in `RESTARTS`; the message lists the valid names.
    """
    if name not in RESTARTS:
        raise ConfigError(f"--from {name}: not one of {', '.join(RESTARTS)}")
    later = STAGES[STAGES.index(RESTARTS[name]) :]
    places = [(stage, number) for stage in later for number in stage.runs(job)]
    if not any(stage.records(job, number) for stage, number in places):
        log.warning(
            "%s: nothing was processed there, so everything runs from raw data (--out: another folder)", job.out
        )
    for stage, number in places:
        also = ("frames",) if name == "frames" and stage is REDUCE else ()
        stage.forget(job, number, *also)
