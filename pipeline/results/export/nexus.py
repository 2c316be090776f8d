"""NeXus: one HDF5 file that any NeXus reader can plot.

`/entry` holds an NXdata for every group and set of dims: signal, axes, `<name>_errors`, units. `/spectrum_NNNN` are entries
of the definition NXxasproc, one per measured fluence and delay, for readers that want single spectra.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from pipeline.results.export.parts import by_dims, measured, provenance, sample_of

__all__ = ["write_nexus"]

_FIRST = ("delta_xas", "fit", "value", "position", "alpha")
"""Variables that make the better signal of their group, where it holds one."""
_AUXILIARY = ("od_unpumped", "od_pumped")


def write_nexus(tree: xr.DataTree, target: Path) -> list[Path]:
    """Write `<dataset>.nxs`; a file of that name is replaced once the new one is whole."""
    path = target / f"{tree.attrs.get('dataset', 'product')}.nxs"
    partial = path.with_name(f".{path.name}.partial")
    origin = provenance(tree)
    with h5py.File(partial, "w") as file:
        file.attrs.update(NX_class="NXroot", default="entry", creator=f"trxas {origin.get('code_version', '')}")
        entry = _entry(file, "entry", tree, title=str(tree.attrs.get("dataset")))
        for name, node in tree.children.items():
            for part, dataset in _parts(name, node.to_dataset().load()):
                _data(entry, part, dataset)
        entry.attrs["default"] = "spectra" if tree["spectra"].sizes["energy"] else "delay_scan"
        for k, one in enumerate(measured(tree), start=1):
            _spectrum(file, f"spectrum_{k:04d}", tree, one)
    partial.replace(path)
    return [path]


def _group(parent: h5py.Group, name: str, kind: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    return group


def _entry(file: h5py.File, name: str, tree: xr.DataTree, *, title: str) -> h5py.Group:
    """Start an entry with what every one says: sample, program, raw files and config."""
    origin, about = provenance(tree), sample_of(tree)
    entry = _group(file, name, "NXentry")
    entry["title"] = title
    entry["entry_identifier"] = origin.get("product_hash", "")
    for key in ("element", "edge"):
        if about[key] is not None:
            entry[key] = about[key]
    sample = _group(entry, "sample", "NXsample")
    sample["name"] = about["name"]
    if about["formula"] is not None:
        sample["chemical_formula"] = about["formula"]
    reduction = _group(entry, "XAS_data_reduction", "NXprocess")
    reduction["program"] = "trxas"
    reduction["version"] = origin.get("code_version", "")
    reduction["date"] = origin.get("created", "")
    parameters = _group(reduction, "parameters", "NXparameters")
    files = [f"{run}/{f['name']}" for run, found in tree.attrs.get("inputs", {}).items() for f in found]
    parameters["raw_file"] = " ".join(files)
    parameters["config"] = origin["config"]
    return entry


def _parts(name: str, dataset: xr.Dataset) -> Iterator[tuple[str, xr.Dataset]]:
    """Yield datasets that an NXdata can hold, with their names: one label of every text coordinate, one set of dims."""
    dim = next((d for d in map(str, dataset.dims) if d != "bound" and _is_text(dataset, d)), None)
    if dim is not None:
        along = dataset[[n for n, v in dataset.data_vars.items() if dim in v.dims]]
        # nothing of what is left may have the dim
        for k, label in enumerate(map(str, dataset[dim].values) if along.data_vars else ()):
            word = re.sub(r"[^A-Za-z0-9]+", "_", label).strip("_")
            yield from _parts(f"{name}_{word}", along.isel({dim: k}).drop_vars(dim))
        yield from _parts(name, dataset.drop_vars(along.data_vars).drop_vars(dim))
        return
    yield from by_dims(name, _without_bounds(dataset))


def _is_text(dataset: xr.Dataset, dim: str) -> bool:
    return dim in dataset.coords and dataset[dim].dtype.kind in "UOT"


def _without_bounds(dataset: xr.Dataset) -> xr.Dataset:
    """Return intervals as two variables, `<name>_lower` and `<name>_upper`."""
    for name in [str(n) for n, v in dataset.data_vars.items() if "bound" in v.dims]:
        for k, end in enumerate(("lower", "upper")):
            dataset = dataset.assign({f"{name}_{end}": dataset[name].isel(bound=k, drop=True)})
        dataset = dataset.drop_vars(name)
    return dataset.drop_vars("bound", errors="ignore")


def _data(entry: h5py.Group, name: str, dataset: xr.Dataset) -> None:
    dims = next(iter(dataset.data_vars.values())).dims
    group = _group(entry, name, "NXdata" if dims else "NXcollection")
    names = {str(n): _name(str(n), dataset) for n in dataset.variables}
    for variable, stored in names.items():
        _field(group, stored, dataset[variable].values, dataset[variable].attrs)
    for dim in dims:
        if dim not in dataset.coords:
            _field(group, str(dim), np.arange(dataset.sizes[dim]), {"long_name": f"index of {dim}"})
    for key, value in dataset.attrs.items():
        group.attrs[key] = value if isinstance(value, int | float | str) else json.dumps(value)
    if dims:
        values = [str(n) for n in dataset.data_vars if not names[str(n)].endswith("_errors")]
        signal = next((n for n in _FIRST if n in values), values[0])
        group.attrs.update(signal=signal, axes=[str(d) for d in dims])
        others = [n for n in _AUXILIARY if n in values and n != signal]
        if others:
            group.attrs["auxiliary_signals"] = others
        for coordinate in map(str, dataset.coords):
            if coordinate not in dims and dataset[coordinate].dims:
                group.attrs[f"{coordinate}_indices"] = [dims.index(d) for d in dataset[coordinate].dims]


def _name(name: str, dataset: xr.Dataset) -> str:
    """Return the name that NeXus gives a standard error."""
    if name == "stderr" and "value" in dataset:
        return "value_errors"
    base = name.removesuffix("_stderr")
    return f"{base}_errors" if base != name and base in dataset else name


def _field(group: h5py.Group, name: str, values: np.ndarray, attrs: Mapping[str, Any]) -> None:
    text = values.dtype.kind in "UOT"
    item = group.create_dataset(name, data=[str(v) for v in values.ravel()] if text else values)
    item.attrs["units"] = attrs.get("units", "1")
    item.attrs["long_name"] = attrs.get("long_name", name)


def _spectrum(file: h5py.File, name: str, tree: xr.DataTree, one: xr.Dataset) -> None:
    """Write one spectrum after NXxasproc: `energy` and `data`, the optical density of the pumped sample where known."""
    fluence, delay = float(one["fluence"]), float(one["delay"])
    entry = _entry(file, name, tree, title=f"{tree.attrs.get('dataset')}, {fluence:g} mJ/cm^2, {delay:.4g} ps")
    entry["definition"] = "NXxasproc"
    entry.attrs["default"] = "data"
    group = _group(entry, "data", "NXdata")
    absolute = bool(np.isfinite(one["od_pumped"]).any())
    columns = {"data": "delta_xas"}
    if absolute:
        columns = {"data": "od_pumped", "unpumped": "od_unpumped", "difference": "delta_xas"}
    _field(group, "energy", one["energy"].values, one["energy"].attrs)
    for stored, variable in columns.items():
        _field(group, stored, one[variable].values, one[variable].attrs)
        _field(group, f"{stored}_errors", one[f"{variable}_stderr"].values, one[f"{variable}_stderr"].attrs)
    for coordinate in ("fluence", "delay"):
        _field(group, coordinate, one[coordinate].values, one[coordinate].attrs)
    group.attrs.update(signal="data", axes=["energy"])
    if absolute:
        group.attrs["auxiliary_signals"] = ["unpumped", "difference"]
