"""Files that are damaged, replaced or no files at all: each is told by name, and costs nothing else."""

import os
import re
import shutil
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
from extra_data.file_access import FileAccess

from pipeline.errors import DataError
from pipeline.euxfel.chunkread import FrameReader
from pipeline.euxfel.exdf_file import ExdfFile
from pipeline.euxfel.file_identity import FileIdentity
from pipeline.euxfel.frame_source import FrameSource
from pipeline.euxfel.raw_folder import files_of
from pipeline.euxfel.reader import open_run
from pipeline.euxfel.run_files import open_files
from pipeline.stages.inventory import _record
from schemas.instrument import load_instrument

PROFILE = load_instrument("scs-dssc-boz")
DETECTOR = "SCS_DET_DSSC1M-1/DET/15CH0:xtdf"
IMAGE = f"INSTRUMENT/{DETECTOR}/image"
COUNTS = f"INDEX/{DETECTOR}/image"
ENERGY = "CONTROL/SA3_XTD10_MONO/MDL/PHOTON_ENERGY/actualEnergy/value"


@pytest.fixture
def folder(tiny, tmp_path):
    """Return a copy of the tiny flat-field run, twenty trains in one sequence."""
    shutil.copytree(tiny.out / "raw" / "r0002", tmp_path / "r0002")
    return tmp_path / "r0002"


@pytest.fixture
def two(folder):
    """Return the run with its second half of the detector's trains in a sequence of its own; the folder of the first."""
    first = next(folder.glob("*DSSC15*.h5"))
    second = folder / first.name.replace("S00000", "S00001")
    shutil.copy(first, second)
    for path, kept in ((first, slice(0, 10)), (second, slice(10, 20))):
        with h5py.File(path, "r+") as file:
            flags = np.zeros(20, np.int32)
            flags[kept] = 1
            file["INDEX/flag"][...] = flags
    return folder


def damaged(path, change):
    with h5py.File(path, "r+") as file:
        change(file)


def replaced(name, values, **options):
    def change(file):
        old = file[name][()] if callable(values) else None
        del file[name]
        file.create_dataset(name, data=values(old) if callable(values) else values, **options)

    return change


def group(name):
    def change(file):
        del file[name]
        file.create_group(name)

    return change


def without(name):
    def change(file):
        del file[name]

    return change


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (without(f"{COUNTS}/count"), r"S00001\.h5: no INDEX/.*/image/count; the sequence is left out"),
        (without(f"INDEX/{DETECTOR}"), r"S00001\.h5: no INDEX/.*/image/first; the sequence is left out"),
        (
            replaced(f"{COUNTS}/count", lambda old: old[:5]),
            r"image has 5 entries for 20 trains; the sequence is left out",
        ),
        (replaced(f"{COUNTS}/first", np.zeros(20)), r"first is no column of whole numbers but float64 \(20,\)"),
        (
            without(f"{IMAGE}/cellId"),
            r"S00001\.h5: SCS_DET.*: there is no image\.cellId for its frames; the sequence is left out",
        ),
        (
            replaced(f"{IMAGE}/pulseId", np.zeros((4, 2), int)),
            r"pulseId is no column of whole numbers but int64 \(4, 2\)",
        ),
        (group(f"{IMAGE}/data"), r"image/data is a group, not a dataset; the sequence is left out"),
        (replaced(f"{IMAGE}/data", np.zeros(7, "S3")), r"image/data is no table of numbers but \|S3 \(7,\)"),
        (replaced(f"{IMAGE}/data", np.zeros((7, 5))), r"image\.data has the shape \(7, 5\), not \(frames, 1, y, x\)"),
        (
            replaced(f"{IMAGE}/data", np.zeros((7, 2, 2), "i4")),
            r"image\.data is int32, neither raw uint16 nor corrected",
        ),
        (replaced(f"{IMAGE}/data", np.zeros((320, 1, 128, 512), "f4")), r"frames are float32 .*, in most files uint16"),
        (without("INDEX/trainId"), r"S00001\.h5: no INDEX/trainId"),
        (replaced("INDEX/flag", np.ones(3, "i4")), r"S00001\.h5: INDEX/flag has 3 entries for 20 trains"),
        (without("METADATA"), r"S00001\.h5: cannot be read \("),
    ],
)
def test_a_damaged_sequence_is_left_out_by_name_and_the_other_is_used(two, change, told):
    damaged(two / "RAW-R0002-DSSC15-S00001.h5", change)
    run = open_run(two, PROFILE)
    assert len(run.index.train_id) == 10
    lines = [line for line in run.audit if re.search(told, line)]
    assert len(lines) == 1, run.audit


def test_fewer_rows_than_the_index_says_cost_only_their_trains(two):
    damaged(two / "RAW-R0002-DSSC15-S00001.h5", replaced(f"{IMAGE}/data", lambda old: old[: 16 * 15]))
    run = open_run(two, PROFILE)
    assert len(run.index.train_id) == 15
    assert run.counts["truncated"] == 5


def test_a_slow_value_of_one_file_that_is_damaged(folder):
    damaged(next(folder.glob("*DA01*.h5")), group(ENERGY))
    run = open_run(folder, PROFILE)
    assert np.isnan(run.labels["energy"]).all()
    assert any("actualEnergy/value is a group, not a dataset; its values are left out" in line for line in run.audit)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: p.mkdir(), "x.h5: is no file but a folder"),
        (os.mkfifo, "x.h5: is no file but a pipe"),
        (lambda p: p.symlink_to("/dev/null"), "x.h5: is no file but a device"),
        (lambda p: p.symlink_to("nowhere.h5"), "x.h5: No such file or directory"),
        (lambda p: p.symlink_to("x.h5"), "x.h5: Too many levels of symbolic links"),
        (lambda p: p.write_bytes(b""), "x.h5: cannot be read"),
    ],
)
def test_what_is_no_file_is_told_and_never_opened(folder, make, told):
    make(folder / "x.h5")
    files = open_files(folder)
    assert len(files.files) == 2
    (problem,) = files.problems
    assert problem.startswith(told)
    # a watcher looks at the same folder
    assert len(files_of(folder)) == 2 + (folder / "x.h5").is_file()


@pytest.mark.parametrize("which", ["frames", "columns", "trains", "count", "slow", "wide", "chunk"])
def test_what_a_file_declares_costs_no_memory(folder, which):
    many = 10**9
    detector, control = next(folder.glob("*DSSC15*.h5")), next(folder.glob("*DA01*.h5"))

    def longer(name):
        def change(file):
            old = file[name][()]
            del file[name]
            file.create_dataset(name, (many,), old.dtype, chunks=(4096,), maxshape=(None,))[: len(old)] = old

        return change

    def columns(file):
        for name in ("trainId", "pulseId", "cellId"):
            file[f"{IMAGE}/{name}"].resize(many, axis=0)

    def wide(file):
        del file[ENERGY]
        file.create_dataset(ENERGY, (20, many), "f8", chunks=(1, 1024))

    def chunk(file):
        del file[ENERGY]
        file.create_dataset(ENERGY, (20, 2), "f8", chunks=(many, 2), maxshape=(None, 2))

    path, change, trains = {
        "frames": (detector, lambda file: file[f"{IMAGE}/data"].resize(many, axis=0), 20),
        "columns": (detector, columns, 20),
        "trains": (detector, longer("INDEX/trainId"), 0),
        "count": (detector, lambda file: file[f"{COUNTS}/count"].write_direct(np.full(20, many, np.uint64)), 0),
        "slow": (control, longer(ENERGY), 20),
        "wide": (control, wide, 20),
        "chunk": (control, chunk, 20),
    }[which]
    damaged(path, change)
    if not trains:
        with pytest.raises(
            DataError, match=r"run 2: .*(most of which were never written|every train is empty or suspect)"
        ):
            open_run(folder, PROFILE)
        return
    run = open_run(folder, PROFILE)
    assert len(run.index.train_id) == trains
    with FrameSource(2, run.index) as source:
        assert sum(len(frames) for frames, *_ in source.blocks(slice(0, 2), rows=slice(0, 4))) == 32
    assert np.isfinite(run.labels["energy"]).all() == (which not in ("wide", "chunk"))
    declared = [
        line for line in run.audit if "actualEnergy/value declares (20, " in line and " in chunks of (1" in line
    ]
    assert len(declared) == (which in ("wide", "chunk"))


def test_a_column_of_trains_that_is_mostly_declared(folder):
    def change(file):
        del file["INDEX/trainId"]
        file.create_dataset("INDEX/trainId", (10**9,), "u8", chunks=(4096,))[:1] = 5

    damaged(next(folder.glob("*DSSC15*.h5")), change)
    (problem,) = open_files(folder).problems
    assert "INDEX/trainId declares 1000000000 entries, most of which were never written" in problem


def test_frames_that_were_never_written_are_counted(folder):
    def change(file):
        old = file[f"{IMAGE}/data"][()]
        del file[f"{IMAGE}/data"]
        file.create_dataset(f"{IMAGE}/data", old.shape, old.dtype, chunks=(1, 1, 128, 512))[:100] = old[:100]

    damaged(next(folder.glob("*DSSC15*.h5")), change)
    assert any("S00000.h5: 220 of its frames were never written" in line for line in open_run(folder, PROFILE).audit)


def test_frames_at_one_place_in_the_file_are_damage(tmp_path, monkeypatch):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=np.ones((3, 1, 4, 4), np.uint16), chunks=(1, 1, 4, 4))
    monkeypatch.setattr(FrameReader, "_chunks", lambda self: (np.arange(3), np.array([9, 50, 50]), np.full(3, 32)))
    with pytest.raises(DataError, match="data: the places of its frames in the file are damaged"):
        FrameReader(tmp_path / "a.h5", "data")


def test_chunks_that_hdf5_cannot_list(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=np.ones((3, 1, 4, 4), np.uint16), chunks=(1, 1, 4, 4))

    def broken(note):
        raise RuntimeError("wrong B-tree signature")

    with FrameReader(tmp_path / "a.h5", "data") as reader:
        reader._dataset = SimpleNamespace(id=SimpleNamespace(chunk_iter=broken))
        with pytest.raises(DataError, match=r"data: its chunks cannot be found \(wrong B-tree signature\)"):
            reader._chunks()


def overwrite(path, other):
    copy = path.with_suffix(".new")
    shutil.copy(other, copy)
    copy.replace(path)


def write_to(path, other):
    with path.open("r+b") as file:
        file.write(file.read(1))
    os.utime(path, ns=(1, 1))


@pytest.mark.parametrize("how", [overwrite, write_to, lambda path, other: path.unlink()])
def test_a_file_that_changes_while_its_run_is_processed_is_named_and_not_read(tiny, folder, how):
    run = open_run(folder, PROFILE)
    path = next(folder.glob("*DSSC15*.h5"))
    how(path, next((tiny.out / "raw" / "r0001").glob("*DSSC15*.h5")))
    told = rf"run 2: .*{path.name}(: No such file| changed while it was processed; process again)"
    with FrameSource(2, run.index) as source, pytest.raises(DataError, match=told):
        list(source.blocks(slice(0, 1), rows=slice(0, 4)))
    with pytest.raises(DataError, match=told):
        run.files.require_unchanged()
    for file in run.files.files:
        file.close()
    reopened = next(f for f in run.files.files if f.path == path)
    with pytest.raises(DataError, match=told.removeprefix("run 2: ")):
        reopened.numbers(f"{IMAGE}/data")


def test_a_file_that_changes_while_a_block_is_read_is_named(tiny, folder):
    run = open_run(folder, PROFILE)
    with FrameSource(2, run.index) as source:
        blocks = source.blocks(slice(0, 2), rows=slice(0, 4), buffer=np.empty((16, 4, 512), np.uint16))
        next(blocks)
        os.utime(next(folder.glob("*DSSC15*.h5")), ns=(1, 1))
        with pytest.raises(
            DataError, match=r"run 2: trains .* cannot be read: .*S00000\.h5 changed while it was processed"
        ):
            list(blocks)


def test_a_new_file_of_the_same_name_is_opened_anew(tiny, folder):
    path = next(folder.glob("*DSSC15*.h5"))
    before = open_run(folder, PROFILE)
    overwrite(path, next((tiny.out / "raw" / "r0001").glob("*DSSC15*.h5")))
    assert len(before.index.train_id) == 20
    assert len(ExdfFile(path).train_ids) == 16


def test_a_file_gone_before_it_is_hashed_is_named(tiny, folder, tmp_path):
    from pipeline.job import load_job

    job = load_job(tiny.out / "config.yaml", tmp_path / "out")
    run = open_run(folder, PROFILE)
    path = next(folder.glob("*DSSC15*.h5"))
    path.unlink()
    with pytest.raises(DataError, match=rf"run 2: .*{path.name}: No such file"):
        _record(job, run)


def test_an_identity_is_the_same_on_all_hosts_of_a_cluster(tmp_path):
    (tmp_path / "a").write_text("a")
    here = FileIdentity.of(tmp_path / "a")
    elsewhere = FileIdentity("node7", here.device + 1, here.inode, here.size, here.mtime_ns)
    here.require("a", elsewhere)
    with pytest.raises(DataError, match="a changed while it was processed"):
        here.require("a", FileIdentity(here.host, here.device + 1, here.inode, here.size, here.mtime_ns))


@pytest.mark.parametrize(
    ("flags", "version", "valid"),
    [
        ([1, 0, 1, 1], b"1.2", [True, False, True, True]),
        ([1, 0, 0, 0], b"1.1", [False, True, True, True]),
        (None, None, [True, True, True, False]),
    ],
)
def test_versions_of_the_format(tmp_path, flags, version, valid):
    path = tmp_path / "RAW-R0001-DA01-S00003.h5"
    with h5py.File(path, "w") as file:
        file["INDEX/trainId"] = np.array([10, 11, 12, 9], np.uint64)
        sources = np.array([b"CONTROL/A/B/C", b"INSTRUMENT/D/E/F:out/data", b""], "S40")
        if version is None:
            file["METADATA/dataSourceId"] = sources
            file["INDEX/A/B/C/first"], file["INDEX/A/B/C/last"] = np.arange(4), np.arange(4)
            file["INDEX/A/B/C/status"] = np.array([1, 1, 0, 1])
        else:
            file["METADATA/dataSources/dataSourceId"] = sources
            file["METADATA/dataFormatVersion"] = np.array([version])
            file["INDEX/flag"] = np.array(flags, "i4")
            file["INDEX/A/B/C/first"], file["INDEX/A/B/C/count"] = np.arange(4), np.array([1, 1, 0, 1])
    found = ExdfFile(path)
    assert (found.control_sources, found.instrument_sources, found.sequence) == ({"A/B/C"}, {"D/E/F:out"}, 3)
    assert found.validity_flag.tolist() == valid
    assert found.index("A/B/C")[1].tolist() == [1, 1, 0, 1]


def test_cells_and_pulse_ids_that_cannot_be(two):
    def backwards(name):
        def change(file):
            ids = file[f"{IMAGE}/{name}"]
            ids[...] = ids[()].reshape(20, 16)[:, ::-1].reshape(-1, 1)

        return change

    damaged(two / "RAW-R0002-DSSC15-S00001.h5", backwards("cellId"))
    assert "160 frames are from another memory cell than most of their pulse id" in open_run(two, PROFILE).audit
    damaged(two / "RAW-R0002-DSSC15-S00000.h5", backwards("pulseId"))
    assert any("S00000.h5: pulse ids fall" in line for line in open_run(two, PROFILE).audit)


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [("pulseId", 2**40, "pulse ids from"), ("cellId", 65535, "memory cells from 0 to 65535")],
)
def test_ids_that_are_none_cost_their_trains(folder, column, value, told):
    def change(file):
        file[f"{IMAGE}/{column}"][5] = value

    damaged(next(folder.glob("*DSSC15*.h5")), change)
    run = open_run(folder, PROFILE)
    assert len(run.index.train_id) == 19
    assert run.counts["misindexed"] == 1
    assert any(told in line for line in run.audit)


def test_a_sound_file_says_what_extra_data_says(tiny):
    """Trains, sources, keys and index of every file of a session."""
    for path in sorted((tiny.out / "raw").glob("r*/*.h5")):
        ours, theirs = ExdfFile(path), FileAccess(str(path))
        np.testing.assert_array_equal(ours.train_ids, theirs.train_ids)
        np.testing.assert_array_equal(ours.valid_train_ids, theirs.valid_train_ids)
        assert ours.control_sources == theirs.control_sources
        assert ours.instrument_sources == theirs.instrument_sources
        for source in ours.sources:
            assert set(ours.keys(source)) == set(theirs.get_keys(source))
            for group in {ours.index_group(source, key) for key in ours.keys(source)}:
                np.testing.assert_array_equal(ours.index(source, group), theirs.get_index(source, group))
        ours.close()
        theirs.close()
