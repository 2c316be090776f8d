"""`trxas doctor`: what would prevent a run on this machine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from pipeline.storage.hashes import code_version, environment

__all__ = ["examine"]

LOW_DISK = 5e9


def examine() -> tuple[str, list[str]]:
    """Return a report and the faults, one line each."""
    faults = []
    lines = [f"trxas {code_version()}", *(f"  {name:12s} {version}" for name, version in environment().items())]
    free = shutil.disk_usage(Path.cwd()).free
    lines.append(f"disk here     {free / 1e9:.0f} GB free")
    if free < LOW_DISK:
        faults.append(f"only {free / 1e9:.1f} GB free in {Path.cwd()}: frames cubes need about half the size of raw")
    lines.append(f"processors    {len(os.sched_getaffinity(0))}")
    pages, size = os.sysconf("SC_AVPHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    lines.append(f"memory        {pages * size / 1e9:.1f} GB available")
    variables = ("PREFECT_API_URL", "PREFECT_HOME", "HDF5_USE_FILE_LOCKING", "DO_NOT_TRACK")
    lines += [f"{name:22s} {os.environ.get(name, '(not set)')}" for name in variables]
    home = Path(os.environ.get("PREFECT_HOME", Path.home() / ".prefect"))
    parent = next(p for p in (home, *home.parents) if p.exists())
    if not os.access(parent, os.W_OK):
        faults.append(f"PREFECT_HOME {home} cannot be written; set PREFECT_HOME to a folder of yours")
    lines.append("no fault found" if not faults else f"{len(faults)} fault(s)")
    return "\n".join(lines), faults
