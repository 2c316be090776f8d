"""What a fit knows of its parameters: covariances against numerical derivatives, intervals against profiles by hand."""

import numpy as np
import pytest
from scipy.stats import chi2 as chi2_distribution
from scipy.stats import f as f_distribution

from pipeline.science.kinetics import intervals
from pipeline.science.kinetics._projection_kernel import trace_model
from pipeline.science.kinetics.intervals import (
    LEVELS,
    bootstrap_parameters,
    chi_square,
    covariance,
    describes,
    design_bound,
    error_scale,
    has_signal,
    inverse,
    profile_intervals,
    refit_replicates,
    stderr_from_interval,
)
from pipeline.science.kinetics.model import kinetic_trace
from pipeline.science.kinetics.problem import build_problem
from pipeline.science.kinetics.search import refine, solve
from tests.science.kinetic_truth import simulate

INF = np.inf


def problem_of(traces, **options):
    arrays = (np.array(traces[n].values) for n in ("delay", "delta_xas", "delta_xas_stderr"))
    return build_problem(*arrays, **options)


@pytest.fixture(scope="module")
def solved():
    """Return a well-determined problem and its minima: two traces, response known, no prior of the amplitudes."""
    traces = simulate(snr=300, seed=11, n_traces=2)
    problem = problem_of(traces, irf_sigma=0.05, amplitude_prior=None)
    return problem, solve(problem)


def weighted_model(problem, best):
    """Return the weighted model as a function of all free numbers, and those of the best fit."""
    free, n = problem.free, best.theta.size
    start = np.concatenate([best.theta[free], best.amplitudes.ravel()])

    def model(x):
        theta = best.theta.copy()
        theta[free] = x[: free.sum()]
        amplitudes = x[free.sum() :].reshape(best.amplitudes.shape)
        rows = [
            kinetic_trace(
                problem.data.delay,
                t_d=theta[0],
                irf_sigma=theta[1],
                taus=tuple(np.exp(theta[2:n])),
                amplitudes=tuple(a),
                power=problem.data.power,
                sign=int(s),
            )
            for a, s in zip(amplitudes, best.signs, strict=True)
        ]
        return (problem.data.weight * np.array(rows)).ravel()

    return model, start


def test_chi_square_is_the_sum_of_squared_pulls(solved):
    problem, (best, *_) = solved
    model, start = weighted_model(problem, best)
    pulls = (problem.data.weight * problem.data.signal).ravel() - model(start)
    assert chi_square(problem, best) == pytest.approx(np.sum(pulls**2), rel=1e-6)


def test_the_covariance_is_the_inverse_of_the_normal_matrix(solved):
    """Derivatives by differences of the independent closed form, all parameters at once, inverted as a whole."""
    problem, (best, *_) = solved
    model, start = weighted_model(problem, best)
    step = 1e-6
    jacobian = np.stack(
        [(model(start + step * e) - model(start - step * e)) / (2 * step) for e in np.eye(len(start))], axis=1
    )
    expected = np.linalg.inv(jacobian.T @ jacobian)
    found = covariance(problem, best)
    free, n = np.flatnonzero(problem.free), len(problem.names)
    np.testing.assert_allclose(found.theta[np.ix_(free, free)], expected[: len(free), : len(free)], rtol=1e-3)
    fixed = np.flatnonzero(~problem.free)
    np.testing.assert_array_equal(found.theta[fixed], 0.0)
    for e in range(2):
        rows = np.concatenate([np.arange(len(free)), len(free) + 3 * e + np.arange(3)])
        mine = np.concatenate([free, n + np.arange(3)])
        np.testing.assert_allclose(found.traces[e][np.ix_(mine, mine)], expected[np.ix_(rows, rows)], rtol=1e-3)


def test_the_bound_of_the_design_leaves_out_the_prior(solved):
    problem, (best, *_) = solved
    bound, spread, directions = design_bound(problem, best)
    np.testing.assert_allclose(bound, np.sqrt(np.diag(covariance(problem, best).theta)))
    matrix = covariance(problem, best).theta[2:, 2:]
    np.testing.assert_allclose(directions @ np.diag(spread**2) @ directions.T, matrix, rtol=1e-6)
    assert (np.diff(spread) >= 0).all()
    held = problem._replace(data=problem.data._replace(ridge=np.full_like(problem.data.ridge, 100.0)))
    np.testing.assert_allclose(design_bound(held, best)[0], bound)
    assert (covariance(held, best).theta[2:, 2:].diagonal() < matrix.diagonal()).all()


def test_an_interval_ends_where_the_refitted_cost_has_risen_by_the_quantile(solved):
    problem, minima = solved
    best = minima[0]
    errors = np.sqrt(np.diag(covariance(problem, best).theta))
    found, lower = profile_intervals(problem, minima[:1], 1.0, errors)
    assert lower is None
    assert found.shape == (3, len(problem.names), 2)
    for p in np.flatnonzero(problem.free):
        for k, level in enumerate(LEVELS):
            for side in (0, 1):
                theta = best.theta.copy()
                theta[p] = found[k, p, side]
                refitted = refine(problem, best._replace(theta=theta), fixed=int(p), thorough=True, tolerance=1e-8)
                rise = np.sqrt(refitted.cost - best.cost)
                # 3 % of a standard error is what the search stops at
                assert rise == pytest.approx(np.sqrt(chi2_distribution.ppf(level, 1)), abs=0.04), (p, level, side)
    assert (np.diff(found[:, problem.free, 0], axis=0) < 0).all()
    assert (np.diff(found[:, problem.free, 1], axis=0) > 0).all()
    fixed = ~problem.free
    np.testing.assert_array_equal(found[:, fixed, 0], np.broadcast_to(best.theta[fixed], (3, fixed.sum())))
    # errors of the data that are twice too small double the interval of what is nearly linear
    wide, _ = profile_intervals(problem, minima[:1], 4.0, 2 * errors)
    np.testing.assert_allclose(np.diff(wide[0, 0]), 2 * np.diff(found[0, 0]), rtol=0.1)


def test_another_minimum_within_the_level_widens_the_interval(solved):
    """A copy of the best fit, moved and a little worse, stands for a second minimum."""
    problem, minima = solved
    best = minima[0]
    errors = np.sqrt(np.diag(covariance(problem, best).theta))
    alone, _ = profile_intervals(problem, [best], 1.0, errors)
    theta = best.theta.copy()
    theta[4] += 3 * errors[4]
    other = refine(problem, best._replace(theta=theta), fixed=4, thorough=True, tolerance=1e-8)
    assert 4.0 < other.cost - best.cost < 16.0
    both, _ = profile_intervals(problem, [best, other], 1.0, errors)
    np.testing.assert_array_equal(both[:2], alone[:2])
    near = other._replace(cost=best.cost + 0.5)
    both, _ = profile_intervals(problem, [best, near], 1.0, errors)
    assert both[0, 4, 1] > alone[0, 4, 1]
    np.testing.assert_allclose(both[0, 4, 0], alone[0, 4, 0])


def test_errors_are_taken_at_their_word_while_chance_allows(solved):
    problem, (best, *_) = solved
    chi2, dof = chi_square(problem, best), problem.dof
    assert error_scale(problem, best) == 1.0

    def shrunk(factor):
        return problem._replace(data=problem.data._replace(weight=problem.data.weight * factor))

    limit = np.sqrt(chi2_distribution.isf(0.05, dof) / chi2)
    assert error_scale(shrunk(0.99 * limit), best) == 1.0
    above = 1.01 * limit
    assert error_scale(shrunk(above), best) == pytest.approx(above**2 * chi2 / dof)
    # errors that look too large shorten nothing
    assert error_scale(shrunk(0.1), best) == 1.0


def test_a_form_describes_data_whose_chi_square_chance_allows():
    for dof in (3.0, 90.0):
        limit = chi2_distribution.isf(1e-3, dof)
        assert describes(0.999 * limit, dof)
        assert not describes(1.001 * limit, dof)


def test_a_signal_is_what_beats_none_by_an_f_test(solved):
    problem, (best, *_) = solved
    assert has_signal(problem, chi_square(problem, best))
    nothing = float(np.sum(np.square(problem.data.weight * problem.data.signal)))
    n = int(problem.free.sum()) + problem.n_amplitudes
    limit = f_distribution.isf(1e-4, n, problem.dof)
    chi2 = nothing / (1 + limit * n / problem.dof)
    assert has_signal(problem, 0.999 * chi2)
    assert not has_signal(problem, 1.001 * chi2)


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        # regular: one, two, three sigma agree
        ([[0.9, 1.1], [0.804, 1.196], [0.7, 1.3]], 0.1),
        # a second minimum shows at three sigma only
        ([[0.9, 1.1], [0.8, 1.2], [0.7, 3.1]], 0.4),
        # open above: the side to the limit of the search counts
        ([[0.9, 1.1], [0.8, INF], [0.7, INF]], 9.0 / 1.96),
        # open at three sigma only: three times the end at two sigma stands for it
        ([[0.9, 1.1], [0.8, 1.2], [0.7, INF]], 0.2),
        # open below the search
        ([[0.9, 1.1], [-INF, 1.2], [-INF, 1.3]], 0.99 / 1.96),
        ([[0.005, 1.1], [0.004, 1.2], [0.003, 1.3]], 0.99),
    ],
)
def test_one_number_for_the_error(ends, expected):
    found = stderr_from_interval(1.0, np.array(ends), 0.05, np.array([0.01, 10.0]))
    assert found == pytest.approx(expected, rel=2e-3)
    assert stderr_from_interval(1.0, np.array(ends), 50.0, np.array([0.01, 10.0])) in (found, 50.0)


def test_the_linear_error_counts_where_an_interval_is_open():
    open_ends = np.array([[0.9, 1.1], [0.8, INF], [0.7, INF]])
    assert stderr_from_interval(1.0, open_ends, 50.0, np.array([0.01, 10.0])) == 50.0
    closed = np.array([[0.9, 1.1], [0.804, 1.196], [0.7, 1.3]])
    assert stderr_from_interval(1.0, closed, 50.0, np.array([0.01, 10.0])) == pytest.approx(0.1, rel=1e-3)


def test_an_inverse_over_what_is_free_and_known():
    matrix = np.array([[4.0, 1.0, 0.0, 0.5], [1.0, 3.0, 0.0, 0.2], [0.0, 0.0, 0.0, 0.0], [0.5, 0.2, 0.0, 2.0]])
    found = inverse(matrix, np.array([True, True, True, False]))
    np.testing.assert_allclose(found[:2, :2], np.linalg.inv(matrix[:2, :2]))
    assert found[2, 2] == intervals._UNKNOWN
    np.testing.assert_array_equal(found[3], 0.0)


def test_parametric_draws_vary_as_the_covariance_says(solved):
    problem, minima = solved
    draws = bootstrap_parameters(problem, minima, n_draws=150, rng=np.random.default_rng(3))
    expected = np.sqrt(np.diag(covariance(problem, minima[0]).theta))
    free = problem.free
    # 150 draws: 6 %, and what is not linear
    np.testing.assert_allclose(draws.std(axis=0)[free], expected[free], rtol=0.3)
    np.testing.assert_array_equal(draws[:, ~free], np.broadcast_to(minima[0].theta[~free], draws[:, ~free].shape))
    wide = bootstrap_parameters(problem, minima, n_draws=150, rng=np.random.default_rng(3), scale=4.0)
    assert wide[:, 0].std() == pytest.approx(2 * draws[:, 0].std(), rel=0.15)


def test_a_replicate_that_is_the_data_gives_the_fit_and_its_gaps_do_not_count(solved):
    problem, minima = solved
    data = problem.peak * problem.data.signal
    holes = data.copy()
    holes[0, 5] = np.nan
    spoilt = data.copy()
    spoilt[0, 5] = 1e6
    left_out = problem._replace(
        data=problem.data._replace(weight=np.where(np.isnan(holes), 0.0, problem.data.weight)), n_points=0
    )
    same, gap, ignored = (
        refit_replicates(p, minima, [d])[0] for p, d in ((problem, data), (problem, holes), (left_out, spoilt))
    )
    np.testing.assert_allclose(same, minima[0].theta, atol=1e-4)
    np.testing.assert_allclose(gap, ignored, atol=1e-6)
    assert not np.allclose(gap, same, atol=1e-6)
    model = trace_model(minima[0].theta, minima[0].amplitudes, minima[0].signs, problem.data)
    assert np.abs(model - problem.data.signal).max() < 0.1
    assert refit_replicates(problem, minima, []).shape == (0, len(problem.names))
