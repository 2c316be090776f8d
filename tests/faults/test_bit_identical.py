"""Every fault of the table in real files: it is counted, and the photons of all other trains are the same to the bit."""

import shutil

import h5py
import numpy as np
import pytest

from pipeline.euxfel.reader import open_run
from pipeline.job import load_job
from pipeline.science.detector.crop import crop_to_beams
from pipeline.stages.calibrate import make_calibration
from pipeline.stages.reduce import reduce_raw

DET = "SCS_DET_DSSC1M-1/DET/15CH0:xtdf/image"
RUN = 4  # 46 trains of 16 frames


@pytest.fixture(scope="module")
def job(tiny, tmp_path_factory):
    return load_job(tiny.out / "config.yaml", tmp_path_factory.mktemp("out"))


@pytest.fixture(scope="module")
def calibration(job):
    return make_calibration(job)[0]


def photons(folder, job, calibration):
    run = open_run(folder, job.instrument)
    crop = crop_to_beams(calibration)
    pulses = reduce_raw(run, calibration, keep=crop, cube=None, workers=2, memory="100MiB")
    return run, pulses


@pytest.fixture(scope="module")
def whole(tiny, job, calibration):
    return photons(tiny.out / "raw" / f"r{RUN:04d}", job, calibration)[1]


def rewrite(file, name, values, **options):
    del file[name]
    file.create_dataset(name, data=values, **options)


def drop_train(file):
    file[f"INDEX/{DET}/count"][9] = 0


def cut_train(file):
    file[f"INDEX/{DET}/count"][9] = 11


def suspect_train(file):
    file["INDEX/flag"][9] = 0


def index_past_the_end(file):
    file[f"INDEX/{DET}/first"][9] = 99_999


def index_at_another_train(file):
    file[f"INDEX/{DET}/first"][9] = file[f"INDEX/{DET}/first"][12]


def pulse_twice(file):
    row = int(file[f"INDEX/{DET}/first"][9])
    file[f"INSTRUMENT/{DET}/pulseId"][row + 3] = file[f"INSTRUMENT/{DET}/pulseId"][row + 2]


def zero_frames(file):
    row = int(file[f"INDEX/{DET}/first"][9])
    file[f"INSTRUMENT/{DET}/data"][row : row + 16] = 0


def frames_missing_at_the_end(file):
    n = len(file[f"INSTRUMENT/{DET}/trainId"]) - 5
    for name in ("data", "trainId", "pulseId", "cellId"):
        values = file[f"INSTRUMENT/{DET}/{name}"][:n]
        chunks = (1, *values.shape[1:]) if name == "data" else None
        rewrite(file, f"INSTRUMENT/{DET}/{name}", values, chunks=chunks)


def compressed(file):
    values = file[f"INSTRUMENT/{DET}/data"][()]
    rewrite(file, f"INSTRUMENT/{DET}/data", values, chunks=(1, 1, 128, 512), compression="gzip", compression_opts=1)


def many_frames_per_chunk(file):
    values = file[f"INSTRUMENT/{DET}/data"][()]
    rewrite(file, f"INSTRUMENT/{DET}/data", values, chunks=(32, 1, 128, 512))


def unknown_cell(file):
    row = int(file[f"INDEX/{DET}/first"][9])
    file[f"INSTRUMENT/{DET}/cellId"][row : row + 16] = 700


@pytest.mark.parametrize(
    ("damage", "count", "lost"),
    [
        (drop_train, {"missing": 1}, [9]),
        (cut_train, {"partial": 1}, [9]),
        (suspect_train, {"suspect": 1, "missing": 1}, [9]),
        (index_past_the_end, {"truncated": 1, "missing": 1}, [9]),
        (index_at_another_train, {"misindexed": 1, "missing": 1}, [9]),
        (pulse_twice, {"duplicate_pulse": 1, "partial": 1}, [9]),
        (zero_frames, {}, [9]),
        (frames_missing_at_the_end, {"truncated": 1, "missing": 1}, [45]),
        (compressed, {}, []),
        (many_frames_per_chunk, {}, []),
        (unknown_cell, {}, [9]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_fault_is_counted_and_costs_that_train_only(tiny, tmp_path, job, calibration, whole, damage, count, lost):
    folder = tmp_path / f"r{RUN:04d}"
    shutil.copytree(tiny.out / "raw" / f"r{RUN:04d}", folder)
    path = next(folder.glob("*DSSC*"))
    with h5py.File(path, "r+") as file:
        damage(file)
    run, found = photons(folder, job, calibration)
    assert run.counts == count
    assert len(run.audit) >= len(count)
    untouched = np.delete(whole["train_id"].values, lost)
    here = np.isin(found["train_id"], untouched)
    there = np.isin(whole["train_id"], untouched)
    assert here.sum() == len(untouched)
    for name in ("photons", "photons_stderr", "n_saturated"):
        np.testing.assert_array_equal(found[name].values[here], whole[name].values[there])
    for train in np.flatnonzero(~here):
        if damage in (zero_frames, unknown_cell):
            assert np.isnan(found["photons"].values[train]).all()
    assert int(found["blank"].sum()) == (16 if damage is zero_frames else 0)


def test_corrected_files_give_the_photons_of_the_raw_ones(tiny, tmp_path, job, calibration, whole):
    """CORR files: float32, offset taken off, extra axis dropped, some pixels masked."""
    offset = np.random.default_rng(3).normal(40, 3, (128, 512)).astype(np.float32)
    for number in (1, 2, RUN):
        folder = tmp_path / "proc" / f"r{number:04d}"
        folder.mkdir(parents=True)
        for path in (tiny.out / "raw" / f"r{number:04d}").glob("*.h5"):
            shutil.copy(path, folder / path.name.replace("RAW", "CORR"))
        with h5py.File(next(folder.glob("*DSSC*")), "r+") as file:
            raw = file[f"INSTRUMENT/{DET}/data"][:, 0]
            data = raw.astype(np.float32) - offset
            data[:, 100, 100] = np.nan
            rewrite(file, f"INSTRUMENT/{DET}/data", data, chunks=(1, 128, 512))
    corrected = load_job(
        tiny.out / "config.yaml", tmp_path / "out", [f"raw={tmp_path / 'proc'}", "detector.saturation=320"]
    )
    made, _ = make_calibration(corrected)
    assert made.attrs["corrected_input"] == 1
    found = photons(tmp_path / "proc" / f"r{RUN:04d}", corrected, made)[1]
    ratio = found["photons"].values / whole["photons"].values
    # gain and non-linearity are calibrated anew, so photons agree within their errors, and ratios of beams much better
    assert np.nanmedian(ratio) == pytest.approx(1.0, abs=0.03)
    assert np.nanstd(ratio[..., 0] / ratio[..., 1]) < 6e-4
    with pytest.raises(Exception, match="not both raw or both corrected"):
        photons(tmp_path / "proc" / f"r{RUN:04d}", corrected, calibration)
