"""What arrival monitor and trigger count from, and which runs are told."""

import numpy as np
import pytest
import xarray as xr

from pipeline.science.labels.monitors import monitor_notes, session_mean
from pipeline.science.labels.timing import PS_PER_MM, pulse_delay


def run(rng, arrival, *, trains=60, pulses=8, jitter=0.03, dark=None, trigger=None):
    """Return pulses at one stage position; arrival: mean [ps] of the monitor, None: not recorded."""
    shape = (trains, pulses)
    dark_frame = np.zeros(shape, bool)
    if dark is not None:
        dark_frame[:, dark] = True
    data = {"dark_frame": (("train", "pulse"), dark_frame)}
    if arrival is not None:
        values = arrival + jitter * rng.standard_normal(shape)
        # the monitor reads nothing where there is no pulse
        data["arrival"] = (("train", "pulse"), np.where(dark_frame, 0.0, values))
    if trigger is not None:
        data["trigger"] = ("train", np.full(trains, float(trigger)))
    stage = ("train", np.full(trains, 121.0), {"units": "mm"})
    coords = {"present": (("train", "pulse"), np.ones(shape, bool)), "delay_stage": stage}
    return xr.Dataset(data, coords=coords)


def test_the_mean_is_that_of_all_pulses_without_dark_frames():
    rng = np.random.default_rng(1)
    runs = {n: run(rng, 0.4, dark=0) for n in (3, 4)}
    lit = np.concatenate([one["arrival"].values[:, 1:].ravel() for one in runs.values()])
    assert session_mean(runs, "arrival") == pytest.approx(lit.mean(), abs=1e-4)
    assert session_mean(runs, "trigger") == 0.0
    assert session_mean({}, "arrival") == 0.0


def test_a_run_whose_monitor_jumped_does_not_move_the_axis_of_the_others():
    rng = np.random.default_rng(2)
    runs = {n: run(rng, 0.4) for n in (3, 4, 5)} | {6: run(rng, 1.4, trains=30)}
    assert session_mean(runs, "arrival") == pytest.approx(0.4, abs=0.005)
    (said,) = monitor_notes(runs, "arrival")
    assert (said.code, said.run) == ("delay.monitor_differs", 6)
    assert "+1000 fs" in said.text or "+999 fs" in said.text or "+1001 fs" in said.text


def test_runs_with_and_without_monitor_land_on_one_axis():
    rng = np.random.default_rng(3)
    runs = {3: run(rng, 0.4), 4: run(rng, None), 5: run(rng, 0.4)}
    reference = session_mean(runs, "arrival")
    for one in runs.values():
        delay = pulse_delay(one, t0=120.0, arrival_reference=reference)
        assert float(delay.mean()) == pytest.approx(PS_PER_MM, abs=0.005)
    (said,) = monitor_notes(runs, "arrival")
    assert (said.code, said.run) == ("delay.monitor_missing", 4)


def test_a_trigger_that_is_the_same_everywhere_cancels_and_one_set_anew_is_told():
    rng = np.random.default_rng(4)
    runs = {3: run(rng, None, trigger=1.5), 4: run(rng, None, trigger=1.5)}
    reference = session_mean(runs, "trigger")
    np.testing.assert_allclose(pulse_delay(runs[3], t0=120.0, trigger_reference=reference), PS_PER_MM)
    assert monitor_notes(runs, "trigger") == []
    runs |= {5: run(rng, None, trigger=1.5), 6: run(rng, None, trigger=11.5, trains=20)}
    assert [(said.code, said.run) for said in monitor_notes(runs, "trigger")] == [("delay.monitor_differs", 6)]
    moved = pulse_delay(runs[6], t0=120.0, trigger_reference=session_mean(runs, "trigger"))
    np.testing.assert_allclose(moved, PS_PER_MM - 10.0)


def test_a_deviation_within_the_jitter_is_not_told():
    rng = np.random.default_rng(5)
    runs = {3: run(rng, 0.4), 4: run(rng, 0.46), 5: run(rng, 0.4)}
    assert monitor_notes(runs, "arrival") == []
    quiet = {n: run(rng, mean, jitter=0.001) for n, mean in ((3, 0.4), (4, 0.46), (5, 0.4))}
    assert [said.run for said in monitor_notes(quiet, "arrival")] == [4]
