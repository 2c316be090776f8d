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


_DEGREE = 40
_SCALE = 3.75


def _chebyshev_of_erfcx() -> FloatArray:
    """(1 + 2 z) erfcx(z) over y = (z - 3.75) / (z + 3.75), which maps z = 0 .. inf to -1 .. 1."""
    nodes = np.cos(np.pi * (np.arange(_DEGREE) + 0.5) / _DEGREE)
    z = _SCALE * (1.0 + nodes) / (1.0 - nodes)
    series = np.polynomial.chebyshev.chebfit(nodes, (1.0 + 2.0 * z) * erfcx(z), _DEGREE - 1)
    return np.ascontiguousarray(series[:32])


_CHEBYSHEV = _chebyshev_of_erfcx()


@njit(cache=True, error_model="numpy")
def _erfcx(z: float) -> float:
    """exp(z^2) erfc(z) for z >= 0, relative error below 1e-14."""
    y = (z - _SCALE) / (z + _SCALE)
    b0, b1 = 0.0, 0.0
    for i in range(_CHEBYSHEV.size - 1, 0, -1):
        b0, b1 = 2.0 * y * b0 - b1 + _CHEBYSHEV[i], b0
    return (y * b0 - b1 + _CHEBYSHEV[0]) / (1.0 + 2.0 * z)


@njit(cache=True, error_model="numpy")
def fill_basis(theta: FloatArray, data: KineticData, phi: FloatArray, d_phi: FloatArray, derivatives: bool) -> None:
    """Fill the basis columns and their derivatives with respect to theta."""
    n_tau = theta.size - 2
    sigma = theta[1]
    phi[:] = 0.0
    if derivatives:
        d_phi[:] = 0.0
    n = data.delay.size
    x = data.delay - theta[0]
    gauss = np.zeros(n)
    bell = np.zeros(n)
    if sigma > 0.0:
        for i in range(n):
            u = x[i] / sigma
            if abs(u) < 9.0:
                bell[i] = math.exp(-0.5 * u * u)
                gauss[i] = bell[i] / (sigma * math.sqrt(2.0 * math.pi))
    rates = np.exp(-theta[2:])
    for m in range(data.column.size):
        k = 0.0
        for j in range(n_tau):
            k += data.counts[m, j] * rates[j]
        w, c = data.row_weight[m], data.column[m]
        late = 0.5 * k * k * sigma * sigma
        for i in range(n):
            if x[i] < -9.0 * sigma:
                continue
            if sigma > 0.0:
                z = (k * sigma - x[i] / sigma) * math.sqrt(0.5)
                if z < -6.0:
                    e = math.exp(late - k * x[i])
                elif z < 0.0:
                    e = 0.5 * math.exp(late - k * x[i]) * math.erfc(z)
                elif bell[i] > 0.0:
                    e = 0.5 * bell[i] * _erfcx(z)
                else:
                    e = 0.0
            else:
                e = math.exp(-k * x[i])
            phi[c, i] += w * e
            if derivatives:
                g = gauss[i]
                d_phi[0, c, i] += w * (k * e - g)
                if sigma > 0.0:
                    d_phi[1, c, i] += w * (sigma * k * (k * e - g) - x[i] * g / sigma)
                d_rate = w * ((k * sigma * sigma - x[i]) * e - sigma * sigma * g)
                for j in range(n_tau):
                    d_phi[2 + j, c, i] -= data.counts[m, j] * rates[j] * d_rate
