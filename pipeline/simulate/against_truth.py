"""A product beside the truth that was simulated, in total errors: statistical and systematic ones together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr
from scipy.constants import speed_of_light
from scipy.interpolate import CubicSpline

from pipeline.results.wording import plus_minus

__all__ = ["Comparison", "compare", "compare_differences", "comparison_text", "differences_text"]

Comparison = list[dict[str, Any]]
"""Rows: name, value, stderr (total), truth, unit, and identifiable for times."""
NEAR = 0.02
"""A run belongs to a spectrum whose delay is this near [ps]: the mean of few trains that jitter is not quite the stage's."""


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
    fluences, alphas = truth["mixture"]["fluences"], truth["mixture"]["alpha"]
    for one in summary["alpha"]:
        if one["alpha"]["value"] is not None and one["fluence"] in fluences:
            true = alphas[fluences.index(one["fluence"])]
            name = f"alpha at {one['fluence']:g} mJ/cm²"
            rows.append({"name": name, "truth": true, **_total(one["alpha"], one["model_stderr"])})
    if summary["slope"]["value"] is not None:
        used = [one["fluence"] for one in summary["alpha"] if one["alpha"]["value"] is not None]
        line = np.polyfit(used, np.interp(used, fluences, alphas), 1)
        rows.append(
            {"name": "slope of alpha", "truth": line[0], **_total(summary["slope"], summary["slope_model_stderr"])}
        )
    if zero := summary["time_zero"]:
        rows.append({"name": "time zero at the stage", "truth": _true_zero(truth), **zero["stage"]})
    for one in summary["peaks"]:
        true_peak = _true_peak(truth, one)
        if true_peak is not None:
            name = f"peak {one['peak']} at {one['fluence']:g} mJ/cm², {one['delay']:.2f} ps"
            rows.append({"name": name, "truth": true_peak, **one["position"]})
    return rows


def _total(estimate: Mapping[str, Any], systematic: float | None) -> dict[str, Any]:
    return {**estimate, "stderr": float(np.hypot(estimate["stderr"], systematic or 0.0))}


def _true_zero(truth: Mapping[str, Any]) -> float:
    """Return the position of the stage [mm] at time zero."""
    delay = truth["scenario"]["delay"]
    return float(delay["t0"] + delay["sign"] * truth["kinetics"]["t_d"] * speed_of_light * 1e-9 / 2)


def _true_peak(truth: Mapping[str, Any], peak: Mapping[str, Any]) -> float | None:
    for run in truth["runs"]:
        if run["kind"] == "energy_scan" and run["fluence"] == peak["fluence"] and run["extrema"]:
            for k, delay in enumerate(run["delays"]):
                if abs(delay - peak["delay"]) < 0.01:
                    return float(run["extrema"][peak["peak"]][k])
    return None


def compare_differences(spectra: xr.Dataset, delay_scan: xr.Dataset, truth: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return every spectrum and delay scan beside ΔXAS that was simulated, times the thickness of the pumped film.

    Parameters
    ----------
    spectra, delay_scan
        Groups of a product.
    truth
        Content of `truth.json`.

    Returns
    -------
    Rows: name, reference, z: (ΔXAS − truth) / total error of every bin that is measured, and, where it is known, film_ratio
    with value, stderr and truth.
    """
    rows = []
    for fluence in spectra["fluence"].values.tolist():
        for delay in spectra["delay"].values.tolist():
            runs = [r for r in _runs(truth, "energy_scan", fluence) if abs(r["delays"][0] - delay) < NEAR]
            one = spectra.sel(fluence=fluence, delay=delay)
            if runs and bool(one["delta_xas"].notnull().any()):
                true = np.mean([_film(r) * _at(one["energy"], r["energies"], r["delta_xas"][0]) for r in runs], axis=0)
                name, film = f"spectrum at {fluence:g} mJ/cm², {delay:.2f} ps", float(np.mean([_film(r) for r in runs]))
                rows.append({"name": name, **_off(one, true), **_film_ratio(one, film)})
    for one in (delay_scan.isel(scan=k) for k in range(delay_scan.sizes["scan"])):
        fluence, energy = float(one["fluence"]), float(one["energy"])
        runs = [r for r in _runs(truth, "delay_scan", fluence) if abs(r["energies"][0] - energy) < 0.1]
        if runs:
            true = np.mean(
                [_film(r) * _at(one["delay"], r["delays"], np.array(r["delta_xas"])[:, 0]) for r in runs], axis=0
            )
            rows.append({"name": f"delay scan at {fluence:g} mJ/cm², {energy:.1f} eV", **_off(one, true)})
    return rows


def _runs(truth: Mapping[str, Any], kind: str, fluence: float) -> Iterator[Mapping[str, Any]]:
    return (run for run in truth["runs"] if run["kind"] == kind and run["fluence"] == fluence)


def _film(run: Mapping[str, Any]) -> float:
    return float(np.mean(run["film_ratio"]))


def _at(axis: xr.DataArray, known: list[float], values: Any) -> np.ndarray:
    """Return what was simulated where it was measured: encoders and arrival times move bins by a little."""
    return np.asarray(CubicSpline(known, values)(axis.values) if len(known) > 1 else np.full(axis.shape, values[0]))


def _off(one: xr.Dataset, true: np.ndarray) -> dict[str, Any]:
    error = np.hypot(one["delta_xas_stderr"].values, np.nan_to_num(one["delta_xas_stderr_systematic"].values))
    z = (one["delta_xas"].values - true) / error
    reference = " ".join(dict.fromkeys(one["reference"].values.ravel().tolist()))
    return {"reference": reference, "z": z[np.isfinite(z)]}


def _film_ratio(one: xr.Dataset, true: float) -> dict[str, Any]:
    if "film_ratio" not in one:
        return {}
    return {
        "film_ratio": {n: float(one[f"film_ratio{e}"]) for n, e in (("value", ""), ("stderr", "_stderr"))}
        | {"truth": true}
    }


def comparison_text(rows: Comparison) -> str:
    """Return the rows as a table; the last column is the distance from the truth in total errors."""
    lines = [f"{'':34s}{'fitted':>26s}{'simulated':>12s}{'off by':>9s}"]
    for row in rows:
        off = (row["value"] - row["truth"]) / row["stderr"]
        unit = "" if row["unit"] == "1" else row["unit"]
        shown = f"{plus_minus(row['value'], row['stderr'])} {unit}".rstrip()
        note = (
            ""
            if row.get("identifiable", True)
            else "   not determined by these data, see ci68: " + _interval(row["ci68"])
        )
        lines.append(f"{row['name']:34s}{shown:>26s}{row['truth']:>12.4g}{off:>+7.1f} σ{note}")
    return "\n".join(lines)


def differences_text(rows: list[dict[str, Any]]) -> str:
    """Return how far every spectrum and delay scan is from the truth."""
    head = f"{'ΔXAS beside the truth':34s}{'reference':>16s}{'bins':>6s}{'χ²/dof':>9s}{'farthest':>11s}"
    lines = [f"{head}   pumped film / other (simulated)"]
    for row in rows:
        z, film = row["z"], row.get("film_ratio")
        far = z[np.argmax(np.abs(z))]
        shown = f"   {plus_minus(film['value'], film['stderr'])} ({film['truth']:.4f})" if film else ""
        lines.append(f"{row['name']:34s}{row['reference']:>16s}{len(z):>6d}{np.mean(z**2):>9.2f}{far:>+9.1f} σ{shown}")
    return "\n".join(lines)


def _interval(ends: list[float | None]) -> str:
    low, high = ("open" if v is None else f"{v:.2g}" for v in ends)
    return f"{low} … {high} ps"
