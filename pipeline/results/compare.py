"""What changed between two versions of a product: config, code, inputs, numbers, arrays and warnings.

Changes are given in units of the larger of the two standard errors. Versions usually share their data, so both errors
describe the same scatter: 1 means that the choice matters as much as the noise.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from pipeline.results.wording import finite_or_none, reference_words
from pipeline.storage import layout, versions
from pipeline.storage.places import Place, place
from schemas.notes import OLDER, WORDS, Note, as_plain, read_notes

__all__ = ["compare", "compare_versions", "comparison_text", "other_settings"]

MOST = 15
"""Number of changes shown unless all are wanted."""
SAME_PLACE = 0.1
"""Points of two grids that differ by less than this part of a step are the same point."""
ABOUT = ("dataset", "created", "code_version", "code_hash", "schema_version", "product_hash", "calibration")
NO_SETTINGS = ("runs", "raw", "compute", "watch")
HEADLINES = (
    ("kinetics", "value", "stderr", "{parameter} at {fluence} mJ/cm²"),
    ("mixture", "alpha", "alpha_stderr", "alpha at {fluence} mJ/cm²"),
    ("mixture", "slope", "slope_stderr", "slope of alpha"),
    ("mixture", "intercept", "intercept_stderr", "intercept of alpha"),
    ("spectra", "film_ratio", "film_ratio_stderr", "thickness of the films at {fluence} mJ/cm², {delay} ps"),
    ("peaks", "position", "position_stderr", "peak {peak} position at {fluence} mJ/cm², {delay} ps"),
    ("peaks", "amplitude", "amplitude_stderr", "peak {peak} amplitude at {fluence} mJ/cm², {delay} ps"),
)
"""Group, variable, its standard error, and what every value of it is called."""


def compare_versions(old: str, new: str) -> dict[str, Any]:
    """Compare two products by path or URL; a bare `v0001` is a version beside the other one.

    Raises
    ------
    ProductError
        If one of them is not there.
    """
    places = {"old": _beside(old, new), "new": _beside(new, old)}
    compared = compare(*(versions.open_product(version).load() for version in places.values()))
    for side, version in places.items():
        compared[side] = {"where": str(version), **compared[side]}
    summaries: list[Any] = [versions.read_summary(version) for version in places.values()]
    before, after = (read_notes(summary.get("warnings", [])) for summary in summaries)
    return {**compared, "warnings": {"added": _only_in(after, before), "removed": _only_in(before, after)}}


def _only_in(these: list[Note], those: list[Note]) -> list[dict[str, Any]]:
    """Return the notes that are not among the others: the same code and text is the same note, an older product has no codes."""
    known = {(n.code, n.text) for n in those} | {(OLDER, n.text) for n in those}
    uncoded = {n.text for n in those if n.code == OLDER}
    return as_plain(n for n in these if (n.code, n.text) not in known and n.text not in uncoded)


def other_settings(former: Place | None, version: Place) -> str:
    """Return one line that names the settings in which a version differs from the one before it; empty where there are none.

    The runs, and where it was computed, are not settings.
    """
    if former is None or former == version:
        return ""
    changes = _changes(*(_flat(_config(v)) for v in (former, version)))
    changed = [row for row in changes if row["key"].partition(".")[0].partition("[")[0] not in NO_SETTINGS]
    if not changed:
        return ""
    more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
    shown = [f"{row['key']} {_from_to(row)}" for row in changed[:4]]
    return f"other settings than {former.name}: {', '.join(shown)}{more}"


def _config(version: Place) -> dict[str, Any]:
    try:
        head = json.loads((version / layout.PRODUCT / "zarr.json").read_text(encoding="utf-8"))
        return dict(json.loads(head["attributes"]["config"]))
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _beside(name: str, other: str) -> Place:
    if versions.number_of(name) and not place(name).exists():
        return versions.resolve_intact(versions.resolve(other).parent / name)
    return versions.resolve_intact(name)


def compare(old: xr.DataTree, new: xr.DataTree) -> dict[str, Any]:
    """Return what differs between two products, as plain data that JSON can hold.

    Parameters
    ----------
    old, new
        Trees with all groups and root attributes, see `schemas.products`.

    Returns
    -------
    dict
        `old`, `new`: what identifies each. `config`, `environment`, `references`: key, old, new. `inputs`: added, removed, changed files
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
        "references": _changes(*(_references(t) for t in (old, new))),
        "inputs": _inputs(*(_files(t.attrs.get("inputs", {})) for t in (old, new))),
        "numbers": _numbers(dict(_headlines(old)), dict(_headlines(new))),
        "arrays": [row for name in _union(old.children, new.children) for row in _arrays(name, old, new)],
    }


# --- config and inputs -----------------------------------------------------------------------------------------------


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Return nested mappings as dotted keys; entries of a list of runs are named by their run, as their order has no meaning."""
    if isinstance(value, Mapping):
        parts = [(f"{key}.{k}" if key else str(k), v) for k, v in value.items()]
    elif isinstance(value, list) and value and all(isinstance(v, Mapping) and "run" in v for v in value):
        parts = [(f"{key}[run {v['run']}]", {k: w for k, w in v.items() if k != "run"}) for v in value]
    else:
        return {key: value}
    return {k: w for name, part in parts for k, w in _flat(part, name).items()}


def _changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"key": k, "old": old.get(k), "new": new.get(k)} for k in _union(old, new) if old.get(k) != new.get(k)]


def _union(old: Iterable[Any], new: Iterable[Any]) -> list[str]:
    return list(dict.fromkeys([*map(str, old), *map(str, new)]))


def _files(inputs: Mapping[str, list[Mapping[str, Any]]]) -> dict[str, str]:
    return {f"{run}/{f['name']}": str(f["sha256"]) for run, files in inputs.items() for f in files}


def _inputs(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, list[str]]:
    return {
        "added": sorted(new.keys() - old.keys()),
        "removed": sorted(old.keys() - new.keys()),
        "changed": sorted(n for n in old.keys() & new.keys() if old[n] != new[n]),
    }


# --- numbers ---------------------------------------------------------------------------------------------------------

Number = tuple[float, float, str]
"""Value, standard error and unit."""


def _numbers(old: Mapping[str, Number], new: Mapping[str, Number]) -> list[dict[str, Any]]:
    """Return every headline number that either product has, changed or not."""
    rows = []
    for name in _union(old, new):
        nothing = (np.nan, np.nan, "")
        (value, error, unit), (value2, error2, unit2) = old.get(name, nothing), new.get(name, nothing)
        difference = value2 - value
        rows.append(
            {
                "name": name,
                "unit": unit or unit2,
                "old": {"value": finite_or_none(value), "stderr": finite_or_none(error)},
                "new": {"value": finite_or_none(value2), "stderr": finite_or_none(error2)},
                "difference": finite_or_none(difference),
                "sigmas": finite_or_none(_ratio(difference, np.fmax(error, error2))),
            }
        )
    return rows


def _headlines(tree: xr.DataTree) -> Iterator[tuple[str, Number]]:
    """Yield name and number of times, excited fractions, slope and peaks."""
    for group, variable, error, label in HEADLINES:
        if group not in tree.children or not {variable, error} <= set(tree[group].data_vars):
            continue
        dataset = tree[group].to_dataset()
        values, errors = dataset[variable], dataset[error]
        for index in np.ndindex(values.shape):
            if np.isfinite(values.values[index]):
                at = {str(d): _label(dataset[d].values[i]) for d, i in zip(values.dims, index, strict=True)}
                number = float(values.values[index]), float(errors.values[index])
                yield label.format(**at), (*number, str(values.attrs.get("units", "1")))


def _references(tree: xr.DataTree) -> dict[str, str]:
    """Return in words what the spectra and delay scans of every fluence are compared with."""
    found: dict[str, list[str]] = {}
    for group in (g for g in ("spectra", "delay_scan") if g in tree.children and "reference" in tree[g]):
        dataset = tree[group].to_dataset()
        measured = (dataset["n_pulses"] > 0).any([d for d in dataset["n_pulses"].dims if d == "energy"])
        fluence = dataset["fluence"].broadcast_like(measured).transpose(*measured.dims).values[measured.values]
        names = dataset["reference"].transpose(*measured.dims).values[measured.values]
        for at, name in sorted(zip(fluence.tolist(), names.tolist(), strict=True)):
            found.setdefault(f"{group} at {at:.3g} mJ/cm²", []).append(name)
    return {key: reference_words(names) for key, names in found.items()}


def _label(value: Any) -> str:
    return str(value) if isinstance(value, str) else f"{value:.3g}"


# --- arrays ----------------------------------------------------------------------------------------------------------


def _arrays(group: str, old: xr.DataTree, new: xr.DataTree) -> Iterator[dict[str, Any]]:
    """Yield a row for every array of a group, or one for a group that only one product has."""
    if group not in old.children or group not in new.children:
        yield {"group": group, "variable": None, "only": "new" if group in new.children else "old", "same": False}
        return
    first, second = old[group].to_dataset(), new[group].to_dataset()
    common = _on_common_points(first, second)
    for variable in _union(first.data_vars, second.data_vars):
        row: dict[str, Any] = {"group": group, "variable": variable}
        if variable not in first or variable not in second:
            yield {**row, "only": "new" if variable in second else "old", "same": False}
        elif first[variable].dims != second[variable].dims:
            yield {**row, "dims": [list(map(str, ds[variable].dims)) for ds in (first, second)], "same": False}
        else:
            points = [int(ds[variable].size) for ds in (common[0], first, second)]
            row |= dict(zip(("points", "points_old", "points_new"), points, strict=True))
            row["unit"] = first[variable].attrs.get("units", "1")
            yield row | _difference(*common, variable, whole=len(set(points)) == 1)


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


def _difference(old: xr.Dataset, new: xr.Dataset, variable: str, *, whole: bool) -> dict[str, Any]:
    """Return how an array differs at the common points; `whole` says that there are no others."""
    a, b = old[variable].values, new[variable].values
    row: dict[str, Any] = {"max_difference": None, "max_sigmas": None}
    if a.shape != b.shape:
        return {"points": 0, **row, "same": False}
    same = np.asarray(a == b)
    if a.dtype.kind in "fiu" and b.dtype.kind in "fiu":
        same |= np.isnan(a.astype(float)) & np.isnan(b.astype(float))
        change = np.where(same, 0.0, np.abs(b.astype(float) - a.astype(float)))
        row["max_difference"] = _largest(change)
        error = "stderr" if variable == "value" else f"{variable}_stderr"
        if error in old and error in new:
            row["max_sigmas"] = _largest(_ratio(change, np.fmax(old[error].values, new[error].values)))
    return {**row, "same": whole and bool(same.all()), "n_different": int((~same).sum())}


def _ratio(difference: Any, sigma: Any) -> Any:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(difference) == 0, 0.0, np.asarray(difference) / sigma)


def _largest(values: np.ndarray) -> float | None:
    return float(values.max(initial=-np.inf, where=np.isfinite(values))) if np.isfinite(values).any() else None


# --- text ------------------------------------------------------------------------------------------------------------


def comparison_text(compared: Mapping[str, Any], *, most: int | None = MOST) -> str:
    """Return a comparison as text for a terminal; what did not change is one line.

    Of numbers and of arrays the `most` largest changes are shown, the largest first; None: all.
    """
    old, new = compared["old"], compared["new"]
    lines = [
        f"{side}  {compared[side].get('where', '')}  made {compared[side]['created']} by trxas {compared[side]['code_version']}"
        for side in ("old", "new")
    ]
    if old["product_hash"] == new["product_hash"]:
        lines.append("same arrays, bit for bit")
    lines += [
        f"{name}  {_from_to({'old': old[name], 'new': new[name]})}"
        for name in ABOUT
        if name not in ("created", "product_hash") and old[name] != new[name]
    ]
    moved = [r for r in compared["numbers"] if r["difference"] != 0]
    different = [r for r in compared["arrays"] if not r["same"]]
    parts = {
        title: [f"{r['key']}: {_from_to(r)}" for r in compared[title]]
        for title in ("config", "environment", "references")
    }
    parts["inputs"] = [f"{what} {name}" for what, names in compared["inputs"].items() for name in names]
    if "warnings" in compared:
        parts["warnings"] = [
            f"{what} {WORDS[n.severity]} {n.text}"
            for what, stored in compared["warnings"].items()
            for n in read_notes(stored)
        ]
    parts["numbers"] = _largest_first(moved, _number_line, most)
    parts["arrays"] = _largest_first(different, _array_line, most)
    for title, rows in parts.items():
        lines += [title, *(f"  {row}" for row in rows)] if rows else [f"{title}  no change"]
    return "\n".join(lines)


def _largest_first(
    rows: list[Mapping[str, Any]], line: Callable[[Mapping[str, Any]], str], most: int | None
) -> list[str]:
    ordered = sorted(rows, key=_size, reverse=True)
    shown = ordered if most is None or len(ordered) <= most + 1 else ordered[:most]
    more = len(ordered) - len(shown)
    return [*map(line, shown), *([f"and {more} more, smaller ones; --all shows them"] if more else [])]


def _size(row: Mapping[str, Any]) -> float:
    """Return how much a number or an array changed, in standard errors; what only one product has comes before all others."""
    if "only" in row or "dims" in row:
        return np.inf
    sigmas = row["sigmas"] if "sigmas" in row else row["max_sigmas"]
    return -1.0 if sigmas is None else abs(sigmas)


def _from_to(row: Mapping[str, Any]) -> str:
    return " → ".join(
        "–" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for value in (row["old"], row["new"])
    )


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
