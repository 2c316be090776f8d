"""Variances moderated over bins: closed forms, floors, and the prior that drawn variances came from."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pipeline.science.spectra.uncertainty import (
    EXPECTED_WEIGHT,
    _excess_of_pulses,
    beyond_noise,
    moderated_variance,
    prior_of_ratio,
)

NAN = np.nan


def over_bins(values, dim="bin"):
    return xr.DataArray(np.asarray(values, float), dims=dim)


def moderated(scatter, shot, n_trains, **options):
    result = moderated_variance(over_bins(scatter), over_bins(shot), over_bins(n_trains), **options)
    return result.values


def test_a_ratio_counts_where_it_is_two_standard_errors_from_one():
    # the standard error of a ratio with 200 degrees of freedom is 0.1
    assert beyond_noise(1.19, 200) == 1.0
    assert beyond_noise(1.21, 200) == 1.21
    assert beyond_noise(0.81, 200) == 1.0
    assert beyond_noise(0.79, 200) == 0.79
    assert beyond_noise(1.25, 200, sigmas=3.0) == 1.0
    # without any degree of freedom as with one
    assert beyond_noise(3.8, 0) == 1.0
    assert beyond_noise(3.9, 0) == 3.9


def test_the_common_ratio_is_pooled_by_degrees_of_freedom_and_with_what_is_expected():
    ratio, dof = np.array([6.0, 12.0]), np.array([20, 40])
    surprise = np.log(10.0) ** 2 - 2 / 60
    weight = 2 / (2 / EXPECTED_WEIGHT + surprise)
    common, d0 = prior_of_ratio(ratio, dof)
    assert common == pytest.approx((60 * 10.0 + weight) / (60 + weight))
    assert d0 == np.inf
    # what was believed before weighs more where the trains agree with it
    assert prior_of_ratio(ratio, dof, default=10.0)[0] == pytest.approx(10.0)
    weight = 2 / (2 / EXPECTED_WEIGHT + np.log(10 / 8) ** 2 - 2 / 60)
    assert prior_of_ratio(ratio, dof, default=8.0)[0] == pytest.approx((600 + 8 * weight) / (60 + weight))


def test_ratios_that_chance_allows_are_one():
    # 100 degrees of freedom seen and up to 100 expected: one standard error above is chance, three below are
    assert prior_of_ratio(np.array([1.1, 1.1]), np.array([50, 50]))[0] == 1.0
    assert prior_of_ratio(np.array([1.5, 1.5]), np.array([50, 50]))[0] > 1.0
    assert prior_of_ratio(np.array([0.8, 0.8]), np.array([50, 50]))[0] == 1.0
    # a gain that is wrong by two makes photon noise twice too large, and many trains say so
    low, _ = prior_of_ratio(np.array([0.5, 0.5]), np.array([1000, 1000]))
    assert low == pytest.approx(0.5, abs=0.01)


def test_bins_without_trains_or_scatter_are_ignored():
    some, dof = np.array([6.0, 12.0]), np.array([20, 40])
    padded, with_none = np.array([6.0, NAN, 12.0, 0.0, 3.0]), np.array([20, 5, 40, 9, 0])
    assert prior_of_ratio(padded, with_none) == prior_of_ratio(some, dof)


@pytest.mark.parametrize("d0", [6.0, 20.0])
def test_the_prior_is_the_one_the_variances_were_drawn_from(d0):
    rng = np.random.default_rng(3)
    dof = rng.integers(3, 12, 20000)
    ratio = 3.0 * d0 / rng.chisquare(d0, len(dof)) * rng.chisquare(dof) / dof
    common, weight = prior_of_ratio(ratio, dof)
    # a little scatter is ascribed to chance: the prior is worth rather more than less
    assert d0 <= weight < 1.35 * d0
    assert common == pytest.approx(3.0, rel=0.05)


def test_without_any_train_the_expected_noise_stands():
    np.testing.assert_array_equal(moderated([NAN] * 3, [1.0, 2.0, NAN], [1, 1, 0]), [1.0, 2.0, NAN])


def test_noise_that_trains_share_is_added_once_a_train():
    found = moderated([NAN, NAN], [1.0, 2.0], [2, 3], pulses=over_bins([1, 2]), n_pulses=over_bins([10, 10]),
                      train_variance=3.0)  # fmt: skip
    np.testing.assert_allclose(found, [1.0 + 1.5, 2.0 + 1.0])


def test_what_single_pulses_scatter_is_expected_of_the_bins():
    n, shot, pulses = np.full(40, 11), np.ones(40), np.full(40, 3.0)
    assert _excess_of_pulses(pulses, shot, n) == pytest.approx(11 * 2.0)
    # where they do not scatter beyond photons, or do not exist, there is none
    assert _excess_of_pulses(np.full(40, 1.05), shot, n) == 0.0
    assert _excess_of_pulses(pulses, shot, np.ones(40)) == 0.0
    found = moderated(np.full(40, NAN), shot, np.ones(40), pulses=over_bins(pulses), n_pulses=over_bins(n))
    np.testing.assert_allclose(found, 3.0)
    # pooled over bins: one with twice the pulses gets half the variance of it
    mixed = np.where(np.arange(40) < 20, 11, 22)
    found = moderated(np.full(40, NAN), shot, np.ones(40), pulses=over_bins(pulses), n_pulses=over_bins(mixed))
    one = _excess_of_pulses(pulses, shot, mixed)
    np.testing.assert_allclose(found, 1.0 + one / mixed)


def test_the_excess_of_pulses_is_pooled_by_their_degrees_of_freedom():
    """Twenty bins of 2 pulses with eight times photon noise too much, twenty of 20 with once too much."""
    n, pulses = np.repeat([2.0, 20.0], 20), np.repeat([9.0, 2.0], 20)
    expected = (20 * 1 * 2 * 8 + 20 * 19 * 20 * 1) / (20 * 1 + 20 * 19)
    assert _excess_of_pulses(pulses, np.ones(40), n) == pytest.approx(expected)
    pulses[:5] = np.nan
    expected = (15 * 1 * 2 * 8 + 20 * 19 * 20 * 1) / (15 * 1 + 20 * 19)
    assert _excess_of_pulses(pulses, np.ones(40), n) == pytest.approx(expected)


def test_an_observed_variance_is_shrunk_by_its_degrees_of_freedom():
    """Trains less one, beside those that the common ratio is worth: G. K. Smyth's posterior mean, bin by bin."""
    rng = np.random.default_rng(5)
    n_trains = rng.integers(2, 9, 300)
    dof = n_trains - 1
    shot = rng.uniform(1, 3, 300)
    ratio = 4.0 * 5 / rng.chisquare(5, 300) * rng.chisquare(dof) / dof
    scatter = ratio * shot
    scatter[7] = NAN
    common, weight = prior_of_ratio(np.where(np.isnan(scatter), NAN, ratio), dof)
    assert np.isfinite(weight)
    expected = shot * (dof * ratio + weight * common) / (dof + weight)
    expected[7] = shot[7] * common
    np.testing.assert_allclose(moderated(scatter, shot, n_trains), np.maximum(expected, shot))


def test_no_bin_gets_less_than_photon_noise_unless_all_do():
    rng = np.random.default_rng(7)
    n_trains = np.full(200, 3)
    ratio = np.exp(1.5 * rng.standard_normal(200)) * rng.chisquare(2, 200) / 2
    ratio[:20] = 1e-4
    found = moderated(ratio, np.ones(200), n_trains)
    assert found.min() == 1.0
    assert found[20:].max() > 3.0
    # the gain is wrong: all are quieter than photons allow, and the data are believed
    found = moderated(0.25 * rng.chisquare(50, 200) / 50, np.ones(200), np.full(200, 51))
    np.testing.assert_allclose(found, 0.25, rtol=0.1)


def test_bins_measured_together_share_a_ratio_and_others_do_not():
    rng = np.random.default_rng(9)
    ratio = np.array([1.0, 9.0])[:, None] * rng.chisquare(20, (2, 50)) / 20
    arrays = (xr.DataArray(v, dims=("delay", "energy")) for v in (ratio, np.ones((2, 50)), np.full((2, 50), 21)))
    found = moderated_variance(*arrays, along="energy")
    assert found.dims == ("delay", "energy")
    np.testing.assert_allclose(found[0], 1.0, atol=0.5)
    np.testing.assert_allclose(found[1].mean(), 9.0, rtol=0.1)


@given(
    ratio=hnp.arrays(float, 12, elements=st.floats(0.01, 50.0)),
    scale=st.floats(1e-6, 1e6),
)
def test_errors_have_the_unit_of_the_data(ratio, scale):
    """Variances of data in other units are those variances in other units, whatever was believed."""
    n_trains = np.full(12, 4)
    one, other = (moderated(ratio * s, np.full(12, s), n_trains) for s in (1.0, scale))
    np.testing.assert_allclose(other, scale * one, rtol=1e-9)
