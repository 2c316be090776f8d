"""Progress bars on stderr for whatever runs now; tasks run in threads, so there is one per process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

__all__ = ["Tell", "percent", "shown", "tell"]

Tell = Callable[[str, int, int], None]
"""Called with a label, what was done and what there is to do."""

_bars: Progress | None = None
_tasks: dict[str, TaskID] = {}


@contextmanager
def shown(enabled: bool) -> Iterator[None]:
    """Show bars while the block runs; where stderr is not a terminal nothing is drawn."""
    global _bars
    console = Console(stderr=True)
    if not enabled or not console.is_terminal:
        yield
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
    if _bars is None:
        return
    if text not in _tasks:
        _tasks[text] = _bars.add_task(text, total=total)
    _bars.update(_tasks[text], completed=done, total=total)


def percent(done: int, total: int) -> float:
    """Return how much of a piece of work is done [%]."""
    return 100.0 * done / total if total > 0 else 100.0
