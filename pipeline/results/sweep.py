"""Choices of the analysis over several values: which they are, and what the numbers become, as a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

from pipeline.errors import ConfigError
from pipeline.results.wording import TAU_SYMBOLS, percent, plus_minus
from schemas.datasets.swept_numbers import SWEEP

__all__ = ["Choice", "Outcome", "assignments_of", "choices_of", "sweep_table", "sweep_text", "write_table"]

Choice = Mapping[str, Any]
"""Dotted key of the config → value."""
Outcome = Mapping[str, xr.Dataset] | str
"""The groups kinetics and mixture that a choice gave, or why it gave none."""
TAUS = tuple(TAU_SYMBOLS)
ABSENT = "–"


def choices_of(assignments: Sequence[str]) -> list[Choice]:
    """Return every combination of the values in `key=a,b,c` changes, the last key running fastest.

    Commas inside brackets, braces and quotes belong to a value.

    Raises
    ------
    ConfigError
        If one is no such change, a key is named twice, or there are no values; names it.
    """
    values: dict[str, list[Any]] = {}
    for item in assignments:
        key, equals, text = item.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ConfigError(f"--set {item}: expected key=a,b,c, e.g. mixture.min_delay=0.8,2,4")
        if key in values:
            raise ConfigError(f"--set {key}: named twice; give all its values at once")
        if key == "dataset":
            raise ConfigError("--set dataset: it is the name of the product, and no choice of the analysis")
        try:
            values[key] = yaml.safe_load(f"[{text}]")
        except yaml.YAMLError:
            raise ConfigError(f"--set {item}: {text!r} is no list of YAML values") from None
        if not values[key]:
            raise ConfigError(f"--set {item}: give at least one value behind the equals sign")
    if not values:
        raise ConfigError("--set: name what is to be swept, e.g. mixture.min_delay=0.8,2,4")
    return [dict(zip(values, one, strict=True)) for one in product(*values.values())]


def assignments_of(choice: Choice) -> list[str]:
    """Return a choice as changes of a config."""
    # JSON is YAML
    return [f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in choice.items()]


def sweep_table(choices: Sequence[Choice], outcomes: Sequence[Outcome], remark: Sequence[str]) -> xr.Dataset:
    """Return what became of every choice; NaN where there is no number, with the reason where a choice gave nothing.

    Parameters
    ----------
    choices, outcomes
        In the same order.
    remark
        Runs that could not be used, fits that were not made; empty: none.
    """
    given = [one for one in outcomes if not isinstance(one, str)]
    fluences = np.unique(
        [f for one in given for group in ("kinetics", "mixture") for f in one[group]["fluence"].values]
    )
    labels = [", ".join(_shown(v) for v in choice.values()) for choice in choices]
    axes = {"choice": labels, "key": list(choices[0]), "fluence": fluences, "parameter": list(TAUS)}
    out = SWEEP.empty(axes)
    for name, texts in (
        ("value", [[_shown(v) for v in choice.values()] for choice in choices]),
        ("reason", [one if isinstance(one, str) else "" for one in outcomes]),
        ("remark", list(remark)),
    ):
        out[name] = (out[name].dims, np.array(texts, dtype=str))
    for k, one in enumerate(outcomes):
        if not isinstance(one, str):
            for name, values in _numbers(one["kinetics"], one["mixture"]).items():
                there = out[name].isel(choice=k)
                known = values.reindex({d: there[d] for d in values.dims}, fill_value=there.dtype.type(_nothing(there)))
                out[name][{"choice": k}] = known.transpose(*there.dims).values
    return SWEEP.describe(out)


def _nothing(like: xr.DataArray) -> Any:
    return False if like.dtype == bool else np.nan


def _numbers(kinetics: xr.Dataset, mixture: xr.Dataset) -> dict[str, xr.DataArray]:
    times = kinetics.sel(parameter=[n for n in TAUS if n in kinetics["parameter"].values])
    shares = ("alpha", "alpha_stderr", "alpha_model_stderr", "slope", "slope_stderr")
    found = {"tau": times["value"], "tau_stderr": times["stderr"], "tau_identifiable": times["identifiable"]}
    found |= {name: mixture[name] for name in shares if name in mixture}
    return found | {"kinetics_redchi": kinetics["redchi"], "mixture_redchi": mixture["redchi"]}


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def sweep_text(table: xr.Dataset) -> str:
    """Return a sweep as a table for a terminal: a line for each choice and fluence; times that are not known in brackets."""
    keys = [str(key) for key in table["key"].values]
    head = [*keys, "mJ/cm²", *(f"{symbol} (ps)" for symbol in TAU_SYMBOLS.values()), "χ²/dof", "α", "χ²/dof"]
    rows: list[list[str]] = []
    for k in range(table.sizes["choice"]):
        one = table.isel(choice=k)
        values = [str(v) for v in one["value"].values]
        numbers = {f"{fluence:g}": _cells(one.sel(fluence=fluence)) for fluence in table["fluence"].values}
        rows += [[*values, f, *cells] for f, cells in numbers.items() if set(cells) != {ABSENT}]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ["  ".join(f"{cell:>{w}s}" for cell, w in zip(row, widths, strict=True)) for row in (head, *rows)]
    named = [" ".join(f"{n}={v}" for n, v in zip(keys, one.tolist(), strict=True)) for one in table["value"].values]
    for what, name in (("no result", "reason"), ("note", "remark")):
        lines += [f"{what}: {n}: {said}" for n, said in zip(named, table[name].values.tolist(), strict=True) if said]
    return "\n".join(lines)


def _cells(one: xr.Dataset) -> list[str]:
    times = []
    for name in TAUS:
        time = one.sel(parameter=name)
        shown = plus_minus(float(time["tau"]), float(time["tau_stderr"]))
        times.append(shown if bool(time["tau_identifiable"]) or shown == ABSENT else f"({shown})")
    value, stderr, model = (float(one[n]) for n in ("alpha", "alpha_stderr", "alpha_model_stderr"))
    share = percent({"value": value, "stderr": stderr}, model) if np.isfinite(value) else ABSENT
    qualities = [
        f"{q:.2f}" if np.isfinite(q) else ABSENT for q in map(float, (one["kinetics_redchi"], one["mixture_redchi"]))
    ]
    return [*times, qualities[0], share, qualities[1]]


def write_table(table: xr.Dataset, path: Path) -> None:
    """Write a sweep as CSV, a row for each choice and fluence, with a column for each key and each number."""
    times = table[["tau", "tau_stderr", "tau_identifiable"]]
    flat = table.drop_vars([*times.data_vars, "value", "parameter", "key"])
    for name in TAUS:
        one = times.sel(parameter=name, drop=True)
        flat = flat.assign({name: one["tau"], f"{name}_stderr": one["tau_stderr"]})
        flat[f"{name}_identifiable"] = one["tau_identifiable"]
    for k, key in enumerate(table["key"].values):
        flat[str(key)] = table["value"].isel(key=k, drop=True)
    if not flat.sizes["fluence"]:
        flat = flat.drop_dims("fluence")
    first = [*map(str, table["key"].values), *TAUS]
    rows = flat.assign_coords(choice=np.arange(flat.sizes["choice"])).to_dataframe().reset_index()
    ordered = [*(n for n in first[:-3]), *(n for n in rows.columns if n not in first[:-3])]
    rows[ordered].drop(columns="choice").to_csv(path, index=False, lineterminator="\n")
