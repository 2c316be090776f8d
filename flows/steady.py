"""Tasks that outlast a Prefect server which is away for a while."""

from __future__ import annotations

import logging
import time
from typing import Any

from httpx import TransportError
from prefect.tasks import Task

from pipeline.errors import causes

__all__ = ["PAUSES", "away", "steady"]

log = logging.getLogger("trxas")

PAUSES = [5.0, 10.0, 20.0, 40.0, 80.0, 160.0]
"""Seconds between attempts: a server that is started again is back sooner."""


def away(error: BaseException) -> TransportError | None:
    """Return what tells that a server was not there, if an error came from that; an answer, even a refusal, is none."""
    return next((e for e in causes(error) if isinstance(e, TransportError)), None)


def steady(task: Task[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a task, and again where the server could not be asked whether it may begin.

    Prefect asks that (for limits on the task's tags) outside of the retries of a task, and only once.
    """
    for pause in PAUSES:
        try:
            return task(*args, **kwargs)
        except Exception as error:
            if away(error) is None:
                raise
            log.warning("%s: the Prefect server does not answer; trying again in %.0f s", task.name, pause)
            time.sleep(pause)
    return task(*args, **kwargs)
