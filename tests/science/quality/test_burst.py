"""The difference along the burst: drifts are recovered with true errors, resolved results agree with the whole."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from pipeline.science.quality.burst import pulse_groups, resolved
from pipeline.science.quality.noise import profile_of_burst, run_quality
from pipeline.science.spectra.reference import flat_constant
from pipeline.science.spectra.scans import delay_scans, quality_cells, spectra
from tests.science.pulse_truth import make_pulses
from tests.science.spectra.test_difference import STEPS, true_delta

PULSES = 12


def scan(rng, *, trains=4, build_up=0.0, **options):
    energy = np.repeat(STEPS, trains)
    delta = true_delta(energy)
    run = make_pulses(rng, energy, delta=delta, n_pulses=PULSES, **options)
    growth = build_up * delta[:, None] * np.linspace(-0.5, 0.5, PULSES)
    photons = run["photons"].values.copy()
    photons[..., 0] *= np.exp(-growth)
    return run.assign(photons=(run["photons"].dims, photons))


def figures(run):
    return run_quality(run, quality_cells(run, kind="energy_scan"))


@pytest.mark.parametrize("excess", [0.0, 0.004])
def test_drift_and_build_up_are_recovered_with_true_errors(excess):
    found = []
    for seed in range(30):
        rng = np.random.default_rng([21, seed])
        found.append(figures(scan(rng, drift=0.004, build_up=0.3, photons=5e4, excess=excess)))
    # a drift that is common to all bins and one in proportion to the difference do not disturb each other
    for name, truth in (("drift", 0.004), ("build_up", 0.3)):
        pull = np.array([(f[name] - truth) / f[f"{name}_stderr"] for f in found])
        assert abs(pull.mean()) < 4 / np.sqrt(30), name
        assert 0.65 < pull.std() < 1.4, name
    assert np.mean([f["drift"] / f["drift_stderr"] for f in found]) > 4


def test_without_a_difference_there_is_no_build_up_and_no_drift():
    found = [figures(make_pulses(np.random.default_rng([22, k]), np.repeat(STEPS, 3), delta=0.0)) for k in range(12)]
    assert np.isnan([f["build_up"] for f in found]).mean() > 0.9
    assert max(abs(f["drift"]) / f["drift_stderr"] for f in found) < 4


def rising(rng, *, jitter=0.0, slope=0.0, build_up=0.0, seen=True):
    """Return a delay scan through the rise of the signal, whose pulses arrive at different times."""
    stage = np.repeat(np.arange(-0.3, 0.8, 0.05), 3)
    run = make_pulses(rng, np.full(len(stage), 528.2), n_pulses=PULSES, photons=1e5)
    along = np.linspace(-0.5, 0.5, PULSES)
    arrival = rng.normal(0, jitter, (len(stage), PULSES)) + slope * along
    delay = stage[:, None] + arrival
    rise = 0.1 / (1 + np.exp(-(delay - 0.1) / 0.04)) * (1 + build_up * along)
    run["photons"].values[..., 0] *= np.exp(-rise)
    return run.assign(arrival=(("train", "pulse"), arrival)).assign_coords(
        delay=(("train", "pulse"), delay if seen else stage[:, None] + 0 * arrival), nominal_delay=("train", stage)
    )


@pytest.mark.parametrize(
    ("seen", "options"),
    [
        (True, {"jitter": 0.08}),
        pytest.param(False, {"jitter": 0.08}, marks=pytest.mark.long),
        pytest.param(True, {"jitter": 0.02, "slope": 0.1}, marks=pytest.mark.long),
        (True, {"jitter": 0.08, "build_up": 0.3}),
    ],
)
def test_pulses_at_different_delays_are_no_build_up_and_do_not_hide_one(seen, options):
    """Arrival times used, or recorded and left out; a burst that gets later from pulse to pulse."""
    pull, profile = [], []
    for seed in range(25):
        run = rising(np.random.default_rng([27, seed]), seen=seen, **options)
        cell = quality_cells(run, kind="delay_scan")
        found = run_quality(run, cell, along="delay")
        pull.append((found["build_up"] - options.get("build_up", 0.0)) / found["build_up_stderr"])
        value, error = profile_of_burst(run, cell, along="delay")
        profile.append(value / error)
    assert abs(np.mean(pull)) < 4 / np.sqrt(25) + (0.5 if "slope" in options else 0.0)
    assert 0.6 < np.std(pull) < 1.45
    if "build_up" in options:
        assert found["build_up"] > 5 * found["build_up_stderr"]
    else:
        assert np.mean(np.square(profile)) == pytest.approx(1.0, abs=0.3)


def test_a_spectrum_whose_burst_gets_later_is_not_said_to_build_up():
    """Arrival time and pulse index go together: nobody can tell later from stronger."""
    rng = np.random.default_rng(28)
    run = scan(rng, photons=1e5)
    arrival = np.broadcast_to(0.1 * np.linspace(-0.5, 0.5, PULSES), run["drop_reason"].shape)
    growth = 2.0 * arrival * true_delta(run["energy"].values)[:, None]
    run["photons"].values[..., 0] *= np.exp(-growth)
    assert figures(run)["build_up"] > 3 * figures(run)["build_up_stderr"]
    assert np.isnan(figures(run.assign(arrival=(("train", "pulse"), arrival)))["build_up"])


def test_the_profile_follows_the_drift():
    z = []
    for seed in range(20):
        run = scan(np.random.default_rng([23, seed]), drift=0.01)
        value, error = profile_of_burst(run, quality_cells(run, kind="energy_scan"))
        z.append((value - 0.01 * np.linspace(-0.5, 0.5, PULSES)) / error)
    assert np.mean(np.square(z)) == pytest.approx(1.0, abs=4 * np.sqrt(2 / (20 * PULSES)))


def test_one_pulse_per_train_has_no_drift():
    run = make_pulses(np.random.default_rng(24), np.repeat(STEPS, 6), n_pulses=1)
    assert np.isnan(figures(run)["drift"])


def test_spectra_by_pulse_index_are_those_of_their_pulses():
    rng = np.random.default_rng(25)
    runs = [scan(rng, drift=0.02, photons=2e5, first_train=1000 * k) for k in range(2)]
    flat = make_pulses(rng, np.full(80, 528.2), n_pulses=PULSES, photons=2e5)
    groups = pulse_groups(PULSES, 1, 4)
    found = resolved(spectra, runs, groups, [flat_constant([flat], pulses=g) for g in groups])
    whole = spectra(runs, constant=flat_constant([flat]))
    assert found["delta_xas"].dims == ("pulse", "fluence", "delay", "energy")
    xr.testing.assert_equal(found["energy"], whole["energy"])
    xr.testing.assert_equal(found["n_pulses"].sum("pulse"), whole["n_pulses"])
    np.testing.assert_array_equal(found["pulse"], [1, 4, 7, 10])
    true = true_delta(found["energy"]) + 0.02 * (found["pulse"] / (PULSES - 1) - 0.5)
    z = ((found["delta_xas"] - true) / found["delta_xas_stderr"]).values
    assert np.mean(z**2) == pytest.approx(1.0, abs=0.5)
    # a run whose other pulses are left out gives the same
    alone = [r.assign(drop_reason=r["drop_reason"].copy()) for r in runs]
    for run in alone:
        run["drop_reason"].values[:, 3:] = 3
    first = spectra(alone, constant=flat_constant([flat], pulses=groups[0]))
    np.testing.assert_allclose(found["delta_xas"].isel(pulse=0), first["delta_xas"], atol=1e-12)


def test_delay_scans_by_pulse_index_keep_the_bins_of_all_pulses():
    rng = np.random.default_rng(26)
    stage = np.repeat(np.linspace(-0.5, 0.5, 11), 5)
    run = make_pulses(rng, np.full(len(stage), 528.2), n_pulses=4)
    delay = np.broadcast_to(stage[:, None], (len(stage), 4)).copy()
    run = run.assign_coords(delay=(("train", "pulse"), delay), nominal_delay=("train", stage))
    run["drop_reason"].values[:5, 0] = 4
    found = resolved(delay_scans, [run], pulse_groups(4, 1), [(0.0, 0.0)] * 4)
    whole = delay_scans([run])
    xr.testing.assert_equal(found["delay"], whole["delay"])
    assert found["delta_xas"].sizes == {"pulse": 4, "scan": 1, "delay": 11}
    assert np.isnan(found["delta_xas"].isel(pulse=0, scan=0, delay=0))
    assert np.isfinite(found["delta_xas"].isel(pulse=1)).all()


@given(st.integers(1, 800), st.integers(1, 10**6), st.none() | st.integers(2, 900))
def test_groups_hold_every_pulse_once_and_are_of_like_size(n_pulses, bins, wanted):
    groups = pulse_groups(n_pulses, bins, wanted)
    np.testing.assert_array_equal(np.concatenate(groups), np.arange(n_pulses))
    sizes = [len(g) for g in groups]
    assert max(sizes) - min(sizes) <= 1
    if wanted is not None:
        assert len(groups) == min(wanted, n_pulses)
    else:
        assert len(groups) == n_pulses or len(groups) * bins <= 4_000_000 or len(groups) == 2
