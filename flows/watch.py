"""The watching flow: one look at the raw folder, and what is new is processed. A schedule, or `trxas watch`, repeats it."""

from __future__ import annotations

import time
from pathlib import Path

from prefect import flow

from flows import tasks
from flows.process import Change, process
from flows.states import failed, forward_state, lasts, named_flow_run, nothing_new, outcome, skipped
from pipeline.errors import BusyError, TrxasError
from pipeline.job import load_job
from pipeline.storage.claim import claimed

__all__ = ["watch"]


@flow(name="trxas-watch", persist_result=False, validate_parameters=True)
def watch(
    config: str,
    out: str | None = None,
    changes: list[Change] = [],  # noqa: B006
    work: str | None = None,
) -> str | None:
    """Look once at the raw folder of a dataset; process complete runs where something is new, and publish.

    Args:
        config: Path of the config file, as the worker's machine sees it; its `watch:` section says what becomes of runs that are not listed.
        out: Output folder, or a URL to publish to; `out` beside the config unless given.
        changes: `key=value` changes of the config.
        work: Folder of the working stores; the output folder unless given.
    """
    try:
        job = load_job(Path(config), out, changes, work=work)
        with named_flow_run("watch", job.config.dataset), claimed(job.out, "watch"):
            seen = tasks.task_look(job, time.time())
            if not seen.news:
                return nothing_new(seen.text)
            done = process(config, out, [*changes, *seen.changes], waiting=seen.waiting, work=work, return_state=True)
            version, error = outcome(done)
            if lasts(done):
                tasks.task_remember(job, seen, version, error)
            return forward_state(done)
    except BusyError as error:
        return skipped(error)
    except TrxasError as error:
        return failed(error)
