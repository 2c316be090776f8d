"""The target model: its columns by numerical convolution, its derivatives, and its times on cubes made by brute force."""

import numpy as np
import pytest

from pipeline.science.kinetics import _target_projection as inside
from pipeline.science.kinetics._target_search import refined, spread_of, target_model
from pipeline.science.kinetics.problem import build_problem
from pipeline.science.kinetics.report import withheld
from pipeline.science.kinetics.shared import fit_kinetics
from pipeline.science.kinetics.target import (
    describes_cube,
    fit_target,
    gather_targets,
    line_moves,
    populations,
)
from schemas.datasets.target_fits import MODELS, TARGET, TARGET_FIT
from tests.science.kinetic_truth import simulate
from tests.science.moving_line import ENERGIES, TAUS, Sample, cube, difference, peak_a_alone

MOVING = Sample(power=2, returning=0.7)
THETA = np.array([0.01, 0.04, *np.log(TAUS), 0.7, 0.05, -0.2])
DELAY = np.array([-0.1, 0.0, 0.05, 0.2, 0.5, 1.0, 3.0, 20.0])


def model(sample: Sample, *, moves: bool, baseline: float = 0.0, **options):
    traces = cube(sample, **options)
    data = (traces[n].values for n in ("delay", "delta_xas", "delta_xas_stderr"))
    known = np.full(traces.sizes["trace"], baseline)
    problem = build_problem(*data, power=sample.power, irf_sigma=(0.04, 0.003), baseline_stderr=known)
    how = {"steps_per_knot": 1.0} if moves else {"n_free": 2}
    return target_model(problem, traces["energy"].values, **how)


@pytest.fixture(scope="module")
def moving():
    """A cube of a line that moves, what free amplitudes make of it, and its target model."""
    traces = cube(MOVING, snr=300, seed=3)
    settings = {"irf_sigma": (0.04, 0.003), "power": 2}
    shared = fit_kinetics(traces, systematics=False, **settings)
    return traces, shared, fit_target(traces, shared, **settings)


@pytest.mark.parametrize("power", [1, 2])
def test_columns_are_what_convolution_gives_and_derivatives_what_differences_give(power):
    found, slopes = inside.columns(THETA, DELAY, power, 4, n_returning=2)
    g = np.arange(-7.0, 7.0, 1e-3)
    for i, t in enumerate(DELAY):
        x = np.maximum(t - 0.01 + 0.04 * g, 0.0)
        u = np.exp(-x / TAUS[2])
        n = ((1 - np.exp(-x / TAUS[0])) * (0.25 + 0.7 * np.exp(-x / TAUS[1]) + 0.05 * u)) ** power
        weight = np.exp(-0.5 * g**2) / np.exp(-0.5 * g**2).sum()
        np.testing.assert_allclose(found[:, i], [(n * u**k) @ weight for k in range(4)], atol=2e-6)
    for p, step in enumerate(1e-6 * np.eye(len(THETA))[:7]):
        ends = [inside.columns(t, DELAY, power, 4, n_returning=2)[0] for t in (THETA - step, THETA + step)]
        np.testing.assert_allclose(slopes[p], (ends[1] - ends[0]) / 2e-6, atol=1e-8)


def test_a_line_that_moves_is_a_polynomial_in_what_has_not_moved_yet():
    knots = inside.knots_of(ENERGIES, 0.6, 1.0)
    orders, slope = inside.moved_line(knots, ENERGIES, -0.2)
    line = np.exp(-0.5 * ((np.linspace(knots[0], knots[-1], len(knots) - 4) - 528.5) / 0.4) ** 2)
    spline = inside.BSpline(knots, line, 3)
    for u in (0.15, 0.6, 0.9):
        at = np.tensordot(u ** np.arange(len(orders)), orders, 1) @ line
        np.testing.assert_allclose(at, spline(ENERGIES + 0.2 * u) - spline(ENERGIES), atol=2e-3)
    ends = [inside.moved_line(knots, ENERGIES, -0.2 + h)[0] for h in (-1e-6, 1e-6)]
    np.testing.assert_allclose(slope, (ends[1] - ends[0]) / 2e-6, atol=1e-4)


@pytest.mark.parametrize("moves", [False, True])
def test_the_gradient_of_the_cost_is_what_differences_give(moves):
    one = model(MOVING, moves=moves, snr=100, baseline=0.0002)
    theta = THETA + 0.05 if moves else THETA[:6] + 0.05
    found = inside.project(one.cube, theta)
    prior = (theta - one.problem.data.prior[0]) * one.problem.data.prior[1] ** 2
    gradient = 2 * (found.jacobian.T @ found.residual + prior)
    for p, step in enumerate(1e-5 * np.eye(len(theta))):
        ends = [inside.project(one.cube, t).cost for t in (theta - step, theta + step)]
        assert gradient[p] == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-3, abs=0.05)


def test_a_constant_is_solved_for_as_a_column_of_its_own_would_be():
    """Species are linear at given times, so all of it is one least squares problem with a prior."""
    one = model(MOVING, moves=False, snr=100, baseline=0.0002)
    found, data = inside.project(one.cube, THETA[:6]), one.problem.data
    p, _ = inside.columns(THETA[:6], data.delay, 2, 2, n_returning=1)
    cost = np.sum(((THETA[:6] - data.prior[0]) * data.prior[1]) ** 2)
    for e, w in enumerate(data.weight):
        rows = np.vstack([(w * np.vstack([p, np.ones_like(w)])).T, [0, 0, np.sqrt(data.offset[e])]])
        y = np.append(w * data.signal[e], 0.0)
        solved, left, *_ = np.linalg.lstsq(rows, y)
        np.testing.assert_allclose(found.spectra[e], solved[:2], rtol=1e-6)
        cost += left[0]
    assert found.cost == pytest.approx(cost, rel=1e-9)


def test_energies_that_hold_nothing_are_left_alone():
    """Delays before time zero only: no signal, no spectrum, and no division by it."""
    one = model(MOVING, moves=True, snr=100)
    weight = one.problem.data.weight.copy()
    weight[3, one.problem.data.delay > -0.05] = 0.0
    weight[4] = 0.0
    cut = inside.cube_of(one.problem.data._replace(weight=weight), one.cube.energy, one.cube.knots, 1)
    found = inside.project(cut, np.array([0.5, *THETA[1:]]))
    assert np.isfinite(found.cost)
    assert np.isfinite(found.jacobian).all()
    assert found.spectra[4, 0] == 0.0


def test_exact_cubes_give_back_their_times():
    """Knots and powers of u are enough for the times to be right to a fraction of the errors at a ratio of 300."""
    traces = cube(MOVING, snr=300)
    exact = difference(MOVING, ENERGIES, traces["delay"].values)
    at_a = difference(MOVING, np.array([528.2]), traces["delay"].values)
    noiseless = traces.copy(deep=True)
    number = {round(float(e), 3): k for k, e in enumerate(ENERGIES)}
    rows = [exact[number[round(float(e), 3)]] for e in traces["energy"].values]
    assert np.allclose(rows[8], at_a[0], atol=1e-6)
    noiseless["delta_xas"] = traces["delta_xas"].where(traces["delta_xas"].isnull(), np.array(rows))
    data = (noiseless[n].values for n in ("delay", "delta_xas", "delta_xas_stderr"))
    one = target_model(build_problem(*data, irf_sigma=(0.04, 0.003)), noiseless["energy"].values, steps_per_knot=1.0)
    found = refined(one, np.array([0.0, 0.04, *np.log([0.12, 0.3, 1.2]), 0.6, 0.0, -0.1]))
    np.testing.assert_allclose(np.exp(found.theta[2:5]), TAUS, rtol=0.03)
    assert found.theta[-1] == pytest.approx(-0.2, abs=0.02)


def test_errors_know_that_the_spectra_are_noisy():
    """From the curvature alone the shift would scatter by 1.4 of its errors."""
    pulls = []
    truth = np.array([*THETA[:6], 0.0, -0.2])
    for seed in range(30):
        one = model(MOVING, moves=True, snr=300, seed=seed)
        found = refined(one, truth)
        pulls.append((found.theta - truth)[2:] / np.sqrt(np.diag(spread_of(one, found.theta)[0]))[2:])
    width = np.std(pulls, axis=0)
    assert (width < 1.4).all(), width
    assert 0.75 < width[-1] < 1.25
    assert width[:3].mean() < 1.25


def test_a_line_that_moves_gives_its_times_its_spectra_and_its_move(moving):
    _, _, target = moving
    TARGET_FIT.check(target)
    assert target.attrs["model"] == MODELS[3]
    assert describes_cube(target)
    taus = target.sel(parameter=["tau1", "tau2", "tau3"])
    assert taus["identifiable"].all()
    assert (np.abs(taus["value"].values - TAUS) < 3 * taus["stderr"].values).all()
    assert abs(float(target["shift"]) + 0.2) < 3 * float(target["shift_stderr"])
    assert abs(float(target["returning"]) - 0.7) < 3 * float(target["returning_stderr"])
    # the spectra times the populations are the fit, but for what lies between the places of the line
    late = target.sel(delay=59.8)
    settled = (late["population"] * target["species_spectrum"]).sum("species")
    measured = late["fit"].notnull()
    np.testing.assert_allclose(settled.values[measured.values], late["fit"].values[measured.values], atol=1e-6)
    assert np.isnan(float(target["line_shift"].sel(delay=-0.1)))
    assert float(target["line_shift"].sel(delay=0.2)) == pytest.approx(float(target["shift"]), rel=0.2)


def test_it_is_twice_as_sharp_as_peak_a_alone(moving):
    traces, _, target = moving
    alone = fit_kinetics(peak_a_alone(traces), irf_sigma=(0.04, 0.003), systematics=False)
    ratio = alone["stderr"] / target["stderr"]
    assert (ratio.sel(parameter=["tau1", "tau2", "tau3"]) > 2).all()


def test_free_amplitudes_are_withheld_where_the_line_moves_and_only_there(moving):
    _, agreeing, target = moving
    # here both give the same times, so nothing is withheld
    assert not line_moves(target, agreeing)
    traces = cube(Sample(returning=0.85), snr=300, seed=3)
    shared = fit_kinetics(traces, systematics=False, irf_sigma=(0.04, 0.003), power=1)
    assert line_moves(fit_target(traces, shared, irf_sigma=(0.04, 0.003), power=1), shared)
    without = withheld(shared)
    assert not without["identifiable"].any()
    assert agreeing["identifiable"].sel(parameter="tau2")
    assert (without["verdict_code"].values[2:] == "kinetics.tau_of_moving_line").all()
    assert "the spectrum changes while the times run" in str(without["verdict"].values[2])
    # energies whose amplitudes differ are no target model's
    still = simulate(snr=300, n_traces=12, seed=4)
    fit = fit_kinetics(still, irf_sigma=0.05, systematics=False)
    found = fit_target(still, fit, irf_sigma=0.05)
    assert not line_moves(found, fit)
    assert not line_moves(None, fit)
    assert not describes_cube(None)


def test_two_species_are_described_by_both(moving):
    sample = Sample(returning=0.7, species=True)
    traces = cube(sample, snr=300, seed=5)
    settings = {"irf_sigma": (0.04, 0.003), "power": 1}
    found = fit_target(traces, fit_kinetics(traces, systematics=False, **settings), **settings)
    assert (found["probability"].sel(model=list(MODELS[2:])) > 1e-3).all()
    taus = found.sel(parameter=["tau1", "tau2", "tau3"])
    assert (np.abs(taus["value"].values - TAUS) < 3 * taus["stderr"].values).all()
    # nor does one spectrum do, and two species do not what a line that moves does
    chi2 = moving[2]["chi2"].sel(model=list(MODELS[1:])).values
    assert chi2[0] > chi2[1] + 200 > chi2[2] + 220


def test_no_target_model_without_a_cube_a_third_time_or_with_ties(moving):
    traces, shared, _ = moving
    few = traces.isel(trace=[0, 5, 8, 9, 12, 15, 20])
    assert fit_target(few, shared) is None
    assert fit_target(traces, shared, n_exponentials=2) is None
    from pipeline.science.kinetics.parameters import kinetic_parameters

    assert fit_target(traces, shared, parameters=kinetic_parameters({"tau2": {"expr": "1.6*tau1"}})) is None


def test_what_is_not_determined_is_said(moving):
    traces, _, _ = moving
    weak = traces.assign(delta_xas_stderr=60 * traces["delta_xas_stderr"])
    settings = {"irf_sigma": 0.04, "parameters": None}
    found = fit_target(weak, fit_kinetics(weak, systematics=False, **settings), **settings)
    assert not found["identifiable"].sel(parameter="tau1")
    assert str(found["verdict_code"].sel(parameter="tau1").values) == "kinetics.tau_of_target_open"
    assert "is not determined by the target model" in str(found["verdict"].sel(parameter="tau1").values)


def test_all_fluences_are_gathered(moving):
    group = TARGET.check(gather_targets([8.0, 16.0], {8.0: moving[2]}))
    assert group["reported"].values.tolist() == [MODELS[3], ""]
    assert group["dof"].sel(fluence=16.0).values.tolist() == [-1, -1, -1, -1]
    np.testing.assert_array_equal(group["value"].sel(fluence=8.0), moving[2]["value"])
    assert np.isnan(group["species_spectrum"].sel(fluence=16.0)).all()


def test_populations_start_in_one_state_and_end_in_the_other():
    late, early = 50.0, 1e-3
    settings = {"t_d": 0.0, "irf_sigma": 0.0, "taus": (1e-5, 0.24, 1.5), "shares": (0.6, 0.0), "power": 1}
    found = populations(np.array([-1.0, early, late]), **settings)
    np.testing.assert_allclose(found, [[0.0, 1.0, 0.0], [0.0, 0.0, 0.4]], atol=4e-3)
