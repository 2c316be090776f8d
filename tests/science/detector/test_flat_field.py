"""The flat field takes the noise of moving light out of the ratios, and stays away where there is none."""

import numpy as np
import pytest

from pipeline.errors import ConfigError
from pipeline.science.detector.assemble import build_calibration, flat_field_noise
from pipeline.science.detector.flat_field import fit_flat_field, flat_field_weight, polynomial_maps, ratio_noise


def _moments(seed, n=1500, lean=0.03, order=1, photons=2e5):
    """Moments of three beams whose light leans by the same random amount over different slopes."""
    rng = np.random.default_rng(seed)
    move = lean * rng.standard_normal(n)
    slope = np.array([0.15, -0.1, 0.05])
    intensity = photons * rng.gamma(8, 1 / 8, n)[:, None]
    total = rng.poisson(intensity * (1 + move[:, None] * slope)).astype(float)
    n_terms = {1: 2, 2: 5}[order]
    moments = np.zeros((n, 3, 1 + n_terms))
    moments[..., 0] = total
    spread = np.sqrt(total / 3)
    for k in range(n_terms):
        first = (slope + move[:, None] / 3) if k == 0 else 0.0
        moments[..., 1 + k] = total * first + spread * rng.standard_normal((n, 3))
    return moments, total, np.arange(n) // 10


def test_moving_light_is_taken_out_down_to_photon_noise():
    moments, variance, train = _moments(1)
    fit = fit_flat_field(moments, variance, train)
    assert fit.applied
    assert fit.noise_before > 1.3
    assert fit.noise_after == pytest.approx(1.0, abs=0.06)
    assert "fell from" in fit.reason


def test_without_moving_light_it_is_not_applied():
    applied = [fit_flat_field(*_moments(seed, lean=0.0)).applied for seed in range(20)]
    assert sum(applied) <= 2  # two sigma, one-sided, over 20 seeds


def test_the_noise_figure_is_one_for_photon_noise_and_its_error_honest():
    figures = np.array([ratio_noise(*_moments(seed, lean=0.0)[:2], np.zeros((3, 0))) for seed in range(40)])
    assert figures[:, 0].mean() == pytest.approx(1.0, abs=0.01)
    assert figures[:, 0].std() == pytest.approx(figures[:, 1].mean(), rel=0.35)


def test_weights_stay_near_one_and_vanish_on_bad_pixels():
    corners = np.array([[2, 18, 3, 28], [2, 18, 33, 58], [2, 18, 63, 88]])
    good = np.ones((20, 90), bool)
    good[5, 40] = False
    fit = fit_flat_field(*_moments(2))
    weight = flat_field_weight(corners, good, fit)
    assert weight[5, 40] == 0
    assert weight[0].sum() == 0
    assert np.abs(weight[2:18, 3:28] - 1).max() < 0.6
    assert polynomial_maps(corners, good, 2).shape == (6, 20, 90)


def test_switched_off_too_few_and_wrong_order():
    moments, variance, train = _moments(3)
    assert fit_flat_field(moments, variance, train, order=None).reason == "switched off"
    few = fit_flat_field(moments[:80], variance[:80], train[:80])
    assert not few.applied
    assert "only 80 frames" in few.reason
    with pytest.raises(ConfigError, match="order"):
        fit_flat_field(moments, variance, train, order=7)


def test_on_frames_it_reaches_the_shot_noise_limit_also_in_another_run(detector_truth):
    truth = detector_truth(lean=0.05, seed=6)
    dark = truth.dark(30)
    calibration = build_calibration(dark, truth.beams, truth.flat(120)[0], nonlinearity="none")
    assert calibration.attrs["flat_field_applied"] == 1
    assert float(calibration["noise_over_shot_raw"]) > 1.2
    assert float(calibration["noise_over_shot"]) < 1.05 + 2 * float(calibration["noise_over_shot_stderr"])
    other, _photons = truth.flat(60)
    noise, stderr = flat_field_noise(other, calibration)
    assert noise < 1.05 + 2 * stderr
