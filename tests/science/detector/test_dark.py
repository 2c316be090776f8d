"""Dark statistics: exact sums, robust bad pixels."""

import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.science.detector.dark import (
    DEAD,
    HOT,
    NOISY,
    UNRESPONSIVE,
    dark_calibration,
    dark_sums,
    find_unresponsive_pixels,
    merge_dark_sums,
)


def _frames(seed=0, n=60, shape=(8, 12), high=512):
    rng = np.random.default_rng(seed)
    return rng.integers(0, high, (n, *shape)).astype(np.uint16), rng.integers(0, 4, n)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 1000),
    cuts=st.lists(st.integers(0, 60), max_size=4),
    order=st.randoms(use_true_random=False),
)
def test_any_split_into_blocks_in_any_order_gives_the_same_sums(seed, cuts, order):
    frames, cells = _frames(seed)
    whole = dark_sums(frames, cells, 4)
    edges = [0, *sorted(cuts), 60]
    parts = list(itertools.pairwise(edges))
    order.shuffle(parts)
    merged = dark_sums(frames[:0], cells[:0], 4)
    for start, stop in parts:
        merged = merge_dark_sums(dark_sums(frames[start:stop], cells[start:stop], 4), merged)
    for name in ("count", "total", "total_sq"):
        np.testing.assert_array_equal(getattr(merged, name), getattr(whole, name))


def test_sums_go_on_in_place_and_agree_with_numpy():
    frames, cells = _frames(3)
    sums = dark_sums(frames[:20], cells[:20], 4)
    sums = dark_sums(frames[20:], cells[20:], 4, out=sums)
    dark = dark_calibration(sums)
    for cell in range(4):
        mine = frames[cells == cell].astype(float)
        np.testing.assert_allclose(dark["dark_mean"][cell], mine.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(dark["dark_std"][cell], mine.std(axis=0, ddof=1), rtol=1e-6)
        assert dark["n_frames"][cell] == len(mine)


def test_sums_widen_before_they_overflow():
    full = np.full((2, 1, 1), 511, np.uint16)
    sums = dark_sums(full, np.zeros(2, int), 1)
    sums.count[0], sums.total[...], sums.total_sq[...] = 16_447, 16_447 * 511, 16_447 * 511**2
    sums = dark_sums(full, np.zeros(2, int), 1, out=sums)
    assert sums.total_sq.dtype == np.uint64
    sums = merge_dark_sums(sums, sums)
    assert int(sums.total_sq[0, 0, 0]) == 2 * 16_449 * 511**2


def test_a_large_offset_does_not_spoil_the_sigma():
    rng = np.random.default_rng(0)
    frames = (500 + rng.integers(0, 2, (4000, 1, 1))).astype(np.uint16)
    dark = dark_calibration(dark_sums(frames, np.zeros(4000, int), 1))
    assert float(dark["dark_std"][0, 0, 0]) == pytest.approx(frames.std(ddof=1), rel=1e-6)


def test_bad_pixels_are_found_and_no_good_one_is_lost():
    rng = np.random.default_rng(4)
    offset = 40 + 3 * rng.standard_normal((128, 128))
    offset[:64] += 15  # one row of readout chips sits higher: an offset, not a fault
    sigma = np.full((128, 128), 0.8)
    offset[5, 6], offset[70, 80] = 180, 130
    sigma[9, 9], sigma[100, 3] = 6.0, 9.0
    frames = np.clip(np.round(offset + sigma * rng.standard_normal((200, 128, 128))), 0, 255).astype(np.uint16)
    frames[:, 30, 31] = 0
    frames[:, 90, 91] = 44
    flags = dark_calibration(dark_sums(frames, np.arange(200) % 4, 4))["bad_pixel"]
    expected = {(5, 6): HOT, (70, 80): HOT, (9, 9): NOISY, (100, 3): NOISY, (90, 91): DEAD}
    found = {(int(y), int(x)): int(flags[y, x]) for y, x in np.argwhere(flags.values)}
    assert found.pop((30, 31)) & DEAD
    assert found == {k: int(v) for k, v in expected.items()}
    assert flags.dtype == np.uint8
    assert len(flags.attrs["flag_masks"]) == len(flags.attrs["flag_meanings"].split())


def test_a_dark_run_too_quiet_to_move_pixels_condemns_none():
    rng = np.random.default_rng(5)
    offset = 40 + 3 * rng.standard_normal((64, 64))
    frames = np.round(offset + 0.1 * rng.standard_normal((50, 64, 64))).astype(np.uint16)
    flags = dark_calibration(dark_sums(frames, np.zeros(50, int), 1))["bad_pixel"].values
    assert not (flags & DEAD).any()


def test_a_cell_without_frames_is_nan_and_the_others_stand():
    frames, _ = _frames(6, n=20)
    dark = dark_calibration(dark_sums(frames, np.arange(20) % 2, 3), cell_id=np.array([10, 12, 14]))
    assert np.isnan(dark["dark_mean"][2]).all()
    assert np.isfinite(dark["dark_mean"][:2]).all()
    assert dark["cell_id"].values.tolist() == [10, 12, 14]


def test_a_pixel_that_sees_no_light_is_flagged(detector_truth):
    truth = detector_truth()
    image = xr.DataArray((truth.illumination() * truth.sensitivity).sum(axis=0), dims=("y", "x"))
    image = image.assign_coords(y=np.arange(64), x=np.arange(192))
    before = image.copy(deep=True)
    flags = find_unresponsive_pixels(image, truth.beams)
    assert flags[33, 33] == UNRESPONSIVE
    assert int((flags != 0).sum()) == 1
    xr.testing.assert_identical(image, before)


@pytest.mark.parametrize(
    ("frames", "cells", "message"),
    [
        (np.zeros((2, 4, 4), np.float32), [0, 1], r"dark frames must be uint16 \(n, y, x\), got float32"),
        (np.zeros((2, 4, 4), np.uint16), [0], "2 dark frames but 1"),
        (np.zeros((2, 4, 4), np.uint16), [0, 7], "memory cell 7 is outside the 2 cells of the dark run"),
        (np.full((2, 4, 4), 4000, np.uint16), [0, 1], "dark frames hold 4000 ADU, above the 511 of a 9-bit ADC"),
    ],
)
def test_what_is_no_dark_frame_is_refused(frames, cells, message):
    with pytest.raises(DataError, match=message):
        dark_sums(frames, np.array(cells), 2)


def test_no_frames_at_all_is_an_error():
    with pytest.raises(DataError, match="holds no frames"):
        dark_calibration(dark_sums(np.zeros((0, 4, 4), np.uint16), np.zeros(0, int), 2))
