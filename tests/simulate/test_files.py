"""The files are what the facility writes: extra-data opens and validates them."""

from typing import Any

import h5py
import numpy as np
import pytest
from extra_data.validation import RunValidator


@pytest.mark.parametrize("name", ["tiny", "faults"])
def test_extra_data_finds_no_problem(name: str, request: pytest.FixtureRequest) -> None:
    sim = request.getfixturevalue(name)
    for run in sim.truth["runs"]:
        RunValidator(str(sim.out / "raw" / f"r{run['run']:04d}")).validate()


def test_a_run_holds_the_expected_sources_and_trains(tiny: Any) -> None:
    run = tiny.open(3)
    names = tiny.scenario.sources
    truth = tiny.run(3)
    assert run.control_sources == {names.energy, names.delay_stage, names.bunch_pattern}
    assert run.instrument_sources == {tiny.frames_source(), names.intensity, names.arrival, names.timeserver}
    assert len(run.train_ids) == truth["n_trains"]
    assert [run.train_ids[0], run.train_ids[-1]] == [truth["first_train_id"], truth["last_train_id"]]
    assert run[names.energy, names.energy_key].units == "eV"
    assert run[names.delay_stage, names.delay_stage_key].units == "mm"
    assert run[names.arrival, names.arrival_key].units == "fs"


def test_frames_have_the_layout_of_a_raw_module(tiny: Any) -> None:
    truth = tiny.run(4)
    with h5py.File(tiny.out / "raw" / "r0004" / "RAW-R0004-DSSC15-S00000.h5") as file:
        image = file[f"INSTRUMENT/{tiny.frames_source()}/image"]
        assert image["data"].shape == (truth["n_frames"], 1, 128, 512)
        assert image["data"].dtype == np.uint16
        assert image["data"].chunks == (1, 1, 128, 512)
        assert {k: image[k].shape for k in ("trainId", "pulseId", "cellId")} == dict.fromkeys(
            ("trainId", "pulseId", "cellId"), (truth["n_frames"], 1)
        )
        assert [image[k].dtype.str for k in ("trainId", "pulseId", "cellId", "length", "status")] == [
            "<u8",
            "<u8",
            "<u2",
            "<u4",
            "<u2",
        ]
        assert file["METADATA/dataFormatVersion"][0] == b"1.3"


def test_pulse_ids_follow_the_scenario_and_the_bunch_pattern_agrees(tiny: Any) -> None:
    run = tiny.open(2)
    ids = run[tiny.frames_source(), "image.pulseId"].ndarray().reshape(-1, 16)
    assert (ids == np.arange(16) * 8).all()
    names = tiny.scenario.sources
    n = run[names.bunch_pattern, "sase3.nPulses"].ndarray()
    assert (n == 16).all()
    assert (run[names.bunch_pattern, "sase3.pulseIds"].ndarray()[:, :16] == ids).all()
    table = run[names.timeserver, "data.bunchPatternTable"].ndarray()
    to_t4d, deflected = (table >> 18) & 0xF == 4, (table >> 27) & 1 == 1
    assert (np.nonzero(to_t4d & deflected)[1].reshape(-1, 16) == ids).all()


def test_a_dark_run_has_no_xray_pulses(tiny: Any) -> None:
    run = tiny.open(1)
    names = tiny.scenario.sources
    assert (run[names.bunch_pattern, "sase3.nPulses"].ndarray() == 0).all()
    assert (run[names.intensity, names.intensity_key].ndarray() == 1.0).all()


def test_the_gas_monitor_uses_one_slot_per_pulse(tiny: Any) -> None:
    names = tiny.scenario.sources
    values = tiny.open(2)[names.intensity, names.intensity_key].ndarray()
    assert values.shape[1] == 1000
    assert (values[:, 16:] == 1.0).all()
    assert values[:, :16].mean() == pytest.approx(tiny.scenario.light.pulse_energy, rel=0.02)


def test_the_stage_and_the_monochromator_go_where_they_should(tiny: Any) -> None:
    names, delay = tiny.scenario.sources, tiny.scenario.delay
    stage = tiny.open(6)[names.delay_stage, names.delay_stage_key].ndarray()
    taken = (stage - delay.t0) * 6.671281904  # 2/c in ps per mm
    np.testing.assert_allclose(taken, tiny.run(6)["delays"], atol=5 * delay.encoder_noise * 6.7)
    steps = tiny.open(3)[names.energy, names.energy_key].ndarray()
    np.testing.assert_allclose(steps, tiny.run(3)["energies"], atol=0.01)
    sweep = tiny.open(4)[names.energy, names.energy_key].ndarray()
    turn = int(sweep.argmax())
    assert (np.diff(sweep[: turn + 1]) > 0).all()
    assert (np.diff(sweep[turn:]) < 0).all()
    assert sweep.min() > 526.5
    assert sweep.max() < 531.1
