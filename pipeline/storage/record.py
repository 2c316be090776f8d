"""Stage records: one small JSON file per folder with the key of each stage's result.

A result is current when the key of its record is the one that inputs, options and code give now. The record is written
last, so a stage that was killed is not current.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from pipeline.storage.hashes import write_json
from schemas.notes import Note

__all__ = ["Inventory", "Published", "Record", "Records"]


@dataclass(frozen=True)
class Record:
    """Record of a finished stage: the key of its result and the notes on it."""

    key: str
    """Hash of inputs, options and code."""
    notes: list[Note] = field(default_factory=list)


@dataclass(frozen=True)
class Inventory(Record):
    """What the audit of a run found; the key stands for the content of its files."""

    files: list[dict[str, Any]] = field(default_factory=list)
    """Name, size [bytes] and SHA-256 of each."""
    audit: list[str] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    """Irregular trains and frames by reason."""


@dataclass(frozen=True)
class Published(Record):
    """A published product."""

    version: str = ""
    identity: str = ""
    """Hash of its checksums: another version may come to have its name."""


R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Records:
    """The records of a folder."""

    folder: Path

    @property
    def _path(self) -> Path:
        return self.folder / "stages.json"

    def get(self, stage: str, kind: type[R]) -> R | None:
        """Return the record of a stage; None if it is missing or damaged."""
        try:
            return TypeAdapter(kind).validate_python(self._read()[stage])
        except (KeyError, ValidationError):
            return None

    def key(self, stage: str) -> str | None:
        """Return the key of a stage's record, or None."""
        record = self.get(stage, Record)
        return None if record is None else record.key

    def put(self, stage: str, record: Record) -> None:
        """Record a finished stage."""
        write_json(self._path, {**self._read(), stage: asdict(record)})

    def forget(self, *stages: str) -> None:
        """Remove the records of stages, so that they run again."""
        known = self._read()
        if any(stage in known for stage in stages):
            write_json(self._path, {name: one for name, one in known.items() if name not in stages})

    def __bool__(self) -> bool:
        return bool(self._read())

    def _read(self) -> Mapping[str, Any]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}
