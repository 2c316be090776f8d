"""The reader against real files: independent ones of extra-data, simulated ones with known truth, and damaged ones."""

import shutil

import h5py
import numpy as np
import pytest
from extra_data.tests.make_examples import make_scs_run

from pipeline.errors import DataError
from pipeline.euxfel.frame_source import FrameSource
from pipeline.euxfel.reader import open_run
from pipeline.euxfel.run_files import open_files, run_folder
from schemas.datasets.measured import PULSES
from schemas.instrument import RoleOverride, load_instrument
from schemas.reading import parse_config

PROFILE = load_instrument("scs-dssc-boz")


def read_all(run, rows=slice(0, 128)):
    cube = np.zeros((*run.index.row.shape, rows.stop - rows.start, 512), np.uint16)
    with FrameSource(run.number, run.index) as source:
        for block, train, pulse in source.blocks(slice(0, len(run.index.train_id)), rows=rows):
            cube[train, pulse] = block
    return cube


@pytest.fixture
def spoil(tiny, tmp_path):
    """Return a copy of the tiny flat-field run, to be damaged."""
    target = tmp_path / "r0002"
    shutil.copytree(tiny.out / "raw" / "r0002", target)
    return target


def detector_file(folder, sequence=0):
    return next(folder.glob(f"*DSSC*S{sequence:05d}.h5"))


IMAGE = "INSTRUMENT/SCS_DET_DSSC1M-1/DET/15CH0:xtdf/image"
INDEX = "INDEX/SCS_DET_DSSC1M-1/DET/15CH0:xtdf/image"


def test_runs_of_extra_datas_own_mock_detector_are_read(tmp_path):
    make_scs_run(tmp_path)
    profile = PROFILE.with_sources({"frames": RoleOverride(module=3)})
    run = open_run(tmp_path, profile)
    assert run.index.row.shape == (128, 64)
    assert run.index.present.all()
    assert run.index.source == "SCS_DET_DSSC1M-1/DET/3CH0:xtdf"
    assert len(run.files.with_source(run.index.source).__next__().train_ids) == 64


def test_a_run_without_the_module_says_which_there_are(tmp_path):
    make_scs_run(tmp_path)
    with pytest.raises(DataError, match=r"module 21 .*modules there: 0, 1, 2.*sources\.frames\.module"):
        open_run(tmp_path, PROFILE.with_sources({"frames": RoleOverride(module=21)}))


def test_frames_and_labels_are_those_of_extra_data(tiny):
    run = open_run(tiny.out / "raw" / "r0003", PROFILE)
    reference = tiny.open(3)
    expected = reference[tiny.frames_source(), "image.data"].ndarray()[:, 0]
    np.testing.assert_array_equal(read_all(run).reshape(expected.shape), expected)
    energy = reference["SA3_XTD10_MONO/MDL/PHOTON_ENERGY", "actualEnergy"].ndarray()
    np.testing.assert_array_equal(run.labels["energy"], energy)
    np.testing.assert_array_equal(run.labels["train_id"], reference.train_ids)
    assert run.audit == []


def test_partial_and_missing_trains_shift_nothing(faults):
    config = parse_config(
        {"dataset": "x", "runs": {"dark": 21, "energy_scans": [{"run": 23, "fluence": 1}]}, "sources": _sources(faults)}
    )
    run = open_run(faults.out / "raw" / "r0023", PROFILE.with_sources(config.sources))
    truth = faults.run(23)
    missing = len(truth["missing_trains"])
    assert run.counts["missing"] == missing
    assert run.counts["partial"] == len(truth["partial_trains"])
    data = faults.open(23)
    raw = data[faults.frames_source(), "image.data"]
    for train_id, count in list(truth["partial_trains"].items())[:2]:
        train = int(np.flatnonzero(run.labels["train_id"].values == int(train_id))[0])
        assert int(run.index.present[train].sum()) == len(count)
        for near in (train - 1, train, train + 1):
            _, expected = raw.train_from_id(int(run.labels["train_id"][near]))
            cube = read_all(run)[near][run.index.present[near]]
            np.testing.assert_array_equal(cube, expected[:, 0])


def _sources(simulated):
    import yaml

    return yaml.safe_load((simulated.out / "config.yaml").read_text())["sources"]


def test_dark_frames_inside_the_train_are_those_without_a_bunch(faults):
    config = parse_config(
        {"dataset": "x", "runs": {"dark": 21, "energy_scans": [{"run": 23, "fluence": 1}]}, "sources": _sources(faults)}
    )
    run = open_run(faults.out / "raw" / "r0023", PROFILE.with_sources(config.sources))
    truth = faults.run(23)
    lit = np.isin(truth["pulse_ids"], truth["xray_pulse_ids"])
    assert not lit.all()
    np.testing.assert_array_equal(run.labels["dark_frame"].values, np.broadcast_to(~lit, run.index.row.shape))


def test_a_suspect_train_is_left_out_and_counted(spoil):
    with h5py.File(detector_file(spoil), "r+") as file:
        file["INDEX/flag"][5] = 0
    run = open_run(spoil, PROFILE)
    assert run.counts == {"suspect": 1, "missing": 1}
    assert "suspect" in run.audit[0]
    assert len(run.labels["train_id"]) == 19


def test_an_index_that_points_past_the_data_costs_that_train_only(tiny, spoil):
    with h5py.File(detector_file(spoil), "r+") as file:
        file[f"{INDEX}/first"][7] = 10_000
    run = open_run(spoil, PROFILE)
    assert run.counts["truncated"] == 1
    whole = open_run(tiny.out / "raw" / "r0002", PROFILE)
    keep = np.delete(np.arange(20), 7)
    np.testing.assert_array_equal(read_all(run), read_all(whole)[keep])


def test_an_index_that_points_at_another_train_is_noticed(spoil):
    with h5py.File(detector_file(spoil), "r+") as file:
        file[f"{INDEX}/first"][7] = file[f"{INDEX}/first"][8]
    assert open_run(spoil, PROFILE).counts["misindexed"] == 1


def test_frames_that_were_never_written_are_not_zeros(spoil):
    path = detector_file(spoil)
    with h5py.File(path, "r+") as file:
        old = file[f"{IMAGE}/data"]
        shape, values = old.shape, old[: 18 * 16]
        del file[f"{IMAGE}/data"]
        new = file.create_dataset(f"{IMAGE}/data", shape, "u2", chunks=(1, 1, 128, 512))
        new[: 18 * 16] = values
    run = open_run(spoil, PROFILE)
    with FrameSource(run.number, run.index) as source:
        seen = {int(t) for _, train, _ in source.blocks(slice(0, 20), rows=slice(0, 8)) for t in train}
    assert seen == set(range(18))


def test_a_truncated_file_is_named(spoil):
    path = detector_file(spoil)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"run 2: no readable file holds"):
        open_run(spoil, PROFILE)
    problems = open_files(spoil).problems
    assert len(problems) == 1
    assert path.name in problems[0]


def test_a_missing_sequence_is_reported(tiny, faults, tmp_path):
    target = tmp_path / "r0024"
    shutil.copytree(faults.out / "raw" / "r0024", target)
    whole = open_run(target, PROFILE.with_sources(parse_config(_with(faults)).sources))
    detector_file(target, 0).unlink()
    run = open_run(target, PROFILE.with_sources(parse_config(_with(faults)).sources))
    assert run.counts["missing_sequences"] == 1
    assert run.counts["missing"] > whole.counts.get("missing", 0)
    assert any("no sequence 0" in line for line in run.audit)


def _with(simulated):
    runs = {"dark": 21, "energy_scans": [{"run": 23, "fluence": 1}]}
    return {"dataset": "x", "runs": runs, "sources": _sources(simulated)}


def test_a_train_recorded_at_the_end_of_one_file_and_the_start_of_the_next_counts_once(faults, tmp_path):
    target = tmp_path / "r0024"
    shutil.copytree(faults.out / "raw" / "r0024", target)
    first, second = (detector_file(target, k) for k in (0, 1))
    with h5py.File(first) as a, h5py.File(second, "r+") as b:
        last = a["INDEX/trainId"][-1]
        group = next(k for k in b["INSTRUMENT/SQS_DET_DSSC1M-2/DET"])
        b["INDEX/trainId"][0] = last
        rows = b[f"INDEX/SQS_DET_DSSC1M-2/DET/{group}/image/count"][0]
        b[f"INSTRUMENT/SQS_DET_DSSC1M-2/DET/{group}/image/trainId"][: int(rows)] = last
    run = open_run(target, PROFILE.with_sources(parse_config(_with(faults)).sources))
    assert run.counts["duplicate"] == 1
    assert len(np.unique(run.labels["train_id"])) == run.labels.sizes["train"]


def test_a_missing_energy_source_is_nan_and_noted_where_the_source_exists(tiny):
    profile = PROFILE.with_sources({"energy": RoleOverride(key="wrongKey")})
    run = open_run(tiny.out / "raw" / "r0003", profile)
    assert np.isnan(run.labels["energy"]).all()
    assert any("has no wrongKey" in line for line in run.audit)


@pytest.mark.parametrize(
    ("role", "unit", "factor", "kept"),
    [
        ("intensity", "nJ", 1e-3, "uJ"),
        ("intensity", "J", 1e6, "uJ"),
        ("intensity", "1", 1.0, "1"),
        ("arrival", "ns", 1e6, "ps"),
        ("delay_stage", "um", 1e-3, "mm"),
        ("delay_stage", "fs", 1e-3, "ps"),
        ("energy", "keV", 1e3, "eV"),
    ],
)
def test_labels_are_in_the_unit_that_they_say(tiny, role, unit, factor, kept):
    """The files hold eV, mm, fs and uJ; a profile that says otherwise gets other numbers, and never another name."""
    folder = tiny.out / "raw" / "r0006"
    usual = open_run(folder, PROFILE).labels[role]
    found = open_run(folder, PROFILE.with_sources({role: RoleOverride(unit=unit)})).labels[role]
    assert np.isfinite(usual).any()
    np.testing.assert_allclose(found, factor * usual, rtol=1e-12)
    assert found.attrs["units"] == kept
    assert found.attrs["long_name"] == usual.attrs["long_name"]


@pytest.mark.parametrize("role", ["energy", "delay_stage", "trigger", "arrival", "intensity"])
def test_a_unit_that_nobody_checked_is_no_guess(tiny, role):
    unchecked = PROFILE.model_copy(update={role: PROFILE.role(role).model_copy(update={"unit": "furlong"})})
    with pytest.raises(
        DataError, match=rf"run 3: sources\.{role}\.unit: 'furlong' is not a unit of this role; known: "
    ):
        open_run(tiny.out / "raw" / "r0003", unchecked)


def test_labels_are_as_specified(tiny):
    labels = open_run(tiny.out / "raw" / "r0003", PROFILE).labels
    expected = [*("train_id", "pulse_id", "cell_id", "present", "energy", "delay_stage", "trigger", "arrival")]
    expected += ["intensity", "dark_frame", "pulse_slot", "laser", "laser_known"]
    assert set(map(str, labels.variables)) == set(expected)
    faults = [line for line in PULSES.faults(labels) if "is missing" not in line]
    assert faults == []


def test_a_run_that_is_not_there_lists_those_that_are(tiny):
    with pytest.raises(DataError, match=r"run 99: no folder r0099 .*there: 1, 2, 3"):
        run_folder(tiny.out / "raw", 99)


def test_a_folder_without_files_says_so(tmp_path):
    (tmp_path / "r0007").mkdir()
    with pytest.raises(DataError, match=r"run 7: .*holds no \.h5 files"):
        open_files(tmp_path / "r0007")
