"""The parts of a time's error: what a refit with one input moved gives, and their sum."""

import numpy as np
import pytest

from pipeline.science.kinetics.error_parts import moved_times, time_error_parts
from pipeline.science.kinetics.shared import fit_kinetics
from tests.science.kinetic_truth import simulate

TAUS = ["tau1", "tau2", "tau3"]


def fitted(baseline=0.0, n_traces=1, **options):
    traces = simulate(snr=3000.0, n_traces=n_traces)
    traces["baseline_stderr"] = ("trace", np.full(n_traces, baseline))
    return traces, fit_kinetics(traces, **options)


@pytest.mark.parametrize("response", ["fit", (0.05, 0.004), 0.05])
def test_the_part_of_time_zero_is_what_moving_it_by_its_error_does(response):
    traces, fit = fitted(irf_sigma=response)
    parts = time_error_parts(traces, fit, irf_sigma=response).sel(parameter=TAUS)
    zero = fit.sel(parameter="t_d")
    ends = [
        fit_kinetics(traces, irf_sigma=response, t_d=float(zero["value"]) + by * float(zero["stderr"]))["value"]
        for by in (-1, 1)
    ]
    np.testing.assert_allclose(parts.sel(source="t0"), abs((ends[1] - ends[0]) / 2).sel(parameter=TAUS), rtol=0.03)


def test_the_part_of_the_response_is_what_moving_it_does_at_a_known_time_zero():
    traces, fit = fitted(irf_sigma=(0.05, 0.001))
    parts = time_error_parts(traces, fit, irf_sigma=(0.05, 0.001)).sel(parameter=TAUS)
    zero = float(fit["value"].sel(parameter="t_d"))
    held = fit_kinetics(traces, irf_sigma=(0.05, 0.001), t_d=zero).sel(parameter="irf_sigma")
    ends = [
        fit_kinetics(traces, t_d=zero, irf_sigma=float(held["value"]) + by * float(held["stderr"]))["value"]
        for by in (-1, 1)
    ]
    np.testing.assert_allclose(parts.sel(source="irf"), abs((ends[1] - ends[0]) / 2).sel(parameter=TAUS), rtol=0.05)


@pytest.mark.parametrize(("baseline", "n_traces"), [(0.0, 1), (1e-4, 1), (2e-4, 5)])
def test_the_squares_sum_up_to_the_error_that_is_stated(baseline, n_traces):
    traces, fit = fitted(baseline, n_traces)
    parts = time_error_parts(traces, fit)
    np.testing.assert_allclose(np.sqrt((parts**2).sum("source")), fit["stderr"], rtol=1e-12)
    reference = parts.sel(source="reference", parameter=TAUS)
    # a reference that is known exactly adds nothing, to the bit
    assert (reference == 0).all() if baseline == 0 else (reference > 0).all()


def test_what_the_reference_adds_is_what_the_error_loses_where_the_constant_is_known():
    traces, fit = fitted(2e-5, irf_sigma=0.05, t_d=0.01)
    parts = time_error_parts(traces, fit, irf_sigma=0.05, t_d=0.01).sel(parameter=TAUS)
    known = fit_kinetics(traces.assign(baseline_stderr=0 * traces["baseline_stderr"]), irf_sigma=0.05, t_d=0.01)
    np.testing.assert_allclose(parts.sel(source="statistics"), known["stderr"].sel(parameter=TAUS), rtol=0.03)
    assert (parts.sel(source=["t0", "irf"]) == 0).all()


def test_times_move_as_a_new_fit_has_them():
    given = {"irf_sigma": 0.05, "t_d": 0.01}
    traces, fit = fitted(**given)
    again = fit_kinetics(traces, **given | {"t_d": 0.012})["value"] - fit["value"]
    np.testing.assert_allclose(moved_times(traces, fit, zero_moved=0.002, **given), again, rtol=1e-4, atol=1e-9)
    bent = traces.assign(delta_xas=traces["delta_xas"] * (1 + 0.02 * np.exp(-traces["delay"])))
    again = fit_kinetics(bent, **given)["value"] - fit["value"]
    np.testing.assert_allclose(moved_times(traces, fit, moved=bent, **given), again, rtol=1e-4, atol=1e-9)
    # a factor on all data is in the amplitudes
    np.testing.assert_allclose(moved_times(traces, fit, moved=1.01 * traces, **given), 0.0, atol=1e-4)


def test_other_axes_are_refused():
    traces, fit = fitted(irf_sigma=0.05)
    with pytest.raises(ValueError, match="join"):
        moved_times(traces, fit, moved=traces.isel(delay=slice(1, None)), irf_sigma=0.05)
