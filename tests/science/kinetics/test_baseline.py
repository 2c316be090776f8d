"""The constant under a trace: projected out as a column of its own would be, told with its error, freed where data demand it."""

import numpy as np
import pytest
import xarray as xr
from scipy.optimize import minimize

from pipeline.science.kinetics.lmfit_model import kinetic_result
from pipeline.science.kinetics.model import amplitude_products, kinetic_basis
from pipeline.science.kinetics.problem import build_problem
from pipeline.science.kinetics.search import baselines, model_traces, refine
from pipeline.science.kinetics.shared import fit_kinetics
from pipeline.science.kinetics.traces import baseline_demanded, collect_traces
from tests.science.kinetic_truth import TAUS, simulate

TAU = ["tau1", "tau2", "tau3"]
SCAN = np.concatenate([np.arange(-0.24, 1.2, 0.03), np.geomspace(1.3, 60.0, 25)])
"""No delay before -0.25 ps, as in the published scan."""


def on_offset(offset, *, stderr=None, **options):
    traces = simulate(delay=SCAN, **options)
    traces = traces.assign(delta_xas=traces["delta_xas"] + offset)
    return traces if stderr is None else traces.assign(baseline_stderr=("trace", [stderr] * traces.sizes["trace"]))


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("stderr", [1e-5, 1e-3])
def test_the_constant_is_that_of_a_column_of_its_own(power, stderr):
    """At given times, a general minimiser over amplitudes and constant finds the same cost, constant and curve."""
    traces = on_offset(3e-4, snr=100, power=power)
    arrays = [traces[n].values for n in ("delay", "delta_xas", "delta_xas_stderr")]
    problem = build_problem(*arrays, power=power, baseline_stderr=np.array([stderr]))
    theta = np.array([0.0, 0.05, *np.log(TAUS)])
    found = refine(problem, theta, thorough=True, max_iterations=0)
    basis = kinetic_basis(SCAN, t_d=0.0, irf_sigma=0.05, taus=TAUS, power=power)
    signal, error, peak = arrays[1][0], arrays[2][0], problem.peak

    def cost(x):
        q = amplitude_products(x[:-1], power)
        residual = (signal / peak - found.signs[0] * q @ basis - x[-1]) * peak / error
        return residual @ residual + problem.data.ridge @ q**2 + (x[-1] * peak / stderr) ** 2

    best = minimize(cost, [*found.amplitudes[0], 0.0], method="BFGS", options={"gtol": 1e-4})
    assert found.cost == pytest.approx(best.fun, rel=1e-6)
    assert baselines(problem, found)[0] == pytest.approx(best.x[-1], abs=1e-5)
    curve = found.signs[0] * amplitude_products(best.x[:-1], power) @ basis + best.x[-1]
    np.testing.assert_allclose(model_traces(problem, found)[0], peak * curve, atol=1e-5 * peak)


def test_a_known_error_of_the_reference_keeps_an_offset_out_of_the_times():
    """Pulls of times and constant have width one on offsets drawn from the prior; before, tau1 was many errors off."""
    pulls, n = [], 60
    for seed in range(n):
        offset = 5e-4 * np.random.default_rng([4, seed]).standard_normal()
        fit = fit_kinetics(on_offset(offset, stderr=5e-4, snr=400, seed=seed), irf_sigma=0.05, systematics=False)
        constant = (fit["baseline"].item() - offset) / fit["baseline_stderr"].item()
        taus = fit.sel(parameter=TAU)
        pulls.append([*((taus["value"] - TAUS) / taus["stderr"]).values, constant])
    rms = np.sqrt(np.mean(np.square(pulls), axis=0))
    assert (np.abs(rms - 1.0) < 3 / np.sqrt(2 * n)).all(), rms


def test_an_offset_that_the_reference_does_not_have_is_fitted_where_early_points_show_it():
    traces = on_offset(5e-4, snr=200)
    fit = fit_kinetics(traces, irf_sigma=0.05)
    assert fit["baseline"].item() == pytest.approx(5e-4, abs=4 * fit["baseline_stderr"].item())
    assert fit["baseline_prior"].item() > 1e-3
    said = baseline_demanded(8.0, traces.assign(baseline_stderr=("trace", [0.0])), fit)
    assert said is not None
    assert (said.code, said.severity) == ("kinetics.baseline_demanded", "caution")
    assert "0.50 ± 0.02 mOD" in said.text or "0.51 ± 0.02 mOD" in said.text
    assert baseline_demanded(8.0, traces.assign(baseline_stderr=("trace", [1e-4])), fit) is None
    np.testing.assert_allclose(fit["fit"].values + fit["residual"].values, traces["delta_xas"].values)


def test_without_an_offset_there_is_none():
    """Chance demands one once in 370, and a wrong time zero does not."""
    free = [fit_kinetics(on_offset(0.0, snr=100, seed=s), irf_sigma=0.05, systematics=False) for s in range(20)]
    assert not np.any([fit["baseline_prior"].values for fit in free])
    late = fit_kinetics(on_offset(0.0, snr=300), irf_sigma=0.05, t_d=-0.01, systematics=False)
    assert (late["baseline"].item(), late["baseline_prior"].item()) == (0.0, 0.0)


def test_an_unknown_reference_frees_the_constant():
    fit = fit_kinetics(on_offset(2e-3, stderr=np.nan, snr=200), irf_sigma=0.05)
    known = fit_kinetics(on_offset(2e-3, stderr=1.0, snr=200), irf_sigma=0.05)
    assert fit["baseline"].item() == pytest.approx(2e-3, abs=4 * fit["baseline_stderr"].item())
    np.testing.assert_allclose(fit["value"].sel(parameter=TAU), known["value"].sel(parameter=TAU), rtol=1e-3)


@pytest.mark.parametrize("power", [1, 2])
def test_lmfit_has_the_same_curve(power):
    traces = on_offset(5e-4, stderr=5e-4, snr=200, power=power)
    fit = fit_kinetics(traces, power=power, irf_sigma=0.05)
    result = kinetic_result(traces, fit)
    np.testing.assert_allclose(result.best_fit[: len(SCAN)], fit["fit"].values[0], atol=1e-9)
    assert result.params["b_0"].value == fit["baseline"].item()
    assert not result.params["b_0"].vary


def test_what_the_delays_of_a_scan_share_of_the_references_error_is_the_baselines():
    dims = ("scan", "delay")
    scan = xr.Dataset(
        {
            "delta_xas": (dims, [[1.0, 2.0, 3.0]]),
            "delta_xas_stderr": (dims, [[5.0, 5.0, 13.0]]),
            "reference_stderr": (dims, [[3.0, 4.0, 5.0]]),
            "delta_xas_stderr_systematic": (dims, [[4.0, 4.0, 4.0]]),
        },
        coords={"fluence": ("scan", [8.0]), "energy": ("scan", [528.2]), "delay": [0.0, 1.0, 2.0]},
    )
    traces = collect_traces(None, scan, 8.0, include_spectra=False)
    np.testing.assert_allclose(traces["baseline_stderr"], [5.0])
    np.testing.assert_allclose(traces["delta_xas_stderr"], [[4.0, 4.0, np.sqrt(160.0)]])
    unknown = scan.assign(delta_xas_stderr_systematic=scan["delta_xas_stderr_systematic"] * np.nan)
    assert np.isnan(collect_traces(None, unknown, 8.0, include_spectra=False)["baseline_stderr"]).all()
    bare = scan.drop_vars(["reference_stderr", "delta_xas_stderr_systematic"])
    plain = collect_traces(None, bare, 8.0, include_spectra=False)
    assert plain["baseline_stderr"].values.tolist() == [0.0]
    np.testing.assert_array_equal(plain["delta_xas_stderr"], scan["delta_xas_stderr"])
