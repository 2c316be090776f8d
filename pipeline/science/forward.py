"""The noise-free forward model: what spectra and differences a sample with known numbers would show.

Two states share everything but their pre-edge line (and, above the pre-edge, small features), so that their
difference inside the pre-edge window is exactly two Gaussians: positive A and negative B::

    ground(E)  = rest(E) + line(E; ground)
    excited(E) = rest(E) + line(E - s; excited) + features(E)
    dXAS(E, t) = alpha(F, t) · [excited(E; s(t)) - ground(E)]

The line shift s(t) is `early_shift` at the start and exactly 0 from `settle` on. The excited fraction alpha
is fixed by the demand that the trace at the final position E_A of the excited line is the kinetic model K and
nothing else::

    alpha(F, t) = K_F(t) / [excited(E_A; s(t)) - ground(E_A)]

K_F is `kinetics.model.kinetic_trace` with amplitudes scaled such that alpha at the reference delay has its
given value. Simulation, tests and planning use it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import xarray as xr
from scipy import special

from pipeline.errors import DataError
from pipeline.science.kinetics.model import kinetic_trace
from schemas.datasets.model_curves import FORWARD

__all__ = [
    "ForwardModel",
    "Line",
    "delta_xas",
    "excited_fraction",
    "excited_od",
    "ground_od",
    "line_shift",
    "scaled_amplitudes",
    "trace",
    "without_resolution",
]

_FWHM = 2.0 * np.sqrt(2.0 * np.log(2.0))


@dataclass(frozen=True)
class Line:
    """A Gaussian line: centre [eV], optical density at the centre, full width at half maximum [eV]."""

    position: float
    height: float
    fwhm: float


@dataclass(frozen=True)
class ForwardModel:
    """All numbers of a sample: the two states' spectra and the answer to the pump.

    `shared` and the step (`edge_position`, `edge_height`, `edge_fwhm` of its derivative) and `background`
    belong to both states, `features` are added to the excited one. Widths are as measured, with the
    instrument's Gaussian `resolution` (FWHM) in them. `amplitudes` matter by their ratios; `fraction` lists
    (fluence, alpha at `reference_delay`), linear between. Energies eV, delays ps, fluences mJ/cm², heights
    optical density.
    """

    ground: Line
    excited: Line
    shared: tuple[Line, ...]
    features: tuple[Line, ...]
    edge_position: float
    edge_height: float
    edge_fwhm: float
    background: float
    resolution: float
    taus: tuple[float, float, float]
    amplitudes: tuple[float, float, float]
    power: int
    t_d: float
    irf_sigma: float
    reference_delay: float
    fraction: tuple[tuple[float, float], ...]
    early_shift: float
    settle: float


def ground_od(model: ForwardModel, energy: xr.DataArray) -> xr.DataArray:
    """Return the optical density of the ground state at `energy` [eV], dims of `energy`."""
    return _described(_rest(model, energy) + _gaussian(energy, model.ground), "ground_od")


def excited_od(model: ForwardModel, energy: xr.DataArray, *, shift: xr.DataArray | float = 0.0) -> xr.DataArray:
    """Return the optical density of the excited state with its pre-edge line moved by `shift` [eV].

    Dims are those of `energy` and `shift` together.
    """
    with xr.set_options(arithmetic_join="exact"):
        od = _rest(model, energy) + _gaussian(energy - shift, model.excited)
    for line in model.features:
        od = od + _gaussian(energy, line)
    return _described(od, "excited_od")


def line_shift(model: ForwardModel, delay: xr.DataArray) -> xr.DataArray:
    """Return the position of the excited line relative to its final one [eV] at `delay` [ps].

    `early_shift` up to delay 0, exactly 0 from `settle` on; between them the quintic smoothstep, whose first and second
    derivatives vanish at both ends.
    """
    x = (delay / model.settle).clip(0.0, 1.0)
    shift = model.early_shift * (1.0 - x**3 * (10.0 - 15.0 * x + 6.0 * x**2))
    return _described(shift, "line_shift")


def scaled_amplitudes(model: ForwardModel, fluence: float) -> tuple[float, float, float]:
    """Return A1, A2, A3 of the trace at the excited line for a fluence [mJ/cm²], units OD^(1/power).

    Raises
    ------
    DataError
        If the kinetic trace vanishes at the reference delay, so that no amplitude gives the fraction.
    """
    table = np.asarray(model.fraction, dtype=float)
    reference = xr.DataArray(model.reference_delay)
    alpha = float(np.interp(fluence, table[:, 0], table[:, 1]))
    wanted = alpha * float(_contrast(model, line_shift(model, reference)))
    at_reference = float(_kinetic(model, reference, model.amplitudes))
    if not at_reference > 0.0:
        raise DataError(
            f"the kinetic trace is {at_reference:g} at the reference delay {model.reference_delay:g} ps; "
            "choose amplitudes or a delay with a positive signal"
        )
    scale = (wanted / at_reference) ** (1.0 / model.power)
    a1, a2, a3 = (scale * a for a in model.amplitudes)
    return a1, a2, a3


def trace(model: ForwardModel, delay: xr.DataArray, *, fluence: float) -> xr.DataArray:
    """Return the difference at the excited line's final position: the kinetic model, dims of `delay`."""
    signal = _kinetic(model, delay, scaled_amplitudes(model, fluence))
    return _described(signal, "trace")


def excited_fraction(model: ForwardModel, delay: xr.DataArray, *, fluence: float) -> xr.DataArray:
    """Return the excited fraction alpha at `delay` [ps] and one fluence [mJ/cm²], dims of `delay`."""
    alpha = trace(model, delay, fluence=fluence) / _contrast(model, line_shift(model, delay))
    return _described(alpha, "excited_fraction")


def delta_xas(model: ForwardModel, energy: xr.DataArray, delay: xr.DataArray, *, fluence: float) -> xr.DataArray:
    """Return pumped minus unpumped optical density, dims of `energy` and `delay` together."""
    xr.align(energy, delay, join="exact", copy=False)
    difference = excited_od(model, energy, shift=line_shift(model, delay)) - ground_od(model, energy)
    alpha = excited_fraction(model, delay, fluence=fluence)
    return _described(alpha * difference, "delta_xas")


def without_resolution(model: ForwardModel) -> ForwardModel:
    """Return the model without the Gaussian `resolution`: areas stay, widths shrink in quadrature."""

    def sharpen(line: Line) -> Line:
        fwhm = float(np.sqrt(line.fwhm**2 - model.resolution**2))
        return Line(line.position, line.height * line.fwhm / fwhm, fwhm)

    return replace(
        model,
        ground=sharpen(model.ground),
        excited=sharpen(model.excited),
        shared=tuple(sharpen(line) for line in model.shared),
        features=tuple(sharpen(line) for line in model.features),
        edge_fwhm=float(np.sqrt(model.edge_fwhm**2 - model.resolution**2)),
        resolution=0.0,
    )


def _rest(model: ForwardModel, energy: xr.DataArray) -> xr.DataArray:
    scaled = (energy - model.edge_position) * (_FWHM / np.sqrt(2.0) / model.edge_fwhm)
    od = model.background + 0.5 * model.edge_height * (1.0 + xr.apply_ufunc(special.erf, scaled))
    for line in model.shared:
        od = od + _gaussian(energy, line)
    return xr.DataArray(od)


def _gaussian(energy: xr.DataArray, line: Line) -> xr.DataArray:
    exponent = -4.0 * np.log(2.0) * ((energy - line.position) / line.fwhm) ** 2
    return xr.DataArray(line.height * np.exp(exponent))


def _contrast(model: ForwardModel, shift: xr.DataArray) -> xr.DataArray:
    """Excited minus ground optical density at the excited line's final position."""
    here = xr.DataArray(model.excited.position)
    return excited_od(model, here, shift=shift) - ground_od(model, here)


def _kinetic(model: ForwardModel, delay: xr.DataArray, amplitudes: tuple[float, float, float]) -> xr.DataArray:
    shape = {"t_d": model.t_d, "irf_sigma": model.irf_sigma, "taus": model.taus, "power": model.power}
    return delay.copy(data=kinetic_trace(delay.values, amplitudes=amplitudes, **shape))  # type: ignore[arg-type]


def _described(array: xr.DataArray, name: str) -> xr.DataArray:
    return array.assign_attrs(FORWARD[name].attrs)
