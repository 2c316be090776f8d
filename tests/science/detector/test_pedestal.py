"""The pedestal of frames from unlit pixels: found, taken off where it moved, and left alone where it did not."""

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.detector.assemble import build_calibration
from pipeline.science.detector.beam_photons import pedestal_block, prepare, reduce_block
from pipeline.science.detector.beams import beam_dataset
from pipeline.science.detector.crop import crop_to_beams
from pipeline.science.detector.linearity import linear_table
from pipeline.science.detector.pedestal import subtract_pedestal, subtract_pump_light
from pipeline.science.detector.unlit import at_shifted_level, chip_shifts, unlit_pixels, with_unlit_pixels

BEND = 0.05


def image_of(truth):
    image = truth.gain * (truth.illumination() * truth.sensitivity).sum(axis=0)
    image = image + np.random.default_rng(0).normal(0, 0.02, truth.shape)
    return xr.DataArray(image, dims=("y", "x"), coords={"y": np.arange(64), "x": np.arange(192)})


class Camera:
    """A detector with a bent response, its dark run, and the calibration with unlit pixels."""

    def __init__(self, truth):
        self.truth, self.dark = truth, truth.dark(60)
        self.unlit = unlit_pixels(image_of(truth), self.dark, truth.beams)
        table = linear_table(np.array([BEND]))
        bare = build_calibration(self.dark, truth.beams, None, gain=truth.gain, nonlinearity=table)
        self.calibration = with_unlit_pixels(bare, self.dark, self.unlit)
        self.kernel = prepare(self.calibration)

    def run(self, moved=0.0, *, n_trains=40, seed=3, fluctuation=0.35, stray=0.0):
        """Return pulses of a run whose pedestals are above those of the dark run by `moved` (train, pulse, y, x), and those
        of the same frames without that.
        """
        truth = self.truth
        truth.rng = np.random.default_rng(seed)
        n = n_trains * truth.n_cells
        cell = np.arange(n) % truth.n_cells
        intensity = truth.rng.gamma(1 / fluctuation**2, fluctuation**2, n)
        light = (truth.illumination() * truth.sensitivity).sum(axis=0) + stray
        photons = truth.rng.poisson(intensity[:, None, None] * light).astype(np.float32)
        noise = truth.rng.bit_generator.state
        moved = np.broadcast_to(moved, (n_trains, truth.n_cells, *truth.shape)).reshape(n, *truth.shape)
        made = []
        for shift in (moved, 0.0):
            truth.rng.bit_generator.state = noise
            made.append(self.pulses(truth.read_out(photons, cell, shift), cell, n_trains))
        return made

    def pulses(self, raw, cell, n_trains):
        photons, stderr, _ = reduce_block(raw, cell, self.kernel)
        values = {"photons": photons, "photons_stderr": stderr, "pedestal": pedestal_block(raw, cell, self.kernel)}
        shape = (n_trains, self.truth.n_cells)
        data = {name: (("train", "pulse", "beam"), v.reshape(*shape, -1)) for name, v in values.items()}
        return xr.Dataset(data | {"dark_frame": (("train", "pulse"), np.zeros(shape, bool))})


@pytest.fixture(scope="module")
def camera(detector_truth):
    return Camera(detector_truth(quadratic=BEND))


def by_chip(*values):
    """Return (y, x) a value for each of the three readout chips."""
    return np.repeat(np.array(values), 64)[None, :] * np.ones((64, 1))


def chips_of(unlit):
    return np.bincount(unlit.values[unlit.values >= 0])


def test_unlit_pixels_are_good_and_beside_the_beams(camera):
    unlit, truth = camera.unlit.values, camera.truth
    assert (chips_of(camera.unlit) >= 192).all()
    assert len(chips_of(camera.unlit)) == 3
    for x0, x1, y0, y1 in truth.regions:
        assert (unlit[y0:y1, x0:x1] == -1).all()
    assert unlit[2, 2] == -1  # hot
    numbers, columns = unlit[unlit >= 0], np.nonzero(unlit >= 0)[1]
    np.testing.assert_array_equal(numbers, columns // 64)
    assert crop_to_beams(camera.calibration).rows.start < crop_to_beams(truth.beams).rows.start
    assert camera.kernel.rows == crop_to_beams(camera.calibration).rows


def test_pixels_with_light_beside_a_beam_are_not_used(camera):
    """A stray reflex of 1/200 of the beams covers part of the strip below them."""
    image = image_of(camera.truth)
    image[58:64, 20:40] += 0.3
    unlit = unlit_pixels(image, camera.dark, camera.truth.beams)
    assert (unlit.values[59:63, 21:39] == -1).all()
    assert chips_of(unlit).min() >= 64


def test_a_chip_without_unlit_pixels_is_refused(camera):
    beams = beam_dataset([(0, 64, 0, 63), (70, 120, 8, 56)])
    with pytest.raises(DataError, match="1 of 2 readout chips under the beams have fewer than 64 unlit pixels"):
        unlit_pixels(image_of(camera.truth), camera.dark, beams)


def test_chips_are_as_large_as_the_detector_says(camera):
    unlit = unlit_pixels(image_of(camera.truth), camera.dark, camera.truth.beams, chip=(32, 64))
    assert len(chips_of(unlit)) == 6
    rows, _ = np.nonzero(unlit.values >= 3)
    assert rows.min() >= 32


def test_a_pedestal_is_worth_the_same_photons_at_any_light(camera):
    """Moved by 0.4 ADU on one chip: the bent response hides none of it, whatever the pixel holds."""
    moved, still = camera.run(by_chip(0.0, 0.4, -0.2))
    excess = (moved["photons"] - still["photons"]).mean(("train", "pulse")).values
    told = (moved["pedestal"] - still["pedestal"]).mean(("train", "pulse")).values
    pixels = camera.calibration["n_pixels"].values
    # what is added before the converter, in photons; regions lie on one chip, but for 6 of 50 columns of the last
    expected = np.array([0.0, 0.4, -0.2]) * pixels / camera.truth.gain
    np.testing.assert_allclose(told, excess, atol=12.0)
    np.testing.assert_allclose(excess, expected, atol=12.0)
    assert abs(expected[1]) > 700


def test_the_noise_of_a_frame_is_what_is_said(camera):
    _, still = camera.run(0.0, n_trains=60)
    within = still["pedestal"] - still["pedestal"].mean("train")
    np.testing.assert_allclose(
        within.var(("train", "pulse")).values, camera.calibration["pedestal_variance"].values, rtol=0.2
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_pedestal_that_has_not_moved_changes_no_bit(camera, seed):
    _, still = camera.run(0.0, seed=20 + seed, n_trains=30)
    assert subtract_pedestal(still, camera.calibration) is still


def moving(kind, rng, n_trains, n_pulses):
    """Return (train, pulse) ADU of one way in which pedestals move."""
    t, p = np.arange(n_trains)[:, None], np.arange(n_pulses)[None, :]
    return {
        "since the dark run": 0.3 + 0.0 * (t + p),
        "along the run": 0.5 * t / n_trains + 0.0 * p,
        "from train to train": rng.normal(0, 0.15, (n_trains, 1)) + 0.0 * p,
        "along the burst": 0.3 * p / n_pulses + 0.0 * t,
        "from frame to frame": rng.normal(0, 0.25, (n_trains, n_pulses)),
        "every second pulse": 0.15 * (p % 2) + 0.0 * t,
    }[kind]


KINDS = (
    "since the dark run",
    "along the run",
    "from train to train",
    "along the burst",
    "from frame to frame",
    "every second pulse",
)


@pytest.mark.parametrize("kind", KINDS)
def test_however_it_moves_what_is_left_is_within_the_error(camera, kind):
    shift = moving(kind, np.random.default_rng(5), 40, camera.truth.n_cells)
    moved, still = camera.run(shift[:, :, None, None] * by_chip(1.0, 1.0, 0.4), seed=8)
    corrected = subtract_pedestal(moved, camera.calibration)
    before = (moved["photons"] - still["photons"]).values
    after = (corrected["photons"] - still["photons"]).values
    assert np.sqrt((after[..., 1] ** 2).mean()) < 0.45 * np.sqrt((before[..., 1] ** 2).mean())
    # the error that was added covers what is left
    added = (corrected["photons_stderr"] ** 2 - moved["photons_stderr"] ** 2).values[..., 1]
    assert (after[..., 1] ** 2).mean() < 2.0 * added.mean() + 15.0**2
    assert added.mean() <= 1.4 * camera.calibration["pedestal_variance"].values[1]


def test_more_is_averaged_where_less_moves(camera):
    """The error added for a constant is that of a run, for single frames that of a frame."""
    added = {}
    for kind in ("since the dark run", "from frame to frame"):
        shift = moving(kind, np.random.default_rng(5), 40, camera.truth.n_cells)
        moved, _ = camera.run(shift[:, :, None, None] * by_chip(1.0, 1.0, 1.0), seed=8)
        corrected = subtract_pedestal(moved, camera.calibration)
        added[kind] = float((corrected["photons_stderr"] ** 2 - moved["photons_stderr"] ** 2)[..., 1].mean())
    assert added["since the dark run"] < 0.1 * added["from frame to frame"]


def test_a_pixel_gone_hot_and_a_hit_do_not_count(camera):
    rng, truth = np.random.default_rng(1), camera.truth
    cell = np.arange(400) % truth.n_cells
    raw = truth.read_out(np.zeros((400, *truth.shape)), cell)
    spoilt = raw.copy()
    y, x = np.nonzero(camera.unlit.values == 1)
    spoilt[:, y[::16], x[::16]] = 255  # gone hot for good: one in sixteen
    for frame in spoilt:
        hit = rng.integers(0, len(y), 5)
        frame[y[hit], x[hit]] = 200
    clean, disturbed = (pedestal_block(r, cell, camera.kernel)[:, 1] for r in (raw, spoilt))
    noise = np.sqrt(camera.calibration["pedestal_variance"].values[1])
    assert abs((disturbed - clean).mean()) < 0.2 * noise
    spoilt[:, y, x] = 255
    assert np.isnan(pedestal_block(spoilt, cell, camera.kernel)[:, 1]).all()


def test_scattered_light_is_no_pedestal(camera):
    """0.03 photons in every pixel when the beams hold their mean; 0.4 ADU of pedestal are found all the same."""
    for shift in (0.0, 0.4):
        moved, _ = camera.run(shift, stray=0.03, n_trains=60)
        corrected = subtract_pedestal(moved, camera.calibration)
        if shift == 0.0:
            assert corrected is moved
        else:
            taken = corrected["pedestal_subtracted"].mean(("train", "pulse")).values
            per_adu = camera.calibration["pedestal_weight"].values.sum(axis=0)
            slope = 1 + 2 * BEND * 40 / 128  # ADU before the converter per ADU seen at the dark level
            np.testing.assert_allclose(taken / per_adu * slope, 0.4, atol=0.04)


def test_pump_light_is_removed_with_the_pedestal(camera):
    """0.05 ADU in all pixels of every second pulse, or train: -ln of the ratio is off by it where it is left."""
    pulse, train = np.arange(camera.truth.n_cells) % 2 == 1, np.arange(60) % 2 == 1
    for on in (np.broadcast_to(pulse[None, :], (60, 8)), np.broadcast_to(train[:, None], (60, 8))):
        moved, still = camera.run(0.05 * on[:, :, None, None] * np.ones(camera.truth.shape), n_trains=60, seed=4)
        pumped = xr.DataArray(on, dims=("train", "pulse"))
        corrected = subtract_pump_light(subtract_pedestal(moved, camera.calibration), pumped)
        left, before = (
            float(
                (run["photons"] - still["photons"]).where(pumped).mean()
                - (run["photons"] - still["photons"]).where(~pumped).mean()
            )
            for run in (corrected, moved)
        )
        assert before > 70
        assert abs(left) < 0.35 * before


def test_pump_light_of_frames_without_x_rays_is_the_better_one(camera):
    """What is not smooth over a chip shows in frames without X-rays only."""
    _, still = camera.run(0.0, n_trains=40, seed=6)
    on = xr.DataArray(np.broadcast_to(np.arange(40)[:, None] % 2 == 1, (40, 8)), dims=("train", "pulse"))
    dark = xr.zeros_like(on)
    dark[:, :2] = True
    rng = np.random.default_rng(2)
    photons = still["photons"].where(~dark, rng.normal(0, 60, still["photons"].shape)) + 300.0 * on
    lit = still.assign(photons=photons.transpose("train", "pulse", "beam"), dark_frame=dark)
    corrected = subtract_pump_light(lit, on)
    np.testing.assert_allclose(corrected.attrs["pump_light"], 300.0, atol=50.0)
    assert float(corrected["photons"].where(dark & on).mean()) == pytest.approx(0.0, abs=15.0)
    xr.testing.assert_equal(corrected["photons"].where(~on), lit["photons"].where(~on))
    assert (corrected["photons_stderr"].where(on) > lit["photons_stderr"].where(on)).sum() == 3 * int(on.sum())
    # without any it is left alone
    assert subtract_pump_light(still, on) is still
    assert subtract_pump_light(still.drop_vars("pedestal"), on).equals(still.drop_vars("pedestal"))


def test_the_dark_run_at_the_level_of_the_flat_field(camera):
    """Chips whose pedestal moved between dark run and flat field: found, and after it no frame shows any."""
    truth = camera.truth
    shift = by_chip(0.3, -0.2, 0.0)
    cell = np.arange(400) % truth.n_cells
    light = (truth.illumination() * truth.sensitivity).sum(axis=0)
    intensity = truth.rng.gamma(8, 1 / 8, 400)
    raw = truth.read_out(truth.rng.poisson(intensity[:, None, None] * light), cell, shift)
    unlit = camera.kernel.unlit
    assert unlit is not None
    total = reduce_block(raw, cell, camera.kernel)[0].sum(axis=1)
    found, stderr = chip_shifts(unlit.shifts(raw, cell, (0, 0)), total)
    slope = 1 + 2 * BEND * 40 / 128
    np.testing.assert_allclose(found * slope, [0.3, -0.2, 0.0], atol=0.05)
    assert (stderr < 0.02).all()
    dark = at_shifted_level(camera.dark, camera.unlit, found)
    bare = build_calibration(dark, truth.beams, None, gain=truth.gain, nonlinearity=linear_table(np.array([BEND])))
    kernel = prepare(with_unlit_pixels(bare, dark, camera.unlit))
    assert kernel.unlit is not None
    again, _ = chip_shifts(kernel.unlit.shifts(raw, cell, (0, 0)), total)
    np.testing.assert_allclose(again, 0.0, atol=1e-3)
    # too few frames tell nothing, and light that does not fluctuate is not told from a pedestal
    assert np.isnan(chip_shifts(np.zeros((10, 2)), np.arange(10.0))[0]).all()
    assert chip_shifts(np.full((30, 1), 0.2), np.full(30, 1e5))[0] == pytest.approx(0.2)


def test_the_gain_is_that_of_the_flat_fields_own_dark_level(detector_truth):
    """0.3 ADU since the dark run look like a non-linearity, and cost a quarter of the gain."""
    truth = detector_truth(moved=0.3, seed=6)
    dark, (flat, _) = truth.dark(60), truth.flat(60)
    fooled = build_calibration(dark, truth.beams, flat)
    assert float(fooled["gain"]) < 0.85 * truth.gain
    unlit = unlit_pixels(image_of(truth), dark, truth.beams)
    kernel = prepare(with_unlit_pixels(fooled, dark, unlit))
    assert kernel.unlit is not None
    raw, cell = flat["frames"].values.reshape(-1, *truth.shape), flat["cell_id"].values.ravel()
    shift, _ = chip_shifts(kernel.unlit.shifts(raw, cell, (0, 0)), reduce_block(raw, cell, kernel)[0].sum(axis=1))
    calibration = build_calibration(at_shifted_level(dark, unlit, shift), truth.beams, flat)
    assert float(calibration["gain"]) == pytest.approx(truth.gain, rel=0.03)


def test_frames_that_lack_unlit_pixels_are_refused(camera, detector_truth):
    truth = camera.truth
    raw = np.zeros((2, *truth.shape), np.uint16)
    with pytest.raises(DataError, match="unlit pixels lie outside the frames"):
        pedestal_block(raw[:, 8:56], np.zeros(2, int), camera.kernel, y0=8)
    bare = prepare(camera.calibration.drop_vars("unlit"))
    with pytest.raises(DataError, match=r"detector\.pedestal: none"):
        pedestal_block(raw, np.zeros(2, int), bare)


def test_any_split_and_crop_gives_the_same_bits(camera):
    truth = camera.truth
    cell = np.arange(24) % truth.n_cells
    raw = truth.read_out(np.zeros((24, *truth.shape)), cell)
    whole = pedestal_block(raw, cell, camera.kernel)
    crop = crop_to_beams(camera.calibration)
    cut = np.ascontiguousarray(raw[:, crop.rows, crop.columns])
    parts = [
        pedestal_block(cut[a:b], cell[a:b], camera.kernel, y0=crop.rows.start, x0=crop.columns.start)
        for a, b in ((0, 5), (5, 24))
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
