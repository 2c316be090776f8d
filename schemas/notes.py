"""What a person must know about a result: a stable code, how much it matters, and one line of text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Note", "Severity"]

Severity = Literal["info", "caution", "fault"]
"""info: nothing to worry about; caution: look before you use the numbers; fault: do not use them before it is mended."""


@dataclass(frozen=True)
class Note:
    """One thing to know. The code is stable, for programs; the text is for people and may change."""

    code: str
    severity: Severity
    text: str
