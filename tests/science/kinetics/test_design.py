"""Expected errors and better delays: the figures measured by other code, the scatter of real fits, and what must hold for any design."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.errors import DataError
from pipeline.science.kinetics.design import (
    Response,
    candidate_delays,
    efficiency,
    expected_errors,
    optimal_delays,
    rounded_shots,
    shots_for,
    tau_information,
)
from pipeline.science.kinetics.problem import build_problem
from pipeline.science.kinetics.search import solve
from pipeline.science.kinetics.shared import fit_kinetics
from tests.science.kinetic_truth import DENSE, OPPOSITE, PUBLISHED, SAME, TAUS, simulate

# amplitudes and figures of an independent calculation with throw-away code: sd of tau1, tau2, tau3 in % at SNR 50
FACTS = {
    ("same", 1): ((1.0, 2.0, 1.1), (184, 97, 14), (486, 264, 40), (115, 61, 12)),
    ("same", 2): ((1.0, 2.0, 1.1), (151, 77, 13), (451, 237, 37), (95, 50, 11)),
    ("opposite", 1): ((1.0, 2.0, -1.1), (42, 15, 6), (112, 45, 16), (26, 11, 6)),
    ("opposite", 2): ((1.0, 2.0, -1.1), (46, 14, 4), (116, 38, 11), (27, 10, 4)),
}


def response(amplitudes=OPPOSITE, *, power=1, **options) -> Response:
    settings = {"t_d": 0.01, "irf_sigma": 0.05, "irf_stderr": 0.0} | options
    return Response(TAUS, np.array([amplitudes]), power, **settings)


def precision(of: Response, delay: np.ndarray, snr: float) -> np.ndarray:
    peak = np.abs(of.traces(DENSE)).max()
    return np.full((len(of.amplitudes), len(delay)), (snr / peak) ** 2)


COARSE = np.sort(np.concatenate([np.linspace(-0.2, 1.2, 12), np.geomspace(1.5, 60.0, 8)]))
BEST = optimal_delays(response(SAME), COARSE, np.array([1e4]))


def relative(of: Response, delay: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return 100 * expected_errors(of, delay, weights)["relative"].values[2:]


@pytest.mark.parametrize("case", FACTS)
def test_bounds_and_better_delays_are_those_of_other_code(case):
    amplitudes, dense, published, best = FACTS[case]
    of = response(amplitudes, power=case[1])
    np.testing.assert_allclose(relative(of, DENSE, precision(of, DENSE, 50)), dense, rtol=0.13)
    np.testing.assert_allclose(relative(of, PUBLISHED, precision(of, PUBLISHED, 50)), published, rtol=0.13)
    each = precision(of, DENSE, 50)[:, 0]
    found = optimal_delays(of, candidate_delays(of, 60.0), 100 * each)
    then = found["share"].values * 100 * each[:, None]
    np.testing.assert_allclose(relative(of, found["delay"].values, then), best, rtol=0.13)
    if case == ("same", 1):
        np.testing.assert_allclose(found["delay"][:6], [0.0, 0.12, 0.28, 0.64, 1.4, 3.3], atol=0.03, rtol=0.05)
        np.testing.assert_allclose(found["share"], [0.09, 0.13, 0.17, 0.20, 0.20, 0.15, 0.06], atol=0.02)
        assert found["delay"][6] > 20
        assert efficiency(of, DENSE, precision(of, DENSE, 50), found) == pytest.approx((115 / 184) ** 2, rel=0.1)


@pytest.mark.parametrize("irf", [0.05, "fit", (0.05, 0.004)], ids=["fixed", "fitted", "measured"])
def test_the_bound_is_the_one_that_the_fit_reports(irf):
    traces = simulate(SAME, snr=400, power=2, n_traces=3)
    fit = fit_kinetics(traces, power=2, irf_sigma=irf, systematics=False)
    at = fit["value"].values
    stderr = {"fit": np.inf, 0.05: 0.0}.get(irf, 0.004) if not isinstance(irf, tuple) else irf[1]
    of = Response(tuple(at[2:]), fit["amplitude"].values.T, 2, at[0], at[1], irf_stderr=stderr)
    errors = expected_errors(of, DENSE, traces["delta_xas_stderr"].values ** -2.0)
    np.testing.assert_allclose(errors["stderr"], fit["crb"], rtol=1e-3)


@pytest.mark.parametrize(("power", "amplitudes", "snr"), [(1, OPPOSITE, 400), (2, OPPOSITE, 300)])
def test_fits_of_simulated_scans_scatter_as_expected(power, amplitudes, snr):
    of = response(amplitudes, power=power)
    found = []
    for seed in range(60 if power == 1 else 40):
        traces = simulate(amplitudes, snr=snr, power=power, seed=seed)
        data, error = traces["delta_xas"].values, traces["delta_xas_stderr"].values
        best = solve(build_problem(DENSE, data, error, power=power, irf_sigma=0.05))[0]
        found.append(best.theta[2:])
    scatter = 100 * np.std(found, axis=0)
    np.testing.assert_allclose(scatter, relative(of, DENSE, precision(of, DENSE, snr)), rtol=0.35)


def test_shots_for_a_target():
    free = response(SAME)
    weights = precision(free, DENSE, 50)
    now = relative(free, DENSE, weights) / 100
    np.testing.assert_allclose(shots_for(free, DENSE, weights, 0.2), (now / 0.2) ** 2, rtol=1e-6)
    known = response(SAME, t_d_stderr=0.003)
    factors = shots_for(known, DENSE, weights, 0.2)
    assert (factors < shots_for(free, DENSE, weights, 0.2)).all()
    for k in range(3):
        assert relative(known, DENSE, factors[k] * weights)[k] == pytest.approx(20.0, rel=1e-6)
    late = np.linspace(20.0, 60.0, 9)
    assert np.isinf(shots_for(free, late, precision(free, late, 50), 0.2)[0])


def test_other_data_and_knowledge_only_help():
    of, weights = response(SAME, irf_stderr=np.inf), precision(response(SAME), DENSE, 50)
    plain = expected_errors(of, DENSE, weights)["stderr"]
    held = tau_information(of, PUBLISHED, precision(of, PUBLISHED, 50))
    for better in (
        expected_errors(of, DENSE, weights, held=held),
        expected_errors(response(SAME, irf_stderr=0.003), DENSE, weights),
        expected_errors(response(SAME, t_d_stderr=0.0), DENSE, weights),
    ):
        assert (better["stderr"] <= plain * (1 + 1e-9)).all()
    several = Response(TAUS, np.array([SAME, OPPOSITE]), 1, 0.01, 0.05, irf_stderr=0.0)
    both = relative(several, DENSE, np.vstack([weights, weights]))
    assert (both < relative(response(SAME), DENSE, weights)).all()
    assert both[0] < 0.4 * relative(response(SAME), DENSE, weights)[0]


@given(share=arrays(np.float64, 20, elements=st.floats(0.01, 1.0)), shots=st.integers(20, 5000))
def test_no_other_shares_are_better_and_shots_add_up(share, shots):
    share = share / share.sum()
    other = expected_errors(response(SAME), COARSE, 1e4 * share[None])["relative"].values[2:]
    assert (other**2).sum() >= BEST.attrs["bound"] * (1 - 1e-9)
    counts = rounded_shots(share, shots)
    assert counts.sum() == shots
    assert (counts >= 1).all()
    if (shots * share).min() >= 1.0:
        assert (np.abs(counts - shots * share) <= 1.0 + len(share) * share).all()


def test_what_cannot_be_planned_is_said():
    of = response(SAME)
    with pytest.raises(DataError, match="do not determine the times"):
        optimal_delays(of, np.array([-0.9, -0.8, -0.7]), np.array([1e4]))
    with pytest.raises(DataError, match="before time zero"):
        candidate_delays(of, 0.0)
    with pytest.raises(DataError, match="cannot be spread"):
        rounded_shots(np.full(5, 0.2), 4)
