"""What the figures of the fits show, as plain numbers: residuals, intervals, peaks, mixture, quality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from pipeline.dashboard.curves import Kind, Series, symlog
from pipeline.results.lookup import SAME_ENERGY, Floats, fluences_of, residual_of, with_error

__all__ = ["alpha", "components", "mixture_fit", "per_run", "peak_values", "residuals", "scan_energies"]


def scan_energies(scan: xr.Dataset) -> list[float]:
    """Return the energies [eV] of the delay scans."""
    return sorted({round(float(e), 3) for e in scan["energy"].values})


def residuals(scan: xr.Dataset, kinetics: xr.Dataset, fluences: Sequence[float], energy: float) -> list[Series]:
    """Return (data − fit) / σ against delay of the scans at an energy [eV]; the fluences are all that have a colour."""
    found = []
    for i in range(scan.sizes["scan"] if kinetics.sizes["energy"] else 0):
        fluence, here = float(scan["fluence"][i]), float(scan["energy"][i])
        if abs(here - energy) > SAME_ENERGY or fluence not in kinetics["fluence"].values:
            continue
        x, y = symlog(scan["delay"].values), residual_of(kinetics, scan.isel(scan=i))
        found.append(Series(x, y, None, f"{fluence:g} mJ/cm²", fluences.index(fluence), "points"))
    return found


def peak_values(peaks: xr.Dataset, peak: str, variable: str, *, tag: str = "") -> list[Series]:
    """Return position [eV], amplitude [mOD] or fwhm [eV] of the detected lines against delay, per fluence."""
    if peak not in peaks["peak"].values:
        return []
    found, kind = [], _kind(tag, "open")
    for colour, fluence in enumerate(fluences_of(peaks)):
        one = peaks.sel(peak=peak, fluence=fluence)
        y, error = with_error(one, variable, 1e3 if variable == "amplitude" else 1.0)
        y = np.where(one["detected"].values, y, np.nan)
        found.append(Series(symlog(peaks["delay"].values), y, error, f"{fluence:g} mJ/cm²{tag}", colour, kind))
    return found


def _kind(tag: str, other: Kind, own: Kind = "points") -> Kind:
    return other if tag else own


def alpha(mixture: xr.Dataset, *, tag: str = "") -> list[Series]:
    """Return the excited fraction [%] against fluence [mJ/cm²], and the line through it if there is one."""
    x, colour = mixture["fluence"].values.astype(float), 1 if tag else 0
    found = [Series(x, *with_error(mixture, "alpha", 100), f"α{tag}", colour, _kind(tag, "open"))]
    if np.isfinite(mixture["slope"]):
        x = np.linspace(0.0, 1.06 * float(x.max()), 3)
        y: Floats = 100 * (float(mixture["intercept"]) + float(mixture["slope"]) * x)
        found.append(Series(x, y, None, f"line{tag}", colour, _kind(tag, "dashed", "line")))
    return found


def mixture_fit(mixture: xr.Dataset) -> list[Series]:
    """Return the difference [mOD] at late delays and its mixture fit, per fluence."""
    found, energy = [], mixture["energy"].values
    for colour, fluence in enumerate(fluences_of(mixture)):
        one, label = mixture.sel(fluence=fluence), f"{fluence:g} mJ/cm²"
        if np.isfinite(one["alpha"]):
            data = 1e3 * (one["fit"] + one["residual"]).values
            found.append(Series(energy, data, None, label, colour, "points"))
            found.append(Series(energy, 1e3 * one["fit"].values, None, label, colour, "line"))
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
