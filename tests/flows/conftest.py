"""A Prefect API for flow tests: the temporary server that the command uses, in a home of its own."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def api(prefect_home):
    """Return a client of a temporary server that all flows of the session talk to."""
    from prefect.client.orchestration import get_client

    from flows import server

    former = os.environ.get("PREFECT_HOME")
    os.environ["PREFECT_HOME"] = str(prefect_home)
    server.start()
    try:
        with server.running() as url:
            assert url.startswith("http://127.0.0.1:")
            with get_client(sync_client=True) as client:
                yield client
    finally:
        server.stop()
        os.environ.pop("PREFECT_HOME")
        if former is not None:
            os.environ["PREFECT_HOME"] = former


def aged(folder: Path, seconds: float = 3600.0) -> None:
    """Make all files of a folder as old as those of runs that were closed long ago."""
    for path in folder.rglob("*.h5"):
        stat = path.stat()
        os.utime(path, (stat.st_atime, stat.st_mtime - seconds))
