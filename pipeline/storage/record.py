"""What is done: one small JSON file per folder that says from which inputs, options and code each stage was made.

A stage is current when its key is the one recorded; the record is written last, so a killed stage is not current.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pipeline.storage.hashes import write_json

__all__ = ["forget", "is_current", "read", "record", "update"]

_NAME = "stages.json"


def read(folder: Path) -> dict[str, Any]:
    """Return the records of a folder; empty where there are none or the file is damaged."""
    try:
        content = json.loads((folder / _NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def is_current(folder: Path, stage: str, key: str, *outputs: str) -> bool:
    """Return whether a stage was finished with this key and its outputs are there."""
    return bool(read(folder).get(stage, {}).get("key") == key) and all((folder / o).exists() for o in outputs)


def record(folder: Path, stage: str, key: str, **details: Any) -> None:
    """Record a finished stage."""
    update(folder, {stage: {"key": key, **details}})


def update(folder: Path, made: Mapping[str, Mapping[str, Any]], drop: Iterable[str] = ()) -> None:
    """Record finished stages, each with its key, and forget others, in one go."""
    known = {k: v for k, v in read(folder).items() if k not in set(drop)}
    write_json(folder / _NAME, {**known, **made})


def forget(folder: Path, *stages: str) -> None:
    """Forget stages, so that they run again."""
    known = read(folder)
    if any(s in known for s in stages):
        write_json(folder / _NAME, {k: v for k, v in known.items() if k not in stages})
