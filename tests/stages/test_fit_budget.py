"""The error budget of a fitted dataset: its parts make the errors that are stated, and what is not known says so."""

import functools

import numpy as np
import pytest
import xarray as xr

from pipeline.science import forward
from pipeline.stages.fit import fit_all
from pipeline.stages.fit_budget import Inputs, Moved
from schemas.datasets.budget import BUDGET, SOURCES, STATUSES
from tests.synthetic import config, groups, model

LATE = 4.8
UNKNOWN = ("energy", "pedestal", "response")


@functools.cache
def fitted(inputs=None, changes="", modes=False):
    """Fit a session with the DOS that it was made of, at one late delay that all fluences have."""
    data, settings = groups(), config("seed")
    if changes:
        settings = settings.model_copy(update={"kinetics": settings.kinetics.model_copy(update={"t_d": 0.0})})
    spectra = data["spectra"].sel(delay=slice(None, LATE))
    if modes:
        slope = xr.ones_like(spectra["delta_xas"]) * 1e-3 * (spectra["energy"] - 528.5)
        spectra["systematic_mode"] = slope.expand_dims("mode").transpose("mode", "fluence", "delay", "energy")
    energy = xr.DataArray(np.arange(515.0, 545.0, 0.02), dims="energy")
    energy = energy.assign_coords(energy=energy)
    ground, excited = forward.ground_od(model(), energy), forward.excited_od(model(), energy)
    models = {"main": (ground, excited), "other": (ground, 1.05 * excited)}
    given = [] if inputs is None else [None, inputs(spectra, data["delay_scan"])]
    return fit_all(spectra, data["delay_scan"], settings, models, *given)[0]


def bent(spectra, scan):
    """Errors of time zero and energies, and a pedestal that bends the difference in two independent ways."""
    moves = [
        Moved(
            spectra.assign(delta_xas=spectra["delta_xas"] * factor), scan.assign(delta_xas=scan["delta_xas"] * factor)
        )
        for factor in (1.03, 1.04)
    ]
    return Inputs(t0=0.002, energy=0.02, moved={"pedestal": moves, "response": []})


def test_the_squares_sum_up_to_the_errors_that_are_stated():
    made = fitted(modes=True)
    budget = BUDGET.check(made["budget"])
    published = budget["tau"].where(budget["tau_status"] == "published")
    stated = made["kinetics"]["stderr"].sel(parameter=budget["parameter"]).where(budget["tau"].notnull().any("source"))
    np.testing.assert_allclose(np.sqrt((published**2).sum("source", min_count=1)), stated, rtol=1e-9)
    for name in ("alpha", "slope"):
        parts = budget[name]
        np.testing.assert_array_equal(parts.sel(source="statistics"), made["mixture"][f"{name}_stderr"])
        beside = parts.sel(source=["reference", "dos", "window"])
        model_error = made["mixture"][f"{name}_model_stderr"]
        np.testing.assert_allclose(np.sqrt((beside**2).sum("source")), model_error, rtol=1e-9)
        assert (parts.sel(source="reference") > 0).all()
    seen = made["peaks"]["detected"]
    for source, name in (("statistics", "position_stderr"), ("reference", "position_stderr_systematic")):
        there = budget["position"].sel(source=source)
        np.testing.assert_array_equal(there, made["peaks"][name].where(seen))


def test_a_reference_that_leaves_nothing_open_is_a_row_of_zeros():
    budget = fitted()["budget"].sel(source="reference")
    for name in ("tau", "alpha", "slope", "position"):
        there = budget[f"{name}_status"] != "no_value"
        assert there.any()
        assert (budget[name].where(there, 0) == 0).all()
        assert (budget[f"{name}_status"].where(there, "none") == "none").all()


def test_an_input_without_an_error_is_not_known_and_not_zero():
    budget = fitted()["budget"]
    for name in ("tau", "alpha", "slope", "position"):
        status, error = budget[f"{name}_status"], budget[name]
        assert set(np.unique(status)) <= set(STATUSES)
        unknown = status.isin(["not_known", "no_value"])
        assert (error.isnull() == unknown).all()
        for source in UNKNOWN:
            said = set(np.unique(status.sel(source=source)))
            assert said <= ({"none", "no_value"} if (name, source) == ("tau", "energy") else {"not_known", "no_value"})
    # the response was given without an error, time zero was fitted
    taus = budget["tau_status"].sel(fluence=8.0)
    assert (taus.sel(source="irf") == "not_known").all()
    assert (taus.sel(source="t0") == "published").all()
    # 16 mJ/cm² has no delay scan
    assert (budget["tau_status"].sel(fluence=16.0) == "no_value").all()


def test_what_the_inputs_say_moves_the_numbers():
    plain, made = fitted(modes=True), fitted(bent, modes=True)
    budget, alpha = made["budget"], made["mixture"]["alpha"]
    # a factor on the difference is one on the share, and none on times and positions
    np.testing.assert_allclose(budget["alpha"].sel(source="pedestal"), 0.05 * alpha, rtol=0.05)
    np.testing.assert_allclose(budget["slope"].sel(source="pedestal"), 0.05 * made["mixture"]["slope"], rtol=0.05)
    assert (budget["alpha_status"].sel(source="pedestal") == "beside").all()
    assert (budget["tau"].sel(source="pedestal", fluence=8.0) < 1e-3).all()
    assert budget["position"].sel(source="pedestal").max() < 1e-6
    # it was looked at and makes no difference
    assert (budget["alpha_status"].sel(source="response") == "none").all()
    seen = made["peaks"]["detected"]
    np.testing.assert_array_equal(budget["position"].sel(source="energy"), xr.where(seen, 0.02, np.nan))
    assert (budget["alpha"].sel(source="energy") < 0.02 * alpha).all()
    assert (budget["alpha_status"].sel(source="t0") == "none").all()
    # nothing of this changes the numbers themselves
    xr.testing.assert_identical(made["mixture"], plain["mixture"])
    xr.testing.assert_identical(made["kinetics"], plain["kinetics"])


def test_a_time_zero_that_is_held_moves_the_times_by_the_error_that_delay_scans_have():
    free, held = fitted(), fitted(bent, changes="t_d: 0")
    entry = held["budget"].sel(source="t0", fluence=8.0)
    assert (entry["tau_status"] == "beside").all()
    # dτ/dt_d · σ, with the slope from the fit that has time zero free
    zero = float(free["kinetics"]["stderr"].sel(fluence=8.0, parameter="t_d"))
    expected = free["budget"]["tau"].sel(source="t0", fluence=8.0) * 0.002 / zero
    np.testing.assert_allclose(entry["tau"], expected, rtol=0.3)
    assert list(held["budget"]["source"].values) == list(SOURCES)


def test_a_spectrum_that_time_zero_may_move_below_min_delay_counts():
    def near(spectra, scan):
        return Inputs(t0=0.9)

    budget = fitted(near)["budget"].sel(source="t0", fluence=8.0)
    # the only late spectrum, 0.8 ps behind the limit, would be lost: there would be no share
    assert budget["alpha_status"] == "not_known"


@pytest.mark.parametrize("few", [3, 0])
def test_where_nothing_could_be_fitted_there_is_no_value(few):
    data = groups(scans=False)
    spectra = data["spectra"].isel(energy=slice(0, few), delay=slice(0, 2))
    budget = fit_all(spectra, data["delay_scan"], config("seed"), {})[0]["budget"]
    assert all((budget[f"{name}_status"] == "no_value").all() for name in ("tau", "alpha", "slope", "position"))
