"""Which traces the product's kinetics are fitted to, and what is said about them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import DataError
from pipeline.results.lookup import intervals
from pipeline.results.summary import _kinetics, summary_text
from pipeline.science import forward
from pipeline.science.kinetics.lmfit_model import kinetic_result
from pipeline.science.spectra.resampling import Replicates
from pipeline.simulate import load_scenario
from pipeline.simulate.timetable import build_model
from pipeline.stages.fit_kinetics import _needs_rise, fit_all_kinetics, parameters_of
from schemas.config import Config
from schemas.datasets.kinetic_fits import COMPONENTS, KINETICS

SAMPLE_RUNS = Path(__file__).parents[2] / "sample_runs"
SCAN = np.r_[-0.3, np.arange(-0.06, 0.7, 0.04), 0.8, 1.0, 1.3, 1.7, 2.2, 3.0, 4.8, 10.0, 30.0, 60.0]
FEW = np.array([-0.1, 0.0, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.8, 4.8, 10.0, 59.8])
ENERGY = np.arange(527.4, 530.21, 0.7)


def data(*, shift, noise, seed=0):
    """Spectra at few delays and a delay scan at peak A, 8 mJ/cm²; the excited line moves by `shift` [eV]."""
    model = replace(build_model(load_scenario(SAMPLE_RUNS / "noise_levels.yaml")), early_shift=shift)
    rng = np.random.default_rng(seed)
    parts = []
    for dims, energy, delay in ((("delay", "energy"), ENERGY, FEW), (("scan", "delay"), np.array([528.2]), SCAN)):
        e = xr.DataArray(energy, dims="energy" if "energy" in dims else "scan")
        clean = forward.delta_xas(model, e, xr.DataArray(delay, dims="delay"), fluence=8.0).transpose(*dims)
        values = clean.values + noise * rng.standard_normal(clean.shape)
        parts.append(xr.Dataset({"delta_xas": (dims, values), "delta_xas_stderr": (dims, np.full(clean.shape, noise))}))
    spectra = parts[0].expand_dims(fluence=[8.0]).assign_coords(delay=FEW, energy=ENERGY)
    scan = parts[1].assign_coords(delay=SCAN, energy=("scan", [528.2]), fluence=("scan", [8.0]))
    return spectra, scan


def config(**kinetics):
    settings = {"irf_sigma": {"value": 0.04, "stderr": 0.003}} | kinetics
    runs = {"dark": 1, "flat_field": 2, "delay_scans": [{"run": 3, "fluence": 8.0}]}
    return Config.model_validate({"schema": 1, "dataset": "x", "runs": runs, "kinetics": settings})


def fitted(spectra, scan, replicates=None, **kinetics):
    made, _, notes = fit_all_kinetics(spectra, scan, config(**kinetics), replicates)
    groups = made["kinetics"], made["components"]
    for spec, group in ((KINETICS, made["kinetics"]), (COMPONENTS, made["components"])):
        assert spec.faults(spec.describe(group)) == []
    return *groups, [note.code for note in notes]


@pytest.mark.parametrize(("shift", "alone"), [(-0.2, True), (0.0, False)])
def test_energies_that_do_not_follow_the_shared_times_are_left_out_with_a_warning(shift, alone):
    kinetics, components, codes = fitted(*data(shift=shift, noise=5e-5))
    assert ("kinetics.spectra_left_out" in codes) is alone
    assert kinetics.sizes["energy"] == (1 if alone else 1 + len(ENERGY))
    assert kinetics["redchi"][0] < 1.5
    taus = kinetics.sel(fluence=8.0, parameter=["tau1", "tau2", "tau3"])
    assert taus["identifiable"].all()
    assert np.all(np.abs(taus["value"] - [0.15, 0.24, 1.5]) < 3.5 * taus["stderr"])
    # a moving line takes its shape and the shape's change: at least two components, without movement one
    assert (components["n_components"][0] > 1) == alone


@pytest.mark.parametrize(("shift", "noise", "doubt"), [(-0.2, 2e-5, True), (-0.2, 4e-5, True), (0.0, 4e-5, False)])
def test_a_time_that_chi_square_contradicts_is_nowhere_shown_as_a_value(shift, noise, doubt):
    """A line that moves makes tau2 sharp and wrong: without a delay scan nothing but the misfit tells."""
    spectra, scan = data(shift=shift, noise=noise)
    kinetics, _, codes = fitted(spectra, scan.isel(scan=[]))
    taus = kinetics.sel(fluence=8.0, parameter=["tau1", "tau2", "tau3"])
    far = np.abs(taus["value"] - [0.15, 0.24, 1.5]) > 2 * taus["stderr"]
    assert bool(far.any()) is doubt
    assert bool((kinetics["redchi"] > 1.4).all()) is doubt
    assert taus["identifiable"].any() == (not doubt)
    assert "kinetics.spectra_left_out" not in codes
    assert ((taus["verdict_code"] == "kinetics.tau_of_misfit") == doubt).all()
    assert all(
        ("is not known: the model does not describe the data (χ²/dof" in v) is doubt for v in taus["verdict"].values
    )
    summary = _kinetics(xr.DataTree.from_dict({"/kinetics": kinetics}), config())
    assert summary[0]["describes_data"] is not doubt
    shown = intervals(summary)
    if doubt:
        assert [one.value for one in shown] == [None] * 3
        assert {one.instead_of_value for one in shown} == {"the model does not fit"}
        text = summary_text({"dataset": "x", "kinetics": summary})
        assert "the model does not describe the data" in text.splitlines()[2]
        assert all("±" not in line for line in text.splitlines() if line.strip().startswith("tau"))


def test_bootstraps_and_single_energies_on_request():
    spectra, scan = data(shift=0.0, noise=1e-4)
    plain, no_map, _ = fitted(spectra, scan)
    assert "bootstrap_stderr" not in plain
    assert np.isnan(no_map["tau"]).all()
    drawn, single, _ = fitted(spectra, scan, bootstrap="parametric", n_bootstrap=25, per_energy=True)
    xr.testing.assert_identical(drawn[list(plain.data_vars)], plain)
    ratio = drawn["bootstrap_stderr"] / drawn["stderr"]
    assert np.all(np.abs(np.log(ratio.sel(parameter=["tau1", "tau2", "tau3"]))) < 0.5)
    assert single["tau_identifiable"].sel(energy=528.2, method="nearest").all()
    rng = np.random.default_rng(1)
    # noise twice the standard errors: what only the trains would show
    noisier = [
        d["delta_xas"].expand_dims(draw=25) + 2e-4 * rng.standard_normal((25, *d["delta_xas"].shape))
        for d in (spectra, scan)
    ]
    replicates = Replicates(*noisier)
    trains = fitted(spectra, scan, replicates, bootstrap="trains", n_bootstrap=25)[0]
    assert trains["bootstrap_stderr"].sel(parameter="tau3") > 1.3 * drawn["bootstrap_stderr"].sel(parameter="tau3")


def test_a_trace_behind_the_rise_is_not_fitted():
    """Its fit would put time zero among the late delays and call it determined."""
    delay = np.array([4.6, 4.7, 4.8, 4.9, 5.0, 5.1, 5.2])
    late = xr.Dataset({"delta_xas": (("trace", "delay"), np.ones((1, 7)))}, coords={"delay": delay})
    with pytest.raises(DataError, match="behind the rise"):
        _needs_rise(late, "fit")
    _needs_rise(late, 4.5)
    _needs_rise(late.assign_coords(delay=delay - 4.8), (0.0, 0.01))


def test_what_the_config_says_of_the_parameters_reaches_fit_and_file():
    said = {"irf_sigma": {"value": 0.04, "stderr": 0.003}, "tau2": {"expr": "1.6*tau1"}, "tau3": {"max": 5.0}}
    settings = config(irf_sigma="fit", parameters=said, per_energy=True)
    parameters = parameters_of(settings.kinetics)
    assert (parameters["tau2"].expr, parameters["tau3"].max, parameters["tau3"].vary) == ("1.6*tau1", 5.0, True)
    assert parameters["irf_sigma"].user_data == {"stderr": 0.003}
    spectra, scan = data(shift=0.0, noise=5e-5)
    groups, fits, _ = fit_all_kinetics(spectra.isel(energy=[2]), scan, settings)
    kinetics, components = groups["kinetics"], groups["components"]
    value = kinetics["value"].sel(fluence=8.0)
    assert float(value.sel(parameter="tau2")) == pytest.approx(1.6 * float(value.sel(parameter="tau1")), rel=1e-9)
    alone = components["tau"].sel(fluence=8.0)
    np.testing.assert_allclose(alone.sel(parameter="tau2"), 1.6 * alone.sel(parameter="tau1"), rtol=1e-9)
    assert (alone.sel(parameter="tau3") <= 5.0).all()
    result = kinetic_result(*fits[8.0])
    assert (result.params["tau2"].expr, result.params["tau3"].max) == ("1.6*tau1", pytest.approx(5.0))


def test_the_short_keys_give_the_same_groups():
    spectra, scan = data(shift=0.0, noise=5e-5)
    short, _, _ = fitted(spectra, scan, t_d=0.001)
    long, _, _ = fitted(
        spectra,
        scan,
        irf_sigma="fit",
        parameters={"irf_sigma": {"value": 0.04, "stderr": 0.003}, "t_d": {"value": 0.001, "vary": False}},
    )
    xr.testing.assert_identical(long, short)
