"""A Prefect API for flow tests."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def api(prefect_home):
    """Return a client of a Prefect server that all flows of the session take for one that is configured."""
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_FLOWS_HEARTBEAT_FREQUENCY, temporary_settings

    from flows import server

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(prefect_home))
        # started as a temporary one, which is quick, and no longer known as such
        patch.setattr(server, "_process", None)
        patch.setattr(server, "_url", "")
        with temporary_settings(restore_defaults={PREFECT_API_URL}), server.running():
            process, url = server._process, server._url
        server._process, server._url = None, ""
        # without heartbeats, for the last of which every flow waits a second
        configured = {PREFECT_API_URL: url, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None}
        with process:
            with temporary_settings(configured), server.running(), get_client(sync_client=True) as client:
                yield client
            process.kill()


def aged(folder: Path, seconds: float = 3600.0) -> None:
    """Make all files of a folder as old as those of runs that were closed long ago."""
    for path in folder.rglob("*.h5"):
        stat = path.stat()
        os.utime(path, (stat.st_atime, stat.st_mtime - seconds))
