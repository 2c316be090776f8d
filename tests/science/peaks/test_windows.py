"""The window around the two features of the difference, from curves whose answer is plain."""

import numpy as np
import pytest
import xarray as xr

from pipeline.science.peaks.windows import difference_window

ENERGY = np.arange(520.0, 540.01, 0.1)


def spectra(*lines, error=1e-4, energy=ENERGY, shape=(1, 1)):
    """Return spectra of Gaussian lines (position, height), 0.8 eV wide."""
    value = sum(h * np.exp(-4 * np.log(2) * ((energy - e) / 0.8) ** 2) for e, h in lines) + 0 * energy
    dims = ("fluence", "delay", "energy")
    return xr.Dataset(
        {
            "delta_xas": (dims, np.broadcast_to(value, (*shape, len(energy))).copy()),
            "delta_xas_stderr": (dims, np.broadcast_to(error, (*shape, len(energy))).copy()),
        },
        coords={"energy": energy},
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_the_window_reaches_2_3_times_the_distance_to_either_side_of_the_middle(sign):
    low, high = difference_window(spectra((528.2, sign * 0.01), (529.2, -sign * 0.008)))
    # lines half overlap: the extrema lie 1.2 eV apart rather than 1.0 (a grid of 0.1 eV)
    assert 0.5 * (low + high) == pytest.approx(528.7, abs=0.11)
    assert high - low == pytest.approx(2 * 2.3 * 1.1, abs=2 * 2.3 * 0.11)


def test_a_lone_feature_gets_eight_bins_to_either_side():
    """The deepest point beside a line without partner is anywhere near; with a partner in the next bin the floor counts."""
    data = spectra()
    data["delta_xas"].values[0, 0, 100:102] = (0.01, -0.009)
    low, high = difference_window(data)
    assert low == pytest.approx(ENERGY[100] + 0.05 - 0.8)
    assert high == pytest.approx(ENERGY[100] + 0.05 + 0.8)


def test_the_partner_is_near_and_the_window_inside_the_data():
    # 0.8 % of the energy is 4.2 eV: the deeper minimum 8 eV away belongs to something else
    far = difference_window(spectra((528.2, 0.01), (529.2, -0.004), (536.5, -0.009)))
    assert far[1] < 532.0
    low, high = difference_window(spectra((520.4, 0.01), (521.4, -0.01)))
    assert low == ENERGY[0]
    assert high < 525.0
    low, high = difference_window(spectra((539.6, 0.01), (538.6, -0.01)))
    assert high == ENERGY[-1]
    assert low > 535.0


def test_noise_does_not_decide_and_gaps_do_not_matter():
    """What is large within a large error is no feature: the average is weighted, and judged by its significance."""
    data = spectra((528.2, 0.01), (529.2, -0.01), shape=(2, 2))
    clean = difference_window(data)
    spoilt = data.copy(deep=True)
    spoilt["delta_xas"].values[0, 1, 150:160] = 0.5
    spoilt["delta_xas_stderr"].values[0, 1] = 10.0
    assert difference_window(spoilt) == clean
    # one energy that was hardly measured
    spoilt["delta_xas"].values[:, :, 20] = 0.1
    spoilt["delta_xas_stderr"].values[:, :, 20] = 1.0
    assert difference_window(spoilt) == clean
    gaps = data.copy(deep=True)
    gaps["delta_xas"].values[1, 0] = np.nan
    gaps["delta_xas_stderr"].values[0, 1] = np.nan
    assert difference_window(gaps) == clean


def test_one_energy_is_its_own_window():
    assert difference_window(spectra((528.0, 0.01), energy=np.array([528.0]))) == (528.0, 528.0)
