"""Compiled core of the kinetics fit: shared taus outside, each trace's amplitudes inside (variable projection).

Parameters theta = (t_d, irf_sigma, log tau1, log tau2, ...). At given theta the amplitudes of a trace solve a small
problem of their own: linear for power 1, quartic for power 2 (the columns' coefficients are products A_i A_j), with up
to four sign patterns of A. A constant under each trace has a Gaussian prior and is integrated out: rows lose most of
their component along it (`whiten`), and the rest of the fit never sees it. The outer step is Levenberg-Marquardt on the Schur complement of the arrow-shaped normal
matrix. Everything is sequential and in fixed order, so a result is the same bits each time.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.science.kinetics._amplitudes import (
    product_jacobian,
    products,
    quartic_global,
    quartic_newton,
    solve_ridged,
)
from pipeline.science.kinetics._basis import KineticData, fill_basis

__all__ = ["minimise", "normal_matrix", "screen", "trace_model", "whiten"]

FloatArray = NDArray[np.float64]
_SWITCH_TIMES = 5
_FAST = {"reassoc", "contract", "arcp", "nsz"}


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def _gram(rows: FloatArray, out: FloatArray) -> None:
    """Fill out with rows @ rows.T, three products at a time: for these sizes twice as fast as BLAS."""
    n = rows.shape[1]
    for p in range(rows.shape[0]):
        for r in range(0, p + 1, 3):
            r1, r2 = min(r + 1, p), min(r + 2, p)
            s, s1, s2 = 0.0, 0.0, 0.0
            for i in range(n):
                s += rows[p, i] * rows[r, i]
                s1 += rows[p, i] * rows[r1, i]
                s2 += rows[p, i] * rows[r2, i]
            out[p, r] = out[r, p] = s
            out[p, r1] = out[r1, p] = s1
            out[p, r2] = out[r2, p] = s2


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def _combine(factors: FloatArray, columns: FloatArray, weight: FloatArray, out: FloatArray) -> None:
    """Fill out with the sum of the columns (column, delay) times their factors, weighted."""
    for i in range(out.size):
        out[i] = factors[0] * columns[0, i]
    for c in range(1, factors.size):
        f = factors[c]
        if f != 0.0:
            for i in range(out.size):
                out[i] += f * columns[c, i]
    for i in range(out.size):
        out[i] *= weight[i]


@njit(cache=True, error_model="numpy")
def whiten(row: FloatArray, weight: FloatArray, precision: float) -> float:
    """Change a weighted row such that products of rows are those with the trace's constant solved for (Woodbury).

    Returns what the square of the row loses.
    """
    if precision == np.inf:
        return 0.0
    square, along = 0.0, 0.0
    for i in range(row.size):
        square += weight[i] * weight[i]
        along += row[i] * weight[i]
    if square == 0.0:
        return 0.0
    factor = along * (1.0 - math.sqrt(precision / (square + precision))) / square
    for i in range(row.size):
        row[i] -= factor * weight[i]
    return along * along / (square + precision)


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def _trace_cost(factors: FloatArray, phi: FloatArray, data: KineticData, e: int, residual: FloatArray) -> float:
    """Return the cost of a trace, and fill its weighted residual; the factors are those of the columns, negative."""
    cost = 0.0
    residual[:] = data.signal[e]
    for c in range(factors.size):
        cost += data.ridge[c] * factors[c] * factors[c]
        for i in range(residual.size):
            residual[i] += factors[c] * phi[c, i]
    for i in range(residual.size):
        residual[i] *= data.weight[e, i]
        cost += residual[i] * residual[i]
    return cost - whiten(residual, data.weight[e], data.offset[e])


@njit(cache=True, error_model="numpy")
def _decays(theta: FloatArray) -> FloatArray:
    """e^{-x / tau_i} (time, term) at times around tau2 and tau3; the first term does not decay."""
    n_tau = theta.size - 2
    out = np.ones((_SWITCH_TIMES, n_tau))
    if n_tau > 1:
        first, last = theta[3:].min() - 1.2, theta[3:].max() + 1.2
        for k in range(_SWITCH_TIMES):
            x = math.exp(first + (last - first) * k / (_SWITCH_TIMES - 1))
            for i in range(1, n_tau):
                out[k, i] = math.exp(-x * math.exp(-theta[2 + i]))
    return out


@njit(cache=True, error_model="numpy")
def _project(
    theta: FloatArray,
    amplitudes: FloatArray,
    signs: NDArray[np.int64],
    data: KineticData,
    phi: FloatArray,
    residual: FloatArray,
    thorough: bool,
) -> float:
    """Best amplitudes of every trace at theta, in place, from the ones given or (thorough) from all starts; the cost."""
    n_col = phi.shape[0]
    cost = np.sum(((theta - data.prior[0]) * data.prior[1]) ** 2)
    decay, q, n_delay = _decays(theta), np.empty(n_col), data.delay.size
    rows, gram = np.empty((n_col + 1, n_delay)), np.empty((n_col + 1, n_col + 1))
    moment = np.empty((n_col, n_col))
    for e in range(amplitudes.shape[0]):
        for c in range(n_col):
            for i in range(n_delay):
                rows[c, i] = phi[c, i] * data.weight[e, i]
        for i in range(n_delay):
            rows[n_col, i] = data.signal[e, i] * data.weight[e, i]
        for c in range(n_col + 1):
            whiten(rows[c], data.weight[e], data.offset[e])
        _gram(rows, gram)
        b = gram[n_col, :n_col].copy()
        for c in range(n_col):
            moment[c] = gram[c, :n_col]
            moment[c, c] += data.ridge[c]
        if data.power == 1:
            solve_ridged(moment, b.reshape(1, n_col), amplitudes[e : e + 1])
        else:
            f = quartic_newton(moment, signs[e] * b, amplitudes[e])
            if thorough:
                for sign in (signs[e], -signs[e]):
                    if sign != signs[e] and data.allowed_sign[e] != 0:
                        continue
                    trial = amplitudes[e].copy()
                    better = quartic_global(moment, sign * b, trial, f, decay)
                    if better < f:
                        f = better
                        amplitudes[e] = trial
                        signs[e] = sign
        products(amplitudes[e], data.power, q)
        cost += _trace_cost(-signs[e] * q, phi, data, e, residual[e])
    return cost


@njit(cache=True, error_model="numpy")
def normal_matrix(
    theta: FloatArray,
    amplitudes: FloatArray,
    signs: NDArray[np.int64],
    data: KineticData,
    phi: FloatArray,
    d_phi: FloatArray,
    residual: FloatArray,
    blocks: FloatArray,
) -> tuple[FloatArray, FloatArray]:
    """Reduced normal matrix and descent over theta; `blocks` (trace or 0) keeps each trace's matrix over (theta, A, residual)."""
    n_par, n_term, n_col = theta.size, amplitudes.shape[1], phi.shape[0]
    fill_basis(theta, data, phi, d_phi, True)
    hessian = np.diag(data.prior[1] ** 2)
    descent = -(theta - data.prior[0]) * data.prior[1] ** 2
    q, jac = np.empty(n_col), np.empty((n_term, n_col))
    rows, block = np.empty((n_par + n_term + 1, data.delay.size)), np.empty((n_par + n_term + 1, n_par + n_term + 1))
    answer = np.empty((n_par, n_term))
    for e in range(amplitudes.shape[0]):
        products(amplitudes[e], data.power, q)
        product_jacobian(amplitudes[e], data.power, jac)
        for p in range(n_par):
            _combine(signs[e] * q, d_phi[p], data.weight[e], rows[p])
        for k in range(n_term):
            _combine(signs[e] * jac[k], phi, data.weight[e], rows[n_par + k])
        for p in range(n_par + n_term):
            whiten(rows[p], data.weight[e], data.offset[e])
        rows[n_par + n_term] = residual[e]
        _gram(rows, block)
        for k in range(n_term):
            for m in range(n_term):
                for c in range(n_col):
                    block[n_par + k, n_par + m] += data.ridge[c] * jac[k, c] * jac[m, c]
        if e < blocks.shape[0]:
            blocks[e] = block
        inner = block[n_par:-1, n_par:-1].copy()
        descent += block[:n_par, -1]
        hessian += block[:n_par, :n_par]
        solve_ridged(inner, block[:n_par, n_par:-1], answer)
        for p in range(n_par):
            for r in range(n_par):
                for k in range(n_term):
                    hessian[p, r] -= answer[p, k] * block[r, n_par + k]
    return hessian, descent


@njit(cache=True, error_model="numpy")
def minimise(
    theta: FloatArray,
    amplitudes: FloatArray,
    signs: NDArray[np.int64],
    free: NDArray[np.bool_],
    data: KineticData,
    thorough: bool,
    max_iterations: int,
    tolerance: float,
) -> float:
    """Local minimum over the free parameters, in place (theta, amplitudes, signs); returns the cost.

    `thorough` re-solves every trace's amplitudes from all starts before the first and after the last step, and goes on
    where that helped. `tolerance` is the predicted decrease of the cost at which to stop.
    """
    n_par, n_col = theta.size, data.ridge.size
    phi, d_phi = np.empty((n_col, data.delay.size)), np.empty((n_par, n_col, data.delay.size))
    residual, trial_residual = np.empty(data.signal.shape), np.empty(data.signal.shape)
    no_blocks = np.empty((0, 0, 0))
    fill_basis(theta, data, phi, d_phi, False)
    cost = _project(theta, amplitudes, signs, data, phi, residual, thorough)
    # linear amplitudes have one solution, however they are started
    thorough = thorough and data.power == 2
    damping = 1e-3
    for _ in range(max_iterations):
        hessian, descent = normal_matrix(theta, amplitudes, signs, data, phi, d_phi, residual, no_blocks)
        below, above = theta <= data.bounds[0], theta >= data.bounds[1]
        index = np.flatnonzero(free & ~(below & (descent < 0.0)) & ~(above & (descent > 0.0)))
        curvature, right, step = hessian[index][:, index], descent[index], np.zeros(index.size)
        moved, predicted = False, 0.0
        while index.size > 0 and damping < 1e9:
            work = curvature.copy()
            for i in range(index.size):
                work[i, i] += (damping + 1e-12) * work[i, i] + 1e-30
            solve_ridged(work, right.reshape(1, step.size), step.reshape(1, step.size))
            shrink = np.minimum((data.max_step[index] / (np.abs(step) + 1e-300)).min(), 1.0)
            trial = theta.copy()
            trial[index] += shrink * step
            trial = np.minimum(np.maximum(trial, data.bounds[0]), data.bounds[1])
            predicted = np.sum(step * right)
            # less than the rounding of the cost cannot be seen
            if predicted < max(tolerance, 1e-15 * cost):
                break
            trial_amplitudes, trial_signs = amplitudes.copy(), signs.copy()
            fill_basis(trial, data, phi, d_phi, False)
            trial_cost = _project(trial, trial_amplitudes, trial_signs, data, phi, trial_residual, False)
            if trial_cost < cost:
                moved = True
                # a step that gains little overshoots: the true curvature is larger than that of the normal matrix
                gain = (cost - trial_cost) / predicted
                damping = max(damping * (0.1 if gain > 0.5 else 10.0), 1e-9 if gain > 0.5 else 1e-4)
                theta[:] = trial
                amplitudes[:] = trial_amplitudes
                signs[:] = trial_signs
                residual[:] = trial_residual
                cost = trial_cost
                break
            damping *= 5.0
        if not moved:
            if not thorough:
                break
            before = cost
            fill_basis(theta, data, phi, d_phi, False)
            cost = _project(theta, amplitudes, signs, data, phi, residual, True)
            damping = 1e-3
            if not cost < before - max(tolerance, 1e-9 * before):
                break
    return cost


@njit(cache=True, error_model="numpy")
def screen(starts: FloatArray, data: KineticData) -> FloatArray:
    """Cost at every start (start, parameter), amplitudes free."""
    n_col, n_trace = data.ridge.size, data.signal.shape[0]
    phi, no_derivatives = np.empty((n_col, data.delay.size)), np.empty((0, n_col, data.delay.size))
    residual, costs = np.empty(data.signal.shape), np.empty(starts.shape[0])
    n_term = n_col if data.power == 1 else data.counts.shape[1]
    for i in range(starts.shape[0]):
        amplitudes = np.zeros((n_trace, n_term))
        signs = np.where(data.allowed_sign == 0, 1, data.allowed_sign)
        fill_basis(starts[i], data, phi, no_derivatives, False)
        costs[i] = _project(starts[i], amplitudes, signs, data, phi, residual, True)
    return costs


@njit(cache=True, error_model="numpy")
def trace_model(theta: FloatArray, amplitudes: FloatArray, signs: NDArray[np.int64], data: KineticData) -> FloatArray:
    """Model traces (trace, delay) on the data's delays, in the data's scaled unit."""
    n_col = data.ridge.size
    phi, no_derivatives = np.empty((n_col, data.delay.size)), np.empty((0, n_col, data.delay.size))
    fill_basis(theta, data, phi, no_derivatives, False)
    q, model = np.empty(n_col), np.empty((amplitudes.shape[0], data.delay.size))
    for e in range(amplitudes.shape[0]):
        products(amplitudes[e], data.power, q)
        _combine(signs[e] * q, phi, np.ones(data.delay.size), model[e])
    return model
