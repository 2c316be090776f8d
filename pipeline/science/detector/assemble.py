"""One calibration from a dark run and a sample of a flat-field run: all that the reduction of any run needs.

Order: pixels that do not respond -> non-linearity -> gain -> flat field -> dark constants and figures of quality.

A response that the non-linearity does not describe, such as that of a compressing sensor, gives no gain: the photon-transfer
curve would be one of another detector. Unless a gain is given, beams are then in units in which their ratios scatter in the
flat-field run as photons would: differences and their errors keep their meaning, numbers of photons have none.
"""

from typing import Literal

import numpy as np
import xarray as xr

from pipeline.errors import ConfigError
from pipeline.science.detector.beam_photons import BORDER, prepare, reduce_block
from pipeline.science.detector.dark import find_unresponsive_pixels, with_bad_pixel_attrs
from pipeline.science.detector.flat_field import (
    FlatField,
    beam_moments,
    fit_flat_field,
    flat_field_weight,
    ratio_noise,
)
from pipeline.science.detector.flat_sample import N_ADU, Sample, expected_dark, flat_sample
from pipeline.science.detector.gain import fit_gain
from pipeline.science.detector.linearity import calibrate_linearity, linear_table, polynomial_of_table
from schemas.datasets.calibration import CALIBRATION, GAIN, LINEARITY

__all__ = ["build_calibration", "flat_field_noise"]


def build_calibration(
    dark: xr.Dataset,
    beams: xr.Dataset,
    flat: xr.Dataset | None,
    *,
    gain: float | None = None,
    nonlinearity: Literal["auto", "none"] | np.ndarray = "auto",
    flat_field_order: int | None = 1,
    saturation: int = 255,
) -> xr.Dataset:
    """Assemble everything the reduction needs.

    Parameters
    ----------
    dark : from `dark_calibration`
    beams : from `find_beams`
    flat : frames of a flat-field run, dims (train, pulse, y, x): some thousand frames with their intensity varying;
        None: `gain` is needed, and neither non-linearity nor flat field can be calibrated
    gain : ADU per photon; None: from the photon-transfer curve of `flat`
    nonlinearity : auto, none, or a table (512,) of linear ADU over raw ADU
    flat_field_order : polynomial order per beam, None for none
    saturation : ADU from which on a pixel counts as saturated

    Returns
    -------
    dims beam (`x0 x1 y0 y1`, `read_variance`, `shot_factor`, `n_pixels`), cell (`dark_adu` (cell, beam), coord cell_id),
    y, x (`weight`, `bad_pixel`), adu (`linear_adu`), power (`linear_poly`), scalars `gain`, `gain_stderr`, `saturation`,
    `read_noise`, `noise_over_shot` and `_stderr` (held-out half), `noise_over_shot_raw` (without non-linearity and flat
    field), `linearity_chi2` per degree of freedom and `linearity_misfit`, see `calibrate_linearity`; attrs: what was applied
    and why, `response_described`, and `photons_relative` where the unit of the beams is no photon. Numbers and strings only: it can be written to zarr as it is.

    Raises
    ------
    ConfigError
        Neither a gain nor a flat-field run, or the table is not (512,).
    DataError
        Dark, beams and flat-field frames do not belong together, or the gain cannot be fitted.
    """
    bad = _all_bad_pixels(dark, beams, flat)
    linear = _linearity(dark, beams, flat, bad, nonlinearity, saturation)
    described = bool(linear.attrs.get("described", 1))
    if flat is not None and gain is None and not described:
        gain_fit = _unit_of_scatter(flat_sample(flat, dark, beams, bad=bad), linear["linear_adu"].values, saturation)
    else:
        gain_fit = _gain(dark, beams, flat, bad, linear, gain, saturation)
    per_photon = float(gain_fit["gain"])
    corners = _corners(beams, dark)
    good = bad.values == 0
    image, flat_field = None, _no_flat_field(len(corners), "no flat-field run")
    if flat is not None:
        sample = flat_sample(flat, dark, beams, bad=bad)
        flat_field = _flat_field(sample, linear["linear_adu"].values, per_photon, flat_field_order, saturation)
        image = _on_grid(sample, dark)
    weight, shot_factor = _weights(corners, good, flat_field, image)
    calibration = _assemble(dark, beams, bad, linear, gain_fit, weight, shot_factor, corners, saturation)
    calibration.attrs = {
        "nonlinearity_applied": int(linear.attrs["applied"]),
        "nonlinearity_reason": linear.attrs["reason"],
        "gain_source": _source_of_gain(gain, described),
        "response_described": int(described),
        "photons_relative": int(gain is None and not described),
        "flat_field_applied": int(flat_field.applied),
        "flat_field_order": flat_field.order,
        "flat_field_reason": flat_field.reason,
    }
    if flat is None:
        return calibration
    plain_weight, plain_factor = _weights(corners, good, _no_flat_field(len(corners), ""), image)
    identity = _table_only(np.arange(N_ADU, dtype=float), "", applied=0)
    plain = _assemble(dark, beams, bad, identity, gain_fit, plain_weight, plain_factor, corners, saturation)
    return _judged(calibration, plain, flat, flat_field)


def _all_bad_pixels(dark: xr.Dataset, beams: xr.Dataset, flat: xr.Dataset | None) -> xr.DataArray:
    bad = dark["bad_pixel"]
    if flat is None:
        return bad
    sample = flat_sample(flat, dark, beams)
    image = xr.DataArray(sample.mean_image(), dims=("y", "x"), coords={"y": sample.y, "x": sample.x})
    found = find_unresponsive_pixels(image.where(sample.good), beams)
    flags = bad.values.copy()
    rows, columns = np.searchsorted(dark["y"].values, sample.y), np.searchsorted(dark["x"].values, sample.x)
    flags[np.ix_(rows, columns)] |= np.where(sample.good, found.values, np.uint8(0))
    return with_bad_pixel_attrs(bad.copy(data=flags))


def _linearity(
    dark: xr.Dataset,
    beams: xr.Dataset,
    flat: xr.Dataset | None,
    bad: xr.DataArray,
    nonlinearity: str | np.ndarray,
    saturation: int,
) -> xr.Dataset:
    if not isinstance(nonlinearity, str):
        table = np.asarray(nonlinearity, dtype=float)
        if table.shape != (N_ADU,) or not np.isfinite(table).all():
            raise ConfigError(
                f"detector.nonlinearity: the table must be {N_ADU} finite numbers, got shape {table.shape}"
            )
        return _table_only(table, "given", applied=1)
    if nonlinearity not in ("auto", "none"):
        raise ConfigError(f"detector.nonlinearity: {nonlinearity!r} is not auto, none or a table")
    if nonlinearity == "none" or flat is None:
        reason = "switched off" if nonlinearity == "none" else "no flat-field run"
        return _table_only(np.arange(N_ADU, dtype=float), reason, applied=0)
    return calibrate_linearity(flat, dark, beams, bad=bad, saturation=saturation)


def _table_only(table: np.ndarray, reason: str, *, applied: int) -> xr.Dataset:
    linear = xr.Dataset({"linear_adu": ("adu", table), "linear_adu_stderr": ("adu", np.zeros(N_ADU))})
    return LINEARITY.describe(linear).assign_attrs(applied=applied, reason=reason)


def _gain(
    dark: xr.Dataset,
    beams: xr.Dataset,
    flat: xr.Dataset | None,
    bad: xr.DataArray,
    linear: xr.Dataset,
    gain: float | None,
    saturation: int,
) -> xr.Dataset:
    """Gain and its sigma, with what the uncertainty of the non-linearity adds to it."""
    if gain is not None:
        if not gain > 0:
            raise ConfigError(f"detector.gain: {gain} is not a positive number of ADU per photon")
        return GAIN.describe(xr.Dataset({"gain": float(gain), "gain_stderr": np.nan}))
    if flat is None:
        raise ConfigError(
            "detector.gain: auto needs a flat-field run; set runs.flat_field, or detector.gain to a number"
        )

    def fit(table: np.ndarray) -> xr.Dataset:
        return fit_gain(flat, dark, beams, bad=bad, table=table, saturation=saturation)

    best = fit(linear["linear_adu"].values)
    variance = float(best["gain_stderr"]) ** 2
    if "covariance" in linear:
        sizes, directions = np.linalg.eigh(linear["covariance"].values)
        for size, direction in zip(sizes, directions.T, strict=True):
            shifted = fit(linear_table(linear["coefficient"].values + np.sqrt(max(size, 0.0)) * direction))
            variance += float(shifted["gain"] - best["gain"]) ** 2
    return best.assign(gain_stderr=np.sqrt(variance))


def _source_of_gain(gain: float | None, described: bool) -> str:
    if gain is not None:
        return "given"
    if described:
        return "photon-transfer curve of the flat-field run"
    return "no gain: ratios of beams scatter in the flat-field run as photons of this unit would"


def _unit_of_scatter(sample: Sample, table: np.ndarray, saturation: int) -> xr.Dataset:
    """The gain with which photon and read noise are the scatter that the beam ratios of the flat-field run have."""
    moments = beam_moments(sample, table, 1.0, order=None)
    keep = ~sample.saturated(saturation) & _lit(moments[..., 0])
    unit = 1.0
    for _ in range(10):  # read noise is a small part: it converges in a few steps
        part = moments[keep] / unit
        noise, _ = ratio_noise(part, _variance(sample, part[..., 0], unit), np.zeros((moments.shape[1], 0)))
        unit *= noise**2
    return GAIN.describe(xr.Dataset({"gain": unit, "gain_stderr": np.nan}))


def _corners(beams: xr.Dataset, dark: xr.Dataset) -> np.ndarray:
    corners = np.stack([beams[name].values.astype(np.int64) for name in ("y0", "y1", "x0", "x1")], axis=1)
    y, x = int(dark["y"].values[0]), int(dark["x"].values[0])
    return corners - np.array([y, y, x, x])


def _no_flat_field(n_beams: int, reason: str) -> FlatField:
    return FlatField(np.zeros((n_beams, 0)), 0, np.nan, np.nan, np.nan, reason)


def _flat_field(sample: Sample, table: np.ndarray, gain: float, order: int | None, saturation: int) -> FlatField:
    moments = beam_moments(sample, table, gain, order=order)
    keep = ~sample.saturated(saturation) & _lit(moments[..., 0])
    return fit_flat_field(
        moments[keep], _variance(sample, moments[..., 0], gain)[keep], sample.train[keep], order=order
    )


def _lit(totals: np.ndarray) -> np.ndarray:
    """(n,) bool: frames with light, so that logarithms are of something."""
    return (totals > 0.05 * np.median(totals, axis=0)).all(axis=1)


def _variance(sample: Sample, totals: np.ndarray, gain: float) -> np.ndarray:
    beam_of, noise = sample.beam_of, sample.read_noise.astype(float) ** 2
    read = [noise[beam_of == b].sum() / gain**2 for b in range(len(sample.corners))]
    return np.maximum(totals, 0.0) + np.array(read)


def _on_grid(sample: Sample, dark: xr.Dataset) -> np.ndarray:
    """(y, x) mean flat-field image on the grid of the dark calibration, 0 where the sample has no pixels."""
    image = np.zeros((dark.sizes["y"], dark.sizes["x"]))
    rows, columns = np.searchsorted(dark["y"].values, sample.y), np.searchsorted(dark["x"].values, sample.x)
    image[np.ix_(rows, columns)] = sample.mean_image()
    return image


def _weights(
    corners: np.ndarray, good: np.ndarray, flat_field: FlatField, image: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """(y, x) weights scaled so that the weighted good pixels give the photons of the whole beam; q per beam."""
    weight = flat_field_weight(corners, good, flat_field)
    factor = np.ones(len(corners))
    for b, (y0, y1, x0, x1) in enumerate(corners):
        box = np.s_[y0:y1, x0:x1]
        light = np.ones((y1 - y0, x1 - x0)) if image is None else _filled(image[box], good[box])
        weight[box] *= light.sum() / (weight[box] * light).sum()
        factor[b] = (weight[box] ** 2 * light).sum() / (weight[box] * light).sum()
    return weight, factor


def _filled(image: np.ndarray, good: np.ndarray) -> np.ndarray:
    """Image with bad pixels replaced by the mean of the good ones around them."""
    from scipy import ndimage

    light, share = (
        ndimage.gaussian_filter(a, 1.5, mode="nearest") for a in (np.where(good, image, 0.0), good.astype(float))
    )
    filled = np.where(good, image, light / np.maximum(share, 1e-3))
    return np.maximum(filled, 0.0)


def _assemble(
    dark: xr.Dataset,
    beams: xr.Dataset,
    bad: xr.DataArray,
    linear: xr.Dataset,
    gain_fit: xr.Dataset,
    weight: np.ndarray,
    shot_factor: np.ndarray,
    corners: np.ndarray,
    saturation: int,
) -> xr.Dataset:
    table, gain = linear["linear_adu"].values, float(gain_fit["gain"])
    poly = polynomial_of_table(table)
    stored = weight.astype(np.float32).astype(float)  # what the kernel multiplies with
    known = dark["n_frames"].values > 0
    sigma = dark["read_noise"].values.astype(float)
    level = dark["dark_mean"].values[known].mean(axis=0, dtype=float)
    linear_sigma = sigma * np.interp(level, np.arange(N_ADU), np.gradient(table))
    dark_adu = np.full((dark.sizes["cell"], len(corners)), np.nan)
    border_dark = dark_adu.copy()
    read_variance = np.zeros(len(corners))
    for b, (y0, y1, x0, x1) in enumerate(corners):
        box = np.s_[y0:y1, x0:x1]
        read_variance[b] = np.nansum((stored[box] * linear_sigma[box] / gain) ** 2)
        for cell in np.flatnonzero(known):
            level = expected_dark(table, dark["dark_mean"].values[cell][box], sigma[box])
            constant = np.nan_to_num(poly[0]) * stored[box].sum()  # the kernel's polynomial starts at its linear term
            level = stored[box] * np.where(stored[box] > 0, level, 0.0)
            dark_adu[cell, b] = level.sum() - constant
            border_dark[cell, b] = level.sum() - level[BORDER:-BORDER, BORDER:-BORDER].sum()
    in_beam = [int((stored[y0:y1, x0:x1] > 0).sum()) for y0, y1, x0, x1 in corners]
    data = {
        **{name: beams[name] for name in ("x0", "x1", "y0", "y1")},
        "weight": (("y", "x"), weight.astype(np.float32)),
        "bad_pixel": bad,
        "dark_adu": (("cell", "beam"), dark_adu),
        "border_dark": (("cell", "beam"), border_dark),
        "linear_adu": ("adu", table),
        "linear_adu_stderr": ("adu", linear["linear_adu_stderr"].values),
        "linear_poly": ("power", poly),
        "read_variance": ("beam", read_variance),
        "shot_factor": ("beam", shot_factor),
        "n_pixels": ("beam", in_beam),
        "linearity_chi2": ((), float(linear.attrs.get("chi2", np.nan)) / float(linear.attrs.get("dof", np.nan))),
        "linearity_misfit": ((), float(linear.attrs.get("misfit", np.nan))),
        "gain": ((), gain),
        "gain_stderr": ((), float(gain_fit["gain_stderr"])),
        "saturation": ((), int(saturation)),
        "read_noise": ((), float(np.median(sigma[bad.values == 0]))),
        "n_bad_pixels": ((), int((bad.values != 0).sum())),
    }
    coords = {
        "cell_id": dark["cell_id"],
        "y": dark["y"],
        "x": dark["x"],
        "adu": np.arange(N_ADU),
        "power": np.arange(4),
    }
    return CALIBRATION.describe(xr.Dataset(data, coords=coords))


def _judged(calibration: xr.Dataset, plain: xr.Dataset, flat: xr.Dataset, flat_field: FlatField) -> xr.Dataset:
    """With the noise of the beam ratios over photon noise in the odd trains of the flat-field run."""
    noise, stderr = flat_field_noise(flat, calibration)
    if flat_field.applied:  # the final weights have seen the odd trains; the figure is from those that had not
        noise = flat_field.noise_after
    raw, _ = flat_field_noise(flat, plain)
    judged = calibration.assign(noise_over_shot=noise, noise_over_shot_stderr=stderr, noise_over_shot_raw=raw)
    return CALIBRATION.describe(judged)


def flat_field_noise(flat: xr.Dataset, calibration: xr.Dataset) -> tuple[float, float]:
    """Scatter of the beam ratios of unsaturated pulses of the odd trains over photon and read noise, and its sigma."""
    kernel = prepare(calibration)
    data = flat["frames"].transpose("train", "pulse", "y", "x").values
    n_trains = len(data)
    part = slice(1, None, 2) if n_trains >= 4 else slice(None)
    cells = flat["cell_id"].values
    results = [
        reduce_block(data[t], cells[t], kernel, y0=int(flat["y"].values[0]), x0=int(flat["x"].values[0]))
        for t in range(n_trains)[part]
    ]
    photons, sigma, n_saturated = (np.concatenate(parts) for parts in zip(*results, strict=True))
    present = flat["present"].values[part].ravel() & np.isfinite(photons).all(axis=1)
    photons, sigma, n_saturated = photons[present], sigma[present], n_saturated[present]
    keep = (n_saturated.sum(axis=1) == 0) & _lit(photons)
    return ratio_noise(photons[keep][..., None], sigma[keep] ** 2, np.zeros((photons.shape[1], 0)))
