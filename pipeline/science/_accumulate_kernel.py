"""The one pass over pulses, compiled: sums per cell, with products of train sums for the errors."""

import numba
import numpy as np

__all__ = ["add_pulses"]


@numba.njit(cache=True, nogil=True)
def add_pulses(cell, photons, variance, energy, delay, along, n, trains, total, product, shot, moment):  # type: ignore[no-untyped-def]
    """Add trains × pulses to the sums of their cells, in a fixed order.

    cell (train, pulse) is -1 for pulses that do not count. Inside a train the pulses of a cell are added up first,
    because pulses of one train are not independent; the products are of these train sums X and of the sums Y of
    photons × coordinate: product[0] = Σ X_a X_b, product[1] = Σ X_a Y_b, product[2] = Σ Y_a Y_b. product[3] is Σ x_a x_b over single pulses. The coordinate is the
    energy (along = 0) or the delay (along = 1).
    """
    n_trains, n_pulses, n_beams = photons.shape
    touched = np.empty(n_pulses, np.int64)
    slot = np.full(n.shape[0], -1, np.int64)
    part = np.empty((n_pulses, n_beams))
    shifted = np.empty((n_pulses, n_beams))
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
                shifted[s, :] = 0.0
                used += 1
            n[c] += 1
            weight = 0.0
            q = energy[t] if along == 0 else delay[t, p]
            for b in range(n_beams):
                weight += photons[t, p, b]
                part[s, b] += photons[t, p, b]
                shifted[s, b] += photons[t, p, b] * q
                shot[c, b] += variance[t, p, b]
                for a in range(n_beams):
                    product[c, 3, a, b] += photons[t, p, a] * photons[t, p, b]
            moment[c, 0] += weight
            moment[c, 1] += weight * energy[t]
            moment[c, 2] += weight * energy[t] ** 2
            moment[c, 3] += weight * delay[t, p]
            moment[c, 4] += weight * delay[t, p] ** 2
        for s in range(used):
            c = touched[s]
            slot[c] = -1
            trains[c] += 1
            for a in range(n_beams):
                total[c, a] += part[s, a]
                for b in range(n_beams):
                    product[c, 0, a, b] += part[s, a] * part[s, b]
                    product[c, 1, a, b] += part[s, a] * shifted[s, b]
                    product[c, 2, a, b] += shifted[s, a] * shifted[s, b]
