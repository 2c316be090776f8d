"""Names and tags of flow runs, and the one-line message of their final state."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import runtime, tags
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from pipeline.errors import ClusterError, TrxasError, is_transient, timed_out

__all__ = ["completed", "failed", "is_permanent", "named_flow_run", "slug"]


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


def failed(error: TrxasError) -> Any:
    """Return the failed state of a flow, with a one-line message."""
    return Failed(message=str(error), data=error)


def is_permanent(state: State[Any]) -> bool:
    """Return whether a flow would end the same way if it ran again at once: not where disk, network or machine failed."""
    if state.is_completed():
        return True
    error = state.result(raise_on_failure=False)
    machine = isinstance(error, ClusterError) or is_transient(error) or timed_out(error)
    return isinstance(error, TrxasError) and not machine
