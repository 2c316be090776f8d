"""What the figures show, as plain numbers: lines, points and bands taken from the groups of a product.

Differences are in mOD; a fluence keeps its colour in every figure. Delays are drawn on a symmetric-log axis: linear
up to a picosecond, logarithmic beyond.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from pipeline.dashboard.data import Product
from pipeline.results.lookup import (
    SAME_ENERGY,
    Floats,
    delays_of,
    edges,
    fitted_trace,
    fluences_of,
    measured_near,
    nearest,
    total_error,
    with_error,
)
from pipeline.results.wording import delay_words

__all__ = ["Kind", "LINEAR", "Series", "absorption", "difference", "map_cells", "symlog", "trace"]

Kind = Literal["band", "points", "line", "dashed", "open"]

LINEAR = 1.5
"""Length of the linear picosecond on the symmetric-log axis, in decades."""


@dataclass(frozen=True)
class Series:
    """One thing to draw, in the units of its axes; `colour` counts through the colours of the page."""

    x: Floats
    y: Floats
    error: Floats | None
    label: str
    colour: int
    kind: Kind
    total: Floats | None = None
    """Error with what the reference cannot know, where that is not 0."""

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


def map_cells(spectra: xr.Dataset, fluence: float, *, even: bool = False) -> dict[str, Floats]:
    """Return the cells of the energy-delay map [mOD]: borders, centre, value, error, pulses; one column each.

    `even`: rows of equal height instead of the symmetric-log axis.
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


def difference(spectra: xr.Dataset, fluences: Sequence[float], delay: float, *, tag: str = "") -> list[Series]:
    """Return ΔXAS [mOD] against energy at a delay, with error bands, per fluence that was measured there."""
    found = []
    for fluence in fluences:
        here = measured_near(spectra, fluence, delay)
        if here is not None:
            one = spectra.sel(fluence=fluence, delay=here)
            y, error = with_error(one, "delta_xas", 1e3)
            label, colour = f"{fluence:g} mJ/cm²{tag}", fluences_of(spectra).index(fluence)
            total = None if tag else total_error(one, "delta_xas", 1e3)
            found.append(Series(spectra["energy"].values, y, error, label, colour, "dashed" if tag else "band", total))
    return found


def absorption(spectra: xr.Dataset, fluence: float, delay: float) -> list[Series]:
    """Return the optical density of the unpumped and the pumped sample against energy."""
    here = nearest(delays_of(spectra, fluence), delay)
    if here is None:
        return []
    one = spectra.sel(fluence=fluence, delay=here)
    names = (("od_unpumped", "ground (unpumped)", 6), ("od_pumped", f"excited, {delay_words(here)}", 3))
    return [Series(one["energy"].values, *with_error(one, name), label, k, "band") for name, label, k in names]


def trace(product: Product, fluences: Sequence[float], energy: float, *, tag: str = "") -> list[Series]:
    """Return ΔXAS [mOD] against delay at an energy: delay scans, values from the spectra, fits.

    A `tag` is added to the labels; then there are only fits, dashed.
    """
    spectra, scan, kinetics = (product.group(n) for n in ("spectra", "delay_scan", "kinetics"))
    found: list[Series] = []
    everything = fluences_of(spectra, scan)
    for fluence in fluences:
        colour, label = everything.index(fluence) if fluence in everything else 0, f"{fluence:g} mJ/cm²{tag}"
        for i in range(scan.sizes["scan"]):
            one, here = scan.isel(scan=i), float(scan["energy"][i])
            if float(one["fluence"]) != fluence or abs(here - energy) >= SAME_ENERGY:
                continue
            if not tag:
                y, error = with_error(one, "delta_xas", 1e3)
                total = total_error(one, "delta_xas", 1e3)
                found.append(Series(symlog(one["delay"].values), y, error, label, colour, "points", total))
            fit = fitted_trace(kinetics, fluence, here, power=product.power)
            if fit is not None:
                x, curve = fit
                found.append(Series(symlog(x), 1e3 * curve, None, label, colour, "dashed" if tag else "line"))
        delays = delays_of(spectra, fluence)
        if delays and not tag:
            one = spectra.sel(fluence=fluence, delay=delays).sel(energy=energy, method="nearest")
            y, error = with_error(one, "delta_xas", 1e3)
            found.append(Series(symlog(delays), y, error, f"{label}, spectra", colour, "open"))
    return found
