"""`trxas watch`: looks at a raw folder without end; Prefect is started when there is something to do or to tell."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from flows import server
from flows.watch import watch
from pipeline.errors import TrxasError
from pipeline.job import load_job
from pipeline.storage.claim import claimed
from pipeline.watch.decide import Look
from pipeline.watch.look import peek

__all__ = ["keep_watching"]

Tell = Callable[[str], None]


def keep_watching(
    config: str,
    out: str | None,
    changes: list[str],
    *,
    work: str | None = None,
    once: bool,
    interval: float,
    tell: Tell,
) -> None:
    """Look at the raw folder of a dataset every so many seconds, and process what is new.

    With `once` there is one look, runs that only want time to settle are given it, and what goes wrong is raised.
    Otherwise it is told, and the next look comes all the same: a config may be edited while it is watched.

    Raises
    ------
    TrxasError
        With `once`, or if the very first look finds the config at fault.
    """
    load_job(Path(config), out, changes, work=work)
    said = ""
    while True:
        try:
            text = _one_look(config, out, changes, work, once=once, tell=tell)
        except TrxasError as error:
            if once:
                raise
            text = str(error)
        if text and text != said:
            tell(text)
        said = text or said
        if once:
            return
        time.sleep(interval)


def _one_look(config: str, out: str | None, changes: list[str], work: str | None, *, once: bool, tell: Tell) -> str:
    """Look, and run the flow where there is a reason; returns what to say, empty where nothing has changed."""
    seen = _peek(config, out, changes, work)
    if once and seen.settled_in:
        tell(f"files were just written: waiting {seen.settled_in:.0f} s (watch.settle)")
        time.sleep(seen.settled_in)
        seen = _peek(config, out, changes, work)
    if not seen.news and not seen.notes:
        return seen.text if once else ""
    for note in seen.notes:
        tell(note.text)
    with server.running():
        state = watch(config, out, changes, work, return_state=True)
    if state.is_completed():
        return str(state.message or state.name)
    error = state.result(raise_on_failure=False)
    raise error if isinstance(error, TrxasError) else TrxasError(str(state.message or state.name))


def _peek(config: str, out: str | None, changes: list[str], work: str | None) -> Look:
    job = load_job(Path(config), out, changes, work=work)
    with claimed(job.out, "watch"):
        return peek(job, time.time())
