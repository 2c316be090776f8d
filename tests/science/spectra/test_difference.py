"""ΔXAS and its error bars against simulated truth: bias, χ²/dof and coverage."""

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

from pipeline.science.spectra.reference import flat_constant, noise_of_trains
from pipeline.science.spectra.scans import delay_scans, spectra
from pipeline.science.spectra.uncertainty import prior_of_ratio
from pipeline.science.sums.accumulate import accumulate, merge_sums
from pipeline.science.sums.contrast import log_contrast
from pipeline.science.sums.contrast import ratio as ratio_of
from tests.science.pulse_truth import make_pulses

STEPS = np.arange(527.0, 531.0, 0.25)


def true_delta(energy):
    return 0.02 * np.exp(-(((energy - 528.2) / 0.5) ** 2)) - 0.02 * np.exp(-(((energy - 529.2) / 0.5) ** 2))


def one_scan(rng, *, trains=4, **options):
    energy = np.repeat(STEPS, trains) + rng.normal(0, 0.002, len(STEPS) * trains)
    return make_pulses(rng, energy, delta=true_delta(energy), **options)


def test_ratio_of_sums_has_the_smallest_error_of_all_at_low_counts():
    """Sixty photons per pulse, unequal beams: bias and scatter of the three estimators over many data sets."""
    rng = np.random.default_rng(1)
    trains, sets = 50, 150
    split = (0.5, 1.5, 1.0)
    pulses = make_pulses(
        rng, np.full(trains * sets, 528.0), delta=0.01, photons=60.0, read_variance=0.0, split=split, od=0.0
    )
    truth = 0.01 - np.log(split[0] / split[1])
    p, u = (pulses["photons"].values[..., k].reshape(sets, -1) for k in (0, 1))
    cells = np.repeat(np.arange(sets), trains)[:, None] + np.zeros((1, 20), np.int64)
    value, scatter, _ = log_contrast(accumulate(pulses, cells, sets), ratio_of("pumped", "unpumped"))
    lit = (p > 0) & (u > 0)
    ratio = np.where(lit, p, np.nan) / np.where(lit, u, np.nan)
    error = {
        "sums": -value.values - truth,
        "ratios": -np.log(np.nanmean(ratio, axis=1)) - truth,
        "logs": -np.nanmean(np.log(ratio), axis=1) - truth,
    }
    bias, spread = ({n: float(f(e)) for n, e in error.items()} for f in (np.mean, np.std))
    assert abs(bias["sums"]) < 4 * spread["sums"] / np.sqrt(sets)
    for other in ("ratios", "logs"):
        assert abs(bias[other]) > 10 * spread[other] / np.sqrt(sets), other
        # the weight of a pulse in the sum is its photons: no other combination is less noisy
        assert spread[other] ** 2 > 1.15 * spread["sums"] ** 2, other
    assert np.sqrt(float(scatter.mean())) == pytest.approx(spread["sums"], rel=0.2)


@pytest.mark.parametrize(
    ("excess", "jitter", "trains", "runs"),
    [
        (0.0, 0.0, 3, 1),
        pytest.param(0.0, 0.01, 3, 1, marks=pytest.mark.long),
        (0.004, 0.0, 1, 1),
        pytest.param(0.004, 0.0, 4, 2, marks=pytest.mark.long),
    ],
)
def test_errors_are_true(excess, jitter, trains, runs):
    """Photon noise alone; noise of single pulses; noise of whole trains, in bins of one train and of many."""
    rng = np.random.default_rng([19, trains, runs, int(1e4 * excess), int(1e4 * jitter)])

    def shaken(run):
        return run.assign(photons=run["photons"] * (1 + jitter * rng.standard_normal(run["photons"].shape)))

    pulls, shot = [], []
    for _ in range(40):
        flat = shaken(make_pulses(rng, np.full(60, 528.2), excess=excess))
        scans = [shaken(one_scan(rng, trains=trains, excess=excess, first_train=10000 * k)) for k in range(runs)]
        found = spectra(scans, constant=flat_constant([flat]), train_noise=noise_of_trains([flat]))
        assert found.sizes["energy"] == len(STEPS)
        row = found.isel(fluence=0, delay=0)
        pulls.append(((row["delta_xas"] - true_delta(row["energy"])) / row["delta_xas_stderr"]).values)
        shot.append(float((row["delta_xas_stderr"] / row["delta_xas_stderr_shot"]).mean()))
    z = np.concatenate(pulls)
    chi2 = np.mean(z**2)
    # a scan's pulls share the constant and the common variance ratio: allow three of their own standard errors
    error = np.std([np.mean(p**2) for p in pulls]) / np.sqrt(len(pulls))
    assert abs(chi2 - 1.0) < max(3 * error, 0.05), (chi2, error)
    for level in (0.68, 0.95):
        covered = np.mean(np.abs(z) < norm.ppf(0.5 + level / 2))
        assert abs(covered - level) < 3 * np.sqrt(level * (1 - level) / len(z)), (level, covered)
    assert (np.mean(shot) > 1.3) == (excess > 0 or jitter > 0)


def test_the_common_error_of_the_constant_is_in_every_bin_and_given_apart():
    rng = np.random.default_rng(3)
    scan = one_scan(rng)
    free, bound = (spectra([scan], constant=(0.1, e)) for e in (0.0, 0.005))
    np.testing.assert_allclose(bound["delta_xas_stderr"] ** 2, free["delta_xas_stderr"] ** 2 + 0.005**2)
    assert float(bound["flat_field_constant_stderr"]) == 0.005
    np.testing.assert_allclose(bound["od_pumped"] - bound["od_unpumped"], bound["delta_xas"], atol=2e-3)


def test_a_sweep_inside_wide_bins_is_neither_noise_nor_bias():
    rng = np.random.default_rng(5)
    chi2, ratio = [], []
    for _ in range(30):
        energy = np.linspace(527, 531, 200)
        scan = make_pulses(rng, energy, delta=true_delta(energy), photons=2e5)
        row = spectra([scan], energy_bins=(527.1, 530.9, 0.2)).isel(fluence=0, delay=0)
        offset = np.log(0.96 / 1.04)
        z = (row["delta_xas"] + offset - true_delta(row["energy"])) / row["delta_xas_stderr"]
        chi2.append(float((z[1:-1] ** 2).mean()))
        ratio.append(float((row["delta_xas_stderr"] / row["delta_xas_stderr_shot"]).mean()))
    # 0.2 eV is wide for these lines: the fourth derivative is what is left
    assert np.mean(chi2) == pytest.approx(1.0, abs=0.15)
    assert np.mean(ratio) < 1.1


def test_sums_of_runs_add_up_in_any_grouping():
    rng = np.random.default_rng(7)
    parts = [one_scan(rng, first_train=1000 * k) for k in range(3)]
    cells = [np.zeros(p["present"].shape, np.int64) for p in parts]
    sums = [accumulate(p, c, 1) for p, c in zip(parts, cells)]
    left = merge_sums([merge_sums(sums[:2]), sums[2]])
    right = merge_sums([sums[0], merge_sums(sums[1:])])
    xr.testing.assert_allclose(left, right, rtol=1e-14)
    whole = accumulate(xr.concat(parts, dim="train"), np.concatenate(cells), 1)
    xr.testing.assert_allclose(left, whole, rtol=1e-13)
    assert int(left["n_trains"][0]) == sum(p.sizes["train"] for p in parts)


def test_two_runs_at_one_delay_become_one_spectrum_with_smaller_errors():
    rng = np.random.default_rng(9)
    runs = [one_scan(rng, first_train=1000 * k) for k in range(4)]
    one, four = spectra(runs[:1]), spectra(runs)
    assert four.sizes == one.sizes
    gain = one["delta_xas_stderr"].values / four["delta_xas_stderr"].values
    assert gain.mean() == pytest.approx(2.0, rel=0.1)


def test_pulses_that_do_not_count_change_nothing():
    rng = np.random.default_rng(11)
    scan = one_scan(rng)
    code = scan["drop_reason"].values.copy()
    code[3, 4] = 6
    spoilt = scan.assign(drop_reason=(("train", "pulse"), code), photons=scan["photons"].copy())
    spoilt["photons"][3, 4, 0] *= 7
    clean = scan.assign(drop_reason=(("train", "pulse"), code))
    xr.testing.assert_identical(spectra([spoilt]), spectra([clean]))


def test_delay_scan_follows_the_pulses_own_delays():
    rng = np.random.default_rng(13)
    steps = np.repeat(np.linspace(-0.5, 0.5, 21), 40)
    jitter = rng.normal(0, 0.08, (len(steps), 1))
    scan = make_pulses(rng, np.full(len(steps), 528.2), photons=2e5)
    delay = steps[:, None] + jitter + np.zeros((1, 20))
    step = np.where(delay > 0, 0.05, 0.0)
    photons = scan["photons"].values.copy()
    photons[..., 0] *= np.exp(-step)
    scan = scan.assign(photons=(scan["photons"].dims, photons))
    known = scan.assign_coords(delay=(("train", "pulse"), delay), nominal_delay=("train", steps))
    blind = scan.assign_coords(delay=(("train", "pulse"), steps[:, None] + 0 * delay), nominal_delay=("train", steps))
    sharp, blurred = (delay_scans([s]).isel(scan=0) for s in (known, blind))

    def rise(curve):
        level = (curve["delta_xas"] - curve["delta_xas"][0]) / 0.05
        return int(((level > 0.1) & (level < 0.9)).sum())

    assert rise(sharp) <= 2
    assert rise(blurred) >= 4


def test_the_prior_finds_the_common_ratio_and_whether_it_varies():
    rng = np.random.default_rng(15)
    dof = np.full(400, 4)
    same = 1.7 * rng.chisquare(4, 400) / 4
    common, weight = prior_of_ratio(same, dof)
    assert common == pytest.approx(1.7, rel=0.1)
    assert weight > 50
    varied = same * np.exp(rng.normal(0, 0.8, 400))
    assert prior_of_ratio(varied, dof)[1] < 10
    assert prior_of_ratio(np.array([np.nan]), np.array([0])) == (1.0, np.inf)
    assert prior_of_ratio(np.array([np.nan]), np.array([0]), default=7.0) == (7.0, np.inf)
