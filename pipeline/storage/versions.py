"""Versions of a product: written to a temporary folder, validated, renamed into place, then marked as latest. A version never changes.

Readers resolve `latest.json` once and open the version's folder; nobody sees half a product. On a file system a version
appears by a rename. An object store has none: there a publisher first takes a number (`_claim`), puts the objects
under it, `summary.json` last, and only then the pointer, which is one object and one request.

What a killed publisher left behind is removed by the next one, once its owner is known to be dead.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar, cast, overload

import xarray as xr
from pydantic import ValidationError

from pipeline.errors import ProductError
from pipeline.storage import layout, leftovers, owners, store
from pipeline.storage.checksums import CHECKSUMS, SUMS, damage, write_sums
from pipeline.storage.hashes import tree_hash, write_json
from pipeline.storage.places import Place, Remote, place
from schemas.products import SCHEMA_VERSION, Pointer, Summary, product_faults, schema_version, summary_faults

__all__ = [
    "schema_remark",
    "check",
    "datasets",
    "intact",
    "intact_latest",
    "latest",
    "number_of",
    "open_product",
    "publish",
    "read_summary",
    "resolve",
    "resolve_intact",
    "versions",
]

_LISTED = 8
"""Maximum number of versions listed in a message, newest first."""
ATTEMPTS = 50
"""Attempts to take a number; publishers that collide back off for a random time, so a few are enough."""


P = TypeVar("P", bound=Place)


def versions(folder: P) -> list[P]:
    """Return the finished versions of a dataset's folder, the oldest first."""
    if isinstance(folder, Path) and not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if _number(p) and _is_finished(p)]
    return cast(list[P], sorted(found, key=_number))


def datasets(out: P) -> list[P]:
    """Return the folders of the datasets of which an output folder or URL holds a product."""
    root = layout.products(out)
    if isinstance(root, Path) and not root.is_dir():
        return []
    return cast(list[P], sorted((p for p in root.iterdir() if latest(p) is not None), key=lambda p: p.name))


def latest(folder: P) -> P | None:
    """Return the latest version of a dataset's folder, or None if nothing was published."""
    try:
        pointer = Pointer.model_validate_json((folder / "latest.json").read_text(encoding="utf-8"))
    except OSError:
        return None
    except ValidationError:
        raise ProductError(
            f"{folder / 'latest.json'}: not a pointer to a version; publish again or restore it"
        ) from None
    version = folder / pointer.path
    if (
        isinstance(folder, Path)
        and isinstance(version, Path)
        and not version.resolve().is_relative_to(folder.resolve())
    ):
        raise ProductError(f"{folder / 'latest.json'}: leads out of its folder, to {version.resolve()}")
    return cast(P, version) if version.is_dir() else None


def intact_latest(folder: P) -> P | None:
    """Return the latest version of a dataset's folder; None if there is none, or it or the pointer to it is damaged."""
    try:
        version = latest(folder)
        return None if version is None else cast(P, intact(version))
    except ProductError:
        return None


@overload
def resolve(where: Path) -> Path: ...
@overload
def resolve(where: Place | str) -> Place: ...
def resolve(where: Place | str) -> Place:
    """Return a version from itself, its product.zarr, latest.json, a dataset's or an output folder; paths or URLs.

    Raises
    ------
    ProductError
        If there is no product, or an output folder holds several datasets.
    """
    path = place(where)
    if path.name == layout.PRODUCT and path.is_dir():
        return path.parent
    if (path / layout.PRODUCT).is_dir():
        return path
    if path.name == "latest.json":
        path = path.parent
    found = latest(path)
    if found is not None:
        return found
    there = datasets(path)
    if len(there) == 1:
        only = latest(there[0])
        if only is not None:
            return only
    if there:
        raise ProductError(f"{path}: holds several datasets ({', '.join(p.name for p in there)}); name one of them")
    if _number(path) and (others := versions(path.parent)):
        named = ", ".join(v.name for v in others[-_LISTED:])
        earlier = f"{len(others) - _LISTED} earlier, " if len(others) > _LISTED else ""
        raise ProductError(f"{path}: no such version; there: {earlier}{named}")
    raise ProductError(f"{path}: no product there; run `trxas process` first")


def open_product(version: Place) -> xr.DataTree:
    """Open the arrays of a version lazily; raises ProductError if they are missing or damaged."""
    return store.open_tree(version / layout.PRODUCT)


def read_summary(version: Place) -> dict[str, object]:
    """Return the summary of a version as it is written; raises ProductError if it is missing or damaged."""
    try:
        summary = json.loads((version / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        summary = None
    if not isinstance(summary, dict):
        raise ProductError(f"{version}: summary.json is missing or damaged; process again")
    return summary


def check(version: Place) -> list[str]:
    """Return one line per fault of a published version: its files, its hash worked out anew, its groups and its summary."""
    found = damage(version, arrays=True)
    try:
        found += product_faults(open_product(version))
    except ProductError:
        if not found:
            raise
    try:
        text = (version / "summary.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return list(dict.fromkeys([*found, "summary.json: is missing"]))
    return [*found, *(f"summary.json: {line}" for line in summary_faults(text))]


def intact(version: Place) -> Place:
    """Return a version that is as it was published.

    Raises
    ------
    ProductError
        If it is damaged: a file is missing or another, or arrays and summary do not belong together.
    """
    found = damage(version)
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise ProductError(
            f"{version}: is damaged ({found[0]}{more}); `trxas validate` lists every fault, processing again publishes it anew"
        )
    return version


def resolve_intact(where: Place | str) -> Place:
    """Return a version as `resolve` does; raises ProductError also where it is damaged."""
    return intact(resolve(where))


def schema_remark(version: Place) -> str:
    """Return a remark on a version of another schema than this program's; empty where it is the same."""
    written = schema_version(open_product(version))
    if written == SCHEMA_VERSION:
        return ""
    return f" (schema version {'not given' if written is None else written}; this program writes {SCHEMA_VERSION})"


def publish(
    folder: Place,
    tree: xr.DataTree,
    summary: dict[str, object],
    *,
    draw: Callable[[xr.DataTree, dict[str, object], Path], None],
    attachments: Mapping[str, str | bytes] | None = None,
    work: Path | None = None,
) -> Place:
    """Validate a product, publish it as the next version of a dataset's folder or URL, and return the version.

    Parameters
    ----------
    tree
        The groups, with all root attributes but `created` and `product_hash`.
    summary
        `schemas.products.Summary` without version, created and product_hash.
    draw
        Draws the figures of a tree into a folder.
    attachments
        Content by path in the version, of files beside the arrays that the product's hash does not cover.
    work
        Local folder in which the version is prepared; needed for a URL.

    Raises
    ------
    ProductError
        If the product does not match its schema; then nothing is published.
    """
    aside = folder if isinstance(folder, Path) else work
    if aside is None:
        raise ValueError("publishing to a URL needs a local work folder")
    aside.mkdir(parents=True, exist_ok=True)
    leftovers.sweep(aside)
    stamp: dict[str, object] = {"product_hash": tree_hash(tree)}
    stamp["created"] = datetime.now(UTC).isoformat(timespec="seconds")
    partial = leftovers.new_partial(aside)
    try:
        tree = tree.copy()
        tree.attrs = {**tree.attrs, **stamp, CHECKSUMS: SUMS}
        store.write_tree(partial / layout.PRODUCT, tree, whole_arrays=True)
        faults = product_faults(open_product(partial))
        if faults:
            raise ProductError(f"the product is not valid and was not published: {'; '.join(faults[:5])}")
        (partial / "figures").mkdir()
        draw(tree, summary, partial / "figures")
        for name, text in (attachments or {}).items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(text.encode() if isinstance(text, str) else text)
        content = {**summary, **stamp}
        version = _rename(folder, partial, content) if isinstance(folder, Path) else _upload(folder, partial, content)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _point(folder, version)
    return version


def _write_summary(partial: Path, content: dict[str, object], version: str) -> None:
    text = Summary.model_validate({**content, "version": version}).model_dump_json(indent=1)
    (partial / "summary.json").write_text(json.dumps(json.loads(text), indent=1, ensure_ascii=False), encoding="utf-8")
    write_sums(partial)


def _is_finished(version: Place) -> bool:
    return (version / "summary.json").is_file()


def number_of(name: str) -> int:
    """Return the number in a version's name, such as `v0001`; 0 if it is none."""
    return int(name[1:]) if re.fullmatch(r"v\d{4,}", name) else 0


def _number(version: Place) -> int:
    return number_of(version.name)


def _next(folder: Place) -> str:
    return f"v{max((_number(p) for p in folder.iterdir()), default=0) + 1:04d}"


def _rename(folder: Path, partial: Path, content: dict[str, object]) -> Path:
    """Rename the finished folder to the next free version; another publisher may take a number at the same time."""
    while True:
        version = folder / _next(folder)
        _write_summary(partial, content, version.name)
        try:
            # rename onto an existing folder that is not empty fails, so that a number is taken once
            partial.rename(version)
        except OSError:
            if not version.exists():
                raise
        else:
            return version


def _claim(folder: Remote) -> tuple[Remote, Remote]:
    """Take the next number; returns the version and the object that marks it as taken.

    Conditional writes are not known to every object store, but listings that show every finished write are. So a publisher
    puts a mark of its own under the number, then lists: the number is its own if nothing else is there. Of two that
    collide, the one that lists later sees both marks, so at most one goes on; both may back off and try again.
    """
    for attempt in range(ATTEMPTS):
        version = folder / _next(folder)
        mark = version / f"{leftovers.CLAIM}{secrets.token_hex(8)}"
        mark.write_text(json.dumps(owners.this_process()))
        if [p.name for p in version.iterdir()] == [mark.name]:
            return version, mark
        mark.remove()
        time.sleep(secrets.randbelow(1000) * 2e-5 * min(attempt + 1, 20))
    raise ProductError(
        f"{folder}: {ATTEMPTS} attempts to take a version number failed; others publish there; try again"
    )


def _upload(folder: Remote, partial: Path, content: dict[str, object]) -> Remote:
    """Upload a finished folder under a number of its own; the summary comes last and makes it a version."""
    leftovers.sweep_versions(p for p in folder.iterdir() if _number(p) and not _is_finished(p))
    version, mark = _claim(folder)
    _write_summary(partial, content, version.name)
    files = {p.relative_to(partial).as_posix(): p for p in sorted(partial.rglob("*")) if p.is_file()}
    last = files.pop("summary.json")
    # if this stops half way, the mark stays: the number is not taken again, and without summary it is no version
    version.upload(files)
    if leftovers.was_abandoned(version):
        raise ProductError(f"{version}: took so long that others gave it up; process again")
    version.upload({last.name: last})
    mark.remove()
    return version


def _point(folder: Place, version: Place) -> None:
    """Point at the newest finished version, which is this one unless another publisher was quicker to finish a later.

    Looking again after writing keeps the pointer from going back: whoever writes it last has seen all that were finished.
    """
    while True:
        summary = read_summary(version)
        known = {k: summary[k] for k in ("product_hash", "created", "schema_version")}
        pointer = Pointer.model_validate({"version": version.name, "path": version.name, **known})
        if isinstance(folder, Path):
            write_json(folder / "latest.json", pointer.model_dump())
        else:
            (folder / "latest.json").write_text(pointer.model_dump_json(indent=1))
        later = [p for p in folder.iterdir() if _number(p) > _number(version) and _is_finished(p)]
        if not later:
            return
        version = max(later, key=_number)
