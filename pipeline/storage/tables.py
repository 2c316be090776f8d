"""Small text tables that a config names."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.errors import DataError

__all__ = ["read_nonlinearity"]


def read_nonlinearity(path: Path) -> np.ndarray:
    """Return the corrected value for every raw ADU 0…511 from a file with columns adu, corrected_adu.

    Between the rows the correction is interpolated, beyond them it is continued with the last slope.

    Raises
    ------
    DataError
        If the file cannot be read, has not two columns of numbers, or does not increase.
    """
    try:
        table = np.loadtxt(
            path, comments="#", ndmin=2, delimiter="," if "," in path.read_text().splitlines()[-1] else None
        )
    except OSError as error:
        raise DataError(f"detector.nonlinearity: {path} cannot be read ({error.strerror})") from None
    except (ValueError, IndexError) as error:
        raise DataError(f"detector.nonlinearity: {path}: expected two columns of numbers ({error})") from None
    if table.shape[1] != 2 or len(table) < 2:
        raise DataError(f"detector.nonlinearity: {path}: expected two columns and two rows or more, got {table.shape}")
    raw, corrected = table.T
    if (np.diff(raw) <= 0).any() or (np.diff(corrected) <= 0).any():
        raise DataError(f"detector.nonlinearity: {path}: both columns must increase")
    adu = np.arange(512, dtype=np.float64)
    result = np.interp(adu, raw, corrected)
    for outside, a, b in ((adu < raw[0], 0, 1), (adu > raw[-1], -1, -2)):
        slope = (corrected[a] - corrected[b]) / (raw[a] - raw[b])
        result[outside] = corrected[a] + slope * (adu[outside] - raw[a])
    return result
