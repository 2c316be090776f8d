"""Which pulses the pump reached, by patterns and by the laser's slots."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.science.labels.condition import (
    OFF,
    ON,
    UNKNOWN,
    condition_by_laser,
    condition_by_pulse,
    condition_by_train,
    laser_offsets,
    one_condition,
)
from tests.science.pulse_truth import exact_pulses


def run_of(trains=4, pulses=6, first_train=1000):
    return exact_pulses(np.full(trains, 528.0), [400.0, 500.0, 1000.0], n_pulses=pulses, first_train=first_train)


def with_laser(run, fires, *, first_slot=1046, step=8, known=None):
    """A run whose X-ray pulses lie from `first_slot`; `fires`: slots of the laser's own pattern."""
    laser = np.zeros((run.sizes["train"], 200), bool)
    laser[:, fires] = True
    slots = first_slot + step * np.arange(run.sizes["pulse"])
    known = np.ones(run.sizes["train"], bool) if known is None else known
    return run.assign(laser=(("train", "slot"), laser), laser_known=("train", known)).assign_coords(
        pulse_slot=("pulse", slots)
    )


def test_a_pattern_over_pulses_repeats_and_does_not_count_frames_without_x_rays():
    run = run_of()
    np.testing.assert_array_equal(condition_by_pulse(run, [1, 0])[0], [ON, OFF] * 3)
    np.testing.assert_array_equal(condition_by_pulse(run, [0, 1, 1])[2], [OFF, ON, ON] * 2)
    dark = run.assign(dark_frame=(("train", "pulse"), np.tile([False, True, False, False, True, False], (4, 1))))
    np.testing.assert_array_equal(condition_by_pulse(dark, [1, 0])[0].values[[0, 2, 3, 5]], [ON, OFF, ON, OFF])
    assert condition_by_pulse(run, [1]).attrs["flag_meanings"] == "on off unknown"


@settings(max_examples=30, deadline=None)
@given(st.sets(st.integers(1000, 1030), min_size=3), st.lists(st.sampled_from([0, 1]), min_size=1, max_size=4))
def test_a_pattern_over_trains_goes_by_train_id_whatever_trains_are_missing(kept, pattern):
    whole = run_of(trains=31)
    some = whole.isel(train=sorted(t - 1000 for t in kept))
    everything = condition_by_train(whole, pattern).assign_coords(train=whole["train_id"].values)
    found = condition_by_train(some, pattern)
    np.testing.assert_array_equal(found, everything.sel(train=some["train_id"].values))
    first = condition_by_train(some, pattern, from_first=True)
    assert (first[0] == (ON if pattern[0] else OFF)).all()


def test_the_laser_lies_where_its_offset_puts_it_and_missed_shots_are_without_pump():
    run = with_laser(run_of(), [0, 16, 32])
    run["laser"].values[2, 16] = False
    found = condition_by_laser(run, 1046)
    np.testing.assert_array_equal(found[0], [ON, OFF] * 3)
    np.testing.assert_array_equal(found[2], [ON, OFF, OFF, OFF, ON, OFF])
    np.testing.assert_array_equal(condition_by_laser(run, 1054)[0], [OFF, ON] * 3)


def test_where_the_pattern_was_not_recorded_the_condition_is_not_known():
    run = with_laser(run_of(), [0, 16, 32], known=np.array([True, False, True, True]))
    found = condition_by_laser(run, 1046)
    assert (found[1] == UNKNOWN).all()
    assert (found[[0, 2, 3]] != UNKNOWN).all()
    without_slot = run.assign_coords(pulse_slot=("pulse", [-1, *run["pulse_slot"].values[1:]]))
    assert (condition_by_laser(without_slot, 1046)[0, 0]) == UNKNOWN


@pytest.mark.parametrize(
    ("fires", "first"),
    [([0, 16, 32], [1046, 1054, 1062]), ([8, 24, 40], [1046, 1038, 1054]), ([1046 - 1000], [])],
    ids=["from slot 0", "odd pulses", "nowhere near"],
)
def test_places_of_the_laser_the_likeliest_first(fires, first):
    found = laser_offsets(with_laser(run_of(), fires))
    if first:
        # slot 0 of the laser's pattern is the first X-ray pulse
        assert found[0] == 1046
        assert set(first) <= set(found)
    else:
        assert all(offset + fires[0] in 1046 + 8 * np.arange(6) for offset in found)


def test_patterns_that_count_the_same_slots_need_no_offset():
    run = with_laser(run_of(), [100, 116, 132], first_slot=100)
    assert laser_offsets(run)[0] == 0 or laser_offsets(run)[0] == 100
    assert 0 in laser_offsets(run)
    assert laser_offsets(with_laser(run_of(), [])) == []


def test_one_condition_is_that_of_all():
    assert (one_condition(run_of(), OFF) == OFF).all()
