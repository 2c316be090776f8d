"""The ledger of a run being reduced: one file per finished block of trains, so that a killed run can resume.

The folder stands beside the run's stores and is gone when the run is finished. An entry is written aside and renamed after
the block's chunk of the cube is in its place, by whoever worked on the block: what has an entry is done, what has none is
done again, which gives the same bytes. Entries of other inputs, options or code carry another key and do not count.

Sums over a whole run (a dark run: per memory cell and pixel, far more than a block of its frames) are not entered block by
block but as they stand after so many trains, the former ones removed; `CheckpointThrottle` says when that is worth its time.
"""

from __future__ import annotations

import json
import shutil
import time
import uuid
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.storage.hashes import write_json

__all__ = ["Ledger", "Result", "CheckpointThrottle"]

Result = dict[str, np.ndarray]
"""Result of a block: arrays by name, trains first."""

_HEAD = "ledger.json"
_KEY, _SIZE, _NAMES = "key", "chunk_bytes", "names"

SHARE = 0.05
"""Maximum fraction of the time spent on writing checkpoints of sums."""
FIRST_GUESS = 0.5e9
"""Assumed write speed before the first checkpoint [bytes/s]."""


@dataclass(frozen=True)
class Ledger:
    """The finished blocks of a key in a folder; a plain value that can be pickled to workers."""

    folder: Path
    key: str

    @property
    def is_open(self) -> bool:
        """Whether work with this key has begun: the cube that its blocks fill is there."""
        try:
            return bool(json.loads((self.folder / _HEAD).read_text(encoding="utf-8"))["key"] == self.key)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def begin(self) -> None:
        """Start without finished blocks; call it after creating the cube that the blocks fill."""
        self.remove()
        write_json(self.folder / _HEAD, {"key": self.key})

    def remove(self) -> None:
        """Discard all blocks."""
        # without its head file a ledger is invalid, whatever else is left of it
        (self.folder / _HEAD).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, number: int, result: Result, chunk_bytes: int = 0) -> None:
        """Record a finished block by its position, with the size of the chunk of the cube that it filled."""
        partial = self.folder / f".{uuid.uuid4().hex}.npz"
        entry = {**result, _KEY: np.array(self.key), _SIZE: np.array(chunk_bytes), _NAMES: np.array(sorted(result))}
        try:
            np.savez(partial, allow_pickle=False, **entry)
            partial.replace(self.folder / f"{number:06d}.npz")
        except FileNotFoundError:
            raise self.taken_over() from None

    def replace(self, number: int, result: Result) -> None:
        """Enter what stands for the first `number` blocks together; entries for fewer go."""
        self.add(number, result)
        for path in self.folder.glob("[0-9]*.npz"):
            if int(path.stem) < number:
                path.unlink(missing_ok=True)

    def taken_over(self) -> DataError:
        """Return the error of a worker whose ledger is gone."""
        return DataError(f"{self.folder}: another process works on this run with other settings; wait for it to end")

    def finished(self) -> dict[int, tuple[Result, int]]:
        """Return results and chunk size of the finished blocks by number; damaged entries are skipped."""
        if not self.is_open:
            return {}
        found = {}
        for path in sorted(self.folder.glob("[0-9]*.npz")):
            entry = _unpacked(path)
            if entry is None:
                continue
            key, size, _ = str(entry.pop(_KEY)), int(entry.pop(_SIZE)), entry.pop(_NAMES)
            if key == self.key:
                found[int(path.stem)] = entry, size
        return found


class CheckpointThrottle:
    """Decides when sums of `size` bytes are written again, so that checkpoints take only a small fraction of the time."""

    def __init__(self, size: int):
        self._cost = size / FIRST_GUESS
        self._last = time.monotonic()

    @property
    def due(self) -> bool:
        """Whether enough time has passed since the last checkpoint."""
        return time.monotonic() - self._last >= self._cost / SHARE

    def enter(self, ledger: Ledger, number: int, result: Result) -> None:
        """Write a checkpoint of the sums and measure how long it takes."""
        begun = time.monotonic()
        ledger.replace(number, result)
        self._last = time.monotonic()
        self._cost = self._last - begun


def _unpacked(path: Path) -> Result | None:
    """Return the arrays of a file, or None if it is not there as it was written."""
    try:
        with zipfile.ZipFile(path) as container:
            # numpy checks the sums of what it reads only, and how much that is stands in the file too
            if container.testzip() is not None:
                return None
        with np.load(path, allow_pickle=False) as stored:
            found = {name: stored[name] for name in stored.files}
        # a damaged index may leave some out
        return found if {_KEY, _SIZE, *found[_NAMES].tolist()} == found.keys() - {_NAMES} else None
    except Exception:  # zipfile and numpy raise many kinds for a damaged file
        return None
