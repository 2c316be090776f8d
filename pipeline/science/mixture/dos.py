"""Densities of states as model spectra: broadening by instrument and lifetime, and built-in peaks where no calculation is at hand.

A density of states (DOS) is an `xr.DataArray` over `energy` [eV, absolute photon energy] in any unit per energy; the scale is fitted.
"""

from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline
from scipy.optimize import brentq
from scipy.special import voigt_profile

from pipeline.errors import ConfigError, DataError
from pipeline.science.mixture._ground import GroundShape, fit_ground, merge_scans
from pipeline.science.peaks.extrema import find_extrema, mean_separation
from pipeline.science.peaks.line_shape import gaussian
from schemas.datasets.model_curves import DOS, DOS_ENERGY

__all__ = ["FWHM_PER_SIGMA", "broaden", "broadening_reach", "builtin_dos", "shape_of"]

Floats = NDArray[np.float64]
_MAX_POINTS = 20_000
_POINTS_PER_WIDTH = 12.0
FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
_BUILTIN_NARROWING = 0.8  # leaves the mixture fit a positive extra broadening, so that its error is a two-sided one


def broadening_reach(gaussian_fwhm: float, lorentzian_fwhm: float) -> float:
    """Distance [eV] over which broadening carries intensity that matters: 1.5 Gaussian + 6 Lorentzian FWHM (2.6 % of a Lorentzian lies beyond, per side)."""
    return 1.5 * gaussian_fwhm + 6.0 * lorentzian_fwhm


def broaden(
    dos: xr.DataArray,
    gaussian_fwhm: float,
    lorentzian_fwhm: float,
    *,
    step: float | None = None,
    edges: Literal["zero", "hold"] = "zero",
) -> xr.DataArray:
    """Convolve a DOS with a Voigt profile: instrument (Gaussian) and lifetime (Lorentzian).

    The piecewise linear DOS is averaged over the cells of a uniform grid (exact areas), the kernel is normalised on that grid, and the grid is longer than the
    DOS by the length of the kernel: the area `sum(dos) x step` equals the area of the DOS.

    Parameters
    ----------
    dos
        dim energy [eV], increasing.
    gaussian_fwhm, lorentzian_fwhm
        Full widths at half maximum [eV], >= 0.
    step
        Grid step [eV]; by default the finest step of the DOS or a twelfth of the narrowest width, whichever is smaller.
    edges
        What lies outside: "zero", a DOS that is complete (area preserving), or "hold", a DOS cut out of a longer one (its end values continue; the result
        then covers the range of the DOS only).

    Returns
    -------
    xr.DataArray
        dim energy, uniform, in the unit of `dos`.

    Raises
    ------
    ConfigError
        A width is negative or not finite.
    DataError
        The DOS has fewer than two points, is not finite or its energies do not increase.
    """
    for name, width in (("gaussian_fwhm", gaussian_fwhm), ("lorentzian_fwhm", lorentzian_fwhm)):
        if not (np.isfinite(width) and width >= 0):
            msg = f"{name} is {width}: give a width in eV that is zero or positive"
            raise ConfigError(msg)
    energy, values = _checked(dos)
    widths = [w for w in (gaussian_fwhm, lorentzian_fwhm) if w > 0]
    span = energy[-1] - energy[0]
    if step is None:
        step = min([float(np.min(np.diff(energy))), *(w / _POINTS_PER_WIDTH for w in widths)])
        step = max(step, span / _MAX_POINTS)
    kernel = _kernel(step, gaussian_fwhm, lorentzian_fwhm)
    pad = len(kernel) // 2
    count = int(np.ceil(span / step - 1e-9)) + 1
    grid = energy[0] + step * np.arange(-pad - 1, count + pad + 1)
    cells = _cell_means(energy, values, grid, step, hold=edges == "hold")
    smooth = np.convolve(cells, kernel, mode="same") if pad else cells
    if edges == "hold":
        inside = slice(pad + 1, pad + 1 + count)
        grid, smooth = grid[inside], smooth[inside]
    attrs = DOS.attrs | {str(key): value for key, value in dos.attrs.items()}
    attrs |= {"gaussian_fwhm_eV": float(gaussian_fwhm), "lorentzian_fwhm_eV": float(lorentzian_fwhm)}
    coord = ("energy", grid, DOS_ENERGY.attrs)
    return xr.DataArray(smooth, dims="energy", coords={"energy": coord}, attrs=attrs, name=dos.name)


def shape_of(dos: xr.DataArray, gaussian_fwhm: float, lorentzian_fwhm: float) -> GroundShape:
    """Return the broadened DOS, which can be moved and broadened further; beyond its ends their values continue."""
    energy = dos["energy"].values
    # fine enough for splines of anything the DOS resolves; bounded, for a DOS tabulated over hundreds of eV
    step = float(np.clip(np.min(np.diff(energy)), max((energy[-1] - energy[0]) / 8000.0, 0.002), 0.02))
    smooth = broaden(dos, gaussian_fwhm, lorentzian_fwhm, step=step, edges="hold")
    return GroundShape(smooth["energy"].values, smooth.values)


def builtin_dos(
    spectra: xr.Dataset, *, window: tuple[float, float], min_delay: float = 0.8, separation: float | None = None
) -> tuple[xr.DataArray, xr.DataArray]:
    """Model peaks to use in the place of calculated DOS: (ground, excited).

    Ground is the pre-edge peak of the unpumped spectrum inside the window, a Gaussian over a straight line; excited is the same peak, moved until the maximum and
    the minimum of the difference of both are as far apart as those of ΔXAS. A mixture fitted with these says which share of the pre-edge peak has moved: α depends on this model.

    Parameters
    ----------
    spectra
        `od_unpumped`, `delta_xas` and errors; dims (fluence, delay, energy).
    window
        Photon energies [eV] that hold the pre-edge peak.
    min_delay
        ΔXAS at these and later delays [ps] gives the separation.
    separation
        Position of the ground peak minus that of the excited one [eV]; from the extrema of ΔXAS, see `find_extrema`, if not given.

    Raises
    ------
    DataError
        No peak in the unpumped spectrum, or no separation because ΔXAS shows no peaks.
    """
    apart = np.nan
    if separation is None:
        apart, _ = mean_separation(find_extrema(spectra, window=window), min_delay=min_delay)
        if not np.isfinite(apart):
            msg = (
                f"no maximum and minimum in ΔXAS between {window[0]:g} and {window[1]:g} eV at delays >= {min_delay:g} ps, "
                "so the excited model peak has no place: give mixture.dos_ground and mixture.dos_excited, or more statistics"
            )
            raise DataError(msg)
    merged = merge_scans(spectra, window)
    span = window[1] - window[0]
    narrow = span / 40.0
    grid = np.arange(window[0] - 2.0 * span, window[1] + 2.0 * span, narrow / 4.0)
    shape = GroundShape(grid, gaussian(grid, window[0] + span / 2, narrow))
    fit = fit_ground(shape, merged, shifts=np.linspace(-span / 2, span / 2, 61), max_fwhm=1.5 * span)
    if not fit.theta[0] > 5.0 * np.sqrt(fit.covariance[0, 0]):
        msg = f"no peak in the unpumped spectrum between {window[0]:g} and {window[1]:g} eV: move mixture.window to the pre-edge peak"
        raise DataError(msg)
    position = window[0] + span / 2 + fit.theta[1]
    sigma = float(np.hypot(narrow / FWHM_PER_SIGMA, np.sqrt(fit.theta[2])))
    fwhm = _BUILTIN_NARROWING * FWHM_PER_SIGMA * sigma
    moved = _moved(apart, sigma) if separation is None else separation
    return _peak(position, fwhm, grid, "ground"), _peak(position - moved, fwhm, grid, "excited")


def _moved(apart: float, sigma: float) -> float:
    """Return the distance of two Gaussians of one width whose difference has its extrema `apart`.

    Near lines push the extrema away from each other, to 2 σ at least; there the distance says nothing, and half of it is taken. With d the distance of the
    extrema and s that of the lines, a slope of zero means 2 artanh(s / d) = s d / (2 σ²).
    """
    d = abs(apart)
    if d < 2.1 * sigma:
        return 0.5 * apart
    ratio = brentq(lambda r: 2.0 * np.arctanh(r) - r * d**2 / (2.0 * sigma**2), 1e-3, 1.0 - 1e-12)
    return float(apart * ratio)


def _peak(position: float, fwhm: float, grid: Floats, name: str) -> xr.DataArray:
    attrs = DOS.attrs | {"model": "built-in Gaussian peak, not a calculated DOS"}
    area = fwhm * np.sqrt(np.pi / (4.0 * np.log(2.0)))
    coord = ("energy", grid, DOS_ENERGY.attrs)
    values = gaussian(grid, position, fwhm) / area
    return xr.DataArray(values, dims="energy", coords={"energy": coord}, attrs=attrs, name=f"dos_{name}")


def _checked(dos: xr.DataArray) -> tuple[Floats, Floats]:
    energy, values = dos["energy"].values.astype(np.float64), dos.values.astype(np.float64)
    if dos.dims != ("energy",) or len(energy) < 2:
        msg = f"a DOS needs one dimension `energy` with at least two points, got {dict(dos.sizes)}"
        raise DataError(msg)
    if not (np.isfinite(values).all() and np.isfinite(energy).all()):
        msg = f"the DOS {dos.name or ''} holds values that are not finite: remove those points"
        raise DataError(msg)
    if np.any(np.diff(energy) <= 0):
        msg = f"the energies of the DOS {dos.name or ''} do not increase: sort them and remove repeated ones"
        raise DataError(msg)
    return energy, values


def _kernel(step: float, gaussian_fwhm: float, lorentzian_fwhm: float) -> Floats:
    if gaussian_fwhm == 0.0 and lorentzian_fwhm == 0.0:
        return np.ones(1)
    half = int(np.ceil((2.5 * gaussian_fwhm + 25.0 * lorentzian_fwhm) / step))
    distance = step * np.arange(-half, half + 1)
    kernel = voigt_profile(distance, gaussian_fwhm / FWHM_PER_SIGMA, lorentzian_fwhm / 2.0)
    if not np.isfinite(kernel).all() or kernel.sum() <= 0:
        return np.ones(1)  # far narrower than a cell
    return np.asarray(kernel / kernel.sum())


def _cell_means(energy: Floats, values: Floats, grid: Floats, step: float, *, hold: bool) -> Floats:
    """Mean of the piecewise linear curve over every cell, from its exact integral; outside it is zero or holds its end values."""
    border = np.concatenate([grid - step / 2, [grid[-1] + step / 2]])
    integral = make_interp_spline(energy, values, k=1).antiderivative()(np.clip(border, energy[0], energy[-1]))
    if hold:
        integral += np.where(border < energy[0], (border - energy[0]) * values[0], 0.0)
        integral += np.where(border > energy[-1], (border - energy[-1]) * values[-1], 0.0)
    return np.asarray(np.diff(integral) / step)
