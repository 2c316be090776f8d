"""Every refusal of the reader, provoked in real files: what, where, and what to do about it."""

import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from pipeline.errors import ConfigError, DataError
from pipeline.euxfel.draft import check_folder, draft
from pipeline.euxfel.frame_index import detector_source
from pipeline.euxfel.reader import open_run
from pipeline.euxfel.run_files import open_files, raw_folder, run_folder
from schemas.config import Proposal
from schemas.instrument import RoleOverride, load_instrument

PROFILE = load_instrument("scs-dssc-boz")
DETECTOR = "SCS_DET_DSSC1M-1/DET/15CH0:xtdf"


@pytest.fixture
def folder(tiny, tmp_path):
    """Return a copy of the tiny flat-field run."""
    shutil.copytree(tiny.out / "raw" / "r0002", tmp_path / "r0002")
    return tmp_path / "r0002"


def detector(folder):
    return h5py.File(next(folder.glob("*DSSC15*.h5")), "r+")


def test_raw_folders(tmp_path):
    with pytest.raises(ConfigError, match=r"raw: .*nowhere is not a folder; `raw:` is relative to the config file"):
        raw_folder("nowhere", tmp_path)
    with pytest.raises(DataError, match=r"proposal 999999: not found on this machine .*give raw: FOLDER"):
        raw_folder(Proposal(proposal=999999), tmp_path)
    assert raw_folder(".", tmp_path) == tmp_path.resolve()


def test_run_folders(tiny, tmp_path):
    with pytest.raises(DataError, match=r"run 7: no folder r0007 in .*; there: no runs at all"):
        run_folder(tmp_path, 7)
    with pytest.raises(DataError, match=r"nowhere: no such folder; name the folder of one run"):
        open_files(tmp_path / "nowhere")
    raw = tiny.out / "raw"
    with pytest.raises(DataError, match=r"holds runs \(1, 2, 3, .*it is none itself; name one, e\.g\. .*r0001"):
        open_files(raw)
    for k in range(25):
        (tmp_path / f"r{k:04d}").mkdir()
    with pytest.raises(DataError, match=r"there: 0, 1, .*, 19, …$"):
        run_folder(tmp_path, 99)


def test_files_that_all_are_broken(folder):
    for file in folder.glob("*.h5"):
        file.write_bytes(b"not HDF5")
    with pytest.raises(DataError, match=r"run 2: .*none of its 2 files can be read"):
        open_files(folder)


def test_a_key_that_changes_its_shape(tiny, folder):
    second = folder / "RAW-R0002-DA01-S00001.h5"
    shutil.copy(folder / "RAW-R0002-DA01-S00000.h5", second)
    key = "INSTRUMENT/SCS_BLU_XGM/XGM/DOOCS:output/data/intensitySa3TD"
    with h5py.File(second, "r+") as file:
        values = file[key][:, :500]
        del file[key]
        file[key] = values
        file["INDEX/trainId"][...] = file["INDEX/trainId"][...] + 1000
    files = open_files(folder)
    found = files.values("SCS_BLU_XGM/XGM/DOOCS:output", "data.intensitySa3TD")
    assert found.values.shape == (20, 1000)
    (told,) = files.faults
    assert (
        "S00001.h5: SCS_BLU_XGM/XGM/DOOCS:output data.intensitySa3TD has the shape (500,), in most files (1000,)"
        in told
    )


def test_a_detector_that_was_not_recording(folder):
    with detector(folder) as file:
        file[f"INDEX/{DETECTOR}/image/count"][...] = 0
    with pytest.raises(
        DataError, match=r"run 2: .*(no frames; the detector was not recording|every train is empty or suspect)"
    ):
        open_run(folder, PROFILE)


def test_a_run_whose_trains_are_all_suspect(folder):
    with detector(folder) as file:
        file["INDEX/flag"][...] = 0
    with pytest.raises(DataError, match=r"run 2: .*image\.data: (every train is empty or suspect|no frames)"):
        open_run(folder, PROFILE)


@pytest.mark.parametrize("source", ["NO_SUCH/DET/15CH0:xtdf", "NO_SUCH/DET/{module}CH0:xtdf"])
def test_a_run_without_the_detector_says_which_sources_there_are(folder, source):
    with pytest.raises(DataError, match=r"run 2: no source NO_SUCH.*; there: .*; set sources\.frames\.source"):
        open_run(folder, PROFILE.with_sources({"frames": RoleOverride(source=source)}))


def test_a_run_without_any_source():
    empty = SimpleNamespace(run=2, sources=frozenset(), problems=[])
    with pytest.raises(DataError, match=r"run 2: no source DET; there: nothing; set sources\.frames\.source"):
        detector_source(empty, PROFILE.role("frames").model_copy(update={"source": "DET"}))


def test_frames_whose_shape_changes(folder):
    second = folder / "RAW-R0002-DSSC15-S00001.h5"
    shutil.copy(next(folder.glob("*DSSC15*.h5")), second)
    with h5py.File(second, "r+") as file:
        name = f"INSTRUMENT/{DETECTOR}/image/data"
        shape = file[name].shape
        del file[name]
        file[name] = np.zeros((*shape[:2], 16, 16), np.uint16)
        file["INDEX/trainId"][...] = file["INDEX/trainId"][...] + 1000
    run = open_run(folder, PROFILE)
    assert run.index.frame_shape == (128, 512)
    assert len(run.index.train_id) == 20
    assert any(
        "S00001.h5: frames are uint16 (16, 16), in most files uint16 (128, 512); the sequence is left out" in line
        for line in run.audit
    )


def test_folders_that_hold_no_runs(tmp_path, folder):
    with pytest.raises(ConfigError, match=r"nowhere is not a folder; name the folder that holds the runs"):
        check_folder(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"r0002 itself is a run; name the folder above it"):
        check_folder(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"empty holds no runs \(r0001, …\)"):
        check_folder(tmp_path / "empty")


def test_a_folder_without_a_dark_run_or_without_scans(folder):
    with pytest.raises(DataError, match=r"none of the 1 runs is dark.*--set runs\.dark=N"):
        draft(folder.parent, "scs-dssc-boz")
    with pytest.raises(
        DataError, match=r"no run in which the profile's energy or delay stage moves.*`trxas inspect RUN`"
    ):
        draft(folder.parent, "scs-dssc-boz", changes=["runs.dark=1"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["runs"], "--set runs: expected key=value"),
        (["instrument=moonbeam"], "'moonbeam' is neither a profile"),
        (["sources.energy.unit=parsec"], "sources.energy.unit"),
        (["runs.dark=1", "runs.energy_scans=[{run: 2, fluence: 1}]", "kinetics.powr=1"], "kinetics.powr: unknown key"),
    ],
)
def test_changes_that_make_no_config(folder, changes, message):
    with pytest.raises(ConfigError, match=message):
        draft(folder.parent, "scs-dssc-boz", changes=changes)
