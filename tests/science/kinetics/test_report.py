"""What a kinetics fit says beside its parameters: numbers, systematics and sentences against independent calculations."""

from itertools import pairwise

import numpy as np
import pytest
import xarray as xr

from pipeline.science.kinetics.model import kinetic_trace
from pipeline.science.kinetics.problem import build_problem
from pipeline.science.kinetics.report import (
    _covered,
    _fine_axis,
    _half_rise,
    _round,
    bootstrap_summary,
    verdicts,
)
from pipeline.science.kinetics.search import solve
from pipeline.science.kinetics.shared import fit_kinetics
from tests.science.kinetic_truth import DENSE, OPPOSITE, SAME, TAUS, simulate

TAU = ["tau1", "tau2", "tau3"]


@pytest.fixture(scope="module")
def clean():
    """Return a fit of one trace with hardly any noise, and the trace."""
    traces = simulate(snr=1e4, seed=1)
    return fit_kinetics(traces, irf_sigma=0.05, amplitude_prior=None), traces


@pytest.mark.parametrize("t_d", [-0.05, 0.0, 0.05])
def test_a_fixed_time_zero_moves_the_times_by_what_refits_say(t_d):
    """Negative or not: ten femtoseconds to either side, the larger change counts, and the fixed one has none itself."""
    traces = simulate(snr=1e3, t_d=t_d, seed=2)
    options = {"irf_sigma": "fit", "amplitude_prior": None}
    found = fit_kinetics(traces, t_d=t_d, **options)
    moved = [fit_kinetics(traces, t_d=t_d + s, systematics=False, **options)["value"] for s in (-0.01, 0.01)]
    expected = np.maximum(*(abs(m - found["value"]) for m in moved))
    free = ["irf_sigma", *TAU]
    np.testing.assert_allclose(
        found["systematic"].sel(parameter=free), expected.sel(parameter=free), rtol=0.05, atol=1e-5
    )
    assert float(found["systematic"].sel(parameter="t_d")) == 0.0


def test_systematics_of_time_zero_and_response_add_in_quadrature():
    # with amplitudes of one sign the lowest minimum stays the lowest, so that whole refits find the same
    traces = simulate(SAME, snr=300, seed=3, t_d=0.0)
    settings = {"t_d": 0.0, "irf_sigma": 0.05, "amplitude_prior": None}
    both = fit_kinetics(traces, **settings)
    squares = np.zeros(3)
    for name in ("t_d", "irf_sigma"):
        moved = [
            fit_kinetics(traces, systematics=False, **(settings | {name: settings[name] + s}))["value"]
            for s in (-0.01, 0.01)
        ]
        squares += np.maximum(*(abs(m - both["value"]) for m in moved)).sel(parameter=TAU).values ** 2
    np.testing.assert_allclose(both["systematic"].sel(parameter=TAU), np.sqrt(squares), rtol=0.01)
    free = fit_kinetics(traces, amplitude_prior=None)
    assert (free["systematic"] == 0.0).all()


def test_signals_at_given_delays_are_those_of_the_curve(clean):
    fit, traces = clean
    settings = {n: float(fit["value"].sel(parameter=n)) for n in ("t_d", "irf_sigma")}
    times = fit["time"].values
    np.testing.assert_array_equal(times, [0.3, 1.0, 60.0])
    curve = kinetic_trace(
        times,
        taus=tuple(fit["value"].sel(parameter=TAU).values.tolist()),
        amplitudes=fit["amplitude"].values[:, 0],
        power=2,
        sign=int(fit["sign"][0]),
        **settings,
    )
    np.testing.assert_allclose(fit["signal"][:, 0], curve, rtol=1e-6)
    # 100 points near a smooth curve know it several times better than each does
    noise = float(traces["delta_xas_stderr"][0, 0])
    assert (fit["signal_stderr"].values[:2, 0] < 0.7 * noise).all()
    assert (fit["signal_stderr"].values[:, 0] > 0.05 * noise).all()


def test_a_delay_beyond_the_data_has_no_signal():
    short = simulate(snr=1e3, delay=DENSE[DENSE < 20.0])
    fit = fit_kinetics(short, irf_sigma=0.05, systematics=False)
    np.testing.assert_array_equal(np.isnan(fit["signal"].values[:, 0]), [False, False, True])
    np.testing.assert_array_equal(np.isnan(fit["signal_stderr"].values[:, 0]), [False, False, True])


def test_the_time_of_half_rise_and_its_error_are_those_of_repeated_experiments():
    fits = [fit_kinetics(simulate(snr=100, seed=s), irf_sigma=0.05, systematics=False) for s in range(25)]
    fine = np.linspace(-0.2, 60.0, 602001)
    truth = kinetic_trace(fine, t_d=0.01, irf_sigma=0.05, taus=TAUS, amplitudes=OPPOSITE, power=2)
    half = float(fine[np.argmax(truth >= 0.5 * truth.max())])
    value, error = (np.array([float(f[n]) for f in fits]) for n in ("t50", "t50_stderr"))
    pulls = (value - half) / error
    # 25 experiments: three standard errors; the grid on which the top is looked for is a fortieth of a step
    assert abs(pulls.mean()) < 3 / np.sqrt(25)
    assert abs(pulls.std() - 1) < 3 / np.sqrt(50)


def test_half_of_the_largest_value_is_passed_between_two_points():
    time, slope = _half_rise(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 0.2, 1.0, 0.4]))
    assert time == pytest.approx(1.0 + 0.3 / 0.8)
    assert slope == pytest.approx(0.8)
    time, slope = _half_rise(np.array([0.0, 2.0, 4.0]), np.array([0.0, -0.4, -0.8]))
    assert (time, slope) == (pytest.approx(2.0), pytest.approx(-0.2))
    # a curve that begins above half has no rise
    assert np.isnan(_half_rise(np.array([0.0, 1.0]), np.array([0.6, 1.0]))).all()


def test_small_parts():
    np.testing.assert_allclose(np.diff(_fine_axis(np.array([0.0, 1.0, 3.0])))[[0, -1]], [1 / 40, 2 / 40])
    assert len(_fine_axis(np.array([0.0, 1.0, 3.0]))) == 81
    assert _covered(60.0, np.array([0.0, 59.8]))
    assert not _covered(60.0, np.array([0.0, 59.0]))
    assert not _covered(0.3, np.array([0.5, 59.0]))
    assert [_round(n) for n in (1234.0, 0.05678, 3.0)] == ["1200", "0.057", "3"]


def test_bootstrap_intervals_are_percentiles_and_the_error_half_of_one():
    draws = np.stack([np.linspace(0.0, 1.0, 1001), 5 + 10 * np.linspace(0.0, 1.0, 1001)], axis=1)
    found = bootstrap_summary(draws)
    np.testing.assert_allclose(found["bootstrap_ci68"][0], [0.15865, 0.84135], atol=1e-4)
    np.testing.assert_allclose(found["bootstrap_ci95"][0], [0.025, 0.975], atol=1e-9)
    np.testing.assert_allclose(found["bootstrap_stderr"], [0.34135, 3.4135], rtol=1e-3)


@pytest.mark.parametrize("power", [1, 2])
def test_decay_spectra_add_up_to_the_signal_after_the_rise(power):
    """Without a response and long after the rise the model is the sum of its decays."""
    late = np.array([3.0, 5.0, 8.0, 20.0])
    delay = np.unique(np.concatenate([DENSE, late]))
    traces = simulate(power=power, snr=1e6, delay=delay, n_traces=3, irf_sigma=0.0, t_d=0.0)
    fit = fit_kinetics(traces, power=power, irf_sigma=0.0, t_d=0.0, amplitude_prior=None, systematics=False)
    tau1 = float(fit["value"].sel(parameter="tau1"))
    rise = (1 - np.exp(-late / tau1)) ** power
    decays = (fit["das"] * np.exp(-fit["rate"] * xr.DataArray(late, dims="delay"))).sum("decay")
    np.testing.assert_allclose(decays.transpose("trace", "delay") * rise, fit["fit"].sel(delay=late), atol=1e-9)
    names = [str(d) for d in fit["decay"].values]
    assert len(names) == (3 if power == 1 else 6)
    rates = dict(zip(names, fit["rate"].values.tolist(), strict=True))
    tau2, tau3 = (float(fit["value"].sel(parameter=n)) for n in TAU[1:])
    wanted = [0, 1 / tau2, 1 / tau3] if power == 1 else [0, 1 / tau2, 1 / tau3, 2 / tau2, 2 / tau3, 1 / tau2 + 1 / tau3]
    np.testing.assert_allclose(sorted(rates.values()), sorted(wanted))


# --- sentences ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def solved():
    traces = simulate(snr=50, seed=4)
    problem = build_problem(
        traces["delay"].values.copy(), traces["delta_xas"].values, traces["delta_xas_stderr"].values, irf_sigma=0.05
    )
    return problem, solve(problem)[0]


def result_of(problem, *, chi2=90.0, identifiable=False, low=0.1, high=0.5, crb=0.3, value=0.2):
    n = len(problem.names)
    ci95 = np.tile([low, high], (n, 1))
    return xr.Dataset(
        {
            "chi2": chi2,
            "dof": 93.0,
            "value": ("parameter", np.full(n, value)),
            "stderr": ("parameter", np.full(n, 0.05)),
            "crb": ("parameter", np.full(n, crb)),
            "ci95": (("parameter", "bound"), ci95),
            "identifiable": ("parameter", np.full(n, identifiable)),
            "fixed": ("parameter", np.zeros(n, bool)),
            "at_bound": ("parameter", np.zeros(n, bool)),
        }
    )


@pytest.mark.parametrize(
    ("known", "code", "words"),
    [
        ({"identifiable": True}, "kinetics.tau_determined", "0.2 ps"),
        ({}, "kinetics.tau_between", "SNR is 5"),
        ({"low": 0.0}, "kinetics.tau_upper_limit", "tau1 < 0.5 ps"),
        ({"high": np.inf}, "kinetics.tau_lower_limit", "tau1 > 0.1 ps"),
        ({"low": 0.0, "high": np.inf}, "kinetics.tau_not_determined", "tau1"),
        ({"chi2": 400.0}, "kinetics.tau_of_misfit", "4.30"),
        ({"chi2": 400.0, "high": np.inf}, "kinetics.tau_of_misfit", "open"),
        ({"crb": 1e9}, "kinetics.tau_between", "no ratio in reach would do with these delays"),
        ({"crb": 0.01}, "kinetics.tau_between", "linear error 0.05 ps"),
    ],
)
def test_a_sentence_says_what_is_known_of_a_time(solved, known, code, words):
    problem, best = solved
    notes = verdicts(problem, best, result_of(problem, **known))
    assert [note.code for note in notes] == [code] * 3
    assert words in notes[0].text
    assert [note.text.split()[0] for note in notes] == TAU


def test_the_ratio_that_would_do_grows_with_the_bound_of_the_design(solved):
    """An error of 150 % at this ratio becomes one of 20 % at 7.5 times as much."""
    problem, best = solved
    text = verdicts(problem, best, result_of(problem, crb=0.3, value=0.2))[0].text
    ratio, needed = (float(text.split(word)[1].split(",")[0].split()[0]) for word in ("SNR is ", "about "))
    assert needed == pytest.approx(7.5 * ratio, rel=0.06)
    twice = verdicts(problem, best, result_of(problem, crb=0.6, value=0.2))[0].text
    assert float(twice.split("about ")[1].split()[0]) == pytest.approx(15 * ratio, rel=0.06)
    assert all(a < b for a, b in pairwise([ratio, needed]))
