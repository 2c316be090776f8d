"""The process that is the temporary Prefect API: it serves on a socket that it was handed, until its standard input ends.

Started by `flows.server` as `python -m flows.serving DESCRIPTOR`.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from flows.starting import importing

__all__ = ["patient", "prepare", "serve"]

ATTEMPTS = 1000
PAUSE = 0.02
"""Seconds until a request is made again that found the database locked."""


@contextmanager
def prepare(home: Path, version: str) -> Iterator[None]:
    """Hold a lock while the database of a Prefect home is first made: two at once would spoil it."""
    home.mkdir(parents=True, exist_ok=True)
    made = home / f".trxas-database-{version}"
    if made.exists() and (home / "prefect.db").exists():
        yield
        return
    with (home / ".trxas-database.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
        made.touch()


def patient(app: Any) -> Any:
    """Wrap an ASGI app: a request that finds the database locked by another process is made again, unseen by its sender.

    SQLite refuses a transaction that began to read before another one wrote. Prefect's client would wait for two seconds
    and more, several times in a run, and give up after a few.
    """

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        body = await _body(receive)
        for attempt in range(1, ATTEMPTS + 1):
            answer: list[Any] = []
            try:
                # what handles a request writes into its scope
                await app(dict(scope), _again(body, receive), _into(answer))
            except Exception:
                # raised for those who keep a log, after it was answered
                if not answer:
                    raise
            # nothing was answered to who has hung up
            if not answer or answer[0].get("status") != 503 or attempt == ATTEMPTS:
                break
            await asyncio.sleep(PAUSE)
        for message in answer:
            await send(message)

    return wrapped


async def _body(receive: Any) -> bytes:
    parts = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


def _again(body: bytes, receive: Any) -> Any:
    unread = [{"type": "http.request", "body": body, "more_body": False}]

    async def read() -> Any:
        return unread.pop() if unread else await receive()

    return read


def _into(answer: list[Any]) -> Any:
    async def write(message: Any) -> None:
        answer.append(message)

    return write


def _use_one_connection() -> None:
    """Let Prefect's server make a database engine of one connection, as it does itself for a database in memory.

    With several, one that waits for another's lock holds a mutex of SQLite. If a cursor of it is then collected as garbage
    in the event loop, the loop stands still, the other never commits, and all wait for the lock's timeout of a minute,
    again and again.
    """
    from prefect.server.database import configurations
    from sqlalchemy.ext.asyncio import create_async_engine
    from sqlalchemy.pool import AsyncAdaptedQueuePool

    one = partial(create_async_engine, poolclass=AsyncAdaptedQueuePool, pool_size=1, max_overflow=0)
    vars(configurations)["create_async_engine"] = one


def serve(descriptor: int) -> None:
    """Serve on a socket until standard input ends; returns at once where settings or profile name a server."""
    with importing():
        from prefect.settings import get_current_settings
    if get_current_settings().api.url:
        return
    with importing():
        import prefect
        import uvicorn
        from prefect.server.api.server import create_app

        _use_one_connection()
        app = patient(create_app())

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
    serve(int(sys.argv[1]))
