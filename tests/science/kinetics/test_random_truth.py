"""Times drawn at random: intervals hold what they promise, and what is called identifiable is right."""

import numpy as np
import pytest
from scipy.stats import binom

from pipeline.science.kinetics.search import refine
from pipeline.science.kinetics.shared import solve_kinetics
from tests.benchmarks.kinetic_coverage import missed, one
from tests.science.random_kinetics import IRF_STDERR, random_traces


@pytest.mark.parametrize(("snr", "n_traces", "n"), [(100.0, 1, 60), (300.0, 1, 60), (100.0, 4, 20)])
def test_intervals_hold_what_they_promise_and_identifiable_times_are_right(snr, n_traces, n):
    found = np.array([one(1000 + seed, snr, n_traces) for seed in range(n)])
    in68, in95, known, wrong = found.reshape(-1, 4).T
    # the three times of a set fail together: they count as one draw and a half
    few, several = 3 * n // 2, max(int(known.sum()) // 2, 1)
    for inside, level, draws in ((in68, 0.6827, few), (in95, 0.95, few), (in95[known], 0.95, several)):
        low, high = binom.ppf([1e-3, 1 - 1e-3], draws, level) / draws
        assert low <= np.mean(inside) <= high
    assert known.mean() > 0.15
    assert np.mean(wrong[known]) <= 0.01


@pytest.mark.parametrize("snr", [100.0, 300.0])
def test_the_search_misses_few_minima(snr):
    """Compared with local fits from the truth and from fifty starts drawn at random."""
    gaps = np.array([missed(2000 + seed, snr, starts=50) for seed in range(25)])
    assert np.mean(gaps > 0.1) <= 0.04


def solved(seed, snr):
    truth = random_traces(seed, snr=snr)
    return truth, solve_kinetics(truth.traces, irf_sigma=(truth.measured_irf, IRF_STDERR), systematics=False)


def test_a_valley_that_turns_back_in_one_time_is_followed_to_its_end():
    """tau2 falls and rises again along the valley: its own profile stops at the fold, 0.3 ps lies beyond."""
    _, fit = solved(213, 100.0)
    low, high = fit.result["ci95"].sel(parameter="tau2").values
    best = fit.minima[0]
    for end, direction in ((low, -1.0), (high, 1.0)):
        theta = best.theta.copy()
        theta[2:4] = np.log([0.105, end * np.exp(0.1 * direction)])
        beyond = refine(fit.problem, theta, fixed=3, thorough=True)
        assert beyond.cost > best.cost + 3.84
    assert high > 0.28
    within = best.theta.copy()
    within[2:4] = np.log([0.11, 0.26])
    assert refine(fit.problem, within, fixed=3, thorough=True).cost < best.cost + 3.84


def test_the_verdict_names_the_rival():
    """Rise and first decay have changed places at nearly the same χ²: neither is called known."""
    truth, fit = solved(82, 100.0)
    tau1 = fit.result.sel(parameter="tau1")
    assert str(tau1["verdict_code"].values) == "kinetics.tau_rival"
    assert not tau1["identifiable"]
    other = fit.minima[1]
    said = f"tau1 is not determined: {float(tau1['value']):.2g} ps, or {np.exp(other.theta[2]):.2g} ps with χ² "
    assert str(tau1["verdict"].values).startswith(f"{said}{other.cost - fit.minima[0].cost:.1f} higher; ")
    assert tau1["ci95"].values[0] <= truth.taus[0] <= tau1["ci95"].values[1]


def test_a_rival_without_an_upper_end_says_so():
    """At a low ratio the interval may be open and a rival be there."""
    texts = [str(t) for seed in range(12) for t in solved(seed, 30.0)[1].result["verdict"].values]
    rivals = [text for text in texts if ", or " in text]
    assert rivals
    assert any("to open ps at 95 %" in text for text in rivals)
