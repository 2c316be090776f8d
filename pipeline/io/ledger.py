"""The ledger of a run being reduced: one small file per finished block of trains, so that a killed run goes on.

The folder stands beside the run's stores and is gone when the run is finished. An entry is written aside and renamed after
the block's chunk of the cube is in its place, by whoever worked on the block: what has an entry is done, what has none is
done again, which gives the same bytes. Entries of other inputs, options or code carry another key and do not count.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.errors import DataError
from pipeline.provenance import write_json

__all__ = ["Ledger", "Result"]

Result = dict[str, np.ndarray]
"""What a block gives: arrays by name, trains first."""

_HEAD = "ledger.json"
_KEY, _SIZE = "key", "chunk_bytes"
_CHECK_BYTES = 16


@dataclass(frozen=True)
class Ledger:
    """The finished blocks in a folder that belong to a key; a plain value that can be sent to workers."""

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
        """Start with no finished blocks; call it when what the blocks fill is there."""
        self.remove()
        write_json(self.folder / _HEAD, {"key": self.key})

    def remove(self) -> None:
        """Forget all blocks."""
        # without its head a ledger counts for nothing, however much of it is left
        (self.folder / _HEAD).unlink(missing_ok=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def add(self, number: int, result: Result, chunk_bytes: int = 0) -> None:
        """Enter a finished block.

        Parameters
        ----------
        number
            Position of the block.
        result
            What it gave.
        chunk_bytes
            Size of the chunk of the cube that it filled; 0 for none.
        """
        partial = self.folder / f".{uuid.uuid4().hex}.partial"
        entry = {**result, _KEY: np.array(self.key), _SIZE: np.array(chunk_bytes)}
        try:
            partial.write_bytes(_packed(entry))
            partial.replace(self.folder / f"{number:06d}.npz")
        except FileNotFoundError:
            raise self.taken_over() from None

    def taken_over(self) -> DataError:
        """Return the error of a worker whose ledger is gone."""
        return DataError(f"{self.folder}: another process works on this run with other settings; wait for it to end")

    def finished(self) -> dict[int, tuple[Result, int]]:
        """Return results and chunk size of the finished blocks by number; damaged entries are not among them."""
        if not self.is_open:
            return {}
        found = {}
        for path in sorted(self.folder.glob("[0-9]*.npz")):
            entry = _unpacked(path)
            if entry is None:
                continue
            key, size = str(entry.pop(_KEY)), int(entry.pop(_SIZE))
            if key == self.key:
                found[int(path.stem)] = entry, size
        return found


def _packed(arrays: Result) -> bytes:
    content = io.BytesIO()
    np.savez(content, allow_pickle=False, **arrays)
    return content.getvalue() + _checksum(content.getvalue())


def _unpacked(path: Path) -> Result | None:
    """Return the arrays of a file, or None if it is not there as it was written."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    content, checksum = content[:-_CHECK_BYTES], content[-_CHECK_BYTES:]
    if checksum != _checksum(content):
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


def _checksum(content: bytes) -> bytes:
    # of the whole: the sums inside the container do not cover how long its arrays are
    return hashlib.blake2b(content, digest_size=_CHECK_BYTES).digest()
