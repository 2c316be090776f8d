"""The search on few traces that stand for all: same minimum as a search on all of them, from any start."""

import numpy as np
import pytest

from pipeline.science.kinetics.parameters import kinetic_parameters
from pipeline.science.kinetics.problem import build_problem
from pipeline.science.kinetics.search import polish, refine, solve
from pipeline.science.kinetics.starts import abridged, start_points, with_time_zero
from tests.science.kinetic_truth import DENSE, OPPOSITE, SAME, simulate

rng = np.random.default_rng(5)
WEIGHTS = {
    "equal": np.ones((20, 100)),
    "alike": np.exp(rng.uniform(-1, 1, (20, 1)) + rng.uniform(-0.12, 0.12, (20, 100))),
    "unlike": np.exp(rng.uniform(-1, 1, (20, 100))),
}


STARTED = kinetic_parameters({f"tau{i + 1}": {"value": tau} for i, tau in enumerate((0.02, 3.0, 0.1))})


def problem_of(amplitudes, snr, errors, seed=0, power=1, **options):
    clean = simulate(amplitudes, snr=1e9, power=power, n_traces=20)["delta_xas"].values
    sigma = 0.01 / snr * errors
    signal = clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape)
    return build_problem(DENSE, signal, sigma, power=power, irf_sigma=0.05, **options)


@pytest.mark.parametrize("amplitudes", [OPPOSITE, SAME])
@pytest.mark.parametrize("snr", [10, 60])
@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_minimum_is_that_of_a_search_on_all_traces(amplitudes, snr, weights):
    for seed in range(4):
        problem = problem_of(amplitudes, snr, WEIGHTS[weights], seed)
        few, stands_for_all = abridged(problem)
        assert len(few.data.signal) == 6
        assert stands_for_all == (weights != "unlike")
        everything = with_time_zero(problem)
        reached = [refine(everything, start, thorough=True) for start in start_points(everything)]
        lowest = polish(everything, min(reached, key=lambda m: m.cost))
        found = solve(problem)[0]
        assert found.cost <= lowest.cost * (1 + 1e-12)
        np.testing.assert_allclose(found.theta, lowest.theta, atol=1e-5)
        again = solve(problem_of(amplitudes, snr, WEIGHTS[weights], seed, parameters=STARTED))[0]
        np.testing.assert_array_equal(again.theta, found.theta)
        np.testing.assert_array_equal(again.amplitudes, found.amplitudes)


def test_traces_are_not_combined_where_they_may_not_be():
    """The squared form is not linear in its amplitudes, and a missing point has no value to combine."""
    assert not abridged(problem_of(OPPOSITE, 50, WEIGHTS["equal"], power=2))[1]
    problem = problem_of(OPPOSITE, 50, WEIGHTS["equal"])
    weight = problem.data.weight.copy()
    weight[3, 7] = 0.0
    assert not abridged(problem._replace(data=problem.data._replace(weight=weight)))[1]
    weight[3] = 0.0
    assert abridged(problem._replace(data=problem.data._replace(weight=weight)))[1]


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("n_traces", [1, 250])
def test_time_zero_is_found_beside_an_outlier_before_it(power, n_traces):
    """A false onset at the first delay leads nowhere; the signal at half its height leads to time zero."""
    delay = np.concatenate([[-1.0, -0.6, -0.3], DENSE[7:]])
    clean = simulate(OPPOSITE, snr=100, power=power, n_traces=n_traces, delay=delay)
    expected = solve(build_problem(*arrays_of(clean), power=power, irf_sigma=0.05))[0]
    assert expected.theta[0] == pytest.approx(0.01, abs=0.02)
    strongest = int(np.abs(clean["delta_xas"].values).max(axis=1).argmax())
    spoilt = clean["delta_xas"].values.copy()
    spoilt[strongest, 0] += 6 * float(clean["delta_xas_stderr"][strongest, 0])
    found = solve(
        build_problem(
            *arrays_of(clean.assign(delta_xas=(clean["delta_xas"].dims, spoilt))), power=power, irf_sigma=0.05
        )
    )
    assert found[0].theta[0] == pytest.approx(0.01, abs=0.02)


def arrays_of(traces):
    return [traces[name].values for name in ("delay", "delta_xas", "delta_xas_stderr")]
