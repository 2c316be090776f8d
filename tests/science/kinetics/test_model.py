"""The closed forms against 60-digit arithmetic, brute-force convolution and finite differences."""

import mpmath as mp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.science.kinetics._basis import KineticData, fill_basis
from pipeline.science.kinetics.model import (
    amplitude_products,
    convolved_exponential,
    exponential_table,
    kinetic_basis,
    kinetic_basis_derivatives,
    kinetic_trace,
)
from pipeline.science.kinetics.problem import build_problem
from tests.science.kinetic_truth import DENSE, OPPOSITE, TAUS, lmfit_model

A = (0.9, 1.3, 0.4)


def exact_exponential(x, k, sigma):
    x, k, s = mp.mpf(float(x)), mp.mpf(k), mp.mpf(float(sigma))
    return mp.exp(k * k * s * s / 2 - k * x) * mp.erfc((k * s - x / s) / mp.sqrt(2)) / 2


def exact_trace(t, t_d, sigma, taus, amplitudes, power):
    rates = [1 / mp.mpf(float(tau)) for tau in taus]
    x, decays = mp.mpf(float(t)) - mp.mpf(float(t_d)), [mp.mpf(0), *rates[1:]]
    terms = [(mp.mpf(float(a)), d) for a, d in zip(amplitudes, decays, strict=True)]
    if power == 2:
        terms = [(a * b, d + e) for a, d in terms for b, e in terms]
    total = mp.mpf(0)
    for a, d in terms:
        for m in range(power + 1):
            total += a * (-1) ** m * mp.binomial(power, m) * exact_exponential(x, d + m * rates[0], sigma)
    return total


def test_convolved_exponential_keeps_twelve_digits():
    with mp.workdps(60):
        for sigma in (0.005, 0.05, 0.3):
            for k in (0.0, 1e-3, 1.0, 20.0, 400.0, 1000.0):
                for x in (-0.5, -0.05, 0.0, 0.01, 0.3, 2.0, 60.0):
                    exact = exact_exponential(x, k, sigma)
                    if exact > mp.mpf(1e-290):
                        assert convolved_exponential(x, k, sigma) == pytest.approx(float(exact), rel=1e-12, abs=0)


@pytest.mark.parametrize("power", [1, 2])
def test_trace_keeps_twelve_digits_of_its_amplitudes_from_femtoseconds_to_nanoseconds(power):
    rng = np.random.default_rng(3)
    with mp.workdps(60):
        for _ in range(12):
            taus, sigma = 10 ** rng.uniform(-3, 3, 3), 10 ** rng.uniform(-3, -0.3)
            t = 0.03 + np.concatenate([np.linspace(-4, 5, 5) * sigma, 10 ** rng.uniform(-2, 2, 4)])
            y = kinetic_trace(t, t_d=0.03, irf_sigma=sigma, taus=taus, amplitudes=A, power=power)
            for got, time in zip(y, t, strict=True):
                exact = exact_trace(time, 0.03, sigma, taus, A, power)
                assert abs(float(mp.mpf(float(got)) - exact)) < 1e-12 * np.abs(A).max() ** power


@pytest.mark.parametrize("power", [1, 2])
def test_trace_is_the_numerical_convolution(power):
    sigma, step = 0.05, 2e-4
    fine = np.arange(-0.5, 3.0, step)
    plain = kinetic_trace(fine, t_d=0.1, irf_sigma=0.0, taus=TAUS, amplitudes=OPPOSITE, power=power)
    kernel = np.exp(-0.5 * (np.arange(-8 * sigma, 8 * sigma + step, step) / sigma) ** 2)
    smooth = np.convolve(plain, kernel / kernel.sum(), mode="same")
    inside = (fine > 0) & (fine < 2)
    closed = kinetic_trace(fine[inside], t_d=0.1, irf_sigma=sigma, taus=TAUS, amplitudes=OPPOSITE, power=power)
    np.testing.assert_allclose(closed, smooth[inside], atol=2e-6)


def test_without_response_the_formula_is_literal():
    t, (t1, t2, t3), (a1, a2, a3) = np.linspace(-1, 5, 50), TAUS, OPPOSITE
    x = np.maximum(t - 0.2, 0.0)
    bracket = (1 - np.exp(-x / t1)) * (a1 + a2 * np.exp(-x / t2) + a3 * np.exp(-x / t3))
    for power in (1, 2):
        y = kinetic_trace(t, t_d=0.2, irf_sigma=0.0, taus=TAUS, amplitudes=OPPOSITE, power=power)
        np.testing.assert_allclose(y, bracket**power, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("sigma", [0.0, 0.05])
def test_derivatives_match_finite_differences(power, sigma):
    t = np.linspace(-0.3, 4.0, 60)
    t = t[np.abs(t - 0.02) > 1e-3]
    theta = np.array([0.02, sigma, *np.log(TAUS)])

    def basis(p):
        return kinetic_basis(t, t_d=p[0], irf_sigma=p[1], taus=np.exp(p[2:]), power=power)

    analytic = kinetic_basis_derivatives(t, t_d=0.02, irf_sigma=sigma, taus=TAUS, power=power)
    for p in range(5):
        if p == 1 and sigma == 0.0:
            continue
        up, down = theta.copy(), theta.copy()
        up[p] += 1e-6
        down[p] -= 1e-6
        np.testing.assert_allclose(analytic[p], (basis(up) - basis(down)) / 2e-6, atol=2e-7)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("sigma", [0.0, 0.004, 0.05])
def test_compiled_basis_equals_the_reference(power, sigma):
    data: KineticData = build_problem(DENSE, np.ones((1, 100)), np.ones((1, 100)), power=power).data
    n_col = exponential_table(power).n_columns
    phi, d_phi = np.empty((n_col, 100)), np.empty((5, n_col, 100))
    fill_basis(np.array([0.013, sigma, *np.log(TAUS)]), data, phi, d_phi, True)
    arguments = {"t_d": 0.013, "irf_sigma": sigma, "taus": TAUS, "power": power}
    np.testing.assert_allclose(phi, kinetic_basis(DENSE, **arguments), atol=3e-14)
    np.testing.assert_allclose(d_phi, kinetic_basis_derivatives(DENSE, **arguments), atol=1e-11)


def test_lmfit_model_is_the_same_formula():
    y = kinetic_trace(DENSE, t_d=0.01, irf_sigma=0.05, taus=TAUS, amplitudes=OPPOSITE, sign=-1)
    values = {
        "t_d": 0.01,
        "irf_sigma": 0.05,
        "tau1": 0.15,
        "tau2": 0.24,
        "tau3": 1.5,
        "A1": 1.0,
        "A2": 1.67,
        "A3": -0.67,
    }
    np.testing.assert_allclose(lmfit_model(2, -1).eval(delay=DENSE, **values), y, atol=1e-14)


def test_amplitudes_and_signs_broadcast_over_traces():
    a = np.array([[1.0, 0.5, 0.2], [0.3, -0.2, 0.1]])
    y = kinetic_trace(DENSE, t_d=0.0, irf_sigma=0.05, taus=TAUS, amplitudes=a, sign=[1, -1])
    for row, amplitude, sign in zip(y, a, (1, -1), strict=True):
        one = kinetic_trace(DENSE, t_d=0.0, irf_sigma=0.05, taus=TAUS, amplitudes=amplitude, sign=sign)
        np.testing.assert_allclose(row, one, rtol=1e-13, atol=1e-18)


@pytest.mark.parametrize(
    ("taus", "sigma", "amplitudes", "message"),
    [
        ((0, 1, 1), 0.1, A, r"taus must be positive and irf_sigma not negative, got \[0\.0, 1\.0, 1\.0\]"),
        (TAUS, -1, A, "taus must be positive and irf_sigma not negative, got .* and -1"),
        (TAUS, 0.1, (1, 2), r"3 taus need as many amplitudes, got shape \(2,\)"),
    ],
)
def test_impossible_parameters_are_refused(taus, sigma, amplitudes, message):
    with pytest.raises(ValueError, match=message):
        kinetic_trace(DENSE, t_d=0.0, irf_sigma=sigma, taus=taus, amplitudes=amplitudes)


@given(
    scale=st.floats(0.01, 100.0),
    shift=st.floats(-5.0, 5.0),
    stretch=st.floats(0.1, 10.0),
    power=st.sampled_from([1, 2]),
    sigma=st.sampled_from([0.0, 0.03, 0.2]),
)
@settings(max_examples=60, deadline=None)
def test_scaling_shifting_and_stretching_time(scale, shift, stretch, power, sigma):
    def trace(t, t_d=0.1, s=sigma, taus=TAUS, a=A):
        return kinetic_trace(t, t_d=t_d, irf_sigma=s, taus=taus, amplitudes=a, power=power)

    t = np.linspace(-0.5, 8.0, 40)
    y = trace(t)
    np.testing.assert_allclose(trace(t, a=np.array(A) * scale), y * scale**power, rtol=1e-11, atol=1e-300)
    np.testing.assert_allclose(trace(t + shift, t_d=0.1 + shift), y, atol=1e-12)
    stretched = trace(t * stretch, 0.1 * stretch, sigma * stretch, tuple(x * stretch for x in TAUS))
    np.testing.assert_allclose(stretched, y, atol=1e-12)
    np.testing.assert_allclose(trace(t, a=-np.array(A)), y if power == 2 else -y, rtol=1e-12, atol=1e-300)


def test_products_are_the_upper_triangle():
    np.testing.assert_array_equal(amplitude_products([2.0, 3.0, 5.0]), [4, 6, 10, 9, 15, 25])
