"""What science refuses: data that do not belong together, and settings that no fit can take."""

import lmfit
import numpy as np
import pytest
import xarray as xr

from pipeline.errors import ConfigError, DataError
from pipeline.science.detector.beams import find_beams
from pipeline.science.detector.dark import dark_sums, merge_dark_sums
from pipeline.science.kinetics.parameters import known_parameters
from pipeline.science.kinetics.shared import fit_kinetics
from pipeline.science.mixture.alpha import fit_mixture
from pipeline.science.peaks.lines import fit_peaks
from pipeline.science.spectra.scans import delay_scans
from tests.science.kinetic_truth import simulate
from tests.science.pulse_truth import make_pulses


def sums_of(shape):
    frames = np.zeros((2, *shape), np.uint16)
    return frames, dark_sums(frames, np.zeros(2, int), 1)


def test_dark_sums_of_different_regions():
    (small, of_small), (_, of_large) = sums_of((4, 4)), sums_of((4, 6))
    with pytest.raises(DataError, match=r"dark sums of shapes \(1, 4, 4\) and \(1, 4, 6\) do not belong together"):
        merge_dark_sums(of_small, of_large)
    with pytest.raises(DataError, match=r"\(1, 4, 6\) cannot take frames of shape \(1, 4, 4\)"):
        dark_sums(small, np.zeros(2, int), 1, out=of_large)


def test_beams_are_not_sought_on_a_broken_module():
    image = xr.DataArray(np.ones((16, 16)), dims=("y", "x"))
    bad = xr.zeros_like(image, dtype=np.uint8)
    bad[:12] = 1
    with pytest.raises(DataError, match="only 25% of the pixels are good: no beams can be found"):
        find_beams(image, bad=bad)


def test_kinetic_settings_that_no_fit_can_take():
    with pytest.raises(ConfigError, match=r"kinetics\.irf_sigma is -1 ps; give zero or a positive number, or fit"):
        known_parameters(3, {"irf_sigma": -1.0})
    bounded = lmfit.Parameters()
    bounded.add("tau1", value=1.0)
    bounded["tau1"].set(min=2.0, max=1.0)
    with pytest.raises(ConfigError, match=r"kinetics\.parameters\.tau1: min \(2\) must be below max \(1\)"):
        known_parameters(3, {}, bounded)
    with pytest.raises(ConfigError, match="no kinetic model with power 3 and 3 exponentials; power is 1 or 2"):
        fit_kinetics(simulate(), power=3)
    with pytest.raises(DataError, match="kinetics need several delays, got 1"):
        fit_kinetics(simulate().isel(delay=slice(1)))


def spectra(energy):
    axes = {"fluence": [8.0], "delay": [4.8], "energy": energy}
    names = ("delta_xas", "od_unpumped", "od_pumped")
    variables = {f"{n}{end}": tuple(axes) for n in names for end in ("", "_stderr")}
    return xr.Dataset({n: (dims, np.full((1, 1, len(energy)), 0.01)) for n, dims in variables.items()}, axes)


def test_spectra_without_energies():
    grid = np.arange(520.0, 540.0, 0.1)
    dos = xr.DataArray(np.exp(-((grid - 528.5) ** 2)), {"energy": grid}, ("energy",))
    with pytest.raises(DataError, match=r"mixture window .* the spectra cover no energies; widen mixture\.window"):
        fit_mixture(spectra([]), dos, dos, window=(526.5, 531.0))
    with pytest.raises(DataError, match=r"the spectra cover no energies; widen peaks\.window or use finer"):
        fit_peaks(spectra([]), window=(526.5, 531.0))
    with pytest.raises(DataError, match=r"the spectra cover 500 \.\.\. 509 eV; widen peaks\.window or use finer"):
        fit_peaks(spectra(np.arange(500.0, 510.0)), window=(526.5, 531.0))


def test_delay_scans_outside_the_bins():
    swept = make_pulses(np.random.default_rng(1), np.full(40, 528.2)).assign_coords(
        delay=(("train", "pulse"), np.full((40, 20), 0.5)), nominal_delay=("train", np.full(40, 0.5))
    )
    with pytest.raises(DataError, match=r"no pulse of the delay scans falls into a bin; check delay\.bin, delay\.t0"):
        delay_scans([swept], delay_bins=np.array([10.0, 11.0]), constant=(0.0, 0.0))
