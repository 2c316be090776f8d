"""A process that dies: from some write on nothing is written any more below a folder, whatever still tries to."""

import os
import sys
from contextlib import contextmanager

from pipeline.storage import store

_WRITES = {"os.rename": 2, "os.mkdir": 1, "os.remove": 1, "os.rmdir": 1, "os.link": 2}
"""Events of Python's audit hooks that change a file system, and how many paths they have."""


class Killed(BaseException):
    """No program catches it, as none catches SIGKILL."""


class _Death:
    def __init__(self):
        self.folder, self.left = None, None

    def seen(self, event, args):
        if self.folder is None:
            return
        if event == "open":
            path, mode, flags = args
            writes = (mode is not None and set(mode) & set("wax+")) or (
                mode is None and flags & (os.O_WRONLY | os.O_RDWR)
            )
            paths = [path] if writes else []
        else:
            paths = args[: _WRITES.get(event, 0)]
        if any(str(path).startswith(self.folder) for path in paths):
            self.count()

    def count(self):
        self.left -= 1
        if self.left < 0:
            raise Killed


_death = _Death()
_hooked = []


@contextmanager
def killed_at_write(folder, number):
    """Let everything below a folder be written until the write of a number; yields a list that holds True if it came to that."""
    if not _hooked:
        # a hook cannot be taken away
        sys.addaudithook(_death.seen)
        _hooked.append(True)
    swap, died = store.exchange, []

    def exchange(one, other):
        _death.count()
        return swap(one, other)

    _death.folder, _death.left, store.exchange = str(folder), number, exchange
    try:
        yield died
    except Killed:
        died.append(True)
    finally:
        _death.folder, store.exchange = None, swap
