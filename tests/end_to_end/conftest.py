"""One run of the real command over a simulated experiment, shared by the tests that only look at the result."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


def trxas(*arguments, cwd=None, home=None):
    """Run the command as a person would; returns the finished process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {"OMP_NUM_THREADS": "1"}
    if home is not None:
        environment["PREFECT_HOME"] = str(home)
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
    root = Path(__file__).parents[2]
    environment["PYTHONPATH"] = str(root)
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280, check=False)


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory):
    return tmp_path_factory.mktemp("prefect")


@pytest.fixture(scope="session")
def processed(tiny, tmp_path_factory, prefect_home):
    """Return the output folder and the process of `trxas process` on the tiny experiment."""
    out = tmp_path_factory.mktemp("processed")
    done = trxas("process", tiny.out / "config.yaml", "--out", out, home=prefect_home)
    assert done.returncode == 0, done.stderr
    return out, done
