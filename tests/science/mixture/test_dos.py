"""Broadening keeps areas, symmetry and widths; the built-in peaks sit where the spectra put them."""

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import voigt_profile

from pipeline.errors import ConfigError, DataError
from pipeline.science.mixture.dos import broaden, builtin_dos

WIDTHS = st.floats(0.0, 1.5).map(lambda w: 0.0 if w < 0.02 else w)


def curve(energy, values) -> xr.DataArray:
    return xr.DataArray(
        np.asarray(values, float), dims="energy", coords={"energy": np.asarray(energy, float)}, name="dos"
    )


def area(dos: xr.DataArray) -> float:
    return float(dos.sum() * (dos["energy"][1] - dos["energy"][0]))


def gauss(energy, position, fwhm):
    return np.exp(-4.0 * np.log(2.0) * ((energy - position) / fwhm) ** 2)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    steps=st.lists(st.floats(0.05, 1.0), min_size=3, max_size=30),
    values=st.lists(st.floats(0.0, 10.0), min_size=31, max_size=31),
    gaussian=WIDTHS,
    lorentzian=WIDTHS,
)
def test_area_is_preserved(steps, values, gaussian, lorentzian):
    energy = 930.0 + np.concatenate([[0.0], np.cumsum(steps)])
    dos = curve(energy, values[: len(energy)])
    before = dos.copy(deep=True)
    result = broaden(dos, gaussian, lorentzian)
    assert area(result) == pytest.approx(np.trapezoid(dos.values, energy), rel=1e-9, abs=1e-12)
    assert result.values.min() >= -1e-12
    assert result.values.max() <= dos.values.max() * (1 + 1e-9)
    np.testing.assert_allclose(np.diff(result["energy"]), float(result["energy"][1] - result["energy"][0]), rtol=1e-6)
    xr.testing.assert_identical(dos, before)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(half=st.lists(st.floats(0.0, 5.0), min_size=2, max_size=20), gaussian=WIDTHS, lorentzian=WIDTHS)
def test_a_symmetric_dos_stays_symmetric(half, gaussian, lorentzian):
    values = np.concatenate([half, half[-2::-1]])
    dos = curve(0.1 * np.arange(len(values)), values)
    result = broaden(dos, gaussian, lorentzian, step=0.1 / 8)
    centre = 0.05 * (len(values) - 1)
    for distance in (0.0, 0.1, 0.37, 1.0):
        left, right = (float(np.interp(centre + s * distance, result["energy"], result)) for s in (-1, 1))
        assert left == pytest.approx(right, abs=1e-9 * (1 + dos.values.max()))


@pytest.mark.parametrize(("gaussian", "lorentzian"), [(0.4, 0.0), (0.0, 0.2), (0.3, 0.25)])
def test_a_narrow_line_becomes_a_voigt_profile(gaussian, lorentzian):
    energy = np.arange(520.0, 540.0, 0.005)
    line = curve(energy, gauss(energy, 530.0, 0.02) / 0.02 / np.sqrt(np.pi / (4 * np.log(2))))
    result = broaden(line, gaussian, lorentzian)
    sigma = np.hypot(gaussian, 0.02) / np.sqrt(8 * np.log(2))
    expected = voigt_profile(result["energy"].values - 530.0, sigma, lorentzian / 2)
    near = np.abs(result["energy"].values - 530.0) < 3.0
    # the Lorentzian is cut at 25 widths and rescaled: 1.3 %
    np.testing.assert_allclose(result.values[near], expected[near], rtol=0.015, atol=2e-4 * expected.max())


def test_gaussian_widths_add_in_squares():
    energy = np.arange(0.0, 20.0, 0.02)
    dos = curve(energy, gauss(energy, 10.0, 1.0))
    twice = broaden(broaden(dos, 0.6, 0.0), 0.8, 0.0)
    once = broaden(dos, 1.0, 0.0)
    at = np.linspace(7.0, 13.0, 50)
    np.testing.assert_allclose(np.interp(at, twice.energy, twice), np.interp(at, once.energy, once), atol=3e-4)
    np.testing.assert_allclose(np.interp(at, once.energy, once), gauss(at, 10, np.sqrt(2)) / np.sqrt(2), atol=3e-4)


def test_held_edges_keep_a_step_level():
    dos = curve([520.0, 530.0], [2.0, 2.0])
    held = broaden(dos, 1.0, 0.3, edges="hold")
    np.testing.assert_allclose(held, 2.0, rtol=1e-9)
    assert float(held.energy[0]) == 520.0
    assert float(held.energy[-1]) == pytest.approx(530.0, abs=0.1)
    dropping = broaden(dos, 1.0, 0.0)
    assert float(np.interp(520.0, dropping.energy, dropping)) == pytest.approx(1.0, abs=0.02)


def test_faults():
    with pytest.raises(ConfigError, match=r"gaussian_fwhm is -1.*: give a width in eV"):
        broaden(curve([1, 2], [1, 1]), -1.0, 0.0)
    with pytest.raises(DataError, match=r"the energies of the DOS .*do not increase"):
        broaden(curve([2, 1], [1, 1]), 0.1, 0.0)
    with pytest.raises(DataError, match=r"the DOS .*holds values that are not finite"):
        broaden(curve([1, 2], [1, np.nan]), 0.1, 0.0)
    with pytest.raises(DataError, match="at least two points"):
        broaden(curve([1], [1]), 0.1, 0.0)


def spectra(rng: np.random.Generator, *, height: float = 0.3, moved: float = 0.1) -> xr.Dataset:
    energy = np.arange(926.0, 936.0, 0.1)
    ground = height * gauss(energy, 931.0, 1.3) + 0.02 * (energy - 931.0) + 0.5
    delta = moved * height * (gauss(energy, 930.0, 1.3) - gauss(energy, 931.0, 1.3))
    dims, shape, sigma = ("fluence", "delay", "energy"), (1, 3, len(energy)), 5e-4
    data = {
        "od_unpumped": ground + sigma * rng.standard_normal(shape),
        "delta_xas": delta + sigma * rng.standard_normal(shape),
    }
    errors = {f"{name}_stderr": (dims, np.full(shape, sigma)) for name in data}
    coords = {"fluence": [8.0], "delay": [1.0, 2.0, 5.0], "energy": energy}
    return xr.Dataset({k: (dims, v) for k, v in data.items()} | errors, coords=coords)


def test_builtin_peaks_follow_the_spectra():
    data = spectra(np.random.default_rng(5))
    before = data.copy(deep=True)
    ground, excited = builtin_dos(data, window=(928.0, 934.0))
    peak = [float(d.energy[int(d.values.argmax())]) for d in (ground, excited)]
    assert peak[0] == pytest.approx(931.0, abs=0.05)
    assert peak[1] == pytest.approx(930.0, abs=0.1)
    assert area(ground) == pytest.approx(area(excited), rel=1e-6) == pytest.approx(1.0, rel=1e-6)
    xr.testing.assert_identical(data, before)
    _, given = builtin_dos(data, window=(928.0, 934.0), separation=-1.5)
    assert float(given.energy[int(given.values.argmax())]) == pytest.approx(932.5, abs=0.05)


def test_builtin_peaks_need_something_to_go_by():
    with pytest.raises(DataError, match=r"give mixture.dos_ground"):
        builtin_dos(spectra(np.random.default_rng(6), moved=0.0), window=(928.0, 934.0))
    with pytest.raises(DataError, match=r"no peak in the unpumped spectrum|nothing like"):
        builtin_dos(spectra(np.random.default_rng(7), height=0.0), window=(928.0, 934.0), separation=1.0)


@pytest.mark.parametrize("moved", [0.6, 1.0, 2.0, -1.0])
def test_the_excited_peak_stands_where_the_lines_are_not_where_they_push_the_extrema(moved):
    data = spectra(np.random.default_rng(8))
    energy = data["energy"].values
    data["delta_xas"].values[:] = 0.03 * (gauss(energy, 931.0 - moved, 1.3) - gauss(energy, 931.0, 1.3))
    _, excited = builtin_dos(data, window=(927.0, 935.0))
    assert float(excited.energy[int(excited.values.argmax())]) == pytest.approx(931.0 - moved, abs=0.06)
