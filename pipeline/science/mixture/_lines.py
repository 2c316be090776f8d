"""The ground state without a DOS: two lines of free width over the tail of an edge, which follow most pre-edges."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls

from pipeline.science.mixture._edge import AS_GOOD, FORMS, LIMITS, Form, tail_of, whitened
from pipeline.science.mixture._ground import Merged

__all__ = ["Lines", "free_lines"]

Floats = NDArray[np.float64]
_LN2 = float(np.log(2.0))
_STARTS = ((0.0, 0.2, 0.35), (0.2, 0.2, 0.2), (-0.2, 0.3, 0.2))
"""Distance of the second line from the first, and the widths of both, over the width of the window."""


class Lines(NamedTuple):
    """Two pseudo-Voigt lines over a tail of some form or none."""

    form: Form | None
    centres: Floats
    fwhm: Floats
    lorentzian: float
    """Part of the lines that is Lorentzian."""
    heights: Floats
    background: Floats
    """The tail and a straight line, at the energies of the fit."""
    chi2: float
    dof: int

    def __call__(self, energy: Floats) -> Floats:
        """Return the sum of both lines."""
        shapes = _lines(energy, np.array([*self.centres, *self.fwhm, self.lorentzian]))
        return np.asarray(shapes @ self.heights)


def _lines(energy: Floats, x: Floats) -> Floats:
    """Return both lines with height 1: (energy, line)."""
    square = ((energy[:, None] - x[:2]) / x[2:4]) ** 2
    return np.asarray(x[4] / (1 + 4 * square) + (1 - x[4]) * np.exp(-4 * _LN2 * square))


def free_lines(merged: Merged, top: float) -> list[Lines]:
    """Return the lines over each form of tail, or none, that describe the unpumped spectrum about as well as the best."""
    found = [_fitted(merged, form, top) for form in (None, *FORMS)]
    best = min(one.chi2 for one in found)
    unit = max(1.0, *(one.chi2 / one.dof for one in found if one.chi2 == best))
    return sorted((one for one in found if one.chi2 < best + AS_GOOD * unit), key=lambda one: one.chi2)


def _fitted(merged: Merged, form: Form | None, top: float) -> Lines:
    energy, span = merged.energy, float(np.ptp(merged.energy))
    root, target = whitened(merged)
    slope = (energy - energy.mean())[:, None] / span

    def solved(x: Floats) -> tuple[Floats, Floats]:
        columns = [_lines(energy, x[:5]), slope, -slope]
        columns += [tail_of(form, energy, x[5:])[:, None]] if form else []
        basis = root @ np.concatenate(columns, axis=1)
        factors, _ = nnls(basis, target)
        return basis @ factors - target, factors

    low, high = (np.array(b) * span for b in (LIMITS[form] if form else ((), ())))
    first, last, narrow = energy[0] + 0.05 * span, energy[-1] - 0.05 * span, 0.06 * span
    bounds = ([first, first, narrow, narrow, 0.0, *low], [last, last, 0.8 * span, 0.8 * span, 1.0, *high])
    steps = [0.1, 0.1, 0.1, 0.1, 0.2, *(0.3 * (high - low))]
    fits = []
    for apart, one, other in _STARTS:
        begin = [top, top + apart * span, one * span, other * span, 0.2, *(0.7 * low + 0.3 * high)]
        begin = np.clip(begin, np.array(bounds[0]) + 1e-3, np.array(bounds[1]) - 1e-3)
        fits.append(least_squares(lambda x: solved(x)[0], begin, bounds=bounds, x_scale=steps, max_nfev=60))
    best = min(fits, key=lambda one: one.cost)
    factors = solved(best.x)[1]
    background = (factors[2] - factors[3]) * slope[:, 0]
    background += factors[4] * tail_of(form, energy, best.x[5:]) if form else 0.0
    dof = max(len(energy) - 1 - len(factors) - len(best.x), 1)
    return Lines(form, best.x[:2], best.x[2:4], float(best.x[4]), factors[:2], background, 2 * float(best.cost), dof)
