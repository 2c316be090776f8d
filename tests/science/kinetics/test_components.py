"""Components of the whole cube: how many are above noise, what they add up to, spectra of the decays."""

import numpy as np
import pytest
import xarray as xr

from pipeline.science.kinetics.components import cube_components, gather_components, single_trace_fits
from pipeline.science.kinetics.shared import fit_kinetics
from schemas.datasets.kinetic_fits import COMPONENTS
from tests.science.kinetic_truth import OPPOSITE, TAUS, simulate

N_DELAYS, N_ENERGIES = 14, 40
ENERGY = np.linspace(526.5, 531.0, N_ENERGIES)


def cube(rng, *signals, gaps=False):
    """Difference whose errors vary from bin to bin, nearly but not quite as delay times energy."""
    error = np.exp(rng.normal(0, 0.3, (N_DELAYS, 1)) + rng.normal(0, 0.3, (1, N_ENERGIES)))
    error = 1e-3 * error * np.exp(rng.normal(0, 0.05, (N_DELAYS, N_ENERGIES)))
    value = sum(signals, np.zeros(error.shape)) + error * rng.standard_normal(error.shape)
    if gaps:
        value[3, 20:] = np.nan
    dims = ("delay", "energy")
    return xr.Dataset(
        {"delta_xas": (dims, value), "delta_xas_stderr": (dims, error)},
        coords={"delay": np.arange(N_DELAYS, dtype=float), "energy": ENERGY},
    )


def signal(height, centre, course):
    return height * np.outer(course, np.exp(-0.5 * ((ENERGY - centre) / 0.5) ** 2))


RISE, DECAY = np.linspace(0, 1, N_DELAYS), np.exp(-np.arange(N_DELAYS) / 3)


@pytest.mark.long
def test_noise_alone_counts_as_a_component_as_rarely_as_promised():
    rng = np.random.default_rng(1)
    found = [int(cube_components(cube(rng))["n_components"]) for _ in range(80)]
    # 0.8 expected; 5 or more have a probability of 0.1 %
    assert np.count_nonzero(found) <= 4


@pytest.mark.parametrize("n", [1, 2, 3])
def test_signals_are_counted_and_add_up(n):
    signals = [signal(0.02, 528.2, DECAY), signal(0.02, 529.2, RISE), signal(0.02, 530.2, np.cos(RISE * 6))][:n]
    rng = np.random.default_rng(2)
    found = [cube_components(cube(rng, *signals)) for _ in range(15)]
    assert np.mean([int(f["n_components"]) == n for f in found]) >= 13 / 15
    one = found[0].isel(component=slice(0, n))
    rebuilt = (one["delays_right"] * one["spectra_left"]).sum("component").transpose("delay", "energy")
    assert float(np.abs(rebuilt - sum(signals)).max()) < 5e-3
    assert np.all(np.abs(one["delays_right"]).max("delay") == 1)


def test_gaps_leave_out_a_delay_and_a_single_spectrum_is_no_cube():
    rng = np.random.default_rng(3)
    found = cube_components(cube(rng, signal(0.03, 528.2, DECAY), gaps=True))
    assert int(found["n_components"]) == 1
    assert np.isnan(found["delays_right"][0, 3])
    assert np.isfinite(found["delays_right"][0, 4])
    alone = cube_components(cube(rng).isel(delay=[0]))
    assert int(alone["n_components"]) == -1
    assert np.isnan(alone["singular_values"]).all()


def test_what_the_reference_cannot_know_is_no_part_of_the_cube():
    one = cube(np.random.default_rng(3), signal(0.03, 528.2, DECAY))
    modes = (("mode", "delay", "energy"), np.ones((2, N_DELAYS, N_ENERGIES)))
    xr.testing.assert_identical(cube_components(one.assign(systematic_mode=modes)), cube_components(one))


@pytest.mark.parametrize("power", [1, 2])
def test_decays_after_the_rise_add_up_to_the_fit(power):
    traces = simulate(snr=300, power=power, n_traces=5, irf_sigma=0.0)
    fit = fit_kinetics(traces, power=power, irf_sigma=0.0, systematics=False)
    late = fit["fit"].isel(delay=slice(-12, None))
    decays = fit["das"] * np.exp(-fit["rate"] * (late["delay"] - float(fit["value"][0])))
    np.testing.assert_allclose(decays.sum("decay").transpose("trace", "delay"), late, rtol=2e-3)


@pytest.mark.parametrize("power", [1, 2])
def test_errors_of_the_decay_spectra_are_calibrated(power):
    truth = fit_kinetics(
        simulate(snr=1e7, power=power, n_traces=4), power=power, irf_sigma=0.05, amplitude_prior=None, systematics=False
    )["das"]
    pulls = []
    for seed in range(25):
        traces = simulate(snr=400, power=power, n_traces=4, seed=seed)
        fit = fit_kinetics(traces, power=power, irf_sigma=0.05, systematics=False)
        # the last trace is so weak that the sign of A2 is open where the form is squared
        pulls.append(((fit["das"] - truth) / fit["das_stderr"]).values[:, :3])
    # traces and decays of one set share the taus, so 25 sets count for little more than 25
    assert np.sqrt(np.mean(np.square(pulls))) == pytest.approx(1.0, abs=0.3)


def test_single_energies_use_the_shared_time_zero_and_say_what_they_know():
    strong, weak = simulate(OPPOSITE, snr=300, seed=1), simulate(OPPOSITE, snr=10, seed=2)
    traces = xr.concat([strong, weak], dim="trace").assign_coords(energy=("trace", [528.2, 530.0]))
    few = traces["delta_xas"].where((traces["energy"] < 529) | (traces["delay"] < 0))
    shared = fit_kinetics(traces, irf_sigma=0.05, systematics=False)
    alone = single_trace_fits(traces, shared)
    assert alone["tau_identifiable"][0].all()
    assert not alone["tau_identifiable"][1, 0]
    assert np.all(np.abs(alone["tau"][0] - TAUS) < 4 * alone["tau_stderr"][0])
    early = single_trace_fits(traces.assign(delta_xas=few), shared)
    assert not early["tau_identifiable"][1].any()


def test_the_group_is_as_specified_also_where_there_is_nothing():
    fit = fit_kinetics(simulate(power=1, n_traces=3), power=1, systematics=False)
    cubes = {8.0: cube_components(cube(np.random.default_rng(4), signal(0.02, 528.2, DECAY)))}
    group = gather_components([8.0, 16.0], cubes, {8.0: fit}, {})
    assert COMPONENTS.faults(COMPONENTS.describe(group)) == []
    assert group["n_components"].values.tolist() == [1, -1]
    here = group.sel(fluence=8.0, energy=fit["energy"].values)
    np.testing.assert_array_equal(here["das"][:3], fit["das"])
    assert np.isnan(here["das"][3:]).all()
    assert COMPONENTS.faults(COMPONENTS.describe(gather_components([], {}, {}, {}))) == []


def test_errors_that_are_a_product_make_noise_of_unit_variance():
    """Singular values are those of the difference over its errors; in a plain SVD the noisiest row would come first."""
    rng = np.random.default_rng(6)
    over_delay, over_energy = np.exp(rng.normal(0, 1.0, N_DELAYS)), np.exp(rng.normal(0, 0.5, N_ENERGIES))
    error = 1e-3 * np.outer(over_delay, over_energy)
    data = cube(rng)
    data["delta_xas_stderr"].values[:] = error
    data["delta_xas"].values[:] = error * (rng.standard_normal(error.shape) + 3 * np.outer(DECAY, np.sin(ENERGY * 9)))
    found = cube_components(data)
    values = np.linalg.svd(data["delta_xas"].values / error, compute_uv=False)
    np.testing.assert_allclose(found["singular_values"], values[:6], rtol=1e-9)
    assert int(found["n_components"]) == 1
    # the noise has no shape left: its level is that of unit noise, whose quantile other draws give too
    drawn = np.random.default_rng(99).standard_normal((400, N_DELAYS, N_ENERGIES))
    assert float(found["noise_level"][0]) == pytest.approx(
        np.quantile(np.linalg.norm(drawn, ord=2, axis=(1, 2)), 0.99), rel=0.03
    )
    # what is left for the second component has one row and one column less
    assert float(found["noise_level"][1]) < float(found["noise_level"][0])
    again = cube_components(data * 1e3)
    np.testing.assert_allclose(again["singular_values"], found["singular_values"])


def test_all_components_together_are_the_difference():
    rng = np.random.default_rng(7)
    data = cube(rng, signal(0.02, 528.2, DECAY)).isel(delay=slice(6))
    found = cube_components(data)
    rebuilt = (found["delays_right"] * found["spectra_left"]).sum("component").transpose("delay", "energy")
    np.testing.assert_allclose(rebuilt, data["delta_xas"], atol=1e-12)
