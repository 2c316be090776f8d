"""Which traces are fitted, and how the fits of several fluences become one group."""

import json

import numpy as np
import pytest
import xarray as xr

from pipeline.science.kinetics.forms import compare_models
from pipeline.science.kinetics.model import kinetic_trace
from pipeline.science.kinetics.shared import fit_kinetics
from pipeline.science.kinetics.traces import collect_traces, gather_fits, prior_decides, simpler_form

DELAYS = np.r_[-1.0, -0.3, np.arange(-0.06, 0.7, 0.03), np.arange(0.8, 5, 0.3), 10.0, 30.0, 60.0]


def scan_of(noise, *, amplitudes=(0.11, 0.27, -0.055), energies=(528.2,), seed=0):
    rng = np.random.default_rng(seed)
    rows = [
        kinetic_trace(
            DELAYS, t_d=0.0, irf_sigma=0.04, taus=(0.15, 0.24, 1.5), amplitudes=np.array(amplitudes) * (1 - 0.1 * k)
        )
        for k in range(len(energies))
    ]
    values = np.array(rows) + rng.normal(0, noise, (len(energies), len(DELAYS)))
    return xr.Dataset(
        {
            "delta_xas": (("scan", "delay"), values),
            "delta_xas_stderr": (("scan", "delay"), np.full(values.shape, noise)),
        },
        coords={"delay": DELAYS, "energy": ("scan", list(energies)), "fluence": ("scan", [8.0] * len(energies))},
    )


def spectra_of(n_delays):
    delays = DELAYS[5 : 5 + n_delays]
    shape = (1, n_delays, 3)
    return xr.Dataset(
        {n: (("fluence", "delay", "energy"), np.full(shape, 0.01)) for n in ("delta_xas", "delta_xas_stderr")},
        coords={"fluence": [8.0], "delay": delays, "energy": [528.0, 528.5, 529.0]},
    )


@pytest.mark.parametrize(("n_delays", "traces"), [(3, 1), (8, 4)])
def test_spectra_take_part_only_with_enough_delays(n_delays, traces):
    found = collect_traces(spectra_of(n_delays), scan_of(1e-4), 8.0, include_spectra=True)
    assert found.sizes["trace"] == traces
    assert collect_traces(spectra_of(n_delays), scan_of(1e-4), 8.0, include_spectra=False).sizes["trace"] == 1
    assert collect_traces(spectra_of(3), scan_of(1e-4), 99.0, include_spectra=True) is None


def test_fits_of_two_fluences_share_axes_and_a_missing_one_is_not_identified():
    one = collect_traces(spectra_of(3), scan_of(1e-4, energies=(528.2, 529.0)), 8.0, include_spectra=False)
    fit = fit_kinetics(one, irf_sigma=0.04)
    group = gather_fits({8.0: fit, 16.0: None}, {8.0: compare_models(one, irf_sigma=0.04)})
    assert group["value"].dims == ("fluence", "parameter")
    assert np.isnan(group["value"].sel(fluence=16.0)).all()
    assert not group["identifiable"].sel(fluence=16.0).any()
    np.testing.assert_array_equal(group["value"].sel(fluence=8.0), fit["value"])
    np.testing.assert_allclose(group["fit"].sel(fluence=8.0) + group["residual"].sel(fluence=8.0), one["delta_xas"])
    assert group["verdict_code"].sel(fluence=16.0).values.tolist() == ["kinetics.no_fit"] * 5
    assert group["verdict"].sel(fluence=16.0, parameter="tau1") == "tau1: no fit at this fluence"
    xr.testing.assert_equal(group["verdict"].sel(fluence=8.0, drop=True), fit["verdict"])
    assert group["verdict_code"].sel(fluence=8.0).values.tolist() == ["", "", *["kinetics.tau_determined"] * 3]
    assert json.loads(group.attrs["forms"])["8"]["squared, 3 exponentials"] == {"delta_chi2": 0.0, "delta_aicc": 0.0}


def test_a_simpler_form_is_named_when_it_does_as_well():
    sharp = collect_traces(spectra_of(3), scan_of(1e-4), 8.0, include_spectra=False)
    assert simpler_form(8.0, compare_models(sharp, irf_sigma=0.04)) is None
    plain = scan_of(2e-3)
    rise = 0.01 * (1 - np.exp(-np.clip(DELAYS, 0, None) / 0.3)) + np.random.default_rng(1).normal(0, 2e-3, len(DELAYS))
    plain["delta_xas"] = (("scan", "delay"), rise[None, :])
    traces = collect_traces(spectra_of(3), plain, 8.0, include_spectra=False)
    said = simpler_form(8.0, compare_models(traces, irf_sigma=0.04))
    assert (said.code, said.fluence) == ("kinetics.simpler_form", 8.0)
    assert "do not support the fitted form “squared, 3 exponentials” over the simpler “" in said.text
    # not with itself, nor with what is not simpler
    simplest = compare_models(traces, irf_sigma=0.04)
    assert simpler_form(8.0, simplest, "unsquared, 1 exponential") is None


def test_the_fit_without_prior_is_gathered_and_a_disagreement_is_said():
    known = collect_traces(spectra_of(3), scan_of(1e-4), 8.0, include_spectra=False)
    fit = fit_kinetics(known, irf_sigma=0.04, n_bootstrap=20)
    group = gather_fits({8.0: fit, 16.0: None})
    np.testing.assert_array_equal(group["value_without_prior"].sel(fluence=8.0), fit["value_without_prior"])
    np.testing.assert_array_equal(group["bootstrap_ci95"].sel(fluence=8.0), fit["bootstrap_ci95"])
    assert prior_decides(8.0, fit) is None
    moved = fit.assign(value_without_prior=fit["value_without_prior"] * xr.DataArray([1, 1, 1, 9, 1], dims="parameter"))
    said = prior_decides(8.0, moved)
    assert (said.code, said.fluence) == ("kinetics.prior_decides", 8.0)
    assert said.text.startswith("kinetics at 8 mJ/cm²: the amplitude prior decides: tau2 0.2")
    assert "tau1" not in said.text
    free = fit_kinetics(known, irf_sigma=0.04, amplitude_prior=None)
    assert prior_decides(8.0, free) is None
    assert np.isnan(gather_fits({8.0: free})["value_without_prior"]).all()
    assert "bootstrap_stderr" not in gather_fits({8.0: free})


def test_a_time_that_the_form_does_not_have_says_so():
    known = collect_traces(spectra_of(3), scan_of(1e-4), 8.0, include_spectra=False)
    group = gather_fits({8.0: fit_kinetics(known, irf_sigma=0.04, n_exponentials=2)}).sel(fluence=8.0)
    assert group["verdict_code"].sel(parameter="tau3") == "kinetics.not_in_the_form"
    assert group["verdict"].sel(parameter="tau3") == "tau3: not a parameter of the fitted form"
    assert np.isnan(group["value"].sel(parameter="tau3"))
    assert group["verdict_code"].sel(parameter="tau2") != "kinetics.not_in_the_form"
