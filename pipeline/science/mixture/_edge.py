"""What rises above the pre-edge: the tail that an edge above the window has inside it, in the forms that edges have.

A DOS that holds the pre-edge only knows nothing of it, and no straight line follows it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from pipeline.science.mixture._ground import NARROWEST, GroundFit, GroundShape, Merged, fit_ground

__all__ = ["AS_GOOD", "FORMS", "LIMITS", "MIN_GAIN", "Form", "Tail", "tail_of", "tails", "whitened"]

Floats = NDArray[np.float64]
Form = Literal["exponential", "gaussian", "lorentzian", "arctan"]
FORMS: tuple[Form, ...] = ("exponential", "gaussian", "lorentzian", "arctan")
MIN_GAIN = 12.0
"""Fall of χ², in units of what is left per degree of freedom, that makes a tail real …"""
MAY_BE_GAIN = 5.0
"""… and that makes one possible."""
AS_GOOD = 9.0
"""Rise of χ², in the same units, up to which another form describes the spectrum as well."""


class Tail(NamedTuple):
    """A ground component with the tail of an edge of some form under it."""

    form: Form
    fit: GroundFit
    gain: float = 0.0
    """Fall of χ² by it, in units of what is left per degree of freedom."""


def tails(
    shape: GroundShape,
    merged: Merged,
    plain: GroundFit,
    *,
    shifts: Floats,
    max_fwhm: float,
    forms: Sequence[Form] = FORMS,
    min_gain: float = MAY_BE_GAIN,
) -> list[Tail]:
    """Return the forms of tail that describe the unpumped spectrum, the best first; none where χ² falls by less than `min_gain`.

    Parameters
    ----------
    shape, merged, shifts, max_fwhm
        As for `fit_ground`.
    plain
        The fit without a tail.
    forms
        Those that are tried.
    min_gain
        In units of what is left per degree of freedom.
    """
    found = [_withtail_of(shape, merged, plain, form, shifts, max_fwhm) for form in forms]
    good = sorted((t for t in found if t is not None), key=lambda t: t.fit.chi2)
    if not good:
        return []
    unit = max(good[0].fit.chi2 / max(good[0].fit.dof, 1), 1.0)
    good = [t._replace(gain=(plain.chi2 - t.fit.chi2) / unit) for t in good]
    if good[0].gain < min_gain:
        return []
    return [t for t in good if t.gain > good[0].gain - AS_GOOD]


def _withtail_of(
    shape: GroundShape, merged: Merged, plain: GroundFit, form: Form, shifts: Floats, max_fwhm: float
) -> Tail | None:
    energy, span = merged.energy, float(np.ptp(merged.energy))
    root, target = whitened(merged)
    line = energy - energy.mean()

    def solved(x: Floats) -> tuple[Floats, Floats]:
        basis = root @ np.stack([shape(energy - x[0], x[1]), line, tail_of(form, energy, x[2:])], axis=1)
        factors = np.linalg.lstsq(basis, target, rcond=None)[0]
        return basis @ factors - target, factors

    low, high = (np.array(b) * span for b in LIMITS[form])
    variance = max_fwhm**2 / (8 * np.log(2.0))
    bounds = ([shifts[0], NARROWEST, *low], [shifts[-1], variance, *high])
    found = []
    for part in (0.15, 0.5):
        begin = np.array(
            [plain.theta[1], np.clip(plain.theta[2], 0.9 * NARROWEST, 0.9 * variance), *(low + part * (high - low))]
        )
        begin[0] = np.clip(begin[0], shifts[0] + 1e-6, shifts[-1] - 1e-6)
        steps = [0.1, 0.02, *(0.3 * (high - low))]
        found.append(least_squares(lambda x: solved(x)[0], begin, bounds=bounds, x_scale=steps))
    best = min(found, key=lambda one: one.cost)
    scale, slope, height = solved(best.x)[1]
    if height <= 0 or scale <= 0:
        return None
    q = best.x[2:]
    columns = [tail_of(form, energy, q)]
    for k in range(len(q)):
        step = 1e-3 * (high[k] - low[k])
        if low[k] + step < q[k] < high[k] - step:
            moved = step * np.eye(len(q))[k]
            columns.append(height * (tail_of(form, energy, q + moved) - tail_of(form, energy, q - moved)) / (2 * step))
    start = np.array([scale, best.x[0], best.x[1], slope, height])
    fit = fit_ground(shape, merged, shifts=shifts, max_fwhm=max_fwhm, columns=np.stack(columns, axis=1), start=start)
    return Tail(form, fit) if fit.theta[0] > 0 else None


LIMITS: dict[Form, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "exponential": ((0.03,), (1.0,)),
    "gaussian": ((0.02, 0.1), (1.0, 2.0)),
    "lorentzian": ((0.02, 0.05), (1.0, 1.5)),
    "arctan": ((0.02, 0.02), (1.0, 0.5)),
}
"""Limits of the parameters over the width of the window: the length of the exponential; else centre above the end, and width."""


def tail_of(form: Form, energy: Floats, q: Floats) -> Floats:
    """Return a tail that is 1 at the last energy."""
    end = float(energy[-1])
    if form == "exponential":
        return np.asarray(np.exp((energy - end) / q[0]))
    x, top = (energy - end - q[0]) / q[1], -q[0] / q[1]
    if form == "gaussian":
        return np.asarray(np.exp(-4 * np.log(2.0) * (x**2 - top**2)))
    if form == "lorentzian":
        return np.asarray((1 + 4 * top**2) / (1 + 4 * x**2))
    return np.asarray((0.5 + np.arctan(x) / np.pi) / (0.5 + np.arctan(top) / np.pi))


def whitened(merged: Merged) -> tuple[Floats, Floats]:
    """Return a root of the precision and the target, so that χ² is the sum of squares of root · curve − target."""
    values, vectors = np.linalg.eigh(merged.precision)
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    known = values > 1e-12 * values[-1]
    return root, np.where(known, (vectors.T @ merged.moment) / np.sqrt(np.where(known, values, 1.0)), 0.0)
