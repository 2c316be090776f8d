"""Pulls, coverage and limits of fits whose errors are right, too small, or of values that are off."""

import numpy as np
import pytest

from pipeline.science.injection.recovery import SIZES, injection_notes, pull_of, recovered
from schemas.datasets.injection import INJECTION
from tests.science.injection_truth import SESSION, N, draws


def told(**kwargs):
    return recovered(draws(**kwargs), {4: "in_run", 5: "on_top"}, SESSION)


@pytest.mark.parametrize("quantity", ["alpha", "tau1", "tau2"])
def test_right_errors_hold_as_often_as_they_promise(quantity):
    one = told().sel(quantity=quantity, fluence=8.0)
    n = int(one["n"])
    assert n == (N if quantity == "alpha" else N * 9 // 10)
    for name, promised in (("coverage68", 0.6827), ("coverage95", 0.95)):
        assert float(one[name]) == pytest.approx(promised, abs=3 * np.sqrt(promised * (1 - promised) / n))
    assert float(one["pull_mean"]) == pytest.approx(0.0, abs=4 / np.sqrt(n))
    assert float(one["pull_std"]) == pytest.approx(1.0, abs=0.12)
    assert injection_notes(told()) == []


def test_errors_that_are_too_small_are_told_with_the_factor():
    injection = told(scatter=2.0)
    assert float(injection["pull_std"].sel(quantity="alpha", fluence=8.0)) == pytest.approx(2.0, abs=0.2)
    notes = injection_notes(injection)
    assert {(n.code, n.parameter) for n in notes} >= {
        ("injection.errors_too_small", q) for q in ("alpha", "tau1", "tau2")
    }
    assert all(n.fluence == 8.0 for n in notes)
    assert "95 % intervals hold" in notes[0].text


def test_values_that_are_off_are_told():
    notes = injection_notes(told(off=1.0))
    assert {n.parameter for n in notes if n.code == "injection.off"} >= {"alpha", "tau1", "tau2"}


def test_few_fits_tell_nothing():
    assert injection_notes(told(scatter=3.0, n=6)) == []


def test_limits_lie_where_half_of_the_fits_know():
    injection = told().sel(fluence=8.0)
    limit = injection["limit"]
    # all of size 0.5 know, none of 0.25
    assert float(limit.sel(quantity="tau1")) == pytest.approx(np.sqrt(0.5 * 0.25))
    assert float(injection["limit_signal"].sel(quantity="tau1")) == pytest.approx(0.02 * np.sqrt(0.5 * 0.25))
    assert float(limit.sel(quantity="tau2")) == 0.125
    assert float(limit.sel(quantity="tau3")) == np.inf
    assert float(injection["alpha_limit"]) == pytest.approx(0.0329, rel=0.1)
    known = injection["known"].sel(quantity="tau1").values
    assert known.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]
    assert float(injection["found_in_nothing"].sel(quantity="tau2")) == 1.0
    assert float(injection["found_in_nothing"].sel(quantity="alpha")) < 0.15


def test_it_is_as_specified_and_half_of_the_signals_are_the_sessions():
    injection = told()
    INJECTION.check(injection)
    assert injection["carrier"].values.tolist() == ["in_run", "on_top"]
    assert injection["carrier_run"].values.tolist() == [4, 5]
    assert sorted({*SIZES}) == injection["level"].values.tolist()
    assert SIZES.count(1.0) == len(SIZES) / 2


def test_a_quantity_that_is_not_fitted_counts_nothing():
    none = draws().sel(parameter=["tau1"])
    none["alpha"][:] = np.nan
    injection = recovered(none, {4: "in_run"}, SESSION).sel(fluence=8.0)
    assert injection["n"].values.tolist()[0] == 0
    assert injection["n"].sel(quantity="tau2") == 0
    assert np.isnan(injection["alpha_limit"])
    assert np.isnan(injection["coverage68"].sel(quantity="alpha"))


def test_a_pull_is_in_units_of_the_side_that_faces_the_truth():
    interval = np.array([0.9, 1.4])
    assert pull_of(np.array(1.0), np.array(0.8), interval) == pytest.approx(2.0)
    assert pull_of(np.array(1.0), np.array(1.8), interval) == pytest.approx(-2.0)
    assert pull_of(np.array(1.0), np.array(0.8), np.array([-np.inf, 2.0])) == 0.0


def test_a_pump_off_scan_that_is_played_often_is_one_event():
    carriers = {4: "pump_off_scan"}
    often = recovered(draws(scatter=1.7), carriers, SESSION, n_played=2)
    assert often["n_independent"].sel(quantity="alpha").item() == 2
    # two scans may both be 1.7 errors off; four errors are another matter
    assert "alpha" not in {n.parameter for n in injection_notes(often)}
    off = recovered(draws(scatter=4.0), carriers, SESSION, n_played=2)
    assert ("injection.errors_too_small", "alpha") in {(n.code, n.parameter) for n in injection_notes(off)}
