"""Writes and opens zarr v3 datasets. Whole datasets appear at once: written aside, then renamed."""

from __future__ import annotations

import ctypes
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from pipeline.errors import ProductError

__all__ = [
    "exchange",
    "open_dataset",
    "open_tree",
    "plain",
    "quiet",
    "replace_coords",
    "replace_folder",
    "write_dataset",
    "write_tree",
]


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the warning that zarr gives for what every product has."""
    with warnings.catch_warnings():
        # consolidated metadata is not in the zarr v3 specification yet; every zarr reader ignores or understands it
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        yield


def write_dataset(path: Path, dataset: xr.Dataset) -> None:
    """Write a dataset whole; a reader sees the old one or the new one."""
    write_tree(path, xr.DataTree(dataset))


def write_tree(path: Path, tree: xr.DataTree) -> None:
    """Write a tree of datasets whole, with consolidated metadata."""
    partial = path.with_name(f".{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    with quiet():
        tree.map_over_datasets(plain).to_zarr(partial, mode="w", zarr_format=3, consolidated=True)
    replace_folder(partial, path)


def replace_folder(partial: Path, path: Path) -> None:
    """Put a finished folder in the place of another, or where there was none; whenever it is killed, one is there."""
    if not path.exists():
        partial.rename(path)
        return
    old = path.with_name(f".{path.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if exchange(partial, path):
        partial.rename(old)
    else:
        path.rename(old)
        partial.rename(path)
    shutil.rmtree(old, ignore_errors=True)


def exchange(a: Path, b: Path) -> bool:
    """Swap two folders at once; returns whether the system and the file system can."""
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    try:
        renameat2 = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError):
        return False
    return renameat2(here, os.fsencode(a), here, os.fsencode(b), swap) == 0


def plain(dataset: xr.Dataset) -> xr.Dataset:
    """Return the dataset with text as variable-length strings, the kind that zarr v3 stores in a stable way."""
    result = dataset.copy()
    for name, variable in dataset.variables.items():
        result[name].encoding = {}
        if variable.dtype.kind == "U":
            text = xr.Variable(variable.dims, variable.values.astype(np.dtypes.StringDType()), variable.attrs)
            result = result.assign_coords({name: text}) if name in dataset.coords else result.assign({name: text})
    return result


def open_dataset(path: Path, *, chunks: dict[str, int] | None = None) -> xr.Dataset:
    """Open a dataset lazily; raises ProductError naming the path if there is none."""
    if not (path / "zarr.json").is_file():
        raise ProductError(f"{path}: no dataset there; process the run first")
    with quiet():
        return xr.open_zarr(path, chunks=chunks, consolidated=True)


def open_tree(path: Path) -> xr.DataTree:
    """Open a tree lazily; raises ProductError naming the path if there is none."""
    if not (path / "zarr.json").is_file():
        raise ProductError(f"{path}: no product there")
    try:
        return xr.open_datatree(path, engine="zarr")
    except Exception as error:
        raise ProductError(f"{path}: cannot be opened ({str(error).splitlines()[0]})") from None


def replace_coords(path: Path, coords: Mapping[str, np.ndarray]) -> None:
    """Overwrite the values of existing coordinates of a stored dataset; shapes must not change."""
    for name, values in coords.items():
        zarr.open_array(path / name, mode="r+")[...] = values
