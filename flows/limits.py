"""How many heavy tasks run at once: one per machine, by a global concurrency limit of the Prefect server."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from httpx import HTTPError
from prefect.client.orchestration import get_client
from prefect.concurrency.sync import concurrency

from flows import server, settings

__all__ = ["limit_name", "one_at_a_time"]

log = logging.getLogger("trxas")

TELL = 300.0
"""Seconds between lines that say what is waited for."""

LEASE = 120.0
"""Seconds after which others may go on when the holder was killed; long enough for a server that stands still for a minute."""


def limit_name() -> str:
    """Return the name of this machine's limit, as it stands in Prefect's UI."""
    return "trxas-heavy-" + re.sub(r"[^a-z0-9]+", "-", socket.gethostname().lower()).strip("-")


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold the machine's limit: a heavy task takes all workers and the memory it was given.

    Without a lasting server there is nobody to share with. A task that was killed holds the limit until its `LEASE` ends.
    Who wants more at once raises the limit in Prefect; it is made only where it is missing.
    """
    if not server.lasting():
        yield
        return
    name = limit_name()
    with get_client(sync_client=True) as client:
        known = {limit.name for limit in client.read_global_concurrency_limits()}
        if name not in known:
            client.upsert_global_concurrency_limit_by_name(name, 1)
    held = ExitStack()
    _wait_for(name, held)
    try:
        yield
    finally:
        try:
            held.close()
        except HTTPError:
            log.warning("the Prefect limit %s could not be given back: it is held for %.0f s more", name, LEASE)


def _wait_for(name: str, held: ExitStack) -> None:
    """Wait for the limit as long as a heavy task may take; after that its holder was lost, and the work goes on."""
    given_up = time.monotonic() + settings.timeout()
    while time.monotonic() < given_up:
        # the work is worth more than the lease: a server that is away for a while does not end it
        slot = concurrency(name, lease_duration=LEASE, timeout_seconds=TELL, raise_on_lease_renewal_failure=False)
        try:
            held.enter_context(slot)
        except TimeoutError:
            log.warning(
                "waiting for the Prefect limit %s: another heavy task runs on this machine; if none does, free it: "
                "prefect gcl update %s --active-slots 0",
                *(name, name),
            )
        else:
            return
    log.warning("the Prefect limit %s is held for longer than any task may take: going on without it", name)
