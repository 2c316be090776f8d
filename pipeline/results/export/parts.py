"""What all exports need of a product: who made it, of which sample, and which spectra were measured."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["by_dims", "measured", "provenance", "sample_of"]


def by_dims(name: str, dataset: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """Yield the variables of every set of dims, those of the most dims first under the name of the group itself.

    Modes of an error are no quantity of their own: they come last.
    """
    by_size = sorted({v.dims for v in dataset.data_vars.values()}, key=lambda d: ("mode" in d, -len(d), d))
    for k, dims in enumerate(by_size):
        chosen = dataset[[n for n, v in dataset.data_vars.items() if v.dims == dims]]
        yield name if k == 0 else f"{name}_{'_'.join(map(str, dims)) or 'scalars'}", chosen


def provenance(tree: xr.DataTree) -> dict[str, str]:
    """Return what identifies a product, as text: dataset, hash, code, date, raw runs, config (JSON)."""
    names = ("dataset", "product_hash", "created", "code_version", "schema_version")
    found = {n: str(tree.attrs[n]) for n in names if n in tree.attrs}
    runs = sorted(tree.attrs.get("inputs", {}))
    return found | {"raw_runs": " ".join(runs), "config": str(tree.attrs.get("config", "{}"))}


def sample_of(tree: xr.DataTree) -> dict[str, Any]:
    """Return what the config says about the sample: name, formula, element, edge; None where it is silent."""
    sample = json.loads(tree.attrs.get("config", "{}")).get("sample") or {}
    return {"name": sample.get("name") or tree.attrs.get("dataset")} | {
        k: sample.get(k) for k in ("formula", "element", "edge")
    }


def measured(tree: xr.DataTree) -> Iterator[xr.Dataset]:
    """Yield the spectra of every fluence and delay at which there are any, at the energies that hold pulses."""
    spectra = tree["spectra"].to_dataset().load()
    for f in range(spectra.sizes["fluence"]):
        for d in range(spectra.sizes["delay"]):
            one = spectra.isel(fluence=f, delay=d)
            good = (one["n_pulses"] > 0).values & np.isfinite(one["delta_xas"].values)
            if good.any():
                yield one.isel(energy=good)
