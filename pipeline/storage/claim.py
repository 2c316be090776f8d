"""One process at a time in an output folder: a claim that outlives no process, on any file system.

A claim is a numbered file `.claims/000007` that names its owner. It is made whole and at once by a hard link, which fails
where the number is taken, so of several processes that want the next number one gets it. A claim ends when its owner says
so in the file, or is dead: on the same host, when no process with its number and starting time lives; on another host,
when the file was not touched for a while. The next owner takes the next number and removes lower ones; numbers never
go back, so a process that was slow to look finds a higher number and gives way. No lock of the file system is needed.
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
"""Seconds between signs of life."""
LOST = 600.0
"""Seconds without a sign of life after which an owner on another host counts as dead; clocks may differ."""

PAUSE = 0.2
"""Seconds between looks at another's claim."""

_held: dict[Path, int] = {}
_guard = threading.Lock()


@contextmanager
def claimed(folder: Path, what: str, *, wait: float | None = None) -> Iterator[None]:
    """Hold the claim on a folder; a process that holds it may enter again.

    Parameters
    ----------
    folder
        Where nobody else may write meanwhile.
    what
        What is being done, for others to read.
    wait
        Seconds to wait for another owner; None: not at all.

    Raises
    ------
    BusyError
        If another process has it; the message names process, host and what it does.
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
    """Return the highest claim and its owner; None where it has ended."""
    for number in reversed(_numbers(folder)):
        try:
            owner = json.loads((folder / _name(number)).read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue
        return number, None if owner["ended"] else owner
    return 0, None


def _make(folder: Path, number: int, what: str) -> Path | None:
    """Make a claim; None where another was quicker."""
    path, draft = folder / _name(number), folder / f".{_name(number)}.{os.getpid()}.{socket.gethostname()}"
    draft.write_text(json.dumps(owners.me() | {"what": what, "ended": False}), encoding="utf-8")
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return None
    finally:
        draft.unlink()
    numbers = _numbers(folder)
    if numbers[-1] > number:
        # its number was free only because later owners tidied up; they may have tidied this one too
        path.unlink(missing_ok=True)
        return None
    for lower in numbers[:-1]:
        with suppress(FileNotFoundError):
            (folder / _name(lower)).unlink()
    return path


def _alive(path: Path, owner: dict[str, Any]) -> bool:
    known = owners.lives(owner)
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
