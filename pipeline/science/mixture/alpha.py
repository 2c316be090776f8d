"""Share α of the excited state: XAS = (1 - α) DOS_ground + α DOS_excited near the pre-edge, at delays where only these two are left.

The unpumped spectra give the ground component,

    od_unpumped(E) = s g(E - e_g; v) + c_1 (E - <E>) + c_k,

with g the broadened DOS, v an extra Gaussian broadening and a constant c_k per fluence and delay. Then

    ΔXAS(E) = α s [e(E - e_e; v) - g(E - e_g; v)]

gives α at every fluence, joint over delays, with one excited shift e_e: in two steps, α cannot repair a wrong ground DOS.
The errors of s, e_g, v and the noise of the unpumped intensity that both steps share are carried into α;
`delta_xas_stderr` holds no reference noise, ΔXAS being the logarithm of a ratio of two beams.
"""

from functools import partial
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.signal import find_peaks, peak_widths
from scipy.stats import chi2 as chi2_distribution

from pipeline.errors import CoverageError
from pipeline.science.mixture._edge import MIN_GAIN, Form, tails
from pipeline.science.mixture._excited import Components, ExcitedFit, best_shape, best_shift, fall_of_chi2, fit_excited
from pipeline.science.mixture._ground import (
    GroundFit,
    GroundShape,
    Scans,
    common_stderr,
    compared_cells,
    fit_ground,
    fitted_curve,
    is_late,
    left_over,
    merge_scans,
    scans_of,
    window_of,
)
from pipeline.science.mixture.dos import FWHM_PER_SIGMA, broadening_reach, shape_of
from schemas.datasets.fitted import MIXTURE

__all__ = ["fit_mixture"]

Floats = NDArray[np.float64]
_MAX_SHIFT = 3.0  # eV
_MAX_EXTRA_FWHM = 3.0  # eV
_NEGLIGIBLE = 2e-3  # of the maximum: a DOS that ends this low has ended
_MIN_GAIN = 16.0  # fall of chi2 of ΔXAS that makes the excited shift measurable
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
    excited_shape: Literal["dos", "width", "free"] = "dos",
    min_gain: float = 0.0,
    edge: Literal["auto", "none"] | Form = "auto",
    ground: Literal["dos", "measured", "moved"] = "dos",
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
        Shift of the excited DOS, at most 3 eV: "free", the same as the "ground", or a number [eV]. Without a signal (chi2
        falls by less than 16, or no shift gives a positive share) a free one is the ground's; attrs `excited_shift` says so.
    excited_shape
        "dos": area and width of the excited component relative to the ground's are those of the DOS. "free": both are
        fitted where chi2 falls by 400; then α is the part of the ground component that is gone. "width": the width alone,
        where chi2 falls by `min_gain` more than without. Attrs `excited_shift` says "shape" or "width" where it was done.
    min_gain
        See `excited_shape`.
    edge
        Form of the tail that an edge above the window has inside it, for DOS that hold the pre-edge only. "auto": the one
        that describes the unpumped spectrum best, none where chi2 does not ask for one; attrs `edge` and `other_edges` say
        which, and which others do as well.
    ground
        "measured": the ground component is the measured spectrum without its background; the DOS gives its size only.
        "moved": and the excited component lacks what the ground DOS does, moved as the two DOS are.

    Returns
    -------
    xr.Dataset
        As in `MIXTURE`: `alpha` (fluence) at the delays that all fluences share (attrs `delays`; at all late ones where they
        share none), not limited to 0 ... 1, with `_stderr`, intervals and covariance, `alpha_delay`
        (fluence, delay), `slope` [cm2/mJ] and `intercept` of α against fluence, position and fwhm of the highest peak of
        either component [eV], `component_ground` = (1 - α) part and `component_excited` = α part of the pumped XAS without
        background, `fit` and `residual` of ΔXAS averaged over the delays used.
        NaN: a fluence without a delay >= min_delay; `slope` with fewer than two usable fluences (attrs `reason`); a peak
        outside the window.

    Raises
    ------
    CoverageError
        A DOS does not cover the window.
    DataError
        The spectra hold too few energies in the window, or nothing like the ground DOS.

    Notes
    -----
    The line is weighted by the independent errors of α, and its errors use the full covariance: weights from a measured
    covariance would pull it low (Peelle's puzzle; D'Agostini, NIM A 346, 306, 1994). The error of the flat-field constant
    (`flat_field_constant_stderr` of `spectra`), common to all of ΔXAS, is taken out of the weights and carried apart.
    """
    inside = window_of(spectra["energy"].values, window)
    energy = spectra["energy"].values[inside].astype(np.float64)
    reach = broadening_reach(gaussian_fwhm, lorentzian_fwhm)
    shapes, ranges = [], []
    for name, dos in (("ground", dos_ground), ("excited", dos_excited)):
        ranges.append(_allowed_shifts(dos, name, energy, reach))
        shapes.append(shape_of(dos, gaussian_fwhm, lorentzian_fwhm))
    merged = merge_scans(spectra, window)
    plain = fit_ground(shapes[0], merged, shifts=ranges[0], max_fwhm=_MAX_EXTRA_FWHM)
    find = partial(tails, shapes[0], merged, plain, shifts=ranges[0], max_fwhm=_MAX_EXTRA_FWHM)
    found = [] if edge == "none" else find() if edge == "auto" else find(forms=(edge,), min_gain=0.0)
    real = bool(found) and (edge != "auto" or found[0].gain >= MIN_GAIN)
    fit = found[0].fit if real else plain
    _check_shift(fit, ranges[0], dos_ground, energy, reach)
    parts = Components(shapes[0], shapes[1], fit)
    if ground != "dos":
        rest = left_over(merged, fitted_curve(shapes[0], merged, fit))
        parts = parts._replace(measured=parts.ground_part(energy) + rest)
        if ground == "moved":
            parts = parts._replace(
                moved=lambda at, by: np.interp(at - by - _centre(parts), energy, rest, left=0.0, right=0.0)
            )
    common = common_stderr(spectra)
    scans, cross = scans_of(spectra, "delta_xas", inside, common=common), _shared_noise(spectra, inside)
    cells = (spectra.sizes["fluence"], spectra.sizes["delay"])
    measured = scans.weights.any(axis=1).reshape(cells) & is_late(spectra, min_delay)
    compared = compared_cells(measured)
    group = np.where(compared, np.arange(cells[0])[:, None], -1).ravel()
    shift, mode = float(fit.theta[1]), "ground"
    if measured.any():
        shift, mode = _excited_shift(parts, energy, (scans, group), excited_shift, ranges[1])
        if excited_shape != "dos" and mode == "free":
            freed, at, gain = best_shape(parts, energy, scans, group, shift, area=excited_shape == "free")
            more = gain - fall_of_chi2(parts, energy, scans, group, shift)
            if gain >= _MIN_GAIN_SHAPE and more >= min_gain:
                parts, shift, mode = freed, at, "shape" if excited_shape == "free" else "width"
    fits = [
        fit_excited(parts, energy, scans, cross, *groups, shift=shift, mode=mode, offset_stderr=common)
        for groups in ((group, cells[0]), (np.where(measured.ravel(), np.arange(group.size), -1), group.size))
    ]
    coords = {name: spectra[name] for name in ("fluence", "delay")} | {"energy": spectra["energy"][inside]}
    shares = _shares(fits[0], fits[1], compared, measured, scans)
    alpha = np.asarray(shares["alpha"][1])[:, None]
    line, reason = _line(spectra["fluence"].values.astype(np.float64), shares, fits[0])
    out = xr.Dataset(
        shares
        | line
        | _components(parts, fits[0], energy, cells[0])
        | _curves(parts, alpha, shift, energy, scans, group),
        coords=coords,
    )
    for name in ("slope", "intercept"):
        out[name].attrs |= reason
    told = [*([] if real else ["none"]), *(tail.form for tail in found)]
    return MIXTURE.describe(out).assign_attrs(
        edge=told[0],
        ground_dof=fit.dof,
        other_edges=told[1:],
        excited_shift=mode,
        min_delay=float(min_delay),
        delays=spectra["delay"].values[compared.any(axis=0)].tolist(),
        window=[float(energy[0]), float(energy[-1])],
    )


def _centre(parts: Components) -> float:
    """How far the highest peak of the excited DOS lies from that of the ground DOS, on their own axis [eV]."""
    tops = [shape.grid[int(np.argmax(shape(shape.grid, 0.0)))] for shape in (parts.excited, parts.ground)]
    return float(tops[0] - tops[1])


# --- what the DOS must cover ------------------------------------------------------------------------------------------


def _allowed_shifts(dos: xr.DataArray, name: str, energy: Floats, reach: float) -> Floats:
    """Shifts that keep the DOS over the window, on a grid for the search. A DOS that has fallen to zero at an end covers what lies beyond."""
    own, values = dos["energy"].values, np.abs(dos.values)
    negligible = _NEGLIGIBLE * values.max()
    low = -_MAX_SHIFT if values[-1] <= negligible else max(-_MAX_SHIFT, energy[-1] + reach - own[-1])
    high = _MAX_SHIFT if values[0] <= negligible else min(_MAX_SHIFT, energy[0] - reach - own[0])
    apart = own[-1] < energy[0] - _MAX_SHIFT or own[0] > energy[-1] + _MAX_SHIFT
    if low > 0 or high < 0 or apart or low >= high:
        raise CoverageError(_uncovered(name, own, energy, reach))
    return np.linspace(low, high, max(int(np.ceil((high - low) / 0.1)), 2) + 1)


def _uncovered(name: str, own: Floats, energy: Floats, reach: float) -> str:
    return (
        f"the {name} DOS covers {own[0]:g} ... {own[-1]:g} eV, the mixture needs {energy[0] - reach:g} ... {energy[-1] + reach:g} eV "
        f"(window {energy[0]:g} ... {energy[-1]:g} eV and {reach:g} eV of broadening on either side): give a longer DOS on the photon energy axis "
        "(mixture.energy_zero shifts it there) or narrow mixture.window"
    )


def _check_shift(ground: GroundFit, shifts: Floats, dos: xr.DataArray, energy: Floats, reach: float) -> None:
    """Raise CoverageError if the DOS ends where the fit moves it: the end then has stopped the shift."""
    shift, own = ground.theta[1], dos["energy"].values
    for edge in (shifts[0], shifts[-1]):
        if abs(edge) < _MAX_SHIFT and abs(shift - edge) < 1e-9:
            msg = _uncovered("ground", own, energy - shift, reach)
            raise CoverageError(f"the fit moves the ground DOS by {shift:g} eV and there it ends: {msg}")


# --- results ----------------------------------------------------------------------------------------------------------

_Variables = dict[str, tuple[tuple[str, ...], Floats | float]]


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


def _shares(
    fit: ExcitedFit, single: ExcitedFit, compared: NDArray[np.bool_], measured: NDArray[np.bool_], scans: Scans
) -> _Variables:
    used, shape = np.asarray(measured.any(axis=1)), measured.shape
    n = len(used)
    both = used[:, None] & used[None, :]
    unknown = np.where(both, fit.unknown[:n, :n], np.nan)
    covariance = np.where(both, fit.covariance[:n, :n], np.nan) - unknown
    error, alpha = np.sqrt(np.diag(covariance)), np.where(used, fit.alpha, np.nan)
    freedom = np.where(compared, (scans.weights > 0).sum(axis=1).reshape(shape), 0).sum(axis=1) - 1
    redchi = np.where(used & (freedom > 0), fit.chi2 / np.where(freedom > 0, freedom, 1), np.nan)
    error_delay = np.sqrt(np.diag(single.covariance)[: measured.size]).reshape(shape)
    per_fluence, cells = ("fluence",), ("fluence", "delay")
    limits = {
        name: np.clip(alpha[:, None] + width * error[:, None] * np.array([-1.0, 1.0]), 0.0, 1.0)
        for name, width in (("alpha_ci68", 1.0), ("alpha_ci95", 1.959964))
    }
    return {
        "alpha": (per_fluence, alpha),
        "alpha_stderr": (per_fluence, error),
        "alpha_stderr_independent": (per_fluence, np.sqrt(fit.independent)),
        "alpha_covariance": (("fluence", "fluence_other"), covariance),
        "alpha_reference_stderr": (per_fluence, np.sqrt(np.diag(unknown))),
        "alpha_delay": (cells, np.where(measured, single.alpha.reshape(shape), np.nan)),
        "alpha_delay_stderr": (cells, np.where(measured, error_delay, np.nan)),
        "redchi": (per_fluence, redchi),
        **{name: (("fluence", "bound"), ends) for name, ends in limits.items()},
    }


def _line(fluence: Floats, shares: _Variables, fit: ExcitedFit) -> tuple[_Variables, dict[str, str]]:
    """α = intercept + slope x fluence, weighted by the independent variances; attributes say why there is none."""
    alpha, full = np.asarray(shares["alpha"][1]), np.asarray(shares["alpha_covariance"][1])
    independent, unknown = fit.independent, np.zeros(2)
    used = np.isfinite(alpha) & np.isfinite(independent) & (independent > 0)
    values, covariance, chi2, p_value = np.full(2, np.nan), np.full((2, 2), np.nan), np.nan, np.nan
    n, reason = len(np.unique(fluence[used])), {}
    if n < 2:
        reason = {"reason": f"a line needs two fluences with a share, there is {n}"}
    else:
        design = np.stack([np.ones(used.sum()), fluence[used]], axis=1)
        weights = 1.0 / independent[used]
        gain = np.linalg.solve(design.T @ (weights[:, None] * design), design.T * weights)
        values = gain @ alpha[used]
        covariance = gain @ full[np.ix_(used, used)] @ gain.T
        unknown = np.diag(gain @ fit.unknown[: len(alpha), : len(alpha)][np.ix_(used, used)] @ gain.T)
        chi2 = float(np.sum(weights * (alpha[used] - design @ values) ** 2))
        freedom = int(used.sum()) - 2
        p_value = float(chi2_distribution.sf(chi2, freedom)) if freedom > 0 else np.nan
    line: _Variables = {"line_covariance": (("line", "line_other"), covariance)}
    for k, name in enumerate(("intercept", "slope")):
        line |= {name: ((), values[k]), f"{name}_stderr": ((), np.sqrt(covariance[k, k]))}
        line[f"{name}_reference_stderr"] = ((), np.sqrt(unknown[k]))
    return line | {"linear_chi2": ((), chi2), "linear_p": ((), p_value)}, reason


def _components(parts: Components, fit: ExcitedFit, energy: Floats, n_fluence: int) -> _Variables:
    theta, covariance = parts.fit.theta, parts.fit.covariance
    stderr = np.sqrt(np.diag(covariance))
    sigma, error = float(np.sign(theta[2]) * np.sqrt(abs(theta[2]))), float(stderr[2])
    # errors of log area and widening of the excited component, where they are fitted
    spread = np.concatenate([np.zeros(2), np.sqrt(np.diag(fit.covariance)[n_fluence:-1])])[-2:]
    # at v = 0 the width has no linear error; then the width that one sigma of v makes
    sigma_error = error / (2.0 * abs(sigma)) if abs(theta[2]) > error else np.sqrt(error)
    numbers = {
        "scale": (theta[0], stderr[0]),
        "ground_shift": (theta[1], stderr[1]),
        "excited_shift": (fit.shift, np.sqrt(fit.covariance[-1, -1])),
        "excited_area": (parts.area, parts.area * spread[0]),
        "extra_fwhm": (FWHM_PER_SIGMA * sigma, FWHM_PER_SIGMA * sigma_error),
    }
    # shift and broadening of one component: their covariance is small next to either and known for the ground only
    states = {
        "ground": (parts.ground, theta[2], error, covariance[1, 2]),
        "excited": (parts.excited, theta[2] + parts.widening, np.hypot(error, spread[1]), 0.0),
    }
    for name, (shape, variance, variance_error, mixed) in states.items():
        shift, shift_error = numbers[f"{name}_shift"]
        position, width = _peak_of(shape, shift, variance, energy)
        moved, widened = _peak_of(shape, shift, variance + variance_error, energy)
        slope = moved - position
        both = 2.0 * slope * mixed / variance_error if variance_error > 0 else 0.0
        numbers[f"{name}_position"] = (position, np.sqrt(max(shift_error**2 + slope**2 + both, 0.0)))
        numbers[f"{name}_fwhm"] = (width, abs(widened - width))
    out: _Variables = {name: ((), float(value)) for name, (value, _) in numbers.items()}
    out |= {f"{n}_stderr": ((), float(e) if np.isfinite(value) else np.nan) for n, (value, e) in numbers.items()}
    return out | {"ground_redchi": ((), parts.fit.chi2 / parts.fit.dof if parts.fit.dof > 0 else np.nan)}


def _peak_of(shape: GroundShape, shift: float, variance: float, energy: Floats) -> tuple[float, float]:
    """Position and width at half prominence of the highest peak whose top lies among the energies; NaN without one."""
    grid = shape.grid + shift
    values = shape(shape.grid, variance)
    tops, _ = find_peaks(values, prominence=0.02 * float(np.ptp(values)))
    tops = tops[(grid[tops] >= energy[0]) & (grid[tops] <= energy[-1])]
    if not len(tops):
        return float("nan"), float("nan")
    top = int(tops[np.argmax(values[tops])])
    curve = np.polyfit([-1.0, 0.0, 1.0], values[top - 1 : top + 2], 2)
    width = float(peak_widths(values, [top], rel_height=0.5)[0][0]) * shape.step
    return float(grid[top] - shape.step * curve[1] / (2.0 * curve[0])), width


def _curves(
    parts: Components, alpha: Floats, shift: float, energy: Floats, scans: Scans, group: NDArray[np.int_]
) -> _Variables:
    template, excited = parts.template(energy, shift), parts.excited_part(energy, shift)
    total, sums = np.zeros((2, len(alpha), len(energy)))
    for f in range(len(alpha)):
        total[f] = scans.weights[group == f].sum(axis=0)
        sums[f] = (scans.weights * scans.values)[group == f].sum(axis=0)
    mean = np.where(total > 0, sums / np.where(total > 0, total, 1.0), np.nan)
    curves = {
        "component_ground": (1.0 - alpha) * (excited - template),
        "component_excited": alpha * excited,
        "fit": alpha * template,
        "residual": mean - alpha * template,
    }
    return {name: (("fluence", "energy"), values) for name, values in curves.items()}
