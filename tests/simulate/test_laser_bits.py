"""The pump laser in the bunch pattern, read with the facility's own package, and everything together."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from euxfel_bunch_pattern import PPL_BITS, indices_at_laser, indices_at_sase
from extra_data.validation import RunValidator

from pipeline.simulate.session import plan_session
from pipeline.simulate.timetable import plan_run
from schemas.scenario import Scenario


def table(sim: Any, run: int) -> np.ndarray:
    return sim.open(run)[sim.scenario.sources.timeserver, "data.bunchPatternTable"].ndarray()


def test_laser_xray_and_detector_count_from_different_starts(beamtime_tiny: Any) -> None:
    sim = beamtime_tiny
    said = np.array([list(train) for train in sim.run(4)["pumped"]]) == "1"
    assert 0 < (~said[:, ::2]).sum() < 20
    assert not said[:, 1::2].any()
    for pattern, train in zip(table(sim, 4), said, strict=True):
        assert (indices_at_laser(pattern, PPL_BITS.LP_SCS) == 8 * np.flatnonzero(train)).all()
        assert (indices_at_sase(pattern, 3) == 1046 + 8 * np.arange(14)).all()
    ids = sim.open(4)[sim.frames_source(), "image.pulseId"].ndarray().reshape(-1, 16)
    assert (ids == 8 * np.arange(16)).all()


def test_the_decoder_lists_the_laser_beside_the_xrays(beamtime_tiny: Any) -> None:
    run, decoder = beamtime_tiny.open(6), beamtime_tiny.scenario.sources.bunch_pattern
    n, ids = run[decoder, "laser.nPulses"].ndarray(), run[decoder, "laser.pulseIds"].ndarray()
    for pattern, count, slots in zip(table(beamtime_tiny, 6), n, ids, strict=True):
        assert slots[:count].tolist() == indices_at_laser(pattern, PPL_BITS.LP_SCS).tolist()
        assert not slots[count:].any()
    assert (run[decoder, "sase3.pulseIds"].ndarray()[:, :14] == 1046 + 8 * np.arange(14)).all()


@pytest.mark.parametrize("run", [1, 2, 3, 8, 9])
def test_the_laser_is_off_where_it_should_be(beamtime_tiny: Any, run: int) -> None:
    assert all(indices_at_laser(p, PPL_BITS.LP_SCS).size == 0 for p in table(beamtime_tiny, run))
    assert (beamtime_tiny.open(run)[beamtime_tiny.scenario.sources.bunch_pattern, "laser.nPulses"].ndarray() == 0).all()


def test_odd_pulses_can_be_pumped_by_shots_that_start_in_slot_0() -> None:
    scenario = Scenario.model_validate(
        {
            "name": "odd",
            "machine": {"pulses_per_train": 6, "pulse_id_step": 4},
            "pump": {"pulses": [0, 1]},
            "laser": {"recorded": True, "first_slot": -4},
            "runs": [{"run": 1, "kind": "energy_scan", "fluence": 8.0, "delay": 1.0, "energies": [528.0]}],
        }
    )
    plan = plan_run(scenario, 0, seed=1)
    assert plan.laser_slot[plan.conditions.pumped[0]].tolist() == [0, 8, 16]
    assert plan.xray_slot[plan.conditions.pumped[0]].tolist() == [4, 12, 20]


def test_all_effects_at_once_are_what_the_truth_says(beamtime_tiny: Any) -> None:
    sim = beamtime_tiny
    flux = dict(zip(("pumped", "unpumped"), sim.scenario.beams.flux, strict=False))
    pumped, unpumped = (sim.scenario.beams.order.index(role) for role in ("pumped", "unpumped"))
    for run in (2, 3, 4, 6, 9):
        said = sim.run(run)
        index = [r.run for r in sim.scenario.runs].index(run)
        plan = plan_run(sim.scenario, index, sim.scenario.seed)
        photons = plan.photons[:, plan.lit].astype(float)
        measured = -np.log(photons[..., pumped] / photons[..., unpumped]) + np.log(flux["pumped"] / flux["unpumped"])
        od = np.array(said.get("od_unpumped", said.get("od")))
        film, drift = np.array(said["film_ratio"]), np.array(said["ratio_drift_od"])
        off = (film - 1.0) * od + np.array(said["splitting_od"]) + drift
        on = off + film * np.ravel(said.get("delta_xas", 0.0))
        shots = (np.array([list(train) for train in said["pumped"]]) == "1")[:, plan.lit]
        np.testing.assert_allclose(measured[~shots], np.broadcast_to(off[:, None], shots.shape)[~shots], atol=1e-6)
        # in pumped frames the arrival time of 10 fs moves along the trace
        around = (measured - on[:, None])[shots]
        assert np.abs(around).max(initial=0.0) < 0.02


def test_one_session_is_planned_as_a_whole(beamtime_tiny: Any) -> None:
    scenario = beamtime_tiny.scenario
    runs = plan_session(scenario, scenario.seed)
    assert runs[0].hours[0] == 0.0
    gaps = [b.train_id[0] - a.train_id[-1] for a, b in pairwise(runs)]
    assert set(gaps) == {41}
    film = np.concatenate([r.film for r in runs])
    assert (np.diff(film) <= 0).all()
    assert film[0] == 1.02
    assert film[-1] == pytest.approx(1.02 * (1 - 4 * 0.002))


def test_extra_data_finds_no_problem(beamtime_tiny: Any) -> None:
    for run in beamtime_tiny.truth["runs"]:
        RunValidator(str(beamtime_tiny.out / "raw" / f"r{run['run']:04d}")).validate()
