"""Importing much at once, quickly."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["importing"]


@contextmanager
def importing() -> Iterator[None]:
    """Import in the block without looking for garbage, and never look through what was imported.

    Modules, classes and validators stay until the end. Looking through them again and again takes a third of the time
    of importing Prefect after numba, and would go on during the work.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
