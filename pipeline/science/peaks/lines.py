"""Peaks A and B of the difference spectrum: position, amplitude and width of a positive and a negative line at every delay.

ΔXAS(E) = a_A g(E; E_A, w_A) + a_B g(E; E_B, w_B) [+ c],  g(E; E_0, w) = exp(-4 ln2 (E - E_0)^2 / w^2),  a_A > 0 > a_B.

Nothing about an edge is built in: A is the positive line and B the negative one, in either order and at any distance; starting values come from the data.
How many widths are needed (one for all spectra, one per line, one or two per spectrum) and whether there is a constant is one decision for the whole data
set, taken by the summed AICc of all spectra: a choice per spectrum would add its own scatter to the positions. Lines closer than about their width are
nearly degenerate with that width, so a width that all spectra share is worth a factor of several in the position errors.

A spectrum from which lines differ by more than its errors allow carries a disturbance that these errors do not know; see `_disturbed`, which enlarges them.
"""

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError
from pipeline.science.peaks._disturbed import MISFIT, chi2_of, scale_by_itself, scale_by_lines
from pipeline.science.peaks._line_models import Lines, best_candidate
from pipeline.science.peaks.line_shape import gaussian
from schemas.datasets.fitted import PEAKS
from schemas.datasets.model_curves import PEAK_LINES

__all__ = ["MISFIT", "evaluate_peaks", "fit_peaks", "mean_separation"]

Floats = NDArray[np.float64]
_MIN_BINS = 7  # the smallest number of bins that over-determines two lines of one width


def fit_peaks(
    spectra: xr.Dataset, *, window: tuple[float, float] = (526.5, 531.0), min_delta_chi2: float = 20.0
) -> xr.Dataset:
    """Fit the positive line A and the negative line B of ΔXAS at every fluence and delay.

    Errors come from `delta_xas_stderr`; for a spectrum that lines do not describe (χ² less probable than `MISFIT`) these are enlarged first, so that they
    do. `stderr_scale` says by how much, everywhere else it is 1. `redchi` is χ²/dof with the errors as they were given.

    Parameters
    ----------
    spectra
        `delta_xas` and `delta_xas_stderr`, dims (fluence, delay, energy); energy in eV. NaN bins are left out.
    window
        Photon energies that enter the fit [eV], both ends included.
    min_delta_chi2
        By how much a line must lower chi2 to count as detected. A line has three parameters and looks for its place in the whole window, so pure noise
        reaches values well above those of a chi2 distribution; at 20 about one empty spectrum in a thousand shows a line.

    Returns
    -------
    xr.Dataset
        dims peak ("A", "B"), fluence, delay: `position` [eV], `amplitude` [OD], `fwhm` [eV], each with `_stderr`; `detected`.
        dims fluence, delay: `separation` = position B - position A with `_stderr` (covariance of the two used); `shift` = position of A minus its position
        at the latest delay of that fluence where A was detected, with `_stderr` (0 there by definition; elsewhere the common error of the reference is
        included, so shifts at one fluence are correlated); `offset` with `_stderr` (0 unless the data asked for one); `redchi`; `stderr_scale`;
        `n_bins`. A line without evidence is `detected` False and NaN everywhere, errors included. attrs `widths` (common,
        common per line, shared, free) and `constant_offset` hold the choice of model, `errors` how they were found.

    Raises
    ------
    ConfigError
        The window is empty or reversed.
    DataError
        The spectra have fewer than seven energies inside the window.
    """
    inside = _window_slice(spectra["energy"].values, window)
    data = spectra[["delta_xas", "delta_xas_stderr"]].transpose("fluence", "delay", "energy").isel(energy=inside)
    energy = data["energy"].values.astype(np.float64)
    shape = (data.sizes["fluence"], data.sizes["delay"])
    values = data["delta_xas"].values.reshape(-1, len(energy))
    sigma = data["delta_xas_stderr"].values.reshape(-1, len(energy))
    usable = np.isfinite(values) & np.isfinite(sigma) & (sigma > 0)
    weights = np.where(usable, 1.0 / np.where(usable, sigma, 1.0) ** 2, 0.0)
    n_bins = usable.sum(axis=1)
    weights[n_bins < _MIN_BINS] = 0.0
    counted = np.where(n_bins < _MIN_BINS, 0, n_bins)
    values = np.where(usable, values, 0.0)
    scale = scale_by_itself(energy, values, weights, counted)
    best = best_candidate(energy, values, weights / scale**2, counted, min_delta_chi2=min_delta_chi2)
    disturbed = (scale > 1.0).any(axis=1)
    if disturbed.any():
        scale = scale_by_lines(best.lines, scale, energy, values, weights, counted)
        best = best_candidate(energy, values, weights / scale**2, counted, min_delta_chi2=min_delta_chi2)
    coords = {"fluence": data["fluence"], "delay": data["delay"]}
    result = _assemble(best.lines, n_bins, shape, coords)
    as_given = chi2_of(best.lines, energy, values, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        result["redchi"] *= np.where(disturbed, as_given / best.lines.chi2, 1.0).reshape(shape)
    factor = np.where(n_bins < _MIN_BINS, np.nan, np.sqrt(np.sum(scale**2 * usable, axis=1) / np.maximum(n_bins, 1)))
    result["stderr_scale"] = (("fluence", "delay"), factor.reshape(shape))
    attrs = {
        "model": "two Gaussian lines of opposite sign",
        "window": [float(window[0]), float(window[1])],
        "widths": best.widths,
        "constant_offset": int(best.offset),
        "min_delta_chi2": float(min_delta_chi2),
        "errors": "from delta_xas_stderr, enlarged (stderr_scale) where lines do not describe the spectrum: χ² less "
        f"probable than {MISFIT:g}",
    }
    return PEAKS.describe(result).assign_attrs(attrs)


def evaluate_peaks(peaks: xr.Dataset, energy: xr.DataArray) -> xr.DataArray:
    """The fitted curve of `fit_peaks` on photon energies [eV]; OD, dims (fluence, delay, energy). A line not detected adds nothing."""
    lines = peaks["amplitude"] * xr.apply_ufunc(gaussian, energy, peaks["position"], peaks["fwhm"])
    curve = lines.fillna(0.0).sum("peak") + peaks["offset"]
    ordered: xr.DataArray = curve.transpose("fluence", "delay", "energy")
    return ordered.assign_attrs(PEAK_LINES.attrs)


def mean_separation(peaks: xr.Dataset, *, min_delay: float = -np.inf) -> tuple[float, float]:
    """Inverse-variance mean of the separation B - A [eV] and its error over all fluences and delays >= `min_delay` [ps]; NaN if none."""
    late = peaks["delay"] >= min_delay
    value = peaks["separation"].where(late).values
    weight = 1.0 / peaks["separation_stderr"].values ** 2
    good = np.isfinite(value) & np.isfinite(weight)
    if not good.any():
        return float("nan"), float("nan")
    total = weight[good].sum()
    return float((weight[good] * value[good]).sum() / total), float(1.0 / np.sqrt(total))


def _window_slice(energy: Floats, window: tuple[float, float]) -> slice:
    low, high = window
    if not low < high:
        msg = f"peaks window {low} ... {high} eV is empty: give it as (low, high) with low < high"
        raise ConfigError(msg)
    if np.any(np.diff(energy) <= 0):
        msg = "the energies of the spectra do not increase: sort them before fitting peaks"
        raise DataError(msg)
    tolerance = 1e-9 * abs(high)
    begin, end = np.searchsorted(energy, [low - tolerance, high + tolerance])
    if end - begin < _MIN_BINS:
        covered = f"{energy[0]:g} ... {energy[-1]:g} eV" if len(energy) else "no energies"
        msg = (
            f"only {end - begin} energies inside the peaks window {low:g} ... {high:g} eV, two lines need {_MIN_BINS}: "
            f"the spectra cover {covered}; widen peaks.window or use finer energy bins"
        )
        raise DataError(msg)
    return slice(int(begin), int(end))


def _assemble(
    lines: Lines, n_bins: NDArray[np.int_], shape: tuple[int, int], coords: dict[str, xr.DataArray]
) -> xr.Dataset:
    out = xr.Dataset(coords={"peak": ["A", "B"], **coords})
    for row, name in enumerate(("position", "fwhm", "amplitude")):
        for suffix, table in (("", lines.values), ("_stderr", lines.stderr)):
            cube = np.moveaxis(table[:, row, :].reshape(*shape, 2), -1, 0)
            out[name + suffix] = (("peak", "fluence", "delay"), cube)
    out["detected"] = np.isfinite(out["position"])
    freedom = n_bins - lines.n_parameters
    missing = n_bins < _MIN_BINS
    maps = {
        "offset": np.where(missing, np.nan, lines.offset),
        "offset_stderr": np.where(missing, np.nan, lines.offset_stderr),
        "redchi": np.where(missing | (freedom <= 0), np.nan, lines.chi2 / np.where(freedom > 0, freedom, 1)),
        "n_bins": n_bins,
    }
    for name, values in maps.items():
        out[name] = (("fluence", "delay"), np.reshape(values, shape))
    return _with_differences(out, lines.position_covariance.reshape(shape))


def _with_differences(peaks: xr.Dataset, covariance: Floats) -> xr.Dataset:
    position, error = peaks["position"].values, peaks["position_stderr"].values
    with np.errstate(invalid="ignore"):
        separation_stderr = np.sqrt(error[0] ** 2 + error[1] ** 2 - 2.0 * covariance)
    shift, shift_stderr = np.full_like(position[0], np.nan), np.full_like(position[0], np.nan)
    order = np.argsort(peaks["delay"].values)
    for f in range(len(shift)):
        seen = order[np.isfinite(position[0, f, order])]
        if len(seen):
            latest = seen[-1]
            shift[f] = position[0, f] - position[0, f, latest]
            shift_stderr[f] = np.hypot(error[0, f], error[0, f, latest])
            shift_stderr[f, latest] = 0.0
    named = {
        "separation": position[1] - position[0],
        "separation_stderr": separation_stderr,
        "shift": shift,
        "shift_stderr": shift_stderr,
    }
    return peaks.assign({name: (("fluence", "delay"), values) for name, values in named.items()})
