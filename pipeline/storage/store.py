"""Write and open zarr v3 datasets. Writes are atomic: to a temporary folder, which is then renamed."""

from __future__ import annotations

import json
import math
import os
import shutil
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec

from pipeline.compat import exchange
from pipeline.errors import DamagedError, ProductError, is_transient
from pipeline.storage.places import Place

__all__ = [
    "READ_AT_ONCE",
    "encoding_of",
    "few_chunks",
    "load_tree",
    "open_dataset",
    "open_tree",
    "plain",
    "quiet",
    "replace_coords",
    "replaced",
    "write_tree",
]

READ_AT_ONCE = 2**20
"""Maximum uncompressed size of a product's chunk [bytes]: one request to an object store, a few milliseconds to decode."""

_WRITTEN = {"compressors": (ZstdCodec(level=0), Crc32cCodec()), "write_empty_chunks": True}
"""How arrays are written: damage of a chunk is an error for every reader, and a chunk that is missing is damage."""


@contextmanager
def quiet() -> Iterator[None]:
    """Silence the zarr warning about consolidated metadata, which every product has."""
    with warnings.catch_warnings():
        # consolidated metadata is not in the zarr v3 specification yet; every zarr reader ignores or understands it
        warnings.filterwarnings("ignore", message="Consolidated metadata is currently not part")
        yield


def write_tree(path: Path, tree: xr.DataTree, *, whole_arrays: bool = False) -> None:
    """Write a tree of datasets atomically, with consolidated metadata; an existing one is replaced.

    With `whole_arrays` it is chunked by `few_chunks`, for arrays that are read in slices along any dim; else zarr decides.
    """
    with replaced(path) as partial:
        tree = tree.map_over_datasets(plain)
        encoding = {n.path: encoding_of(n.to_dataset(inherit=False), whole_arrays) for n in tree.subtree}
        tree.to_zarr(partial, mode="w", zarr_format=3, consolidated=True, encoding=encoding)


def few_chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Return the chunks of an array that is read by trace, by spectrum and by map.

    One chunk as long as it holds less than `READ_AT_ONCE`: a slice along any dim is then a single read. Larger arrays are cut
    along their first dims (fluence, scan) first, so that a map of delay against energy stays whole.
    """
    chunks = list(shape)
    for i in range(len(shape)):
        rest = itemsize * math.prod(chunks[i + 1 :])
        if rest * chunks[i] <= READ_AT_ONCE:
            break
        chunks[i] = max(1, READ_AT_ONCE // rest)
    return tuple(max(1, n) for n in chunks)


def encoding_of(dataset: xr.Dataset, whole_arrays: bool = False) -> dict[str, dict[str, object]]:
    """Return how the variables of a dataset are written: with checksums, and chunked by `few_chunks` or as zarr decides."""
    encoding: dict[str, dict[str, object]] = {str(name): dict(_WRITTEN) for name in dataset.variables}
    for name, variable in dataset.variables.items():
        if whole_arrays and variable.shape:
            encoding[str(name)]["chunks"] = few_chunks(variable.shape, variable.dtype.itemsize)
    return encoding


@contextmanager
def replaced(path: Path) -> Iterator[Path]:
    """Yield a folder to fill, which then replaces another; a complete one is there even if the process is killed."""
    partial, old = (path.with_name(f".{path.name}.{end}") for end in ("partial", "old"))
    shutil.rmtree(partial, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    with quiet():
        yield partial
    if not path.exists():
        partial.rename(path)
        return
    shutil.rmtree(old, ignore_errors=True)
    if exchange(partial, path):
        partial.rename(old)
    else:
        path.rename(old)
        partial.rename(path)
    shutil.rmtree(old, ignore_errors=True)


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


def open_tree(path: Place) -> xr.DataTree:
    """Open a tree lazily, from a folder or a URL; raises ProductError naming it if there is none."""
    if not (path / "zarr.json").is_file():
        raise ProductError(f"{path}: no product there")
    try:
        return xr.open_datatree(str(path), engine="zarr")
    except Exception as error:
        raise ProductError(f"{path}: cannot be opened ({str(error).splitlines()[0]})") from None


def load_tree(path: Path) -> xr.DataTree:
    """Return a tree that `write_tree` wrote, in memory.

    Raises
    ------
    ProductError
        If there is none.
    DamagedError
        If it is damaged; then it is removed, so that it is made anew.
    """
    if not (path / "zarr.json").is_file():
        raise ProductError(f"{path}: no product there")
    try:
        if (lost := _missing_chunks(path)) > 0:
            raise ValueError(f"{lost} chunks are missing")
        return xr.open_datatree(str(path), engine="zarr").load()
    except Exception as error:
        if is_transient(error):
            raise
        shutil.rmtree(path, ignore_errors=True)
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise DamagedError(f"{path}: was damaged ({text}) and is removed; the same command makes it anew") from None


def _missing_chunks(path: Path) -> int:
    """Return how many chunks of a store are not there: they would be read as fill values."""
    head = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
    arrays = [m for m in head["consolidated_metadata"]["metadata"].values() if m["node_type"] == "array"]
    wanted = sum(
        math.prod(-(-n // c) for n, c in zip(m["shape"], m["chunk_grid"]["configuration"]["chunk_shape"], strict=True))
        for m in arrays
    )
    # a network file system may keep hidden files there for a while
    found = (name for _, _, names in os.walk(path) for name in names)
    return wanted - sum(name != "zarr.json" and not name.startswith(".") for name in found)


def replace_coords(path: Path, coords: Mapping[str, np.ndarray]) -> None:
    """Overwrite the values of existing coordinates of a stored dataset; shapes must not change."""
    for name, values in coords.items():
        zarr.open_array(path / name, mode="r+")[...] = values
