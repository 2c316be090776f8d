"""The two lines beside the peaks: true where the data resolve them, said to be degenerate where they do not."""

import numpy as np
import pytest
import xarray as xr

from pipeline.science.peaks.lines import fit_peaks
from tests.science.peaks.test_extrema import gaussian, spectra

APART = {"A": (528.0, 0.8, 1e-2), "B": (529.8, 1.0, -8e-3)}
NEAR = {"A": (528.7, 0.9, 2e-2), "B": (529.0, 0.9, -2e-2)}


def simulate(rng, lines, *, n=100, sigma=3e-4, offset=0.0):
    """Return one fluence of spectra that are Gaussian lines (position, fwhm, height) on a constant."""
    energy = np.arange(525.0, 533.0, 0.2)
    curve = offset + sum(h * gaussian(energy, p, w) for p, w, h in lines.values()) + 0 * energy
    return spectra(curve, energy, sigma, rng, shape=(1, n))


def test_lines_that_are_apart_are_found_with_true_errors():
    peaks = fit_peaks(simulate(np.random.default_rng(1), APART, offset=1e-3))
    assert not peaks["line_degenerate"].any()
    assert float(peaks["line_correlation"].max()) < 0.9
    for peak, truth in APART.items():
        for name, value in zip(("position", "fwhm", "amplitude"), truth, strict=True):
            one = peaks.sel(peak=peak)
            pull = ((one[f"line_{name}"] - value) / one[f"line_{name}_stderr"]).values
            assert abs(pull.mean()) < 0.5
            assert pull.std() == pytest.approx(1.0, abs=0.3)
    pull = ((peaks["offset"] - 1e-3) / peaks["offset_stderr"]).values
    assert abs(pull.mean()) < 0.5
    assert float(peaks["line_redchi"].mean()) == pytest.approx(1.0, abs=0.1)


def test_lines_nearer_than_their_width_are_said_to_be_degenerate_and_the_peaks_stand():
    peaks = fit_peaks(simulate(np.random.default_rng(2), NEAR, n=30))
    assert peaks["line_degenerate"].mean() > 0.9
    assert peaks["detected"].all()
    assert float(peaks["position_stderr"].max()) < 0.05


def test_one_peak_has_one_line_and_none_has_a_constant():
    peaks = fit_peaks(simulate(np.random.default_rng(3), {"B": APART["B"]}, n=20))
    assert peaks["line_position"].sel(peak="A").isnull().all()
    assert peaks["line_position"].sel(peak="B").notnull().all()
    empty = fit_peaks(simulate(np.random.default_rng(4), {}, n=20, offset=1e-3))
    assert empty["line_position"].isnull().all()
    assert not empty["line_degenerate"].any()
    assert (abs(empty["offset"] - 1e-3) < 4 * empty["offset_stderr"]).all()
    nothing = fit_peaks(simulate(np.random.default_rng(4), {}, n=2) * np.nan)
    assert nothing["offset"].isnull().all()


def test_order_of_the_delays_does_not_matter():
    data = simulate(np.random.default_rng(5), APART, n=9)
    again = fit_peaks(data.isel(delay=slice(None, None, -1))).sortby("delay")
    xr.testing.assert_allclose(fit_peaks(data), again, rtol=1e-5)
