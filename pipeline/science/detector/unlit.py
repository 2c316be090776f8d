r"""Pixels beside the beams that see no light, and what they say of the pedestal of every frame.

The pedestal of a readout chip moves as a whole: since the dark run, from train to train, from frame to frame. With the raw
value r_p of the good unlit pixels p of a chip and their dark mean d_p(cell),

    shift = mean_p(r_p - d_p(cell))      [ADU],

over the pixels within a fixed reach of their dark level, so that a pixel gone hot, or hit, does not count.

In a beam this is worth h'(d) shift sum_p w_p / gain photons, summed over its chips. It needs no expansion of the response:
the shift is added before the converter, so the linearised signal h(r) of every pixel, lit or not, grows by the same
h'(d) shift, where d is the dark level at which it is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.detector._pixel_kernel import unlit_sums
from pipeline.science.detector.crop import Crop, crop_to_beams
from schemas.datasets.calibration import CALIBRATION

__all__ = ["Unlit", "at_shifted_level", "chip_shifts", "prepare_unlit", "unlit_pixels", "with_unlit_pixels"]

WANTED, KEPT, ENOUGH = 256, 192, 64
"""Unlit pixels of a chip: as many are looked for, as many are read if there are, and fewer do not tell its pedestal."""
FURTHEST = 16
"""Rows and columns around the rectangle of the beams in which they are looked for: what is read and stored grows by these."""
DARK = 5e-4
"""Light of an unlit pixel in the mean image over that of the beams, at most."""
_NOT_UNLIT = np.int16(-20000)
"""Level of all other pixels: no raw value is within reach of it."""


@dataclass(frozen=True)
class Unlit:
    """The unlit pixels as the kernel wants them.

    Attributes
    ----------
    level : (y, x) i2, dark level in whole ADU;  segments : (k, 4) i8: row, first and last column + 1 (module), chip
    dark : (cell, chip) f8, ADU, mean dark level over `level`;  n_pixels : (chip,)
    weight : (chip, beam) f8, photons per ADU;  reach : ADU
    """

    level: np.ndarray
    segments: np.ndarray
    dark: np.ndarray
    n_pixels: np.ndarray
    weight: np.ndarray
    reach: int

    @property
    def rows(self) -> tuple[int, int]:
        """First row and row after the last, as indices into `level`."""
        return int(self.segments[:, 0].min()), int(self.segments[:, 0].max()) + 1

    @property
    def columns(self) -> tuple[int, int]:
        """First column and column after the last, as indices into `level`."""
        return int(self.segments[:, 1].min()), int(self.segments[:, 2].max())

    def shifts(self, raw: np.ndarray, row: np.ndarray, shift: tuple[int, int]) -> np.ndarray:
        """(n, chip) f8 ADU by which the pedestal of each frame is above its dark level; NaN where it is not known.

        raw : (n, y, x) u2;  row : (n,) row of `dark` of the frame's memory cell, -1 for none;  shift : from an index into
        `level` to one into `raw`
        """
        total = np.empty((len(raw), len(self.n_pixels)), np.int64)
        count = np.empty(total.shape, np.int64)
        unlit_sums(raw, self.level, self.segments, shift, self.reach, total, count)
        known = (2 * count > self.n_pixels) & (row[:, None] >= 0)
        return np.where(known, total / np.maximum(count, 1) - self.dark[row], np.nan)


def unlit_pixels(
    image: xr.DataArray, dark: xr.Dataset, beams: xr.Dataset, *, chip: tuple[int, int] = (64, 64)
) -> xr.DataArray:
    """Choose good pixels without light beside the beams, for every readout chip that a beam lies on.

    A pixel is unlit when the smoothed mean image there is no higher than the darkest fifth of its chip's pixels outside the
    beams by more than noise, or 1/2000 of the light in the beams. The rectangle around the beams grows until each chip has
    256 of them, by 16 rows and columns at most; then each chip keeps as few rows as hold 192, for long rows cost least.

    Parameters
    ----------
    image : (y, x) mean dark-subtracted flat-field image of the whole module, ADU
    dark : from `dark_calibration`, of the whole module
    beams : x0, x1, y0, y1 over `beam`
    chip : rows and columns of a readout chip

    Returns
    -------
    (y, x) i2: number of the chip (counted over those with beams, along rows), -1 for pixels that are not used.

    Raises
    ------
    DataError
        A chip under a beam has fewer than 64 unlit pixels, or image and dark run differ in their pixels.
    """
    xr.align(image, dark["bad_pixel"], join="exact", copy=False)
    values, good = image.values.astype(float), dark["bad_pixel"].values == 0
    chip_of = _chips(image, chip)
    lit = np.zeros(values.shape, bool)
    for x0, x1, y0, y1 in _regions(beams, image):
        lit[y0:y1, x0:x1] = True
    level = float(np.median(values[lit & good]))
    smooth, noise = _smoothed(values, good & ~lit)
    numbers = np.unique(chip_of[lit])
    unlit = np.zeros(values.shape, bool)
    for number in numbers:
        own = (chip_of == number) & good & ~lit & np.isfinite(smooth)
        if own.any():
            floor = np.percentile(smooth[own], 20)
            unlit |= own & (smooth - floor < max(DARK * level, 4 * noise))
    crop = crop_to_beams(beams)
    near = [unlit & _within(crop, margin, image) for margin in range(FURTHEST + 1)]
    counts = np.array([[(one & (chip_of == number)).sum() for number in numbers] for one in near])
    fewest = counts.min(axis=1)
    margin = int(np.argmax(fewest >= min(WANTED, fewest[-1])))
    count = counts[margin]
    if count.min() < ENOUGH:
        raise DataError(
            f"{int((count < ENOUGH).sum())} of {len(count)} readout chips under the beams have fewer than {ENOUGH} unlit "
            "pixels beside them"
        )
    found = np.where(near[margin], np.searchsorted(numbers, chip_of), -1).astype(np.int16)
    for c in range(len(numbers)):
        found[(found == c) & ~_fullest_rows(found == c)[:, None]] = -1
    return xr.DataArray(found, dims=("y", "x"), coords={"y": image["y"], "x": image["x"]}, name="unlit")


def with_unlit_pixels(
    calibration: xr.Dataset, dark: xr.Dataset, unlit: xr.DataArray, *, chip: tuple[int, int] = (64, 64)
) -> xr.Dataset:
    """Add to a calibration what the pedestals of frames need.

    Parameters
    ----------
    calibration : from `build_calibration`
    dark : the dark run that it was made from
    unlit : from `unlit_pixels`
    chip : rows and columns of a readout chip

    Returns
    -------
    The calibration with `unlit`, `unlit_level` (y, x), `unlit_dark` (cell, chip), `pedestal_weight` (chip, beam), the
    variance of the pedestal of one frame `pedestal_variance` (beam), photons², and `pedestal_dark_variance` (beam), that of
    the finite dark run, which all frames of a memory cell share.
    """
    xr.align(calibration["weight"], dark["bad_pixel"], unlit, join="exact", copy=False)
    known = dark["n_frames"].values > 0
    mean = dark["dark_mean"].values
    average = mean[known].mean(axis=0, dtype=float)
    level = np.where(unlit.values >= 0, np.rint(average), _NOT_UNLIT).astype(np.int16)
    noise = dark["read_noise"].values.astype(float)
    n_chips = int(unlit.values.max()) + 1
    gain, weight = float(calibration["gain"]), calibration["weight"].values.astype(float)
    slope = np.gradient(calibration["linear_adu"].values)
    chips, own = _chips(unlit, chip), np.empty(n_chips, int)
    offsets = np.full((dark.sizes["cell"], n_chips), np.nan)
    variance = np.empty(n_chips)  # ADU² of the shift that one frame gives
    per_adu = np.zeros((n_chips, calibration.sizes["beam"]))
    for c in range(n_chips):
        of_chip = unlit.values == c
        own[c] = chips[of_chip][0]
        offsets[known, c] = (mean[known][:, of_chip] - level[of_chip]).mean(axis=1, dtype=float)
        variance[c] = np.nanmean(noise[of_chip] ** 2) / of_chip.sum()
        at_level = float(np.interp(average[of_chip].mean(), np.arange(len(slope)), slope))
        for b, (x0, x1, y0, y1) in enumerate(_regions(calibration, calibration["weight"])):
            box = np.s_[y0:y1, x0:x1]
            per_adu[c, b] = at_level * weight[box][chips[box] == own[c]].sum() / gain
    per_frame = (per_adu**2 * variance[:, None]).sum(axis=0)
    added = calibration.assign(
        unlit=unlit,
        unlit_level=(("y", "x"), level),
        unlit_dark=(("cell", "chip"), offsets),
        pedestal_weight=(("chip", "beam"), per_adu),
        pedestal_variance=("beam", per_frame),
        pedestal_dark_variance=("beam", per_frame / float(np.median(dark["n_frames"].values[known]))),
    )
    reach = int(np.ceil(4 + 6 * float(np.nanmedian(noise[unlit.values >= 0]))))
    return CALIBRATION.describe(added).assign_attrs(calibration.attrs, unlit_reach=reach)


def prepare_unlit(calibration: xr.Dataset) -> Unlit | None:
    """Lay the unlit pixels of a calibration out for the kernel; None where it has none."""
    if "unlit" not in calibration:
        return None
    unlit = calibration["unlit"].values
    return Unlit(
        level=np.ascontiguousarray(calibration["unlit_level"].values, np.int16),
        segments=_segments(unlit),
        dark=calibration["unlit_dark"].values,
        n_pixels=np.bincount(unlit[unlit >= 0].astype(np.int64)),
        weight=calibration["pedestal_weight"].values,
        reach=int(calibration.attrs["unlit_reach"]),
    )


def chip_shifts(shifts: np.ndarray, light: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean pedestal of each chip and its standard error, light that scatters into its unlit pixels left out.

    What follows the light of the pulses in proportion is no pedestal: it only scales the beams. Of shift = a + b · light
    over frames, whose intensity fluctuates, the constant a is what a dark frame would show.

    Parameters
    ----------
    shifts : (n, chip) ADU;  light : (n,) photons of all beams

    Returns
    -------
    (chip,) and (chip,) ADU; NaN where fewer than 20 frames tell.
    """
    mean, stderr = np.full(shifts.shape[1], np.nan), np.full(shifts.shape[1], np.nan)
    for c in range(shifts.shape[1]):
        use = np.isfinite(shifts[:, c]) & np.isfinite(light)
        if use.sum() < 20:
            continue
        design = np.stack([np.ones(use.sum()), light[use] / max(light[use].mean(), 1.0)], axis=1)
        if design[:, 1].std() < 0.05:  # light that does not fluctuate cannot be told from a pedestal
            design = design[:, :1]
        inverse = np.linalg.inv(design.T @ design)
        best = inverse @ design.T @ shifts[use, c]
        scatter = shifts[use, c] - design @ best
        mean[c] = best[0]
        stderr[c] = np.sqrt(inverse[0, 0] * scatter @ scatter / (use.sum() - design.shape[1]))
    return mean, stderr


def at_shifted_level(
    dark: xr.Dataset, unlit: xr.DataArray, shift: np.ndarray, *, chip: tuple[int, int] = (64, 64)
) -> xr.Dataset:
    """The dark run as it would be with the pedestals of the chips under the beams moved by `shift` (chip,), ADU."""
    xr.align(dark["bad_pixel"], unlit, join="exact", copy=False)
    chips, moved = _chips(unlit, chip), np.zeros(unlit.shape, np.float32)
    for c, value in enumerate(shift):
        moved[chips == chips[unlit.values == c][0]] = value
    return dark.assign(dark_mean=dark["dark_mean"].copy(data=dark["dark_mean"].values + moved))


def _chips(image: xr.DataArray, chip: tuple[int, int]) -> np.ndarray:
    """(y, x) number of the readout chip of each pixel, along rows of chips."""
    y, x = image["y"].values.astype(np.int64) // chip[0], image["x"].values.astype(np.int64) // chip[1]
    numbers: np.ndarray = y[:, None] * (int(x.max()) + 1) + x[None, :]
    return numbers


def _regions(beams: xr.Dataset, image: xr.DataArray) -> np.ndarray:
    """(beam, 4) x0, x1, y0, y1 as indices into the image."""
    corners = np.stack([beams[n].values.astype(np.int64) for n in ("x0", "x1", "y0", "y1")], axis=1)
    x, y = int(image["x"][0]), int(image["y"][0])
    return corners - np.array([x, x, y, y])


def _within(crop: Crop, margin: int, image: xr.DataArray) -> np.ndarray:
    """(y, x) bool: pixels inside the crop grown by `margin`."""
    y, x = image["y"].values, image["x"].values
    rows = (y >= crop.rows.start - margin) & (y < crop.rows.stop + margin)
    columns = (x >= crop.columns.start - margin) & (x < crop.columns.stop + margin)
    return rows[:, None] & columns[None, :]


def _fullest_rows(pixels: np.ndarray) -> np.ndarray:
    """(y,) bool: as few rows as hold the pixels to keep."""
    count = pixels.sum(axis=1)
    order = np.argsort(-count, kind="stable")
    enough = int(np.searchsorted(np.cumsum(count[order]), KEPT)) + 1
    return np.isin(np.arange(len(count)), order[:enough])


def _smoothed(values: np.ndarray, use: np.ndarray) -> tuple[np.ndarray, float]:
    """Mean over the pixels to use among 5 x 5, NaN where there are fewer than 4; and its noise."""
    from scipy import ndimage

    share = ndimage.uniform_filter(use.astype(float), 5, mode="constant")
    total = ndimage.uniform_filter(np.where(use, values, 0.0), 5, mode="constant")
    smooth = np.where(share > 0.15, total / np.maximum(share, 1e-9), np.nan)
    apart = (values - smooth)[use & np.isfinite(smooth)]
    # at the border of the module, where the strip is narrow, ten pixels are averaged
    noise = 1.4826 * float(np.median(np.abs(apart))) / np.sqrt(10.0) if apart.size else 0.0
    return smooth, noise


def _segments(unlit: np.ndarray) -> np.ndarray:
    """(k, 4) i8: row, first column, column after the last, chip: stretches of a row that hold unlit pixels of one chip.

    Pixels that are not unlit may lie between them as long as there are fewer than 16 in a row: their level is out of reach.
    """
    found = []
    for y in range(unlit.shape[0]):
        columns = np.flatnonzero(unlit[y] >= 0)
        if not columns.size:
            continue
        chip = unlit[y, columns]
        breaks = np.flatnonzero((np.diff(columns) > 16) | (np.diff(chip) != 0)) + 1
        found += [(y, part[0], part[-1] + 1, unlit[y, part[0]]) for part in np.split(columns, breaks)]
    return np.array(found, np.int64).reshape(-1, 4)
