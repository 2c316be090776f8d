"""The difference and its errors against numbers worked out by hand: exact photons, lines and parabolas, unit vectors."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.science.spectra.compared import NO_REFERENCE, compared
from pipeline.science.spectra.difference import (
    _apart,
    _row_moved,
    _row_slope,
    difference,
)
from pipeline.science.spectra.scans import delay_scans, spectra
from pipeline.science.sums.accumulate import accumulate, mean_coordinate
from pipeline.science.sums.contrast import log_contrast, ratio
from tests.science.pulse_truth import exact_pulses

ENERGY = np.repeat([528.0, 528.5, 529.0], 2)
PHOTONS = (400.0, 500.0, 1000.0)
"""Eight pulses a bin: 3200, 4000 and 8000 photons."""


def cells_of(run, centres):
    index = np.argmin(np.abs(run["energy"].values[:, None] - np.asarray(centres)), axis=1)
    return np.repeat(index[:, None], run.sizes["pulse"], axis=1)


def test_optical_densities_and_all_their_errors_of_exact_photons():
    found = spectra([exact_pulses(ENERGY, PHOTONS)], constant=(0.1, 0.02)).isel(fluence=0, delay=0)
    np.testing.assert_allclose(found["energy"], [528.0, 528.5, 529.0])
    np.testing.assert_allclose(found["od_unpumped"], np.log(2.0))
    np.testing.assert_allclose(found["od_pumped"], 0.1 + np.log(2.5))
    np.testing.assert_allclose(found["delta_xas"], 0.1 + np.log(1.25))
    np.testing.assert_allclose(found["od_unpumped_stderr"], np.sqrt(1 / 4000 + 1 / 8000))
    np.testing.assert_allclose(found["od_pumped_stderr"], np.sqrt(1 / 3200 + 1 / 8000 + 0.02**2))
    np.testing.assert_allclose(found["delta_xas_stderr"], np.sqrt(1 / 3200 + 1 / 4000 + 0.02**2))
    np.testing.assert_allclose(found["delta_xas_stderr_shot"], np.sqrt(1 / 3200 + 1 / 4000 + 0.02**2))
    np.testing.assert_array_equal(found["n_pulses"], 8)
    np.testing.assert_array_equal(found["n_trains"], 2)
    np.testing.assert_allclose(found["photons_pumped"], 3200.0)
    np.testing.assert_allclose(found["photons_unpumped"], 4000.0)
    assert float(found["flat_field_constant"]) == 0.1


def test_without_a_reference_beam_only_the_difference_is_known():
    found = spectra([exact_pulses(ENERGY, PHOTONS[:2])], constant=(0.1, 0.02))
    for name in ("od_unpumped", "od_pumped"):
        assert np.isnan(found[name]).all()
        assert np.isnan(found[f"{name}_stderr"]).all()
    np.testing.assert_allclose(found["delta_xas"], 0.1 + np.log(1.25))


def test_read_noise_is_part_of_the_photon_noise():
    found = spectra([exact_pulses(ENERGY, PHOTONS, stderr=(30.0, 40.0, 50.0))]).isel(fluence=0, delay=0)
    shot = np.sqrt(8 * 30**2 / 3200**2 + 8 * 40**2 / 4000**2)
    np.testing.assert_allclose(found["delta_xas_stderr"], shot)


def test_the_scatter_of_trains_is_the_jackknife_but_for_the_slope_inside_the_bin():
    """Trains of a bin whose ratio follows the energy do not scatter: what is left off the line does."""
    rng = np.random.default_rng(1)
    centres = [528.0, 529.0, 530.0]
    energy = np.concatenate([c + np.linspace(-0.1, 0.1, 5) for c in centres])
    line = 0.05 * (energy - 529.0)
    noise = 1e-3 * rng.standard_normal(len(energy))
    found = []
    for shift in (line, line + noise):
        photons = np.stack([1e8 * np.exp(-shift), np.full(len(energy), 1e8)], axis=1)[:, None, :]
        run = exact_pulses(energy, photons)
        sums = accumulate(run, cells_of(run, centres), 3)
        slope = xr.full_like(sums["n_trains"], -0.05, float)
        value, scatter, _ = log_contrast(sums, ratio("pumped", "unpumped"), slope=slope, along="energy")
        np.testing.assert_allclose(-value, [-0.05, 0.0, 0.05], atol=1e-3)
        found.append(scatter.values)
    np.testing.assert_allclose(found[0], 0.0, atol=1e-9)
    # trains of equal light: the scatter of their mean
    expected = noise.reshape(3, 5).var(axis=1, ddof=1) / 5
    np.testing.assert_allclose(found[1], expected, rtol=0.02)


def test_steps_cut_by_a_bin_edge_have_no_slope_between_them():
    assert _apart(np.array([0.0, 1.0])) is None
    assert _apart(np.array([0.0, 1.0, 1.0])) is None
    assert _apart(np.array([0.0, 2.0, 1.0])) is None
    np.testing.assert_array_equal(_apart(np.array([0.0, 1.0, 2.0])), [True, True, True])
    x = np.array([0.0, 1.0, 1.01, 2.0, 3.0])
    np.testing.assert_array_equal(_apart(x), [True, False, False, True, True])
    # the gap in front counts as well as the one behind, and 4 % of it is too little, 6 % is not
    np.testing.assert_array_equal(_apart(np.array([0.0, 0.04, 1.04, 2.0])), [True, False, True, True])
    np.testing.assert_array_equal(_apart(np.array([0.0, 0.06, 1.06, 2.0])), [True, True, True, True])
    value = np.array([0.0, 1.0, 9.0, 2.0, 3.0])
    slope = _row_slope(value, x)
    np.testing.assert_array_equal(slope[[1, 2]], 0.0)
    assert slope[4] == pytest.approx(1.0)
    # and so they stay where they are, however far their coordinates are from the axis
    moved, _ = _row_moved(value, x, np.full(5, 0.1), x - 0.3, np.ones(5))
    np.testing.assert_array_equal(moved[[1, 2]], value[[1, 2]])


def test_a_row_with_gaps_has_slopes_between_what_there_is():
    x = np.array([0.0, 1.0, np.nan, 3.0, 4.0])
    value = np.array([1.0, 3.0, 5.0, 7.0, np.nan])
    np.testing.assert_allclose(_row_slope(value, x), [2.0, 2.0, np.nan, 2.0, np.nan])
    moved, variance = _row_moved(value, x, np.zeros(5), x - 0.1, np.ones(5))
    np.testing.assert_allclose(moved[[0, 1, 3]], value[[0, 1, 3]] - 0.2)
    assert moved[2] == 5.0
    assert variance[2] == variance[4] == 1.0


def test_the_mean_over_a_bin_is_moved_to_the_curve():
    """Pulses spread over a bin average a parabola by half its curvature times their variance; a line is moved exactly."""
    x = np.arange(6.0)
    parabola = 2.0 + 3.0 * x + 0.5 * x**2
    spread = np.full(6, 1 / 12)
    moved, _ = _row_moved(parabola + 0.5 / 12, x, spread, x, np.ones(6))
    np.testing.assert_allclose(moved, parabola)
    axis = x + np.array([0.1, -0.2, 0.3, 0.0, -0.1, 0.2])
    moved, _ = _row_moved(3.0 * x, x, spread, axis, np.ones(6))
    np.testing.assert_allclose(moved, 3.0 * axis, atol=1e-12)


@given(
    n=st.integers(3, 14),
    data=st.data(),
)
def test_the_variance_of_a_moved_row_is_that_of_the_linear_map(n, data):
    """The weights of every bin, from unit vectors, give the variance of independent bins."""
    numbers = st.floats(0.05, 2.0)
    gaps, variance, spread = (data.draw(hnp.arrays(float, n, elements=numbers)) for _ in range(3))
    x = np.cumsum(gaps)
    axis = x + data.draw(hnp.arrays(float, n, elements=st.floats(-0.3, 0.3)))
    weights = np.stack([_row_moved(unit, x, spread, axis, variance)[0] for unit in np.eye(n)], axis=1)
    _, moved = _row_moved(np.zeros(n), x, spread, axis, variance)
    np.testing.assert_allclose(moved, weights**2 @ variance, rtol=1e-9)


def test_runs_at_two_energies_and_delays_stay_apart():
    """Every bin has its own ratio of sums: nothing leaks over fluence, delay or energy."""
    runs, wanted = [], {}
    for k, (fluence, delay) in enumerate([(8.0, 0.5), (8.0, 2.0), (32.0, 2.0)]):
        photons = np.array([[400.0 + 10 * k + e, 500.0, 1000.0] for e in range(3)])
        runs.append(exact_pulses([528.0, 528.5, 529.0], photons[:, None, :], delay=delay, fluence=fluence))
        wanted[fluence, delay] = -np.log(photons[:, 0] / 500.0)
    found = spectra(runs)
    assert found["delta_xas"].shape == (2, 2, 3)
    for (fluence, delay), values in wanted.items():
        np.testing.assert_allclose(found["delta_xas"].sel(fluence=fluence, delay=delay), values)
    assert np.isnan(found["delta_xas"].sel(fluence=32.0, delay=0.5)).all()
    assert int(found["n_pulses"].sum()) == 3 * 3 * 4


def test_delay_scans_at_two_energies_are_two_scans():
    low = exact_pulses(np.full(3, 528.0), PHOTONS, delay=[0.0, 1.0, 2.0])
    again = exact_pulses(np.full(3, 528.02), PHOTONS, delay=[0.0, 1.0, 2.0])
    high = exact_pulses(np.full(3, 530.0), (500.0, 500.0, 1000.0), delay=[0.0, 1.0, 2.0])
    found = delay_scans([high, low, again], constant=(0.05, 0.0))
    np.testing.assert_allclose(found["energy"], [528.01, 530.0])
    np.testing.assert_allclose(found["delay"], [0.0, 1.0, 2.0])
    np.testing.assert_allclose(found["delta_xas"], [[0.05 + np.log(1.25)] * 3, [0.05] * 3])
    np.testing.assert_array_equal(found["n_pulses"], [[8] * 3, [4] * 3])
    np.testing.assert_allclose(found["delta_xas_stderr"][0], np.sqrt(1 / 3200 + 1 / 4000))


def test_some_pulses_of_a_train_on_the_bins_of_all():
    run = exact_pulses(ENERGY, PHOTONS)
    run["photons"].values[:, 1, 0] = 800.0
    odd = spectra([run], pulses=np.array([1])).isel(fluence=0, delay=0)
    np.testing.assert_allclose(odd["delta_xas"], np.log(500 / 800))
    np.testing.assert_array_equal(odd["n_pulses"], 2)
    np.testing.assert_array_equal(odd["energy"], spectra([run])["energy"])
    scan = exact_pulses(np.full(3, 528.0), run["photons"].values[:3], delay=[0.0, 1.0, 2.0])
    part = delay_scans([scan], pulses=np.array([0, 2]))
    np.testing.assert_allclose(part["delta_xas"], [[np.log(1.25)] * 3])


def test_no_runs_give_the_same_variables_without_bins():
    run = exact_pulses(ENERGY, PHOTONS)
    some = compared(spectra, [run], NO_REFERENCE)
    none = spectra([])
    assert set(none.data_vars) == set(some.data_vars)
    assert none["delta_xas"].shape == (0, 0, 0)
    scan = compared(delay_scans, [exact_pulses(np.full(3, 528.0), PHOTONS, delay=[0.0, 1.0, 2.0])], NO_REFERENCE)
    empty = delay_scans([])
    assert set(empty.data_vars) == set(scan.data_vars)
    assert {"fluence", "energy"} <= set(empty.coords)
    for name in empty.data_vars:
        # texts are as wide as the longest
        assert np.result_type(empty[name].dtype, scan[name].dtype) == scan[name].dtype, name


def test_noise_of_trains_from_elsewhere_is_expected_of_every_train():
    """A bin of one train cannot know the noise that its pulses share: it gets what the flat field knows."""
    run = exact_pulses([528.0, 528.5, 529.0], PHOTONS)
    sums = accumulate(run, cells_of(run, [528.0, 528.5, 529.0]), 3)
    axis, _ = mean_coordinate(sums, "energy")
    found = difference(sums, (0.0, 0.0), along="energy", axis=axis, train_noise={("pumped", "unpumped"): 0.01})
    np.testing.assert_allclose(found["delta_xas_stderr"], np.sqrt(1 / 1600 + 1 / 2000 + 0.01))
    np.testing.assert_allclose(found["delta_xas_stderr_shot"], np.sqrt(1 / 1600 + 1 / 2000))
    np.testing.assert_allclose(found["od_unpumped_stderr"], np.sqrt(1 / 2000 + 1 / 4000))
    xr.testing.assert_allclose(found["delta_xas"], xr.full_like(found["delta_xas"], np.log(1.25)))
