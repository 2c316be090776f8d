"""Clean up after killed publishers: unfinished versions are removed once their owner is known to be dead."""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from pipeline.storage import owners
from pipeline.storage.places import Place, Remote

__all__ = ["CLAIM", "was_abandoned", "new_partial", "sweep", "sweep_versions"]

CLAIM = "claim-"
"""Name of the object that marks a version number as taken; it holds the owner."""
_PARTIAL = ".partial-"
_ABANDONED = "abandoned"


def new_partial(aside: Path) -> Path:
    """Return the folder in which this process prepares a version; its name identifies the owner."""
    return aside / f"{_PARTIAL}{owners.label()}-{secrets.token_hex(4)}"


def sweep(aside: Place) -> None:
    """Remove preparation folders of dead processes; a URL has none."""
    if not isinstance(aside, Path):
        return
    for partial in aside.glob(f"{_PARTIAL}*"):
        with suppress(FileNotFoundError):
            age = time.time() - partial.stat().st_mtime
            if owners.is_label_of_dead(partial.name.removeprefix(_PARTIAL), age):
                shutil.rmtree(partial, ignore_errors=True)


def sweep_versions(unfinished: Iterable[Remote]) -> None:
    """Remove the objects of versions that the dead did not finish.

    Their numbers stay taken, by the mark and by a note: of two processes that clean up at once, the slower must not find
    somebody else's version there.
    """
    for version in unfinished:
        found = {p.name: p for p in version.iterdir()}
        marks = [name for name in found if name.startswith(CLAIM)]
        if len(marks) != 1 or len(found) == 1 or not _is_of_dead(found[marks[0]]):
            continue
        (version / _ABANDONED).write_text(datetime.now(UTC).isoformat())
        for name, left in found.items():
            if name not in (*marks, _ABANDONED):
                left.remove()


def was_abandoned(version: Remote) -> bool:
    """Return whether other processes considered the owner of a version dead."""
    return (version / _ABANDONED).is_file()


def _is_of_dead(mark: Remote) -> bool:
    try:
        owner = json.loads(mark.read_text())
        known = owners.is_alive(owner)
        age = datetime.now(UTC) - datetime.fromisoformat(owner["since"])
    except (OSError, ValueError, KeyError, TypeError):
        # removed meanwhile, or not ours
        return False
    return age.total_seconds() > owners.FORGOTTEN if known is None else not known
