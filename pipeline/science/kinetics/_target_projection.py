"""The target model of a cube on plain arrays: columns, their derivatives, and the spectra solved for (variable projection).

With u = e^{-x / tau3}, what is still in |2>, the excited N(x), and a spectrum that depends on u alone,

    ΔXAS(E, t) = [Θ(x) N(x) S(E; u(x))] ⊗ G(σ),   N(x) = [(1 - e^{-x/tau1}) (1 - r - q + r e^{-x/tau2} + q u)]^p.

S is a polynomial in u. Of first order with free coefficients it is two species, u S2 + (1 - u) S1 (and q is 0, since S2 does
what it would do). Of higher order it is a line that moves, S1(E) + L(E - shift u) - L(E), L a spline. Each N u^n is a sum of
exponentials.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline

from pipeline.science.kinetics._basis import KineticData
from pipeline.science.kinetics.model import (
    amplitude_products,
    convolved_exponential,
    exponential_table,
    product_derivatives,
)

__all__ = ["Cube", "Projected", "columns", "cube_of", "knots_of", "moved_line", "project"]

FloatArray = NDArray[np.float64]

_N_ORDERS = 6
"""Powers of u that a moving line takes: enough for a shift of half its width to 1 in 10⁴ of its height."""
_DEGREE = 3
_NOTHING = 1e-12
"""Weighted length below which a column is none."""
_MOST_KNOTS = 60
"""More would cost minutes and resolve nothing."""
_RIDGE = 1e-3
"""Prior precision of the spline's coefficients in units of the largest signal: there is no end to what nothing measures."""


class Piece(NamedTuple):
    """Traces that were measured at the same delays."""

    trace: NDArray[np.int64]
    delay: NDArray[np.int64]
    signal: FloatArray
    weight: FloatArray
    whitening: FloatArray
    """Factor (trace) with which `_whitened` takes along what a constant of known error may be."""


class Cube(NamedTuple):
    """Traces as the kinetic fit has them, their energies [eV], and what becomes of the spectrum."""

    data: KineticData
    energy: FloatArray
    knots: FloatArray
    """Of the line that moves; none without one."""
    n_free: int
    """Spectra that are free at every trace: S1, and S2 of two species."""
    pieces: tuple[Piece, ...]

    @property
    def moves(self) -> bool:
        """Whether a line moves."""
        return self.knots.size > 0

    @property
    def n_returning(self) -> int:
        """Shares of N that decay: r, and q unless S2 is free."""
        return 3 - self.n_free

    @property
    def n_orders(self) -> int:
        """Powers of u."""
        return _N_ORDERS if self.moves else self.n_free


class Projected(NamedTuple):
    """A cube at given parameters, everything linear solved for."""

    cost: float
    residual: FloatArray
    """Weighted (point,), what is linear projected out; the rows of the spline's prior last."""
    jacobian: FloatArray
    """Of the residual (point, parameter), likewise (Kaufman)."""
    spectra: FloatArray
    """Coefficients of N and, for species, N u (trace, free)."""
    line: FloatArray
    """Coefficients of the spline; empty for species."""
    model: FloatArray
    """(trace, delay), without the constant under it."""
    n_linear: float
    """Linear numbers that the data know better than the priors do."""
    factor: FloatArray
    """Triangular factors of the normal matrices of the free spectra (trace, free, free)."""
    gram: FloatArray
    """Normal matrix of the spline's coefficients (spline, spline)."""
    coupling: FloatArray
    """By how much less S1 is per coefficient of the spline (trace, spline)."""


def knots_of(energy: FloatArray, reach: float, steps_per_knot: float) -> FloatArray:
    """Knots of the line over all energies and what moves into them."""
    steps = np.diff(np.unique(np.round(energy, 6)))
    # the delay scan's own energy lies next to one of the spectra's
    spacing = steps_per_knot * float(np.median(steps))
    low, high = float(energy.min()) - reach, float(energy.max()) + reach
    n = int(np.clip(np.ceil((high - low) / spacing), 4, _MOST_KNOTS))
    inner = np.linspace(low, high, n + 1)
    return np.concatenate([[low] * _DEGREE, inner, [high] * _DEGREE])


def moved_line(knots: FloatArray, energy: FloatArray, shift: float) -> tuple[FloatArray, FloatArray]:
    """B(E - shift u) - B(E) as a polynomial in u, and its derivative with respect to the shift; (order, energy, spline)."""
    u = 0.5 - 0.5 * np.cos(np.pi * np.arange(_N_ORDERS) / (_N_ORDERS - 1))
    at = energy - shift * u[:, None]
    n = len(knots) - _DEGREE - 1
    spline = BSpline(knots, np.eye(n), _DEGREE, extrapolate=False)
    values = np.nan_to_num(spline(at.ravel())).reshape(*at.shape, n)
    slopes = np.nan_to_num(spline.derivative()(at.ravel())).reshape(*at.shape, n)
    to_orders = np.linalg.inv(np.vander(u, increasing=True))
    moved, slope = (
        (to_orders @ part.reshape(len(u), -1)).reshape(part.shape)
        for part in (values - values[0], -u[:, None, None] * slopes)
    )
    return moved, slope


def _shares(returning: FloatArray) -> FloatArray:
    """Amplitudes (1 - r - q, r, q) of N(x): what stays, returns with tau2, and (q) with tau3."""
    return np.array([1.0 - returning.sum(), *returning, *([0.0] * (2 - len(returning)))])


def columns(
    theta: FloatArray, delay: FloatArray, power: int, n_orders: int, *, n_returning: int
) -> tuple[FloatArray, FloatArray]:
    """N u^n convolved (order, delay), and the derivatives (parameter, order, delay) with respect to t_d, irf_sigma, log taus, r."""
    s, rates = float(theta[1]), np.exp(-theta[2:5])
    a = _shares(theta[5 : 5 + n_returning])
    unique, spread = _exponentials(power, n_orders)
    k, x = (unique @ rates)[:, None], delay - theta[0]
    e = convolved_exponential(x, k, s)
    gauss = np.exp(-0.5 * (x / s) ** 2) / (s * np.sqrt(2.0 * np.pi)) if s > 0 else np.zeros_like(x)
    changes = np.zeros((5, len(unique), x.size))
    changes[0] = k * e - gauss
    if s > 0:
        changes[1] = s * k * (k * e - gauss) - x * gauss / s
    changes[2:] = -(unique * rates).T[:, :, None] * ((k * s * s - x) * e - s * s * gauss)
    mix = np.tensordot(spread, amplitude_products(a, power), (1, 0))
    of_shares = product_derivatives(a, power)
    of_r = np.tensordot(of_shares[1 : 1 + n_returning] - of_shares[0], spread, (1, 1))
    return mix @ e, np.concatenate([mix @ changes, of_r @ e])


@lru_cache
def _exponentials(power: int, n_orders: int) -> tuple[FloatArray, FloatArray]:
    """Counts of the rates (exponential, tau), and what each exponential is worth by power of u (order, column, exponential)."""
    table, orders = exponential_table(power, 3), np.arange(n_orders)
    counts = np.repeat(table.counts[None], n_orders, axis=0)
    counts[..., 2] += orders[:, None]
    unique, index = np.unique(counts.reshape(-1, 3), axis=0, return_inverse=True)
    spread = np.zeros((n_orders, table.n_columns, len(unique)))
    np.add.at(spread, (orders[:, None], table.column[None], index.reshape(n_orders, -1)), table.weight[None])
    return unique, spread


def cube_of(data: KineticData, energy: FloatArray, knots: FloatArray, n_free: int) -> Cube:
    """Sort traces by where they were measured."""
    masks, which = np.unique(data.weight > 0, axis=0, return_inverse=True)
    pieces = []
    for k, mask in enumerate(masks):
        trace, delay = np.flatnonzero(which.ravel() == k), np.flatnonzero(mask)
        if len(delay):
            at = np.ix_(trace, delay)
            weight = data.weight[at]
            square = np.square(weight).sum(axis=1)
            keep = np.sqrt(1.0 / (1.0 + square / data.offset[trace]))
            pieces.append(Piece(trace, delay, data.signal[at], weight, (1.0 - keep) / square))
    return Cube(data, energy, knots, n_free, tuple(pieces))


class _Rows(NamedTuple):
    """One piece, weighted, whitened, with the free spectra taken out."""

    q: FloatArray
    r: FloatArray
    y: FloatArray
    line: FloatArray
    across: FloatArray


def project(cube: Cube, theta: FloatArray) -> Projected:
    """Solve for all spectra at theta = (t_d, irf_sigma, log tau1..3, r), with a line (..., r, q, shift); in scaled units."""
    data, nz, n_trace = cube.data, cube.n_free, len(cube.energy)
    p, d_p = columns(theta, data.delay, data.power, cube.n_orders, n_returning=cube.n_returning)
    moved, d_moved = moved_line(cube.knots, cube.energy, theta[-1]) if cube.moves else (np.empty((0, n_trace, 0)),) * 2
    n_spline = moved.shape[-1]
    done = [_rows(one, p, moved, nz) for one in cube.pieces]
    flat = np.concatenate([_flat(r.across) for r in done], axis=1)
    rest = np.concatenate([_outside(r.y[:, None], r.q).ravel() for r in done])
    bare = flat @ flat.T
    gram = bare + _RIDGE * np.eye(n_spline)
    solved = np.linalg.solve(gram, np.concatenate([bare, (flat @ rest)[:, None]], axis=1))
    line, n_line = solved[:, -1], float(np.trace(solved[:, :-1]))
    rest = rest - line @ flat
    spectra, coupling = np.zeros((n_trace, nz)), np.zeros((n_trace, n_spline))
    factor = np.tile(np.eye(nz), (n_trace, 1, 1))
    for one, r in zip(cube.pieces, done, strict=True):
        left = r.y - np.tensordot(r.line, line, (1, 0))
        spectra[one.trace] = np.linalg.solve(r.r, r.q.swapaxes(1, 2) @ left[..., None])[..., 0]
        factor[one.trace] = r.r
        coupling[one.trace] = (r.line @ r.q[..., :1])[..., 0] / r.r[:, 0, :1]
    by_order = np.zeros((n_trace, cube.n_orders))
    if cube.moves:
        by_order += (moved @ line).T
    by_order[:, :nz] += spectra
    slopes = []
    for one in cube.pieces:
        change = (by_order[one.trace] @ d_p[:, :, one.delay]).swapaxes(0, 1)
        if cube.moves:
            along = (d_moved[:, one.trace] @ line).T @ p[:, one.delay]
            change = np.concatenate([change, along[:, None]], axis=1)
        slopes.append(change)
    jacobian = np.concatenate(
        [
            _flat(_outside(_whitened(one.weight[:, None] * change, one), r.q))
            for one, r, change in zip(cube.pieces, done, slopes, strict=True)
        ],
        axis=1,
    )
    # the spline's prior is as many more rows, of which the data are 0
    gain = np.linalg.solve(gram, flat @ jacobian.T).T
    jacobian = np.concatenate([jacobian - gain @ flat, -np.sqrt(_RIDGE) * gain], axis=1)
    rest = np.concatenate([rest, -np.sqrt(_RIDGE) * line])
    cost = float(np.square(rest).sum())
    cost += float(np.sum(((theta - data.prior[0]) * data.prior[1]) ** 2))
    n_linear = nz * n_trace + n_line
    return Projected(cost, rest, -jacobian.T, spectra, line, by_order @ p, n_linear, factor, gram, coupling)


def _rows(one: Piece, p: FloatArray, moved: FloatArray, n_free: int) -> _Rows:
    w, here = one.weight[:, None], p[:, one.delay]
    y = _whitened(one.weight * one.signal, one)
    q, r = np.linalg.qr(_whitened(w * here[:n_free], one).swapaxes(1, 2))
    # a column of zeros, at delays before all signal, has no spectrum
    diagonal = np.arange(n_free)
    r[:, diagonal, diagonal] += np.abs(r[:, diagonal, diagonal]) < _NOTHING
    line = np.empty((len(one.trace), 0, len(one.delay)))
    if moved.shape[-1]:
        line = _whitened(w * (moved[:, one.trace].transpose(1, 2, 0) @ here), one)
    return _Rows(q, r, y, line, _outside(line, q))


def _flat(rows: FloatArray) -> FloatArray:
    """Rows (trace, row, delay) as (row, point)."""
    return rows.swapaxes(0, 1).reshape(rows.shape[1], rows.shape[0] * rows.shape[2])


def _outside(rows: FloatArray, q: FloatArray) -> FloatArray:
    """Take the free spectra out of whitened rows (trace, row, delay)."""
    return np.asarray(rows - (rows @ q) @ q.swapaxes(1, 2))


def _whitened(rows: FloatArray, one: Piece) -> FloatArray:
    """Solve for the constant under each trace in weighted rows (trace, ..., delay), as `_projection_kernel.whiten` does."""
    middle = (1,) * (rows.ndim - 2)
    w = one.weight.reshape(len(one.weight), *middle, -1)
    along = (rows * w).sum(axis=-1, keepdims=True)
    return np.asarray(rows - one.whitening.reshape(-1, *middle, 1) * along * w)
