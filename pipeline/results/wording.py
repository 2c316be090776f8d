"""Numbers as people read them, the same on the terminal, in the figures and on the dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

__all__ = ["TAU_SYMBOLS", "ends", "finite_or_none", "percent", "plus_minus"]

TAU_SYMBOLS = {"tau1": "τ₁", "tau2": "τ₂", "tau3": "τ₃"}
"""Symbols of the fitted times."""


def finite_or_none(value: Any) -> float | None:
    """Return a number as JSON can hold it: None in place of NaN and infinity."""
    number = float(value)
    return number if np.isfinite(number) else None


def plus_minus(value: float | None, stderr: float | None) -> str:
    """Return value ± error with the digits that the error allows, a dash where there is no value."""
    if value is None or not np.isfinite(value):
        return "–"
    if not stderr or not np.isfinite(stderr):
        return f"{value:.4g}"
    digits = max(0, int(np.ceil(1 - np.log10(stderr)))) if stderr < 10 else 0
    return f"{value:.{digits}f} ± {stderr:.{digits}f}"


def percent(estimate: Mapping[str, Any]) -> str:
    """Return an estimate in per cent; empty where there is none."""
    value = estimate["value"]
    return "" if value is None else f"{plus_minus(100 * value, 100 * (estimate['stderr'] or 0))} %"


def ends(interval: tuple[float | None, float | None]) -> str:
    """Return the ends of an interval; None is an open end."""
    low, high = ("open" if v is None else f"{v:.3g}" for v in interval)
    return f"{low} … {high}"
