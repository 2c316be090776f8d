"""Model forms beside each other: their parameters counted by hand, their criterion by the formula."""

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.science.kinetics.forms import compare_models
from pipeline.science.kinetics.shared import fit_kinetics
from tests.science.kinetic_truth import TAUS, simulate

FORMS = {
    "squared, 3 exponentials": 3 + 3,
    "squared, 2 exponentials": 2 + 2,
    "squared, 1 exponential": 1 + 1,
    "unsquared, 3 exponentials": 3 + 3,
    "unsquared, 2 exponentials": 2 + 2,
    "unsquared, 1 exponential": 1 + 1,
    "plain sum, 3 exponentials": 3 + 4,
}
"""Times and amplitudes of one trace."""


@pytest.fixture(scope="module")
def compared():
    traces = simulate(snr=200, seed=6)
    return compare_models(traces, irf_sigma=0.05, t_d=0.01, amplitude_prior=None), traces


def test_parameters_are_counted_and_the_criterion_follows(compared):
    found, traces = compared
    counts = dict(zip(found["model"].values.tolist(), found["n_parameters"].values.tolist(), strict=True))
    n = traces.sizes["delay"]
    assert counts == FORMS
    k = found["n_parameters"].values
    np.testing.assert_allclose(found["aicc"], found["chi2"] + 2 * k + 2 * k * (k + 1) / (n - k - 1))
    np.testing.assert_allclose(found["delta_chi2"], found["chi2"] - found["chi2"][0])
    np.testing.assert_allclose(found["delta_aicc"], found["aicc"] - found["aicc"][0])


def test_what_is_free_counts_too():
    traces = simulate(snr=200, seed=6, n_traces=2)
    fixed, free, measured = (
        compare_models(traces, irf_sigma=irf, t_d=0.01)["n_parameters"] for irf in (0.05, "fit", (0.05, 0.01))
    )
    np.testing.assert_array_equal(free - fixed, 1)
    np.testing.assert_array_equal(measured - fixed, 1)
    assert int(fixed.sel(model="squared, 2 exponentials")) == 2 + 2 * 2


def test_the_squared_form_is_that_of_the_fit_and_describes_its_own_data(compared):
    found, traces = compared
    fit = fit_kinetics(traces, irf_sigma=0.05, t_d=0.01, amplitude_prior=None, systematics=False)
    seed = found.sel(model="squared, 3 exponentials")
    assert float(seed["chi2"]) == pytest.approx(float(fit["chi2"]), rel=1e-6)
    np.testing.assert_allclose(seed["tau"], fit["value"].sel(parameter=["tau1", "tau2", "tau3"]), rtol=1e-3)
    # fewer exponentials can only be worse, and one cannot make a peak and a tail
    by = found["chi2"].to_series()
    for kind in ("squared", "unsquared"):
        assert by[f"{kind}, 3 exponentials"] <= by[f"{kind}, 2 exponentials"] + 1e-6
        assert by[f"{kind}, 2 exponentials"] <= by[f"{kind}, 1 exponential"] + 1e-6
    assert float(found["delta_chi2"].sel(model="squared, 1 exponential")) > 1000
    assert np.isnan(found["tau"].sel(model="squared, 1 exponential")[1:]).all()
    assert np.isfinite(found["tau"].sel(model="unsquared, 2 exponentials")[:2]).all()


def test_the_unsquared_form_wins_on_its_own_data():
    traces = simulate(snr=400, seed=8, power=1)
    found = compare_models(traces, irf_sigma=0.05, t_d=0.01)
    assert found["model"].values[np.argmin(found["aicc"].values)] == "unsquared, 3 exponentials"
    np.testing.assert_allclose(found["tau"].sel(model="unsquared, 3 exponentials"), TAUS, rtol=0.3)
    plain = found["tau"].sel(model="plain sum, 3 exponentials").values
    assert (np.diff(plain) >= 0).all()


def test_points_are_ordered_by_delay_and_gaps_left_out():
    traces = simulate(snr=200, seed=6)
    shuffled = traces.isel(delay=np.random.default_rng(1).permutation(traces.sizes["delay"]))
    one, two = (compare_models(t, irf_sigma=0.05, t_d=0.01) for t in (traces, shuffled))
    np.testing.assert_allclose(one["chi2"], two["chi2"], rtol=1e-9)
    gap = traces.copy(deep=True)
    gap["delta_xas"].values[0, 50] = np.nan
    found = compare_models(gap, irf_sigma=0.05, t_d=0.01)
    k = found["n_parameters"].values
    n = traces.sizes["delay"] - 1
    np.testing.assert_allclose(found["aicc"] - found["chi2"], 2 * k + 2 * k * (k + 1) / (n - k - 1))


def test_too_few_points_are_refused():
    few = simulate(snr=200, delay=np.array([-0.1, 0.1, 0.3, 1.0, 5.0]))
    with pytest.raises(DataError, match="5 points in 1 traces are too few for 3 exponentials"):
        compare_models(few, irf_sigma=0.05, t_d=0.01)
