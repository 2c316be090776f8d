"""Runs that are not what the config says, and pulses that get lost: told by name, from real files."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.job import load_job
from pipeline.simulate import load_scenario, simulate_scenario
from pipeline.stages.label import LABEL
from pipeline.storage.record import Record
from pipeline.workflow import STAGES, process
from tests.command import trxas
from tests.shared import made_once

IMAGE = "INSTRUMENT/SCS_DET_DSSC1M-1/DET/15CH0:xtdf/image"
STAGE = "CONTROL/SCS_ILH_LAS/MOTOR/LT3/actualPosition/value"
SESSION = Path(__file__).parents[1] / "fuzz" / "session.yaml"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    return made_once(tmp_path_factory, "fuzz", lambda folder: simulate_scenario(load_scenario(SESSION), folder))


class FarEnough(BaseException):
    pass


def labelled(config, out, changes):
    """Process as far as the labels; returns what the stage had to say."""
    jobs = []

    def run(stage, context, number):
        if STAGES.index(stage) > STAGES.index(LABEL):
            jobs.append(context.job)
            raise FarEnough
        stage.run(context, number)

    with pytest.raises(FarEnough):
        process(load_job(config, out, ["frames.keep=none", *changes]), run=run)
    return LABEL.records(jobs[0]).get(LABEL.name, Record).notes


def edit(folder, pattern, change):
    for path in sorted(folder.glob(pattern)):
        with h5py.File(path, "r+") as file:
            change(file)


@pytest.fixture(scope="module")
def said(session, tmp_path_factory):
    """What is said of a session in which run 3 is no delay scan, run 4 has one cell and lacks half of its frames in the second
    sequence, run 5 is no energy scan and its stage broke once, and the dark run lacks two of eight memory cells.
    """
    out = tmp_path_factory.mktemp("checks")
    shutil.copytree(session, out / "session")
    raw = out / "session" / "raw"

    def one_cell(file):
        file[f"{IMAGE}/cellId"][...] = 2

    def half_never_written(file):
        frames = file[f"{IMAGE}/data"][()]
        del file[f"{IMAGE}/data"]
        data = file.create_dataset(f"{IMAGE}/data", frames.shape, "u2", chunks=(1, *frames.shape[1:]))
        data[::2] = frames[::2]

    def broken_stage(file):
        file[STAGE][3] = -1e30

    def other_cells(file):
        cells = file[f"{IMAGE}/cellId"][()]
        file[f"{IMAGE}/cellId"][...] = np.where(cells >= 6, cells + 100, cells)

    edit(raw / "r0001", "*DSSC*", other_cells)
    edit(raw / "r0004", "*DSSC*", one_cell)
    edit(raw / "r0004", "*DSSC*S00001*", half_never_written)
    edit(raw / "r0005", "*DA01*S00000*", broken_stage)
    runs = "{dark: 1, flat_field: 2, energy_scans: [{run: 4, fluence: 16}, {run: 5, fluence: 32}], "
    return labelled(
        out / "session" / "config.yaml", out / "out", [f"runs={runs} delay_scans: [{{run: 3, fluence: 32}}]}}"]
    )


def texts(notes, code, run):
    return [one.text for one in notes if (one.code, one.run) == (code, run)]


def test_the_axis_that_stands_and_the_one_that_moves_are_named(said):
    (text,) = texts(said, "run.wrong_axis", 3)
    assert text == (
        "run 3 is listed as delay scan, but its delay stage stands: the photon energy moves; list it under runs.energy_scans"
    )
    (text,) = texts(said, "run.wrong_axis", 5)
    assert "listed as energy scan, but its photon energy stands: the delay stage moves" in text
    assert "runs.delay_scans" in text
    assert not texts(said, "run.wrong_axis", 4)


def test_pulses_that_are_lost_are_told_with_the_reason(said):
    (text,) = texts(said, "pulses.lost", 3)
    assert "25 % of its pulses are left out (no_calibration): their memory cells are not in the dark run" in text
    (text,) = [one for one in texts(said, "pulses.lost", 4) if "absent" in one]
    assert "their frames were announced and never written" in text


def test_one_memory_cell_is_told(said):
    assert len(texts(said, "pulses.one_cell", 4)) == 1
    assert not texts(said, "pulses.one_cell", 3)


def test_a_reading_that_no_stage_has_is_none(session, tmp_path):
    shutil.copytree(session, tmp_path / "session")
    for value in (-1e30, np.inf, 1e300):

        def broken(file, value=value):
            file[STAGE][3] = value

        edit(tmp_path / "session" / "raw" / "r0005", "*DA01*S00000*", broken)
        done = trxas("inspect", tmp_path / "session" / "raw" / "r0005")
        assert done.returncode == 0, done.stderr
        assert "! delay_stage: SCS_ILH_LAS/MOTOR/LT3 read" in done.stdout
        assert "in 1 of 12 trains; taken as unknown" in done.stdout


def test_a_sound_session_has_none_of_these(session, tmp_path):
    notes = labelled(session / "config.yaml", tmp_path, [])
    # the simulated light is bright
    assert {one.run for one in notes if one.code == "pulses.filtered"} <= {2, 3, 4, 5}
    assert not {one.code for one in notes} & {"run.wrong_axis", "pulses.lost", "pulses.one_cell"}


def test_dark_and_flat_field_that_were_swapped(session, tmp_path):
    swapped = ["runs.dark=2", "runs.flat_field=1"]
    with pytest.raises(
        DataError, match="run 1: no frame has an X-ray pulse, says the bunch pattern: is it the dark run"
    ):
        process(load_job(session / "config.yaml", tmp_path / "a", swapped))
    swapped.append("sources.bunch_pattern=null")
    with pytest.raises(
        DataError, match=r"run 2 has more light than run 1, by \d+ ADU per pixel: are runs\.dark and runs"
    ):
        process(load_job(session / "config.yaml", tmp_path / "b", swapped))


def test_a_key_given_twice_ends_the_command_with_one_line(session, tmp_path):
    text = (session / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text + "delay: {t0: 3}\n")
    (tmp_path / "raw").mkdir()
    done = trxas("process", tmp_path / "config.yaml", home=tmp_path / "home")
    assert done.returncode == 2
    assert "delay: given twice, in lines" in done.stderr
    assert "Traceback" not in done.stderr
