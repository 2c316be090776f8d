"""Replicates of resampled trains vary as the data do."""

import numpy as np
import pytest
import xarray as xr

from pipeline.science.spectra.resampling import _largest, _log_ratio, resampled_differences, train_weights
from pipeline.science.spectra.scans import delay_scans
from pipeline.science.spectra.scans import spectra as spectra_of_runs
from tests.science.pulse_truth import make_pulses

STEPS = np.repeat(np.linspace(-0.5, 2.0, 6), 4)


def scan(seed, *, excess=0.0, trains=STEPS, energy=528.2, first_train=1000):
    """A delay scan of four trains per step; `excess` is noise of the trains that the photons do not explain."""
    rng = np.random.default_rng(seed)
    pulses = make_pulses(rng, np.full(len(trains), energy), delta=0.01, excess=excess, n_pulses=10, photons=1e5)
    return pulses.assign_coords(
        delay=(("train", "pulse"), np.repeat(trains[:, None], 10, axis=1)),
        nominal_delay=("train", trains),
        train_id=("train", first_train + np.arange(len(trains))),
    )


def replicates(runs, n_draws, seed=0, energy_runs=()):
    cubes, scans = spectra_of_runs(list(energy_runs)), delay_scans(runs)
    return resampled_differences(
        energy_runs, runs, cubes, scans, energy_bins=None, delay_bins=None, n_draws=n_draws, seed=seed
    )


@pytest.mark.parametrize("n", [2, 4, 9])
def test_weighted_means_vary_as_means_do(n):
    rng = np.random.default_rng(1)
    stratum = np.repeat(np.arange(3), n)
    x = rng.standard_normal(3 * n)
    means = [[np.mean((train_weights(stratum, rng) * x)[stratum == s]) for s in range(3)] for _ in range(4000)]
    expected = [np.var(x[stratum == s], ddof=1) / n for s in range(3)]
    np.testing.assert_allclose(np.var(means, axis=0), expected, rtol=0.12)


def test_trains_alone_or_outside_all_bins_keep_their_weight():
    stratum = np.array([0, -1, 1, 1, -1])
    weights = train_weights(stratum, np.random.default_rng(0))
    np.testing.assert_array_equal(weights[[0, 1, 4]], 1.0)
    assert sorted(weights[2:4]) == [0.0, 2.0]


def test_the_spread_of_replicates_is_that_of_repeated_scans_whatever_the_photons_say():
    excess = 0.02
    repeated = np.array([delay_scans([scan(100 + i, excess=excess)])["delta_xas"].values[0] for i in range(40)])
    spread = np.mean([replicates([scan(i, excess=excess)], 60).delay_scan.var("draw").mean() for i in range(12)])
    photons = float((delay_scans([scan(0, excess=excess)])["delta_xas_stderr_shot"] ** 2).mean())
    assert spread > 10 * photons
    # 6 bins x 3 degrees of freedom x 12 scans, and 6 x 40 values: 10 % each
    assert spread == pytest.approx(np.var(repeated, axis=0, ddof=1).mean(), rel=0.35)


def test_runs_of_one_scan_share_their_strata_and_single_trains_get_their_standard_error():
    once = np.unique(STEPS)
    two = [scan(1, trains=once), scan(2, trains=once, first_train=5000, energy=528.21)]
    spread = replicates(two, 40).delay_scan.std("draw")
    assert (spread > 0).all()
    single = [scan(3, trains=once)]
    spread = replicates(single, 300).delay_scan.std("draw")
    np.testing.assert_allclose(spread, delay_scans(single)["delta_xas_stderr"].values, rtol=0.2)


def test_same_seed_same_bits_and_spectra_too():
    energy = np.repeat([528.0, 528.5, 529.0], 3)
    spectra = [make_pulses(np.random.default_rng(4), energy)]
    one, two, other = (replicates([scan(5)], 3, seed=s, energy_runs=spectra) for s in (7, 7, 8))
    for name in ("spectra", "delay_scan"):
        xr.testing.assert_identical(getattr(one, name), getattr(two, name))
        assert not np.array_equal(getattr(one, name), getattr(other, name))
    assert one.spectra.dims == ("draw", "fluence", "delay", "energy")
    assert one.delay_scan.shape == (3, 1, 6)
    assert replicates([], 3).delay_scan.shape == (3, 0, 0)


def two_delays():
    """Two energy scans at two delays and two fluences, eight trains a bin, noise of trains that photons do not explain."""
    runs = []
    for k, (delay, fluence) in enumerate([(0.5, 8.0), (2.0, 8.0), (2.0, 32.0)]):
        energy = np.repeat([528.0, 528.5, 529.0], 8)
        rng = np.random.default_rng(30 + k)
        run = make_pulses(rng, energy, excess=0.02, n_pulses=5, photons=1e5, delay=delay, first_train=1000 * k)
        runs.append(run.assign_coords(fluence=fluence))
    return runs


def test_every_bin_of_the_spectra_is_drawn():
    """The draws of each bin vary as its own trains do, whatever its fluence, delay and energy."""
    runs = two_delays()
    found = replicates([], 400, energy_runs=runs).spectra
    assert found.dims == ("draw", "fluence", "delay", "energy")
    measured = spectra_of_runs(runs)
    np.testing.assert_allclose(found.mean("draw"), measured["delta_xas"], atol=2e-3)
    for run in runs:
        f, d = [8.0, 32.0].index(float(run["fluence"])), [0.5, 2.0].index(float(run["nominal_delay"][0]))
        for e, energy in enumerate((528.0, 528.5, 529.0)):
            mine = run["photons"].isel(train=np.flatnonzero(run["energy"].values == energy)).sum("pulse")
            p, u = mine.sel(beam="pumped").values, mine.sel(beam="unpumped").values
            # the linearised jackknife of the ratio of sums; 400 draws know their spread to 3.5 %
            x = p / p.sum() - u / u.sum()
            expected = np.sqrt(8 / 7 * np.sum(x**2))
            assert float(found[:, f, d, e].std("draw")) == pytest.approx(expected, rel=0.15), (f, d, e)
    assert np.isnan(found[:, 1, 0]).all()


def test_pulses_outside_bins_or_that_do_not_count_are_not_drawn():
    """A train whose pulses do not count changes no draw, however bright it is."""
    run = scan(40)
    spoilt = run.copy(deep=True)
    spoilt["drop_reason"].values[3] = 5
    clean = spoilt.copy(deep=True)
    spoilt["photons"].values[3] *= 50
    xr.testing.assert_identical(replicates([spoilt], 5).delay_scan, replicates([clean], 5).delay_scan)


def test_a_train_belongs_where_most_of_its_photons_are():
    stratum = _largest(np.array([0, 0, 1, 3]), np.array([4, 5, 5, 2]), np.array([1.0, 2.0, 1.0, 7.0]), 5)
    np.testing.assert_array_equal(stratum, [5, 5, -1, 2, -1])


def test_a_bin_without_light_in_a_draw_is_nan_there():
    ratio = _log_ratio(
        np.array([0, 0, 1]), np.array([[2.0, 3.0, 1.0], [1.0, 1.0, 0.0]]), np.array([1.0, 2.0, 1.0]), (2,)
    )
    np.testing.assert_allclose(ratio, [np.log(8 / 3), np.nan])
