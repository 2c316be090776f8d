"""Compiled: detector frames from photon means, with real Poisson counts per pixel.

A Poisson count of mean m is the sum of two independent ones: mean m0 on a grid, drawn from an alias table
(Walker, 1977; Vose, IEEE Trans. Softw. Eng. 17, 972 (1991)), and the small rest m - m0, drawn by inversion.
That is exact to the 24 bits of a table entry and takes one random word per pixel. Random words are SplitMix64
(Steele, Lea, Flood, 2014) counted from a seed per frame, so a frame does not depend on which thread makes it.
"""

from __future__ import annotations

import math

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy import special, stats

__all__ = ["TABLE_STEP", "draw_poisson", "expose", "noise_table", "poisson_tables"]

TABLE_STEP = 0.25
"""Distance of the tabulated means; small enough that the rest is 0 in most pixels."""

_SLOTS = 256
_MEANS = 1024
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_LARGEST = (_MEANS - 1) * TABLE_STEP


@nb.njit(nogil=True, inline="always")
def _word(seed, counter):  # type: ignore[no-untyped-def]
    z = seed + (np.uint64(counter) + np.uint64(1)) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * _MIX_1
    z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


@nb.njit(nogil=True, cache=True)
def _alias(weights, packed):  # type: ignore[no-untyped-def]
    """Vose's alias method; an entry holds the 24-bit threshold and the 8-bit alias."""
    for row in range(weights.shape[0]):
        scaled = weights[row] * (_SLOTS / weights[row].sum())
        small, large = [0], [0]
        small.pop()
        large.pop()
        for slot in range(_SLOTS):
            (small if scaled[slot] < 1.0 else large).append(slot)
        threshold = np.ones(_SLOTS)
        alias = np.arange(_SLOTS)
        while small and large:
            low, high = small.pop(), large.pop()
            threshold[low], alias[low] = scaled[low], high
            scaled[high] += scaled[low] - 1.0
            (small if scaled[high] < 1.0 else large).append(high)
        for slot in range(_SLOTS):
            bits = min(int(threshold[slot] * 16777216.0 + 0.5), 16777215)
            packed[row, slot] = (bits << 8) | alias[slot]


def poisson_tables() -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
    """Return alias tables (mean, slot) for means k · TABLE_STEP, and each table's lowest count."""
    means = np.arange(_MEANS) * TABLE_STEP
    # 256 counts reach at least 8 standard deviations to both sides of the largest tabulated mean
    lowest = np.maximum(np.round(means).astype(np.int32) - _SLOTS // 2, 0).astype(np.int32)
    counts = lowest[:, None] + np.arange(_SLOTS)
    with np.errstate(divide="ignore", invalid="ignore"):
        weights = np.exp(special.xlogy(counts, means[:, None]) - means[:, None] - special.gammaln(counts + 1.0))
    packed = np.empty((_MEANS, _SLOTS), np.uint32)
    _alias(weights, packed)
    return packed, lowest


def noise_table(size: int = 4096) -> NDArray[np.float32]:
    """Return standard-normal quantiles of equal probability, scaled to variance 1: a draw is one look-up."""
    quantiles = stats.norm.ppf((np.arange(size) + 0.5) / size)
    return np.asarray(quantiles / quantiles.std(), np.float32)


@nb.njit(nogil=True, inline="always")
def _poisson(mean, seed, counter, packed, lowest):  # type: ignore[no-untyped-def]
    total = 0
    while mean > _LARGEST:
        # a sum of Poisson counts is a Poisson count of the summed mean; its words come from a far stretch
        half = _LARGEST - 1.0
        total += _tabled(half, _word(seed ^ _MIX_1, counter + np.int64(mean) * 1000003), packed, lowest)
        mean -= half
    return total + _tabled(mean, _word(seed, counter), packed, lowest)


@nb.njit(nogil=True, inline="always")
def _tabled(mean, word, packed, lowest):  # type: ignore[no-untyped-def]
    row = int(mean / TABLE_STEP)
    slot = np.int64(word & np.uint64(255))
    entry = np.int64(packed[row, slot])
    chosen = slot if np.int64((word >> np.uint64(8)) & np.uint64(0xFFFFFF)) < (entry >> 8) else entry & 255
    count = lowest[row] + chosen
    rest = mean - row * TABLE_STEP
    uniform = (np.float64(word >> np.uint64(32)) + 0.5) * 2.3283064365386963e-10
    if uniform > 1.0 - rest:  # exp(-rest) >= 1 - rest: no exponential in most pixels
        probability = math.exp(-rest)
        reached, extra = probability, 0
        while uniform > reached and extra < 30:
            extra += 1
            probability *= rest / extra
            reached += probability
        count += extra
    return count


@nb.njit(nogil=True, cache=True)
def draw_poisson(means, seed, packed, lowest, out):  # type: ignore[no-untyped-def]
    """Fill `out` with Poisson counts of the given means (both 1-d)."""
    for i in range(means.size):
        out[i] = _poisson(means[i], seed, i, packed, lowest)


@nb.njit(nogil=True, cache=True)
def expose(  # type: ignore[no-untyped-def]
    frames, seeds, level, slope, photons, corners, patches, gain, read_noise, curvature, full_scale,
    knee, slope_above_knee, offset, offset_slope, loud, loud_noise, dead, dead_value, pedestal, light, light_shape,
    normal, packed, lowest, scratch,
):  # fmt: skip
    """Fill `frames` (frame, y, x) with raw ADC values.

    `level`, `slope` (frame): what the memory cell adds to `offset` and how much of `offset_slope` it takes;
    `photons` (frame, beam): mean photons per pixel where `patches` (beam, y, x) is 1; `corners` (beam, 2):
    where a patch lies (y, x). `loud` and `dead` are flat pixel numbers. `pedestal` (frame, ASIC) is added per
    ASIC of 64 x 64 pixels, `light` (frame) times `light_shape` (y, x) per pixel; no ASICs and no light cost nothing.
    `knee` 0: the response is the parabola.
    """
    n_frames, height, width = frames.shape
    n_pixels = height * width
    top = float(full_scale)
    flat_offset = offset.reshape(n_pixels)
    flat_slope = offset_slope.reshape(n_pixels)
    flat = scratch.reshape(n_pixels)
    twelve = np.uint64(0xFFF)
    for f in range(n_frames):
        # step 1: offset and read noise, four pixels per random word
        seed = seeds[f]
        for quad in range(n_pixels // 4):
            word = _word(seed, quad)
            for k in range(4):
                p = 4 * quad + k
                noise = normal[np.int64((word >> np.uint64(16 * k)) & twelve)]
                flat[p] = flat_offset[p] + level[f] + slope[f] * flat_slope[p] + read_noise * noise
        for i in range(loud.size):
            word = _word(seed, n_pixels + i)
            flat[loud[i]] += loud_noise[i] * normal[np.int64(word & twelve)]
        for asic in range(pedestal.shape[1]):
            y0, x0 = asic // (width // 64) * 64, asic % (width // 64) * 64
            scratch[y0 : y0 + 64, x0 : x0 + 64] += pedestal[f, asic]
        if light[f] > 0.0:
            scratch += light[f] * light_shape
        # step 2: photons; the counters of a beam do not meet those of the noise or of another beam
        for b in range(corners.shape[0]):
            mean = photons[f, b]
            if mean <= 0.0:
                continue
            y0, x0 = corners[b, 0], corners[b, 1]
            for y in range(patches.shape[1]):
                for x in range(patches.shape[2]):
                    m = mean * patches[b, y, x]
                    if m > 0.0:
                        counter = (b + 2) * n_pixels + y * width + x
                        scratch[y0 + y, x0 + x] += gain * _poisson(m, seed, counter, packed, lowest)
        # step 3: the converter
        out = frames[f].reshape(n_pixels)
        bend = curvature / top
        for p in range(n_pixels if knee > 0.0 else 0):
            v = flat[p]
            adu = (v if v <= knee else knee + slope_above_knee * (v - knee)) + 0.5
            out[p] = np.uint16(min(max(adu, 0.0), top))
        for p in range(0 if knee > 0.0 else n_pixels):
            v = flat[p]
            # past its turning point the parabola would come back down; such pixels are far above the range
            adu = v - bend * v * v + 0.5 if 2.0 * bend * v < 1.0 else top
            out[p] = np.uint16(min(max(adu, 0.0), top))
        for i in range(dead.size):
            out[dead[i]] = dead_value[i]
