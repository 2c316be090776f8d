"""The error budget of a product: as the summary holds it, and as a table for a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from pipeline.results.wording import TAU_SYMBOLS, finite_or_none
from schemas.datasets.budget import BUDGET, SOURCES

__all__ = ["NUMBERS", "budget_of", "budget_text", "shown_in", "total_of"]

NUMBERS = {
    **{name: (f"{symbol}", "fs", 1e3) for name, symbol in TAU_SYMBOLS.items()},
    "alpha": ("α", "%", 1e2),
    "slope": ("slope", "%/(mJ/cm²)", 1e2),
    "position_A": ("peak A", "meV", 1e3),
    "position_B": ("peak B", "meV", 1e3),
}
"""Number of the budget → its symbol, the unit in which its errors are shown, and the factor to that."""


def budget_of(tree: xr.DataTree) -> list[dict[str, Any]]:
    """Return the budget of every number of a product that is there, as the summary holds it.

    Of the peaks' positions it is that of the latest delay of each fluence; the product has the others.
    """
    if BUDGET.name not in tree.children:
        return []
    budget = tree[BUDGET.name].to_dataset()
    return [
        {"quantity": name, "unit": budget[variable].attrs["units"], **about, "entries": _entries(budget, variable, at)}
        for name, variable, at, about in _numbers(budget)
    ]


def _numbers(budget: xr.Dataset) -> Iterator[tuple[str, str, dict[str, Any], dict[str, float]]]:
    """Yield name, variable, where it is in the budget, and what it is about."""
    for fluence in budget["fluence"].values.tolist():
        at = {"fluence": fluence}
        for name in map(str, budget["parameter"].values):
            if _is_there(budget["tau_status"].sel(at | {"parameter": name})):
                yield name, "tau", at | {"parameter": name}, at
        if _is_there(budget["alpha_status"].sel(at)):
            yield "alpha", "alpha", at, at
        for peak in map(str, budget["peak"].values):
            status = budget["position_status"].sel(at | {"peak": peak})
            seen = [d for d in budget["delay"].values.tolist() if _is_there(status.sel(delay=d))]
            if seen:
                where = at | {"delay": seen[-1]}
                yield f"position_{peak}", "position", where | {"peak": peak}, where
    if _is_there(budget["slope_status"]):
        yield "slope", "slope", {}, {}


def _is_there(status: xr.DataArray) -> bool:
    return not bool((status == "no_value").all())


def _entries(budget: xr.Dataset, variable: str, at: Mapping[str, Any]) -> list[dict[str, Any]]:
    errors, statuses = (budget[name].sel(at) for name in (variable, f"{variable}_status"))
    rows = zip(budget["source"].values, errors.values.tolist(), statuses.values, strict=True)
    return [{"source": str(s), "error": finite_or_none(e), "status": str(said)} for s, e, said in rows]


def total_of(entries: Iterable[Mapping[str, Any]]) -> float:
    """Return the root of the sum of squares of the entries that are known."""
    return float(np.sqrt(sum((e["error"] or 0.0) ** 2 for e in entries)))


def shown_in(row: Mapping[str, Any]) -> tuple[str, float]:
    """Return what a number is called, with fluence, delay and the unit of its errors, and the factor to that unit."""
    symbol, unit, factor = NUMBERS[row["quantity"]]
    about = [f"{row['fluence']:g} mJ/cm²"] if row.get("fluence") is not None else []
    about += [f"{row['delay']:.3g} ps"] if row.get("delay") is not None else []
    return f"{' '.join([symbol, ', '.join(about)]).strip()} ({unit})", factor


def budget_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the budget of a summary as a table: a line for each number, a column for each source of error."""
    if not rows:
        return "no error budget: the product was made by an older trxas; process it again"
    names = [shown_in(row)[0] for row in rows]
    width = max(map(len, names))
    lines = ["error budget", " " * width + "".join(f"{head:>11s}" for head in ("total", *SOURCES))]
    for name, row in zip(names, rows, strict=True):
        factor = shown_in(row)[1]
        cells = [_short(factor * total_of(row["entries"])), *(_cell(e, factor) for e in row["entries"])]
        lines.append(f"{name:{width}s}" + "".join(f"{cell:>11s}" for cell in cells))
    lines += [
        "+ beside the errors that stand behind the number   – no part in it   ? not known, and missing in the total"
    ]
    lines += [f"{source:>{max(map(len, SOURCES))}s}: {text}" for source, text in SOURCES.items()]
    return "\n".join(lines)


def _cell(entry: Mapping[str, Any], factor: float) -> str:
    if entry["error"] is None:
        return "?"
    if entry["status"] == "none":
        return "–"
    shown = _short(factor * entry["error"])
    return f"+{shown}" if entry["status"] == "beside" and shown[0] != "<" else shown


def _short(value: float) -> str:
    """Return two digits, without an exponent where people would not write one."""
    rounded = float(f"{value:.2g}")
    return f"{rounded:.4f}".rstrip("0").rstrip(".") if rounded >= 1e-4 or rounded == 0 else "<0.0001"
