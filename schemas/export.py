"""Writes what is generated from the schemas: JSON Schemas in `schemas/json/`, reference pages in `docs/reference/`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from schemas import config, products, reference_pages
from schemas.instrument import Instrument
from schemas.scenario import Scenario

__all__ = ["documents", "pages", "write"]

FOLDER = Path(__file__).parent / "json"
PAGES = Path(__file__).parents[1] / "docs" / "reference"
_DRAFT = {"$schema": "https://json-schema.org/draft/2020-12/schema"}


def documents() -> dict[str, dict[str, Any]]:
    """Return every schema by file name."""
    return {
        "config.json": config.to_json_schema(),
        "instrument.json": _DRAFT | Instrument.model_json_schema(),
        "scenario.json": _DRAFT | Scenario.model_json_schema(),
        "summary.json": products.to_json_schema(),
    }


def pages() -> dict[str, str]:
    """Return every reference page by file name."""
    return {
        "config.md": reference_pages.config_page(),
        "notes.md": reference_pages.notes_page(),
        "product.md": reference_pages.product_page(),
    }


def as_text(document: dict[str, Any]) -> str:
    """Return a schema as the text of its file."""
    return json.dumps(document, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def write(folder: Path = FOLDER, page_folder: Path = PAGES) -> None:
    """Write all schemas and pages."""
    texts = {folder / name: as_text(document) for name, document in documents().items()}
    texts |= {page_folder / name: page for name, page in pages().items()}
    for path, text in texts.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
