"""Watching a raw folder: the flow that looks once, and `trxas watch`, which looks repeatedly.

A schedule of Prefect's may repeat the flow instead.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect import flow
from prefect.client.schemas.objects import State
from prefect.states import Completed

from flows import server, tasks
from flows.process import Change, process
from flows.states import error_line, failed, kind_of, named_flow_run
from pipeline.errors import BusyError, TrxasError
from pipeline.job import Job, load_job
from pipeline.storage.claim import claimed
from pipeline.watch.decide import Look
from pipeline.watch.look import peek, remember_failure, rests

__all__ = ["keep_watching", "watch"]


@flow(name="trxas-watch", persist_result=False, validate_parameters=True)
def watch(
    config: str,
    out: str | None = None,
    changes: list[Change] = [],  # noqa: B006
    work: str | None = None,
) -> Any:
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
            if (reason := rests(job, time.time())) is not None:
                return Completed(name="Unchanged", message=reason)
            seen = _remembered(job, tasks.task_look)
            if not seen.news:
                return Completed(name="Unchanged", message=seen.text)
            done = process(config, out, [*changes, *seen.changes], waiting=seen.waiting, work=work, return_state=True)
            return _ended(job, seen, done)
    except BusyError as error:
        return Completed(name="Skipped", message=str(error))
    except Exception as error:
        return failed(error)


def _remembered(job: Job, look: Callable[[Job, float], Look]) -> Look:
    """Look; an unexpected error is remembered, so that there is no look at once again."""
    try:
        return look(job, time.time())
    except TrxasError:
        raise
    except Exception as error:
        remember_failure(job, None, error_line(error), kind_of(error))
        raise


def _ended(job: Job, seen: Look, done: State[Any]) -> Any:
    """Remember how the processing ended; the flow ends as its subflow does."""
    result = done.result(raise_on_failure=False)
    if done.is_completed():
        tasks.task_remember(job, seen, str(result))
        return State(type=done.type, message=done.message, data=result)
    remember_failure(job, seen, error_line(result), kind_of(result))
    return State(type=done.type, message=error_line(result), data=result)


def keep_watching(
    config: str,
    out: str | None,
    changes: list[str],
    *,
    work: str | None = None,
    once: bool,
    interval: float,
    tell: Callable[[str], None],
) -> None:
    """Look at the raw folder of a dataset at regular intervals, and process new runs.

    The flow runs only when there is something to process or report. With `once` there is one look, runs that were just
    written are given time to settle, and errors are raised. Otherwise an error is printed, and watching goes on: a config
    may be edited while it is watched. What failed for another reason than data or config is tried again later and later.

    Raises
    ------
    TrxasError
        With `once`, or if the config is wrong at the start.
    """
    load_job(Path(config), out, changes, work=work)
    printed = ""
    while True:
        try:
            text = _look(config, out, changes, work, once=once, tell=tell)
        except Exception as error:
            if once:
                raise
            text = error_line(error)
        if text and text != printed:
            tell(text)
        printed = text or printed
        if once:
            return
        time.sleep(interval)


def _look(
    config: str, out: str | None, changes: list[str], work: str | None, *, once: bool, tell: Callable[[str], None]
) -> str:
    """Look, and run the flow if needed; returns the text to print, empty if nothing has changed."""
    seen = _peek(config, out, changes, work)
    if once and not isinstance(seen, str) and seen.settled_in:
        tell(f"files were just written: waiting {seen.settled_in:.0f} s (watch.settle)")
        time.sleep(seen.settled_in)
        seen = _peek(config, out, changes, work)
    if isinstance(seen, str):
        return seen
    if not seen.news and not seen.notes:
        return seen.text if once else ""
    for note in seen.notes:
        tell(note.text)
    with server.running():
        state: Any = watch(config, out, changes, work, return_state=True)
        return _message_of(state)


def _message_of(state: State[Any]) -> str:
    """Return the message of a final state, or raise its error."""
    if state.is_completed():
        return str(state.message or state.name)
    error = state.result(raise_on_failure=False)
    raise error if isinstance(error, TrxasError) else TrxasError(str(state.message or state.name))


def _peek(config: str, out: str | None, changes: list[str], work: str | None) -> Look | str:
    """Look without a flow; returns why there is no look where the last ones failed."""
    job = load_job(Path(config), out, changes, work=work)
    with claimed(job.out, "watch"):
        return rests(job, time.time()) or _remembered(job, peek)
