"""The pulses of a run in an output folder, with the labels that a dataset gave them."""

from __future__ import annotations

from pathlib import Path

import xarray as xr

from pipeline.errors import ProductError
from pipeline.science.labels.join import joined
from pipeline.storage import layout, store

__all__ = ["stored_pulses"]


def stored_pulses(out: Path, number: int, dataset: str | None = None) -> xr.Dataset:
    """Return the pulses of a run in an output folder, joined with the labels of a dataset (the only one unless named).

    Raises
    ------
    ProductError
        If the run was not processed there, or there are several datasets; names those there are.
    """
    there = layout.datasets(out)
    if dataset is None and len(there) > 1:
        raise ProductError(f"{out}: holds several datasets ({', '.join(there)}); name one of them")
    name = dataset or "".join(there)
    if name not in there:
        raise ProductError(f"{out}: no pulses of dataset {name!r} there; process it first (there: {', '.join(there)})")
    labels, group = store.open_tree(layout.dataset_stores(out, name) / layout.LABELS), layout.run_name(number)
    if group not in labels.children:
        raise ProductError(f"{out}: run {number} is not in dataset {name}; there: {', '.join(sorted(labels.children))}")
    pulses = store.open_dataset(layout.run_stores(out, number) / layout.PULSES).load()
    return joined(pulses, labels[group].to_dataset().load())
