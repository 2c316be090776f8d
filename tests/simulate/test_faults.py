"""Faults on request really are in the files, and only those."""

from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

from pipeline.science import forward
from pipeline.simulate.timetable import build_model, plan_run
from schemas.scenario import grid_values


@pytest.mark.parametrize("number", [22, 23, 24])
def test_missing_trains_are_missing_in_the_detector_only(faults: Any, number: int) -> None:
    run, truth = faults.open(number), faults.run(number)
    spec = next(r for r in faults.scenario.runs if r.run == number)
    assert len(truth["missing_trains"]) == spec.missing_trains > 0
    detector = set(run[faults.frames_source(), "image.data"].drop_empty_trains().train_ids)
    energy = set(run[faults.scenario.sources.energy, faults.scenario.sources.energy_key].train_ids)
    assert energy - detector == set(truth["missing_trains"])
    stored: set[int] = set()
    for path in (faults.out / "raw" / f"r{number:04d}").glob("*DSSC03*.h5"):
        with h5py.File(path) as file:
            stored |= set(file["INDEX/trainId"][:].tolist())
    assert stored == detector


@pytest.mark.parametrize("number", [22, 23, 24])
def test_partial_trains_hold_the_frames_that_the_truth_lists(faults: Any, number: int) -> None:
    run, truth = faults.open(number), faults.run(number)
    spec = next(r for r in faults.scenario.runs if r.run == number)
    assert len(truth["partial_trains"]) == spec.partial_trains > 0
    key = run[faults.frames_source(), "image.pulseId"]
    cells = run[faults.frames_source(), "image.cellId"]
    for train in key.drop_empty_trains().train_ids:
        found = key.select_trains(np.s_[[key.train_ids.index(train)]]).ndarray().ravel().tolist()
        assert found == truth["partial_trains"].get(str(train), truth["pulse_ids"])
        cell = cells.select_trains(np.s_[[cells.train_ids.index(train)]]).ndarray().ravel()
        assert (24 + 4 * cell.astype(int) == found).all()
    lost_inside = [ids for ids in truth["partial_trains"].values() if ids[-1] == truth["pulse_ids"][-1]]
    assert lost_inside, "one partial train should have a hole rather than a cut end"


def test_dark_frames_inside_a_train_have_no_photons_and_no_xray_pulse(faults: Any) -> None:
    run, truth = faults.open(22), faults.run(22)
    dark_ids = sorted(set(truth["pulse_ids"]) - set(truth["xray_pulse_ids"]))
    assert dark_ids == [24, 64]
    data = run[faults.frames_source(), "image.data"].ndarray()[:, 0]
    ids = run[faults.frames_source(), "image.pulseId"].ndarray().ravel()
    x0, x1, y0, y1 = faults.truth["beams"][0]["region"]
    level = np.median(data[:, y0:y1, x0:x1], axis=(1, 2))
    assert level[np.isin(ids, dark_ids)].max() < 46
    assert level[~np.isin(ids, dark_ids)].min() > 46
    names = faults.scenario.sources
    assert (run[names.bunch_pattern, "sase3.nPulses"].ndarray() == 18).all()
    listed = run[names.bunch_pattern, "sase3.pulseIds"].ndarray()[0, :18].tolist()
    assert listed == truth["xray_pulse_ids"]


def test_runs_come_in_sequences(faults: Any) -> None:
    names = sorted(p.name for p in (faults.out / "raw" / "r0023").glob("*.h5"))
    assert names == [f"RAW-R0023-{a}-S0000{i}.h5" for a in ("DA01", "DSSC03") for i in range(2)]


def test_sources_have_the_names_of_the_scenario(faults: Any) -> None:
    run = faults.open(24)
    assert {"SQS_DET_DSSC1M-2/DET/3CH0:xtdf", "SQS_ILH_LAS/MOTOR/DELAY_AX_800"} <= run.all_sources
    assert "actualPosition2.value" in run["SQS_ILH_LAS/MOTOR/DELAY_AX_800"]


def test_trigger_stage_and_arrival_add_up_to_the_delay(faults: Any) -> None:
    run, names, delay = faults.open(24), faults.scenario.sources, faults.scenario.delay
    stage = run[names.delay_stage, names.delay_stage_key].ndarray()
    trigger = run[names.trigger, names.trigger_key].ndarray()
    nominal = delay.sign * (stage - delay.t0) * 6.671281904 - trigger
    np.testing.assert_allclose(nominal, np.repeat(faults.run(24)["delays"], 2), atol=0.01)


def test_arrival_times_jitter_by_train_and_pulse(faults: Any) -> None:
    run, names = faults.open(23), faults.scenario.sources
    arrival = run[names.arrival, names.arrival_key].ndarray()
    lit = arrival[:, 2 * np.array(faults.run(23)["xray_pulse_ids"])]
    others = np.delete(arrival, 2 * np.array(faults.run(23)["xray_pulse_ids"]), axis=1)
    assert (others == 0).all()
    assert lit.mean(axis=1).std() == pytest.approx(40, rel=0.5)
    within = np.sqrt(lit.var(axis=1, ddof=1).mean())
    assert within == pytest.approx(np.hypot(10, 2), rel=0.15)


def test_later_xray_pulses_see_a_longer_delay(faults: Any) -> None:
    exact = {"arrival": {"train_sigma": 100.0, "pulse_sigma": 30.0, "monitor_noise": 0.0}}
    scenario = faults.scenario.model_validate(faults.scenario.model_dump() | exact)
    index = [r.run for r in scenario.runs].index(24)
    plan = plan_run(scenario, index, seed=3)
    roles = list(scenario.beams.order)
    flux = dict(zip(("pumped", "unpumped", "reference"), scenario.beams.flux, strict=True))
    lit = plan.photons[:, plan.lit].astype(float)
    pumped, unpumped = (lit[..., roles.index(k)] / flux[k] for k in ("pumped", "unpumped"))
    nominal = np.repeat(grid_values(scenario.runs[index].delays), 2)
    delay = xr.DataArray(nominal[:, None] + 1e-3 * plan.arrival_read[:, plan.lit], dims=("train", "pulse"))
    expected = forward.trace(build_model(scenario), delay, fluence=32.0)
    np.testing.assert_allclose(-np.log(pumped / unpumped), expected, atol=1e-6)


def test_heating_along_the_burst_is_seen_by_the_pumped_beam_only(faults: Any) -> None:
    scenario = faults.scenario
    heated = scenario.model_validate(scenario.model_dump() | {"burst_od": 0.01})
    cold, hot = (plan_run(s, 2, seed=3).photons[:, -1] for s in (scenario, heated))
    change = -np.log(hot / cold)
    roles = list(scenario.beams.order)
    np.testing.assert_allclose(change[:, roles.index("pumped")], 0.01, atol=1e-6)
    np.testing.assert_array_equal(change[:, roles.index("unpumped")], 0.0)


def test_beams_keep_the_order_of_the_scenario(faults: Any) -> None:
    assert [b["role"] for b in faults.truth["beams"]] == ["reference", "unpumped", "pumped"]
    assert sorted(b["region"][0] for b in faults.truth["beams"]) == [b["region"][0] for b in faults.truth["beams"]]
