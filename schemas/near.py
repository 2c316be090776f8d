"""Names that somebody may have meant."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

__all__ = ["did_you_mean", "near"]

ALIKE = 0.65
"""Similarity (twice the letters in common over all letters) from which a name may have been meant."""


def near(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """Return the known names that look like a name, the nearest first; case does not matter."""
    spelt = {k.casefold(): k for k in sorted(known, reverse=True)}
    return [spelt[k] for k in get_close_matches(name.casefold(), spelt, most, ALIKE)]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a remark for the end of a message about an unknown name; empty where nothing is like it."""
    found = near(name, known, 1)
    return f"; did you mean {found[0]}?" if found else ""
