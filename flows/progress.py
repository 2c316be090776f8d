"""Progress on stderr: bars on a terminal, lines with times elsewhere (logs, CI). There is one display per process."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["percent", "report", "shown", "timed"]

EVERY = 30.0
"""Interval between log lines about the same work [s]: often enough to show that it is alive, and still readable."""

T = TypeVar("T")

_bars: Progress | None = None
_tasks: dict[str, TaskID] = {}
_lines = False
_last: dict[str, float] = {}
"""Time of the last line about each piece of work, or of its start."""


@contextmanager
def shown(enabled: bool) -> Iterator[None]:
    """Show progress while the block runs."""
    global _bars, _lines
    console = Console(stderr=True)
    _tasks.clear()
    _last.clear()
    try:
        if enabled and console.is_terminal:
            columns = (TextColumn("{task.description:24s}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
            with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as _bars:
                yield
        else:
            _lines = enabled
            yield
    finally:
        _bars, _lines = None, False


def report(text: str, done: int, total: int) -> None:
    """Report the progress of a piece of work."""
    if _bars is not None:
        if text not in _tasks:
            _tasks[text] = _bars.add_task(text, total=total)
        _bars.update(_tasks[text], completed=done, total=total)
    elif _lines:
        now = time.monotonic()
        if done < total and now - _last.setdefault(text, now) >= EVERY:
            _last[text] = now
            _write(f"{text}: {percent(done, total):.0f} %")


def timed(label: str, work: Callable[[], T]) -> T:
    """Do a piece of work and write a line with its label and time; work that returns False had nothing to do."""
    began = time.monotonic()
    result = work()
    if _lines:
        _write(f"{label}: {'is current' if result is False else f'{time.monotonic() - began:.1f} s'}")
    return result


def percent(done: int, total: int) -> float:
    """Return the share of work done [%]."""
    return 100.0 * done / total if total > 0 else 100.0


def _write(line: str) -> None:
    sys.stderr.write(f"INFO {datetime.now().astimezone():%H:%M:%S} {line}\n")
