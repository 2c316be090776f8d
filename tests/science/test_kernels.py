"""The compiled loops on a handful of numbers, against the formulas in numpy: also run without compilation, for coverage."""

import itertools

import numpy as np
import pytest
from scipy.optimize import minimize

from pipeline.science.detector import _pixel_kernel as pixels
from pipeline.science.kinetics import _amplitudes as amplitudes
from pipeline.science.kinetics.shared import fit_kinetics
from tests.science.kinetic_truth import TAUS, simulate

N_FRAMES, NY, NX = 9, 11, 40
CORNERS = np.array([[1, 8, 2, 21], [0, 11, 22, 39]])
"""y0, y1, x0, x1: seven rows of 19 columns, eleven of 17: no multiples of four rows, eight frames or sixteen columns."""


@pytest.fixture
def frames():
    """Return raw frames, weights and good pixels of a small camera."""
    rng = np.random.default_rng(1)
    raw = rng.integers(0, 256, (N_FRAMES, NY, NX)).astype(np.uint16)
    weight = rng.uniform(0.5, 1.5, (NY, NX)).astype(np.float32)
    good = np.full((NY, NX), 0xFFFF, np.uint16)
    for y, x in ((3, 5), (9, 30)):
        good[y, x], weight[y, x] = 0, 0.0
    return raw, weight, good


def in_beam(array, b):
    y0, y1, x0, x1 = CORNERS[b]
    return array[..., y0:y1, x0:x1]


@pytest.mark.parametrize("shift", [(0, 0), (2, 3)])
def test_sums_of_a_polynomial_over_beams(frames, shift):
    raw, weight, good = frames
    poly = np.array([1.1, -0.002, 1e-5], np.float32)
    wide = np.zeros((N_FRAMES, NY + shift[0], NX + shift[1] + 1), np.uint16)
    wide[:, shift[0] :, shift[1] : -1] = raw
    sums, n_saturated = np.empty((N_FRAMES, 2)), np.empty((N_FRAMES, 2), np.int32)
    pixels.beam_sums(wide, weight, good, CORNERS, shift, poly, 250, sums, n_saturated)
    value = raw * (1.1 - 0.002 * raw + 1e-5 * raw.astype(float) ** 2) * weight
    for b in range(2):
        np.testing.assert_allclose(sums[:, b], in_beam(value, b).sum(axis=(1, 2)), rtol=1e-5)
        hot = (raw >= 250) & (good > 0)
        np.testing.assert_array_equal(n_saturated[:, b], in_beam(hot, b).sum(axis=(1, 2)))


def test_sums_of_a_table_over_beams(frames):
    raw, weight, good = frames
    raw[0, 4, 4] = 700
    table = (np.arange(512.0) ** 1.1).astype(np.float32)
    sums, n_saturated = np.empty((N_FRAMES, 2)), np.empty((N_FRAMES, 2), np.int32)
    pixels.beam_sums_table(raw, weight, good, CORNERS, (0, 0), table, 250, sums, n_saturated)
    value = table[np.minimum(raw, 511)] * weight
    for b in range(2):
        np.testing.assert_allclose(sums[:, b], in_beam(value, b).sum(axis=(1, 2), dtype=float), rtol=1e-5)
        np.testing.assert_array_equal(n_saturated[:, b], in_beam((raw >= 250) & (good > 0), b).sum(axis=(1, 2)))
    use = np.array([0, 3, 8])
    found = pixels.saturated_pixels(raw, use, good, CORNERS, 250)
    np.testing.assert_array_equal(found, n_saturated[use].sum(axis=1))


def test_sums_of_tables_over_groups(frames):
    raw, _, _ = frames
    raw[3, 2, 2] = 900
    group = np.random.default_rng(2).integers(-1, 3, (NY, NX)).astype(np.int32)
    tables = np.stack([np.arange(512.0), np.arange(512.0) ** 2], axis=1)
    use = np.array([3, 0, 3])
    found = pixels.group_sums(raw, use, group, 3, tables)
    for t, g, k in itertools.product(range(3), range(3), range(2)):
        assert found[t, g, k] == np.sum(np.minimum(raw[use[t]], 511).astype(float)[group == g] ** (k + 1))


def test_sums_at_the_border_are_those_of_the_beam_less_its_inside(frames):
    raw, weight, _ = frames
    table = np.sqrt(np.arange(512.0)).astype(np.float32)
    found = pixels.border_sums(raw, weight, CORNERS, (0, 0), table, 1)
    for b in range(2):
        values = in_beam(weight * table[np.minimum(raw, 511)], b).astype(float)
        expected = values.sum(axis=(1, 2)) - values[:, 1:-1, 1:-1].sum(axis=(1, 2))
        np.testing.assert_allclose(found[:, b], expected, rtol=1e-5)
    # a border as wide as the beam is all of it
    found = pixels.border_sums(raw, weight, CORNERS, (0, 0), table, 50)
    np.testing.assert_allclose(found[:, 0], in_beam(weight * table[raw], 0).sum(axis=(1, 2), dtype=float), rtol=1e-5)


def test_sums_of_unlit_pixels_leave_out_what_is_far_from_its_level():
    level = np.array([[-20000, 40, 41, 40], [38, 39, -20000, 45]], np.int16)
    segments = np.array([[0, 1, 4, 0], [1, 0, 2, 1], [1, 3, 4, 0]])
    raw = np.zeros((2, 3, 5), np.uint16)
    raw[0, 1:, 1:] = [[9, 41, 41, 39], [38, 200, 5, 49]]
    raw[1, 1:, 1:] = [[9, 35, 46, 0], [33, 45, 5, 51]]
    total, count = np.empty((2, 2), np.int64), np.empty((2, 2), np.int64)
    pixels.unlit_sums(raw, level, segments, (1, 1), 5, total, count)
    assert total.tolist() == [[1 + 0 - 1 + 4, 0], [-5 + 5, -5]]
    assert count.tolist() == [[4, 1], [2, 1]]


def test_sums_of_weights_over_beams(frames):
    raw, weight, _ = frames
    weights = np.stack([weight, np.ones_like(weight)]).astype(float)
    table, use = np.sqrt(np.arange(512.0)), np.array([1, 7])
    found = pixels.weighted_sums(raw, use, weights, CORNERS, table)
    for t, b, k in itertools.product(range(2), range(2), range(2)):
        assert found[t, b, k] == pytest.approx(in_beam(weights[k] * table[raw[use[t]]], b).sum())


def test_moments_of_neighbouring_pixels():
    """Two pairs in a column and one alone: squares of their differences, and products with the pair below."""
    rng = np.random.default_rng(3)
    raw = rng.integers(0, 200, (2, 3, 4)).astype(np.uint16)
    dark = rng.uniform(10, 20, (2, 3, 4)).astype(np.float32)
    pair, below, group = np.array([[0, 1], [1, 1], [2, 2]]), np.array([1, -1, -1]), np.array([0, 0, 1])
    profile, intensity = rng.uniform(0, 1e-2, (3, 4)), rng.uniform(500, 900, (2, 2))
    use, cell = np.array([1, 0]), np.array([0, 1])
    table = 1.5 * np.arange(512.0)
    found = pixels.pair_moments(raw, use, cell, dark, pair, below, group, 2, profile, intensity, table)
    for t in range(2):
        residual = table[raw[use[t]]] - dark[cell[t]]
        d = [
            (residual[y, x] - residual[y, x + 1]) - (profile[y, x] - profile[y, x + 1]) * intensity[t, g]
            for (y, x), g in zip(pair, group, strict=True)
        ]
        np.testing.assert_allclose(found[t], [[d[0] ** 2 + d[1] ** 2, d[0] * d[1]], [d[2] ** 2, 0.0]])


# --- amplitudes of a kinetic trace ----------------------------------------------------------------------------------


def positive(rng, n):
    root = rng.standard_normal((n, n + 2))
    return root @ root.T


@pytest.mark.parametrize("n", [1, 3, 6])
def test_linear_systems(n):
    rng = np.random.default_rng(n)
    matrix, vectors, out = positive(rng, n), rng.standard_normal((2, n)), np.empty((2, n))
    amplitudes.solve_ridged(matrix, vectors, out)
    np.testing.assert_allclose(out, np.linalg.solve(matrix, vectors.T).T, rtol=1e-9)
    # a matrix without inverse gets the smallest ridge that gives it one: the solution still solves what can be solved
    flat = np.outer(vectors[0], vectors[0])
    amplitudes.solve_ridged(flat, vectors @ flat, out)
    np.testing.assert_allclose(out @ flat, vectors @ flat, rtol=1e-4)


def test_products_and_their_derivatives():
    a, q, jac = np.array([2.0, -3.0, 5.0]), np.empty(6), np.empty((3, 6))
    amplitudes.products(a, 2, q)
    np.testing.assert_array_equal(q, [4, -6, 10, 9, -15, 25])
    amplitudes.product_jacobian(a, 2, jac)
    np.testing.assert_array_equal(jac, [[4, -3, 5, 0, 0, 0], [0, 2, 0, -6, 5, 0], [0, 0, 2, 0, -3, 10]])
    linear, unit = np.empty(3), np.empty((3, 3))
    amplitudes.products(a, 1, linear)
    amplitudes.product_jacobian(a, 1, unit)
    np.testing.assert_array_equal(linear, a)
    np.testing.assert_array_equal(unit, np.eye(3))


@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_lowest_value_of_the_quartic(n):
    """Against many starts of a general minimiser, on random problems of one, two and three amplitudes."""
    rng = np.random.default_rng(10 + n)
    n_col = n * (n + 1) // 2
    upper = np.triu_indices(n)
    decay = np.exp(-np.linspace(0, 3, 7)[:, None] * np.arange(n)[None, :])

    def value(a, moment, b):
        q = np.outer(a, a)[upper]
        return q @ moment @ q - 2 * b @ q

    for _ in range(4):
        moment = positive(rng, n_col)
        b = moment @ np.outer(t := rng.standard_normal(n), t)[upper] + 0.3 * rng.standard_normal(n_col)
        near = t + 0.1 * rng.standard_normal(n)
        local = near.copy()
        found = amplitudes.quartic_newton(moment, b, local)
        assert found == pytest.approx(value(local, moment, b), abs=1e-9)
        step = minimize(value, local, args=(moment, b), method="BFGS", options={"gtol": 1e-9})
        assert step.fun > found - 1e-6 * (1 + abs(found))
        best = local.copy()
        lowest = amplitudes.quartic_global(moment, b, best, found, decay)
        assert lowest == pytest.approx(value(best, moment, b), abs=1e-9)
        many = min(minimize(value, 2 * rng.standard_normal(n), args=(moment, b)).fun for _ in range(12))
        assert lowest <= min(many, found) + 1e-6 * (1 + abs(lowest))


# --- whole fits, small enough to run without compilation ------------------------------------------------------------

FEW = np.concatenate([np.linspace(-0.1, 0.7, 9), [1.0, 1.5, 2.5, 4.0, 8.0]])


@pytest.mark.parametrize(("power", "n", "prior"), [(1, 1, None), (1, 2, 3.0), (2, 1, 3.0), (2, 2, None)])
def test_a_short_scan_without_noise_gives_its_times(power, n, prior):
    strengths = (1.0, 1.6, 0.0) if n == 2 else (1.0, 0.0, 0.0)
    data = simulate(strengths, snr=1e6, power=power, delay=FEW, t_d=0.0, n_traces=2)
    fit = fit_kinetics(
        data, power=power, n_exponentials=n, irf_sigma=0.05, t_d=0.0, amplitude_prior=prior, systematics=False
    )
    np.testing.assert_allclose(fit["value"][2:], TAUS[:n], rtol=2e-3)
    np.testing.assert_allclose(fit["fit"], data["delta_xas"], atol=2e-6)
