r"""The pedestal of a run: from noisy values of single frames to what is taken off, averaged over as much as the data allow.

The unlit pixels of a frame tell its pedestal P to within their read noise, variance v, which is more than the noise that the
beam's own read-out has. So P is split into parts that do not overlap: the mean over the run, the mean of a train (over so
many trains as loses nothing: the width with the least unbiased risk, C. M. Stein, Ann. Statist. 9, 1135 (1981)), the mean of
a pulse index over trains, and what is left of a frame. A part is taken off where its variance beyond noise is significant
and would matter; the last one shrunk by tau^2 / (tau^2 + v), which leaves the least error.

What follows the light of the pulses in proportion, such as light scattered into the unlit pixels, is no pedestal: it only
scales a beam, and is left alone.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.stats import chi2

from pipeline.science.detector.unlit import DARK
from schemas.datasets.measured import PULSES

__all__ = ["MATTERS", "subtract_pedestal", "subtract_pump_light"]

MATTERS = 2e-4
"""Pedestal over the photons of a beam below which it is left alone: 0.2 mOD if it were not in the flat field too."""
SIGMAS, CHANCE = 5.0, 1e-6
"""A mean below so many standard errors, and a scatter that chance gives more often than this, is noise."""


def subtract_pedestal(pulses: xr.Dataset, calibration: xr.Dataset) -> xr.Dataset:
    """Take off what the pedestal adds to the beams of a run, where it has moved since the dark run.

    Parameters
    ----------
    pulses : dims (train, pulse, beam): `photons`, `photons_stderr` and `pedestal`, photons
    calibration : `pedestal_variance` and `pedestal_dark_variance` (beam), photons², from `with_unlit_pixels`

    Returns
    -------
    The pulses with `photons` and `photons_stderr` corrected and `pedestal_subtracted` (train, pulse, beam), photons; as they
    are where no part of the pedestal is significant and matters.
    """
    xr.align(pulses["photons"], pulses["pedestal"], join="exact", copy=False)
    dims = ("train", "pulse", "beam")
    photons, pedestal = (pulses[n].transpose(*dims).values for n in ("photons", "pedestal"))
    shot = pulses["photons_stderr"].transpose(*dims).values
    light = photons.sum(axis=2)
    taken, doubt = np.zeros(photons.shape), np.zeros(photons.shape)
    for b in range(photons.shape[2]):
        noise = float(calibration["pedestal_variance"][b]), float(calibration["pedestal_dark_variance"][b])
        usual = float(np.nanmedian(photons[..., b])) if np.isfinite(photons[..., b]).any() else np.nan
        taken[..., b], doubt[..., b] = _of_beam(pedestal[..., b], light, noise, MATTERS * usual)
    if not taken.any():
        return pulses
    corrected = pulses.assign(
        photons=(dims, photons - taken),
        photons_stderr=(dims, np.sqrt(shot**2 + doubt)),
        pedestal_subtracted=(dims, np.where(np.isfinite(photons), taken, np.nan)),
    )
    return PULSES.describe(corrected.transpose(*pulses["photons"].dims, ...))


def subtract_pump_light(pulses: xr.Dataset, pumped: xr.DataArray) -> xr.Dataset:
    """Take off the light of the pump laser that reaches the detector, from the pulses with the pump on.

    It is the difference between frames with the pump on and off: of the frames without X-rays, where there are ten of each;
    else of what the unlit pixels say and `subtract_pedestal` has not taken off, for pump light that is smooth over a readout
    chip.

    Parameters
    ----------
    pulses : dims (train, pulse, beam): `photons`, `photons_stderr`; `dark_frame` (train, pulse); `pedestal` and
        `pedestal_subtracted` where there are any
    pumped : (train, pulse) bool, the pump is on

    Returns
    -------
    The pulses with `photons` and `photons_stderr` corrected, attrs `pump_light` and `pump_light_stderr` (beam), photons; no
    attrs and all as it is where there is nothing to compare, or no beam has light beyond 5 standard errors that matters.
    """
    xr.align(pulses["photons"], pumped, join="exact", copy=False)
    dims = ("train", "pulse", "beam")
    photons, on = pulses["photons"].transpose(*dims).values, pumped.transpose(*dims[:2]).values
    dark = pulses["dark_frame"].transpose(*dims[:2]).values
    value = np.where(dark[..., None], photons, np.nan)
    if min(np.isfinite(value[on]).all(axis=1).sum(), np.isfinite(value[~on]).all(axis=1).sum()) < 10:
        if "pedestal" not in pulses:
            return pulses
        value = _left_over(pulses, dims)
    light, variance = _difference(value[on], value[~on])
    usual = np.nanmedian(np.where(dark[..., None], np.nan, photons), axis=(0, 1))
    if not (np.abs(light) > np.maximum(SIGMAS * np.sqrt(variance), MATTERS * usual)).any():
        return pulses
    stderr = pulses["photons_stderr"].transpose(*dims).values
    corrected = pulses.assign(
        photons=(dims, photons - on[..., None] * light),
        photons_stderr=(dims, np.sqrt(stderr**2 + on[..., None] * variance)),
    )
    described = PULSES.describe(corrected.transpose(*pulses["photons"].dims, ...))
    return described.assign_attrs(pump_light=light.tolist(), pump_light_stderr=np.sqrt(variance).tolist())


def _left_over(pulses: xr.Dataset, dims: tuple[str, ...]) -> np.ndarray:
    """(train, pulse, beam) pedestal that is neither taken off nor follows the light."""
    light = pulses["photons"].sum("beam", skipna=False).transpose(*dims[:2]).values
    value = pulses["pedestal"].transpose(*dims).values
    usual = np.nanmedian(pulses["photons"].transpose(*dims).values, axis=(0, 1))
    scattered = [_scattered(value[..., b], light, n)[0] for b, n in enumerate(usual)]
    value = value - np.stack([slope * light for slope in scattered], axis=2)
    if "pedestal_subtracted" in pulses:
        value = value - pulses["pedestal_subtracted"].transpose(*dims).values
    return value


def _difference(on: np.ndarray, off: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Difference of the means over frames, by beam, and its variance; 0 and NaN where there are too few frames."""
    if min(np.isfinite(on).any(axis=1).sum(), np.isfinite(off).any(axis=1).sum()) < 10:
        return np.zeros(on.shape[1]), np.full(on.shape[1], np.nan)
    means = [np.nanmean(part, axis=0) for part in (on, off)]
    variances = [np.nanvar(part, axis=0, ddof=1) / np.isfinite(part).sum(axis=0) for part in (on, off)]
    return means[0] - means[1], variances[0] + variances[1]


def _of_beam(
    pedestal: np.ndarray, light: np.ndarray, noise: tuple[float, float], matters: float
) -> tuple[np.ndarray, np.ndarray]:
    """(train, pulse) pedestal to take off and its variance.

    pedestal, light : (train, pulse);  noise : variance of a frame's pedestal, and of the dark run of a memory cell
    """
    nothing = np.zeros(pedestal.shape), np.zeros(pedestal.shape)
    known = np.isfinite(pedestal) & np.isfinite(light)
    if known.sum() < 2 or not matters > 0:
        return nothing
    slope, slope_variance = _scattered(pedestal, light, matters / MATTERS)
    value = np.where(known, pedestal - slope * light, np.nan)
    per_frame, of_dark = noise
    n_trains, n_pulses = known.any(axis=1).sum(), known.any(axis=0).sum()
    mean = float(np.nanmean(value))
    mean_variance = per_frame / known.sum() + of_dark / n_pulses + slope_variance * float(np.mean(light[known])) ** 2
    by_train, train_doubt = _smooth_trains(value - mean, per_frame, matters)
    by_pulse, pulse_doubt = _by_pulse(value - mean - by_train[:, None], per_frame, of_dark, matters)
    left = value - mean - by_train[:, None] - by_pulse
    share = _share_of_frames(_within(left), per_frame * (1 - 1 / n_trains) * (1 - 1 / n_pulses), per_frame, matters)
    moved = abs(mean) > max(SIGMAS * np.sqrt(mean_variance), matters)
    if not (moved or by_train.any() or by_pulse.any() or share):
        return nothing
    taken = mean + by_train[:, None] + by_pulse + share * np.where(known, left, 0.0)
    doubt = mean_variance + train_doubt[:, None] + pulse_doubt + share * per_frame
    return taken, np.broadcast_to(doubt, taken.shape)


def _scattered(pedestal: np.ndarray, light: np.ndarray, usual: float) -> tuple[float, float]:
    """Slope of the pedestal against the light of its pulse, trains and pulse indices apart, and its variance.

    It is shrunk towards 0, for pixels with more than `DARK` of the light of a beam (`usual`, photons) are not unlit.
    """
    known = np.isfinite(pedestal) & np.isfinite(light)
    prior = (DARK * usual / float(np.mean(light[known]))) ** 2 if known.any() else 0.0
    x, y = (_within(np.where(known, values, np.nan))[known] for values in (light, pedestal))
    freedom = known.sum() - sum(pedestal.shape)
    if freedom < 20 or not x.any():
        return 0.0, prior
    slope = float(x @ y) / float(x @ x)
    variance = float(np.sum((y - slope * x) ** 2)) / freedom / float(x @ x)
    share = prior / (prior + variance)
    return share * slope, share * variance


def _within(values: np.ndarray) -> np.ndarray:
    """Values less the means of their train and their pulse index, NaN left out."""
    for _ in range(3):  # at once only where no frame is missing
        for axis in (1, 0):
            count = np.maximum(np.isfinite(values).sum(axis=axis, keepdims=True), 1)
            values = values - np.nansum(values, axis=axis, keepdims=True) / count
    return values


def _smooth_trains(value: np.ndarray, per_frame: float, matters: float) -> tuple[np.ndarray, np.ndarray]:
    """(train,) pedestal of the trains about the run's, averaged over the number of trains with the least risk; its variance."""
    count = np.isfinite(value).sum(axis=1)
    nothing = np.zeros(len(value)), np.zeros(len(value))
    if (count > 0).sum() < 4:
        return nothing
    mean = np.nansum(value, axis=1) / np.maximum(count, 1)
    noise = per_frame * float(np.mean(1 / count[count > 0]))
    flat = float(np.mean(mean[count > 0] ** 2))  # risk of taking off nothing, and noise once
    best, least, width = None, flat, 1
    while width < len(value) // 2:
        smooth, share = _running(mean, count, width)
        there = count > 0
        risk = float(np.mean((mean - smooth)[there] ** 2)) + 2 * noise * float(np.mean(share[there]))
        if risk < least:
            best, least = (smooth, share), risk
        width = 2 * width + 1
    if best is None or flat - least < matters**2 or not _beyond_noise(mean[count > 0], noise):
        return nothing
    return best[0], noise * best[1]


def _running(mean: np.ndarray, count: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean over `width` trains around each, weighted by their frames, and the share of the train itself in it."""
    kernel = np.ones(width)
    total = np.convolve(count, kernel, mode="same")
    smooth = np.convolve(mean * count, kernel, mode="same") / np.maximum(total, 1)
    return smooth, count / np.maximum(total, 1)


def _by_pulse(value: np.ndarray, per_frame: float, of_dark: float, matters: float) -> tuple[np.ndarray, np.ndarray]:
    """(pulse,) mean pedestal of the pulse indices about the run's, and its variance."""
    count = np.isfinite(value).sum(axis=0)
    there = count > 0
    noise = np.where(there, per_frame / np.maximum(count, 1) + of_dark, 0.0)
    mean = np.nansum(value, axis=0) / np.maximum(count, 1)
    excess = float(np.mean(mean[there] ** 2 - noise[there]))
    if there.sum() < 2 or excess < matters**2 or not _beyond_noise(mean[there], noise[there]):
        return np.zeros(len(mean)), np.zeros(len(mean))
    return mean, noise


def _beyond_noise(values: np.ndarray, variance: np.ndarray | float) -> bool:
    return bool(chi2.sf(np.sum(values**2 / variance), len(values)) < CHANCE)


def _share_of_frames(left: np.ndarray, expected: float, per_frame: float, matters: float) -> float:
    """Share of a frame's own deviation that is pedestal and not noise; 0 where that is not significant."""
    known = np.isfinite(left)
    excess = float(np.mean(left[known] ** 2)) - expected
    # the dark run tells the noise of the unlit pixels to a few per cent
    if excess < max(matters**2, 0.2 * per_frame) or not _beyond_noise(left[known], expected):
        return 0.0
    return excess / (excess + per_frame)
