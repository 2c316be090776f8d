"""What is injected must be reported, and what is not there must not."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import kstest

from pipeline.science.labels.roles import assign_roles
from pipeline.science.labels.selection import REASONS, count_reasons, select_pulses
from pipeline.science.quality.agreement import compare_runs
from pipeline.science.quality.noise import run_quality, without_photons
from pipeline.science.spectra.scans import quality_cells
from tests.science.pulse_truth import make_pulses
from tests.science.spectra.test_difference import STEPS, true_delta


def scan(rng, *, trains=6, **options):
    energy = np.repeat(STEPS, trains) + rng.normal(0, 0.002, len(STEPS) * trains)
    od = 0.2 + 0.25 * np.exp(-(((energy - 529.2) / 0.6) ** 2))
    return make_pulses(rng, energy, **{"delta": true_delta(energy), "od": od, **options})


def quality(run):
    return run_quality(run, quality_cells(run, kind="energy_scan"))


def test_at_the_photon_limit_the_ratio_is_one_and_null_tests_are_uniform():
    rng = np.random.default_rng(0)
    found = [quality(scan(rng)) for _ in range(40)]
    assert np.mean([f["noise_ratio"] for f in found]) == pytest.approx(1.0, abs=0.01)
    assert kstest([f["null_p"] for f in found], "uniform").pvalue > 1e-3
    drift = np.array([f["drift"] / f["drift_stderr"] for f in found])
    assert np.std(drift) == pytest.approx(1.0, abs=0.3)
    assert abs(drift.mean()) < 0.6


def test_a_drift_along_the_burst_is_found():
    found = quality(scan(np.random.default_rng(1), drift=0.01, photons=2e5))
    assert found["drift"] == pytest.approx(0.01, abs=4 * found["drift_stderr"])
    assert found["drift"] > 5 * found["drift_stderr"]


def test_a_difference_between_odd_and_even_trains_is_found():
    rng = np.random.default_rng(2)
    run = scan(rng, photons=2e5)
    odd = run["train_id"] % 2 == 1
    run["photons"] = run["photons"] * xr.where((run["beam"] == "pumped") & odd, 1.01, 1.0)
    assert quality(run)["null_p"] < 1e-6


def test_a_run_with_another_normalisation_is_named():
    rng = np.random.default_rng(3)
    runs = {n: scan(rng, first_train=1000 * n) for n in range(4)}
    clean = compare_runs(runs, {})
    assert all(abs(f["offset"]) < 4 * f["offset_stderr"] for f in clean.values())
    assert all(abs(f["normalisation"]) < 4 * f["normalisation_stderr"] for f in clean.values())
    assert np.mean([f["agreement_chi2"] for f in clean.values()]) == pytest.approx(1.0, abs=0.5)
    runs[2]["photons"] = runs[2]["photons"] * xr.where(runs[2]["beam"] == "pumped", 0.99, 1.0)
    found = compare_runs(runs, {})
    worst = max(found, key=lambda n: abs(found[n]["offset"]) / found[n]["offset_stderr"])
    assert worst == 2
    assert found[2]["offset"] == pytest.approx(0.01, abs=4 * found[2]["offset_stderr"])
    assert found[2]["offset"] > 5 * found[2]["offset_stderr"]
    other_delay = runs[0].assign_coords(nominal_delay=runs[0]["nominal_delay"] + 3)
    assert np.isnan(compare_runs({0: other_delay, 1: runs[1]}, {})[0]["offset"])


def neutral(run):
    return run.assign_coords(beam=["a", "b", "c"])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (0, 2, 1)])
def test_beams_are_told_apart_in_any_order(order):
    rng = np.random.default_rng(4)
    roles = ["pumped", "unpumped", "reference"]
    early = scan(rng, delta=0.0, delay=-1.0)
    late = scan(rng, delay=0.5, photons=1e5)
    runs = [neutral(r.isel(beam=list(order))) for r in (early, late)]
    found, _ = assign_roles(runs, None, roles)
    assert found == [roles[k] for k in order]


def test_without_a_pump_effect_the_usual_order_is_kept_and_said():
    rng = np.random.default_rng(5)
    runs = [neutral(scan(rng, delta=0.0, delay=d)) for d in (-1.0, 0.5)]
    found, notes = assign_roles(runs, None, ["pumped", "unpumped", "reference"])
    assert found == ["pumped", "unpumped", "reference"]
    assert [n.code for n in notes] == ["beams.no_pump_response"]


def test_every_pulse_has_exactly_one_reason():
    rng = np.random.default_rng(6)
    run = make_pulses(rng, np.full(50, 528.0))
    run["present"].values[0] = False
    run["photons"].values[0] = np.nan
    run["dark_frame"].values[:, 0] = True
    run["photons"].values[1:, 0] = 3.0
    run["n_saturated"].values[2, 3] = (0, 2, 0)
    run["energy"].values[4] = np.nan
    run["photons"].values[5, 5] = (100.0, 100.0, 100.0)
    run["delay"].values[6, 6] = np.nan
    code = select_pulses(run, exclude_pulses=[int(run["pulse_id"][7])])
    counts = count_reasons(code.values)
    assert sum(counts.values()) == 50 * 20
    assert counts["absent"] == 20
    assert counts["dark"] == 49
    assert counts["excluded"] == 49
    assert counts["no_energy"] == 18
    assert counts["no_delay"] == 1
    assert REASONS[int(code[2, 3])] == "saturated"
    assert REASONS[int(code[5, 5])] == "low_intensity"
    assert counts["used"] > 700


def test_a_sweep_beside_a_step_scan_is_not_a_difference():
    rng = np.random.default_rng(8)
    steps = {n: scan(rng, first_train=1000 * n, photons=2e5) for n in range(2)}
    energy = np.linspace(STEPS[0], STEPS[-1], 90)
    od = 0.2 + 0.25 * np.exp(-(((energy - 529.2) / 0.6) ** 2))
    sweep = make_pulses(rng, energy, delta=true_delta(energy), od=od, photons=2e5, first_train=9000)
    found = compare_runs({**steps, 2: sweep}, {})
    for figures in found.values():
        assert abs(figures["offset"]) < 4.5 * figures["offset_stderr"]
        assert abs(figures["normalisation"]) < 4.5 * figures["normalisation_stderr"] + 2e-4


def test_without_the_number_of_photons_differences_stay():
    names = ("photons_pumped", "delta_xas_stderr_shot", "noise_ratio", "stderr_ratio_mean", "delta_xas", "null_chi2")
    before = xr.Dataset({n: ("energy", np.ones(2)) for n in names})
    after = without_photons(before)
    assert [n for n in names if np.isnan(after[n]).all()] == list(names[:4])
    assert (after[["delta_xas", "null_chi2"]] == 1).all()
