"""The real command in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path


def trxas(*arguments, cwd=None, home=None):
    """Run the command as a person would; returns the finished process."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")} | {"OMP_NUM_THREADS": "1"}
    if home is not None:
        environment["PREFECT_HOME"] = str(home)
    command = [sys.executable, "-m", "flows.cli", *map(str, arguments)]
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=280, check=False)
