"""What is injected: a signal of known times and excited fraction, of the size and shape that a session has measured.

Spectra at fluence F show ΔXAS(E, t) = α(F) D(E) K(t): D is the excited less the ground component of the mixture, K the
fitted kinetics, 1 on average over the delays at which α counts. A delay scan shows its own fitted kinetics.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.science.kinetics.model import kinetic_trace

__all__ = ["Course", "Signal", "course_of", "signal_of"]

Floats = NDArray[np.float64]
TAUS, AMPLITUDES, IRF_SIGMA = (0.15, 0.24, 1.5), (1.0, 2.5, -0.5), 0.04
"""Course [ps] where nothing is fitted: the published times, and amplitudes that put the maximum near 0.2 ps."""
SIGNIFICANT = 5.0
"""An excited fraction smaller than so many of its errors is injected as large as that."""
SHORTEST = 0.02
"""A fitted time that is shorter [ps] is none that data could tell; the published ones stand in."""


class Course(NamedTuple):
    """How a signal runs against delay: the kinetic form and its numbers [ps]."""

    t_d: float
    irf_sigma: float
    taus: tuple[float, ...]
    amplitudes: tuple[float, ...]
    sign: float
    power: int

    def at(self, delay: Floats) -> Floats:
        """Return the signal [OD] at delays [ps]."""
        form = {"t_d": self.t_d, "irf_sigma": self.irf_sigma, "taus": self.taus, "power": self.power}
        flat = kinetic_trace(np.ravel(delay), amplitudes=self.amplitudes, **form)  # type: ignore[arg-type]
        return self.sign * np.reshape(flat, np.shape(delay))

    def times(self, size: float) -> Course:
        """Return the course of a signal larger by a factor."""
        return self._replace(amplitudes=tuple(size ** (1.0 / self.power) * a for a in self.amplitudes))


class Signal(NamedTuple):
    """What is injected at one fluence."""

    alpha: float
    """Excited fraction, mean over the delays that count; NaN where no mixture was fitted."""
    energy: Floats
    difference: Floats
    """D: ΔXAS [OD] over energy [eV] of a sample that is excited wholly; held beyond its ends."""
    course: Course
    """K, up to its scale."""
    scale: float
    """Mean of the course over the delays at which alpha counts."""
    scans: Mapping[float, Course]
    """Course of every delay scan, by photon energy [eV]."""

    def at_energies(self, energy: Floats, delay: Floats, size: float = 1.0) -> Floats:
        """Return the signal [OD] of an energy scan, energy [eV] (train), delay [ps] (train, pulse)."""
        known = np.isfinite(energy)
        shape = np.where(known, np.interp(np.where(known, energy, 0.0), self.energy, self.difference), 0.0)
        return size * self.alpha * shape[:, None] * self.share(delay)

    def at_delays(self, energy: float, delay: Floats, size: float = 1.0) -> Floats:
        """Return the signal [OD] of a delay scan at an energy [eV], delay [ps] (train, pulse)."""
        nearest = min(self.scans, key=lambda e: abs(e - energy))
        return _known(self.scans[nearest].times(size), delay)

    def share(self, delay: Floats) -> Floats:
        """Return the excited fraction at delays [ps] over `alpha`."""
        return _known(self.course, delay) / self.scale

    def moved(self, t_d: float, irf_sigma: float) -> Signal:
        """Return the same with another time zero and response [ps]."""
        scans = {energy: c._replace(t_d=t_d, irf_sigma=irf_sigma) for energy, c in self.scans.items()}
        return self._replace(course=self.course._replace(t_d=t_d, irf_sigma=irf_sigma), scans=scans)


def signal_of(
    fluence: float,
    kinetics: xr.Dataset,
    mixture: xr.Dataset,
    delay_scan: xr.Dataset,
    *,
    power: int = 2,
) -> Signal:
    """Return the signal that a session has measured at a fluence, as its fits describe it.

    Parameters
    ----------
    fluence
        Fluence [mJ/cm²].
    kinetics, mixture, delay_scan
        Groups of a product.
    power
        Of the kinetic form.
    """
    here = delay_scan.isel(scan=np.flatnonzero(delay_scan["fluence"].values == fluence))
    scans = {}
    for k in range(here.sizes["scan"]):
        one = here.isel(scan=k)
        scans[float(one["energy"])] = course_of(one, kinetics, fluence, power=power)
    strongest = max(scans.values(), key=lambda c: float(np.abs(c.at(_EARLY)).max()), default=_usual(power, 1.0))
    # a trace with a negative sign is the same course of the excited fraction
    course = strongest._replace(sign=1.0)
    late = np.asarray(mixture.attrs.get("delays", []), np.float64)
    scale = float(np.mean(course.at(late))) if len(late) else float(course.at(_EARLY).max())
    alpha = error = np.nan
    if fluence in mixture["fluence"].values:
        alpha, error = (float(mixture[n].sel(fluence=fluence)) for n in ("alpha", "alpha_stderr"))
        alpha = max(alpha, SIGNIFICANT * error)
    if not scale > 0:
        course, scale = _usual(power, 1.0), float(np.mean(_usual(power, 1.0).at(late)))
    energy, difference = _difference(mixture)
    return Signal(alpha, energy, difference, course, scale, scans)


_EARLY = np.linspace(-0.2, 5.0, 105)
"""Delays [ps] among which a course has its maximum."""


def course_of(scan: xr.Dataset, kinetics: xr.Dataset, fluence: float, *, power: int = 2) -> Course:
    """Return the fitted course of one delay scan; the published one of the same size where no fit gives any.

    Parameters
    ----------
    scan
        delta_xas (delay), coordinate energy [eV].
    kinetics
        Group of a product, over fluence [mJ/cm²] and energy [eV].
    fluence, power
        As in `signal_of`.
    """
    values = scan["delta_xas"].values
    peak = float(values[np.nanargmax(np.abs(values))]) if np.isfinite(values).any() else 0.01
    usual = _usual(power, peak)
    if fluence not in kinetics["fluence"].values or not kinetics.sizes["energy"]:
        return usual
    fit = kinetics.sel(fluence=fluence).sel(energy=float(scan["energy"]), method="nearest")
    named = {str(n): float(v) for n, v in zip(fit["parameter"].values, fit["value"].values, strict=True)}
    taus = tuple(v for n, v in named.items() if n.startswith("tau") and np.isfinite(v))
    amplitudes = tuple(v for v in fit["amplitude"].values.tolist() if np.isfinite(v))
    curve = fit["fit"].values - float(fit["baseline"])
    longest = float(scan["delay"].max())
    if not taus or len(taus) != len(amplitudes) or not all(SHORTEST <= t <= longest for t in taus):
        return usual
    sign = float(np.sign(curve[np.nanargmax(np.abs(curve))])) if power == 2 else 1.0
    return Course(named["t_d"], named["irf_sigma"], taus, amplitudes, sign, power)


def _usual(power: int, peak: float) -> Course:
    course = Course(0.0, IRF_SIGMA, TAUS, AMPLITUDES, float(np.sign(peak)), power)
    return course.times(abs(peak) / float(np.abs(course.at(_EARLY)).max()))


def _known(course: Course, delay: Floats) -> Floats:
    """Return a course at delays; 0 where a pulse has none."""
    known = np.isfinite(delay)
    return np.where(known, course.at(np.where(known, delay, 0.0)), 0.0)


def _difference(mixture: xr.Dataset) -> tuple[Floats, Floats]:
    """Return energies and ΔXAS of a sample that is excited wholly, from the fluence whose share is known best."""
    ratio = (mixture["alpha"] / mixture["alpha_stderr"]).values
    if not np.isfinite(ratio).any():
        return np.zeros(1), np.full(1, np.nan)
    best = mixture.isel(fluence=int(np.nanargmax(ratio)))
    shape = best["fit"] / best["alpha"]
    known = np.isfinite(shape.values)
    return mixture["energy"].values[known], shape.values[known]
