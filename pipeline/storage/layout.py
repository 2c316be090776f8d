"""Where things are in an output folder: stores per run, stores per dataset, and published versions."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pipeline.storage.places import Place

__all__ = [
    "FRAMES",
    "LABELS",
    "PRODUCT",
    "PRODUCTS",
    "PULSES",
    "dataset_stores",
    "datasets",
    "products",
    "run_name",
    "run_stores",
    "sweeps",
]

FRAMES, PULSES, LABELS, PRODUCT = "frames.zarr", "pulses.zarr", "labels.zarr", "product.zarr"
PRODUCTS = "products"
P = TypeVar("P", bound=Place)


def run_name(number: int) -> str:
    """Return the name of a run's folder, and of its group in the labels."""
    return f"r{number:04d}"


def run_stores(out: Path, number: int) -> Path:
    """Return the folder of a run's frames and pulses."""
    return out / "runs" / run_name(number)


def dataset_stores(out: Path, dataset: str) -> Path:
    """Return the folder of a dataset's labels and intermediate results."""
    return out / "stages" / dataset


def datasets(out: Path) -> list[str]:
    """Return the names of the datasets that have labels."""
    return sorted(path.parent.name for path in dataset_stores(out, "").glob(f"*/{LABELS}"))


def products(out: P, dataset: str = "") -> P:
    """Return the folder of a dataset's versions; without a name that of all datasets."""
    folder = out / PRODUCTS
    return folder / dataset if dataset else folder  # type: ignore[return-value]


def sweeps(out: Path, dataset: str) -> Path:
    """Return the folder of a dataset's sweeps, numbered, each with its table and figure."""
    return out / "sweeps" / dataset
