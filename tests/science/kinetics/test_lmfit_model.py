"""The fit in the hands of lmfit: the same model, the same minimum, a result that can be read again."""

import subprocess
import sys

import numpy as np
import pytest
from lmfit.model import load_modelresult

from pipeline.science.kinetics.lmfit_model import kinetic_result, kinetics
from pipeline.science.kinetics.parameters import kinetic_parameters
from pipeline.science.kinetics.shared import fit_kinetics
from pipeline.science.lmfit_results import as_json, as_report
from tests.science.kinetic_truth import simulate

SAID = {
    "held response": {"irf_sigma": {"value": 0.05, "vary": False}},
    "measured response": {"irf_sigma": {"value": 0.05, "stderr": 0.003}},
    "measured time": {"irf_sigma": {"value": 0.05, "vary": False}, "tau1": {"value": 0.15, "stderr": 0.01}},
    "bound that is met": {"irf_sigma": {"value": 0.05, "vary": False}, "tau1": {"min": 0.2}},
    "tie": {"irf_sigma": {"value": 0.05, "vary": False}, "tau2": {"expr": "1.6*tau1"}},
    "nothing": {},
}


def result_of(power=2, n_traces=1, said="measured response", snr=100.0, **options):
    traces = simulate(snr=snr, power=power, n_traces=n_traces, seed=11)
    traces["delta_xas"][0, 5] = np.nan
    fit = fit_kinetics(traces, power=power, parameters=kinetic_parameters(SAID[said]), **options)
    return traces, fit, kinetic_result(traces, fit)


def refitted(result):
    return result.model.fit(
        result.data, result.params, weights=result.weights, scale_covar=False, method="leastsq", **result.userkws
    )


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("n_traces", [1, 6])
@pytest.mark.parametrize("said", SAID)
def test_lmfits_own_minimiser_stays_there(power, n_traces, said):
    _, _, result = result_of(power, n_traces, said)
    again = refitted(result)
    assert abs(again.chisqr - result.chisqr) < 1e-6
    assert again.nvarys == result.nvarys
    moved = {n: abs(again.params[n].value - result.params[n].value) / result.params[n].stderr for n in result.var_names}
    assert max(moved.values()) < 0.1, moved


@pytest.mark.parametrize("power", [1, 2])
def test_lmfit_leaves_a_point_that_is_no_minimum(power):
    _, _, result = result_of(power, 3)
    result.params["tau3"].value *= 1.1
    again = refitted(result)
    assert again.params["tau3"].value == pytest.approx(result.params["tau3"].value / 1.1, rel=1e-2)


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("n_traces", [1, 6])
def test_errors_and_correlations_are_those_that_lmfit_finds(power, n_traces):
    _, fit, result = result_of(power, n_traces, "held response", snr=400.0)
    again = refitted(result)
    names = result.var_names
    # profiles are a little wider than the linear errors
    ratio = [again.params[n].stderr / result.params[n].stderr for n in names]
    np.testing.assert_allclose(ratio, 1.0, atol=0.15)
    ours, theirs = (c / np.sqrt(np.outer(np.diag(c), np.diag(c))) for c in (result.covar, again.covar))
    np.testing.assert_allclose(ours, theirs, atol=0.05)
    assert np.linalg.eigvalsh(ours).min() > 0
    assert result.params["tau1"].stderr == float(fit["stderr"].sel(parameter="tau1"))
    assert result.params["tau1"].correl["A2_0"] == result.params["A2_0"].correl["tau1"]


def test_the_model_is_the_fit_at_the_points_and_the_priors_behind_them():
    traces, fit, result = result_of(2, 4, "measured response")
    points = result.userkws["quantity"] == -1
    measured = traces["delta_xas"].notnull().values
    assert points.sum() == measured.sum()
    np.testing.assert_allclose(result.best_fit[points], fit["fit"].values[measured], atol=1e-13)
    np.testing.assert_array_equal(result.data[points], traces["delta_xas"].values[measured])
    np.testing.assert_array_equal(result.userkws["delay"][points], np.tile(traces["delay"], (4, 1))[measured])
    np.testing.assert_array_equal(result.userkws["energy"][points], np.tile(traces["energy"], (100, 1)).T[measured])
    assert np.sum(result.residual[points] ** 2) == pytest.approx(float(fit["chi2"]))
    assert 0.99 < result.rsquared < 1.0
    a = fit["amplitude"].values[:, 2]
    here = ~points & (result.userkws["trace"] == 2)
    np.testing.assert_allclose(
        result.best_fit[here], [a[0] ** 2, a[0] * a[1], a[0] * a[2], a[1] ** 2, a[1] * a[2], a[2] ** 2]
    )
    # three times the largest signal is one standard deviation
    largest = float(fit.attrs["signal_scale"])
    np.testing.assert_allclose(1 / result.weights[here], 9 * largest)
    assert (result.data[-1], result.weights[-1]) == (0.05, pytest.approx(1 / 0.003))
    assert result.best_fit[-1] == result.params["irf_sigma"].value


def test_parameters_keep_what_was_said_of_them():
    _, fit, result = result_of(1, 2, "tie")
    assert result.params["tau2"].expr == "1.6*tau1"
    assert not result.params["irf_sigma"].vary
    assert list(result.params) == [*fit["parameter"].values, "A1_0", "A2_0", "A3_0", "A1_1", "A2_1", "A3_1"]
    assert result.var_names == ["t_d", "tau1", "tau3", "A1_0", "A2_0", "A3_0", "A1_1", "A2_1", "A3_1"]
    _, _, bounded = result_of(1, 1, "bound that is met")
    assert bounded.params["tau1"].min == pytest.approx(0.2)
    assert bounded.ci_out["tau1"][0] == (0.95, 0.0)
    _, _, measured = result_of(1, 1, "measured response")
    assert measured.params["irf_sigma"].user_data == {"stderr": 0.003}


@pytest.mark.parametrize("n_exponentials", [1, 2])
def test_fewer_exponentials_and_no_prior_are_results_too(n_exponentials):
    traces = simulate(snr=100, power=2, n_traces=2, seed=1)
    fit = fit_kinetics(traces, n_exponentials=n_exponentials, irf_sigma=0.05, amplitude_prior=None)
    result = kinetic_result(traces, fit)
    assert result.ndata == traces["delta_xas"].size
    np.testing.assert_allclose(result.best_fit, fit["fit"].values.ravel(), atol=1e-13)
    assert abs(refitted(result).chisqr - result.chisqr) < 1e-6 * result.chisqr


def test_a_trace_without_points_has_no_amplitudes():
    traces = simulate(snr=100, n_traces=3)
    traces["delta_xas"][1] = np.nan
    result = kinetic_result(traces, fit_kinetics(traces, irf_sigma=0.05))
    assert "A1_0" in result.params
    assert "A1_2" in result.params
    assert "A1_1" not in result.params
    assert abs(refitted(result).chisqr - result.chisqr) < 1e-6


@pytest.mark.parametrize("funcdefs", [None, {"kinetics": kinetics}])
def test_lmfit_reads_it_again(tmp_path, funcdefs):
    _, _, result = result_of(2, 3, "tie")
    (tmp_path / "fit.json").write_text(as_json(result))
    again = load_modelresult(tmp_path / "fit.json", funcdefs=funcdefs)
    np.testing.assert_array_equal(again.best_fit, result.best_fit)
    np.testing.assert_array_equal(again.data, result.data)
    np.testing.assert_allclose(again.covar, result.covar)
    assert again.params == result.params
    assert again.params["tau2"].expr == "1.6*tau1"
    assert again.ci_out["tau1"][2] == (0.0, result.params["tau1"].value)
    assert again.fit_report() == result.fit_report()


def test_the_same_fit_gives_the_same_bytes_in_another_process():
    """Lmfit writes down which module it found the function in, and that depends on what was imported before."""
    lines = [
        "import tests.science.kinetics.test_lmfit_model as t",
        "print(t.as_json(t.result_of(1, 1)[2]), end='')",
    ]
    done = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert done.stdout == as_json(result_of(1, 1)[2])


def test_a_formula_may_name_a_parameter_that_comes_later(tmp_path):
    traces = simulate(snr=100, power=1)
    said = kinetic_parameters({"irf_sigma": {"value": 0.05, "vary": False}, "tau2": {"expr": "0.16*tau3"}})
    result = kinetic_result(traces, fit_kinetics(traces, power=1, parameters=said))
    (tmp_path / "fit.json").write_text(as_json(result))
    assert load_modelresult(tmp_path / "fit.json").params == result.params


def test_the_report_is_lmfits_with_the_intervals():
    _, _, result = result_of(2, 1, "bound that is met")
    text = as_report(result, "heading")
    assert text.startswith("heading\n\n[[Model]]\n    Model(kinetics)\n")
    assert "[[Intervals]]" in text
    assert " tau1:   0.00000   0.00000   0.20000" in text
