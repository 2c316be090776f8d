"""THE FILE TO READ FIRST: the stages in the order in which data flow, and the one loop that runs them.

    raw run → frames → pulses → labels → spectra → peaks, kinetics, mixture → product

Every stage looks whether its result is current (same inputs, options and code) and does nothing if it is. `process` is
what the command, the tests and the Prefect flow call; the flow has each stage run as a task.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from pipeline.compute.workers import Workers
from pipeline.errors import ConfigError, DataError
from pipeline.job import Job
from pipeline.stages.base import Context, Progress, Stage
from pipeline.stages.bin import BIN
from pipeline.stages.calibrate import CALIBRATE
from pipeline.stages.fit import FIT
from pipeline.stages.inventory import INVENTORY, check_sources
from pipeline.stages.label import LABEL
from pipeline.stages.publish import PUBLISH, published
from pipeline.stages.reduce import REDUCE
from pipeline.storage.places import Place

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["RESTARTS", "STAGES", "Processed", "RunStage", "context_of", "process", "restart_from"]

STAGES = (INVENTORY, CALIBRATE, REDUCE, LABEL, BIN, FIT, PUBLISH)
"""All stages, in the order in which they run. REDUCE makes two results in one pass: the frames cube and the pulses."""

RESTARTS = {"frames": REDUCE, "pulses": REDUCE, "spectra": BIN, "fits": FIT}
"""Names from which a dataset can be processed again, and the first stage that then runs."""

RunStage = Callable[[Stage, Context, int | None], Any]
"""How a stage is run, for a run's number or for the dataset: in place, or as a task of a flow."""

log = logging.getLogger("trxas")


class Processed(NamedTuple):
    """What came out."""

    version: Place
    """The published version, a folder or a URL."""
    left_out: Mapping[int, str]
    """Runs that could not be used, and why."""


def process(
    job: Job,
    *,
    progress: Progress | None = None,
    restart: str | None = None,
    waiting: Mapping[int, str] | None = None,
    client: Client | None = None,
    run: RunStage = lambda stage, context, number: stage.run(context, number),
) -> Processed:
    """Take a dataset from raw runs to a published product.

    A run that cannot be used is left out and named; the others give their result all the same.

    Parameters
    ----------
    job
        The dataset.
    progress
        Told how far the heavy stages are.
    restart
        Name in `RESTARTS` from which on everything runs again, current or not.
    waiting
        Runs to leave out for now, and why.
    client
        A dask client whose workers are used whatever `compute.cluster` says; it stays open.
    run
        How a stage is run.

    Raises
    ------
    TrxasError
        With one line that names the run, the source, the value and the way out.
    """
    for left_out, reason in (waiting or {}).items():
        job = job.without(left_out, reason)
    if restart is not None:
        restart_from(job, restart)
    check_sources(job)
    context = context_of(job, progress, client)
    with context.workers:
        for stage in STAGES:
            for number in stage.runs(context.job):
                try:
                    run(stage, context, number)
                except DataError as error:
                    if number is None:
                        raise
                    context.job = context.job.without(number, str(error))
                    log.error("run %d is left out: %s", number, error)
    return Processed(published(context.job), context.job.failed)


def context_of(job: Job, progress: Progress | None = None, client: Client | None = None) -> Context:
    """Return what stages share, with the workers of the client or of the config; a cluster starts when it is first needed."""
    return Context(job, Workers(job.config.compute, job.out / "logs", client=client), progress)


def restart_from(job: Job, name: str) -> None:
    """Forget the result of a stage and of those after it, so that the next `process` makes them again.

    Raises
    ------
    ConfigError
        If there is no such stage, naming those there are.
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
