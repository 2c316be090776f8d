"""The process that is the temporary Prefect API; `flows.server` starts it as `python -m flows.serving DESCRIPTOR`.

Its records are in memory, for which Prefect uses a single connection. With several connections to a SQLite file Prefect's
server stands still for a minute by chance, or for ever (docs/decisions/0001-temporary-prefect-server.md).
"""

from __future__ import annotations

import os
import socket
import sqlite3
import sys
import threading
from contextlib import closing, suppress
from pathlib import Path

from flows import compat

__all__ = ["serve"]

SETTINGS = {
    "PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///file::memory:?cache=shared&uri=true&check_same_thread=false",
    # blocks and automations are not used, and discovering them imports half of the environment
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
    "PREFECT_SERVER_SERVICES_TRIGGERS_ENABLED": "false",
}


def serve(descriptor: int) -> None:
    """Serve Prefect's API on an open socket until standard input ends."""
    threading.Thread(target=_end_with_input, daemon=True).start()
    os.environ.update(SETTINGS)
    import prefect
    import uvicorn
    from prefect.settings import get_current_settings

    app = compat.prefect_app()
    if app is None:
        sys.exit(compat.NOT_SERVED)

    # this connection keeps the in-memory database alive, whatever Prefect does with its own
    records = sqlite3.connect("file::memory:?cache=shared", uri=True, check_same_thread=False)
    tables = get_current_settings().home / f"trxas-tables-{prefect.__version__}.db"
    _load(tables, records)

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if not tables.exists():
                _save(records, tables)

    config = uvicorn.Config(app, log_level="critical", lifespan="on")
    Server(config).run(sockets=[socket.socket(fileno=descriptor)])


def _load(path: Path, records: sqlite3.Connection) -> None:
    """Load the tables saved by an earlier server; if that fails, Prefect creates them again."""
    if path.exists():
        try:
            with closing(sqlite3.connect(path)) as file:
                file.backup(records)
        except sqlite3.Error:
            path.unlink()


def _save(records: sqlite3.Connection, path: Path) -> None:
    """Save the empty tables that Prefect created: creating them takes seconds, loading them a tenth of a second."""
    unfinished = path.with_suffix(f".{os.getpid()}")
    with suppress(sqlite3.Error, OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(unfinished)) as file:
            records.backup(file)
        unfinished.replace(path)


def _end_with_input() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
