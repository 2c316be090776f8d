"""Numbers as people read them, the same on the terminal, in the figures and on the dashboard."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

__all__ = [
    "REFERENCE_WORDS",
    "TAU_SYMBOLS",
    "delay_words",
    "ends",
    "finite_or_none",
    "percent",
    "plus_minus",
    "reference_words",
]

REFERENCE_WORDS = {
    "in_run": "pulses without pump in the run",
    "pump_off_scan": "pump-off scans",
    "flat_field": "flat field",
    "before_time_zero": "delays before time zero",
    "none": "nothing",
}
"""What a difference is compared with, by its name in a product."""

TAU_SYMBOLS = {"tau1": "τ₁", "tau2": "τ₂", "tau3": "τ₃"}
"""Symbols of the fitted times."""


def finite_or_none(value: Any) -> float | None:
    """Return a number as JSON can hold it: None in place of NaN and infinity."""
    number = float(value)
    return number if np.isfinite(number) else None


def plus_minus(value: float | None, stderr: float | None, systematic: float | None = None) -> str:
    """Return value ± error with the digits that the error allows, a dash where there is no value.

    A systematic error that is not 0 stands behind the statistical one.
    """
    if value is None or not np.isfinite(value):
        return "–"
    other = f" ± {systematic:.2g}" if systematic and np.isfinite(systematic) else ""
    if not stderr or not np.isfinite(stderr):
        return f"{value:.4g}{other}"
    digits = max(0, int(np.ceil(1 - np.log10(stderr)))) if stderr < 10 else 0
    return f"{value:.{digits}f} ± {stderr:.{digits}f}{other}"


def percent(estimate: Mapping[str, Any], systematic: float | None = None) -> str:
    """Return an estimate in per cent, a systematic error that is not 0 behind the statistical one; empty where there is none."""
    value = estimate["value"]
    return (
        ""
        if value is None
        else f"{plus_minus(100 * value, 100 * (estimate['stderr'] or 0), 100 * (systematic or 0))} %"
    )


def reference_words(names: Iterable[str]) -> str:
    """Return in words what differences are compared with, each once; empty where it is not known."""
    return ", ".join(dict.fromkeys(REFERENCE_WORDS[n] for n in names if n in REFERENCE_WORDS))


def delay_words(delay: float) -> str:
    """Return a mean delay [ps] to 10 fs, as the stage was set: 0.1 ps, not 0.101 ps."""
    return f"{round(delay, 2) + 0.0:.3g} ps".replace("-", "−")


def ends(interval: tuple[float | None, float | None]) -> str:
    """Return the ends of an interval; None is an open end."""
    low, high = ("open" if v is None else f"{v:.3g}" for v in interval)
    return f"{low} … {high}"
