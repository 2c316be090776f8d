"""What every part of a config or scenario is: frozen, without unknown keys; and grids of numbers."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Grid", "Positive", "Span", "Strict", "grid_values"]

Positive = Annotated[float, Field(gt=0)]


class Strict(BaseModel):
    """Frozen, no unknown keys, no NaN or infinity."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True, populate_by_name=True
    )


class Span(Strict):
    """Equally spaced values start, start + step, …, stop."""

    start: float
    """First value."""
    stop: float
    """Last value, included where the step meets it."""
    step: Annotated[float, Field(gt=0)]
    """Distance of neighbours."""

    @model_validator(mode="after")
    def _ordered(self) -> Span:
        if self.stop <= self.start:
            raise ValueError(f"stop ({self.stop:g}) must be above start ({self.start:g})")
        return self


Grid = Annotated[tuple[float | Span, ...], Field(min_length=1)]


def grid_values(grid: tuple[float | Span, ...]) -> list[float]:
    """Return the values of a grid in the order given, spans written out, rounded to 1e-9."""
    values: list[float] = []
    for item in grid:
        if isinstance(item, Span):
            n = int(np.floor((item.stop - item.start) / item.step + 1e-9)) + 1
            values += [round(item.start + i * item.step, 9) for i in range(n)]
        else:
            values.append(item)
    return values
