"""A product's summary beside the truth that was simulated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["Comparison", "compare", "comparison_text"]

Comparison = list[dict[str, Any]]
"""Rows: name, value, stderr, truth, unit, and identifiable for times."""


def compare(summary: Mapping[str, Any], truth: Mapping[str, Any]) -> Comparison:
    """Return the numbers of a summary that have a simulated truth, each with it."""
    rows: Comparison = []
    kinetics = truth["kinetics"]
    true_times = {f"tau{i + 1}": tau for i, tau in enumerate(kinetics["taus"])}
    true_times |= {"t_d": kinetics["t_d"], "irf_sigma": kinetics["irf_sigma"]}
    for fit in summary["kinetics"]:
        for name, p in fit["parameters"].items():
            if p["value"] is not None and p["stderr"]:
                row = {
                    "name": f"{name} at {fit['fluence']:g} mJ/cm²",
                    "unit": "ps",
                    "truth": true_times[name],
                }
                rows.append({**row, **{k: p[k] for k in ("value", "stderr", "identifiable", "ci68")}})
    alphas = dict(zip(truth["mixture"]["fluences"], truth["mixture"]["alpha"], strict=True))
    for one in summary["alpha"]:
        if one["alpha"]["value"] is not None and one["fluence"] in alphas:
            rows.append(
                {
                    "name": f"alpha at {one['fluence']:g} mJ/cm²",
                    "truth": alphas[one["fluence"]],
                    **one["alpha"],
                }
            )
    for one in summary["peaks"]:
        true_peak = _true_peak(truth, one)
        if true_peak is not None:
            name = f"peak {one['peak']} at {one['fluence']:g} mJ/cm², {one['delay']:.2f} ps"
            rows.append({"name": name, "truth": true_peak, **one["position"]})
    return rows


def _true_peak(truth: Mapping[str, Any], peak: Mapping[str, Any]) -> float | None:
    for run in truth["runs"]:
        if run["kind"] == "energy_scan" and run["fluence"] == peak["fluence"]:
            for k, delay in enumerate(run["delays"]):
                if abs(delay - peak["delay"]) < 0.01:
                    return float(run["peaks"][peak["peak"]]["position"][k])
    return None


def comparison_text(rows: Comparison) -> str:
    """Return the rows as a table; the last column is the distance from the truth in standard errors."""
    lines = [f"{'':34s}{'fitted':>22s}{'simulated':>12s}{'off by':>9s}"]
    for row in rows:
        off = (row["value"] - row["truth"]) / row["stderr"]
        shown = f"{row['value']:.4g} ± {row['stderr']:.2g} {row['unit'] if row['unit'] != '1' else ''}".rstrip()
        note = (
            ""
            if row.get("identifiable", True)
            else "   not determined by these data, see ci68: " + _interval(row["ci68"])
        )
        if row["unit"] == "eV":
            shown = f"{row['value']:.3f} ± {row['stderr']:.3f} eV"
        lines.append(f"{row['name']:34s}{shown:>22s}{row['truth']:>12.4g}{off:>+7.1f} σ{note}")
    return "\n".join(lines)


def _interval(ends: list[float | None]) -> str:
    low, high = ("open" if v is None else f"{v:.2g}" for v in ends)
    return f"{low} … {high} ps"
