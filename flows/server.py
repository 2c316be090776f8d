"""The Prefect API used by the flows: the configured server, or a temporary one that ends with this process.

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

from flows import compat
from pipeline.errors import ConfigError, TrxasError, causes

if TYPE_CHECKING:
    from httpx import TransportError
    from prefect.tasks import Task

__all__ = ["is_persistent", "retry_while_unreachable", "running", "start", "transport_error_in"]

log = logging.getLogger("trxas")

STARTUP_TIMEOUT = 120.0
"""Start-up timeout of the temporary server on a loaded machine [s]."""

PAUSES = [5.0, 10.0, 20.0, 40.0, 80.0, 160.0]
"""Delays between attempts of a task [s]; their sum exceeds the time a server restart takes."""

_process: subprocess.Popen[bytes] | None = None
_url = ""


def start() -> None:
    """Start the temporary server without waiting for it; does nothing if PREFECT_API_URL is set."""
    global _process, _url
    if os.environ.get("PREFECT_API_URL") or (_process is not None and _process.poll() is None):
        return
    # the socket is open from here on: early requests wait until the server is ready
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        _url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
        _process = subprocess.Popen(  # noqa: S603 (our own module)
            [sys.executable, "-m", "flows.serving", str(listener.fileno())],
            # closed whenever and however this process ends, which stops the server
            stdin=subprocess.PIPE,
            pass_fds=(listener.fileno(),),
            # Ctrl-C must reach only this process, which still has to report the state of the run
            start_new_session=True,
        )


def is_persistent() -> bool:
    """Return whether a persistent Prefect server is configured by environment, profile or project."""
    return _configured() not in ("", _url)


def _configured() -> str:
    from prefect.settings import get_current_settings

    return get_current_settings().api.url or ""


@contextmanager
def running() -> Iterator[None]:
    """Provide a Prefect API within the block: the configured server, or the temporary one.

    Raises
    ------
    ConfigError
        If no server answers at the configured address.
    TrxasError
        If the temporary server does not start, or a server goes away for longer than Prefect retries.
    """
    own: dict[Any, Any] = {}
    if url := _configured():
        if _process is not None and url != _url:
            # started before Prefect was imported, which is when a profile or the project can name a server
            _process.kill()
        if not _answers(url, 10):
            raise ConfigError(
                f"PREFECT_API_URL: no Prefect server answers at {url}; start it, or unset PREFECT_API_URL"
            )
        name = f"the Prefect server at {url}"
    else:
        start()
        own, name = _temporary(), "Prefect's temporary server"
    from prefect.settings import temporary_settings

    with temporary_settings(own), _loss_in_one_line(name):
        yield


def _temporary() -> dict[Any, Any]:
    """Return the Prefect settings for the temporary server, once it answers."""
    from prefect import settings

    if not _answers(_url, STARTUP_TIMEOUT):
        if _process is None or _process.wait(STARTUP_TIMEOUT) != compat.NOT_SERVED:
            raise TrxasError("Prefect's temporary server does not start; `trxas doctor` may tell why")
        log.warning("this Prefect serves no temporary API to trxas (flows/compat.py); it starts one of its own, later")
        return {settings.PREFECT_SERVER_EPHEMERAL_ENABLED: True}
    return {
        settings.PREFECT_API_URL: _url,
        # its logs cannot be read by anyone
        settings.PREFECT_LOGGING_TO_API_ENABLED: False,
        # lost runs are not tracked there, and each flow would wait a second for its last heartbeat
        settings.PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        # the server needs no CSRF token, and every new client would first request one
        settings.PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False,
        # one retry covers a connection closed as idle; a killed server does not come back
        settings.PREFECT_CLIENT_MAX_RETRIES: 1,
    }


def _answers(url: str, timeout: float) -> bool:
    """Return whether a server answers in time [s]; a refusal is an answer too, as it may want a password."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=timeout):  # noqa: S310 (own address, or the user's own)
            return True
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False


@contextmanager
def _loss_in_one_line(name: str) -> Iterator[None]:
    """Raise a one-line error that names the server if the block fails because it is unreachable."""
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
    """Return the transport error among the causes of an error, if any; an HTTP error status is not one."""
    from httpx import TransportError

    return next((e for e in causes(error) if isinstance(e, TransportError)), None)


def retry_while_unreachable(task: Task[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Run a task, and retry while the Prefect server is unreachable.

    Prefect asks for that permission (limits on the task's tags) once, and outside the task's own retries. A temporary
    server that was killed does not come back.
    """
    for pause in PAUSES if is_persistent() else []:
        try:
            return task(*args, **kwargs)
        except Exception as error:
            if transport_error_in(error) is None:
                raise
            log.warning("%s: cannot reach the Prefect server; trying again in %.0f s", task.name, pause)
            time.sleep(pause)
    return task(*args, **kwargs)
