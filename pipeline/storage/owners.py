"""Ownership of files and folders: which process created them and whether it is alive; leftovers of dead ones may be removed.

A process is identified by its host since boot, its pid and its start time, so that a later one with the same pid is not
mistaken for it. Of a process on another host only the age of its last sign of life is known.
"""

from __future__ import annotations

import hashlib
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["boot_of", "is_alive", "is_label_of_dead", "label", "this_process"]

FORGOTTEN = 24 * 3600.0
"""Age after which leftovers of a process on another host count as abandoned [s]; publishing takes minutes."""


def this_process() -> dict[str, Any]:
    """Return what identifies this process, and the time."""
    since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {"pid": os.getpid(), "started": _started(os.getpid()), "host": boot_of(), "since": since}


def is_alive(owner: dict[str, Any]) -> bool | None:
    """Return whether the process described by a `this_process()` record is alive; None if it is on another host."""
    if owner["host"] == boot_of():
        if owner["started"] is not None:
            return _started(owner["pid"]) == owner["started"]
        with suppress(OSError):
            os.kill(owner["pid"], 0)
            return True
        return False
    return False if owner["host"].partition(" ")[0] == socket.gethostname() else None


def label() -> str:
    """Return a part of a file name that identifies this process as the owner."""
    mine = this_process()
    return f"{_short(mine['host'])}-{mine['pid']}-{mine['started'] or 0}"


def is_label_of_dead(text: str, age: float) -> bool:
    """Return whether the process that gave this `label()` is dead, or has given no sign of life for long.

    Anything may stand behind the label; `age` is the time since what it names was changed [s].
    """
    host, *numbers = text.split("-")[:3]
    if host != _short(boot_of()) or len(numbers) < 2 or not all(n.isdigit() for n in numbers):
        return age > FORGOTTEN
    pid, started = numbers
    return not is_alive({"host": boot_of(), "pid": int(pid), "started": started if started != "0" else None})


def boot_of() -> str:
    """Return the name of this machine since it was booted: processes of an earlier boot are dead."""
    try:
        return f"{socket.gethostname()} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()[:8]}"
    except OSError:
        return socket.gethostname()


def _short(host: str) -> str:
    return hashlib.blake2b(host.encode(), digest_size=4).hexdigest()


def _started(pid: int) -> str | None:
    """Return when a process started, in ticks since boot; None if it is not alive or the system does not say."""
    try:
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else fields[18]
