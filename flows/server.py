"""A temporary Prefect API for one process, started early and gone with it; where a server is configured, that one is used.

Prefect would start its own, later and slower: it imports the whole server into the calling process as well, polls a port
that it guessed, and leaves the server behind when the process is killed. This one listens on a socket that is handed
down, so that the first request simply waits until the server is ready, and it ends when its standard input does.
"""

from __future__ import annotations

import atexit
import fcntl
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from flows.starting import importing
from pipeline.errors import ConfigError, TrxasError

__all__ = ["lasting", "prepare", "running", "start", "stop"]

PATIENCE = 120.0
"""Seconds that a loaded machine may take until the server answers."""

RETRY_AFTER = b"0.01"
"""Seconds until a client asks again that found the temporary server's database locked."""

RETRIES = 1000

_server: subprocess.Popen[bytes] | None = None
_url = ""
_asking: threading.Thread | None = None
_refused: dict[str, OSError] = {}


def lasting() -> bool:
    """Return whether a Prefect server is used that others use too: one named by environment, profile or project."""
    return _server is None and bool(_configured())


def _configured() -> str:
    from prefect.settings import get_current_settings

    return get_current_settings().api.url or ""


def start() -> None:
    """Begin to start the temporary server and return at once; nothing happens where PREFECT_API_URL names a server."""
    global _server, _url, _asking
    if _server is not None and _server.poll() is None:
        return
    # whether a profile or the project names a server is known when prefect is imported, which this need not wait for:
    # then the new process ends at once
    if os.environ.get("PREFECT_API_URL"):
        return
    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    _url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"
    # the names are Prefect's own for its temporary server: no web pages, few services
    own = {
        "PREFECT_UI_ENABLED": "0",
        "PREFECT__SERVER_EPHEMERAL": "1",
        "PREFECT__SERVER_FINAL": "1",
        # neither blocks nor automations are used, and looking for them imports half of what is installed
        "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
        "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
        "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
    }
    _server = subprocess.Popen(  # noqa: S603 (our own module)
        [sys.executable, "-m", "flows.server", str(listener.fileno())],
        env={**os.environ, **own},
        stdin=subprocess.PIPE,
        pass_fds=(listener.fileno(),),
        # the terminal's Ctrl-C is for us; the server must outlive it to record what became of the run
        start_new_session=True,
    )
    listener.close()
    atexit.register(_leave)
    _asking = threading.Thread(target=_ask, args=(_url,), daemon=True)
    _asking.start()


@contextmanager
def running() -> Iterator[str]:
    """Hold an API for the flows of the block: the configured server, or the temporary one.

    Yields the address of the temporary API, or an empty string where a server is configured.

    Raises
    ------
    ConfigError
        If nothing listens at the configured address.
    TrxasError
        If the temporary server does not answer.
    """
    if url := _configured():
        stop()
        _answers(url)
        yield ""
        return
    start()
    _wait()
    from prefect.settings import (
        PREFECT_API_URL,
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED,
        PREFECT_CLIENT_MAX_RETRIES,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        temporary_settings,
    )

    own = {
        PREFECT_API_URL: _url,
        # nobody looks for lost runs in a server that goes with them, and each flow would wait a second for its last beat
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
        # this server asks for no such token, and every new client would ask for one first
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False,
        PREFECT_CLIENT_MAX_RETRIES: RETRIES,
    }
    with temporary_settings(own):
        yield _url


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


def _ask(url: str) -> None:
    # the first request to the API itself, not to its /health, costs a fifth of a second: it passes while others import
    try:
        with urllib.request.urlopen(f"{url}/admin/version", timeout=PATIENCE):  # noqa: S310 (own address)
            return
    except OSError as error:
        _refused[url] = error


def _wait() -> None:
    if _asking is not None:
        _asking.join()
    if error := _refused.pop(_url, None):
        stop()
        raise TrxasError(
            f"Prefect's temporary server does not answer ({error}); is PREFECT_HOME a folder that can be written, on a "
            "local disk? `trxas doctor` tells"
        ) from None


def _leave() -> subprocess.Popen[bytes] | None:
    """Tell the temporary server, if there is one, to end when it has written what it was sent."""
    global _server
    server, _server = _server, None
    if server is not None and server.stdin is not None:
        _drain()
        server.stdin.close()
    return server


def stop() -> None:
    """End the temporary server, if there is one, and wait until it has."""
    server = _leave()
    if server is None:
        return
    try:
        server.wait(timeout=5)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def _drain() -> None:
    """Send what is still waiting in this process: the last states and logs."""
    if "prefect" not in sys.modules:
        return
    from prefect.events.worker import EventsWorker
    from prefect.logging.handlers import APILogWorker

    EventsWorker.drain_all(timeout=5)
    APILogWorker.drain_all(timeout=5)


@contextmanager
def prepare(home: Path, version: str) -> Iterator[None]:
    """Hold a lock while the database of a Prefect home is first made: two at once would spoil it."""
    home.mkdir(parents=True, exist_ok=True)
    made = home / f".trxas-database-{version}"
    if made.exists():
        yield
        return
    with (home / ".trxas-database.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        made.touch()


def _asking_back_soon(app: Any) -> Any:
    """Wrap an ASGI app: who finds the database locked is told to come again soon.

    SQLite refuses a transaction that began to read before another one wrote. Prefect's client then waits for two seconds
    and more, several times in a run, unless the answer names a time.
    """

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        async def answer(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start" and message["status"] == 503:
                message = {**message, "headers": [*message.get("headers", []), (b"retry-after", RETRY_AFTER)]}
            await send(message)

        await app(scope, receive, answer)

    return wrapped


def _use_one_connection() -> None:
    """Let Prefect's server make a database engine of one connection, as it does itself for a database in memory.

    With several, one that waits for another's lock holds a mutex of SQLite. If a cursor of it is then collected as garbage
    in the event loop, the loop stands still, the other never commits, and all wait for the lock's timeout of a minute, or
    for ever.
    """
    from prefect.server.database import configurations
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import AsyncAdaptedQueuePool

    one = partial(create_async_engine, poolclass=AsyncAdaptedQueuePool, pool_size=1, max_overflow=0)
    vars(configurations)["create_async_engine"] = one


def _serve(descriptor: int) -> None:
    """Serve on a socket until standard input ends."""
    with importing():
        from prefect.settings import get_current_settings
    if get_current_settings().api.url:
        return
    with importing():
        import prefect
        import uvicorn
        from prefect.server.api.server import create_app

        _use_one_connection()
        app = _asking_back_soon(create_app())

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            with prepare(get_current_settings().home, prefect.__version__):
                await super().startup(sockets)

    def leave() -> None:
        sys.stdin.buffer.read()
        # what was sent last is still being written
        time.sleep(0.3)
        server.should_exit = True
        threading.Timer(3.0, os._exit, (0,)).start()

    server = Server(uvicorn.Config(app, log_level="critical", lifespan="on"))
    threading.Thread(target=leave, daemon=True).start()
    server.run(sockets=[socket.socket(fileno=descriptor)])
    os._exit(0)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
