"""Signals in pulses: they come back as they went in, with deviations as large as the errors say."""

import numpy as np
import pytest
import xarray as xr

from pipeline.science.injection.injected_pulses import (
    as_scan,
    halved,
    measured_signal,
    parts_by_train,
    pulses_of,
    with_signal,
)
from pipeline.science.labels.condition import OFF, ON
from pipeline.science.spectra.reference import flat_constant
from pipeline.science.spectra.scans import spectra
from tests.science.pulse_truth import exact_pulses, make_pulses

STEPS = np.repeat(np.arange(528.0, 531.0, 0.5), 8)
SHAPE = 0.01 * np.sin(STEPS)[:, None] * np.ones(20)


def conditioned(run, pattern):
    """Give pulses their condition, by train or by pulse."""
    return run.assign_coords(
        condition=(("train", "pulse"), np.broadcast_to(pattern, run["present"].shape).astype("u1"))
    )


def still(rng, **kwargs):
    return conditioned(make_pulses(rng, STEPS, **kwargs), ON)


def pulls(run, change, rng, n):
    """Return (delta_xas − injected) / error of every bin, n times."""
    signal = xr.DataArray(np.broadcast_to(change, run["present"].shape), dims=("train", "pulse"))
    found = []
    for _ in range(n):
        one = spectra([with_signal(halved(run, rng), signal)], in_run=True)
        found.append(((one["delta_xas"] - change[::8, 0]) / one["delta_xas_stderr"]).values.ravel())
    return np.array(found)


@pytest.mark.parametrize("size", [0.0, 3.0])
def test_a_signal_comes_back_with_pulls_of_width_one(size):
    rng = np.random.default_rng(3)
    found = pulls(still(rng, excess=0.01), size * SHAPE, rng, 25)
    assert abs(found.mean()) < 4 / np.sqrt(found.size)
    assert found.std() == pytest.approx(1.0, abs=0.2)


def test_without_noise_it_comes_back_exactly():
    run = conditioned(exact_pulses(STEPS, [4e4, 5e4, 6e4], n_pulses=20), ON)
    one = spectra(
        [with_signal(halved(run, np.random.default_rng(1)), xr.DataArray(SHAPE, dims=("train", "pulse")))], in_run=True
    )
    np.testing.assert_allclose(one["delta_xas"].values.ravel(), SHAPE[::8, 0], atol=1e-12)


def test_photons_and_their_error_change_alike_in_the_pumped_beam_of_pumped_pulses():
    run = halved(still(np.random.default_rng(0)), np.random.default_rng(1))
    changed = with_signal(run, xr.full_like(run["condition"], 0.1, dtype=float))
    pumped = np.zeros((1, 1, 3), bool)
    pumped[..., 0] = True
    expected = np.where(pumped & (run["condition"].values == ON)[..., None], np.exp(-0.1), 1.0)
    for name in ("photons", "photons_stderr"):
        np.testing.assert_allclose(changed[name] / run[name], expected)


def test_halves_hold_half_of_the_pulses_that_count_and_differ_from_draw_to_draw():
    run = still(np.random.default_rng(0))
    run["drop_reason"][:, 3] = 2
    rng = np.random.default_rng(1)
    first, second = (halved(run, rng)["condition"].values == ON for _ in range(2))
    used = run["drop_reason"].values == 0
    assert not (first & ~used).any()
    assert {*first.sum(axis=1)} == {9, 10}
    assert (first != second).any()


def test_trains_are_kept_together_where_conditions_are_those_of_trains():
    run = conditioned(make_pulses(np.random.default_rng(0), STEPS), np.arange(len(STEPS))[:, None] % 2)
    assert parts_by_train(run)
    assert not parts_by_train(conditioned(run, np.arange(20) % 2))
    assert not parts_by_train(conditioned(run, ON))
    assert parts_by_train(conditioned(make_pulses(np.random.default_rng(0), STEPS, n_pulses=1), ON))
    by_train = halved(run, np.random.default_rng(2), by_train=True)["condition"].values
    assert (by_train == by_train[:, :1]).all()
    # one of every two trains that follow each other
    assert ((by_train[::2, 0] == ON) ^ (by_train[1::2, 0] == ON)).all()


def test_one_half_by_itself_counts_as_pumped():
    run = halved(still(np.random.default_rng(0)), np.random.default_rng(1))
    on, off = pulses_of(run, ON), pulses_of(run, OFF)
    counted = (on["drop_reason"].values == 0) ^ (off["drop_reason"].values == 0)
    assert counted.all()
    assert (off["condition"].values == ON).all()


def test_a_drift_that_the_error_does_not_hold_shows_in_the_pulls():
    """A pump-off scan plays a pumped one; what the ratio did since the flat field looks like a signal."""
    rng = np.random.default_rng(5)
    flat = make_pulses(rng, np.full(40, 528.0))
    constant = flat_constant([flat])
    scan = make_pulses(rng, STEPS, delay=4.8)
    found = {}
    for drift in (0.0, 0.004):
        run = as_scan(conditioned(make_pulses(rng, STEPS, delta=drift), ON), scan)
        one = spectra([with_signal(run, xr.DataArray(SHAPE, dims=("train", "pulse")))], constant=constant)
        found[drift] = ((one["delta_xas"] - SHAPE[::8, 0]) / one["delta_xas_stderr"]).values
    assert np.sqrt(np.mean(found[0.0] ** 2)) < 1.8
    assert np.sqrt(np.mean(found[0.004] ** 2)) > 3.0


def test_a_run_without_pump_takes_delay_and_fluence_of_a_scan_and_keeps_its_energies():
    scan = make_pulses(np.random.default_rng(0), STEPS, delay=4.8)
    other = make_pulses(np.random.default_rng(1), STEPS[:10] + 0.1).assign_coords(fluence=0.0)
    played = as_scan(other, scan)
    assert float(played["fluence"]) == 8.0
    assert (played["delay"].values == 4.8).all()
    assert (played["nominal_delay"].values == 4.8).all()
    np.testing.assert_array_equal(played["energy"], other["energy"])


def test_the_measured_signal_is_read_off_where_each_pulse_lies():
    run = make_pulses(np.random.default_rng(0), STEPS)
    binned = spectra([conditioned(run, ON)])
    expected = np.interp(STEPS, binned["energy"].values, binned["delta_xas"].values.ravel())
    np.testing.assert_allclose(measured_signal(run, binned), np.broadcast_to(expected[:, None], (48, 20)))
    assert not measured_signal(run.assign_coords(fluence=9.0), binned).values.any()
    scans = xr.Dataset(
        {"delta_xas": (("scan", "delay"), [[0.0, 0.02], [0.0, 0.04]])},
        coords={"fluence": ("scan", [8.0, 8.0]), "energy": ("scan", [500.0, 529.0]), "delay": [0.0, 2.0]},
    )
    np.testing.assert_allclose(measured_signal(run, scans), 0.02)
