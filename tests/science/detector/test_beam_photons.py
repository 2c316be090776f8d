"""The fused reduction: right numbers, the same bits however it is cut."""

import itertools

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ConfigError, DataError
from pipeline.science.detector.assemble import build_calibration
from pipeline.science.detector.beam_photons import (
    border_block,
    prepare,
    reduce_block,
    reduce_frames,
    subtract_intra_train_dark,
)
from pipeline.science.detector.linearity import linear_table


@pytest.fixture(scope="module")
def truth(detector_truth):
    return detector_truth()


@pytest.fixture(scope="module")
def dark(truth):
    return truth.dark(30)


@pytest.fixture(scope="module")
def run(truth, dark):
    return truth.flat(40)


@pytest.fixture(scope="module")
def calibration(truth, dark, run):
    return build_calibration(dark, truth.beams, run[0], gain=truth.gain, nonlinearity=linear_table(np.array([0.05])))


def _raw(seed=0, n=24):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (n, 64, 192)).astype(np.uint16), rng.integers(0, 8, n)


def test_the_kernel_agrees_with_plain_numpy(calibration, dark):
    raw, cell = _raw()
    photons, sigma, n_saturated = reduce_block(raw, cell, calibration)
    table, weight = calibration["linear_adu"].values, calibration["weight"].values.astype(float)
    good = calibration["bad_pixel"].values == 0
    for b in range(3):
        corner = [int(calibration[n][b]) for n in ("y0", "y1", "x0", "x1")]
        box = np.s_[corner[0] : corner[1], corner[2] : corner[3]]
        linear = table[raw][(slice(None), *box)] - table[0]
        level = calibration["dark_adu"].values[cell, b]
        signal = ((linear * weight[box]).sum(axis=(1, 2)) - level) / float(calibration["gain"])
        offset = table[0] * weight[box].sum() / float(calibration["gain"])
        np.testing.assert_allclose(photons[:, b], signal + offset, rtol=2e-6, atol=0.05)
        hot = ((raw[(slice(None), *box)] >= 255) & good[box]).sum(axis=(1, 2))
        np.testing.assert_array_equal(n_saturated[:, b], hot)
    assert (sigma > 0).all()


def test_the_light_at_the_border_is_that_of_the_pixels_there(calibration, truth):
    """Nothing at the border in dark frames, and the light of the outer two rows and columns in others."""
    kernel = prepare(calibration)
    cell = np.arange(160) % truth.n_cells
    dark = border_block(truth.read_out(np.zeros((160, *truth.shape)), cell), cell, kernel)
    light = np.zeros(truth.shape)
    x0, x1, y0, y1 = truth.regions[1]
    light[y0:y1, x0:x1] = 20.0
    light[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2] = 60.0
    lit = border_block(truth.read_out(np.broadcast_to(light, (160, *truth.shape)), cell), cell, kernel)
    n = (y1 - y0) * (x1 - x0) - (y1 - y0 - 4) * (x1 - x0 - 4)
    noise = np.sqrt(n / 160)
    np.testing.assert_allclose(dark.mean(axis=0), 0.0, atol=8 * noise)
    assert lit[:, 1].mean() == pytest.approx(20.0 * n, rel=0.08)
    np.testing.assert_allclose(lit[:, [0, 2]].mean(axis=0), 0.0, atol=8 * noise)
    assert np.isnan(border_block(np.zeros((1, *truth.shape), np.uint16), np.array([700]), kernel)).all()


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 24), max_size=5), top=st.integers(0, 8), left=st.integers(0, 8))
def test_any_split_and_any_crop_gives_the_same_bits(calibration, cuts, top, left):
    raw, cell = _raw(1)
    whole = reduce_block(raw, cell, calibration)
    kernel = prepare(calibration)
    edges = [0, *sorted(cuts), 24]
    crop = np.ascontiguousarray(raw[:, top:60, left:190])
    parts = [reduce_block(crop[a:b], cell[a:b], kernel, y0=top, x0=left) for a, b in itertools.pairwise(edges)]
    for k in range(3):
        np.testing.assert_array_equal(np.concatenate([part[k] for part in parts]), whole[k])


def test_a_crop_at_the_very_edge_of_the_beams_gives_the_same_bits(truth, dark):
    beams = truth.beams.isel(beam=slice(0, 2))
    calibration = build_calibration(dark, beams, None, gain=1.3, nonlinearity=linear_table(np.array([0.05, -0.01])))
    raw, cell = _raw(7, n=19)
    whole = reduce_block(raw, cell, calibration)
    tight = reduce_block(np.ascontiguousarray(raw[:, 8:56, 8:120]), cell, calibration, y0=8, x0=8)
    for a, b in zip(tight, whole, strict=True):
        np.testing.assert_array_equal(a, b)


@settings(max_examples=15, deadline=None)
@given(offset=st.integers(1, 200))
def test_an_offset_on_dark_and_frames_changes_nothing(truth, dark, offset):
    raw, cell = _raw(2)
    raw = np.minimum(raw, 200)
    moved = dark.assign(dark_mean=dark["dark_mean"] + np.float32(offset))
    options = {"gain": 1.3, "nonlinearity": "none", "saturation": 511}
    a = reduce_block(raw, cell, build_calibration(dark, truth.beams, None, **options))
    b = reduce_block(raw + np.uint16(offset), cell, build_calibration(moved, truth.beams, None, **options))
    np.testing.assert_allclose(b[0], a[0], rtol=1e-5, atol=0.1)


@settings(max_examples=20, deadline=None)
@given(y=st.integers(0, 63), x=st.integers(0, 191), value=st.integers(0, 255))
def test_a_masked_pixel_and_one_outside_the_beams_do_not_matter(truth, dark, y, x, value):
    flags = dark["bad_pixel"].copy(deep=True)
    flags[y, x] = 2
    calibration = build_calibration(dark.assign(bad_pixel=flags), truth.beams, None, gain=1.0, nonlinearity="none")
    raw, cell = _raw(3, n=4)
    changed = raw.copy()
    changed[:, y, x] = value
    for a, b in zip(reduce_block(raw, cell, calibration), reduce_block(changed, cell, calibration), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_table_that_is_no_polynomial_goes_through_the_look_up(truth, dark):
    raw, cell = _raw(4)
    smooth = linear_table(np.array([0.05]))
    bent = smooth.copy()
    bent[256:] += 1e-3  # never reached, but tells
    wavy = smooth + np.where(np.arange(512) == 255, 2.0, 0.0)
    a = build_calibration(dark, truth.beams, None, gain=1.3, nonlinearity=smooth)
    b = build_calibration(dark, truth.beams, None, gain=1.3, nonlinearity=wavy)
    assert prepare(a).poly is not None
    assert prepare(b).poly is None
    raw = np.minimum(raw, 254)
    np.testing.assert_allclose(reduce_block(raw, cell, b)[0], reduce_block(raw, cell, a)[0], rtol=1e-5)


def test_photons_and_their_noise_are_those_of_the_truth(truth, calibration, dark, run):
    frames, photons = run
    plain = build_calibration(dark, truth.beams, frames, nonlinearity="none")
    pulses = reduce_frames(frames["frames"], plain)
    keep = pulses["n_saturated"].sum("beam").values == 0
    ratio = pulses["photons"].values[keep].sum(axis=0) / photons[keep].sum(axis=0)
    np.testing.assert_allclose(ratio, 1.0, atol=0.01)
    # read noise only: the truth holds the photons that came, not their mean
    shot = np.sqrt(np.maximum(photons, 1))
    read = np.sqrt(plain["read_variance"].values)
    away = (pulses["photons"].values - photons * ratio)[keep]
    assert 0.8 < away.std(axis=0)[0] / np.hypot(read, 0)[0] < 8  # filled-in bad pixels and response scatter with light
    np.testing.assert_allclose(pulses["photons_stderr"].values[keep], shot[keep], rtol=0.05)
    assert float(plain["noise_over_shot"]) < 1.05 + 3 * float(plain["noise_over_shot_stderr"])


def test_read_noise_enters_the_error_as_it_should(truth, dark):
    calibration = build_calibration(dark, truth.beams, None, gain=truth.gain, nonlinearity="none")
    raw = truth.read_out(np.zeros((400, *truth.shape)), np.arange(400) % 8)
    photons, sigma, _ = reduce_block(raw, np.arange(400) % 8, calibration)
    pulls = photons / sigma
    # max(N, 0) adds the photons that noise pretends: at most a few per cent here
    assert 0.85 < pulls.std() < 1.1
    assert abs(pulls.mean()) < 0.3


def test_missing_frames_and_cells_are_nan_and_counted(truth, calibration, run):
    frames = run[0].isel(train=slice(0, 3)).copy(deep=True)
    frames["present"][1, 2] = False
    frames["cell_id"][2, 5] = 700
    frames["frames"][0, 4] = 0
    before = frames.copy(deep=True)
    pulses = reduce_frames(frames["frames"], calibration)
    xr.testing.assert_identical(frames, before)
    bad = np.isnan(pulses["photons"]).any("beam").values
    assert np.argwhere(bad).tolist() == [[0, 4], [1, 2], [2, 5]]
    assert np.isnan(pulses["photons_stderr"].values[bad]).all()
    assert np.argwhere(~pulses["present"].values).tolist() == [[0, 4], [1, 2]]
    assert np.argwhere(pulses["blank"].values).tolist() == [[0, 4]]
    assert set(pulses.coords) == {"train_id", "pulse_id", "cell_id", "present", "blank"}
    other = reduce_frames(run[0]["frames"].isel(train=slice(0, 3)), calibration)
    good = ~bad[..., None] & np.ones(3, bool)
    np.testing.assert_array_equal(pulses["photons"].values[good], other["photons"].values[good])


@pytest.mark.parametrize("chunks", [{"train": 1}, {"train": 3, "pulse": 5}, {"y": 10, "x": 7}], ids=str)
def test_lazy_frames_give_the_same_bits_however_they_are_chunked(calibration, run, chunks):
    frames = run[0]["frames"].isel(train=slice(0, 4))
    lazy = reduce_frames(frames.chunk(chunks).transpose("x", "pulse", "y", "train"), calibration)
    assert all(lazy[name].chunks for name in ("photons", "photons_stderr", "n_saturated", "present"))
    xr.testing.assert_identical(lazy.compute(), reduce_frames(frames, calibration))


def test_saturation_is_counted_on_good_pixels_only(truth, calibration):
    raw = np.full((2, 64, 192), 50, np.uint16)
    raw[1, 30, 20:23] = 255
    for y, x in truth.hot:
        raw[:, y, x] = 255
    n = reduce_block(raw, np.zeros(2, int), calibration)[2]
    assert n.tolist() == [[0, 0, 0], [3, 0, 0]]


def test_a_calibration_survives_storing(tmp_path, calibration):
    calibration.to_zarr(tmp_path / "c.zarr", consolidated=False)
    stored = xr.open_zarr(tmp_path / "c.zarr", consolidated=False).load()
    raw, cell = _raw(5)
    for a, b in zip(reduce_block(raw, cell, stored), reduce_block(raw, cell, calibration), strict=True):
        np.testing.assert_array_equal(a, b)
    assert stored.attrs == calibration.attrs
    assert all({"units", "long_name"} <= set(v.attrs) for v in calibration.data_vars.values())


def test_wrong_input_is_refused(truth, dark, run, calibration):
    with pytest.raises(DataError, match=r"raw frames must be uint16 \(n, y, x\), got float32"):
        reduce_block(np.zeros((1, 64, 192), np.float32), np.zeros(1, int), calibration)
    with pytest.raises(DataError, match="outside the frames"):
        reduce_block(np.zeros((1, 30, 192), np.uint16), np.zeros(1, int), calibration)
    with pytest.raises(DataError, match="1 frames but 2 memory cell numbers"):
        reduce_block(np.zeros((1, 64, 192), np.uint16), np.zeros(2, int), calibration)
    with pytest.raises(ConfigError, match=r"^detector\.gain: auto needs a flat-field run"):
        build_calibration(dark, truth.beams, None)
    with pytest.raises(ConfigError, match=r"^detector\.gain: -1\.0 is not a positive number"):
        build_calibration(dark, truth.beams, None, gain=-1.0)
    with pytest.raises(ConfigError, match=r"^detector\.nonlinearity: the table must be 512 finite numbers"):
        build_calibration(dark, truth.beams, None, gain=1.0, nonlinearity=np.arange(256.0))
    with pytest.raises(ConfigError, match=r"^detector\.nonlinearity: 'linear' is not auto, none or a table"):
        build_calibration(dark, truth.beams, None, gain=1.0, nonlinearity="linear")
    with pytest.raises(ConfigError, match=r"^detector\.flat_field\.order: 7 is not 1, 2 or 3"):
        build_calibration(dark, truth.beams, run[0], gain=1.0, nonlinearity="none", flat_field_order=7)


def test_dark_frames_inside_the_train_take_a_drift_out(truth, calibration, run):
    frames = run[0].isel(train=slice(0, 6)).copy(deep=True)
    dark_frame = xr.zeros_like(frames["present"])
    dark_frame[:5, 3] = True  # the last train has none
    frames["frames"][:, 3] = truth.read_out(np.zeros((6, *truth.shape)), np.full(6, 3))
    still = reduce_frames(frames["frames"], calibration)
    moved = reduce_frames(frames["frames"] + np.uint16(2), calibration)
    before = moved.copy(deep=True)
    fixed = subtract_intra_train_dark(moved, dark_frame)
    xr.testing.assert_identical(moved, before)
    size = (moved["photons"] - still["photons"]).mean()
    assert size > 1000
    lit = ~dark_frame & (still["n_saturated"].sum("beam") == 0)
    left = (fixed["photons"] - still["photons"]).where(lit)
    # two ADU more are not quite the same after the non-linearity
    assert abs(float(left.mean())) < 0.06 * float(size)
    assert (fixed["photons_stderr"] > moved["photons_stderr"]).all()
    assert fixed.attrs["n_dark_frames"] == 5
    none = subtract_intra_train_dark(moved, xr.zeros_like(dark_frame))
    xr.testing.assert_equal(none, moved)
    assert none.attrs["n_dark_frames"] == 0
