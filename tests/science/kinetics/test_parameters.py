"""What a person says of the kinetic parameters: held, bounded, measured, tied; and what the errors then mean."""

import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.science.kinetics.parameters import kinetic_parameters
from pipeline.science.kinetics.shared import fit_kinetics
from tests.science.kinetic_truth import simulate

NAMES = ["t_d", "irf_sigma", "tau1", "tau2", "tau3"]


def fitted(traces, power=2, **said):
    said = {"irf_sigma": {"value": 0.05, "vary": False}} | said
    return fit_kinetics(traces, power=power, parameters=kinetic_parameters(said), systematics=False)


def of(fit, name, variable="value"):
    return fit[variable].sel(parameter=name).values


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("setting", ["fit", 0.05, (0.05, 0.003)])
def test_the_short_form_is_the_same_fit(power, setting):
    traces = simulate(snr=100, power=power, seed=3)
    long = {"fit": {}, 0.05: {"value": 0.05, "vary": False}}.get(setting, {"value": 0.05, "stderr": 0.003})
    short = fit_kinetics(traces, power=power, irf_sigma=setting)
    again = fit_kinetics(traces, power=power, parameters=kinetic_parameters({"irf_sigma": long}))
    assert again.identical(short)


def test_a_parameter_is_said_once_and_must_be_there():
    with pytest.raises(ConfigError, match=r"give kinetics\.irf_sigma or kinetics\.parameters\.irf_sigma, not both"):
        fit_kinetics(simulate(), irf_sigma=0.04, parameters=kinetic_parameters({"irf_sigma": {"value": 0.05}}))
    with pytest.raises(ConfigError, match=r"kinetics\.parameters\.tau3: not one of t_d, irf_sigma, tau1, tau2$"):
        fit_kinetics(simulate(), n_exponentials=2, parameters=kinetic_parameters())
    with pytest.raises(ConfigError, match=r"kinetics\.tau1 is -1 ps; give a positive number"):
        fitted(simulate(), tau1={"value": -1.0, "vary": False})


@pytest.mark.parametrize("power", [1, 2])
def test_a_held_time_has_no_error_and_makes_the_others_sharper(power):
    traces = simulate(snr=100, power=power, seed=1)
    free, held = fitted(traces, power), fitted(traces, power, tau2={"value": 0.24, "vary": False})
    assert of(held, "tau2") == pytest.approx(0.24, rel=1e-12)
    assert (of(held, "tau2", "stderr"), of(held, "tau2", "fixed")) == (0.0, True)
    assert of(held, "tau1", "crb") < 0.5 * of(free, "tau1", "crb")
    assert float(held["dof"]) == float(free["dof"]) + 1
    assert abs(of(held, "tau1") - 0.15) < 4 * of(held, "tau1", "stderr")
    assert str(held["verdict"].sel(parameter="tau2").values) == "tau2 = 0.24 ps, as given"
    assert str(held["verdict_code"].sel(parameter="tau2").values) == "kinetics.tau_given"


def test_a_bound_that_is_met_is_open_at_bound_and_not_identifiable():
    traces = simulate(snr=200, power=1)
    free, bounded = fitted(traces, 1), fitted(traces, 1, tau1={"min": 0.2, "max": 1.0})
    assert of(free, "tau1", "ci95")[1] < 0.2
    assert of(bounded, "tau1") == pytest.approx(0.2)
    assert bool(of(bounded, "tau1", "at_bound"))
    assert not of(bounded, "tau1", "identifiable")
    assert of(bounded, "tau1", "ci95")[0] == 0.0
    assert of(bounded, "tau1", "ci95")[1] > 0.2
    assert str(bounded["verdict"].sel(parameter="tau1").values) == (
        "tau1 is not known: the best value lies at its bound of 0.2 ps"
    )
    assert str(bounded["verdict_code"].sel(parameter="tau1").values) == "kinetics.tau_at_bound"


def test_an_interval_that_reaches_a_bound_is_open_there_and_the_verdict_says_so():
    traces = simulate(snr=200, power=1)
    free = fitted(traces, 1)
    low = 0.5 * (of(free, "tau1") + of(free, "tau1", "ci68")[0])
    bounded = fitted(traces, 1, tau1={"min": float(low)})
    assert of(bounded, "tau1") == pytest.approx(float(of(free, "tau1")))
    assert not of(bounded, "tau1", "at_bound")
    np.testing.assert_array_equal(of(bounded, "tau1", "ci68")[0], 0.0)
    assert not of(bounded, "tau1", "identifiable")
    assert f"not determined down to its bound of {low:.3g} ps" in str(bounded["verdict"].sel(parameter="tau1").values)


def test_bounds_far_away_change_nothing():
    traces = simulate(snr=100, seed=2)
    free = fitted(traces)
    wide = fitted(traces, t_d={"min": -0.2, "max": 0.2}, tau1={"min": 0.02}, tau3={"max": 100.0})
    np.testing.assert_allclose(wide["value"], free["value"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(wide["ci95"], free["ci95"], rtol=2e-2)
    assert wide["identifiable"].values.tolist() == free["identifiable"].values.tolist()


def test_bounds_choose_the_names_of_the_decays():
    fit = fitted(simulate(snr=200), tau2={"min": 1.0}, tau3={"max": 0.6})
    assert of(fit, "tau2") == pytest.approx(1.5, rel=0.1)
    assert of(fit, "tau3") == pytest.approx(0.24, rel=0.2)


def test_a_measured_time_pulls_as_much_as_its_error_says():
    traces = simulate(snr=100, power=1, seed=4)
    free = fitted(traces, 1)
    loose = fitted(traces, 1, tau1={"value": 0.2, "stderr": 2.0})
    np.testing.assert_allclose(of(loose, "tau1"), of(free, "tau1"), rtol=0.01)
    tight = fitted(traces, 1, tau1={"value": 0.2, "stderr": 0.0005})
    assert of(tight, "tau1") == pytest.approx(0.2, abs=1e-3)
    assert of(tight, "tau1", "stderr") == pytest.approx(0.0005, rel=0.1)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("n_traces", [1, 4])
def test_lmfit_finds_what_the_engine_finds(power, n_traces):
    """A formula that is no constraint sends the whole fit through lmfit's minimiser, profiles included."""
    traces = simulate(snr=100, power=power, n_traces=n_traces, seed=5)
    ours = fitted(traces, power)
    theirs = fit_kinetics(
        traces, power=power, parameters=kinetic_parameters({"irf_sigma": {"expr": "0.05 + 0*t_d"}}), systematics=False
    )
    assert float(theirs["chi2"]) == pytest.approx(float(ours["chi2"]), abs=1e-4)
    names = ["t_d", "tau1", "tau2", "tau3"]
    np.testing.assert_allclose(theirs["value"].sel(parameter=names), ours["value"].sel(parameter=names), rtol=2e-3)
    # ends of profiles are found to 3 % of an error
    width = ours["ci68"].sel(parameter=names, bound="upper") - ours["ci68"].sel(parameter=names, bound="lower")
    assert (np.abs(theirs["ci68"] - ours["ci68"]).sel(parameter=names) < 0.05 * width).all()


@pytest.mark.parametrize("power", [1, 2])
def test_a_tie_holds_at_the_minimum_and_in_the_intervals(power):
    traces = simulate(snr=100, power=power, seed=6)
    free, tied = fitted(traces, power), fitted(traces, power, tau2={"expr": "1.6*tau1"})
    assert of(tied, "tau2") == pytest.approx(1.6 * of(tied, "tau1"), rel=1e-9)
    assert abs(of(tied, "tau1") - 0.15) < 4 * of(tied, "tau1", "stderr")
    for variable in ("stderr", "ci68", "ci95", "crb"):
        np.testing.assert_allclose(of(tied, "tau2", variable), 1.6 * of(tied, "tau1", variable), rtol=0.02)
    assert of(tied, "tau1", "crb") < 0.5 * of(free, "tau1", "crb")
    assert float(tied["chi2"]) >= float(free["chi2"]) - 1e-6
    assert float(tied["dof"]) == float(free["dof"]) + 1
    assert not of(tied, "tau2", "fixed")


def test_bounds_hold_where_lmfit_minimises():
    tied = fitted(simulate(snr=200, power=1), 1, tau1={"min": 0.2}, tau2={"expr": "1.6*tau1"})
    assert of(tied, "tau1") == pytest.approx(0.2)
    assert bool(of(tied, "tau1", "at_bound"))
    assert not of(tied, "tau1", "identifiable")


def test_a_tie_that_gives_no_time_says_so():
    with pytest.raises(
        DataError, match=r"kinetics\.parameters\.tau3: .* is .* ps at the best fit; it must be positive"
    ):
        fitted(simulate(snr=100), tau3={"expr": "tau1 - 50"})
    with pytest.raises(ConfigError, match=r"kinetics\.parameters\.tau3: sqrt\(tau1 - 50\) has no value"):
        fitted(simulate(snr=100), tau3={"expr": "sqrt(tau1 - 50)"})


def test_replicates_obey_a_tie():
    said = kinetic_parameters({"irf_sigma": {"value": 0.05, "vary": False}, "tau2": {"expr": "1.6*tau1"}})
    fit = fit_kinetics(simulate(snr=100, power=1), power=1, parameters=said, systematics=False, n_bootstrap=3)
    draws = fit["bootstrap"].values
    np.testing.assert_allclose(draws[:, 3], 1.6 * draws[:, 2], rtol=1e-9)
    assert np.ptp(draws[:, 2]) > 0


@pytest.mark.parametrize("start", [{"tau1": {"value": 0.4}}, {"t_d": {"value": 0.03}}], ids=["time", "time zero"])
def test_a_start_value_leads_to_the_minimum_that_the_search_finds(start):
    traces = simulate(snr=200, power=1, seed=6)
    free, given = fitted(traces, 1), fitted(traces, 1, **start)
    np.testing.assert_allclose(given["value"], free["value"], rtol=1e-6)
    assert not of(given, next(iter(start)), "fixed")
