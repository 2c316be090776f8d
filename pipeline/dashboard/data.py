"""What the dashboard reads: datasets and versions below an output folder, each version opened once.

Only `product.zarr`, `summary.json`, `latest.json` and the pictures of a version are read, and nothing that a link
or a pointer would lead out of the output folder.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import xarray as xr
from pydantic import ValidationError

from pipeline.errors import ProductError
from pipeline.results.lookup import power_of
from pipeline.storage import layout, versions
from schemas.catalogue import note
from schemas.notes import Note, by_severity, read_notes
from schemas.products import Summary, product_faults

__all__ = ["Catalogue", "Product"]


@dataclass(frozen=True)
class Product:
    """An opened version; its arrays are read group by group when they are first looked at."""

    dataset: str
    version: str
    folder: Path
    tree: xr.DataTree
    summary: dict[str, Any]
    faults: tuple[str, ...]
    """Where it deviates from the schema that this program knows."""
    _groups: dict[str, xr.Dataset] = field(default_factory=dict, repr=False)

    def group(self, name: str) -> xr.Dataset:
        """Return a group in memory.

        Raises
        ------
        ProductError
            If the group is missing or its arrays cannot be read.
        """
        if name not in self._groups:
            if name not in self.tree.children:
                raise ProductError(f"{self.dataset} {self.version}: there is no group /{name}")
            try:
                self._groups[name] = self.tree[name].to_dataset().load()
            except Exception as error:
                raise ProductError(f"{self.dataset} {self.version}: /{name} cannot be read ({_line(error)})") from None
        return self._groups[name]

    @property
    def tag(self) -> str:
        """What is added to the labels of its curves where it is the second of two products."""
        return f", {self.version}"

    @property
    def power(self) -> int:
        """The power of the kinetic form that was fitted."""
        return power_of(self.tree.attrs)

    @property
    def warnings(self) -> list[Note]:
        """What a person must know before using the numbers, the most severe first; faults against the schema as one note."""
        n = len(self.faults)
        more = f" (and {n - 1} more; `trxas validate` lists them)" if n > 1 else ""
        faults = [note("product.differs_from_schema", fault=self.faults[0], more=more)] if n else []
        return by_severity([*faults, *read_notes(self.summary["warnings"])])

    def figures(self) -> dict[str, bytes]:
        """Return the pictures of the version by name; links that leave its folder are left out."""
        folder = self.folder / "figures"
        found = sorted(p for p in folder.glob("*.png") if p.is_file() and _inside(p, self.folder))
        return {p.stem: p.read_bytes() for p in found}


class Catalogue:
    """The products of one output folder. Versions never change, so an opened one is kept for all sessions."""

    def __init__(self, out: Path, *, keep: int = 8) -> None:
        self.out = out
        self.open = lru_cache(keep)(self._open)

    def datasets(self) -> list[str]:
        """Return the names of all datasets with at least one version."""
        root = layout.products(self.out)
        names = sorted(p.name for p in root.iterdir() if p.is_dir()) if root.is_dir() else []
        return [name for name in names if self.versions(name)]

    def versions(self, dataset: str) -> list[str]:
        """Return the versions of a dataset, newest first."""
        folder = layout.products(self.out, dataset)
        if Path(dataset).name != dataset or not folder.is_dir():
            return []
        names = [p.name for p in folder.iterdir() if p.is_dir() and _inside(p, self.out)]
        return sorted(filter(versions.number_of, names), key=versions.number_of, reverse=True)

    def latest(self, dataset: str) -> str | None:
        """Return the version that `latest.json` points at, or the newest one where it points at none."""
        there = self.versions(dataset)
        try:
            found = versions.latest(layout.products(self.out, dataset))
        except ProductError:
            found = None
        return found.name if found is not None and found.name in there else next(iter(there), None)

    def summary(self, dataset: str, version: str) -> dict[str, Any]:
        """Return the summary of a version without opening its store; raises ProductError if it is damaged."""
        folder = self._folder(dataset, version)
        try:
            text = (folder / "summary.json").read_text(encoding="utf-8")
            Summary.model_validate_json(text)
        except (OSError, ValueError) as error:
            what = error.errors()[0]["msg"] if isinstance(error, ValidationError) else _line(error)
            raise ProductError(f"{dataset} {version}: summary.json is missing or damaged ({what})") from None
        found: dict[str, Any] = json.loads(text)
        return found

    def _folder(self, dataset: str, version: str) -> Path:
        if version not in self.versions(dataset):
            raise ProductError(f"there is no version {version} of {dataset} in {self.out}")
        return layout.products(self.out, dataset) / version

    def _open(self, dataset: str, version: str) -> Product:
        """Open a version; raises ProductError if there is none, or its summary or its store is damaged."""
        folder, summary = self._folder(dataset, version), self.summary(dataset, version)
        tree = versions.open_product(versions.intact(folder))
        return Product(dataset, version, folder, tree, summary, tuple(product_faults(tree)))


def _inside(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
