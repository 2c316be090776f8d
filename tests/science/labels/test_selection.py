"""Why a pulse is left out: each reason alone, the first that applies, and thresholds to the photon."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.science.labels.selection import REASONS, count_reasons, select_pulses
from tests.science.pulse_truth import exact_pulses


def run_of(photons=(400.0, 500.0, 1000.0), trains=5):
    return exact_pulses(np.full(trains, 528.0), photons)


def reasons(run, **options):
    return np.array(REASONS)[select_pulses(run, **options).values]


def changed(run, name, where, value):
    run = run.copy(deep=True)
    run[name].values[where] = value
    return run


def test_all_pulses_of_a_good_run_are_used():
    assert (reasons(run_of()) == "used").all()


@pytest.mark.parametrize(
    ("name", "where", "value", "reason"),
    [
        ("present", (1, 2), False, "absent"),
        ("photons", (1, 2, 0), np.nan, "no_calibration"),
        ("photons", (1, 2, 2), 99.0, "low_intensity"),
        ("photons", (1, 2, 0), 0.0, "low_intensity"),
        ("photons", (1, 2, 1), -1.0, "low_intensity"),
        ("n_saturated", (1, 2, 1), 1, "saturated"),
        ("delay", (1, 2), np.nan, "no_delay"),
    ],
)
def test_one_fault_costs_one_pulse(name, where, value, reason):
    found = reasons(changed(run_of(), name, where, value))
    assert found[1, 2] == reason
    assert (found == "used").sum() == found.size - 1


def test_a_train_without_energy_costs_all_its_pulses():
    run = changed(run_of(), "energy", 3, np.nan)
    assert (reasons(run)[3] == "no_energy").all()
    assert (reasons(run, need_energy=False) == "used").all()
    run = changed(run_of(), "delay", (1, 2), np.nan)
    assert (reasons(run, need_delay=False) == "used").all()


def test_the_floor_is_a_part_of_the_median_of_the_reference_beam():
    run = run_of()
    run["photons"].values[:, :, 2] = np.linspace(100, 2000, 20).reshape(5, 4)
    median = np.median(run["photons"].values[:, :, 2])
    found = reasons(run, min_intensity=0.4)
    np.testing.assert_array_equal(found == "low_intensity", run["photons"].values[:, :, 2] <= 0.4 * median)
    # the pumped beam is what is measured: it selects nothing, and without a reference the unpumped one does
    run["photons"].values[:, :, 0] = 1.0
    np.testing.assert_array_equal(reasons(run, min_intensity=0.4), found)
    two = run.isel(beam=[0, 1])
    two["photons"].values[1, 2, 1] = 0.39 * 500
    assert reasons(two, min_intensity=0.4)[1, 2] == "low_intensity"
    assert (reasons(two, min_intensity=0.38) == "used").all()


def test_dark_frames_are_dark_only_where_there_is_no_light():
    """A bunch pattern that is wrong about lit frames does not cost them."""
    run = run_of()
    run["dark_frame"].values[:, 0] = True
    run["photons"].values[1:, 0] = 1.0
    found = reasons(run)
    assert found[0, 0] == "used"
    assert (found[1:, 0] == "dark").all()
    # and they do not pull the floor down
    run["photons"].values[2, 1, 2] = 99.0
    assert reasons(run)[2, 1] == "low_intensity"


def test_the_first_reason_that_applies_is_the_one_that_counts():
    run = run_of()
    run["photons"].values[0] = np.nan
    run["present"].values[0, :2] = False
    run["dark_frame"].values[0, 0] = True
    run["n_saturated"].values[1] = 3
    run["photons"].values[1, 0] = 1.0
    run["energy"].values[1] = np.nan
    run["delay"].values[1:3] = np.nan
    found = reasons(run, exclude_pulses=[12])
    assert found[0].tolist() == ["absent", "absent", "no_calibration", "excluded"]
    assert found[1].tolist() == ["low_intensity", "saturated", "saturated", "excluded"]
    assert found[2].tolist() == ["no_delay", "no_delay", "no_delay", "excluded"]
    assert reasons(run, max_saturated=9)[1, 1] == "no_energy"
    assert reasons(run, max_saturated=8)[1, 1] == "saturated"


def test_a_run_without_light_is_low_as_a_whole():
    run = run_of(photons=(0.0, 0.0, 0.0))
    assert (reasons(run) == "low_intensity").all()
    run["dark_frame"].values[:] = True
    assert (reasons(run) == "dark").all()
    # a floor below zero is none, yet a pulse needs light
    run = run_of(photons=(0.0, 0.0, 0.0)).assign(photons=run["photons"] - 5.0)
    assert (reasons(run) == "low_intensity").all()


def test_the_code_says_what_it_means():
    code = select_pulses(run_of())
    assert code.dtype == np.uint8
    assert code.dims == ("train", "pulse")
    assert code.attrs["flag_meanings"].split() == list(REASONS)
    assert code.attrs["flag_values"] == list(range(len(REASONS)))


@given(st.lists(st.integers(0, len(REASONS) - 1), max_size=60))
def test_every_pulse_is_counted_once(codes):
    found = count_reasons(np.array(codes, np.uint8))
    assert list(found) == list(REASONS)
    assert found == {reason: codes.count(k) for k, reason in enumerate(REASONS)}
