"""The kinetics fit on simulated truth: recovery, determinism, honesty of errors and verdicts."""

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import ConfigError, DataError
from pipeline.science.kinetics.forms import compare_models
from pipeline.science.kinetics.model import kinetic_trace
from pipeline.science.kinetics.parameters import kinetic_parameters
from pipeline.science.kinetics.shared import fit_kinetics
from tests.science.kinetic_truth import DENSE, OPPOSITE, PUBLISHED, SAME, TAUS, lmfit_model, simulate


def tau(fit: xr.Dataset, name: str = "value") -> np.ndarray:
    return fit[name].sel(parameter=["tau1", "tau2", "tau3"]).values


@pytest.mark.parametrize("power", [1, 2])
@pytest.mark.parametrize("n_traces", [1, 12])
def test_recovers_truth_without_noise(power, n_traces):
    traces = simulate(power=power, snr=1e6, n_traces=n_traces)
    fit = fit_kinetics(traces, power=power, amplitude_prior=None)
    np.testing.assert_allclose(tau(fit), TAUS, rtol=1e-3)
    np.testing.assert_allclose(fit["value"][:2], [0.01, 0.05], atol=2e-5)
    np.testing.assert_allclose(fit["fit"], traces["delta_xas"], atol=1e-7)


@pytest.mark.parametrize("power", [1, 2])
def test_intervals_cover_the_truth_as_often_as_they_say(power):
    inside68, inside95, pulls, redchi = [], [], [], []
    sets = 100
    for seed in range(sets):
        fit = fit_kinetics(simulate(snr=100, seed=seed, power=power), power=power, irf_sigma=0.05, systematics=False)
        low, high = tau(fit, "ci68").T
        inside68.append((low <= TAUS) & (high >= TAUS))
        low, high = tau(fit, "ci95").T
        inside95.append((low <= TAUS) & (high >= TAUS))
        pulls.append((tau(fit) - TAUS) / tau(fit, "stderr"))
        redchi.append(float(fit["redchi"]))
    # three binomial standard errors
    for inside, level in ((inside68, 0.6827), (inside95, 0.95)):
        band = 3 * np.sqrt(level * (1 - level) / sets)
        assert np.all(np.abs(np.mean(inside, axis=0) - level) < band), (level, np.mean(inside, axis=0))
    assert np.mean(np.abs(pulls) < 3) > 0.98
    assert np.mean(redchi) == pytest.approx(1.0, abs=4 * np.sqrt(2 / 93 / sets))


def test_global_fit_of_the_published_delays_finds_what_one_energy_cannot():
    one = fit_kinetics(simulate(snr=50, delay=PUBLISHED, seed=1), irf_sigma=0.05)
    many = fit_kinetics(simulate(snr=100, delay=PUBLISHED, n_traces=40, seed=1), irf_sigma=0.05)
    assert not one["identifiable"].sel(parameter="tau1")
    assert many["identifiable"].all()
    assert np.all(np.abs(tau(many) - TAUS) < 3 * tau(many, "stderr"))
    assert many["stderr"].sel(parameter="tau1") < 0.25 * TAUS[0]


@pytest.mark.parametrize(("amplitudes", "snr", "expected"), [(OPPOSITE, 200, True), (SAME, 50, False)])
def test_identifiability_verdict_of_tau1(amplitudes, snr, expected):
    said = []
    for seed in range(25):
        fit = fit_kinetics(simulate(amplitudes, snr=snr, seed=seed), irf_sigma=0.05, systematics=False)
        said.append(bool(fit["identifiable"].sel(parameter="tau1")))
        text, code = (str(fit[name].sel(parameter="tau1").values) for name in ("verdict", "verdict_code"))
        assert (code == "kinetics.tau_determined") is said[-1]
        assert text.startswith("tau1 = " if said[-1] else ("tau1 < ", "tau1 > ", "tau1 between ", "tau1 is not "))
        assert ("SNR is" in text or code == "kinetics.tau_rival") is not said[-1]
        assert fit["verdict"].values[:2].tolist() == ["", ""]
    # a false "identified" happens in 3 % of the sets; three in 25 has a probability of 4 %
    assert sum(s is not expected for s in said) <= (0 if expected else 3)


@pytest.mark.parametrize("start", [(0.3, 0.5, 3.0), (0.01, 0.02, 100.0), (5.0, 0.1, 1.0), (1.0, 1.0, 1.0)])
@pytest.mark.parametrize("power", [1, 2])
def test_any_start_gives_the_same_bits(start, power):
    traces = simulate(snr=60, power=power, n_traces=3, seed=5)
    said = kinetic_parameters({f"tau{i + 1}": {"value": tau} for i, tau in enumerate(start)})
    xr.testing.assert_equal(fit_kinetics(traces, power=power), fit_kinetics(traces, power=power, parameters=said))


def test_input_is_left_alone_and_delay_order_does_not_matter():
    traces = simulate(snr=80, seed=2)
    before = traces.copy(deep=True)
    fit = fit_kinetics(traces)
    xr.testing.assert_identical(traces, before)
    shuffled = traces.isel(delay=np.random.default_rng(0).permutation(traces.sizes["delay"]))
    again = fit_kinetics(shuffled)
    np.testing.assert_array_equal(again["delay"], shuffled["delay"])
    xr.testing.assert_identical(again.sortby("delay"), fit)


def test_negative_and_mixed_traces_get_their_signs():
    traces = simulate(snr=100, n_traces=9, seed=4)
    expected = fit_kinetics(traces)
    flip = np.where(np.arange(9) % 3 == 1, -1, 1)
    flipped = traces.assign(delta_xas=traces["delta_xas"] * xr.DataArray(flip, dims="trace"))
    fit = fit_kinetics(flipped)
    np.testing.assert_array_equal(fit["sign"], flip)
    np.testing.assert_array_equal(fit["value"], expected["value"])
    np.testing.assert_allclose(fit["fit"], expected["fit"] * flip[:, None])


@pytest.mark.parametrize(("scale", "shift"), [(100.0, 0.0), (1.0, 41.5)])
def test_units_and_origin_do_not_matter(scale, shift):
    traces = simulate(snr=100, seed=6)
    moved = (traces * scale).assign_coords(delay=traces["delay"] + shift, energy=traces["energy"])
    fit, other = fit_kinetics(traces), fit_kinetics(moved)
    np.testing.assert_allclose(tau(other), tau(fit), rtol=1e-4)
    np.testing.assert_allclose(other["value"][0], fit["value"][0] + shift, atol=1e-5)
    np.testing.assert_allclose(other["amplitude"], np.sqrt(scale) * fit["amplitude"], rtol=1e-3)


def test_lmfit_from_the_solution_finds_nothing_better():
    traces = simulate(snr=100, seed=7)
    fit = fit_kinetics(traces, irf_sigma=0.05, amplitude_prior=None)
    model = lmfit_model()
    parameters = model.make_params(
        t_d=float(fit["value"][0]),
        irf_sigma={"value": 0.05, "vary": False},
        **dict(zip(("tau1", "tau2", "tau3"), tau(fit), strict=True)),
        **{f"A{i + 1}": float(a) for i, a in enumerate(fit["amplitude"][:, 0])},
    )
    weights = 1 / traces["delta_xas_stderr"].values[0]
    peer = model.fit(traces["delta_xas"].values[0], parameters, delay=DENSE, weights=weights)
    assert peer.chisqr == pytest.approx(float(fit["chi2"]), rel=1e-6)
    for name in ("tau2", "tau3", "t_d"):
        assert peer.params[name].value == pytest.approx(float(fit["value"].sel(parameter=name)), rel=5e-3)
        assert peer.params[name].stderr <= 1.02 * float(fit["stderr"].sel(parameter=name))


def test_without_response():
    traces = simulate(snr=200, irf_sigma=0.0, seed=8)
    fixed = fit_kinetics(traces, irf_sigma=0.0)
    assert np.all(np.abs(tau(fixed) - TAUS) < 3 * tau(fixed, "stderr"))
    free = fit_kinetics(traces)
    assert free["ci95"].values[1, 0] == 0.0
    assert not free["identifiable"][1]


def test_a_measured_response_lies_between_fixed_and_free():
    traces = simulate(snr=100, seed=9)
    errors = [
        float(fit_kinetics(traces, irf_sigma=s, systematics=False)["crb"].sel(parameter="tau1"))
        for s in (0.05, (0.05, 0.003), "fit")
    ]
    assert errors[0] < errors[1] < errors[2]


def test_missing_delays_and_an_empty_trace():
    traces = simulate(snr=200, n_traces=8, seed=10)
    keep = np.random.default_rng(1).random(traces["delta_xas"].shape) > 0.4
    keep[5] = False
    gaps = traces.assign(delta_xas=traces["delta_xas"].where(xr.DataArray(keep, dims=("trace", "delay"))))
    fit = fit_kinetics(gaps, irf_sigma=0.05)
    assert fit.attrs["n_points"] == keep.sum()
    assert np.all(np.abs(tau(fit) - TAUS) < 3 * tau(fit, "stderr"))
    assert np.isnan(fit["amplitude"][:, 5]).all()
    assert np.isfinite(fit["amplitude_stderr"][:, 4]).all()


def test_amplitude_errors_are_calibrated():
    clean = simulate(snr=1e7, n_traces=6)
    truth = fit_kinetics(clean, irf_sigma=0.05, amplitude_prior=None)["amplitude"]
    pulls = []
    for seed in range(16):
        fit = fit_kinetics(simulate(snr=400, n_traces=6, seed=seed), irf_sigma=0.05, systematics=False)
        pulls.append((fit["amplitude"] - truth) / fit["amplitude_stderr"])
    # the last trace is so weak that the sign of A2 is open: the square has a second minimum there
    assert np.std(np.array(pulls)[:, :, :5]) == pytest.approx(1.0, abs=0.15)


def test_model_free_numbers_are_known_where_tau1_is_not():
    fit = fit_kinetics(simulate(SAME, snr=50, seed=11), irf_sigma=0.05)
    clean = simulate(SAME, snr=1e9)["delta_xas"][0]
    for time, got, error in zip((0.3, 1.0, 60.0), fit["signal"][:, 0], fit["signal_stderr"][:, 0], strict=True):
        assert abs(float(got) - np.interp(time, DENSE, clean)) < 4 * float(error) + 2e-5
        assert error < 0.05 * got
    assert fit["t50_stderr"] < 0.05 * (fit["t50"] + 0.05)
    assert np.isnan(fit_kinetics(simulate(delay=DENSE[DENSE < 5]))["signal"].sel(time=60.0)).all()


def test_noise_alone_identifies_nothing():
    traces = simulate(snr=50)
    for seed in range(12, 16):
        noise = 2e-4 * np.random.default_rng(seed).standard_normal(traces["delta_xas"].shape)
        fit = fit_kinetics(traces.assign(delta_xas=(("trace", "delay"), noise)))
        assert not fit["identifiable"].values.any()
        taus = fit.sel(parameter=["tau1", "tau2", "tau3"])
        assert taus["ci95"].values.tolist() == [[0.0, np.inf]] * 3
        assert set(taus["verdict_code"].values) == {"kinetics.tau_not_determined"}


def test_systematic_is_reported_for_fixed_parameters_only():
    traces = simulate(snr=200, seed=13)
    assert (fit_kinetics(traces)["systematic"] == 0).all()
    fixed = fit_kinetics(traces, irf_sigma=0.05)["systematic"]
    assert fixed.sel(parameter="tau1") > 0.005
    assert fixed.sel(parameter="irf_sigma") == 0


@pytest.mark.parametrize(("n", "power"), [(2, 1), (1, 1), (2, 2), (1, 2)])
def test_fewer_exponentials(n, power):
    delay, taus = DENSE, (0.2, 1.1)[:n]
    y = kinetic_trace(delay, t_d=0.0, irf_sigma=0.05, taus=taus, amplitudes=(0.05, 0.1)[:n], power=power)
    y = y + 1e-3 * y.max() * np.random.default_rng(0).standard_normal(y.shape)
    dims = ("trace", "delay")
    traces = xr.Dataset(
        {"delta_xas": (dims, y[None]), "delta_xas_stderr": (dims, np.full((1, y.size), 1e-3 * y.max()))},
        coords={"delay": delay},
    )
    fit = fit_kinetics(traces, power=power, n_exponentials=n)
    assert fit.sizes["parameter"] == 2 + n
    np.testing.assert_allclose(fit["value"][2:], taus, rtol=0.05)


def test_bootstrap_agrees_with_the_profile():
    fit = fit_kinetics(simulate(snr=200, seed=14), irf_sigma=0.05, n_bootstrap=150, seed=3)
    for level in ("ci68", "ci95"):
        (low, high), profile = tau(fit, f"bootstrap_{level}").T, tau(fit, level)
        np.testing.assert_allclose(high - low, profile[:, 1] - profile[:, 0], rtol=0.3)
    np.testing.assert_allclose(tau(fit, "bootstrap_stderr"), tau(fit, "stderr"), rtol=0.3)
    again = fit_kinetics(simulate(snr=200, seed=14), irf_sigma=0.05, n_bootstrap=150, seed=3)
    xr.testing.assert_identical(again["bootstrap"], fit["bootstrap"])


def test_given_replicates_take_the_place_of_drawn_ones():
    traces = simulate(snr=200, seed=14)
    rng = np.random.default_rng(0)
    # noise twice the standard errors: what only resampled trains would show
    noise = 2 * 5e-5 * rng.standard_normal((100, *traces["delta_xas"].shape))
    replicates = xr.DataArray(traces["delta_xas"].values + noise, dims=("draw", "trace", "delay"))
    fit = fit_kinetics(traces, irf_sigma=0.05, replicates=replicates)
    np.testing.assert_allclose(tau(fit, "bootstrap_stderr"), 2 * tau(fit, "stderr"), rtol=0.35)


def test_errors_are_taken_at_their_word_unless_chi_square_forbids():
    traces = simulate(snr=200, seed=15)
    as_given = fit_kinetics(traces, irf_sigma=0.05)
    assert 0.7 < as_given["redchi"] < 1.25
    too_large = fit_kinetics(traces.assign(delta_xas_stderr=2 * traces["delta_xas_stderr"]), irf_sigma=0.05)
    too_small = fit_kinetics(traces.assign(delta_xas_stderr=0.5 * traces["delta_xas_stderr"]), irf_sigma=0.05)
    assert too_large["redchi"] < 0.32
    np.testing.assert_allclose(tau(too_large, "stderr"), 2 * tau(as_given, "stderr"), rtol=0.15)
    np.testing.assert_allclose(
        tau(too_small, "stderr"), np.sqrt(float(as_given["redchi"])) * tau(as_given, "stderr"), rtol=0.15
    )


def test_pulls_have_the_width_one_where_the_times_are_known():
    pulls = []
    for seed in range(60):
        fit = fit_kinetics(simulate(snr=200, seed=500 + seed, power=1), power=1, irf_sigma=0.05, systematics=False)
        pulls.append((tau(fit) - TAUS) / tau(fit, "stderr"))
    # three correlated columns of 60: 0.09 each
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(pulls), axis=0)), 1.0, atol=0.25)


def test_models_are_compared_but_only_high_ratios_tell_them_apart():
    low, high = (compare_models(simulate(snr=snr, seed=15), irf_sigma=0.05) for snr in (20, 400))
    forms = ["unsquared, 3 exponentials", "plain sum, 3 exponentials"]
    assert (np.abs(low["delta_chi2"].sel(model=forms)) < 9).all()
    assert (high["delta_chi2"].sel(model=forms) > 25).all()
    assert high["delta_aicc"].sel(model="squared, 2 exponentials") > 100
    assert high["delta_aicc"][0] == 0


def test_too_few_points_and_bad_settings_are_refused():
    with pytest.raises(DataError, match=r"8 points in 1 traces .* at least 9"):
        fit_kinetics(simulate(delay=PUBLISHED[:8]))
    with pytest.raises(ConfigError, match=r"kinetics\.irf_sigma is 'narrow'; give a number in ps"):
        fit_kinetics(simulate(), irf_sigma="narrow")
    with pytest.raises(ConfigError, match="positive error"):
        fit_kinetics(simulate(), t_d=(0.0, -1.0))
    traces = simulate()
    with pytest.raises(DataError, match="delta_xas_stderr <= 0"):
        fit_kinetics(traces.assign(delta_xas_stderr=traces["delta_xas_stderr"] * 0))


def test_every_variable_has_units_and_a_name():
    for variable in fit_kinetics(simulate(n_traces=2), n_bootstrap=2).variables.values():
        if variable.dtype.kind in "fib" and variable.dims != ("trace",):
            assert {"units", "long_name"} <= set(variable.attrs)
