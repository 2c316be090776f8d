"""A product for other programs: NeXus (HDF5), XDI text files, CSV tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import xarray as xr

__all__ = ["FORMATS", "export"]


def export(tree: xr.DataTree, format_name: str, target: Path) -> list[Path]:
    """Write a product in one of `FORMATS`; returns the files written."""
    target.mkdir(parents=True, exist_ok=True)
    return FORMATS[format_name](tree, target)


def _csv(tree: xr.DataTree, target: Path) -> list[Path]:
    written = []
    for name, node in tree.children.items():
        dataset = node.to_dataset()
        sizes = {v.dims for v in dataset.data_vars.values() if v.dims}
        for k, dims in enumerate(sorted(sizes, key=lambda d: (-len(d), d))):
            chosen = dataset[[n for n, v in dataset.data_vars.items() if v.dims == dims]]
            path = target / (f"{name}.csv" if k == 0 else f"{name}_{'_'.join(map(str, dims))}.csv")
            units = ", ".join(f"{n} [{v.attrs.get('units', '1')}]" for n, v in chosen.variables.items())
            header = f"# {tree.attrs.get('dataset')} /{name}, product {tree.attrs.get('product_hash')}\n# {units}\n"
            path.write_text(header + chosen.to_dataframe().to_csv(), encoding="utf-8")
            written.append(path)
    return written


def _xdi(tree: xr.DataTree, target: Path) -> list[Path]:
    """One file per measured (fluence, delay), after the XDI 1.0 draft of the IXAS."""
    spectra = tree["spectra"].to_dataset().load()
    columns = ["od_unpumped", "od_unpumped_stderr", "od_pumped", "od_pumped_stderr", "delta_xas", "delta_xas_stderr"]
    written = []
    for f in range(spectra.sizes["fluence"]):
        for d in range(spectra.sizes["delay"]):
            one = spectra.isel(fluence=f, delay=d)
            good = (one["n_pulses"] > 0).values
            if not good.any():
                continue
            fluence, delay = float(one["fluence"]), float(one["delay"])
            lines = ["# XDI/1.0 trxas", "# Column.1: energy eV"]
            lines += [f"# Column.{i}: {c}" for i, c in enumerate(columns, start=2)]
            lines += [f"# Pump.fluence: {fluence:g} mJ/cm^2", f"# Pump.delay: {delay:.6g} ps"]
            lines += [
                f"# Trxas.dataset: {tree.attrs.get('dataset')}",
                f"# Trxas.product_hash: {tree.attrs.get('product_hash')}",
            ]
            lines += ["# ///", "#----", "# energy " + " ".join(columns)]
            table = np.column_stack([one["energy"].values, *(one[c].values for c in columns)])[good]
            lines += [" ".join(f"{v:.8g}" for v in row) for row in table]
            path = target / f"f{fluence:g}_t{delay:.4g}ps.xdi"
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
            written.append(path)
    return written


def _nexus(tree: xr.DataTree, target: Path) -> list[Path]:
    """One HDF5 file, an NXdata per group and dims, so that a NeXus reader finds signal, axes and errors."""
    path = target / f"{tree.attrs.get('dataset', 'product')}.nxs"
    with h5py.File(path, "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs.update(NX_class="NXentry", default="spectra")
        entry["title"] = str(tree.attrs.get("dataset"))
        for key in ("product_hash", "code_version", "created", "config"):
            entry.attrs[key] = str(tree.attrs.get(key))
        for name, node in tree.children.items():
            _nexus_group(entry.create_group(name), node.to_dataset().load())
    return [path]


def _nexus_group(group: h5py.Group, dataset: xr.Dataset) -> None:
    main = max(dataset.data_vars, key=lambda n: (n == "delta_xas", dataset[n].ndim))
    group.attrs.update(NX_class="NXdata", signal=str(main), axes=[str(d) for d in dataset[main].dims])
    for name, variable in dataset.variables.items():
        values = variable.values
        item = group.create_dataset(str(name), data=[str(v) for v in values] if values.dtype.kind in "UOT" else values)
        item.attrs["units"] = variable.attrs.get("units", "1")
        item.attrs["long_name"] = variable.attrs.get("long_name", str(name))
        if f"{name}_stderr" in dataset:
            item.attrs["uncertainties"] = f"{name}_stderr"


FORMATS: dict[str, Callable[[xr.DataTree, Path], list[Path]]] = {"nexus": _nexus, "xdi": _xdi, "csv": _csv}
"""Formats by name."""
