"""Spectra, delay scans and where every pulse went, from pulses whose counts are known one by one."""

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.job import Job
from pipeline.science.labels.selection import REASONS
from pipeline.stages.bin import bin_scans, resample_scans
from schemas.instrument import load_instrument
from schemas.reading import parse_config
from tests.science.pulse_truth import exact_pulses

PHOTONS = (400.0, 500.0, 1000.0)
STEPS = np.repeat([528.0, 528.5, 529.0, 529.5], 3)


def job_in(folder, **changes):
    """Return a job of a flat field (2), two energy scans (3, 4) and a delay scan (6), nothing of which is on disk."""
    runs = {
        "dark": 1,
        "flat_field": 2,
        "energy_scans": [{"run": 3, "fluence": 8.0}, {"run": 4, "fluence": 32.0}],
        "delay_scans": [{"run": 6, "fluence": 8.0}],
    }
    config = parse_config({"dataset": "x", "runs": runs, "compute": {"workers": 1}} | changes)
    return Job(config, folder, folder, folder, load_instrument("scs-dssc-boz"))


def pulses(**changes):
    runs = {
        2: exact_pulses(np.full(6, 528.0), (500.0, 500.0, 1000.0), delay=-5.0),
        3: exact_pulses(STEPS, PHOTONS, delay=1.0, fluence=8.0),
        4: exact_pulses(STEPS, PHOTONS, delay=1.0, fluence=32.0),
        6: exact_pulses(np.full(12, 528.5), PHOTONS, delay=np.tile([-1.0, 0.0, 1.0, 2.0], 3), fluence=8.0),
    }
    blank = {n: (("train", "pulse"), np.zeros(r["present"].shape, bool)) for n, r in runs.items()}
    return {n: r.assign(blank=blank[n]) for n, r in runs.items()} | changes


def test_every_reason_is_counted_where_it_belongs(tmp_path):
    """Reason k takes k pulses of a run: no two counts are alike, so that none can stand for another."""
    runs = pulses()
    runs[3] = exact_pulses(np.repeat(STEPS, 4), PHOTONS, delay=1.0, fluence=8.0).assign(
        blank=(("train", "pulse"), np.zeros((48, 4), bool))
    )
    code = np.concatenate([np.full(k, k) for k in range(1, len(REASONS) - 1)])
    runs[3]["drop_reason"].values.flat[: len(code)] = code
    # three pulses that count lie in no bin of energy: two trains below the first, of which all but three do not count
    energy = runs[3]["energy"].values.copy()
    energy[-1] = 700.0
    runs[3] = runs[3].assign_coords(energy=("train", energy))
    runs[3]["drop_reason"].values[-1, 0] = REASONS.index("saturated")
    runs[3]["blank"].values[0, :2] = True
    runs[3]["present"].values[0, 0] = False
    tree, _ = bin_scans(job_in(tmp_path, energy={"bins": {"start": 528.0, "stop": 529.5, "step": 0.5}}), runs)
    quality = tree["quality"].sel(run=3)
    expected = {reason: k for k, reason in enumerate(REASONS) if k > 0}
    expected["saturated"] += 1
    expected["outside_bins"] = 3
    assert {reason: int(quality[f"dropped_{reason}"]) for reason in expected} == expected
    total = runs[3].sizes["train"] * runs[3].sizes["pulse"]
    assert int(quality["pulses_used"]) == total - sum(expected.values())
    assert int(quality["frames_expected"]) == total
    assert int(quality["frames_read"]) == total - 1
    assert int(quality["frames_blank"]) == 2
    # and what the spectra used is what is said to be used
    assert int(tree["spectra"]["n_pulses"].sel(fluence=8.0).sum()) == int(quality["pulses_used"])
    for number in (2, 4, 6):
        other = tree["quality"].sel(run=number)
        assert int(other["pulses_used"]) == runs[number].sizes["train"] * 4, number
        assert all(int(other[f"dropped_{r}"]) == 0 for r in expected), number


def test_the_flat_field_is_taken_off_and_every_scan_is_where_it_belongs(tmp_path):
    tree, notes = bin_scans(job_in(tmp_path), pulses())
    assert notes == []
    assert float(tree["spectra"]["flat_field_constant"]) == 0.0
    np.testing.assert_allclose(tree["spectra"]["delta_xas"], np.log(1.25))
    assert tree["spectra"]["delta_xas"].shape == (2, 1, 4)
    np.testing.assert_allclose(tree["delay_scan"]["delta_xas"], np.log(1.25))
    np.testing.assert_allclose(tree["delay_scan"]["delay"], [-1.0, 0.0, 1.0, 2.0])
    quality = tree["quality"]
    np.testing.assert_array_equal(quality["run"], [2, 3, 4, 6])
    np.testing.assert_array_equal(quality["run_fluence"], [8.0, 8.0, 32.0, 8.0])
    np.testing.assert_array_equal(quality["run_delay"], [np.nan, 1.0, 1.0, np.nan])
    np.testing.assert_allclose(quality["stderr_ratio"].values, 1.0)
    assert set(tree) == {"spectra", "delay_scan", "quality", "reference"}
    # two pump-off runs would have two numbers
    assert set(tree["reference"]["measured_run"].values.tolist()) == {2}


def test_without_a_flat_field_the_delays_before_time_zero_give_the_constant(tmp_path):
    runs = pulses()
    del runs[2]
    early = runs[6]["delay"].values < -0.5
    runs[6]["photons"].values[..., 0] = np.where(early, 450.0, 400.0)
    job = job_in(tmp_path)
    config = job.config.model_copy(update={"runs": job.config.runs.model_copy(update={"flat_field": None})})
    job = Job(config, *(tmp_path,) * 3, job.instrument)
    tree, notes = bin_scans(job, runs)
    assert len(notes) == 1
    constant = float(tree["spectra"]["flat_field_constant"])
    assert constant == pytest.approx(np.log(450 / 500))
    np.testing.assert_allclose(tree["delay_scan"]["delta_xas"], [[0.0, *[np.log(450 / 400)] * 3]], atol=1e-12)
    # nothing before time zero either: an offset that nobody knows
    late = {n: r.assign_coords(delay=r["delay"] + 10, nominal_delay=r["nominal_delay"] + 10) for n, r in runs.items()}
    tree, notes = bin_scans(job, late)
    assert float(tree["spectra"]["flat_field_constant"]) == 0.0
    assert len(notes) == 1


def test_a_flat_field_without_light_names_the_key(tmp_path):
    runs = pulses()
    runs[2]["drop_reason"].values[:] = REASONS.index("low_intensity")
    with pytest.raises(DataError, match=r"runs\.flat_field: no pulse of the flat-field run counts"):
        bin_scans(job_in(tmp_path), runs)


def test_scans_without_a_pulse_that_counts(tmp_path):
    """One kind of scan may fail, said once; all of them may not."""
    runs = pulses()
    runs[6]["drop_reason"].values[:] = REASONS.index("saturated")
    tree, notes = bin_scans(job_in(tmp_path), runs)
    assert tree["delay_scan"]["delta_xas"].size == 0
    assert tree["spectra"]["delta_xas"].size == 8
    assert len(notes) == 1
    assert int(tree["quality"]["dropped_saturated"].sel(run=6)) == 48
    for number in (3, 4):
        runs[number]["drop_reason"].values[:] = REASONS.index("saturated")
    with pytest.raises(DataError, match="x: no pulse of the energy scans falls into a bin"):
        bin_scans(job_in(tmp_path), runs)


def test_encoder_noise_of_steps_does_not_move_the_spectra(tmp_path):
    """Readings scatter while the monochromator stands still; a sweep keeps its own."""
    noisy = np.repeat(STEPS, 2) + 1e-3 * np.random.default_rng(1).standard_normal(24)
    runs = pulses()
    blank = (("train", "pulse"), np.zeros((24, 4), bool))
    runs[3] = exact_pulses(noisy, PHOTONS, delay=1.0, fluence=8.0).assign(blank=blank)
    tree, _ = bin_scans(job_in(tmp_path), runs)
    # all trains of a step are at one energy, and both scans share it
    assert tree["spectra"].sizes["energy"] == 4
    spread = np.abs(tree["spectra"]["energy"].values - [528.0, 528.5, 529.0, 529.5])
    assert spread.max() < 1e-3


def test_pulse_groups_have_their_own_constant(tmp_path):
    """A beam that fades along the train in flat field and scan alike is no signal in any group."""
    runs = pulses()
    fade = np.array([1.0, 0.98, 0.96, 0.94])[:, None] ** np.array([1, 0, 0])
    runs = {n: r.assign(photons=r["photons"] * fade) for n, r in runs.items()}
    tree, _ = bin_scans(job_in(tmp_path, burst={"resolve": True, "groups": 2}), runs)
    for name in ("burst_spectra", "burst_delay_scan"):
        assert tree[name].sizes["pulse"] == 2
        np.testing.assert_allclose(tree[name]["delta_xas"], np.log(1.25), atol=2e-4)
        np.testing.assert_array_equal(tree[name]["first_pulse"], [0, 2])
        np.testing.assert_array_equal(tree[name]["last_pulse"], [1, 3])


def test_replicates_are_of_the_same_bins_as_the_spectra(tmp_path):
    tree, _ = bin_scans(job_in(tmp_path), pulses())
    found = resample_scans(job_in(tmp_path), pulses(), n_draws=3, seed=1)
    assert found.spectra.shape == (3, *tree["spectra"]["delta_xas"].shape)
    # trains that are all alike give the same difference in any draw
    np.testing.assert_allclose(found.spectra, np.log(1.25), rtol=1e-12)
    np.testing.assert_allclose(found.delay_scan, np.log(1.25), rtol=1e-12)
