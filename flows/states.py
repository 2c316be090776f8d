"""Names and tags of flow runs, and the one-line message of their final state."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import runtime, tags
from prefect.client.orchestration import get_client
from prefect.exceptions import CancelledRun, CrashedRun
from prefect.states import Completed, Failed

from pipeline.errors import BusyError, ClusterError, DamagedError, TrxasError, causes, is_transient, timed_out
from pipeline.watch.decide import Failure

__all__ = ["completed", "error_line", "failed", "kind_of", "named_flow_run", "slug"]

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Disks are full until somebody makes room."""


def slug(name: str) -> str:
    """Return a name as Prefect wants its keys: lower case, digits, dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


@contextmanager
def named_flow_run(verb: str, dataset: str) -> Iterator[None]:
    """Name and tag the flow run by its dataset, and tag its tasks: the dataset is known only after the config is read."""
    label = f"dataset:{dataset}"
    with get_client(sync_client=True) as client:
        own = sorted({*(runtime.flow_run.tags or []), label})
        client.update_flow_run(runtime.flow_run.id, name=f"{verb}-{dataset}", tags=own)
    with tags(label):
        yield


def completed(version: str, left_out: Mapping[int, str], remark: str = "") -> Any:
    """Return the final state of a flow that published; its message names the runs that were left out."""
    lost = [f"run {run} is left out: {reason}" for run, reason in left_out.items()]
    return Completed(message="; ".join(filter(None, [Path(version).name, *lost, remark])), data=version)


def failed(error: Exception) -> Any:
    """Return the failed state of a flow, with a one-line message."""
    return Failed(message=error_line(error), data=error)


def kind_of(error: BaseException | None) -> Failure:
    """Return whether an error is one of data or config, of disk, network or machine, or one that nobody thought of."""
    full = any(isinstance(e, OSError) and e.errno in FULL for e in causes(error))
    stopped = isinstance(error, ClusterError | BusyError | DamagedError | CancelledRun | CrashedRun)
    if full or stopped or is_transient(error) or timed_out(error):
        return "passing"
    return "expected" if isinstance(error, TrxasError) else "unexpected"


def error_line(error: BaseException | None) -> str:
    """Return an error as one line."""
    text = (str(error).splitlines() or [""])[0]
    return str(error) if isinstance(error, TrxasError) else f"unexpected {type(error).__name__}: {text}"
