"""What is told on stderr while something runs: bars on a terminal, lines with times elsewhere (logs, CI).

Tasks run in threads, so there is one display per process.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import wraps
from typing import ParamSpec, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Tell", "percent", "shown", "tell", "timed"]

Tell = Callable[[str, int, int], None]
"""Called with a label, what was done and what there is to do."""

EVERY = 30.0
"""Seconds between lines about a piece of work that goes on: a log shall show that it lives, and stay readable."""

P = ParamSpec("P")
T = TypeVar("T")

_bars: Progress | None = None
_tasks: dict[str, TaskID] = {}
_lines = False
_told: dict[str, tuple[float, float]] = {}
"""When each piece of work began, and when a line about it was last written."""


@contextmanager
def shown(enabled: bool) -> Iterator[None]:
    """Show progress while the block runs."""
    global _bars, _lines
    console = Console(stderr=True)
    if not enabled:
        yield
        return
    if not console.is_terminal:
        _lines = True
        _told.clear()
        try:
            yield
        finally:
            _lines = False
        return
    columns = (TextColumn("{task.description:24s}"), BarColumn(), TextColumn("{task.percentage:3.0f} %"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bars:
        _bars = bars
        _tasks.clear()
        try:
            yield
        finally:
            _bars = None


def tell(text: str, done: int, total: int) -> None:
    """Report how far a piece of work is."""
    if _bars is not None:
        if text not in _tasks:
            _tasks[text] = _bars.add_task(text, total=total)
        _bars.update(_tasks[text], completed=done, total=total)
    elif _lines:
        now = time.monotonic()
        began, last = _told.setdefault(text, (now, now))
        if done < total and now - last >= EVERY:
            _told[text] = (began, now)
            _write(f"{text}: {percent(done, total):.0f} %")


def timed(name: Callable[P, str], work: Callable[P, T]) -> Callable[P, T]:
    """Return a function that also writes a line with its name and time when it is done; `name` gets its arguments.

    What returns False had nothing to do.
    """

    @wraps(work)
    def told(*args: P.args, **kwargs: P.kwargs) -> T:
        began = time.monotonic()
        result = work(*args, **kwargs)
        if _lines:
            _write(
                f"{name(*args, **kwargs)}: {'is current' if result is False else f'{time.monotonic() - began:.1f} s'}"
            )
        return result

    return told


def _write(line: str) -> None:
    sys.stderr.write(f"INFO {datetime.now().astimezone():%H:%M:%S} {line}\n")
    sys.stderr.flush()


def percent(done: int, total: int) -> float:
    """Return how much of a piece of work is done [%]."""
    return 100.0 * done / total if total > 0 else 100.0
