"""What the figures of the fits show, as plain numbers: residuals, intervals, peaks, mixture, quality."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import xarray as xr

from pipeline.dashboard.curves import Series, symlog
from pipeline.results.lookup import Floats, fluences_of

__all__ = [
    "alpha",
    "alpha_line",
    "components",
    "mixture_fit",
    "per_run",
    "peak_values",
    "residuals",
    "scan_energies",
]


def scan_energies(scan: xr.Dataset) -> list[float]:
    """Return the energies [eV] of the delay scans."""
    return sorted({round(float(e), 3) for e in scan["energy"].values})


def residuals(
    scan: xr.Dataset, kinetics: xr.Dataset, fluences: Sequence[float], energy: float, everything: Sequence[float]
) -> list[Series]:
    """Return (data − fit) / σ against delay of the scans at an energy [eV]."""
    found = []
    for i in range(scan.sizes["scan"]):
        fluence, here = float(scan["fluence"][i]), float(scan["energy"][i])
        if fluence not in fluences or abs(here - energy) > 0.11 or fluence not in kinetics["fluence"].values:
            continue
        if not kinetics.sizes["energy"]:
            continue
        fit = kinetics.sel(fluence=fluence).sel(energy=here, method="nearest")
        t = scan["delay"].values
        left = fit["residual"].reindex(delay=t, method="nearest", tolerance=1e-6).values
        y = left / scan["delta_xas_stderr"][i].values
        found.append(Series(symlog(t), y, None, f"{fluence:g} mJ/cm²", everything.index(fluence), "points"))
    return found


def peak_values(
    peaks: xr.Dataset, peak: str, variable: str, fluences: Sequence[float], *, tag: str = ""
) -> list[Series]:
    """Return position [eV], amplitude [mOD] or fwhm [eV] of the detected lines against delay."""
    everything, found = fluences_of(peaks), []
    scale = 1e3 if variable == "amplitude" else 1.0
    for fluence in fluences:
        if fluence not in everything or peak not in peaks["peak"].values:
            continue
        one = peaks.sel(peak=peak, fluence=fluence)
        there = one["detected"].values
        y = np.where(there, scale * one[variable].values, np.nan)
        error = scale * one[f"{variable}_stderr"].values
        kind: Literal["open", "points"] = "open" if tag else "points"
        label = f"{fluence:g} mJ/cm²{tag}"
        found.append(Series(symlog(peaks["delay"].values), y, error, label, everything.index(fluence), kind))
    return found


def alpha(mixture: xr.Dataset, *, tag: str = "") -> Series:
    """Return the excited fraction [%] against fluence [mJ/cm²]."""
    x = mixture["fluence"].values.astype(float)
    y, error = 100 * mixture["alpha"].values, 100 * mixture["alpha_stderr"].values
    return Series(x, y, error, f"α{tag}", 1 if tag else 0, "open" if tag else "points")


def alpha_line(mixture: xr.Dataset, *, tag: str = "") -> Series | None:
    """Return the line through the excited fractions, or None without one."""
    if not np.isfinite(mixture["slope"]):
        return None
    x = np.linspace(0.0, 1.06 * float(mixture["fluence"].max()), 3)
    y: Floats = 100 * (float(mixture["intercept"]) + float(mixture["slope"]) * x)
    return Series(x, y, None, f"line{tag}", 1 if tag else 0, "dashed" if tag else "line")


def mixture_fit(mixture: xr.Dataset, fluences: Sequence[float]) -> list[Series]:
    """Return the difference [mOD] at late delays and its mixture fit, per fluence."""
    found, everything = [], fluences_of(mixture)
    for fluence in fluences:
        if fluence not in everything or not np.isfinite(mixture["alpha"].sel(fluence=fluence)):
            continue
        one, energy, colour = mixture.sel(fluence=fluence), mixture["energy"].values, everything.index(fluence)
        data = 1e3 * (one["fit"] + one["residual"]).values
        found.append(Series(energy, data, None, f"{fluence:g} mJ/cm²", colour, "points"))
        found.append(Series(energy, 1e3 * one["fit"].values, None, f"{fluence:g} mJ/cm²", colour, "line"))
    return found


def components(mixture: xr.Dataset, fluence: float | None) -> list[Series]:
    """Return both parts of the fitted pumped spectrum [OD] and their sum at a fluence."""
    if fluence is None or fluence not in mixture["fluence"].values:
        return []
    one, energy = mixture.sel(fluence=fluence), mixture["energy"].values
    ground, excited = one["component_ground"].values, one["component_excited"].values
    if not np.isfinite(ground).any():
        return []
    return [
        Series(energy, ground, None, "(1 − α) · ground", 6, "line"),
        Series(energy, excited, None, "α · excited", 3, "line"),
        Series(energy, ground + excited, None, "sum", 5, "dashed"),
    ]


def per_run(quality: xr.Dataset, variable: str, *, scale: float = 1.0) -> Series:
    """Return a variable of `/quality` against the number of the run in the list."""
    x = np.arange(quality.sizes["run"], dtype=float)
    error = scale * quality[f"{variable}_stderr"].values if f"{variable}_stderr" in quality else None
    return Series(x, scale * quality[variable].values.astype(float), error, variable, 0, "points")
