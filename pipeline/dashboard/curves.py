"""What the figures show, as plain numbers: lines, points and bands taken from the groups of a product.

Differences are in mOD; a fluence keeps its colour in every figure. Delays are drawn on a symmetric-log axis: linear
up to a picosecond, logarithmic beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from pipeline.science.kinetic_model import kinetic_trace

__all__ = [
    "LINEAR",
    "Floats",
    "Series",
    "absorption",
    "default_pick",
    "delays_of",
    "difference",
    "differences",
    "edges",
    "fitted_trace",
    "fluences_of",
    "map_cells",
    "measured_near",
    "nearest",
    "symlog",
    "trace",
]

Floats = NDArray[np.float64]

LINEAR = 1.5
"""Length of the linear picosecond on the symmetric-log axis, in decades."""
_SAME_ENERGY = 0.11
"""Energies [eV] that are one energy of a trace: half a usual bin."""


@dataclass(frozen=True)
class Series:
    """One thing to draw, in the units of its axes; `colour` counts through the colours of the page."""

    x: Floats
    y: Floats
    error: Floats | None
    label: str
    colour: int
    kind: Literal["band", "points", "line", "dashed", "open"]

    @property
    def finite(self) -> NDArray[np.bool_]:
        """Where there is something to draw."""
        good: NDArray[np.bool_] = np.isfinite(self.x) & np.isfinite(self.y)
        return good


def symlog(delay: ArrayLike) -> Floats:
    """Return where delays [ps] lie on the axis: linear within ±1 ps, decades outside."""
    t = np.asarray(delay, dtype=np.float64)
    far = np.sign(t) * (LINEAR + np.log10(np.maximum(np.abs(t), 1.0)))
    result: Floats = np.where(np.abs(t) <= 1.0, LINEAR * t, far)
    return result


def edges(centres: Floats) -> Floats:
    """Return borders half-way between centres that rise; a single one gets a width of one."""
    if len(centres) < 2:
        return np.concatenate([centres - 0.5, centres + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


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


def default_pick(spectra: xr.Dataset, scan: xr.Dataset) -> tuple[float | None, float | None, float | None]:
    """Return fluence, delay and energy to begin with: peak A where it is strongest.

    The fluence is the highest of those whose spectra were taken at the most delays; the energy is that of a delay scan
    if one was made on the peak. None where there are no spectra.
    """
    if not spectra.sizes["energy"] or not delays_of(spectra):
        fluence = max(scan["fluence"].values.tolist(), default=None)
        return fluence, None, (float(scan["energy"][0]) if scan.sizes["scan"] else None)
    fluence = max(fluences_of(spectra), key=lambda f: (len(delays_of(spectra, f)), f))
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


def map_cells(spectra: xr.Dataset, fluence: float, *, even: bool = False) -> dict[str, Floats]:
    """Return the cells of the energy-delay map [mOD]: borders, centre, value, error, pulses; one column each.

    Parameters
    ----------
    spectra
        The group of that name.
    fluence
        In mJ/cm².
    even
        Rows of equal height instead of the symmetric-log axis.
    """
    delays = np.array(delays_of(spectra, fluence))
    one = spectra.sel(fluence=fluence, delay=delays)
    energy = one["energy"].values
    bottom = edges(np.arange(len(delays), dtype=float) if even else symlog(delays))
    left = edges(energy)
    d, e = (a.ravel() for a in np.indices((len(delays), len(energy))))
    return {
        "left": left[e],
        "right": left[e + 1],
        "bottom": bottom[d],
        "top": bottom[d + 1],
        "energy": energy[e],
        "delay": delays[d],
        "value": 1e3 * one["delta_xas"].values.ravel(),
        "error": 1e3 * one["delta_xas_stderr"].values.ravel(),
        "pulses": one["n_pulses"].values.ravel().astype(float),
    }


def _label(fluence: float, tag: str) -> str:
    return f"{fluence:g} mJ/cm²{tag}"


def difference(spectra: xr.Dataset, fluences: Sequence[float], delay: float, *, tag: str = "") -> list[Series]:
    """Return ΔXAS [mOD] against energy at a delay, with error bands, per fluence that was measured there."""
    found = []
    for fluence in fluences:
        here = measured_near(spectra, fluence, delay)
        if here is None:
            continue
        one = spectra.sel(fluence=fluence, delay=here)
        label = _label(fluence, tag)
        y, error = 1e3 * one["delta_xas"].values, 1e3 * one["delta_xas_stderr"].values
        colour = fluences_of(spectra).index(fluence)
        found.append(Series(one["energy"].values, y, error, label, colour, "dashed" if tag else "band"))
    return found


def differences(spectra: xr.Dataset, fluence: float) -> list[tuple[float, Series]]:
    """Return ΔXAS [mOD] against energy for every delay of a fluence."""
    return [(t, replace(difference(spectra, [fluence], t)[0], colour=0)) for t in delays_of(spectra, fluence)]


def absorption(spectra: xr.Dataset, fluence: float, delay: float) -> list[Series]:
    """Return the optical density of the unpumped and the pumped sample against energy."""
    here = nearest(delays_of(spectra, fluence), delay)
    if here is None:
        return []
    one = spectra.sel(fluence=fluence, delay=here)
    names = (("od_unpumped", "ground (unpumped)", 6), ("od_pumped", f"excited, {here:.3g} ps", 3))
    return [
        Series(one["energy"].values, one[name].values, one[f"{name}_stderr"].values, label, colour, "band")
        for name, label, colour in names
    ]


def trace(
    groups: tuple[xr.Dataset, xr.Dataset, xr.Dataset],
    fluences: Sequence[float],
    energy: float,
    *,
    power: int = 2,
    tag: str = "",
) -> list[Series]:
    """Return ΔXAS [mOD] against delay at an energy: delay scans, values from the spectra, fits.

    Parameters
    ----------
    groups
        `spectra`, `delay_scan` and `kinetics`.
    fluences, energy
        In mJ/cm² and eV.
    power
        Of the kinetic form.
    tag
        Added to the labels; then everything is dashed and the spectra are left out.
    """
    spectra, scan, kinetics = groups
    found: list[Series] = []
    everything = fluences_of(spectra, scan)
    for fluence in fluences:
        colour, label = everything.index(fluence) if fluence in everything else 0, _label(fluence, tag)
        for i in range(scan.sizes["scan"]):
            if float(scan["fluence"][i]) == fluence and abs(float(scan["energy"][i]) - energy) < _SAME_ENERGY:
                one = scan.isel(scan=i)
                y, error = 1e3 * one["delta_xas"].values, 1e3 * one["delta_xas_stderr"].values
                if not tag:
                    found.append(Series(symlog(one["delay"].values), y, error, label, colour, "points"))
                fit = fitted_trace(kinetics, fluence, float(scan["energy"][i]), power=power)
                if fit is not None:
                    x, curve = fit
                    found.append(Series(symlog(x), 1e3 * curve, None, label, colour, "dashed" if tag else "line"))
        delays = delays_of(spectra, fluence)
        if delays and not tag:
            one = spectra.sel(fluence=fluence, delay=delays).sel(energy=energy, method="nearest")
            y, error = 1e3 * one["delta_xas"].values, 1e3 * one["delta_xas_stderr"].values
            found.append(Series(symlog(delays), y, error, f"{label}, spectra", colour, "open"))
    return found


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
    if abs(float(fit["energy"]) - energy) > _SAME_ENERGY or not good.any():
        return None
    t, stored = t[good], stored[good]
    fine = _fine(t)
    curve = _model(fit, np.concatenate([t, fine]), power)
    sign = 1.0 if curve is None or float(np.dot(curve[: len(t)], stored)) >= 0 else -1.0
    if curve is None or np.abs(sign * curve[: len(t)] - stored).max() > 1e-3 * np.abs(stored).max():
        return t, stored
    return fine, sign * curve[len(t) :]


def _fine(t: Floats) -> Floats:
    near = np.linspace(max(t.min(), -1.0), min(t.max(), 1.0), 241)
    far = np.geomspace(1.0, max(t.max(), 1.0), 60)
    result: Floats = np.unique(np.concatenate([t[t < -1.0], near, far[far <= t.max()]]))
    return result


def _model(fit: xr.Dataset, t: Floats, power: int) -> Floats | None:
    value: dict[str, Any] = {
        str(n): float(v) for n, v in zip(fit["parameter"].values, fit["value"].values, strict=True)
    }
    taus = [value[n] for n in ("tau1", "tau2", "tau3") if np.isfinite(value.get(n, np.nan))]
    amplitudes = fit["amplitude"].values[: len(taus)]
    if not taus or not np.isfinite([*amplitudes, value["t_d"], value["irf_sigma"]]).all():
        return None
    return kinetic_trace(
        t, t_d=value["t_d"], irf_sigma=value["irf_sigma"], taus=taus, amplitudes=amplitudes, power=power
    )
