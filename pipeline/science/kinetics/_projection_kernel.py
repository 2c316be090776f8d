"""Compiled core of the kinetics fit: shared taus outside, each trace's amplitudes inside (variable projection).

Parameters theta = (t_d, irf_sigma, log tau1, log tau2, ...). At given theta the amplitudes of a trace solve a small
problem of their own: linear for power 1, quartic for power 2 (the columns' coefficients are products A_i A_j), with up
to four sign patterns of A. The outer step is Levenberg-Marquardt on the Schur complement of the arrow-shaped normal
matrix. Everything is sequential and in fixed order, so a result is the same bits each time.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from pipeline.science.kinetics._amplitudes import (
    factorise_ridged,
    product_jacobian,
    products,
    quartic_global,
    quartic_newton,
    solve_factorised,
    solve_ridged,
)
from pipeline.science.kinetics._basis import KineticData, fill_basis

__all__ = ["minimise", "normal_matrix", "screen", "trace_model"]

FloatArray = NDArray[np.float64]


_FAST = {"reassoc", "contract", "arcp", "nsz"}
_SWITCH_TIMES = 5


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def _moments(e: int, phi: FloatArray, data: KineticData, moment: FloatArray, b: FloatArray, work: FloatArray) -> None:
    n = data.delay.size
    for c in range(b.size):
        s = 0.0
        for i in range(n):
            work[i] = phi[c, i] * data.weight[e, i] * data.weight[e, i]
            s += work[i] * data.signal[e, i]
        b[c] = s
        for d in range(0, c + 1, 3):
            d1, d2 = min(d + 1, c), min(d + 2, c)
            s, s1, s2 = 0.0, 0.0, 0.0
            for i in range(n):
                s += work[i] * phi[d, i]
                s1 += work[i] * phi[d1, i]
                s2 += work[i] * phi[d2, i]
            moment[c, d] = moment[d, c] = s
            moment[c, d1] = moment[d1, c] = s1
            moment[c, d2] = moment[d2, c] = s2
        moment[c, c] += data.ridge[c]


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def _trace_cost(e: int, sign: int, q: FloatArray, phi: FloatArray, data: KineticData, residual: FloatArray) -> float:
    cost = 0.0
    for i in range(data.delay.size):
        residual[i] = data.signal[e, i]
    for c in range(q.size):
        f = sign * q[c]
        for i in range(data.delay.size):
            residual[i] -= f * phi[c, i]
    for i in range(data.delay.size):
        residual[i] *= data.weight[e, i]
        cost += residual[i] * residual[i]
    for c in range(q.size):
        cost += data.ridge[c] * q[c] * q[c]
    return cost


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
    moment, b, q = np.empty((n_col, n_col)), np.empty(n_col), np.empty(n_col)
    factor, work = np.empty((n_col, n_col)), np.empty(data.delay.size)
    cost = 0.0
    for p in range(theta.size):
        pull = (theta[p] - data.prior[0, p]) * data.prior[1, p]
        cost += pull * pull
    decay = _decays(theta)
    for e in range(amplitudes.shape[0]):
        _moments(e, phi, data, moment, b, work)
        if data.power == 1:
            factorise_ridged(moment, n_col, factor)
            solve_factorised(factor, b, n_col, q)
            amplitudes[e] = q
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
            products(amplitudes[e], 2, q)
        cost += _trace_cost(e, signs[e], q, phi, data, residual[e])
    return cost


@njit(cache=True, error_model="numpy", fastmath=_FAST)
def _trace_normal(
    e: int,
    sign: int,
    q: FloatArray,
    jac: FloatArray,
    phi: FloatArray,
    d_phi: FloatArray,
    residual: FloatArray,
    data: KineticData,
    rows: FloatArray,
    block: FloatArray,
) -> None:
    """Normal matrix of one trace over (theta, A, residual): rows are the weighted derivatives.

    What A and the residual have in common stays zero.
    """
    n, n_par, n_col, n_term = data.delay.size, d_phi.shape[0], q.size, jac.shape[0]
    for p in range(n_par):
        first = sign * q[0]
        for i in range(n):
            rows[p, i] = first * d_phi[p, 0, i]
        for c in range(1, n_col):
            f = sign * q[c]
            for i in range(n):
                rows[p, i] += f * d_phi[p, c, i]
    for k in range(n_term):
        for i in range(n):
            rows[n_par + k, i] = 0.0
        for c in range(n_col):
            f = sign * jac[k, c]
            if f != 0.0:
                for i in range(n):
                    rows[n_par + k, i] += f * phi[c, i]
    size = n_par + n_term
    for p in range(size):
        for i in range(n):
            rows[p, i] *= data.weight[e, i]
    for i in range(n):
        rows[size, i] = residual[e, i]
    for p in range(size + 1):
        # the overlaps of A with the residual are not needed
        last = p if p < size else n_par - 1
        for r in range(0, last + 1, 3):
            r1, r2 = min(r + 1, last), min(r + 2, last)
            s, s1, s2 = 0.0, 0.0, 0.0
            for i in range(n):
                s += rows[p, i] * rows[r, i]
                s1 += rows[p, i] * rows[r1, i]
                s2 += rows[p, i] * rows[r2, i]
            block[p, r] = block[r, p] = s
            block[p, r1] = block[r1, p] = s1
            block[p, r2] = block[r2, p] = s2
    for k in range(n_term):
        for m in range(n_term):
            for c in range(n_col):
                block[n_par + k, n_par + m] += data.ridge[c] * jac[k, c] * jac[m, c]


@njit(cache=True, error_model="numpy")
def normal_matrix(
    theta: FloatArray,
    amplitudes: FloatArray,
    signs: NDArray[np.int64],
    data: KineticData,
    phi: FloatArray,
    d_phi: FloatArray,
    residual: FloatArray,
    hessian: FloatArray,
    gradient: FloatArray,
    trace_blocks: FloatArray,
) -> None:
    """Reduced normal matrix and gradient over theta; `trace_blocks` (trace or 0) keeps each trace's full block."""
    n_par, n_term, n_col = theta.size, amplitudes.shape[1], phi.shape[0]
    fill_basis(theta, data, phi, d_phi, True)
    hessian[:] = 0.0
    for p in range(n_par):
        w2 = data.prior[1, p] * data.prior[1, p]
        hessian[p, p] = w2
        gradient[p] = -(theta[p] - data.prior[0, p]) * w2
    q, jac = np.empty(n_col), np.empty((n_term, n_col))
    rows = np.empty((n_par + n_term + 1, data.delay.size))
    block = np.zeros((n_par + n_term + 1, n_par + n_term + 1))
    right, solution = np.empty(n_term), np.empty(n_term)
    inner, factor = np.empty((n_term, n_term)), np.empty((n_term, n_term))
    for e in range(amplitudes.shape[0]):
        products(amplitudes[e], data.power, q)
        product_jacobian(amplitudes[e], data.power, jac)
        _trace_normal(e, signs[e], q, jac, phi, d_phi, residual, data, rows, block)
        if e < trace_blocks.shape[0]:
            trace_blocks[e] = block
        for k in range(n_term):
            for m in range(n_term):
                inner[k, m] = block[n_par + k, n_par + m]
        factorise_ridged(inner, n_term, factor)
        for p in range(n_par):
            gradient[p] += block[p, n_par + n_term]
            for k in range(n_term):
                right[k] = block[p, n_par + k]
            solve_factorised(factor, right, n_term, solution)
            for r in range(n_par):
                s = block[p, r]
                for k in range(n_term):
                    s -= solution[k] * block[r, n_par + k]
                hessian[p, r] += s


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
    n_par, n_term, n_col = theta.size, amplitudes.shape[1], data.ridge.size
    phi, d_phi = np.empty((n_col, data.delay.size)), np.empty((n_par, n_col, data.delay.size))
    residual = np.empty(data.signal.shape)
    trial_residual = np.empty(data.signal.shape)
    hessian, gradient = np.empty((n_par, n_par)), np.empty(n_par)
    no_blocks = np.empty((0, n_par + n_term + 1, n_par + n_term + 1))
    index = np.empty(n_par, dtype=np.int64)
    work, right, step = np.empty((n_par, n_par)), np.empty(n_par), np.empty(n_par)
    fill_basis(theta, data, phi, d_phi, False)
    cost = _project(theta, amplitudes, signs, data, phi, residual, thorough)
    # linear amplitudes have one solution, however they are started
    thorough = thorough and data.power == 2
    damping = 1e-3
    for _ in range(max_iterations):
        normal_matrix(theta, amplitudes, signs, data, phi, d_phi, residual, hessian, gradient, no_blocks)
        m = 0
        for p in range(n_par):
            outward = (theta[p] <= data.bounds[0, p] and gradient[p] < 0.0) or (
                theta[p] >= data.bounds[1, p] and gradient[p] > 0.0
            )
            if free[p] and not outward:
                index[m] = p
                m += 1
        moved, predicted = False, 0.0
        while m > 0 and damping < 1e9:
            for i in range(m):
                right[i] = gradient[index[i]]
                for j in range(m):
                    work[i, j] = hessian[index[i], index[j]]
                work[i, i] += damping * work[i, i] + 1e-12 * hessian[index[i], index[i]] + 1e-30
            solve_ridged(work, right, m, step)
            shrink = 1.0
            for i in range(m):
                shrink = min(shrink, data.max_step[index[i]] / (abs(step[i]) + 1e-300))
            trial = theta.copy()
            predicted = 0.0
            for i in range(m):
                p = index[i]
                trial[p] = min(max(theta[p] + shrink * step[i], data.bounds[0, p]), data.bounds[1, p])
                predicted += step[i] * right[i]
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
def screen(starts: FloatArray, data: KineticData, costs: FloatArray) -> None:
    """Cost at every start (start, parameter), amplitudes free."""
    n_col, n_trace = data.ridge.size, data.signal.shape[0]
    phi, d_phi = np.empty((n_col, data.delay.size)), np.empty((0, n_col, data.delay.size))
    residual = np.empty(data.signal.shape)
    n_term = n_col if data.power == 1 else data.counts.shape[1]
    for i in range(starts.shape[0]):
        amplitudes = np.zeros((n_trace, n_term))
        signs = np.ones(n_trace, dtype=np.int64)
        for e in range(n_trace):
            if data.allowed_sign[e] != 0:
                signs[e] = data.allowed_sign[e]
        fill_basis(starts[i], data, phi, d_phi, False)
        costs[i] = _project(starts[i], amplitudes, signs, data, phi, residual, True)


@njit(cache=True, error_model="numpy")
def trace_model(theta: FloatArray, amplitudes: FloatArray, signs: NDArray[np.int64], data: KineticData) -> FloatArray:
    """Model traces (trace, delay) on the data's delays, in the data's scaled unit."""
    n_col = data.ridge.size
    phi, d_phi = np.empty((n_col, data.delay.size)), np.empty((0, n_col, data.delay.size))
    fill_basis(theta, data, phi, d_phi, False)
    q = np.empty(n_col)
    model = np.zeros((amplitudes.shape[0], data.delay.size))
    for e in range(amplitudes.shape[0]):
        products(amplitudes[e], data.power, q)
        for c in range(n_col):
            for i in range(data.delay.size):
                model[e, i] += signs[e] * q[c] * phi[c, i]
    return model
