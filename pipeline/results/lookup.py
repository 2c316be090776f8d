"""Product look-ups for the figures and the dashboard: measured points, fitted curves, determined times."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.results.wording import TAU_SYMBOLS, reference_words
from pipeline.science.kinetics.model import kinetic_trace

__all__ = [
    "QUALITY_PANELS",
    "SAME_ENERGY",
    "Floats",
    "Interval",
    "best_fluence",
    "default_pick",
    "delays_of",
    "edges",
    "fitted_trace",
    "fluences_of",
    "intervals",
    "measured_near",
    "nearest",
    "power_of",
    "reference_of",
    "residual_of",
    "total_error",
    "with_error",
]

Floats = NDArray[np.float64]

SAME_ENERGY = 0.11
"""Energies [eV] that are one energy of a trace: half a usual bin."""
QUALITY_PANELS = (
    ("noise_ratio", "noise / photon noise", 1.0, 1.0),
    ("null_chi2", "odd − even trains, χ²/dof", 1.0, 1.0),
    ("null_chi2_early", "before time zero, χ²/dof", 1.0, 1.0),
    ("drift", "drift along the burst (mOD)", 0.0, 1e3),
)
"""Variables of `/quality` that are drawn run by run: name, title, ideal value, scale."""


def power_of(attrs: Mapping[Any, Any]) -> int:
    """Return the power of the kinetic form in a product's config; 2, as published, where it does not say."""
    try:
        return int(json.loads(attrs["config"])["kinetics"]["power"])
    except (KeyError, TypeError, ValueError):
        return 2


def fluences_of(*groups: xr.Dataset) -> list[float]:
    """Return all fluences [mJ/cm²] of the groups."""
    return sorted({float(f) for group in groups for f in group["fluence"].values})


def delays_of(spectra: xr.Dataset, fluence: float | None = None) -> list[float]:
    """Return the delays [ps] at which spectra were measured, at one fluence or at any."""
    if not spectra.sizes["energy"]:
        return []
    there = (spectra["n_pulses"] > 0).any("energy")
    if fluence is not None:
        if fluence not in spectra["fluence"].values:
            return []
        return [float(t) for t in spectra["delay"].values[there.sel(fluence=fluence).values]]
    return [float(t) for t in spectra["delay"].values[there.any("fluence").values]]


def best_fluence(spectra: xr.Dataset) -> float:
    """Return the highest fluence of those with the most delays."""
    return max(fluences_of(spectra), key=lambda f: (len(delays_of(spectra, f)), f))


def edges(centres: Floats) -> Floats:
    """Return borders half-way between centres that rise; a single one gets a width of one."""
    if len(centres) < 2:
        return np.concatenate([centres - 0.5, centres + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def default_pick(spectra: xr.Dataset, scan: xr.Dataset) -> tuple[float | None, float | None, float | None]:
    """Return fluence, delay and energy to begin with: peak A where it is strongest.

    The fluence is the highest of those whose spectra were taken at the most delays; the energy is that of a delay scan
    if one was made on the peak. None where there are no spectra.
    """
    if not spectra.sizes["energy"] or not delays_of(spectra):
        fluence = max(scan["fluence"].values.tolist(), default=None)
        return fluence, None, (float(scan["energy"][0]) if scan.sizes["scan"] else None)
    fluence = best_fluence(spectra)
    change = spectra["delta_xas"].sel(fluence=fluence)
    strongest = np.nan_to_num(change.values, nan=-np.inf)
    d, e = np.unravel_index(int(np.argmax(strongest)), strongest.shape)
    delay, energy = float(change["delay"][d]), float(change["energy"][e])
    scanned = nearest(scan["energy"].values.tolist(), energy)
    if scanned is not None and abs(scanned - energy) < 1.0:
        energy = nearest(change["energy"].values.tolist(), scanned) or energy
    return fluence, delay, energy


def nearest(values: Sequence[float], wanted: float | None) -> float | None:
    """Return the value closest to the wanted one; the first one if nothing is wanted, None if there is none."""
    if not values:
        return None
    return values[0] if wanted is None else min(values, key=lambda v: abs(v - wanted))


def measured_near(spectra: xr.Dataset, fluence: float, delay: float) -> float | None:
    """Return the delay [ps] of a fluence's spectrum that counts as the wanted one, within 3 % or 0.02 ps, or None."""
    here = nearest(delays_of(spectra, fluence), delay)
    return here if here is not None and abs(here - delay) <= max(0.02, 0.03 * abs(delay)) else None


def with_error(dataset: xr.Dataset, name: str, scale: float = 1.0) -> tuple[Floats, Floats]:
    """Return the values of a variable and their standard errors."""
    return scale * dataset[name].values, scale * dataset[f"{name}_stderr"].values


def total_error(dataset: xr.Dataset, name: str, scale: float = 1.0) -> Floats | None:
    """Return the standard error of a variable with what the reference cannot know of it; None where that is nothing."""
    unknown = dataset.get(f"{name}_stderr_systematic")
    if unknown is None or not bool((unknown > 0).any()):
        return None
    total: Floats = scale * np.hypot(dataset[f"{name}_stderr"].values, unknown.values)
    return total


def reference_of(result: xr.Dataset) -> str:
    """Return in words what the difference of spectra or a delay scan is compared with; empty for an older product."""
    if "reference" not in result:
        return ""
    there = result["n_pulses"] > 0
    there = there.any("energy") if "energy" in there.dims else there
    return reference_words(sorted(set(result["reference"].values[there.transpose(*result["reference"].dims).values])))


def fitted_trace(
    kinetics: xr.Dataset, fluence: float, energy: float, *, power: int = 2
) -> tuple[Floats, Floats] | None:
    """Return delays [ps] and the fitted difference [OD] between them as well, or None where nothing was fitted.

    The model is evaluated with the product's parameters on a fine grid; where that does not meet the stored fit
    (another form was fitted), the stored values are taken as they are.
    """
    if fluence not in kinetics["fluence"].values or not kinetics.sizes["energy"]:
        return None
    fit = kinetics.sel(fluence=fluence).sel(energy=energy, method="nearest")
    t, stored = fit["delay"].values, fit["fit"].values
    good = np.isfinite(stored)
    if abs(float(fit["energy"]) - energy) > SAME_ENERGY or not good.any():
        return None
    t, stored = t[good], stored[good]
    fine, baseline = _fine(t), float(fit["baseline"]) if "baseline" in fit else 0.0
    curve = _model(fit, np.concatenate([t, fine]), power)
    sign = 1.0 if curve is None or float(np.dot(curve[: len(t)], stored - baseline)) >= 0 else -1.0
    if curve is None or np.abs(sign * curve[: len(t)] + baseline - stored).max() > 1e-3 * np.abs(stored).max():
        return t, stored
    return fine, sign * curve[len(t) :] + baseline


def residual_of(kinetics: xr.Dataset, scan: xr.Dataset) -> Floats:
    """Return (data − fit) / σ of a delay scan at its delays; NaN where nothing was fitted."""
    fit = kinetics["residual"].sel(fluence=float(scan["fluence"])).sel(energy=float(scan["energy"]), method="nearest")
    left = fit.reindex(delay=scan["delay"].values, method="nearest", tolerance=1e-6).values
    return left / scan["delta_xas_stderr"].values


def _fine(t: Floats) -> Floats:
    near = np.linspace(max(t.min(), -1.0), min(t.max(), 1.0), 241)
    far = np.geomspace(1.0, max(t.max(), 1.0), 60)
    result: Floats = np.unique(np.concatenate([t[t < -1.0], near, far[far <= t.max()]]))
    return result


def _model(fit: xr.Dataset, t: Floats, power: int) -> Floats | None:
    value: dict[str, Any] = {
        str(n): float(v) for n, v in zip(fit["parameter"].values, fit["value"].values, strict=True)
    }
    taus = [value[n] for n in TAU_SYMBOLS if np.isfinite(value.get(n, np.nan))]
    amplitudes = fit["amplitude"].values[: len(taus)]
    if not taus or not np.isfinite([*amplitudes, value["t_d"], value["irf_sigma"]]).all():
        return None
    return kinetic_trace(
        t, t_d=value["t_d"], irf_sigma=value["irf_sigma"], taus=taus, amplitudes=amplitudes, power=power
    )


@dataclass(frozen=True)
class Interval:
    """What is known about one time [ps] at one fluence; an open end is None, the value too unless it is determined."""

    name: str
    fluence: float
    value: float | None
    stderr: float | None
    ci68: tuple[float | None, float | None]
    ci95: tuple[float | None, float | None]
    determined: bool
    described: bool
    """False: the model does not describe the data, and the interval would hold only if it did."""
    verdict: str

    @property
    def instead_of_value(self) -> str:
        """What stands where the value would."""
        if not self.described:
            return "the model does not fit"
        return "interval only" if any(end is not None for end in self.ci95) else "not determined"


def intervals(kinetics: Sequence[Mapping[str, Any]]) -> list[Interval]:
    """Return what the summary's `kinetics` says about the times of its form, τ1 first, per fluence that was fitted."""
    found = []
    for name in TAU_SYMBOLS:
        for fit in kinetics:
            p = fit["parameters"].get(name)
            # without a value it was not fitted, or the form does not have it
            if p is None or p["value"] is None:
                continue
            known = bool(p["identifiable"])
            value, stderr = (p["value"], p["stderr"]) if known else (None, None)
            fits = fit.get("describes_data") is not False
            ci68, ci95 = tuple(p["ci68"]), tuple(p["ci95"])
            found.append(Interval(name, fit["fluence"], value, stderr, ci68, ci95, known, fits, p["verdict"]))
    return found
