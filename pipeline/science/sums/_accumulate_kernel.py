"""The one pass over pulses, compiled: bin look-up, filter, and sums per cell with the products that errors need."""

import numba
import numpy as np

__all__ = ["add_trains"]


@numba.njit(cache=True, inline="always")
def _bin_of(value, edges, last, scale, guess):  # type: ignore[no-untyped-def]
    """Return the bin of a value as `numpy.searchsorted` would, -1 outside (and for NaN).

    Looked at first is the place that a value has on equal bins (scale is bins per unit), which rounding can miss by one,
    or where bins are not equal (scale 0) `guess`, because pulses of a train mostly share a bin; then halving.
    """
    if not (edges[0] <= value <= edges[last + 1]):
        return -1
    if scale > 0.0:
        guess = min(int((value - edges[0]) * scale), last)
    if edges[guess] <= value < edges[guess + 1]:
        return guess
    low, high = 0, last
    while low < high:
        middle = (low + high + 1) >> 1
        if value >= edges[middle]:
            low = middle
        else:
            high = middle - 1
    return low


@numba.njit(cache=True, nogil=True)
def add_trains(  # type: ignore[no-untyped-def]
    chosen,
    row,
    column,
    edges,
    scale,
    drop_reason,
    condition,
    photons,
    stderr,
    energy,
    delay,
    along,
    beams,
    magic,
    n,
    trains,
    limbs,
):
    """Add the chosen trains to the sums of their cells; cell = row of the train · columns + column of the pulse.

    The column is that of `column` (train, pulse; -1: none), or where that is empty the bin of the pulse's delay in
    `edges` (none: all are one bin), for pulses whose `drop_reason` is 0. Inside a train the pulses of a cell are added up first, because pulses of one train
    are not independent; those of another `condition` (train, pulse; empty: all are of condition 0) are added to places of
    their own, as if they had been seen by other beams, and only those of condition 0 say where in energy and delay the
    cell lies. What a train adds is cut into slices on fixed grids (`magic` + x − `magic` rounds x to a grid),
    whose sums are exact: they do not depend on the order of trains, nor on who added them.

    `beams` is a tuple as long as there are beams: its length is known when this is compiled, so loops over beams unroll.
    `n` (cell, condition) counts pulses, `trains` (cell, condition + 1) trains by condition and, last, those with any.
    """
    n_physical = len(beams)
    n_conditions = n.shape[1]
    n_beams = n_physical * n_conditions
    n_pairs = n_beams * (n_beams + 1) // 2
    n_terms = limbs.shape[2]
    n_pulses = photons.shape[1]
    given = column.size > 0
    n_columns = n.shape[0] if given else max(edges.shape[0] - 1, 1)
    slot = np.full(n_columns, -1, np.int64)
    most = min(n_pulses, n_columns)
    touched, count = np.empty(most, np.int64), np.empty((most, n_conditions), np.int64)
    conditions_known = condition.size > 0
    # per cell of the train: X (beams), variance (beams), Y (beams), products of pulses (pairs), Σ w·t, Σ w·t²
    at_variance, at_shifted, at_pair = n_beams, 2 * n_beams, 3 * n_beams
    at_moment = at_pair + n_pairs
    part = np.empty((most, at_moment + 2))
    term = np.zeros(n_terms)
    l0, l1, l2 = limbs[0], limbs[1], limbs[2]
    m0, m1, m2 = magic[0], magic[1], magic[2]
    for t in chosen:
        used, guess = 0, 0
        q = energy[t]
        for p in range(n_pulses):
            d = delay[t, p]
            if given:
                c = column[t, p]
            elif drop_reason[t, p] != 0:
                c = -1
            elif edges.shape[0] == 0:
                c = 0
            else:
                c = _bin_of(d, edges, n_columns - 1, scale, guess)
            if c < 0:
                continue
            guess = 0 if given else c
            if d != d:
                d = 0.0
            s = slot[c]
            if s < 0:
                s = used
                slot[c] = s
                touched[s] = c
                for k in range(n_conditions):
                    count[s, k] = 0
                for k in range(part.shape[1]):
                    part[s, k] = 0.0
                used += 1
            of = condition[t, p] if conditions_known else 0
            first = of * n_physical
            count[s, of] += 1
            weight = 0.0
            for b in range(n_physical):
                x = photons[t, p, b]
                e = stderr[t, p, b]
                weight += x
                seen = first + b
                part[s, seen] += x
                part[s, at_variance + seen] += e * e
                part[s, at_shifted + seen] += x * d
                k = at_pair + seen * (seen + 1) // 2 + first
                for a in range(b + 1):
                    part[s, k] += photons[t, p, a] * x
                    k += 1
            if of == 0:
                part[s, at_moment] += weight * d
                part[s, at_moment + 1] += weight * d * d
        for s in range(used):
            c = touched[s]
            slot[c] = -1
            cell = row[t] * n_columns + c
            for k in range(n_conditions):
                n[cell, k] += count[s, k]
                trains[cell, k] += 1 if count[s, k] > 0 else 0
            trains[cell, n_conditions] += 1
            weight = 0.0
            for b in range(n_physical):
                weight += part[s, b]
            for b in range(n_beams):
                term[b] = part[s, b]
                term[n_beams + b] = part[s, at_variance + b]
                if along == 0:
                    part[s, at_shifted + b] = part[s, b] * q
            k = 2 * n_beams
            term[k], term[k + 1] = weight * q, weight * q * q
            term[k + 2], term[k + 3] = part[s, at_moment], part[s, at_moment + 1]
            k += 4
            i = 0
            for b in range(n_beams):
                for a in range(b + 1):
                    term[k + i] = part[s, a] * part[s, b]
                    term[k + n_pairs + i] = part[s, at_pair + i]
                    term[k + 2 * n_pairs + i] = part[s, at_shifted + a] * part[s, at_shifted + b]
                    i += 1
            k += 3 * n_pairs
            for a in range(n_beams):
                for b in range(n_beams):
                    term[k] = part[s, a] * part[s, at_shifted + b]
                    k += 1
            for k in range(n_terms):
                x = term[k]
                high = (x + m0[k]) - m0[k]
                x -= high
                middle = (x + m1[k]) - m1[k]
                x -= middle
                l0[cell, k] += high
                l1[cell, k] += middle
                l2[cell, k] += (x + m2[k]) - m2[k]
