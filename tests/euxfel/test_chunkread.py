"""Frames come out bit for bit, whatever the layout, and what is not there is said."""

import threading

import h5py
import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.euxfel.chunkread import FrameReader

N, SHAPE = 37, (16, 24)
LAYOUTS = {
    "one frame per chunk": ({"chunks": (1, 1, *SHAPE)}, True, True),
    "many frames per chunk": ({"chunks": (8, 1, *SHAPE)}, True, True),
    "contiguous": ({}, True, True),
    "no extra axis": ({"chunks": (1, *SHAPE)}, True, False),
    "compressed": ({"chunks": (1, 1, *SHAPE), "compression": "gzip"}, False, True),
    "shuffled and checked": ({"chunks": (4, 1, *SHAPE), "shuffle": True, "fletcher32": True}, False, True),
    "parts of frames per chunk": ({"chunks": (5, 1, 8, 24)}, False, True),
}


def _write(path, options, extra_axis=True, dtype="u2", written=N):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 512, (N, *SHAPE)).astype(np.dtype(dtype).newbyteorder("="))
    shape = (N, 1, *SHAPE) if extra_axis else (N, *SHAPE)
    with h5py.File(path, "w") as file:
        data = file.create_dataset("group/data", shape, dtype, **options)
        data[:written] = frames.reshape(shape)[:written]
    return frames


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_reads_as_h5py_does(tmp_path, name):
    options, direct, extra_axis = LAYOUTS[name]
    frames = _write(tmp_path / "a.h5", options, extra_axis)
    with FrameReader(tmp_path / "a.h5", "group/data") as reader:
        assert reader.direct is direct
        assert (reader.n_frames, reader.frame_shape, reader.dtype) == (N, SHAPE, np.uint16)
        for first, count in [(0, N), (5, 11), (36, 1), (7, 0)]:
            np.testing.assert_array_equal(reader.read(first, count), frames[first : first + count])
            np.testing.assert_array_equal(
                reader.read(first, count, rows=slice(3, 12)), frames[first : first + count, 3:12]
            )
        assert not reader.unwritten().any()


def test_a_buffer_is_reused_and_only_as_much_as_needed_of_it(tmp_path):
    frames = _write(tmp_path / "a.h5", {"chunks": (1, 1, *SHAPE)})
    buffer = np.full((10, *SHAPE), 7, np.uint16)
    with FrameReader(tmp_path / "a.h5", "group/data") as reader:
        got = reader.read(4, 6, out=buffer)
    assert np.shares_memory(got, buffer)
    np.testing.assert_array_equal(got, frames[4:10])
    assert (buffer[6:] == 7).all()


def test_a_buffer_that_does_not_fit_is_refused(tmp_path):
    _write(tmp_path / "a.h5", {})
    with FrameReader(tmp_path / "a.h5", "group/data") as reader:
        for out in (
            np.empty((3, *SHAPE), np.uint16),
            np.empty((5, *SHAPE), np.float32),
            np.empty((5, 24, 16), np.uint16),
        ):
            with pytest.raises(ValueError, match="out must be a C-contiguous"):
                reader.read(0, 5, out=out)


@pytest.mark.parametrize("options", [{"chunks": (1, 1, *SHAPE)}, {"chunks": (1, 1, *SHAPE), "compression": "gzip"}])
def test_frames_never_written_are_reported(tmp_path, options):
    frames = _write(tmp_path / "a.h5", options | {"fillvalue": 3}, written=30)
    with FrameReader(tmp_path / "a.h5", "group/data") as reader:
        assert reader.unwritten().tolist() == [False] * 30 + [True] * 7
        assert reader.unwritten(28, 4).tolist() == [False, False, True, True]
        got = reader.read(28, 4)
    np.testing.assert_array_equal(got[:2], frames[28:30])
    assert (got[2:] == 3).all()


def test_a_dataset_never_written_at_all(tmp_path):
    for k, options in enumerate(({}, {"chunks": (4, 1, *SHAPE)})):
        _write(tmp_path / f"{k}.h5", options, written=0)
        with FrameReader(tmp_path / f"{k}.h5", "group/data") as reader:
            assert reader.unwritten().all()
            assert (reader.read(0, N) == 0).all()


def test_threads_share_one_reader(tmp_path):
    frames = _write(tmp_path / "a.h5", {"chunks": (2, 1, *SHAPE)})
    wrong = []
    with FrameReader(tmp_path / "a.h5", "group/data") as reader:

        def work(seed):
            starts = np.random.default_rng(seed).integers(0, N - 5, 200)
            wrong.extend(s for s in starts if not np.array_equal(reader.read(int(s), 5), frames[s : s + 5]))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_other_types_and_byte_orders(tmp_path):
    for dtype, direct in (("f4", True), (">u2", False)):
        frames = _write(tmp_path / "a.h5", {"chunks": (1, 1, *SHAPE)}, dtype=dtype)
        with FrameReader(tmp_path / "a.h5", "group/data") as reader:
            assert reader.direct is direct
            np.testing.assert_array_equal(reader.read(0, N), frames)


def test_ranges_outside_and_truncated_files_are_errors(tmp_path):
    _write(tmp_path / "a.h5", {})
    with FrameReader(tmp_path / "a.h5", "group/data") as reader:
        with pytest.raises(DataError, match="frames 30 to 37 asked for, group/data holds 37"):
            reader.read(30, 8)
        with open(tmp_path / "a.h5", "r+b") as file:  # noqa: PTH123
            file.truncate(10_000)
        with pytest.raises(DataError, match=r"ends at byte \d+, inside frame 30 of group/data; the file is truncated"):
            reader.read(30, 7)


def test_what_is_not_there_is_named(tmp_path):
    _write(tmp_path / "a.h5", {})
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["flat"] = np.zeros((4, 4))
    with pytest.raises(DataError, match="no dataset nowhere"):
        FrameReader(tmp_path / "a.h5", "nowhere")
    with pytest.raises(DataError, match=r"flat has shape \(4, 4\), not \(frames, 1, y, x\)"):
        FrameReader(tmp_path / "a.h5", "flat")
    with pytest.raises(DataError, match=r"b\.h5: cannot be opened as HDF5"):
        FrameReader(tmp_path / "b.h5", "group/data")


def test_a_run_written_by_others_opens(tmp_path):
    make_examples = pytest.importorskip("extra_data.tests.make_examples")
    make_examples.make_scs_run(tmp_path)
    (path,) = list(tmp_path.glob("*DSSC00*S00000.h5"))
    name = "INSTRUMENT/SCS_DET_DSSC1M-1/DET/0CH0:xtdf/image/data"
    with FrameReader(path, name) as reader, h5py.File(path) as file:
        assert reader.frame_shape == (128, 512)
        np.testing.assert_array_equal(reader.read(0, 4), file[name][:4, 0])


def test_a_compressed_chunk_that_is_damaged(tmp_path):
    _write(tmp_path / "a.h5", LAYOUTS["compressed"][0])
    with h5py.File(tmp_path / "a.h5") as file:
        stored = file["group/data"].id.get_chunk_info(4)
    with (tmp_path / "a.h5").open("r+b") as file:
        file.seek(stored.byte_offset)
        file.write(bytes(stored.size))
    with FrameReader(tmp_path / "a.h5", "group/data") as reader:
        reader.read(0, 4)
        with pytest.raises(DataError, match=r"a\.h5: frames from 2 of group/data cannot be read \("):
            reader.read(2, 3)
