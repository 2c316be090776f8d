"""What injected signals say of a session, in numbers and words: for the summary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from pipeline.results.wording import finite_or_none

__all__ = ["CARRIER_WORDS", "injection_lines", "injection_of"]

CARRIER_WORDS = {
    "in_run": "pulses without pump of the same run",
    "pump_off_scan": "pump-off scans",
    "on_top": "pulses with pump, whose own signal cancels",
}
"""Into which pulses signals were put."""
_NUMBERS = ("coverage68", "coverage95", "pull_mean", "pull_std", "bias", "limit", "limit_signal")


def injection_of(tree: xr.DataTree) -> dict[str, Any] | None:
    """Return what the group /injection says of every quantity that was fitted; None where there is no such group."""
    if "injection" not in tree.children:
        return None
    group = tree["injection"].to_dataset()
    rows = []
    for fluence in group["fluence"].values.tolist():
        for quantity in map(str, group["quantity"].values):
            one = group.sel(fluence=fluence, quantity=quantity)
            if int(one["n"]):
                row = {"fluence": fluence, "quantity": quantity, "n": int(one["n"]), "n_known": int(one["n_known"])}
                row |= {name: finite_or_none(one[name]) for name in _NUMBERS}
                limit = finite_or_none(one["alpha_limit"]) if quantity == "alpha" else None
                rows.append(row | {"alpha_limit": limit, "out_of_reach": bool(np.isposinf(one["limit"]))})
    carriers = dict(Counter(map(str, group["carrier"].values)))
    return {"n": int(group.attrs["n"]), "seed": int(group.attrs["seed"]), "carriers": carriers, "quantities": rows}


def injection_lines(injection: Mapping[str, Any] | None) -> Iterator[str]:
    """Return the injection of a summary as lines for a terminal."""
    if injection is None:
        return
    where = ", ".join(f"{CARRIER_WORDS[name]} ({n} runs)" for name, n in injection["carriers"].items())
    yield f"injected signals: {injection['n']} in {where}"
    yield "  should be                     68 %   95 %     0 ± 1"
    for row in injection["quantities"]:
        held = "".join(f"{100 * row[name]:5.0f} %" for name in ("coverage68", "coverage95"))
        pulls = "–" if row["pull_std"] is None else f"{row['pull_mean']:+.2f} ± {row['pull_std']:.2f}"
        head = f"  {row['fluence']:6g} mJ/cm²  {row['quantity']:6s} n = {row['n']:3d}"
        yield f"{head}  {held}   {pulls:>13s}   {_limit(row)}".rstrip()


def _limit(row: Mapping[str, Any]) -> str:
    """Return from which size on a quantity is known."""
    if row["alpha_limit"] is not None:
        return f"found from α = {100 * row['alpha_limit']:.2g} %"
    if row["limit"] is None:
        return "not determined at twice the session's signal" if row["out_of_reach"] else ""
    size = f"{1e3 * row['limit_signal']:.2g} mOD" if row["limit_signal"] is not None else "a signal"
    return f"determined from {size} on ({row['limit']:.2g} × the session's)"
