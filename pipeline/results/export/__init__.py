"""A product for other programs: NeXus (HDF5), XDI text files, CSV tables. Nothing is lost but laziness."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import xarray as xr

from pipeline.results.export.csv import write_csv
from pipeline.results.export.nexus import write_nexus
from pipeline.results.export.xdi import write_xdi

__all__ = ["FORMATS", "export"]

FORMATS: dict[str, Callable[[xr.DataTree, Path], list[Path]]] = {
    "nexus": write_nexus,
    "xdi": write_xdi,
    "csv": write_csv,
}
"""Formats by name: a function of tree and folder that returns the files it wrote."""


def export(tree: xr.DataTree, format_name: str, target: Path) -> list[Path]:
    """Write a product in one of `FORMATS` into a folder; returns the files written."""
    target.mkdir(parents=True, exist_ok=True)
    return FORMATS[format_name](tree, target)
