"""The forward model is what it says: identities to rounding, and the printed formula integrated by hand."""

from dataclasses import replace

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import DataError
from pipeline.science import forward
from pipeline.science.kinetics.model import kinetic_trace
from pipeline.simulate.timetable import build_model
from schemas.scenario import DarkRun, Scenario

MODEL = build_model(Scenario(name="x", runs=[DarkRun(kind="dark", run=1, trains=1)]))
ENERGY = xr.DataArray(np.arange(526.5, 531.01, 0.1), dims="energy")
DELAY = xr.DataArray([-0.5, -0.05, 0.0, 0.1, 0.2, 0.5, 0.8, 2.0, 4.8, 60.0], dims="delay")


def gaussian(energy: xr.DataArray, position: float, fwhm: float) -> np.ndarray:
    return np.exp(-4 * np.log(2) * ((energy.values - position) / fwhm) ** 2)


def literal_trace(delay: np.ndarray, fluence: float) -> np.ndarray:
    """The printed formula on a fine grid, convolved numerically."""
    a1, a2, a3 = forward.scaled_amplitudes(MODEL, fluence)
    t1, t2, t3 = MODEL.taus
    offset = np.linspace(-8, 8, 8001) * MODEL.irf_sigma
    weight = np.exp(-0.5 * (offset / MODEL.irf_sigma) ** 2)
    t = np.maximum(delay[:, None] - MODEL.t_d - offset, 0.0)
    signal = ((1 - np.exp(-t / t1)) * (a1 + a2 * np.exp(-t / t2) + a3 * np.exp(-t / t3))) ** 2
    return signal @ (weight / weight.sum())


@pytest.mark.parametrize("fluence", [8.0, 20.0, 32.0])
def test_the_trace_at_the_excited_line_is_the_kinetic_model(fluence: float) -> None:
    at_line = xr.DataArray(MODEL.excited.position)
    change = forward.delta_xas(MODEL, at_line, DELAY, fluence=fluence)
    expected = kinetic_trace(
        DELAY.values,
        t_d=MODEL.t_d,
        irf_sigma=MODEL.irf_sigma,
        taus=MODEL.taus,
        amplitudes=forward.scaled_amplitudes(MODEL, fluence),
        power=2,
        sign=1,
    )
    np.testing.assert_allclose(change, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(change, literal_trace(DELAY.values, fluence), rtol=2e-5, atol=1e-9)


def test_the_excited_fraction_has_the_published_values_and_is_linear_between() -> None:
    at = xr.DataArray(4.8)
    alpha = [float(forward.excited_fraction(MODEL, at, fluence=f)) for f in (8.0, 20.0, 32.0)]
    np.testing.assert_allclose(alpha, [0.05, 0.16, 0.27], rtol=1e-12)
    assert float(forward.excited_fraction(MODEL, at, fluence=0.0)) == 0.0


def test_inside_the_pre_edge_the_difference_is_two_gaussians_and_only_a_moves() -> None:
    change = forward.delta_xas(MODEL, ENERGY, DELAY, fluence=8.0).transpose("delay", "energy").values
    alpha = forward.excited_fraction(MODEL, DELAY, fluence=8.0).values
    shift = forward.line_shift(MODEL, DELAY).values
    for i in range(DELAY.size):
        a = gaussian(ENERGY, 528.2 + shift[i], MODEL.excited.fwhm)
        b = gaussian(ENERGY, 529.2, MODEL.ground.fwhm)
        two = alpha[i] * (MODEL.excited.height * a - MODEL.ground.height * b)
        # the features above the pre-edge reach into the window with less than a millionth of the signal
        np.testing.assert_allclose(change[i], two, atol=1e-6 * alpha[i] + 1e-15)


def test_the_line_settles_exactly_and_monotonically() -> None:
    delay = xr.DataArray(np.linspace(-1, 2, 301), dims="delay")
    shift = forward.line_shift(MODEL, delay).values
    assert (shift[delay.values <= 0] == -0.2).all()
    assert (shift[delay.values >= 0.8] == 0.0).all()
    assert (np.diff(shift) >= 0).all()


def test_pumped_is_a_mixture_of_the_two_states() -> None:
    late = xr.DataArray([0.8, 4.8, 60.0], dims="delay")
    energy = xr.DataArray(np.arange(526.0, 540.0, 0.25), dims="energy")
    alpha = forward.excited_fraction(MODEL, late, fluence=32.0)
    ground, excited = forward.ground_od(MODEL, energy), forward.excited_od(MODEL, energy)
    mixed = (1 - alpha) * ground + alpha * excited
    pumped = ground + forward.delta_xas(MODEL, energy, late, fluence=32.0)
    xr.testing.assert_allclose(pumped, mixed.transpose(*pumped.dims), rtol=1e-12)


def test_nothing_before_time_zero_and_the_published_shape_after() -> None:
    assert abs(float(forward.trace(MODEL, xr.DataArray(-1.0), fluence=32.0))) < 1e-12
    delay = xr.DataArray(np.arange(-0.2, 60, 0.01), dims="delay")
    signal = forward.trace(MODEL, delay, fluence=8.0)
    assert 0.15 < float(delay[int(np.argmax(signal.values))]) < 0.3
    assert 0.014 < float(signal.max()) < 0.02
    assert float(signal.sel({"delay": delay > 30}).min()) > 0.6 * float(signal.max())


def test_sharpened_spectra_broaden_back() -> None:
    sharp = forward.without_resolution(MODEL)
    energy = xr.DataArray(np.arange(520.0, 545.0, 0.01), dims="energy")
    sigma = MODEL.resolution / (2 * np.sqrt(2 * np.log(2)))
    kernel = np.exp(-0.5 * (np.arange(-1.5, 1.505, 0.01) / sigma) ** 2)
    for spectrum in (forward.ground_od, forward.excited_od):
        broadened = np.convolve(spectrum(sharp, energy), kernel / kernel.sum(), mode="valid")
        np.testing.assert_allclose(broadened, spectrum(MODEL, energy)[150:-150], atol=1e-9)


def test_dims_units_and_inputs_untouched() -> None:
    per_pulse = xr.DataArray(np.full((3, 2), 0.3), dims=("train", "pulse"))
    per_train = xr.DataArray([528.0, 528.2, 528.4], dims="train")
    before = per_train.copy(deep=True), per_pulse.copy(deep=True)
    change = forward.delta_xas(MODEL, per_train, per_pulse, fluence=8.0)
    assert set(change.dims) == {"train", "pulse"}
    assert change.attrs["units"] == "1"
    assert change.attrs["long_name"]
    xr.testing.assert_identical(per_train, before[0])
    xr.testing.assert_identical(per_pulse, before[1])


def test_a_reference_delay_without_signal_is_refused() -> None:
    with pytest.raises(DataError, match="the kinetic trace is 0 at the reference delay -5 ps"):
        forward.scaled_amplitudes(replace(MODEL, reference_delay=-5.0), 8.0)
