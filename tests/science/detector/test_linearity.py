"""Non-linearity and gain against truth, and their errors against the scatter."""

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.detector.assemble import build_calibration
from pipeline.science.detector.beams import beam_dataset
from pipeline.science.detector.gain import fit_gain
from pipeline.science.detector.linearity import calibrate_linearity, linear_table, polynomial_of_table

ADU = np.arange(512.0)


@pytest.fixture(scope="module")
def curved(detector_truth):
    """Eight runs of a detector with a non-linearity: (truth, dark, frames)."""
    made = []
    for seed in range(8):
        truth = detector_truth(quadratic=0.05, seed=40 + seed)
        made.append((truth, truth.dark(30), truth.flat(60)[0]))
    return made


def test_the_table_is_found_within_its_errors(curved):
    pulls = []
    for truth, dark, frames in curved:
        found = calibrate_linearity(frames, dark, truth.beams)
        assert found.attrs["applied"] == 1
        away = found["linear_adu"].values[200] - truth.linear(ADU)[200]
        assert abs(away) < 2.5  # of a bend of 15 ADU
        assert found.attrs["chi2"] < found.attrs["dof"] + 6 * np.sqrt(2 * found.attrs["dof"])
        pulls.append(away / float(found["linear_adu_stderr"][200]))
    assert abs(np.mean(pulls)) < 1.2
    assert 0.4 < np.sqrt(np.mean(np.square(pulls))) < 1.9


def test_the_gain_is_unbiased_and_its_error_honest(curved):
    away, stderr = [], []
    for truth, dark, frames in curved:
        fit = fit_gain(frames, dark, truth.beams, table=truth.linear(ADU))
        away.append(float(fit["gain"]) / truth.gain - 1)
        stderr.append(float(fit["gain_stderr"]) / truth.gain)
        assert fit.attrs["redchi"] == pytest.approx(1.0, abs=0.15)
    assert np.abs(away).max() < 0.01
    pulls = np.array(away) / stderr
    assert abs(pulls.mean()) < 1.2
    assert 0.4 < np.sqrt((pulls**2).mean()) < 1.9


def compressing(truth, knee=110.0):
    """Return the detector with a response of slope ½ above the knee."""

    class Compressing(truth):
        def linear(self, adu):
            return np.where(adu < knee, adu, knee + 2 * (adu - knee))

    return Compressing


@pytest.fixture(scope="module")
def bent(detector_truth):
    truth = compressing(detector_truth)(seed=3)
    return truth, truth.dark(30), truth.flat(60)[0]


def test_a_response_that_no_polynomial_describes_gives_no_gain(bent, curved):
    truth, dark, frames = bent
    found = calibrate_linearity(frames, dark, truth.beams)
    assert found.attrs["described"] == 0
    assert found.attrs["chi2"] > 20 * found.attrs["dof"]
    # the photon-transfer curve gives a gain with a small error, which is wrong
    fooled = fit_gain(frames, dark, truth.beams, table=found["linear_adu"].values)
    assert float(fooled["gain"]) < 0.5 * truth.gain
    assert float(fooled["gain_stderr"]) < 0.05 * truth.gain
    calibration = build_calibration(dark, truth.beams, frames)
    assert calibration.attrs["response_described"] == 0
    assert calibration.attrs["photons_relative"] == 1
    assert calibration.attrs["gain_source"].startswith("no gain")
    assert np.isnan(calibration["gain_stderr"])
    assert float(calibration["linearity_chi2"]) == pytest.approx(found.attrs["chi2"] / found.attrs["dof"], rel=0.01)
    assert float(calibration["linearity_misfit"]) > 0.01
    # in its unit photon noise is what the ratios scatter by, non-linearity included, in the half that was held out too
    assert 0.8 < float(calibration["noise_over_shot"]) < 1.25
    given = build_calibration(dark, truth.beams, frames, gain=truth.gain)
    assert float(given["gain"]) == truth.gain
    assert given.attrs["response_described"] == 0
    assert given.attrs["photons_relative"] == 0
    for truth, dark, frames in curved[:3]:
        described = calibrate_linearity(frames, dark, truth.beams)
        assert described.attrs["described"] == 1
        assert described.attrs["misfit"] < 1e-3


def test_a_knee_that_few_pixels_reach_is_seen(detector_truth):
    """The weaker the light, the less it matters; a gain that is off by a fifth is refused all the same."""
    truth = compressing(detector_truth)(photons=(30.0, 35.0, 25.0), seed=4)
    calibration = build_calibration(truth.dark(30), truth.beams, truth.flat(60)[0])
    assert calibration.attrs["photons_relative"] == 1


def test_the_whole_calibration_gives_the_gain_to_two_per_cent(curved):
    truth, dark, frames = curved[0]
    calibration = build_calibration(dark, truth.beams, frames)
    assert float(calibration["gain"]) == pytest.approx(truth.gain, rel=0.02)
    pure = fit_gain(frames, dark, truth.beams, table=calibration["linear_adu"].values)
    assert float(calibration["gain_stderr"]) > float(pure["gain_stderr"])  # the table's doubt is in it


def test_a_linear_detector_gets_no_table(detector_truth):
    applied = 0
    for seed in range(4):
        truth = detector_truth(seed=70 + seed)
        found = calibrate_linearity(truth.flat(50)[0], truth.dark(30), truth.beams)
        applied += found.attrs["applied"]
    assert applied <= 1
    assert "intensity" in found.attrs["reason"]
    np.testing.assert_array_equal(found["linear_adu"], ADU)


def test_beams_that_move_and_rounding_do_not_bias_the_gain(detector_truth):
    truth = detector_truth(pointing=0.6, seed=9)
    fit = fit_gain(truth.flat(60)[0], truth.dark(30), truth.beams)
    assert float(fit["gain"]) == pytest.approx(truth.gain, rel=0.01)
    quiet = detector_truth(read_noise=0.25, gain=0.8, seed=10)
    fit = fit_gain(quiet.flat(60)[0], quiet.dark(30), quiet.beams)
    assert float(fit["gain"]) == pytest.approx(quiet.gain, rel=0.01)


def test_saturated_pulses_do_not_bias_the_gain(detector_truth):
    truth = detector_truth(photons=(90.0, 100.0, 20.0), seed=11)
    frames, _ = truth.flat(60)
    assert (frames["frames"].values[:, :, 20:40, 80:110] == 255).mean() > 0.01
    fit = fit_gain(frames, truth.dark(30), truth.beams)
    assert float(fit["gain"]) == pytest.approx(truth.gain, rel=0.01)


def test_inputs_stay_as_they_are(curved):
    truth, dark, frames = curved[0]
    before = frames.copy(deep=True), dark.copy(deep=True)
    calibrate_linearity(frames, dark, truth.beams)
    xr.testing.assert_identical(frames, before[0])
    xr.testing.assert_identical(dark, before[1])


def test_frames_without_light_or_cells_are_refused(curved):
    truth, dark, frames = curved[0]
    with pytest.raises(DataError, match="memory cell"):
        fit_gain(frames.assign_coords(cell_id=frames["cell_id"] + 100), dark, truth.beams)
    with pytest.raises(DataError, match="frames with light"):
        fit_gain(frames.isel(train=slice(0, 2)), dark, truth.beams)
    short = calibrate_linearity(frames.isel(train=slice(0, 2)), dark, truth.beams)
    assert short.attrs["applied"] == 0
    with pytest.raises(DataError, match="outside the flat-field frames"):
        fit_gain(frames.isel(x=slice(0, 100)), dark, truth.beams)


def test_polynomials_are_recognised():
    table = linear_table(np.array([0.04, -0.01]))
    poly = polynomial_of_table(table)
    np.testing.assert_allclose(np.polynomial.polynomial.polyval(ADU[:256], poly), table[:256], atol=1e-6)
    assert np.isnan(polynomial_of_table(table + np.sin(ADU))).all()
    np.testing.assert_array_equal(polynomial_of_table(ADU), [0, 1, 0, 0])


def test_a_gain_that_the_flat_field_cannot_give_names_the_key(curved):
    truth, dark, frames = curved[0]
    key = r"set detector\.gain in the config$"
    small = beam_dataset([(x0 + 8, x0 + 13, y0 + 8, y0 + 13) for x0, _, y0, _ in truth.regions])
    with pytest.raises(DataError, match=f"too few evenly lit pixels .*{key}"):
        fit_gain(frames, dark, small)
    with pytest.raises(DataError, match=f"close to saturation; {key}"):
        fit_gain(frames, dark, truth.beams, saturation=60)
    # less noise than the dark run says
    noisy = dark.assign(read_noise=20 * dark["read_noise"])
    with pytest.raises(DataError, match=f"does not grow with its signal; {key}"):
        fit_gain(frames, noisy, truth.beams)
