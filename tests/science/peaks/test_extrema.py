"""Peaks against truth: pulls of unit width and positions without bias whatever the shape, and nothing found where nothing is."""

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import ConfigError, DataError
from pipeline.science.peaks.extrema import find_extrema, mean_separation

WINDOW = (526.5, 531.0)
DIMS = ("fluence", "delay", "energy")
SIGN = {"A": 1.0, "B": -1.0}


def gaussian(energy, position, fwhm):
    return np.exp(-4 * np.log(2) * ((energy - position) / fwhm) ** 2)


def lorentzian(energy, position, fwhm):
    return 1 / (1 + 4 * ((energy - position) / fwhm) ** 2)


def both(energy, position, fwhm):
    return 0.5 * (gaussian(energy, position, fwhm) + lorentzian(energy, position, fwhm))


def states(energy):
    """Return the difference of two densities of states, three bands each, that are not symmetric."""
    bands = ((0.5, 527.6, 0.7), (1.0, 528.2, 0.75), (0.3, 528.7, 0.7), (-0.6, 529.0, 0.7), (-1.0, 529.5, 0.75))
    return sum(height * gaussian(energy, *band) for height, *band in (*bands, (-0.5, 530.1, 0.8)))


SHAPES = {
    "gaussian": lambda e: gaussian(e, 528.2, 0.9) - gaussian(e, 529.2, 0.9),
    "separate": lambda e: gaussian(e, 527.9, 0.7) - 0.7 * gaussian(e, 529.8, 0.9),
    "lorentzian": lambda e: lorentzian(e, 528.2, 0.8) - lorentzian(e, 529.4, 0.8),
    "pseudo-voigt": lambda e: both(e, 528.2, 0.8) - 0.8 * both(e, 529.3, 0.9),
    "states": states,
}
DIP = {
    "gaussian": lambda e: -1e-2 * gaussian(e, 529.0, 0.9),
    "high": lambda e: -1e-1 * gaussian(e, 529.0, 0.9),
    "lorentzian": lambda e: -5e-2 * lorentzian(e, 529.0, 0.8),
}


def spectra(curve, energy, sigma, rng, *, shape=(1, 6), stderr=None):
    """Return spectra of a curve (energy,) or (fluence, delay, energy) with noise; the errors say the truth unless given."""
    values = np.broadcast_to(curve, (*shape, len(energy))) + sigma * rng.standard_normal((*shape, len(energy)))
    given = np.full(values.shape, sigma if stderr is None else stderr)
    coords = {"fluence": 8.0 * np.arange(1, shape[0] + 1), "delay": 0.1 * np.arange(shape[1]), "energy": energy}
    return xr.Dataset({"delta_xas": (DIMS, values), "delta_xas_stderr": (DIMS, given)}, coords=coords)


def truth_of(curve):
    """Return position, height and width of both extrema of a curve without noise."""
    fine = np.arange(526.5, 531.0, 2e-4)
    found = {}
    for name, sign in SIGN.items():
        top = int(np.argmax(sign * curve(fine)))
        low = sign * curve(fine) < 0.5 * sign * curve(fine)[top]
        width = fine[top + np.argmax(low[top:])] - fine[top - np.argmax(low[top::-1])]
        found[name] = (fine[top], curve(fine)[top], width)
    return found


def sets(shape, step, snr, *, seed, n_sets=35, height=1e-2):
    """Yield results and truths of data sets that differ in noise and in where the bins lie."""
    for k in range(n_sets):
        rng = np.random.default_rng([seed, k])
        moved = step * rng.uniform(-0.5, 0.5)
        energy = np.arange(WINDOW[0], WINDOW[1] + 1e-6, step)

        def curve(e, moved=moved):
            return height * SHAPES[shape](e - moved)

        yield find_extrema(spectra(curve(energy), energy, height / snr, rng), window=WINDOW), truth_of(curve)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("step", "snr"),
    [
        (0.25, 30),
        (0.1, 10),
        pytest.param(0.1, 100, marks=pytest.mark.long),
        *(pytest.param(0.05, s, marks=pytest.mark.long) for s in (10, 100, 1000)),
    ],
)
def test_errors_are_true_and_nothing_is_biased_whatever_the_shape(shape, step, snr):
    """210 spectra in 35 sets. Bands of states that merge are told apart only as well as noise and step allow."""
    pulls = {n: [] for n in ("position", "amplitude", "fwhm", "separation")}
    moved = {"A": [], "B": []}
    for found, truth in sets(shape, step, snr, seed=1):
        for peak, values in truth.items():
            one = found.sel(peak=peak)
            for name, value in zip(("position", "amplitude", "fwhm"), values, strict=True):
                pulls[name].append(((one[name] - value) / one[f"{name}_stderr"]).values.ravel())
            moved[peak].append((one["position"] - values[0]).values.ravel())
        apart = truth["B"][0] - truth["A"][0]
        pulls["separation"].append(((found["separation"] - apart) / found["separation_stderr"]).values.ravel())
    seen = np.isfinite(moved["A"]) & np.isfinite(moved["B"])
    merged = shape == "states" and snr <= 30
    if not merged:
        for one in moved.values():
            assert abs(np.nanmean(one)) < (0.010 if snr > 10 else 0.015)
    assert seen.mean() > (0.99 if snr > 10 else 0.3)
    for name, values in pulls.items():
        good = np.concatenate(values)
        good = good[np.isfinite(good)]
        # near the limit of detection the curve is as smooth as it can be, and what is seen of a peak is what noise lifts
        assert abs(good.mean()) < (0.6 if merged or snr <= 10 else 0.4), name
        # a Lorentzian that is 0.8 eV wide and seen every 0.25 eV: the errors hold what may lie between the points
        assert 0.8 < good.std() < (1.3 if snr <= 10 else 1.15), name


def test_pulls_of_the_published_shape_at_the_noise_of_the_demo_are_those_of_a_normal_distribution():
    pull = {"A": [], "B": []}
    for found, truth in sets("gaussian", 0.2, 30, seed=2, n_sets=70):
        for peak, (position, *_) in truth.items():
            one = found.sel(peak=peak)
            pull[peak].append(((one["position"] - position) / one["position_stderr"]).values.ravel())
    for one in pull.values():
        values = np.concatenate(one)
        assert len(values) == 420
        assert abs(values.mean()) < 4 / np.sqrt(420)
        assert values.std() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("step", [0.25, 0.1])
@pytest.mark.parametrize("sigma", [1e-3, 1e-4])
def test_noise_a_constant_and_a_slope_are_no_peaks(step, sigma):
    energy = np.arange(WINDOW[0], WINDOW[1] + 1e-6, step)
    rng = np.random.default_rng(3)
    for baseline in (0.0, 3e-3, 2e-3 * (energy - 528.7), -1e-3 * (energy - 526.0)):
        found = find_extrema(spectra(baseline + 0 * energy, energy, sigma, rng, shape=(1, 200)), window=WINDOW)
        assert float(found["detected"].mean()) < 0.005
        for name in ("position", "amplitude", "fwhm", "position_stderr", "amplitude_stderr", "fwhm_stderr"):
            assert found[name].where(~found["detected"]).isnull().all()


@pytest.mark.parametrize("dip", DIP)
@pytest.mark.parametrize("slope", [0.0, 1e-3, -2e-3])
def test_a_minimum_on_a_slope_has_no_maximum_beside_it(dip, slope):
    energy = np.arange(WINDOW[0], WINDOW[1] + 1e-6, 0.1)
    curve = DIP[dip](energy) + slope * (energy - 528.0)
    found = find_extrema(spectra(curve, energy, 2e-4, np.random.default_rng(4), shape=(1, 100)), window=WINDOW)
    assert found["detected"].sel(peak="B").all()
    assert int(found["detected"].sel(peak="A").sum()) <= 1


def test_before_time_zero_there_is_nothing_and_after_it_both_peaks():
    energy = np.arange(525.0, 533.0, 0.2)
    rise = np.r_[np.zeros(4), np.ones(6)]
    curve = 1e-2 * rise[:, None] * SHAPES["gaussian"](energy)
    found = find_extrema(spectra(curve, energy, 5e-4, np.random.default_rng(5), shape=(1, 10)))
    np.testing.assert_array_equal(found["detected"].values[:, 0], np.broadcast_to(rise > 0, (2, 10)))
    assert found["separation"][0, :4].isnull().all()
    assert float(found["redchi"].mean()) == pytest.approx(1.0, abs=0.25)
    assert (found["stderr_scale"] == 1).mean() >= 0.9
    value, error = mean_separation(found)
    apart = truth_of(SHAPES["gaussian"])
    assert abs(value - (apart["B"][0] - apart["A"][0])) < 4 * error
    assert np.isnan(mean_separation(found, min_delay=100.0)[0])


def test_another_edge_and_the_other_order():
    """Cu L3, the minimum below the maximum, 2.5 eV apart, unequal heights."""
    energy = np.arange(922.0, 940.0, 0.25)
    curve = 4e-3 * gaussian(energy, 932.5, 1.2) - 9e-3 * gaussian(energy, 930.0, 1.6)
    data = spectra(curve, energy, 2e-4, np.random.default_rng(6), shape=(1, 100))
    found = find_extrema(data, window=(926.0, 937.0))
    assert found["detected"].all()
    for peak, position in (("A", 932.5), ("B", 930.0)):
        pull = ((found["position"] - position) / found["position_stderr"]).sel(peak=peak).values
        # within one data set the smoothness, and so what it does to a peak, is one and the same: a part of the error is common
        assert abs(pull.mean()) < 0.7
        assert 0.7 < pull.std() < 1.15


def test_shift_is_relative_to_the_latest_delay_in_any_order():
    energy = np.arange(525.0, 533.0, 0.2)
    moving = 528.0 - 0.2 * np.exp(-np.arange(12) / 2.0)
    curve = 1e-2 * (gaussian(energy, moving[:, None], 0.8) - gaussian(energy, 530.0, 0.8))
    data = spectra(curve, energy, 1e-4, np.random.default_rng(7), shape=(2, 12))
    found = find_extrema(data.isel(delay=[3, 11, 0, 7, 5, 1, 9, 2, 10, 4, 8, 6])).sortby("delay")
    assert (found["shift"][:, -1] == 0).all()
    assert (found["shift_stderr"][:, -1] == 0).all()
    pull = ((found["shift"] - (moving - moving[-1])) / found["shift_stderr"]).values[:, :-1]
    assert np.sqrt((pull**2).mean()) < 1.6
    xr.testing.assert_allclose(found, find_extrema(data).sortby("delay"), rtol=1e-6)


def test_missing_bins_and_empty_spectra():
    energy = np.arange(525.0, 533.0, 0.2)
    data = spectra(1e-2 * SHAPES["gaussian"](energy), energy, 3e-4, np.random.default_rng(8), shape=(2, 40))
    data["delta_xas"].values[:, :, [10, 17]] = np.nan
    data["delta_xas"].values[0, 3] = np.nan
    data["delta_xas_stderr"].values[1, 5, 14] = np.nan
    before = data.copy(deep=True)
    found = find_extrema(data)
    xr.testing.assert_identical(data, before)
    assert not found["detected"][:, 0, 3].any()
    assert np.isnan(found["redchi"][0, 3])
    assert int(found["n_bins"][0, 3]) == 0
    assert int(found["n_bins"][1, 5]) == int(found["n_bins"][1, 6]) - 1
    position = truth_of(SHAPES["gaussian"])["A"][0]
    pull = ((found["position"] - position) / found["position_stderr"]).sel(peak="A").values
    assert np.isnan(pull).sum() == 1
    assert abs(np.nanmean(pull)) < 0.5
    assert np.nanstd(pull) == pytest.approx(1.0, abs=0.25)
    assert not find_extrema(data * np.nan)["detected"].any()
    alone = find_extrema(data.isel(fluence=[1], delay=[1]))
    assert alone["detected"].all()


def test_scatter_beyond_the_errors_lengthens_those_of_the_spectrum_that_scatters_alone():
    energy = np.arange(526.6, 531.01, 0.1)
    rng = np.random.default_rng(9)
    curve = 2e-2 * SHAPES["gaussian"](energy)
    calm = spectra(curve, energy, 2e-4, rng, shape=(1, 40))
    shaken = spectra(curve, energy, 8e-4, rng, shape=(1, 40), stderr=2e-4)
    data = xr.concat([calm, shaken.assign_coords(delay=4.0 + shaken["delay"])], dim="delay")
    found = find_extrema(data)
    scale = found["stderr_scale"].values[0]
    assert (scale[:40] == 1).mean() > 0.9
    assert np.median(scale[40:]) == pytest.approx(4.0, rel=0.25)
    assert float(found["redchi"][0, 40:].median()) > 6
    pull = ((found["position"] - truth_of(SHAPES["gaussian"])["A"][0]) / found["position_stderr"]).sel(peak="A").values
    assert pull[0, 40:].std() == pytest.approx(1.0, abs=0.3)


def test_what_the_reference_cannot_know_becomes_an_error_of_position_and_amplitude():
    """A constant mode moves the height and not the place; a slope moves a maximum by slope over curvature."""
    energy = np.arange(525.0, 533.0, 0.1)
    data = spectra(1e-2 * SHAPES["gaussian"](energy), energy, 1e-4, np.random.default_rng(10), shape=(1, 3))
    assert "position_stderr_systematic" not in find_extrema(data)
    slope = 1e-3 * (energy - 528.0)
    modes = np.broadcast_to(np.stack([1e-3 + 0 * energy, slope])[:, None, None], (2, 1, 3, len(energy)))
    found = find_extrema(data.assign(systematic_mode=(("mode", *DIMS), modes))).sel(peak="A")
    tilted = find_extrema(data.assign(delta_xas=data["delta_xas"] + 0.1 * slope)).sel(peak="A")
    moved = 10 * (tilted["position"] - found["position"])
    np.testing.assert_allclose(found["position_stderr_systematic"], moved, rtol=0.15)
    expected = np.hypot(1e-3, 1e-3 * (found["position"] - 528.0))
    np.testing.assert_allclose(found["amplitude_stderr_systematic"], expected, rtol=0.02)


def test_faults():
    energy = np.arange(525.0, 533.0, 0.2)
    data = spectra(0 * energy, energy, 1e-3, np.random.default_rng(11), shape=(1, 2))
    with pytest.raises(ConfigError, match=r"peaks window 531\.0 \.\.\. 526\.5 eV is empty"):
        find_extrema(data, window=(531.0, 526.5))
    with pytest.raises(
        DataError, match=r"only 0 energies inside the peaks window .* the spectra cover 525 \.\.\. 532.8 eV"
    ):
        find_extrema(data, window=(700.0, 720.0))
    with pytest.raises(DataError, match="the energies of the spectra do not increase"):
        find_extrema(data.isel(energy=slice(None, None, -1)))
