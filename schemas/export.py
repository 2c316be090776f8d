"""Writes the JSON Schemas of config, instrument profile, scenario and summary to `schemas/json/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schemas import config, products
from schemas.instrument import Instrument
from schemas.scenario import Scenario

__all__ = ["documents", "write"]

FOLDER = Path(__file__).parent / "json"
_DRAFT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def documents() -> dict[str, dict[str, Any]]:
    """Return every schema by file name."""
    return {
        "config.json": config.to_json_schema(),
        "instrument.json": _DRAFT | Instrument.model_json_schema(),
        "scenario.json": _DRAFT | Scenario.model_json_schema(),
        "summary.json": products.to_json_schema(),
    }


def as_text(document: dict[str, Any]) -> str:
    """Return a schema as the text of its file."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write(folder: Path = FOLDER) -> None:
    """Write all schemas."""
    folder.mkdir(exist_ok=True)
    for name, document in documents().items():
        (folder / name).write_text(as_text(document), encoding="utf-8")


if __name__ == "__main__":
    write()
