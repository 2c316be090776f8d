"""The sign of every part of the delay, each alone and all together."""

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.labels.timing import PS_PER_MM, delay_spread, known_delay, pulse_delay


def labels(stage, *, trigger=np.nan, arrival=np.nan, unit="mm", pulses=3):
    stage = np.atleast_1d(np.asarray(stage, float))
    n = len(stage)
    return xr.Dataset(
        {
            "delay_stage": ("train", stage, {"units": unit}),
            "trigger": ("train", np.broadcast_to(np.asarray(trigger, float), n).copy()),
            "arrival": (("train", "pulse"), np.broadcast_to(np.asarray(arrival, float), (n, pulses)).copy()),
        }
    )


def test_a_millimetre_of_stage_is_6_671_ps():
    assert pytest.approx(6.671, abs=1e-3) == PS_PER_MM
    np.testing.assert_allclose(pulse_delay(labels([121.0]), t0=120.0), PS_PER_MM)


def test_monitors_count_from_their_references():
    data = labels([120.0], trigger=2.0, arrival=0.5)
    found = pulse_delay(data, t0=120.0, trigger_reference=1.5, arrival_reference=0.4)
    np.testing.assert_allclose(found, -0.5 + 0.1)


def test_sign_mirrors_the_stage_only():
    data = labels([121.0], trigger=2.0, arrival=0.5)
    np.testing.assert_allclose(pulse_delay(data, t0=120.0, sign=-1), -PS_PER_MM - 2.0 + 0.5)


def test_a_later_trigger_makes_the_delay_smaller_and_a_later_xray_pulse_larger():
    base = pulse_delay(labels([120.0]), t0=120.0)
    assert (pulse_delay(labels([120.0], trigger=1.5), t0=120.0) - base).values == pytest.approx(-1.5)
    assert (pulse_delay(labels([120.0], arrival=0.2), t0=120.0) - base).values == pytest.approx(0.2)


def test_a_stage_in_time_units_is_not_converted():
    np.testing.assert_allclose(pulse_delay(labels([3.0], unit="ps"), t0=1.0), 2.0)


def test_a_nominal_delay_replaces_stage_and_trigger_but_keeps_the_arrival():
    found = pulse_delay(labels([np.nan], trigger=9.0, arrival=0.1), nominal=0.8)
    np.testing.assert_allclose(found, 0.9)


def test_missing_arrival_leaves_the_other_trains_alone():
    arrival = np.array([[0.1, 0.2], [np.nan, np.nan], [0.3, 0.4]])
    data = labels([120.0] * 3, pulses=2)
    data["arrival"] = (("train", "pulse"), arrival)
    np.testing.assert_allclose(pulse_delay(data, t0=120.0), arrival)
    np.testing.assert_allclose(pulse_delay(data, t0=120.0, use_arrival=False), 0.0)


def test_no_stage_at_all_says_what_to_do():
    with pytest.raises(DataError, match=r"sources\.delay_stage or the run's `delay:`"):
        pulse_delay(labels([np.nan, np.nan]))


def test_a_train_without_trigger_has_no_delay_and_takes_the_trigger_from_no_other():
    found = pulse_delay(labels([120.0, 120.0, 121.0], trigger=[1.5, np.nan, 1.5]), t0=120.0)
    np.testing.assert_allclose(found[:, 0], [-1.5, np.nan, PS_PER_MM - 1.5])


def test_a_run_without_any_trigger_is_used_without():
    data = labels([120.0, 121.0])
    for one in (data, data.drop_vars("trigger")):
        np.testing.assert_allclose(pulse_delay(one, t0=120.0)[:, 0], [0.0, PS_PER_MM])


def test_one_train_without_stage_position_has_no_delay():
    np.testing.assert_allclose(pulse_delay(labels([120.0, np.nan]), t0=120.0)[:, 0], [0.0, np.nan])


def binned(delay, nominal, *, arrival=None, drop_reason=None):
    delay = np.asarray(delay, float)
    pulses = xr.Dataset(
        {
            "drop_reason": (
                ("train", "pulse"),
                np.zeros(delay.shape, np.uint8) if drop_reason is None else drop_reason,
            ),
        },
        coords={"delay": (("train", "pulse"), delay), "nominal_delay": ("train", np.asarray(nominal, float))},
    )
    return pulses if arrival is None else pulses.assign(arrival=(("train", "pulse"), np.asarray(arrival, float)))


def test_a_recorded_arrival_that_the_delay_leaves_out_is_known_all_the_same():
    arrival = np.array([[0.1, -0.1], [0.2, np.nan]])
    nominal = np.array([1.0, 2.0])
    without = binned(np.repeat(nominal[:, None], 2, axis=1), nominal, arrival=arrival)
    # it counts from the mean of those that are there
    mean = 0.2 / 3
    np.testing.assert_allclose(known_delay(without), [[1.1 - mean, 0.9 - mean], [2.2 - mean, 2.0]])
    used = binned(nominal[:, None] + np.nan_to_num(arrival), nominal, arrival=arrival)
    np.testing.assert_allclose(known_delay(used), used["delay"])
    np.testing.assert_array_equal(known_delay(without.drop_vars("arrival")), without["delay"])


def test_the_spread_of_delays_is_their_rms_about_the_mean_of_each_bin():
    # about 0.1 and 1.2: ± 0.1 and ± 0.2; the pulse outside all bins and the one that does not count say nothing
    delay = [[0.0, 0.2, 7.0], [1.0, 1.4, 1.9]]
    code = np.array([[0, 0, 0], [0, 0, 4]], np.uint8)
    run = binned(delay, [0.0, 1.0], drop_reason=code)
    expected = np.sqrt((2 * 0.1**2 + 2 * 0.2**2) / 4)
    assert delay_spread(run, np.array([-0.5, 0.5, 2.0])) == pytest.approx(expected)
    assert np.isnan(delay_spread(run, np.array([20.0, 30.0])))


def test_arrival_that_was_not_used_blurs_the_bin():
    run = binned(np.zeros((2, 2)), [0.0, 0.0], arrival=[[0.1, -0.1], [0.1, -0.1]])
    assert delay_spread(run, np.array([-1.0, 1.0])) == pytest.approx(0.1)


@pytest.mark.parametrize("unit", ["um", "s", None])
def test_a_stage_of_another_unit_is_no_time(unit):
    data = labels([120.0])
    data["delay_stage"].attrs = {} if unit is None else {"units": unit}
    with pytest.raises(
        DataError, match=rf"delay_stage: units {unit!r} found, mm or ps expected; .*sources\.delay_stage\.unit"
    ):
        pulse_delay(data)
