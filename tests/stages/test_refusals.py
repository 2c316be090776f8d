"""What stages refuse: runs that do not belong together, beams outside the module, results that are not there."""

from dataclasses import replace

import h5py
import numpy as np
import pytest
import xarray as xr

from pipeline.compute.workers import Workers
from pipeline.errors import ConfigError, DataError
from pipeline.euxfel.reader import open_run
from pipeline.job import load_job
from pipeline.stages import calibrate
from pipeline.stages.base import Context, number_of
from pipeline.stages.bin import BIN, bin_scans
from pipeline.stages.reduce import REDUCE, reduce_raw
from schemas.instrument import load_instrument
from tests.conftest import copy_of
from tests.stages.test_bin import job_in, pulses


def with_frames_of(run, dtype):
    return replace(run, index=replace(run.index, dtype=np.dtype(dtype)))


def test_frames_of_another_kind_than_the_dark_run(tiny):
    run = open_run(tiny.out / "raw" / "r0003", load_instrument("scs-dssc-boz"))
    options = {"keep": None, "cube": None, "workers": 1, "memory": "1GiB"}
    with pytest.raises(DataError, match="run 3: dark run and this run are not both raw or both corrected"):
        reduce_raw(with_frames_of(run, "f4"), xr.Dataset(), **options)


def test_calibration_runs_of_two_kinds(tiny, tmp_path, monkeypatch):
    opened = calibrate._open

    def corrected(job, number):
        run = opened(job, number)
        return with_frames_of(run, "f4") if number == 1 else run

    monkeypatch.setattr(calibrate, "_open", corrected)
    with pytest.raises(DataError, match="runs 1 and 2 are not both raw or both corrected; take them from one folder"):
        calibrate.make_calibration(load_job(tiny.out / "config.yaml", tmp_path))


@pytest.mark.parametrize(
    ("pumped", "error", "message"),
    [
        ([500, 600, 0, 20], ConfigError, r"beams\.pumped: reaches beyond the module of 512 × 128 pixels"),
        ([0, 20, 0, 20], DataError, "calibration of runs 1 and 2: "),
    ],
)
def test_beams_outside_the_module_or_the_light(tiny, tmp_path, pumped, error, message):
    beams = f"beams={{pumped: {pumped}, unpumped: [0, 20, 30, 50], reference: [0, 20, 60, 80]}}"
    with pytest.raises(error, match=message):
        calibrate.make_calibration(load_job(tiny.out / "config.yaml", tmp_path, [beams]))


def test_a_dark_run_of_other_memory_cells(tiny, tmp_path):
    source = copy_of(tiny, tmp_path / "source")
    with h5py.File(next((source / "raw" / "r0001").glob("*DSSC15*.h5")), "r+") as file:
        cells = file["INSTRUMENT/SCS_DET_DSSC1M-1/DET/15CH0:xtdf/image/cellId"]
        cells[...] = cells[...] + 400
    with pytest.raises(DataError, match="run 2: no frame shares a memory cell with the dark run; record another"):
        calibrate.make_calibration(load_job(source / "config.yaml", tmp_path / "out"))


def test_results_that_are_not_there(tmp_path):
    job = job_in(tmp_path)
    context = Context(job, Workers(job.config.compute))
    with pytest.raises(KeyError, match=f"{BIN.name}: not made yet"):
        BIN.recorded_key(context, None)
    with pytest.raises(KeyError, match=f"{REDUCE.name}: not made yet for run 3"):
        REDUCE.recorded_key(context, 3)
    with pytest.raises(ValueError, match=f"the stage {REDUCE.name} is made run by run"):
        number_of(REDUCE, None)


def test_a_dataset_whose_scans_all_failed(tmp_path):
    job = replace(job_in(tmp_path), failed=dict.fromkeys((3, 4, 6), "broken"))
    with pytest.raises(DataError, match="x: no scan holds a pulse that counts"):
        bin_scans(job, {2: pulses()[2]})
