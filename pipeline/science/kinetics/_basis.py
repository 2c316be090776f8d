"""Compiled basis of the kinetics fit: the convolved exponentials and their derivatives on plain arrays.

The same closed forms as `kinetics.model`, which is the slower and more precise reference for them.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray
from scipy.special import erfcx

__all__ = ["KineticData", "fill_basis"]

FloatArray = NDArray[np.float64]


class KineticData(NamedTuple):
    """Traces in units of their common peak, and the model: plain arrays only."""

    delay: FloatArray
    signal: FloatArray  # (trace, delay), 0 where missing
    weight: FloatArray  # (trace, delay), 1 / stderr, 0 where missing
    column: NDArray[np.int64]
    row_weight: FloatArray
    counts: FloatArray  # (row, tau)
    power: int
    ridge: FloatArray  # (column,) prior precision of the columns' coefficients
    prior: FloatArray  # (2, parameter): centre and 1 / sd (0: none)
    bounds: FloatArray  # (2, parameter)
    max_step: FloatArray  # (parameter,)
    allowed_sign: NDArray[np.int64]  # (trace,): +1, -1, or 0 for "try both"
    offset: FloatArray  # (trace,): prior precision of the trace's constant, inf where it has none


_PIECES, _DEGREE = 64, 6
_SCALE = 4.0


def _pieces_of_erfcx() -> FloatArray:
    """Polynomials (piece, power) of (1 + 2 z) erfcx(z) over u = 4 / (z + 4), which maps z = 0 .. inf to 1 .. 0."""
    nodes = np.cos(np.pi * (np.arange(_DEGREE + 1) + 0.5) / (_DEGREE + 1))
    u = (np.arange(_PIECES)[:, None] + 0.5 + 0.5 * nodes) / _PIECES
    z = _SCALE / u - _SCALE
    fitted = np.polynomial.polynomial.polyfit(nodes, ((1.0 + 2.0 * z) * erfcx(z)).T, _DEGREE)
    return np.ascontiguousarray(fitted.T)


_ERFCX = _pieces_of_erfcx()
_LARGEST_EXPONENT = 500.0


@njit(cache=True, error_model="numpy")
def _erfcx(z: float) -> float:
    """exp(z^2) erfc(z) for z >= 0, relative error below 1e-14."""
    u = _PIECES * (_SCALE / (z + _SCALE))
    piece = min(int(u), _PIECES - 1)
    t = 2.0 * (u - piece) - 1.0
    value = _ERFCX[piece, _DEGREE]
    for power in range(_DEGREE - 1, -1, -1):
        value = value * t + _ERFCX[piece, power]
    return value / (1.0 + 2.0 * z)


@njit(cache=True, error_model="numpy")
def _convolved(k: float, sigma: float, x: FloatArray, bell: FloatArray, decay: FloatArray, out: FloatArray) -> None:
    """Exponential of rate k convolved with a Gaussian; `decay` is e^{-k x} where x > 0, `bell` e^{-x^2 / 2 sigma^2}."""
    if not sigma > 0.0:
        for i in range(x.size):
            out[i] = decay[i] if x[i] >= 0.0 else 0.0
        return
    late = 0.5 * k * k * sigma * sigma
    factor = math.exp(min(late, _LARGEST_EXPONENT))
    a, b = k * sigma * math.sqrt(0.5), math.sqrt(0.5) / sigma
    for i in range(x.size):
        z = a - b * x[i]
        if z > 0.0:
            out[i] = 0.5 * bell[i] * _erfcx(z) if bell[i] > 0.0 else 0.0
            continue
        # erfc(z) = 2 - exp(-z^2) erfcx(-z), and exp(-z^2) e^{late - k x} is the bell
        e = factor * decay[i] if late < _LARGEST_EXPONENT else math.exp(late - k * x[i])
        out[i] = e - 0.5 * bell[i] * _erfcx(-z) if z > -6.0 else e


@njit(cache=True, error_model="numpy")
def fill_basis(theta: FloatArray, data: KineticData, phi: FloatArray, d_phi: FloatArray, derivatives: bool) -> None:
    """Fill the basis columns and their derivatives with respect to theta."""
    n_tau, n = theta.size - 2, data.delay.size
    sigma = theta[1]
    phi[:] = 0.0
    if derivatives:
        d_phi[:] = 0.0
    x = data.delay - theta[0]
    rates = np.exp(-theta[2:])
    bell, gauss, single = np.zeros(n), np.zeros(n), np.ones((n_tau, n))
    for i in range(n):
        if sigma > 0.0 and abs(x[i]) < 9.0 * sigma:
            u = x[i] / sigma
            bell[i] = math.exp(-0.5 * u * u)
            gauss[i] = bell[i] / (sigma * math.sqrt(2.0 * math.pi))
        if x[i] > 0.0:
            for j in range(n_tau):
                single[j, i] = math.exp(-rates[j] * x[i])
    decay, e = np.empty(n), np.empty(n)
    for m in range(data.column.size):
        k = 0.0
        decay[:] = 1.0
        for j in range(n_tau):
            k += data.counts[m, j] * rates[j]
            for _ in range(int(data.counts[m, j])):
                for i in range(n):
                    decay[i] *= single[j, i]
        _convolved(k, sigma, x, bell, decay, e)
        w, c = data.row_weight[m], data.column[m]
        for i in range(n):
            phi[c, i] += w * e[i]
        if not derivatives:
            continue
        for i in range(n):
            d_phi[0, c, i] += w * (k * e[i] - gauss[i])
        if sigma > 0.0:
            for i in range(n):
                d_phi[1, c, i] += w * (sigma * k * (k * e[i] - gauss[i]) - x[i] * gauss[i] / sigma)
        for j in range(n_tau):
            f = w * data.counts[m, j] * rates[j]
            if f != 0.0:
                for i in range(n):
                    d_phi[2 + j, c, i] -= f * ((k * sigma * sigma - x[i]) * e[i] - sigma * sigma * gauss[i])
