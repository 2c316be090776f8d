"""The one pass over pulses, compiled: sums per cell, with products of train sums for the errors."""

import numba
import numpy as np

__all__ = ["add_pulses"]


@numba.njit(cache=True, nogil=True)
def add_pulses(cell, photons, variance, energy, delay, n, trains, total, product, shot, moment):  # type: ignore[no-untyped-def]
    """Add trains × pulses to the sums of their cells, in a fixed order.

    cell (train, pulse) is -1 for pulses that do not count. Inside a train the pulses of a cell are added up first,
    because pulses of one train are not independent; the products are of these train sums.
    """
    n_trains, n_pulses, n_beams = photons.shape
    touched = np.empty(n_pulses, np.int64)
    slot = np.full(n.shape[0], -1, np.int64)
    part = np.empty((n_pulses, n_beams))
    for t in range(n_trains):
        used = 0
        for p in range(n_pulses):
            c = cell[t, p]
            if c < 0:
                continue
            s = slot[c]
            if s < 0:
                s = used
                slot[c] = s
                touched[s] = c
                part[s, :] = 0.0
                used += 1
            n[c] += 1
            moment[c, 0] += energy[t]
            moment[c, 1] += delay[t, p]
            for b in range(n_beams):
                part[s, b] += photons[t, p, b]
                shot[c, b] += variance[t, p, b]
        for s in range(used):
            c = touched[s]
            slot[c] = -1
            trains[c] += 1
            for a in range(n_beams):
                total[c, a] += part[s, a]
                for b in range(n_beams):
                    product[c, a, b] += part[s, a] * part[s, b]
