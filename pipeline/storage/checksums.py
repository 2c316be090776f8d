"""Whether a published version is as it was published: files by their checksums, arrays by their hash, all of one version.

`SHA256SUMS` lists every file of a version in the format that `sha256sum -c` reads.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from pipeline.storage import layout, store
from pipeline.storage.hashes import tree_hash
from pipeline.storage.places import Place

__all__ = ["CHECKSUMS", "SUMS", "damage", "version_identity", "write_sums"]

SUMS = "SHA256SUMS"
CHECKSUMS = "checksums"
"""Root attribute that names that file; a product of an earlier program has neither."""
SHARED = ("product_hash", "created", "dataset", "schema_version")
"""What arrays and summary both say."""


def write_sums(folder: Path) -> None:
    """Write the checksums of all files of a folder into it."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != SUMS)
    lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.relative_to(folder).as_posix()}\n" for p in files]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")


def version_identity(version: Place) -> str:
    """Return what no other version has in common: the hash of its checksums; empty without them."""
    try:
        return hashlib.sha256((version / SUMS).read_bytes()).hexdigest()
    except OSError:
        return ""


def damage(version: Place, *, arrays: bool = False) -> list[str]:
    """Return how a version differs from what was published, one line each.

    With `arrays` their hash is worked out even if all files are as their checksums say.

    Raises
    ------
    ProductError
        If the arrays cannot be opened although all files are as they were.
    """
    try:
        found = _file_faults(version)
        is_known = True
    except OSError:
        found, is_known = [], False
    if found:
        return found
    # to open the tree takes as long as all the rest
    attrs = _json(version / layout.PRODUCT / "zarr.json").get("attributes", {})
    if not is_known and CHECKSUMS in attrs:
        return [f"{SUMS}: is missing"]
    found = _foreign(version, attrs) if attrs else []
    if found or (attrs and is_known and not arrays):
        return found
    return _hash_faults(store.open_tree(version / layout.PRODUCT))


def _hash_faults(tree: xr.DataTree) -> list[str]:
    """Return a line if the hash of the arrays is not the one that they say they have."""
    try:
        found = tree_hash(tree.load())
    except Exception as error:
        return [f"the arrays cannot be read ({(str(error).splitlines() or [type(error).__name__])[0]})"]
    said = tree.attrs.get("product_hash")
    return [] if found == said else [f"product_hash: {said} is said, the arrays have {found}"]


def _file_faults(version: Place) -> list[str]:
    """Return one line per file that is missing or not as it was published; raises OSError without checksums."""
    text = (version / SUMS).read_bytes().decode("utf-8", errors="replace")
    rows = [re.fullmatch(r"([0-9a-f]{64})  (?!/)(.+)", line) for line in text.split("\n")[:-1]]
    known = {row[2]: row[1] for row in rows if row is not None and ".." not in row[2].split("/")}
    if len(known) != len(rows) or "summary.json" not in known:
        return [f"{SUMS}: is damaged"]
    contents = version.read_many(known) if not isinstance(version, Path) else {n: _content(version / n) for n in known}
    faults = []
    for name, expected in known.items():
        content = contents.get(name)
        if content is None:
            faults.append(f"{name}: is missing")
        elif hashlib.sha256(content).hexdigest() != expected:
            faults.append(f"{name}: is not what was published")
    return faults


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _foreign(version: Place, attrs: Mapping[str, Any]) -> list[str]:
    """Return where arrays, summary, folder and pointer do not speak of the same version."""
    summary, pointer = (_json(place) for place in (version / "summary.json", version.parent / "latest.json"))
    if not summary:
        return ["summary.json: is missing or damaged"]
    found = [
        f"summary.json: {name} is {summary.get(name)!r}, that of the arrays {attrs.get(name)!r}"
        for name in SHARED
        if summary.get(name) != attrs.get(name)
    ]
    if re.fullmatch(r"v\d{4,}", version.name) and summary.get("version") != version.name:
        found.append(f"summary.json: is that of {summary.get('version')}")
    if version.parent.parent.name == layout.PRODUCTS and summary.get("dataset") != version.parent.name:
        found.append(f"summary.json: is that of dataset {summary.get('dataset')}")
    if pointer.get("path") == version.name and pointer.get("product_hash") != summary.get("product_hash"):
        found.append("product_hash: is not the one in latest.json")
    return found


def _json(place: Place) -> dict[str, Any]:
    try:
        content = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
