"""Provenance: content hashes of inputs, code and options."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["FileHashes", "Identity", "code_version", "digest", "environment", "tree_hash", "write_json"]

PACKAGES = ("numpy", "scipy", "numba", "xarray", "zarr", "dask", "lmfit", "extra-data", "prefect")


def digest(content: Any) -> str:
    """Return the hash of a JSON-able object; the order of keys does not matter."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def code_version() -> str:
    """Return the version of the installed distribution."""
    return _installed("trxas") or "0+unknown"


def environment() -> dict[str, str]:
    """Return the versions of Python and of the packages that shape the numbers."""
    found = {name: version for name in PACKAGES if (version := _installed(name)) is not None}
    return {"python": platform.python_version(), **found}


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


class FileHashes:
    """Content hashes of files, remembered by size, modification time and inode in one JSON file."""

    def __init__(self, cache: Path):
        self._cache = cache
        self._known = _stored(cache)

    def of(self, path: Path) -> dict[str, Any]:
        """Return name, size and SHA-256 of a file; reads it only if it changed since the last time."""
        stat = path.stat()
        stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        known = self._known.get(str(path))
        if known is None or known[:3] != stamp:
            with path.open("rb") as stream:
                # of what is read, should another file have got the name
                stat = os.fstat(stream.fileno())
                stamp = [stat.st_size, stat.st_mtime_ns, stat.st_ino]
                known = [*stamp, hashlib.file_digest(stream, "sha256").hexdigest()]
            self._known[str(path)] = known
            # saved at once, with what others have saved meanwhile, so that a killed run does not hash a file twice
            write_json(self._cache, {**_stored(self._cache), **self._known})
        return {"name": path.name, "size": stat.st_size, "sha256": known[3]}


def _stored(cache: Path) -> dict[str, list[Any]]:
    return json.loads(cache.read_text()) if cache.is_file() else {}


_TURNS = threading.Semaphore(max(1, min(4, len(os.sched_getaffinity(0)) // 4)))
"""Limits the runs hashed at a time; first come, first served."""


class Identity:
    """Identity of a run by the content of its files, computed in the background and waited for when it is needed.

    A run is hashed while the one before it is reduced, and is then read from the page cache instead of the disk.
    """

    def __init__(self, work: Callable[[], str]):
        self._work = work
        self._found: str | None = None
        # a daemon: a process that stops early does not wait until all other runs are hashed
        self._thread = threading.Thread(target=self._try, name="hash", daemon=True)
        self._thread.start()

    def _try(self) -> None:
        # failures are retried by `result`, which reports them
        with _TURNS, suppress(Exception):
            self._found = self._work()

    def result(self) -> str:
        """Return the identity, or raise the error that prevents it."""
        self._thread.join()
        if self._found is None:
            self._found = self._work()
        return self._found


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a JSON file atomically: a reader sees either the old or the new content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{id(content)}.partial")
    partial.write_text(json.dumps(content, indent=1, sort_keys=True, allow_nan=False) + "\n", encoding="utf-8")
    partial.replace(path)


def tree_hash(tree: xr.DataTree) -> str:
    """Return the hash of all variables of a tree: names, dims, types and every bit of the values."""
    state = hashlib.blake2b(digest_size=16)
    for path, node in sorted((n.path, n) for n in tree.subtree):
        dataset = node.to_dataset(inherit=False)
        for name in sorted(map(str, dataset.variables)):
            variable = dataset[name]
            state.update(f"{path}:{name}:{variable.dims}:{variable.shape}".encode())
            values = variable.values
            if values.dtype.kind in "UOT":
                state.update("\0".join(map(str, values.ravel().tolist())).encode())
            else:
                state.update(values.dtype.str.encode() + np.ascontiguousarray(values).tobytes())
    return state.hexdigest()
