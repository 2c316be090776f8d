"""The code of a stage: its module and all that this imports inside `pipeline` and `schemas`, found by parsing the sources."""

from __future__ import annotations

import ast
import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path

__all__ = ["code_hash", "imported_modules"]

ROOT = Path(__file__).resolve().parents[2]
"""Folder that holds the packages."""
PACKAGES = ("pipeline", "schemas")
_ATTEMPTS = 20


def code_hash(module: str, root: Path = ROOT) -> str:
    """Return the hash of the sources of a module and of all that it imports, at any depth, inside our packages.

    Of our own packages it is worked out once: sources that are replaced while a process runs are not what it does.
    """
    return _of_this_process(module) if root == ROOT else _hash(module, root)


@functools.cache
def _of_this_process(module: str) -> str:
    return _hash(module, ROOT)


def _hash(module: str, root: Path) -> str:
    state = hashlib.blake2b(digest_size=16)
    for name in imported_modules(module, root):
        source = _source(name, root)
        state.update(name.encode() + b"\0" + (source.read_bytes() if source is not None else b"") + b"\0")
    return state.hexdigest()


def imported_modules(module: str, root: Path = ROOT) -> list[str]:
    """Return the names of a module and of all our modules that it imports, sorted; imports inside functions count."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        source = _source(name, root)
        if name in found or source is None:
            continue
        found.add(name)
        waiting += _imports(source, source.stat().st_mtime_ns, root)
        # importing a module also runs its parent packages
        waiting += [name.rpartition(".")[0]] if "." in name else []
    return sorted(found)


def _source(name: str, root: Path) -> Path | None:
    path = root.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


@functools.lru_cache(maxsize=1024)
def _imports(source: Path, changed: int, root: Path) -> tuple[str, ...]:
    """Return our modules that a source imports; cached until the source changes."""
    return tuple(sorted(set(_walk(_parsed(source.read_bytes()), root))))


def _parsed(source: bytes) -> ast.AST:
    """Return the tree of a source.

    Threads that parse at the same time share a counter in Python 3.11, and one of them fails with a SystemError
    ("recursion depth mismatch") although nothing is wrong; it is asked again.
    """
    for _ in range(_ATTEMPTS):
        try:
            return ast.parse(source)
        except SystemError:
            continue
    return ast.parse(source)


def _walk(node: ast.AST, root: Path) -> Iterator[str]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        if isinstance(child, ast.Import):
            yield from (alias.name for alias in child.names if alias.name.partition(".")[0] in PACKAGES)
        elif isinstance(child, ast.ImportFrom):
            package = child.module or ""
            if child.level == 0 and package.partition(".")[0] in PACKAGES:
                yield package
                parts = (f"{package}.{alias.name}" for alias in child.names)
                yield from (part for part in parts if _source(part, root) is not None)
        else:
            yield from _walk(child, root)
