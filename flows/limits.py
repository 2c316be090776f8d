"""How many heavy tasks run at once: one per machine, by a global concurrency limit of the Prefect server."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from httpx import HTTPError
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency

from flows import server, settings
from flows.states import slug

__all__ = ["limit_name", "one_at_a_time"]

log = logging.getLogger("trxas")

TELL = 300.0
"""Seconds between warnings while waiting for the limit."""

LEASE = 120.0
"""Seconds after which the limit of a killed holder is free again; longer than a server on SQLite may stall."""


def limit_name() -> str:
    """Return the name of this machine's limit, as Prefect's UI shows it."""
    return f"trxas-heavy-{slug(socket.gethostname())}"


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold the machine's limit: a heavy task uses all workers and all the memory it may have.

    A temporary server is not shared and needs no limit. An existing limit keeps the size that it was given in Prefect.
    """
    if not server.is_persistent():
        yield
        return
    name = limit_name()
    with get_client(sync_client=True) as client:
        if name not in {limit.name for limit in client.read_global_concurrency_limits()}:
            client.upsert_global_concurrency_limit_by_name(name, 1)
    held = ExitStack()
    _acquire(name, held)
    try:
        yield
    finally:
        try:
            held.close()
        except HTTPError:
            log.warning("the Prefect limit %s could not be released: it is held for another %.0f s", name, LEASE)


def _acquire(name: str, held: ExitStack) -> None:
    """Acquire the limit, or go on without it after the longest time a task may take: its holder must be lost."""
    end = time.monotonic() + settings.timeout()
    while time.monotonic() < end:
        # a lease that cannot be renewed does not end the work
        slot = concurrency(name, lease_duration=LEASE, timeout_seconds=TELL, raise_on_lease_renewal_failure=False)
        try:
            held.enter_context(slot)
        except TimeoutError:
            log.warning(
                "waiting for the Prefect limit %s: another heavy task runs on this machine; if none does, release it: "
                "prefect gcl update %s --active-slots 0",
                *(name, name),
            )
        else:
            return
    log.warning("the Prefect limit %s is held for longer than any task may take: going on without it", name)
