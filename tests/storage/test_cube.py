"""The frames cube: written and read past zarr's own path, and still a plain zarr array."""

import numpy as np
import pytest
import xarray as xr
import zarr

from pipeline.errors import DataError, ProductError
from pipeline.storage import cube


@pytest.fixture
def filled(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 300, (7, 5, 12, 20)).astype(np.uint16)
    labels = xr.Dataset(coords={"train_id": ("train", np.arange(7)), "y": np.arange(12), "x": np.arange(20)})
    path = tmp_path / "frames.zarr"
    shape = dict(zip(("train", "pulse", "y", "x"), frames.shape))
    cube.create_cube(path, labels, shape=shape, chunk=3, attrs={"units": "ADU"})
    padded = np.concatenate([frames, np.zeros((2, *frames.shape[1:]), np.uint16)])
    for number in range(3):
        cube.write_chunk(path, number, np.ascontiguousarray(padded[3 * number : 3 * number + 3]))
    return path, frames


def test_any_zarr_reader_sees_what_was_written(filled):
    path, frames = filled
    np.testing.assert_array_equal(zarr.open_array(path / "frames", mode="r")[:], frames)
    opened = xr.open_zarr(path)
    np.testing.assert_array_equal(opened["frames"], frames)
    assert opened["frames"].chunks[0] == (3, 3, 1)
    assert opened["frames"].attrs["units"] == "ADU"


@pytest.mark.parametrize("whole", [False, True])
def test_chunks_open_a_few_frames_at_a_time(filled, monkeypatch, whole):
    path, frames = filled
    if whole:
        monkeypatch.setattr(cube, "_decode", None)
    assert cube.chunk_trains(path) == 3
    packed = cube.PackedChunk(path, 1, (3, 5, 12, 20))
    flat = frames[3:6].reshape(-1, 12, 20)
    for first, count in ((0, 4), (4, 11), (14, 1), (0, 15)):
        np.testing.assert_array_equal(packed.frames(first, count), flat[first : first + count])


def test_a_block_that_is_not_a_chunk_is_refused(filled):
    path, frames = filled
    with pytest.raises(DataError, match="is not one chunk"):
        cube.write_chunk(path, 0, frames[:2])


def test_a_missing_or_damaged_chunk_is_an_error_and_not_zeros(filled):
    path, _ = filled
    file = path / "frames" / "c" / "1" / "0" / "0" / "0"
    packed = file.read_bytes()
    rng = np.random.default_rng(4)
    for at, bit in zip(rng.integers(len(packed), size=40), rng.integers(8, size=40), strict=True):
        file.write_bytes(packed[:at] + bytes([packed[at] ^ 1 << int(bit)]) + packed[at + 1 :])
        with pytest.raises(ProductError, match=r"chunk 1 cannot be read \(it is damaged\); reprocess --from frames"):
            cube.PackedChunk(path, 1, (3, 5, 12, 20))
        with pytest.raises(Exception, match=r"(?i)checksum"):
            zarr.open_array(path / "frames", mode="r")[3:6]
    file.write_bytes(packed[:40])
    with pytest.raises(ProductError, match=r"chunk 1 cannot be read .*reprocess --from frames"):
        cube.PackedChunk(path, 1, (3, 5, 12, 20)).frames(0, 15)
    file.unlink()
    with pytest.raises(ProductError, match="chunk 1 cannot be read"):
        cube.PackedChunk(path, 1, (3, 5, 12, 20))
