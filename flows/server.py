"""A temporary Prefect API for one process, started early and gone with it; where a server is configured, that one is used.

Prefect would start its own, later and slower: it imports the whole server into the calling process as well, polls a port
that it guessed, and leaves the server behind when the process is killed. This one (`flows.serving`) gets a socket that
stays open here: the first request waits until the server is ready, and those that come while a killed one is replaced
wait too.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.errors import ConfigError, TrxasError

__all__ = ["lasting", "running", "start", "stop"]

log = logging.getLogger("trxas")

PATIENCE = 120.0
"""Seconds that a loaded machine may take until the server answers."""

REPLACEMENTS = 5
"""Servers that take over from a killed one; where more are killed, another one would be too."""

_OWN = {
    # the names are Prefect's own for its temporary server: no web pages, few services
    "PREFECT_UI_ENABLED": "0",
    "PREFECT__SERVER_EPHEMERAL": "1",
    "PREFECT__SERVER_FINAL": "1",
    # neither blocks nor automations are used, and looking for them imports half of what is installed
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
}


class _Temporary:
    """A temporary server: the process that serves now, and the address that outlives it."""

    def __init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/api"
        self.lock = threading.Lock()
        self.answered = False
        self.left = False
        self.over = False
        self.fault = ""
        # of now: a replacement must find the same records, whatever is set later
        self.environment = {**os.environ, **_OWN}
        self.process = self._started()
        self.first = threading.Thread(target=self._ask, daemon=True)
        self.first.start()
        threading.Thread(target=self._keep, daemon=True).start()

    def _started(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603 (our own module)
            [sys.executable, "-m", "flows.serving", str(self.listener.fileno())],
            env=self.environment,
            stdin=subprocess.PIPE,
            pass_fds=(self.listener.fileno(),),
            # the terminal's Ctrl-C is for us; the server must outlive it to record what became of the run
            start_new_session=True,
        )

    def _ask(self) -> None:
        # the first request to the API itself, not to its /health, costs a fifth of a second: it passes while others import
        try:
            with urllib.request.urlopen(f"{self.url}/admin/version", timeout=PATIENCE):  # noqa: S310 (own address)
                self.answered = True
        except OSError as error:
            self.fault = str(error)

    def _keep(self) -> None:
        """Let another one take over from a server that was killed: address and records stay, flows wait a moment."""
        for _ in range(REPLACEMENTS):
            self.process.wait()
            with self.lock:
                if self.left or not self.answered:
                    break
                self._let_go()
                self.process = self._started()
            log.warning("Prefect's temporary server was killed; another one takes over")
        # who still waits is told
        self.listener.close()
        self.over = True

    def leave(self) -> None:
        """Tell the server to end when it has written what it was sent."""
        with self.lock:
            if self.left:
                return
            self.left = True
        _drain()
        self._let_go()

    def _let_go(self) -> None:
        if self.process.stdin is not None:
            self.process.stdin.close()

    def wait(self) -> None:
        """Wait until the server has ended."""
        try:
            self.process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


_temporary: _Temporary | None = None


def lasting() -> bool:
    """Return whether a Prefect server is used that others use too: one named by environment, profile or project."""
    return _temporary is None and bool(_configured())


def _configured() -> str:
    from prefect.settings import get_current_settings

    return get_current_settings().api.url or ""


def start() -> None:
    """Begin to start the temporary server and return at once; nothing happens where PREFECT_API_URL names a server."""
    global _temporary
    # whether a profile or the project names a server is known when prefect is imported, which this need not wait for:
    # then the new process ends at once
    if (_temporary is None or _temporary.over) and not os.environ.get("PREFECT_API_URL"):
        _temporary = _Temporary()
        atexit.register(_temporary.leave)


def stop() -> None:
    """End the temporary server, if there is one, and wait until it has."""
    global _temporary
    temporary, _temporary = _temporary, None
    if temporary is not None:
        temporary.leave()
        temporary.wait()


@contextmanager
def running() -> Iterator[str]:
    """Hold an API for the flows of the block: the configured server, or the temporary one.

    Yields the address of the temporary API, or an empty string where a server is configured.

    Raises
    ------
    ConfigError
        If nothing listens at the configured address.
    TrxasError
        If the temporary server does not answer, or a server goes away for longer than Prefect asks again.
    """
    if configured := _configured():
        stop()
        _answers(configured)
        with _told(configured):
            yield ""
        return
    start()
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )

    url = _ready()
    own = {
        PREFECT_API_URL: url,
        # nobody looks for lost runs in a server that goes with them, and each flow would wait a second for its last beat
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        # this server asks for no such token, and every new client would ask for one first
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False,
    }
    with temporary_settings(own), _told("this process's own address"):
        yield url


@contextmanager
def _told(where: str) -> Iterator[None]:
    """Tell in one line that the server went away while it was needed."""
    from flows.steady import away

    try:
        yield
    except TrxasError:
        raise
    except Exception as error:
        gone = away(error)
        if gone is None:
            raise
        raise TrxasError(
            f"the Prefect server at {where} went away ({str(gone) or type(gone).__name__}); what is finished is kept: run the "
            "same again when it is back"
        ) from error


def _ready() -> str:
    """Return the address of the temporary server when it answers."""
    if _temporary is None:
        raise TrxasError("PREFECT_API_URL names no server, and there is no temporary one")
    _temporary.first.join()
    if _temporary.answered:
        return _temporary.url
    fault = _temporary.fault
    stop()
    raise TrxasError(
        f"Prefect's temporary server does not answer ({fault}); is PREFECT_HOME a folder that can be written, on a "
        "local disk? `trxas doctor` tells"
    )


def _answers(url: str) -> None:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=10):  # noqa: S310 (the user's own address)
            return
    except urllib.error.HTTPError:
        return
    except OSError as error:
        raise ConfigError(
            f"PREFECT_API_URL: no Prefect server answers at {url} ({error}); start it, or unset PREFECT_API_URL"
        ) from None


def _drain() -> None:
    """Send what is still waiting in this process: the last states and logs."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    EventsWorker.drain_all(timeout=5)
    APILogWorker.drain_all(timeout=5)
