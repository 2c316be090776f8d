"""The sign of every part of the delay, each alone and all together."""

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.labels.timing import PS_PER_MM, pulse_delay


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


@pytest.mark.parametrize("unit", ["um", "s", None])
def test_a_stage_of_another_unit_is_no_time(unit):
    data = labels([120.0])
    data["delay_stage"].attrs = {} if unit is None else {"units": unit}
    with pytest.raises(
        DataError, match=rf"delay_stage: units {unit!r} found, mm or ps expected; .*sources\.delay_stage\.unit"
    ):
        pulse_delay(data)
