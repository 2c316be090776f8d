"""The part of the module that is kept: all of it, or the smallest rectangle that holds the beams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr

from schemas.datasets.measured import X, Y

__all__ = ["Crop", "crop_to_beams"]


@dataclass(frozen=True)
class Crop:
    """The part of the module that is kept, in module pixels."""

    rows: slice
    columns: slice

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns kept."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def coords(self) -> dict[str, Any]:
        """Return the pixel numbers."""
        return {
            name: (name, np.arange(part.start, part.stop, dtype=np.int16), variable.attrs)
            for name, part, variable in (("y", self.rows, Y), ("x", self.columns, X))
        }


def crop_to_beams(beams: xr.Dataset) -> Crop:
    """Return the smallest rectangle that holds all beams and, in a calibration, the unlit pixels that it uses."""
    y0, y1, x0, x1 = (beams[n].values for n in ("y0", "y1", "x0", "x1"))
    if "unlit" in beams:
        rows, columns = np.nonzero(beams["unlit"].values >= 0)
        y, x = beams["y"].values[rows], beams["x"].values[columns]
        y0, y1, x0, x1 = np.append(y0, y), np.append(y1, y + 1), np.append(x0, x), np.append(x1, x + 1)
    return Crop(slice(int(y0.min()), int(y1.max())), slice(int(x0.min()), int(x1.max())))
