"""What a person must know about a result: a stable code, how much it matters, and one line of text.

The codes and their texts are in `schemas.catalogue`; it is a module of its own so that a better sentence makes stale only
the stages that say something, not every stage that passes notes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

__all__ = [
    "ALIKE",
    "OLDER",
    "SEVERITIES",
    "WORDS",
    "Entry",
    "Note",
    "Severity",
    "as_plain",
    "by_severity",
    "note_lines",
    "read_notes",
]

Severity = Literal["info", "caution", "fault"]
"""info: nothing to worry about; caution: look before you use the numbers; fault: do not use them before it is mended."""
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""From least to most."""
WORDS: Mapping[Severity, str] = {"info": "note", "caution": "CAUTION", "fault": "FAULT"}
"""What stands before the text of a note."""
ALIKE = 3
"""Notes of one code from which on the first speaks for all."""
OLDER = "product.older_warning"
"""Code of a warning that was written as text, before warnings had codes."""


@dataclass(frozen=True)
class Entry:
    """One kind of note."""

    severity: Severity
    text: str
    """What is printed; a format string whose fields are the values given to `note`."""
    meaning: str
    """What it means and what to do, one or two sentences."""


@dataclass(frozen=True)
class Note:
    """One thing to know. The code is stable, for programs; the text is for people and may change."""

    code: str
    severity: Severity
    text: str
    run: int | None = None
    """Run that it is about, where it is about one."""
    fluence: float | None = None
    """Fluence that it is about [mJ/cm²]."""
    parameter: str | None = None
    """Parameter of the kinetics that it is about."""


def as_plain(notes: Iterable[Note]) -> list[dict[str, Any]]:
    """Return notes as JSON holds them; what a note is not about is left out."""
    return [{key: value for key, value in asdict(note).items() if value is not None} for note in notes]


def read_notes(stored: Iterable[str | Mapping[str, Any]]) -> list[Note]:
    """Return the notes that `as_plain` made; text alone, from an older product, is a caution."""
    return [Note(OLDER, "caution", one) if isinstance(one, str) else Note(**one) for one in stored]


def by_severity(notes: Iterable[Note]) -> list[Note]:
    """Return notes, the most severe first, otherwise in their order."""
    return sorted(notes, key=lambda note: -SEVERITIES.index(note.severity))


def note_lines(notes: Iterable[Note]) -> list[str]:
    """Return notes for a terminal; of many with one code, the first and what the others are about."""
    by_code: dict[str, list[Note]] = {}
    for one in notes:
        by_code.setdefault(one.code, []).append(one)
    lines = []
    for alike in by_code.values():
        shown = alike if len(alike) < ALIKE or alike[0].code == OLDER else alike[:1]
        lines += [f"{WORDS[one.severity]} {one.text}" for one in shown]
        if len(shown) < len(alike):
            lines[-1] += f" (so {len(alike) - 1} more{_about(alike[1:])})"
    return lines


def _about(notes: Iterable[Note]) -> str:
    runs, fluences = ({getattr(one, name): None for one in notes} for name in ("run", "fluence"))
    if None not in runs:
        return ": " + ", ".join(f"run {n}" for n in runs)
    return "" if None in fluences or len(fluences) < 2 else ": " + ", ".join(f"{f:g}" for f in fluences) + " mJ/cm²"
