"""Exclusive access to an output folder, on any file system: a claim that ends with its process.

A claim is a numbered file such as `.claims/000007` that names its owner. It is created atomically by a hard link, which
fails if the number exists, so exactly one of several competing processes gets the next number. A claim ends when its owner
marks the file as ended or is dead: on the same host, when no process has its pid and start time; on another host, when
the file has not been touched for `LOST` seconds. The next owner takes the next number and removes lower ones. Numbers
never decrease, so a process acting on a stale listing finds a higher number and gives way. No file-system lock is needed.
"""

from __future__ import annotations

import json
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import BusyError, ConfigError, is_transient
from pipeline.storage import owners

__all__ = ["claimed"]

_NAME = re.compile(r"\d{6,}")
BEAT = 30.0
"""Interval between heartbeats [s]."""
LOST = 600.0
"""Time without a heartbeat after which an owner on another host counts as dead [s]; clocks may differ."""

PAUSE = 0.2
"""Polling interval while another process holds the claim [s]."""

_held: dict[Path, int] = {}
_guard = threading.Lock()


@contextmanager
def claimed(folder: Path, what: str, *, wait: float | None = None) -> Iterator[None]:
    """Hold the claim on a folder, to which no other process may write meanwhile; re-entrant within a process.

    `what` describes the work to other processes; waits up to `wait` seconds for another owner.

    Raises
    ------
    BusyError
        If another process holds the claim; the message names its pid, host and work.
    """
    folder = folder.resolve() / ".claims"
    with _guard:
        mine = folder in _held
        _held[folder] = _held.get(folder, 0) + 1
    try:
        if mine:
            yield
            return
        path = _take(folder, what, time.monotonic() + (wait or 0.0))
        over = threading.Event()
        beat = threading.Thread(target=_beat, args=(path, over), daemon=True)
        beat.start()
        try:
            yield
        finally:
            over.set()
            beat.join()
            _end(path)
    finally:
        with _guard:
            _held[folder] -= 1
            if not _held[folder]:
                del _held[folder]


def _take(folder: Path, what: str, until: float) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if is_transient(error):
            raise
        raise ConfigError(
            f"--out: {folder.parent} cannot be written to ({error.strerror}); name another folder"
        ) from None
    while True:
        number, owner = _highest(folder)
        if owner is None or not _alive(folder / _name(number), owner):
            path = _make(folder, number + 1, what)
            if path is not None:
                return path
            continue
        if time.monotonic() >= until:
            raise BusyError(
                f"{folder.parent}: process {owner['pid']} on {owner['host']} works here ({owner['what']}, since {owner['since']})"
            )
        time.sleep(PAUSE)


def _name(number: int) -> str:
    return f"{number:06d}"


def _numbers(folder: Path) -> list[int]:
    return sorted(int(p.name) for p in folder.iterdir() if _NAME.fullmatch(p.name))


def _highest(folder: Path) -> tuple[int, dict[str, Any] | None]:
    """Return the highest claim number and its owner; None if that claim has ended."""
    for number in reversed(_numbers(folder)):
        try:
            owner = json.loads((folder / _name(number)).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        return number, None if owner["ended"] else owner
    return 0, None


def _make(folder: Path, number: int, what: str) -> Path | None:
    """Create a claim; return None if another process was faster."""
    path, draft = folder / _name(number), folder / f".{_name(number)}.{os.getpid()}.{socket.gethostname()}"
    draft.write_text(json.dumps(owners.this_process() | {"what": what, "ended": False}), encoding="utf-8")
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return None
    finally:
        draft.unlink()
    numbers = _numbers(folder)
    if numbers[-1] > number:
        # the number was free only because later owners removed it; they may have removed this one as well
        path.unlink(missing_ok=True)
        return None
    for lower in numbers[:-1]:
        with suppress(FileNotFoundError):
            (folder / _name(lower)).unlink()
    return path


def _alive(path: Path, owner: dict[str, Any]) -> bool:
    known = owners.is_alive(owner)
    if known is not None:
        return known
    try:
        return time.time() - path.stat().st_mtime < LOST
    except FileNotFoundError:
        return False


def _beat(path: Path, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with suppress(OSError):
            os.utime(path)


def _end(path: Path) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}.ended")
    draft.write_text(json.dumps({"ended": True}), encoding="utf-8")
    draft.replace(path)
