"""What changed between two versions of a product: config, code, inputs, numbers, arrays and warnings.

A change is told in units of the larger of the two standard errors. Versions usually share their data, so the errors of
both are one and the same scatter: 1 means that the choice made as much as the noise does, whatever the correlation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from pipeline.storage import store
from pipeline.storage import versions as publish
from pipeline.storage.places import Place, place
from schemas.notes import OLDER, WORDS, Note, as_plain, read_notes

__all__ = ["compare", "compare_versions", "comparison_text", "other_settings"]

MOST = 15
"""Changes that a person reads before losing the thread."""
SAME_PLACE = 0.1
"""Points of two grids that differ by less than this part of a step are the same point."""
ABOUT = ("dataset", "created", "code_version", "code_hash", "schema_version", "product_hash", "calibration")
NO_SETTINGS = ("runs", "raw", "compute", "watch")
_VERSION = re.compile(r"v\d{4,}")


def compare_versions(old: str, new: str) -> dict[str, Any]:
    """Compare two products by path or URL; a bare `v0001` is a version beside the other one.

    Raises
    ------
    ProductError
        If one of them is not there.
    """
    first, second = _beside(old, new), _beside(new, old)
    trees = [store.open_tree(v / "product.zarr").load() for v in (first, second)]
    compared = compare(*trees)
    for side, version in (("old", first), ("new", second)):
        compared[side] = {"where": str(version), **compared[side]}
    return {**compared, "warnings": _said(*(_notes_of(version) for version in (first, second)))}


def _notes_of(version: Place) -> list[Note]:
    summary: Any = publish.read_summary(version)
    return read_notes(summary.get("warnings", []))


def _said(old: list[Note], new: list[Note]) -> dict[str, list[dict[str, Any]]]:
    """Return the notes that only one of two products has: same code and same text is the same note."""

    def only(these: list[Note], those: list[Note]) -> list[dict[str, Any]]:
        return as_plain(n for n in these if not any(_same_note(n, other) for other in those))

    return {"added": only(new, old), "removed": only(old, new)}


def _same_note(one: Note, other: Note) -> bool:
    # an older product has no codes
    return one.text == other.text and (one.code == other.code or OLDER in (one.code, other.code))


def other_settings(former: Place | None, version: Place) -> str:
    """Return one line that names the settings in which a version differs from the one before it; empty where there are none.

    Which runs are in it, and where it was computed, are no settings.
    """
    if former is None or former == version:
        return ""
    configs = [_flat(_config(v)) for v in (former, version)]
    changed = [row for row in _changes(*configs) if row["key"].partition(".")[0].partition("[")[0] not in NO_SETTINGS]
    if not changed:
        return ""
    shown = [f"{row['key']} {_word(row['old'])} → {_word(row['new'])}" for row in changed[:4]]
    more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
    return f"other settings than {former.name}: {', '.join(shown)}{more}"


def _config(version: Place) -> dict[str, Any]:
    try:
        head = json.loads((version / "product.zarr" / "zarr.json").read_text(encoding="utf-8"))
        return dict(json.loads(head["attributes"]["config"]))
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _beside(name: str, other: str) -> Place:
    if _VERSION.fullmatch(name) and not place(name).exists():
        return publish.resolve(publish.resolve(other).parent / name)
    return publish.resolve(name)


def compare(old: xr.DataTree, new: xr.DataTree) -> dict[str, Any]:
    """Return what differs between two products, as plain data that JSON can hold.

    Parameters
    ----------
    old, new
        Trees with all groups and root attributes, see `schemas.products`.

    Returns
    -------
    dict
        `old`, `new`: what identifies each. `config`, `environment`: key, old, new. `inputs`: added, removed, changed files
        by run. `numbers`: name, unit, old and new value with stderr, difference, sigmas. `arrays`: group, variable,
        points in common and in all, max_difference, max_sigmas, same.
    """
    configs = [_flat(json.loads(t.attrs.get("config", "{}"))) for t in (old, new)]
    profiles = [t.attrs.get("instrument", {}).get("roles") for t in (old, new)]
    if None not in profiles:
        configs = [c | _flat(p, "profile") for c, p in zip(configs, profiles, strict=True)]
    return {
        "old": {k: old.attrs.get(k) for k in ABOUT},
        "new": {k: new.attrs.get(k) for k in ABOUT},
        "config": _changes(*configs),
        "environment": _changes(*(dict(t.attrs.get("environment", {})) for t in (old, new))),
        "inputs": _inputs(*(_files(t.attrs.get("inputs", {})) for t in (old, new))),
        "numbers": _numbers(old, new),
        "arrays": [row for name in _union(old.children, new.children) for row in _group(name, old, new)],
    }


# --- config and inputs -----------------------------------------------------------------------------------------------


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Return nested mappings as dotted keys; entries of a list of runs are named by their run, so that order is nothing."""
    if isinstance(value, Mapping):
        parts = [(f"{key}.{k}" if key else str(k), v) for k, v in value.items()]
    elif isinstance(value, list) and value and all(isinstance(v, Mapping) and "run" in v for v in value):
        parts = [(f"{key}[run {v['run']}]", {k: w for k, w in v.items() if k != "run"}) for v in value]
    else:
        return {key: value}
    return {k: w for name, part in parts for k, w in _flat(part, name).items()}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": k, "old": old.get(k), "new": new.get(k)} for k in _union(old, new) if old.get(k) != new.get(k)]


def _union(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> list[str]:
    return list(dict.fromkeys([*map(str, old), *map(str, new)]))


def _files(inputs: Mapping[str, list[Mapping[str, Any]]]) -> dict[str, str]:
    return {f"{run}/{f['name']}": str(f["sha256"]) for run, files in inputs.items() for f in files}


def _inputs(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, list[str]]:
    return {
        "added": sorted(set(new) - set(old)),
        "removed": sorted(set(old) - set(new)),
        "changed": sorted(n for n in set(old) & set(new) if old[n] != new[n]),
    }


# --- numbers ---------------------------------------------------------------------------------------------------------


def _numbers(old: xr.DataTree, new: xr.DataTree) -> list[dict[str, Any]]:
    """Return every headline number that either product has, changed or not."""
    before, after = (dict(_headlines(t)) for t in (old, new))
    rows = []
    for name in _union(before, after):
        (value, error, unit), (value2, error2, unit2) = before.get(name, _NOTHING), after.get(name, _NOTHING)
        sigma = np.fmax(error, error2)
        difference = value2 - value
        rows.append(
            {
                "name": name,
                "unit": unit or unit2,
                "old": {"value": _plain(value), "stderr": _plain(error)},
                "new": {"value": _plain(value2), "stderr": _plain(error2)},
                "difference": _plain(difference),
                "sigmas": _plain(_ratio(difference, sigma)),
            }
        )
    return rows


Number = tuple[float, float, str]
_NOTHING: Number = (np.nan, np.nan, "")


def _headlines(tree: xr.DataTree) -> Iterator[tuple[str, Number]]:
    """Yield name, value, standard error and unit of times, excited fractions, slope and peaks."""
    for group, variable, error, label in (
        ("kinetics", "value", "stderr", "{parameter} at {fluence} mJ/cm²"),
        ("mixture", "alpha", "alpha_stderr", "alpha at {fluence} mJ/cm²"),
        ("mixture", "slope", "slope_stderr", "slope of alpha"),
        ("mixture", "intercept", "intercept_stderr", "intercept of alpha"),
        ("peaks", "position", "position_stderr", "peak {peak} position at {fluence} mJ/cm², {delay} ps"),
        ("peaks", "amplitude", "amplitude_stderr", "peak {peak} amplitude at {fluence} mJ/cm², {delay} ps"),
    ):
        if group not in tree.children or not {variable, error} <= set(tree[group].data_vars):
            continue
        dataset = tree[group].to_dataset()
        values, errors = dataset[variable], dataset[error]
        unit = str(values.attrs.get("units", "1"))
        for index in np.ndindex(values.shape):
            if np.isfinite(values.values[index]):
                at = {str(d): _label(dataset[d].values[i]) for d, i in zip(values.dims, index, strict=True)}
                yield label.format(**at), (float(values.values[index]), float(errors.values[index]), unit)


def _label(value: Any) -> str:
    return str(value) if isinstance(value, str) else f"{value:.3g}"


# --- arrays ----------------------------------------------------------------------------------------------------------


def _group(name: str, old: xr.DataTree, new: xr.DataTree) -> list[dict[str, Any]]:
    if name not in old.children or name not in new.children:
        only = "new" if name in new.children else "old"
        return [{"group": name, "variable": None, "only": only, "same": False}]
    first, second = old[name].to_dataset(), new[name].to_dataset()
    left, right = _on_common_points(first, second)
    rows = []
    for variable in _union(first.data_vars, second.data_vars):
        row: dict[str, Any] = {"group": name, "variable": variable}
        if variable not in first or variable not in second:
            rows.append({**row, "only": "new" if variable in second else "old", "same": False})
        elif first[variable].dims != second[variable].dims:
            rows.append({**row, "dims": [list(map(str, ds[variable].dims)) for ds in (first, second)], "same": False})
        else:
            points = [int(ds[variable].size) for ds in (left, first, second)]
            row |= dict(zip(("points", "points_old", "points_new"), points, strict=True))
            row["unit"] = first[variable].attrs.get("units", "1")
            error = "stderr" if variable == "value" else f"{variable}_stderr"
            known = error in left and error in right
            sigma = np.fmax(left[error].values, right[error].values) if known else None
            rows.append(row | _difference(left[variable], right[variable], sigma, len(set(points)) == 1))
    return rows


def _on_common_points(old: xr.Dataset, new: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset]:
    """Return both datasets at the points that they share along every dim; measured positions agree to a part of a step."""
    for dim in [d for d in old.dims if d in old.indexes and d in new.indexes]:
        first, second = old.indexes[dim], new.indexes[dim]
        if first.dtype.kind == second.dtype.kind == "f" and len(first) and len(second):
            steps = np.concatenate([np.diff(np.unique(grid)) for grid in (first, second)])
            # smaller than half a step, so that no point has two partners
            tolerance = SAME_PLACE * steps.min() if steps.size else 1e-6 * max(1.0, abs(first[0]))
            old, new = old.sortby(dim), new.sortby(dim)
            partner = new.indexes[dim].get_indexer(old.indexes[dim], method="nearest", tolerance=tolerance)
        else:
            partner = second.get_indexer(first)
        old, new = old.isel({dim: partner >= 0}), new.isel({dim: partner[partner >= 0]})
    return old, new


def _difference(left: xr.DataArray, right: xr.DataArray, sigma: np.ndarray | None, whole: bool) -> dict[str, Any]:
    """Return how two arrays differ at their common points; `whole` says that neither has others."""
    a, b = left.values, right.values
    if a.shape != b.shape:
        return {"points": 0, "max_difference": None, "max_sigmas": None, "same": False}
    same = np.asarray(a == b)
    row: dict[str, Any] = {"max_difference": None, "max_sigmas": None}
    if a.dtype.kind in "fiu" and b.dtype.kind in "fiu":
        same |= np.isnan(a.astype(float)) & np.isnan(b.astype(float))
        change = np.where(same, 0.0, np.abs(b.astype(float) - a.astype(float)))
        row["max_difference"] = _largest(change)
        row["max_sigmas"] = None if sigma is None else _largest(_ratio(change, sigma))
    return {**row, "same": whole and bool(same.all()), "n_different": int((~same).sum())}


def _ratio(difference: Any, sigma: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(difference) == 0, 0.0, np.asarray(difference) / sigma)


def _largest(values: np.ndarray) -> float | None:
    finite = values[np.isfinite(values)]
    return float(finite.max()) if finite.size else None


def _plain(value: Any) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None


# --- text ------------------------------------------------------------------------------------------------------------


def comparison_text(compared: Mapping[str, Any], *, most: int | None = MOST) -> str:
    """Return a comparison as text for a terminal; what did not change is one line.

    Of numbers and of arrays the `most` largest changes are shown, the largest first; None: all.
    """
    lines = []
    for side in ("old", "new"):
        about = compared[side]
        lines.append(f"{side}  {about.get('where', '')}  made {about['created']} by trxas {about['code_version']}")
    if compared["old"]["product_hash"] == compared["new"]["product_hash"]:
        lines.append("same arrays, bit for bit")
    changed = [k for k in ABOUT if k not in ("created", "product_hash") and compared["old"][k] != compared["new"][k]]
    lines += [f"{name}  {_word(compared['old'][name])} → {_word(compared['new'][name])}" for name in changed]
    for title in ("config", "environment"):
        rows = compared[title]
        lines.append(f"{title}" if rows else f"{title}  no change")
        lines += [f"  {r['key']}: {_word(r['old'])} → {_word(r['new'])}" for r in rows]
    inputs = compared["inputs"]
    lines.append("inputs" if any(inputs.values()) else "inputs  no change")
    lines += [f"  {what} {name}" for what, names in inputs.items() for name in names]
    if (said := compared.get("warnings")) is not None:
        lines.append("warnings" if any(said.values()) else "warnings  no change")
        lines += [f"  {what} {WORDS[n.severity]} {n.text}" for what, stored in said.items() for n in read_notes(stored)]
    moved = [r for r in compared["numbers"] if r["difference"] != 0]
    lines.append("numbers" if moved else "numbers  no change")
    lines += _largest_first(moved, lambda r: _size(r["sigmas"]), _number_line, most)
    different = [r for r in compared["arrays"] if not r["same"]]
    lines.append("arrays" if different else "arrays  no change")
    lines += _largest_first(different, _array_size, _array_line, most)
    return "\n".join(lines)


def _largest_first(
    rows: list[Mapping[str, Any]],
    size: Callable[[Mapping[str, Any]], float],
    line: Callable[[Mapping[str, Any]], str],
    most: int | None,
) -> list[str]:
    ordered = sorted(rows, key=size, reverse=True)
    shown = ordered if most is None or len(ordered) <= most + 1 else ordered[:most]
    more = len(ordered) - len(shown)
    return [f"  {line(r)}" for r in shown] + ([f"  and {more} more, smaller ones; --all shows them"] if more else [])


def _size(sigmas: float | None) -> float:
    return -1.0 if sigmas is None else abs(sigmas)


def _array_size(row: Mapping[str, Any]) -> float:
    """Return how much an array changed, in standard errors; one that only one product has comes before all others."""
    return np.inf if "only" in row or "dims" in row else _size(row["max_sigmas"])


def _word(value: Any) -> str:
    return "–" if value is None else (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _number_line(row: Mapping[str, Any]) -> str:
    shown = [
        "none" if n["value"] is None else f"{n['value']:.4g} ± {n['stderr'] if n['stderr'] is not None else np.nan:.2g}"
        for n in (row["old"], row["new"])
    ]
    by = "" if row["sigmas"] is None else f"   by {row['sigmas']:+.2f} σ"
    unit = "" if row["unit"] == "1" else f" {row['unit']}"
    return f"{row['name']}: {shown[0]} → {shown[1]}{unit}{by}"


def _array_line(row: Mapping[str, Any]) -> str:
    name = f"/{row['group']}" + (f"/{row['variable']}" if row["variable"] else "")
    if "only" in row:
        return f"{name}: only in the {row['only']} one"
    if "dims" in row:
        return f"{name}: dims {' → '.join('(' + ', '.join(d) + ')' for d in row['dims'])}"
    parts = []
    if not row["points"] == row["points_old"] == row["points_new"]:
        parts.append(f"{row['points']} points in common of {row['points_old']} → {row['points_new']}")
    if row.get("n_different"):
        parts.append(f"{row['n_different']} of {row['points']} differ")
    if row["max_difference"]:
        parts.append(f"by at most {row['max_difference']:.3g}" + ("" if row["unit"] == "1" else f" {row['unit']}"))
    if row["max_sigmas"]:
        parts.append(f"{row['max_sigmas']:.2g} σ")
    return f"{name}: " + ", ".join(parts or ["other points"])
