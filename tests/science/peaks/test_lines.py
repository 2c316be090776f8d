"""Peaks A and B: errors that are right, no bias, nothing reported where nothing is, any edge and any order."""

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import ConfigError, DataError
from pipeline.science.peaks.lines import evaluate_peaks, fit_peaks, mean_separation

SEED = {"a": (528.2, 0.9, 1e-2), "b": (529.2, 0.9, -1e-2)}


def simulate(
    rng: np.random.Generator,
    lines: dict[str, tuple],
    *,
    shape: tuple[int, int] = (1, 200),
    sigma: float = 5e-4,
    energy: np.ndarray | None = None,
    offset: float = 0.0,
) -> xr.Dataset:
    """Lines (position, fwhm, height); each a number or an array that broadcasts to (fluence, delay)."""
    if energy is None:
        energy = np.arange(525.0, 533.0, 0.2)
    values = np.full((*shape, len(energy)), offset)
    for line in lines.values():
        position, fwhm, height = (np.broadcast_to(x, shape)[..., None] for x in line)
        values = values + height * np.exp(-4 * np.log(2) * ((energy - position) / fwhm) ** 2)
    values = values + sigma * rng.standard_normal(values.shape)
    dims = ("fluence", "delay", "energy")
    return xr.Dataset(
        {"delta_xas": (dims, values), "delta_xas_stderr": (dims, np.full(values.shape, sigma))},
        coords={"fluence": 8.0 * np.arange(1, shape[0] + 1), "delay": 0.1 * np.arange(shape[1]), "energy": energy},
    )


def pulls(peaks: xr.Dataset, name: str, peak: str, truth: float) -> np.ndarray:
    one = peaks.sel(peak=peak)
    return ((one[name] - truth) / one[f"{name}_stderr"]).values.ravel()


def assert_calibrated(pull: np.ndarray) -> None:
    """Mean 0 and width 1 within four standard errors of either.

    One common width shifts all positions of a data set together: with this geometry its share of their variance is about 5 / n.
    """
    n = len(pull)
    assert np.isfinite(pull).all()
    assert abs(pull.mean()) < 4 * np.sqrt(6 / n)
    assert abs(pull.std() - 1) < 4 / np.sqrt(2 * n)


@pytest.mark.parametrize(
    ("sigma", "step", "fwhm_b"),
    [
        (1e-3, 0.2, 0.75),
        (3e-4, 0.1, 0.9),
        pytest.param(1e-3, 0.2, 0.9, marks=pytest.mark.long),
        pytest.param(3e-4, 0.1, 0.75, marks=pytest.mark.long),
    ],
)
def test_errors_are_true_and_positions_unbiased(sigma, step, fwhm_b):
    lines = SEED | {"b": (529.2, fwhm_b, -1e-2)}
    energy = np.arange(525.0, 533.0, step)
    peaks = fit_peaks(simulate(np.random.default_rng(11), lines, sigma=sigma, energy=energy))
    assert peaks["detected"].all()
    # one needless common width costs nothing and is taken by AICc in one data set of six
    assert peaks.attrs["widths"] in ({"common", "common per line"} if fwhm_b == 0.9 else {"common per line"})
    assert peaks.attrs["constant_offset"] == 0
    for peak, (position, fwhm, height) in zip("AB", lines.values(), strict=True):
        assert_calibrated(pulls(peaks, "position", peak, position))
        assert_calibrated(pulls(peaks, "amplitude", peak, height))
        assert abs(pulls(peaks, "fwhm", peak, fwhm)[0]) < 4
        assert abs(float((peaks["position"].sel(peak=peak) - position).mean())) < 0.010
    assert_calibrated(((peaks["separation"] - 1.0) / peaks["separation_stderr"]).values.ravel())
    assert float(peaks["redchi"].mean()) == pytest.approx(1.0, abs=0.05)


@pytest.mark.long
def test_a_few_delays_are_enough_for_true_errors():
    """Forty small scans: the common width is learned from eight spectra, its error is shared by all of them."""
    collected = []
    for seed in range(40):
        peaks = fit_peaks(simulate(np.random.default_rng([12, seed]), SEED, shape=(1, 8), sigma=7e-4))
        collected.append(np.stack([pulls(peaks, "position", "A", 528.2), pulls(peaks, "position", "B", 529.2)]))
    pull = np.array(collected)
    assert np.isfinite(pull).all()
    assert abs(pull.mean()) < 0.2
    assert pull.std() == pytest.approx(1.0, abs=0.15)


def test_widths_that_change_with_delay_are_found():
    widths = np.where(np.arange(200) % 2, 0.7, 1.1)
    lines = {"a": (528.2, widths, 1e-2), "b": (529.4, widths, -1e-2)}
    peaks = fit_peaks(simulate(np.random.default_rng(13), lines, sigma=3e-4, energy=np.arange(525.0, 533.0, 0.1)))
    assert peaks.attrs["widths"] == "shared"
    pull = ((peaks["fwhm"].sel(peak="A")[0] - widths) / peaks["fwhm_stderr"].sel(peak="A")[0]).values
    assert_calibrated(pull)


def test_a_constant_is_fitted_only_when_the_data_ask():
    offset = fit_peaks(simulate(np.random.default_rng(14), SEED, sigma=3e-4, offset=1e-3))
    assert offset.attrs["constant_offset"] == 1
    assert_calibrated(((offset["offset"] - 1e-3) / offset["offset_stderr"]).values.ravel())
    assert_calibrated(pulls(offset, "position", "A", 528.2))


def test_no_line_is_reported_where_there_is_none():
    peaks = fit_peaks(simulate(np.random.default_rng(15), {}, shape=(2, 250), sigma=5e-4))
    assert float(peaks["detected"].mean()) < 0.005
    for name in ("position", "amplitude", "fwhm"):
        for suffix in ("", "_stderr"):
            assert peaks[name + suffix].where(~peaks["detected"]).isnull().all()


def test_before_time_zero_is_empty_and_after_it_full():
    rise = np.r_[np.zeros(4), np.ones(6)]
    lines = {"a": (528.2, 0.9, 1e-2 * rise), "b": (529.2, 0.9, -1e-2 * rise)}
    peaks = fit_peaks(simulate(np.random.default_rng(16), lines, shape=(1, 10)))
    np.testing.assert_array_equal(peaks["detected"].values[:, 0], np.broadcast_to(rise > 0, (2, 10)))
    assert peaks["separation"][0, :4].isnull().all()
    np.testing.assert_allclose(peaks["redchi"][0], 1.0, atol=0.9)


def test_only_one_of_the_lines():
    peaks = fit_peaks(simulate(np.random.default_rng(17), {"b": (529.0, 1.0, -8e-3)}, shape=(1, 50)))
    assert not peaks["detected"].sel(peak="A").any()
    assert peaks["detected"].sel(peak="B").all()
    assert_calibrated(pulls(peaks, "position", "B", 529.0))


@pytest.mark.long
def test_other_edge_other_order_other_distance():
    """Cu L3, the negative line below the positive one, 2.5 eV apart, unequal heights."""
    energy = np.arange(922.0, 940.0, 0.25)
    lines = {"a": (932.5, 1.2, 4e-3), "b": (930.0, 1.6, -9e-3)}
    peaks = fit_peaks(simulate(np.random.default_rng(18), lines, energy=energy, sigma=4e-4), window=(926.0, 937.0))
    assert peaks["detected"].all()
    assert float(peaks["separation"].mean()) == pytest.approx(-2.5, abs=0.01)
    for peak, line in zip("AB", lines.values(), strict=True):
        assert_calibrated(pulls(peaks, "position", peak, line[0]))


def test_shift_is_relative_to_the_latest_delay():
    moving = 528.2 - 0.2 * np.exp(-np.arange(12) / 2.0)
    data = simulate(np.random.default_rng(19), SEED | {"a": (moving, 0.9, 1e-2)}, shape=(2, 12), sigma=2e-4)
    shuffled = data.isel(delay=[3, 11, 0, 7, 5, 1, 9, 2, 10, 4, 8, 6])
    peaks = fit_peaks(shuffled).sortby("delay")
    truth = moving - moving[-1]
    assert (peaks["shift"][:, -1] == 0).all()
    assert (peaks["shift_stderr"][:, -1] == 0).all()
    pull = ((peaks["shift"] - truth) / peaks["shift_stderr"]).values[:, :-1]
    assert np.sqrt((pull**2).mean()) < 1.6
    assert float(np.abs(pull).max()) < 5


def test_missing_bins_and_empty_spectra():
    data = simulate(np.random.default_rng(20), SEED, shape=(2, 60), sigma=3e-4)
    holes = data["delta_xas"].values
    holes[:, :, [10, 17]] = np.nan
    holes[0, 3] = np.nan
    data["delta_xas_stderr"].values[1, 5, 14] = np.nan
    before = data.copy(deep=True)
    peaks = fit_peaks(data)
    xr.testing.assert_identical(data, before)
    assert not peaks["detected"][:, 0, 3].any()
    assert np.isnan(peaks["redchi"][0, 3])
    assert int(peaks["n_bins"][0, 3]) == 0
    assert int(peaks["n_bins"][1, 5]) == int(peaks["n_bins"][1, 6]) - 1
    pull = pulls(peaks, "position", "A", 528.2)
    assert np.isnan(pull).sum() == 1
    assert_calibrated(pull[np.isfinite(pull)])


def test_all_missing_and_single_spectrum():
    data = simulate(np.random.default_rng(21), SEED, shape=(1, 2), sigma=3e-4)
    assert not fit_peaks(data * np.nan)["detected"].any()
    alone = fit_peaks(data.isel(delay=[1]))
    assert alone["detected"].all()
    assert alone.attrs["widths"] in {"shared", "free"}
    assert abs(pulls(alone, "position", "A", 528.2)[0]) < 4


def test_order_of_the_delays_does_not_matter():
    """Common width and all."""
    data = simulate(np.random.default_rng(22), SEED, shape=(2, 9), sigma=3e-4)
    peaks, reversed_peaks = fit_peaks(data), fit_peaks(data.isel(delay=slice(None, None, -1)))
    xr.testing.assert_allclose(peaks["position"], reversed_peaks["position"].sortby("delay"), atol=1e-5)


def test_curve_separation_and_attributes():
    data = simulate(np.random.default_rng(23), SEED, shape=(1, 40), sigma=3e-4)
    peaks = fit_peaks(data)
    curve = evaluate_peaks(peaks, data["energy"].sel(energy=slice(526.5, 531.01)))
    misfit = (data["delta_xas"] - curve) / data["delta_xas_stderr"]
    assert float((misfit**2).sum("energy").mean()) == pytest.approx(23 - 4, rel=0.1)
    value, error = mean_separation(peaks)
    assert abs(value - 1.0) < 5 * error
    assert np.isnan(mean_separation(peaks, min_delay=100.0)[0])
    for name in peaks.data_vars:
        assert {"units", "long_name"} <= set(peaks[name].attrs), name
    assert peaks["position"].dims == ("peak", "fluence", "delay")


def test_faults():
    data = simulate(np.random.default_rng(24), SEED, shape=(1, 2))
    with pytest.raises(ConfigError, match=r"peaks window 531\.0 \.\.\. 526\.5 eV is empty"):
        fit_peaks(data, window=(531.0, 526.5))
    with pytest.raises(
        DataError, match=r"only 0 energies inside the peaks window .* the spectra cover 525 \.\.\. 532.8 eV"
    ):
        fit_peaks(data, window=(700.0, 720.0))
    with pytest.raises(DataError, match="the energies of the spectra do not increase"):
        fit_peaks(data.isel(energy=slice(None, None, -1)))


def disturbed(spectra: xr.Dataset, rng: np.random.Generator, share: float) -> xr.Dataset:
    """Return spectra of which every second was taken with a signal that changed from energy to energy by this share."""
    factor = 1 + share * rng.standard_normal(spectra["delta_xas"].shape)
    factor[:, 1::2] = 1.0
    return spectra.assign(delta_xas=spectra["delta_xas"] * factor)


@pytest.mark.parametrize("share", [0.2, 0.3])
def test_a_signal_that_changes_from_energy_to_energy_lengthens_the_errors_of_its_peaks_alone(share):
    rng = np.random.default_rng(31)
    lines = {"a": (528.1, 0.9, 5e-2), "b": (529.2, 0.9, -5e-2)}
    clean = simulate(rng, lines, shape=(1, 60), energy=np.arange(526.6, 531.01, 0.2), sigma=1e-3)
    found, before = fit_peaks(disturbed(clean, rng, share)), fit_peaks(clean)
    bad, good = found.isel(delay=slice(0, None, 2)), found.isel(delay=slice(1, None, 2))
    assert float(bad["redchi"].median()) > 2
    assert (bad["stderr_scale"] > 1).mean() > 0.9
    for peak, truth in (("A", 528.1), ("B", 529.2)):
        # a line that scatters by as much as its height is no line
        assert bad["detected"].sel(peak=peak).mean() > 0.85
        pull = pulls(bad.isel(delay=bad["detected"].sel(peak=peak).values[0]), "position", peak, truth)
        assert np.abs(pull).max() < 4
        assert 0.7 < pull.std() < 1.5
    assert (good["stderr_scale"] == 1).mean() > 0.9
    assert_calibrated(pulls(good, "position", "A", 528.1))
    # they learn their common width from fewer spectra, no more
    same = good["position_stderr"] / before["position_stderr"].isel(delay=slice(1, None, 2))
    assert 1.0 < float(same.median()) < 1.3


def test_errors_of_spectra_that_lines_describe_stay_as_they_are():
    peaks = fit_peaks(simulate(np.random.default_rng(32), SEED, shape=(1, 200)))
    enlarged = peaks["stderr_scale"].values > 1
    # one in a hundred by chance
    assert enlarged.sum() <= 7
    assert (peaks["redchi"].values[0][enlarged[0]] > 1.3).all()
