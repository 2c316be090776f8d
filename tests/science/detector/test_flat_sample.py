"""The sample of flat-field frames: which frames, cells and pixels, and what the dark part of a sum is."""

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.detector.beams import beam_dataset
from pipeline.science.detector.flat_sample import N_ADU, cell_lookup, expected_dark, flat_sample

Y0, X0, NY, NX = 3, 5, 6, 10
CELLS = np.array([4, 7, 9])
"""Memory cells of the dark run; the last has no frames."""


def dark(bad=()):
    """Return a dark calibration whose level is 10 · (row of the cell) + pixel row, read noise 2 ADU."""
    level = 10.0 * np.arange(3)[:, None, None] + np.arange(Y0, Y0 + NY)[None, :, None] + np.zeros((1, 1, NX))
    flags = np.zeros((NY, NX), np.uint8)
    for y, x in bad:
        flags[y, x] = 1
    return xr.Dataset(
        {
            "dark_mean": (("cell", "y", "x"), level.astype(np.float32)),
            "read_noise": (("y", "x"), np.full((NY, NX), 2.0, np.float32)),
            "bad_pixel": (("y", "x"), flags),
            "n_frames": ("cell", np.array([50, 100, 0])),
        },
        coords={"cell_id": ("cell", CELLS), "y": np.arange(Y0, Y0 + NY), "x": np.arange(X0, X0 + NX)},
    )


def frames(raw=None, *, cell_id=(4, 7), trains=3):
    shape = (trains, len(cell_id))
    raw = np.full((*shape, NY, NX), 100, np.uint16) if raw is None else raw
    return xr.Dataset(
        {"frames": (("train", "pulse", "y", "x"), raw)},
        coords={
            "cell_id": (("train", "pulse"), np.broadcast_to(np.array(cell_id, np.uint16), shape)),
            "present": (("train", "pulse"), np.ones(shape, bool)),
            "y": np.arange(Y0, Y0 + NY),
            "x": np.arange(X0, X0 + NX),
        },
    )


# x0, x1, y0, y1 in module pixels
BEAMS = beam_dataset([(6, 9, 4, 8), (10, 14, 4, 8)])


def test_frames_that_are_present_and_whose_cell_the_dark_run_knows_are_used():
    data = frames(cell_id=(4, 7, 9, 30))
    data["present"].values[1, 1] = False
    sample = flat_sample(data, dark(), BEAMS)
    np.testing.assert_array_equal(sample.use, [0, 1, 4, 8, 9])
    np.testing.assert_array_equal(sample.cell, [0, 1, 0, 0, 1])
    np.testing.assert_array_equal(sample.train, [0, 0, 1, 2, 2])
    assert sample.raw.shape == (12, NY, NX)
    np.testing.assert_array_equal(sample.corners, [[1, 5, 1, 4], [1, 5, 5, 9]])
    np.testing.assert_array_equal(cell_lookup(dark())[[4, 7, 9, 0]], [0, 1, -1, -1])


def test_good_pixels_of_the_beams_are_numbered():
    sample = flat_sample(frames(), dark(bad=[(2, 2)]), BEAMS)
    beam = sample.beam_of
    assert (beam == 0).sum() == 4 * 3 - 1
    assert (beam == 1).sum() == 4 * 4
    assert beam[2, 2] == -1
    assert beam[0, 1] == beam[1, 4] == -1
    # flags of one's own take the place of those of the dark run
    own = xr.zeros_like(dark()["bad_pixel"])
    own.values[1, 5] = 3
    sample = flat_sample(frames(), dark(bad=[(2, 2)]), BEAMS, bad=own)
    assert (sample.beam_of == 0).sum() == 4 * 3
    assert (sample.beam_of == 1).sum() == 4 * 4 - 1


def test_the_mean_image_is_that_of_the_light():
    """Levels of the two cells are taken off by their shares, over more frames than one block holds."""
    rng = np.random.default_rng(2)
    light = rng.integers(0, 50, (40, 2, NY, NX))
    level = dark()["dark_mean"].values[:2].astype(int)
    sample = flat_sample(frames((light + level).astype(np.uint16), trains=40), dark(), BEAMS)
    np.testing.assert_allclose(sample.mean_image(), light.mean(axis=(0, 1)))
    keep = np.arange(80) % 4 == 1
    np.testing.assert_allclose(sample.taking(keep).mean_image(), light.reshape(80, NY, NX)[keep].mean(axis=0))


def test_blocks_are_whole_trains_where_there_are_enough():
    sample = flat_sample(frames(trains=10), dark(), BEAMS)
    np.testing.assert_array_equal(sample.blocks(5), np.repeat(np.arange(5), 4))
    np.testing.assert_array_equal(sample.blocks(10), np.repeat(np.arange(10), 2))
    np.testing.assert_array_equal(sample.blocks(11), np.arange(20) % 11)


def test_saturation_counts_good_pixels_of_beams():
    raw = np.full((3, 2, NY, NX), 100, np.uint16)
    raw[0, 0, 2, 2] = 255
    raw[0, 1, 0, 0] = 255
    raw[1, 0, 1, 1] = 254
    raw[2, 1, 4, 8] = 300
    found = flat_sample(frames(raw), dark(bad=[(2, 2)]), BEAMS).saturated(255)
    np.testing.assert_array_equal(found, [False, False, False, False, False, True])
    found = flat_sample(frames(raw), dark(), BEAMS).saturated(254)
    np.testing.assert_array_equal(found, [True, False, True, False, False, True])


def test_what_the_finite_dark_run_leaves_uncertain():
    """Three frames of the cell with 50 dark frames, six of that with 100: shares 1/3 and 2/3."""
    data = frames(cell_id=(4, 7, 7))
    sample = flat_sample(data, dark(bad=[(2, 2)]), BEAMS)
    group = sample.beam_of
    per_pixel = ((1 / 3) ** 2 / 50 + (2 / 3) ** 2 / 100) * 2.0**2
    np.testing.assert_allclose(sample.offset_sigma(group, 2), np.sqrt(per_pixel * np.array([11, 16])))
    assert sample.dark_doubt() == pytest.approx(2 / 9 / 50 + 2 / 9 / 100)


def test_group_sums_have_no_dark_part():
    """The sum of the squares of Gaussian noise about its level is level² + σ², pixel by pixel."""
    sample = flat_sample(frames(), dark(), BEAMS)
    adu = np.arange(N_ADU, dtype=float)
    tables = np.stack([adu, adu**2], axis=1)
    found = sample.group_sums(sample.beam_of, 2, tables)
    assert found.shape == (6, 2, 2)
    rows = np.arange(4, 8)
    for k, cell in enumerate((0, 1)):
        level = 10.0 * cell + rows
        for b, width in enumerate((3, 4)):
            np.testing.assert_allclose(found[k, b, 0], width * np.sum(100 - level))
            # the straight lines between entries of the table are above the parabola by a sixth at most
            np.testing.assert_allclose(found[k, b, 1], width * np.sum(100**2 - level**2 - 4.0), atol=width * 4 * 0.25)


def test_the_mean_of_a_table_over_noise():
    adu = np.arange(N_ADU, dtype=float)
    mean, sigma = np.array([40.0, 60.5, 0.5]), np.array([2.0, 0.0, 1.0])
    np.testing.assert_allclose(expected_dark(3 * adu + 1, mean, sigma), 3 * mean + 1)
    np.testing.assert_allclose(expected_dark(adu**2, mean, sigma)[0], 40.0**2 + 4.0, atol=0.2)
    np.testing.assert_allclose(expected_dark(adu**2, mean, sigma)[1], 0.5 * (60**2 + 61**2))
    # a pixel whose noise is not known has none
    np.testing.assert_allclose(expected_dark(adu**2, mean[:1], np.array([np.nan])), 1600.0)
    # at 0 ADU half of the noise is below: the table goes on straight there
    assert expected_dark(2 * adu, np.array([0.0]), np.array([1.0])) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"y": Y0 - 1}, "does not cover rows 2..7"),
        ({"x": X0 + 1}, r"columns 6\.\.15 of the frames"),
        ({"cells": (30, 31)}, "no flat-field frame has a memory cell that the dark run holds"),
        ({"beams": (6, 9, 2, 8)}, "a beam reaches outside"),
        ({"beams": (6, 9, 4, 10)}, "a beam reaches outside"),
        ({"beams": (4, 9, 4, 8)}, "a beam reaches outside"),
        ({"beams": (6, 16, 4, 8), "second": (17, 19, 4, 8)}, "a beam reaches outside"),
    ],
)
def test_what_does_not_belong_together_is_refused(change, message):
    data = frames(cell_id=change.get("cells", (4, 7)))
    if "y" in change:
        data = data.assign_coords(y=np.arange(change["y"], change["y"] + NY))
    if "x" in change:
        data = data.assign_coords(x=np.arange(change["x"], change["x"] + NX))
    beams = beam_dataset([change["beams"], change.get("second", (10, 14, 4, 8))]) if "beams" in change else BEAMS
    with pytest.raises(DataError, match=message):
        flat_sample(data, dark(), beams)
