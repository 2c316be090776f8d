"""Share α of the excited state: XAS = (1 - α) DOS_ground + α DOS_excited near the pre-edge, at delays where only these two are left.

Two steps, so that an imperfect ground DOS cannot be repaired by α. First the unpumped spectra give the ground component,

    od_unpumped(E) = s g(E - e_g; v) + c_1 (E - <E>) + c_k,

with g the broadened DOS, v an extra Gaussian broadening and a constant c_k per fluence and delay (the beam splitting leaves the level of the OD open). Then

    ΔXAS(E) = α s [e(E - e_e; v) - g(E - e_g; v)]

gives α for every fluence, joint over delays, with one excited shift e_e for all. The errors of s, e_g, v and the noise of the unpumped intensity that both
steps share are carried into α; `delta_xas_stderr` holds no reference noise, ΔXAS being the logarithm of a ratio of two beams.
"""

from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.signal import find_peaks, peak_widths
from scipy.stats import chi2 as chi2_distribution

from pipeline.errors import CoverageError
from pipeline.science.mixture._excited import Components, ExcitedFit, best_shape, best_shift, fit_excited
from pipeline.science.mixture._ground import (
    GroundFit,
    GroundShape,
    Scans,
    fit_ground,
    merge_scans,
    scans_of,
    window_of,
)
from pipeline.science.mixture.dos import broaden, broadening_reach
from schemas.datasets.fitted import MIXTURE

__all__ = ["fit_mixture"]

Floats = NDArray[np.float64]
_DELAY_TOLERANCE = 0.01  # ps; a delay from the data (stage and arrival times) is not exactly the nominal one
_MAX_EXTRA_FWHM = 3.0  # eV
_FWHM_PER_SIGMA = 2.0 * np.sqrt(2.0 * np.log(2.0))
_NEGLIGIBLE = 2e-3  # of the maximum: a DOS that ends this low has ended
_MIN_GAIN = 16.0  # delta chi2 of ΔXAS that makes the excited shift measurable
_MIN_GAIN_SHAPE = 400.0  # and its area and width


def fit_mixture(
    spectra: xr.Dataset,
    dos_ground: xr.DataArray,
    dos_excited: xr.DataArray,
    *,
    window: tuple[float, float],
    min_delay: float = 0.8,
    gaussian_fwhm: float = 0.0,
    lorentzian_fwhm: float = 0.0,
    excited_shift: Literal["free", "ground"] | float = "free",
    excited_shape: Literal["dos", "free"] = "dos",
    max_shift: float = 3.0,
) -> xr.Dataset:
    """Fit the share of the excited state at every fluence, and its dependence on fluence.

    Parameters
    ----------
    spectra
        `od_unpumped`, `od_pumped` (errors only), `delta_xas`, each with `_stderr`; dims (fluence, delay, energy).
    dos_ground, dos_excited
        dim energy [eV, photon energies]; one common scale: their ratio enters α.
    window
        Photon energies of the fit [eV].
    min_delay
        First delay of the mixture [ps]; delays up to 0.01 ps earlier count.
    gaussian_fwhm, lorentzian_fwhm
        Instrument and lifetime broadening of both DOS [eV]; what is missing is fitted as an extra Gaussian.
    excited_shift
        Shift of the excited DOS: "free", the same as the "ground", or a number [eV]. A free shift needs a signal: without one (chi2 falls by less than 16, or no
        shift gives a positive share) the ground's is used and attrs `excited_shift` says so.
    excited_shape
        "dos": area and width of the excited component relative to the ground's are those of the DOS. "free": both are fitted with the shift, for model
        peaks that know neither; then α is the part of the ground component that is gone. Needs a strong signal (chi2 falls by 400), else as "dos".
    max_shift
        Largest shift of either DOS [eV].

    Returns
    -------
    xr.Dataset
        dim fluence: `alpha` with `_stderr` (not limited to 0 ... 1), `alpha_ci68`, `alpha_ci95` (fluence, bound; limited to 0 ... 1), `alpha_covariance` (fluence,
        fluence_other), `redchi`; `alpha_delay` with `_stderr` (fluence, delay). Scalars: `slope` [cm2/mJ], `intercept` of α against fluence with `_stderr`,
        `line_covariance` (intercept and slope), `linear_chi2`, `linear_p`; `scale`, `ground_shift`, `excited_shift`, `extra_fwhm`, `excited_area` (1 unless
        fitted); `ground_redchi`; `ground_position`, `ground_fwhm`, `excited_position`,
        `excited_fwhm` [eV] of the highest peak in the window, all with `_stderr`. On the window's energies: `component_ground` = (1 - α) part and
        `component_excited` = α part of the pumped XAS without background, `fit` and `residual` of ΔXAS averaged over the delays used.
        NaN: a fluence without a delay >= min_delay; `slope` with fewer than two usable fluences (attrs `reason`); a peak that the window does not hold.

    Raises
    ------
    CoverageError
        A DOS does not cover the window.
    DataError
        The spectra hold too few energies in the window, or nothing like the ground DOS.

    Notes
    -----
    The errors of all α share the error of the scale and of the shifts. The straight line is weighted by the independent parts only and its errors use the full
    covariance: with a covariance built from measured values the common part would pull the line low (Peelle's puzzle; D'Agostini, NIM A 346, 306, 1994).
    The error of the flat-field constant (`flat_field_constant_stderr` of `spectra`, where it is there) is in every error of ΔXAS but common to all of it; it is taken
    out of the weights and carried as one common error.
    """
    inside = window_of(spectra["energy"].values, window)
    energy = spectra["energy"].values[inside].astype(np.float64)
    reach = broadening_reach(gaussian_fwhm, lorentzian_fwhm)
    shapes, ranges = [], []
    for name, dos in (("ground", dos_ground), ("excited", dos_excited)):
        ranges.append(_allowed_shifts(dos, name, energy, reach, max_shift))
        smooth = broaden(dos, gaussian_fwhm, lorentzian_fwhm, step=_grid_step(dos), edges="hold")
        shapes.append(GroundShape(smooth["energy"].values, smooth.values))
    ground = fit_ground(shapes[0], merge_scans(spectra, window), shifts=ranges[0], max_fwhm=_MAX_EXTRA_FWHM)
    _check_shift(ground, ranges[0], dos_ground, energy, reach, max_shift)
    parts = Components(shapes[0], shapes[1], ground)
    return _fit_shares(spectra, parts, inside, min_delay, excited_shift, excited_shape, ranges[1])


def _fit_shares(
    spectra: xr.Dataset,
    parts: Components,
    inside: slice,
    min_delay: float,
    wanted: Literal["free", "ground"] | float,
    shape: Literal["dos", "free"],
    shifts: Floats,
) -> xr.Dataset:
    energy = spectra["energy"].values[inside].astype(np.float64)
    n_fluence, n_delay = spectra.sizes["fluence"], spectra.sizes["delay"]
    offset = _offset_stderr(spectra)
    scans, cross = scans_of(spectra, "delta_xas", inside, common=offset), _shared_noise(spectra, inside)
    late = spectra["delay"].values >= min_delay - _DELAY_TOLERANCE
    measured = scans.weights.any(axis=1).reshape(n_fluence, n_delay) & late[None, :]
    group = np.where(measured, np.arange(n_fluence)[:, None], -1).ravel()
    out = xr.Dataset(
        coords={"fluence": spectra["fluence"], "delay": spectra["delay"], "energy": spectra["energy"][inside]}
    )
    if not measured.any():
        shift, mode = float(parts.fit.theta[1]), "ground"
    else:
        shift, mode = _excited_shift(parts, energy, (scans, group), wanted, shifts)
        if shape == "free" and mode == "free":
            freed, at, gain = best_shape(parts, energy, scans, group, shift)
            if gain >= _MIN_GAIN_SHAPE:
                parts, shift, mode = freed, at, "shape"
    fit = fit_excited(parts, energy, scans, cross, group, n_fluence, shift=shift, mode=mode, offset_stderr=offset)
    cells = np.where(measured.ravel(), np.arange(group.size), -1)
    single = fit_excited(parts, energy, scans, cross, cells, group.size, shift=shift, mode=mode, offset_stderr=offset)
    out = _add_shares(out, fit, single, measured, scans)
    out = _add_line(out, fit)
    out = _add_components(out, parts, fit)
    out = _add_curves(out, parts, fit, scans, group)
    return MIXTURE.describe(out).assign_attrs(
        excited_shift=mode, min_delay=float(min_delay), window=[float(energy[0]), float(energy[-1])]
    )


# --- what the DOS must cover ------------------------------------------------------------------------------------------------------


def _grid_step(dos: xr.DataArray) -> float:
    """Fine enough for splines of anything the DOS resolves; bounded, for a DOS tabulated over hundreds of eV."""
    energy = dos["energy"].values
    return float(np.clip(np.min(np.diff(energy)), max((energy[-1] - energy[0]) / 8000.0, 0.002), 0.02))


def _allowed_shifts(dos: xr.DataArray, name: str, energy: Floats, reach: float, max_shift: float) -> Floats:
    """Shifts that keep the DOS over the window, on a grid for the search. A DOS that has fallen to zero at an end covers what lies beyond."""
    own, values = dos["energy"].values, np.abs(dos.values)
    negligible = _NEGLIGIBLE * values.max()
    low = -max_shift if values[-1] <= negligible else max(-max_shift, energy[-1] + reach - own[-1])
    high = max_shift if values[0] <= negligible else min(max_shift, energy[0] - reach - own[0])
    apart = own[-1] < energy[0] - max_shift or own[0] > energy[-1] + max_shift
    if low > 0 or high < 0 or apart or low >= high:
        raise CoverageError(_uncovered(name, own, energy, reach))
    return np.linspace(low, high, max(int(np.ceil((high - low) / 0.1)), 2) + 1)


def _uncovered(name: str, own: Floats, energy: Floats, reach: float) -> str:
    return (
        f"the {name} DOS covers {own[0]:g} ... {own[-1]:g} eV, the mixture needs {energy[0] - reach:g} ... {energy[-1] + reach:g} eV "
        f"(window {energy[0]:g} ... {energy[-1]:g} eV and {reach:g} eV of broadening on either side): give a longer DOS on the photon energy axis "
        "(mixture.energy_zero shifts it there) or narrow mixture.window"
    )


def _check_shift(
    ground: GroundFit, shifts: Floats, dos: xr.DataArray, energy: Floats, reach: float, max_shift: float
) -> None:
    """A shift that stops where the DOS ends, inside max_shift, was stopped by the DOS."""
    shift, own = ground.theta[1], dos["energy"].values
    for edge in (shifts[0], shifts[-1]):
        if abs(edge) < max_shift and abs(shift - edge) < 1e-9:
            msg = _uncovered("ground", own, energy - shift, reach)
            raise CoverageError(f"the fit moves the ground DOS by {shift:g} eV and there it ends: {msg}")


# --- fit of the shares -----------------------------------------------------------------------------------------------------------


def _offset_stderr(spectra: xr.Dataset) -> float:
    """Error of the constant between the beams, which every ΔXAS shares; 0 where it is not known apart."""
    found = float(spectra["flat_field_constant_stderr"]) if "flat_field_constant_stderr" in spectra else 0.0
    return found if np.isfinite(found) else 0.0


def _shared_noise(spectra: xr.Dataset, inside: slice) -> Floats:
    """Covariance of od_unpumped and delta_xas: ΔXAS = od_pumped - od_unpumped, so var(pumped) = var(ΔXAS) + var(unpumped) + 2 cov."""
    dims = ("fluence", "delay", "energy")
    pumped, unpumped, difference = (
        spectra[f"{name}_stderr"].transpose(*dims).values[..., inside] ** 2
        for name in ("od_pumped", "od_unpumped", "delta_xas")
    )
    limit = np.sqrt(unpumped * difference)
    cross = np.clip(0.5 * (pumped - unpumped - difference), -limit, limit)
    return np.where(np.isfinite(cross), cross, 0.0).reshape(-1, cross.shape[-1])


def _excited_shift(
    parts: Components,
    energy: Floats,
    data: tuple[Scans, NDArray[np.int_]],
    wanted: Literal["free", "ground"] | float,
    shifts: Floats,
) -> tuple[float, str]:
    ground_shift = float(parts.fit.theta[1])
    if wanted == "ground":
        return ground_shift, "ground"
    if wanted != "free":
        return float(wanted), "fixed"
    shift, gain = best_shift(parts, energy, *data, shifts)
    at_limit = min(shift - shifts[0], shifts[-1] - shift) < 1e-3
    return (shift, "free") if gain >= _MIN_GAIN and not at_limit else (ground_shift, "ground")


def _add_shares(
    out: xr.Dataset, fit: ExcitedFit, single: ExcitedFit, measured: NDArray[np.bool_], scans: Scans
) -> xr.Dataset:
    used = np.asarray(measured.any(axis=1))
    n, shape = len(used), measured.shape
    covariance = np.where(used[:, None] & used[None, :], fit.covariance[:n, :n], np.nan)
    error = np.sqrt(np.diag(covariance))
    alpha = np.where(used, fit.alpha, np.nan)
    points = (scans.weights > 0).sum(axis=1).reshape(shape)
    freedom = np.where(measured, points, 0).sum(axis=1) - 1
    redchi = np.where(used & (freedom > 0), fit.chi2 / np.where(freedom > 0, freedom, 1), np.nan)
    error_delay = np.sqrt(np.diag(single.covariance)[: measured.size]).reshape(shape)
    out = out.assign(
        alpha=("fluence", alpha),
        alpha_stderr=("fluence", error),
        alpha_stderr_independent=("fluence", np.sqrt(fit.independent)),
        alpha_covariance=(("fluence", "fluence_other"), covariance),
        alpha_delay=(("fluence", "delay"), np.where(measured, single.alpha.reshape(shape), np.nan)),
        alpha_delay_stderr=(("fluence", "delay"), np.where(measured, error_delay, np.nan)),
        redchi=("fluence", redchi),
    )
    for name, width in (("alpha_ci68", 1.0), ("alpha_ci95", 1.959964)):
        bounds = np.clip(alpha[:, None] + width * error[:, None] * np.array([-1.0, 1.0]), 0.0, 1.0)
        out[name] = (("fluence", "bound"), bounds)
    return out


def _add_line(out: xr.Dataset, fit: ExcitedFit) -> xr.Dataset:
    """α = intercept + slope x fluence: weights from the independent errors, errors from the full covariance."""
    fluence, alpha = out["fluence"].values.astype(np.float64), out["alpha"].values
    used = np.isfinite(alpha) & np.isfinite(fit.independent) & (fit.independent > 0)
    values, covariance = np.full(2, np.nan), np.full((2, 2), np.nan)
    chi2, p_value, reason = np.nan, np.nan, ""
    if len(np.unique(fluence[used])) < 2:
        reason = f"a line needs two fluences with a share, there is {len(np.unique(fluence[used]))}"
    else:
        design = np.stack([np.ones(used.sum()), fluence[used]], axis=1)
        weights = 1.0 / fit.independent[used]
        gain = np.linalg.solve(design.T @ (weights[:, None] * design), design.T * weights)
        values = gain @ alpha[used]
        covariance = gain @ out["alpha_covariance"].values[np.ix_(used, used)] @ gain.T
        chi2 = float(np.sum(weights * (alpha[used] - design @ values) ** 2))
        freedom = int(used.sum()) - 2
        p_value = float(chi2_distribution.sf(chi2, freedom)) if freedom > 0 else np.nan
    for k, name in enumerate(("intercept", "slope")):
        out[name] = ((), values[k], {"reason": reason} if reason else {})
        out[f"{name}_stderr"] = np.sqrt(covariance[k, k])
    out["line_covariance"] = (("line", "line_other"), covariance)
    return out.assign(linear_chi2=chi2, linear_p=p_value)


# --- components ------------------------------------------------------------------------------------------------------------------


def _add_components(out: xr.Dataset, parts: Components, fit: ExcitedFit) -> xr.Dataset:
    theta, covariance = parts.fit.theta, parts.fit.covariance
    variance, error = theta[2], float(np.sqrt(covariance[2, 2]))
    fwhm = _FWHM_PER_SIGMA * np.sqrt(variance)
    # errors of log area and widening of the excited component, where they are fitted
    spread = np.sqrt(np.diag(fit.covariance)[-3:-1]) if out.sizes["fluence"] + 1 < len(fit.covariance) else np.zeros(2)
    numbers = {
        "scale": (theta[0], np.sqrt(covariance[0, 0])),
        "ground_shift": (theta[1], np.sqrt(covariance[1, 1])),
        "excited_shift": (fit.shift, np.sqrt(fit.covariance[-1, -1])),
        "excited_area": (parts.area, parts.area * spread[0]),
        # at v = 0 the width has no linear error; then the width that one sigma of v makes
        "extra_fwhm": (
            fwhm,
            _FWHM_PER_SIGMA * (error / (2.0 * np.sqrt(variance)) if variance > error else np.sqrt(error)),
        ),
    }
    window = (float(out["energy"][0]), float(out["energy"][-1]))
    for name, shape, shift, shift_error, own, own_error in (
        ("ground", parts.ground, theta[1], numbers["ground_shift"][1], variance, error),
        (
            "excited",
            parts.excited,
            fit.shift,
            numbers["excited_shift"][1],
            variance + parts.widening,
            np.hypot(error, spread[1]),
        ),
    ):
        position, width = _peak_of(shape, shift, own, window)
        other_variance = own + own_error
        moved, widened = _peak_of(shape, shift, other_variance, window)
        # shift and broadening of one component: their covariance is small next to either and known for the ground only
        slope = moved - position
        mixed = 2.0 * slope * covariance[1, 2] / error if name == "ground" and error > 0 else 0.0
        numbers[f"{name}_position"] = (position, np.sqrt(max(shift_error**2 + slope**2 + mixed, 0.0)))
        numbers[f"{name}_fwhm"] = (width, abs(widened - width))
    for name, (value, stderr) in numbers.items():
        out[name] = float(value)
        out[f"{name}_stderr"] = float(stderr) if np.isfinite(value) else np.nan
    out["ground_redchi"] = parts.fit.chi2 / parts.fit.dof if parts.fit.dof > 0 else np.nan
    return out


def _peak_of(shape: GroundShape, shift: float, variance: float, window: tuple[float, float]) -> tuple[float, float]:
    """Position and width at half prominence of the highest peak whose top lies in the window; NaN without one."""
    grid = shape.grid + shift
    values = shape(shape.grid, variance)
    tops, _ = find_peaks(values, prominence=0.02 * float(np.ptp(values)))
    tops = tops[(grid[tops] >= window[0]) & (grid[tops] <= window[1])]
    if not len(tops):
        return float("nan"), float("nan")
    top = int(tops[np.argmax(values[tops])])
    curve = np.polyfit([-1.0, 0.0, 1.0], values[top - 1 : top + 2], 2)
    width = float(peak_widths(values, [top], rel_height=0.5)[0][0]) * shape.step
    return float(grid[top] - shape.step * curve[1] / (2.0 * curve[0])), width


def _add_curves(
    out: xr.Dataset, parts: Components, fit: ExcitedFit, scans: Scans, group: NDArray[np.int_]
) -> xr.Dataset:
    energy, alpha = out["energy"].values, out["alpha"].values[:, None]
    template, excited = parts.template(energy, fit.shift), parts.excited_part(energy, fit.shift)
    mean = np.full((len(alpha), len(energy)), np.nan)
    for f in range(len(alpha)):
        weights, values = scans.weights[group == f], scans.values[group == f]
        total = weights.sum(axis=0)
        mean[f] = np.where(total > 0, (weights * values).sum(axis=0) / np.where(total > 0, total, 1.0), np.nan)
    curves = {
        "component_ground": (1.0 - alpha) * (excited - template),
        "component_excited": alpha * excited,
        "fit": alpha * template,
        "residual": mean - alpha * template,
    }
    return out.assign({name: (("fluence", "energy"), values) for name, values in curves.items()})
