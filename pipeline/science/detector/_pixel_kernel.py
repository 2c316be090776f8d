"""The inner loops over pixels: plain arrays in, plain arrays out, without the interpreter lock.

Every sum runs column by column first (float32, at most 128 terms) and then along the columns (float64), in an order
the source fixes: no reassociation, so a frame gives the same bits in any block, crop, thread or process.
"""

import numba
import numpy as np

__all__ = [
    "beam_sums",
    "beam_sums_table",
    "border_sums",
    "group_sums",
    "pair_moments",
    "saturated_pixels",
    "unlit_sums",
    "weighted_sums",
]

_ZERO = np.float32(0)
_FRAMES = 8
_LANES = 16  # float32 in the longest vector register there is


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def beam_sums(
    raw: np.ndarray,
    weight: np.ndarray,
    good: np.ndarray,
    corners: np.ndarray,
    shift: tuple[int, int],
    poly: np.ndarray,
    saturation: int,
    sums: np.ndarray,
    n_saturated: np.ndarray,
) -> None:
    """Sum of weight * (p1 r + p2 r^2 + p3 r^3) over each beam of each frame, and its saturated pixels.

    Four rows at a time, so that the accumulators cost little; eight frames per row, so that the weights stay in the
    first-level cache; whole vectors of columns (what a vector adds beyond the beam's edge is not used). The two
    loops over columns are written out here because the compiler vectorises them worse as functions.

    Parameters
    ----------
    raw : (n, y, x) u2
    weight : (y, x) f4, 0 for a bad pixel;  good : (y, x) u2, 0 for a bad pixel and 0xFFFF else
    corners : (beam, 4) i8: y0, y1, x0, x1 in `weight`;  shift : what to add to get there in `raw`
    poly : (3,) f4: p1, p2, p3;  saturation : ADU from which on a pixel counts as saturated
    sums : (n, beam) f8, out;  n_saturated : (n, beam) i4, out
    """
    p1, p2, p3 = poly[0], poly[1], poly[2]
    column = np.empty((_FRAMES, weight.shape[1]), np.float32)
    highest = np.empty((_FRAMES, weight.shape[1]), np.uint16)
    for first in range(0, raw.shape[0], _FRAMES):
        n = min(_FRAMES, raw.shape[0] - first)
        for b in range(corners.shape[0]):
            y0, y1, x0, x1 = corners[b, 0], corners[b, 1], corners[b, 2], corners[b, 3]
            width = (x1 - x0 + _LANES - 1) // _LANES * _LANES
            if x0 + width > weight.shape[1] or x0 + shift[1] + width > raw.shape[2]:
                width = x1 - x0
            u0 = x0 + shift[1]
            for i in range(n):
                for j in range(width):
                    column[i, j] = _ZERO
                for j in range(width):
                    highest[i, j] = 0
            for y in range(y0, y1 - 3, 4):
                w0, w1 = weight[y, x0 : x0 + width], weight[y + 1, x0 : x0 + width]
                w2, w3 = weight[y + 2, x0 : x0 + width], weight[y + 3, x0 : x0 + width]
                g0, g1 = good[y, x0 : x0 + width], good[y + 1, x0 : x0 + width]
                g2, g3 = good[y + 2, x0 : x0 + width], good[y + 3, x0 : x0 + width]
                v = y + shift[0]
                for i in range(n):
                    frame = raw[first + i]
                    r0, r1 = frame[v, u0 : u0 + width], frame[v + 1, u0 : u0 + width]
                    r2, r3 = frame[v + 2, u0 : u0 + width], frame[v + 3, u0 : u0 + width]
                    acc, top = column[i, :width], highest[i, :width]
                    for j in range(width):
                        a, c, d, e = np.float32(r0[j]), np.float32(r1[j]), np.float32(r2[j]), np.float32(r3[j])
                        acc[j] += (w0[j] * (a * (p1 + a * (p2 + a * p3))) + w1[j] * (c * (p1 + c * (p2 + c * p3)))) + (
                            w2[j] * (d * (p1 + d * (p2 + d * p3))) + w3[j] * (e * (p1 + e * (p2 + e * p3)))
                        )
                    for j in range(width):
                        high = max(max(r0[j] & g0[j], r1[j] & g1[j]), max(r2[j] & g2[j], r3[j] & g3[j]))
                        top[j] = max(top[j], high)
            for y in range(y0 + (y1 - y0) // 4 * 4, y1):
                w0, g0 = weight[y, x0 : x0 + width], good[y, x0 : x0 + width]
                for i in range(n):
                    r0 = raw[first + i, y + shift[0], u0 : u0 + width]
                    acc, top = column[i, :width], highest[i, :width]
                    for j in range(width):
                        a = np.float32(r0[j])
                        acc[j] += w0[j] * (a * (p1 + a * (p2 + a * p3)))
                    for j in range(width):
                        top[j] = max(top[j], r0[j] & g0[j])
            for i in range(n):
                sums[first + i, b] = _total(column[i, : x1 - x0])
                n_saturated[first + i, b] = 0
                if _maximum(highest[i, : x1 - x0]) >= saturation:
                    n_saturated[first + i, b] = _count_saturated(raw[first + i], good, corners[b], shift, saturation)


@numba.njit(nogil=True, cache=True, fastmath={"contract"})
def beam_sums_table(
    raw: np.ndarray,
    weight: np.ndarray,
    good: np.ndarray,
    corners: np.ndarray,
    shift: tuple[int, int],
    table: np.ndarray,
    saturation: int,
    sums: np.ndarray,
    n_saturated: np.ndarray,
) -> None:
    """The same for a non-linearity that is no polynomial: `table` (512,) f4 maps ADU to linear ADU.

    About four times slower, because a table look-up does not vectorise.
    """
    column = np.empty(raw.shape[2], np.float32)
    for i in range(raw.shape[0]):
        for b in range(corners.shape[0]):
            y0, y1, x0, x1 = corners[b, 0], corners[b, 1], corners[b, 2], corners[b, 3]
            acc = column[: x1 - x0]
            for j in range(x1 - x0):
                acc[j] = _ZERO
            for y in range(y0, y1):
                r, w = raw[i, y + shift[0], x0 + shift[1] : x1 + shift[1]], weight[y, x0:x1]
                for j in range(x1 - x0):
                    acc[j] += w[j] * table[min(r[j], 511)]
            sums[i, b] = _total(acc)
            n_saturated[i, b] = _count_saturated(raw[i], good, corners[b], shift, saturation)


@numba.njit(nogil=True, cache=True)
def _total(values: np.ndarray) -> float:
    a = b = c = d = 0.0  # four chains, because one would wait for each addition
    n = values.size - values.size % 4
    for j in range(0, n, 4):
        a += values[j]
        b += values[j + 1]
        c += values[j + 2]
        d += values[j + 3]
    for j in range(n, values.size):
        a += values[j]
    return (a + b) + (c + d)


@numba.njit(nogil=True, cache=True)
def _maximum(values: np.ndarray) -> np.uint16:
    top = np.uint16(0)
    for j in range(values.size):
        top = max(top, values[j])
    return top


@numba.njit(nogil=True, cache=True)
def _count_saturated(
    frame: np.ndarray, good: np.ndarray, corner: np.ndarray, shift: tuple[int, int], saturation: int
) -> int:
    n = 0
    for y in range(corner[0], corner[1]):
        r = frame[y + shift[0], corner[2] + shift[1] : corner[3] + shift[1]]
        g = good[y, corner[2] : corner[3]]
        for j in range(r.size):
            n += (r[j] & g[j]) >= saturation
    return n


@numba.njit(nogil=True, cache=True)
def border_sums(
    raw: np.ndarray, weight: np.ndarray, corners: np.ndarray, shift: tuple[int, int], table: np.ndarray, width: int
) -> np.ndarray:
    """Sum of weight * table[raw] over the pixels of each beam that are within `width` of its border: (n, beam) f8.

    Parameters are those of `beam_sums_table`.
    """
    out = np.zeros((raw.shape[0], corners.shape[0]))
    for i in range(raw.shape[0]):
        for b in range(corners.shape[0]):
            y0, y1, x0, x1 = corners[b, 0], corners[b, 1], corners[b, 2], corners[b, 3]
            for y in range(y0, y1):
                r, w = raw[i, y + shift[0], x0 + shift[1] : x1 + shift[1]], weight[y, x0:x1]
                inner = y >= y0 + width and y < y1 - width and x1 - x0 > 2 * width
                left = width if inner else r.size
                for j in range(left):
                    out[i, b] += w[j] * table[min(r[j], 511)]
                for j in range(r.size - width if inner else r.size, r.size):
                    out[i, b] += w[j] * table[min(r[j], 511)]
    return out


@numba.njit(nogil=True, cache=True)
def unlit_sums(
    raw: np.ndarray,
    level: np.ndarray,
    segments: np.ndarray,
    shift: tuple[int, int],
    reach: int,
    total: np.ndarray,
    count: np.ndarray,
) -> None:
    """Sum of raw - level over the unlit pixels of each chip that are within reach of their level, and their number.

    Whole numbers: the order of the sums does not matter.

    Parameters
    ----------
    raw : (n, y, x) u2;  level : (y, x) i2, far out of reach for a pixel that does not count
    segments : (k, 4) i8: row, first column, column after the last in `level`, chip;  shift : what to add to get to `raw`
    reach : ADU;  total, count : (n, chip) i8, out
    """
    near = np.int32(reach)
    for i in range(raw.shape[0]):
        total[i] = 0
        count[i] = 0
        for k in range(segments.shape[0]):
            y, x0, x1, chip = segments[k, 0], segments[k, 1], segments[k, 2], segments[k, 3]
            r, base = raw[i, y + shift[0], x0 + shift[1] : x1 + shift[1]], level[y, x0:x1]
            s, n = np.int32(0), np.int32(0)
            for j in range(r.size):
                d = np.int32(r[j]) - np.int32(base[j])
                inside = np.int32(abs(d) <= near)
                s += d * inside
                n += inside
            total[i, chip] += s
            count[i, chip] += n


@numba.njit(nogil=True, cache=True)
def saturated_pixels(
    raw: np.ndarray, use: np.ndarray, good: np.ndarray, corners: np.ndarray, saturation: int
) -> np.ndarray:
    """(m,) i8: good pixels (u2, 0 or 0xFFFF) of all beams at or above saturation, for frames `use`."""
    n = np.zeros(use.size, np.int64)
    for t in range(use.size):
        for b in range(corners.shape[0]):
            n[t] += _count_saturated(raw[use[t]], good, corners[b], (0, 0), saturation)
    return n


@numba.njit(nogil=True, cache=True)
def group_sums(raw: np.ndarray, use: np.ndarray, group: np.ndarray, n_groups: int, tables: np.ndarray) -> np.ndarray:
    """Sum of each table over the pixels of each group: (n, group, table) f8.

    raw : (n, y, x) u2;  use : (m,) indices into raw;  group : (y, x) i4, -1 for none;  tables : (512, table) f8
    """
    out = np.zeros((use.size, n_groups, tables.shape[1]))
    for t in range(use.size):
        frame, sums = raw[use[t]], out[t]
        for y in range(frame.shape[0]):
            for x in range(frame.shape[1]):
                g = group[y, x]
                if g >= 0:
                    row = tables[min(frame[y, x], 511)]
                    for k in range(row.size):
                        sums[g, k] += row[k]
    return out


@numba.njit(nogil=True, cache=True)
def weighted_sums(
    raw: np.ndarray, use: np.ndarray, weights: np.ndarray, corners: np.ndarray, table: np.ndarray
) -> np.ndarray:
    """Sum of weights[k] * table[raw] over each beam: (m, beam, k) f8.

    weights : (k, y, x) f8, 0 for bad pixels;  corners : (beam, 4) i8 y0, y1, x0, x1;  table : (512,) f8
    """
    out = np.zeros((use.size, corners.shape[0], weights.shape[0]))
    value = np.empty(raw.shape[2])
    for t in range(use.size):
        for b in range(corners.shape[0]):
            x0, x1 = corners[b, 2], corners[b, 3]
            for y in range(corners[b, 0], corners[b, 1]):
                r = raw[use[t], y, x0:x1]
                for j in range(x1 - x0):
                    value[j] = table[min(r[j], 511)]
                for k in range(weights.shape[0]):
                    w = weights[k, y, x0:x1]
                    total = 0.0
                    for j in range(x1 - x0):
                        total += w[j] * value[j]
                    out[t, b, k] += total
    return out


@numba.njit(nogil=True, cache=True)
def pair_moments(
    raw: np.ndarray,
    use: np.ndarray,
    cell: np.ndarray,
    dark: np.ndarray,
    pair: np.ndarray,
    below: np.ndarray,
    group: np.ndarray,
    n_groups: int,
    profile: np.ndarray,
    intensity: np.ndarray,
    table: np.ndarray,
) -> np.ndarray:
    """Differences of neighbours' residuals over the pixel pairs of each group: (m, group, 2) f8.

    First the sum of their squares, then of their products with the difference of the pair one row below.

    dark : (cell, y, x) f4, linearised;  pair : (p, 2) i8, row and left column of each pair;  group : (p,) i8
    below : (p,) i8, the pair one row below (of the same group), -1 for none
    profile : (y, x) f8, share of a pixel in its beam;  intensity : (m, group) f8, ADU of the beam the group is in
    """
    out = np.zeros((use.size, n_groups, 2))
    difference = np.empty(pair.shape[0])
    for t in range(use.size):
        frame, level = raw[use[t]], dark[cell[t]]
        for p in range(pair.shape[0]):
            y, x, total = pair[p, 0], pair[p, 1], intensity[t, group[p]]
            left = table[min(frame[y, x], 511)] - level[y, x] - profile[y, x] * total
            right = table[min(frame[y, x + 1], 511)] - level[y, x + 1] - profile[y, x + 1] * total
            difference[p] = left - right
        for p in range(pair.shape[0]):
            out[t, group[p], 0] += difference[p] ** 2
            if below[p] >= 0:
                out[t, group[p], 1] += difference[p] * difference[below[p]]
    return out
