"""The Prefect API that flows talk to: the server that is configured, or a temporary one that ends with this process.

Prefect would start a temporary one too, but later; that one shares a SQLite file with every other process of the user,
and stays behind when this process is killed (docs/decisions/0001-temporary-prefect-server.md).
"""

from __future__ import annotations

import logging
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipeline.errors import ConfigError, TrxasError, causes

if TYPE_CHECKING:
    from httpx import TransportError
    from prefect.tasks import Task

__all__ = ["lasting", "retry_while_unreachable", "running", "start", "transport_error_in"]

log = logging.getLogger("trxas")

PATIENCE = 120.0
"""Seconds that a loaded machine may take until the temporary server answers."""

PAUSES = [5.0, 10.0, 20.0, 40.0, 80.0, 160.0]
"""Seconds between attempts of a task; restarting a server takes less than their sum."""

_process: subprocess.Popen[bytes] | None = None
_url = ""


def start() -> None:
    """Begin to start the temporary server and return at once; nothing happens where PREFECT_API_URL names a server."""
    global _process, _url
    if os.environ.get("PREFECT_API_URL") or (_process is not None and _process.poll() is None):
        return
    # the socket is open from here on: a request that comes before the server is ready waits for it
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        _url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        _process = subprocess.Popen(  # noqa: S603 (our own module)
            [sys.executable, "-m", "flows.serving", str(listener.fileno())],
            # closed when this process ends, however it ends; the server ends then
            stdin=subprocess.PIPE,
            pass_fds=(listener.fileno(),),
            # Ctrl-C is for this process, which still has to report what became of the run
            start_new_session=True,
        )


def lasting() -> bool:
    """Return whether a Prefect server is used that others use too: one named by environment, profile or project."""
    return _configured() not in ("", _url)


def _configured() -> str:
    from prefect.settings import get_current_settings

    return get_current_settings().api.url or ""


@contextmanager
def running() -> Iterator[None]:
    """Hold an API for the flows of the block: the configured server, or the temporary one.

    Raises
    ------
    ConfigError
        If no server answers at the configured address.
    TrxasError
        If the temporary server does not start, or a server goes away for longer than Prefect retries.
    """
    if url := _configured():
        if _process is not None and url != _url:
            # started before Prefect was imported, which is when a profile or the project can name a server
            _process.kill()
        _check(
            url,
            10,
            ConfigError(f"PREFECT_API_URL: no Prefect server answers at {url}; start it, or unset PREFECT_API_URL"),
        )
        own, name = {}, f"the Prefect server at {url}"
    else:
        start()
        _check(_url, PATIENCE, TrxasError("Prefect's temporary server does not start; `trxas doctor` may tell why"))
        own, name = _temporary(), "Prefect's temporary server"
    from prefect.settings import temporary_settings

    with temporary_settings(own), _loss_in_one_line(name):
        yield


def _temporary() -> dict[Any, Any]:
    """Return the settings for a server that nobody else sees."""
    from prefect import settings

    return {
        settings.PREFECT_API_URL: _url,
        # nobody can read them there
        settings.PREFECT_LOGGING_TO_API_ENABLED: False,
        # nobody looks for lost runs there, and each flow would wait a second for its last heartbeat
        settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        # the server wants no such token, and every new client would first ask for one
        settings.PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False,
        # once is enough for a connection that was closed as idle; a killed server does not come back
        settings.PREFECT_CLIENT_MAX_RETRIES: 1,
    }


def _check(url: str, patience: float, fault: TrxasError) -> None:
    """Raise an error unless a server answers within some seconds."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=patience):  # noqa: S310 (own address, or the user's own)
            return
    except urllib.error.HTTPError:
        # a refusal is an answer: the server may want a password
        return
    except OSError as error:
        raise fault from error


@contextmanager
def _loss_in_one_line(name: str) -> Iterator[None]:
    """Raise one line that names the server if the block ends because it cannot be reached."""
    try:
        yield
    except TrxasError:
        raise
    except Exception as error:
        lost = transport_error_in(error)
        if lost is None:
            raise
        raise TrxasError(
            f"{name} went away ({str(lost) or type(lost).__name__}); what is finished is kept: run the same command again"
        ) from error


def transport_error_in(error: BaseException) -> TransportError | None:
    """Return the transport error behind an error, if there is one; an HTTP status, even a refusal, is none."""
    from httpx import TransportError

    return next((e for e in causes(error) if isinstance(e, TransportError)), None)


def retry_while_unreachable(task: Task[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a task, and run it again while the server that has to permit it cannot be reached.

    Prefect asks for that permission (limits on the task's tags) once, and outside the task's own retries. A temporary
    server that was killed does not come back.
    """
    for pause in PAUSES if lasting() else []:
        try:
            return task(*args, **kwargs)
        except Exception as error:
            if transport_error_in(error) is None:
                raise
            log.warning("%s: cannot reach the Prefect server; trying again in %.0f s", task.name, pause)
            time.sleep(pause)
    return task(*args, **kwargs)
