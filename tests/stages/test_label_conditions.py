"""What the config and the bunch pattern say about the pump is held against the data, and a contradiction is said."""

from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.science.labels.condition import OFF, ON, condition_by_pulse, one_condition
from pipeline.stages.label_conditions import conditions, judged
from schemas.config import Config
from tests.science.labels.test_pump_evidence import run_of


def every_second(run):
    return condition_by_pulse(run, [1, 0])


def odd(run):
    return condition_by_pulse(run, [0, 1])


def session(pump, *, by=every_second, fires=None):
    """A job of three scans at two delays, and a flat field; `fires`: slots of the laser's pattern."""
    scans = [{"run": n, "fluence": 8.0} for n in (3, 4, 5)]
    config = Config.model_validate(
        {"dataset": "pumped", "runs": {"dark": 1, "flat_field": 2, "energy_scans": scans}, "pump": pump}
    )
    runs = {2: run_of(20, size=0.0)}
    runs |= {n: run_of(n, by=by, delay=d, size=s) for n, d, s in ((3, 1.0, 0.012), (4, 1.0, 0.012), (5, -1.0, 0.0))}
    if fires is not None:
        laser = np.zeros((120, 200), bool)
        laser[:, fires] = True
        known = {"laser": (("train", "slot"), laser), "laser_known": ("train", np.ones(120, bool))}
        slots = ("pulse", 500 + 8 * np.arange(16))
        runs = {n: run.assign(known).assign_coords(pulse_slot=slots) for n, run in runs.items()}
    runs = {n: run.drop_vars("condition") for n, run in runs.items()}
    return SimpleNamespace(config=config, flat_fields=[2]), runs


def judge(pump, **options):
    job, runs = session(pump, **options)
    choices = conditions(job, runs)
    found, notes = judged(job, choices, lambda choice: choice.of(runs))
    return found, {n.code: n for n in notes}


@pytest.mark.parametrize(
    "pump", [{"pulses": [1, 0]}, {"laser": {"offset": 500}}], ids=["a pattern", "the laser's place"]
)
def test_what_is_true_is_taken_and_told(pump):
    found, notes = judge(pump, fires=np.arange(0, 128, 16))
    np.testing.assert_array_equal(found.found[3][0], [ON, OFF] * 8)
    assert (found.found[2] == OFF).all()
    assert set(notes) == {"condition.found"}
    assert "50%" in notes["condition.found"].text


def test_auto_takes_the_bits_of_the_laser_from_the_first_x_ray_pulse():
    found, notes = judge("auto", fires=np.arange(0, 128, 16))
    np.testing.assert_array_equal(found.found[4][0], [ON, OFF] * 8)
    assert notes["condition.found"].severity == "info"


def test_bits_that_lie_elsewhere_are_put_where_the_data_allow():
    """The bits say every second pulse from slot 0; the sample was pumped by the odd ones."""
    found, notes = judge("auto", by=odd, fires=np.arange(0, 128, 16))
    np.testing.assert_array_equal(found.found[4][0], [OFF, ON] * 8)
    assert notes["condition.laser_moved"].severity == "caution"


def test_a_pattern_that_the_data_contradict_is_a_fault_with_both_readings():
    _, notes = judge({"pulses": [1, 1, 0]})
    assert notes["condition.contradiction"].severity == "fault"
    assert "pump.pulses [1, 1, 0]" in notes["condition.contradiction"].text
    assert "every second of its pulses" in notes["condition.contradiction"].text
    _, notes = judge({"pulses": [0, 1]})
    assert "without pump change" in notes["condition.contradiction"].text


@pytest.mark.parametrize("pump", ["auto", "all"])
def test_a_period_without_any_pattern_is_a_fault(pump):
    found, notes = judge(pump)
    assert (found.found[3] == ON).all()
    assert "every second of its pulses differs" in notes["condition.period"].text


def test_all_pulses_pumped_is_no_news():
    found, notes = judge("auto", by=lambda run: one_condition(run, ON))
    assert (found.found[3] == ON).all()
    assert notes == {}


def test_a_place_of_the_laser_without_any_bits_is_refused():
    job, runs = session({"laser": {"offset": 0}})
    with pytest.raises(DataError, match=r"pump\.laser is given, and no scan has laser bits"):
        conditions(job, runs)
