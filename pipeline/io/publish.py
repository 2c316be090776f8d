"""Versions of a product: written aside, checked, renamed into place, then pointed at. A version never changes.

Readers resolve `latest.json` once and open the version's folder; nobody sees half a product.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import xarray as xr
from pydantic import ValidationError

from pipeline.errors import ProductError
from pipeline.io import store
from pipeline.provenance import tree_hash, write_json
from schemas.products import Pointer, Summary, product_faults

__all__ = ["check", "latest", "publish", "resolve"]

_VERSION = re.compile(r"v(\d{4,})")


def latest(folder: Path) -> Path | None:
    """Return the folder of the latest version, or None where nothing was published."""
    try:
        pointer = Pointer.model_validate_json((folder / "latest.json").read_text(encoding="utf-8"))
    except OSError:
        return None
    except ValidationError:
        raise ProductError(
            f"{folder / 'latest.json'}: not a pointer to a version; publish again or restore it"
        ) from None
    version = folder / pointer.path
    return version if version.is_dir() else None


def resolve(path: Path) -> Path:
    """Return the folder of a version from itself, its product.zarr, latest.json, a dataset's or an output folder.

    Raises
    ------
    ProductError
        If there is no product, or an output folder holds several datasets.
    """
    if path.name == "product.zarr" and path.is_dir():
        return path.parent
    if (path / "product.zarr").is_dir():
        return path
    if path.name == "latest.json":
        path = path.parent
    found = latest(path)
    if found is not None:
        return found
    datasets = sorted(p for p in (path / "products").glob("*") if latest(p) is not None)
    if len(datasets) == 1:
        only = latest(datasets[0])
        if only is not None:
            return only
    if datasets:
        raise ProductError(f"{path}: holds several datasets ({', '.join(p.name for p in datasets)}); name one of them")
    raise ProductError(f"{path}: no product there; run `trxas process` first")


def check(version: Path) -> list[str]:
    """Return one line per fault of a published version: its groups and its summary."""
    faults = product_faults(store.open_tree(version / "product.zarr"))
    try:
        Summary.model_validate_json((version / "summary.json").read_text(encoding="utf-8"))
    except OSError:
        faults.append("summary.json: missing")
    except ValidationError as error:
        faults += [f"summary.json: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
    return faults


def publish(
    folder: Path,
    tree: xr.DataTree,
    summary: dict[str, object],
    *,
    draw: Callable[[xr.DataTree, dict[str, object], Path], None],
    extra_figures: Sequence[Path] = (),
) -> Path:
    """Validate a product and publish it as the next version.

    Parameters
    ----------
    folder
        The dataset's folder.
    tree
        The groups, with all root attributes but `created` and `product_hash`.
    summary
        `schemas.products.Summary` without version, created and product_hash.
    draw
        Draws the figures of a tree into a folder.
    extra_figures
        Pictures to copy.

    Returns
    -------
    Path
        The version's folder.

    Raises
    ------
    ProductError
        If the product does not match its schema; then nothing is published.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stamp = {"product_hash": tree_hash(tree), "created": datetime.now(UTC).isoformat(timespec="seconds")}
    partial = folder / f".partial-{os.getpid()}"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        tree = tree.copy()
        tree.attrs = {**tree.attrs, **stamp}
        store.write_tree(partial / "product.zarr", tree)
        faults = product_faults(store.open_tree(partial / "product.zarr"))
        if faults:
            raise ProductError(f"the product is not valid and was not published: {'; '.join(faults[:5])}")
        (partial / "figures").mkdir()
        draw(tree, summary, partial / "figures")
        for figure in extra_figures:
            if figure.is_file():
                shutil.copy(figure, partial / "figures" / figure.name)
        version = _claim(folder, partial, {**summary, **stamp})
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    pointer = Pointer.model_validate({"version": version.name, "path": version.name, **stamp})
    write_json(folder / "latest.json", pointer.model_dump())
    return version


def _claim(folder: Path, partial: Path, summary: dict[str, object]) -> Path:
    """Rename the finished folder to the next free version; another publisher may take a number at the same time."""
    while True:
        numbers = [int(m[1]) for p in folder.iterdir() if (m := _VERSION.fullmatch(p.name))]
        version = folder / f"v{max(numbers, default=0) + 1:04d}"
        content = Summary.model_validate({**summary, "version": version.name}).model_dump_json(indent=1)
        (partial / "summary.json").write_text(
            json.dumps(json.loads(content), indent=1, ensure_ascii=False), encoding="utf-8"
        )
        try:
            # rename onto an existing folder that is not empty fails, so that a number is taken once
            partial.rename(version)
        except OSError:
            if not version.exists():
                raise
        else:
            return version
