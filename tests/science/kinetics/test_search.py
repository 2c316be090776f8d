"""Minima of the fit: what is relabelled, held and sorted."""

import numpy as np
import pytest

from pipeline.science.kinetics.model import kinetic_trace
from pipeline.science.kinetics.problem import build_problem
from pipeline.science.kinetics.search import Solution, canonical, model_traces, refine, solve
from tests.science.kinetic_truth import simulate


@pytest.fixture(scope="module")
def solved():
    traces = simulate(snr=200, seed=7, n_traces=2)
    arrays = (np.array(traces[n].values) for n in ("delay", "delta_xas", "delta_xas_stderr"))
    problem = build_problem(*arrays, irf_sigma=0.05)
    return problem, solve(problem), traces


def test_the_two_decays_are_named_by_their_times(solved):
    """Exchanging tau2 and tau3 with their amplitudes changes nothing that is measured."""
    theta, amplitudes = np.array([0.0, 0.05, np.log(0.1), np.log(2.0), np.log(0.3)]), np.array([[1.0, 2.0, 3.0]])
    found = canonical(Solution(theta, amplitudes, np.ones(1, np.int64), 5.0), solved[0])
    np.testing.assert_allclose(np.exp(found.theta[2:]), [0.1, 0.3, 2.0])
    np.testing.assert_array_equal(found.amplitudes, [[1.0, 3.0, 2.0]])
    np.testing.assert_array_equal(amplitudes, [[1.0, 2.0, 3.0]])
    assert canonical(found, solved[0]).amplitudes.tolist() == found.amplitudes.tolist()
    before, after = (
        kinetic_trace(np.linspace(0, 3, 20), t_d=0, irf_sigma=0.05, taus=tuple(np.exp(s[0][2:])), amplitudes=s[1])
        for s in ((theta, amplitudes), (found.theta, found.amplitudes))
    )
    np.testing.assert_allclose(before, after)


def test_the_model_is_in_the_unit_of_the_signal(solved):
    problem, (best, *_), traces = solved
    curve = kinetic_trace(
        traces["delay"].values,
        t_d=best.theta[0],
        irf_sigma=best.theta[1],
        taus=tuple(np.exp(best.theta[2:])),
        amplitudes=best.amplitudes,
        sign=best.signs,
    )
    np.testing.assert_allclose(model_traces(problem, best), problem.peak * curve, atol=1e-9)
    away = (traces["delta_xas"].values - model_traces(problem, best)) / traces["delta_xas_stderr"].values
    # what is minimised: squared pulls, and the prior of the amplitudes, which is wide
    assert np.sum(away**2) == pytest.approx(best.cost, rel=0.01)


def test_minima_come_lowest_first_and_nothing_near_is_lower(solved):
    problem, minima, _ = solved
    costs = [m.cost for m in minima]
    assert costs == sorted(costs)
    rng = np.random.default_rng(1)
    for _ in range(10):
        theta = minima[0].theta + 0.1 * rng.standard_normal(5) * problem.free
        assert refine(problem, theta).cost >= costs[0] - 1e-6 * costs[0]


def test_a_parameter_that_is_held_stays(solved):
    problem, (best, *_), _ = solved
    theta = best.theta.copy()
    theta[4] += 0.2
    held = refine(problem, best._replace(theta=theta), fixed=4)
    assert held.theta[4] == theta[4]
    assert held.cost > best.cost
    let_go = refine(problem, held)
    assert let_go.cost == pytest.approx(best.cost, rel=1e-6)
    assert best.theta[1] == let_go.theta[1] == 0.05
