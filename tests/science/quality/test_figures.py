"""The figures of a run's quality from a few pulses whose answer follows by hand."""

import numpy as np
import pytest
from scipy.stats import chi2

from pipeline.science.labels.selection import REASONS
from pipeline.science.quality.burst import about_mean, pulse_groups, resolved
from pipeline.science.quality.noise import Early, profile_of_burst, run_quality
from pipeline.science.spectra.reference import EARLY
from pipeline.science.spectra.scans import spectra
from tests.science.pulse_truth import exact_pulses

PHOTONS = (400.0, 500.0, 1000.0)
SHOT = 1 / 400 + 1 / 500
"""Photon noise of a pulse's ln(pumped / unpumped)."""


def run_of(pumped=400.0, *, trains=6, unpumped=500.0, delay=1.0, n_pulses=4):
    """Return pulses at three energies, two trains each, with errors of 400, 500 and 1000 photons."""
    photons = np.stack(np.broadcast_arrays(pumped, unpumped, np.full((trains, n_pulses), 1000.0)), axis=-1)
    energy = np.repeat(528.0 + 0.5 * np.arange(trains // 2), 2)
    run = exact_pulses(energy, photons, n_pulses=n_pulses, delay=delay, stderr=np.sqrt(PHOTONS))
    return run, np.repeat(np.arange(trains)[:, None] // 2, n_pulses, axis=1)


def test_the_noise_ratio_is_the_scatter_of_pulses_in_their_trains():
    rng = np.random.default_rng(1)
    pumped = 400.0 * np.exp(0.1 * rng.standard_normal((6, 4)))
    run, cell = run_of(pumped)
    ratio = -np.log(pumped / 500.0)
    weight = 1 / (400 / pumped**2 + 1 / 500)
    mean = (weight * ratio).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
    expected = np.sqrt(np.sum(weight * (ratio - mean) ** 2) / (24 - 6))
    found = run_quality(run, cell)
    assert found["noise_ratio"] == pytest.approx(expected)
    assert found["noise_ratio_reference"] == pytest.approx(0.0, abs=1e-9)
    # the pumped beam is no part of the other ratio
    unpumped = 500.0 * np.exp(0.1 * rng.standard_normal((6, 4)))
    found = run_quality(*run_of(400.0, unpumped=unpumped))
    ratio, weight = -np.log(unpumped / 1000.0), 1 / (500 / unpumped**2 + 1 / 1000)
    mean = (weight * ratio).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
    expected = np.sqrt(np.sum(weight * (ratio - mean) ** 2) / (24 - 6))
    assert found["noise_ratio_reference"] == pytest.approx(expected)


def test_pulses_of_short_trains_are_compared_in_their_bins():
    rng = np.random.default_rng(2)
    pumped = 400.0 * np.exp(0.1 * rng.standard_normal((12, 1)))
    run, _ = run_of(pumped, trains=12, n_pulses=1)
    cell = np.repeat(np.arange(12)[:, None] // 4, 1, axis=1)
    ratio, weight = -np.log(pumped / 500.0).reshape(3, 4), (1 / (400 / pumped**2 + 1 / 500)).reshape(3, 4)
    mean = (weight * ratio).sum(axis=1, keepdims=True) / weight.sum(axis=1, keepdims=True)
    expected = np.sqrt(np.sum(weight * (ratio - mean) ** 2) / (12 - 3))
    assert run_quality(run, cell)["noise_ratio"] == pytest.approx(expected)


def test_odd_and_even_trains_are_compared_bin_by_bin():
    """The second train of each pair has 2 % less pumped light."""
    shift = np.tile([0.0, 0.02], 3)[:, None]
    found = run_quality(*run_of(400.0 * np.exp(-shift)))
    variances = [400 * 4 / (1600 * np.exp(-s)) ** 2 + 1 / 2000 for s in (0.0, 0.02)]
    z2 = 0.02**2 / sum(variances)
    assert found["null_chi2"] == pytest.approx(z2, rel=1e-3)
    assert found["null_p"] == pytest.approx(chi2.sf(3 * z2, 3), rel=1e-3)
    assert found["null_chi2_unpumped"] == pytest.approx(0.0, abs=1e-9)
    found = run_quality(*run_of(400.0, unpumped=500.0 * np.exp(-shift)))
    variances = [500 * 4 / (2000 * np.exp(-s)) ** 2 + 1 / 4000 for s in (0.0, 0.02)]
    assert found["null_chi2_unpumped"] == pytest.approx(0.02**2 / sum(variances), rel=1e-3)


def test_before_time_zero_the_difference_is_the_constant_within_errors():
    """The constant is off in all bins alike: χ² by the whole covariance, bins and constant."""
    shift = np.array([0.0, 0.0, 0.03, 0.03, -0.01, -0.01])[:, None]
    run, cell = run_of(400.0 * np.exp(-shift), delay=EARLY - 0.1)
    constant = (np.log(400 / 500) + 0.02, 0.015)
    found = run_quality(run, cell, early=Early(run, cell, constant))
    away = 0.02 + np.array([0.0, 0.03, -0.01])
    variance = np.diag([3200 / (3200 * np.exp(-s)) ** 2 + 1 / 4000 for s in (0.0, 0.03, -0.01)]) + 0.015**2
    statistic = away @ np.linalg.solve(variance, away)
    assert found["null_chi2_early"] == pytest.approx(statistic / 3, rel=1e-3)
    assert found["null_p_early"] == pytest.approx(chi2.sf(statistic, 3), rel=1e-3)
    # later delays are not judged, and neither is a run without a constant
    assert np.isnan(run_quality(run, cell)["null_chi2_early"])
    late, cell = run_of(400.0 * np.exp(-shift), delay=EARLY + 0.01)
    assert np.isnan(run_quality(late, cell, early=Early(late, cell, constant))["null_chi2_early"])
    # of a run that has both, the early pulses
    early = np.where(np.arange(4) < 2, EARLY - 0.1, 1.0)
    mixed = run.assign_coords(delay=(("train", "pulse"), np.broadcast_to(early, (6, 4))))
    variance = np.diag([1600 / (1600 * np.exp(-s)) ** 2 + 1 / 2000 for s in (0.0, 0.03, -0.01)]) + 0.015**2
    statistic = away @ np.linalg.solve(variance, away)
    assert run_quality(mixed, cell, early=Early(mixed, cell, constant))["null_chi2_early"] == pytest.approx(
        statistic / 3, rel=1e-3
    )


def test_saturated_frames_are_a_part_of_the_lit_ones():
    run, cell = run_of()
    run["n_saturated"].values[0, 0, 0] = 2
    run["n_saturated"].values[1, 1] = 1
    run["drop_reason"].values[0, 0] = REASONS.index("saturated")
    # a dark frame and its saturation do not count
    run["n_saturated"].values[2, 2] = 9
    run["drop_reason"].values[2, 2] = REASONS.index("dark")
    assert run_quality(run, cell)["saturated_fraction"] == pytest.approx(2 / 23)
    run["drop_reason"].values[:] = REASONS.index("dark")
    assert np.isnan(run_quality(run, np.full((6, 4), -1))["saturated_fraction"])


def test_two_pulses_are_too_few():
    run, cell = run_of()
    few = np.full(cell.shape, -1)
    few[0, :2] = 0
    found = run_quality(run, few)
    assert np.isnan([v for n, v in found.items() if n != "saturated_fraction"]).all()
    assert np.isnan(profile_of_burst(run, few)).all()


def test_the_profile_of_a_burst_is_what_each_pulse_differs_by():
    """ΔXAS grows by 2 % per pulse: each index is off the mean of its train by as much, weighted by photons."""
    steps = 0.02 * np.arange(4)
    value, error = profile_of_burst(*run_of(400.0 * np.exp(-steps) * np.ones((6, 1))))
    weight = 1 / (np.exp(2 * steps) / 400 + 1 / 500)
    np.testing.assert_allclose(value, steps - np.sum(weight * steps) / np.sum(weight), atol=1e-12)
    np.testing.assert_allclose(np.diff(value), 0.02)
    assert error.shape == (4,)


def test_values_about_the_weighted_mean_of_their_group():
    value, weight = np.array([1.0, 3.0, 5.0, 9.0]), np.array([3.0, 1.0, 1.0, 1.0])
    residual, dof = about_mean(value, weight, np.array([0, 0, 2, 2]))
    np.testing.assert_allclose(residual, [-0.5, 1.5, -2.0, 2.0])
    assert dof == 2
    assert about_mean(np.empty(0), np.empty(0), np.empty(0, int))[1] == 0


def test_pulse_indices_are_grouped_with_their_neighbours():
    groups = pulse_groups(7, 10, 3)
    assert [g.tolist() for g in groups] == [[0, 1, 2], [3, 4], [5, 6]]
    assert len(pulse_groups(5, 10)) == 5
    assert len(pulse_groups(3, 10, 8)) == 3
    # a result must stay small: fewer groups, yet two at least
    assert 2 <= len(pulse_groups(400, 100_000)) < 400
    assert len(pulse_groups(400, 10**9)) == 2


def test_each_group_has_its_own_difference_on_the_bins_of_all():
    steps = 0.02 * np.arange(4)
    run, _ = run_of(400.0 * np.exp(-steps) * np.ones((6, 1)))
    found = resolved(spectra, [run], [np.arange(2), np.arange(2, 4)], [(0.0, 0.0), (0.1, 0.02)])
    for k, (group, constant) in enumerate((([0, 1], 0.0), ([2, 3], 0.1))):
        expected = constant - np.log(400 * np.exp(-steps[group]).mean() / 500)
        np.testing.assert_allclose(found["delta_xas"].isel(pulse=k), expected)
    np.testing.assert_array_equal(found["pulse"], [0.5, 2.5])
    np.testing.assert_array_equal(found["flat_field_constant"], [0.0, 0.1])
    np.testing.assert_array_equal(found["n_pulses"].values, 4)
