"""Compiled amplitudes of one kinetic trace: the linear (power 1) or quartic (power 2) problem inside the fit.

Power 2 minimises q(A)' M q(A) - 2 b' q(A) over A, where q holds the products A_i A_j (i <= j), M is the 6 x 6 moment
matrix of the basis and b its overlap with the data. The problem has a minimum per sign pattern of A.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "product_jacobian",
    "products",
    "quartic_global",
    "quartic_newton",
    "solve_ridged",
]

FloatArray = NDArray[np.float64]


@njit(cache=True, error_model="numpy")
def _solve(matrix: FloatArray, right: FloatArray, out: FloatArray) -> bool:
    """Fill the rows of out with the solutions for the rows of right (Cholesky); False if not positive definite."""
    n, factor = matrix.shape[0], np.empty(matrix.shape)
    for i in range(n):
        for j in range(i + 1):
            s = matrix[i, j]
            for k in range(j):
                s -= factor[i, k] * factor[j, k]
            if i == j:
                if not s > 1e-15 * abs(matrix[i, i]) or not s > 0.0:
                    return False
                factor[i, i] = math.sqrt(s)
            else:
                factor[i, j] = s / factor[j, j]
    for r in range(right.shape[0]):
        for i in range(n):
            s = right[r, i]
            for k in range(i):
                s -= factor[i, k] * out[r, k]
            out[r, i] = s / factor[i, i]
        for i in range(n - 1, -1, -1):
            s = out[r, i]
            for k in range(i + 1, n):
                s -= factor[k, i] * out[r, k]
            out[r, i] = s / factor[i, i]
    return True


@njit(cache=True, error_model="numpy")
def solve_ridged(matrix: FloatArray, right: FloatArray, out: FloatArray) -> None:
    """Fill the rows of out as `_solve` does, with the smallest relative shift of the diagonal for which there is a solution."""
    if _solve(matrix, right, out):
        return
    shift = max(1e-14 * np.diag(matrix).max(), 1e-300)
    while not _solve(matrix + shift * np.eye(matrix.shape[0]), right, out):
        shift *= 10.0


@njit(cache=True, error_model="numpy")
def products(a: FloatArray, power: int, q: FloatArray) -> None:
    if power == 1:
        q[:] = a
        return
    c = 0
    for i in range(a.size):
        for j in range(i, a.size):
            q[c] = a[i] * a[j]
            c += 1


@njit(cache=True, error_model="numpy")
def product_jacobian(a: FloatArray, power: int, jac: FloatArray) -> None:
    """jac[term, column] = d q / d A."""
    jac[:] = 0.0
    if power == 1:
        for i in range(a.size):
            jac[i, i] = 1.0
        return
    c = 0
    for i in range(a.size):
        for j in range(i, a.size):
            jac[i, c] += a[j]
            jac[j, c] += a[i]
            c += 1


@njit(cache=True, error_model="numpy")
def _times(matrix: FloatArray, vector: FloatArray, out: FloatArray) -> None:
    """Fill out with matrix @ vector; at these sizes a call of BLAS costs more than the product."""
    for i in range(matrix.shape[0]):
        s = 0.0
        for j in range(matrix.shape[1]):
            s += matrix[i, j] * vector[j]
        out[i] = s


@njit(cache=True, error_model="numpy")
def _quartic_value(moment: FloatArray, b: FloatArray, q: FloatArray, residual: FloatArray) -> float:
    """Return q' M q - 2 b' q, and fill residual with M q - b."""
    _times(moment, q, residual)
    f = 0.0
    for c in range(q.size):
        residual[c] -= b[c]
        f += q[c] * (residual[c] - b[c])
    return f


@njit(cache=True, error_model="numpy")
def quartic_newton(moment: FloatArray, b: FloatArray, a: FloatArray) -> float:
    """Nearest minimum over A of q(A)' M q(A) - 2 b' q(A), in place; returns the value there."""
    n, n_col = a.size, b.size
    q, residual, jac, row = np.empty(n_col), np.empty(n_col), np.empty((n, n_col)), np.empty(n_col)
    gradient, hessian, step, trial = np.empty((1, n)), np.empty((n, n)), np.empty((1, n)), np.empty(n)
    products(a, 2, q)
    f = _quartic_value(moment, b, q, residual)
    damping, predicted = 0.0, 0.0
    for _ in range(60):
        product_jacobian(a, 2, jac)
        _times(jac, residual, gradient[0])
        for i in range(n):
            _times(moment, jac[i], row)
            _times(jac, row, hessian[i])
        c, scale = 0, 0.0
        for i in range(n):
            for j in range(i, n):
                hessian[i, j] += residual[c]
                hessian[j, i] += residual[c]
                c += 1
            scale = max(scale, abs(hessian[i, i]))
        accepted = False
        while damping < 1e6:
            work = hessian.copy()
            for i in range(n):
                work[i, i] += damping * scale
            if _solve(work, gradient, step):
                predicted = 0.0
                for i in range(n):
                    trial[i] = a[i] - step[0, i]
                    predicted += step[0, i] * gradient[0, i]
                products(trial, 2, q)
                f_trial = _quartic_value(moment, b, q, residual)
                if f_trial <= f or predicted < 1e-13 * abs(f):
                    accepted = True
                    break
            damping = max(4.0 * damping, 1e-3)
        if not accepted:
            break
        a[:] = trial
        f = f_trial
        damping = damping * 0.1 if damping > 1e-6 else 0.0
        if predicted < 1e-14 * abs(f) + 1e-300:
            break
    return f


@njit(cache=True, error_model="numpy")
def _scaled_start(moment: FloatArray, b: FloatArray, a: FloatArray) -> bool:
    """Scale a direction to the lowest value along it; False if that is A = 0."""
    q, residual = np.empty(b.size), np.empty(b.size)
    products(a, 2, q)
    value, linear = _quartic_value(moment, b, q, residual), 0.0
    for c in range(q.size):
        linear += b[c] * q[c]
    square = value + 2.0 * linear
    if not linear > 0.0 or not square > 0.0:
        return False
    a *= math.sqrt(linear / square)
    return True


@njit(cache=True, error_model="numpy")
def _relaxed(moment: FloatArray, b: FloatArray, n: int) -> FloatArray:
    """Leading eigenvector of the solution for free products, read as the matrix A A'."""
    products_of_a = np.empty((1, b.size))
    solve_ridged(moment, b.reshape(1, b.size), products_of_a)
    square = np.empty((n, n))
    c = 0
    for i in range(n):
        for j in range(i, n):
            square[i, j] = square[j, i] = products_of_a[0, c]
            c += 1
    vector = np.sqrt(np.maximum(np.diag(square), 0.0)) + 1e-3
    shift = np.abs(square).max()
    for _ in range(12):
        vector = square @ vector + shift * vector
        vector /= np.abs(vector).max() + 1e-300
    return vector


@njit(cache=True, error_model="numpy")
def quartic_global(moment: FloatArray, b: FloatArray, a: FloatArray, best: float, decay: FloatArray) -> float:
    """Improve A and the value `best` from the sign patterns, the axes, the relaxed linear solution and sign switches.

    `decay` (time, term): e^{-x/tau_i} of each term (1 for the first) at a few ascending times.
    """
    n = a.size
    n_signs = 2 ** (n - 1)
    starts = np.ones((n_signs + n + 1, n))
    for k in range(n_signs):
        for i in range(1, n):
            if (k >> (i - 1)) & 1:
                starts[k, i] = -1.0
    starts[n_signs:-1] = np.eye(n)
    starts[-1] = _relaxed(moment, b, n)
    for k in range(starts.shape[0]):
        trial = starts[k]
        if not _scaled_start(moment, b, trial):
            continue
        f = quartic_newton(moment, b, trial)
        if f < best - 1e-9 * abs(best):
            best = f
            a[:] = trial
    return _switched(moment, b, a, best, decay)


@njit(cache=True, error_model="numpy")
def _switched(moment: FloatArray, b: FloatArray, a: FloatArray, best: float, decay: FloatArray) -> float:
    """Improve A by changing the sign of the bracket before the square over an interval of time.

    The minima differ in where the bracket changes sign, so each known one leads to the others.
    """
    n, n_times = a.size, decay.shape[0]
    gram, right = decay.T @ decay, np.empty(n)
    trial = np.empty(n)
    improved = n > 1
    for _ in range(3):
        if not improved:
            break
        improved = False
        bracket = decay @ a
        for first in range(n_times - 1):
            for last in range(first + 1, n_times):
                right[:] = 0.0
                for k in range(n_times):
                    flip = -1.0 if first < k <= last else 1.0
                    for i in range(n):
                        right[i] += decay[k, i] * flip * bracket[k]
                solve_ridged(gram, right.reshape(1, n), trial.reshape(1, n))
                if not _scaled_start(moment, b, trial):
                    continue
                f = quartic_newton(moment, b, trial)
                if f < best - 1e-9 * abs(best):
                    best = f
                    a[:] = trial
                    improved = True
    return best
