"""Bins found in the data: steps, sweeps, repeats, noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.science.sums.binning import (
    assign,
    energy_edges,
    grid_edges,
    snap_to_steps,
    step_centres,
    step_centres_of_all,
    step_edges,
    sweep_edges,
)


def noisy(values, sigma, seed=0):
    return np.asarray(values) + np.random.default_rng(seed).normal(0, sigma, np.shape(values))


def test_a_step_scan_gives_its_steps():
    steps = np.arange(526.0, 536.0, 0.2)
    centres = step_centres(noisy(np.repeat(steps, 5), 0.003), resolution=1e-3)
    np.testing.assert_allclose(centres, steps, atol=0.01)


def test_steps_of_very_different_size_are_all_found():
    delays = np.r_[-1.0, -0.3, np.arange(-0.06, 0.42, 0.02), 0.8, 1.6, 4.8, 20.0, 60.0]
    centres = step_centres(noisy(np.repeat(delays, 4), 0.0007), resolution=5e-3)
    np.testing.assert_allclose(centres, delays, atol=3e-3)


@pytest.mark.parametrize("trains", [150, 600])
def test_a_sweep_up_and_down_has_no_steps(trains):
    up = np.linspace(526.0, 536.0, trains)
    assert step_centres(noisy(np.r_[up, up[::-1]], 0.003), resolution=1e-3) is None


def test_a_stage_that_stands_still_is_one_step():
    assert len(step_centres(noisy(np.full(300, 4.8), 0.0007), resolution=5e-3)) == 1


def test_scans_that_take_one_train_per_step_share_their_steps():
    steps = np.arange(526.4, 535.1, 0.2)
    scans = [noisy(steps, 0.002, seed) for seed in range(5)]
    edges = energy_edges(scans)
    assert len(edges) == len(steps) + 1
    for scan in scans:
        np.testing.assert_array_equal(assign(scan, edges), np.arange(len(steps)))


def test_a_sweep_is_cut_at_the_resolution_of_the_monochromator():
    up = np.linspace(526.0, 536.0, 2000)
    edges = energy_edges([np.r_[up, up[::-1]]])
    assert np.diff(edges) == pytest.approx(0.1)


def test_no_energy_at_all_is_an_error():
    with pytest.raises(DataError, match=r"sources\.energy"):
        energy_edges([np.full(5, np.nan)])


def test_grid_edges_are_centred_on_the_grid():
    edges = grid_edges(526.0, 527.0, 0.2)
    np.testing.assert_allclose(0.5 * (edges[1:] + edges[:-1]), [526.0, 526.2, 526.4, 526.6, 526.8, 527.0])


def test_positions_of_several_scans_that_agree_count_once():
    merged = step_centres_of_all([np.array([0.0, 0.1, 0.2]), np.array([0.1003, 0.5])], resolution=5e-3)
    np.testing.assert_allclose(merged, [0.0, 0.10015, 0.2, 0.5])


@settings(deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=50), st.floats(0.01, 10))
def test_every_finite_value_is_in_exactly_the_bin_that_holds_it(values, width):
    values = np.array(values)
    edges = sweep_edges(values, width=width)
    index = assign(values, edges)
    assert (index >= 0).all()
    assert (edges[index] <= values).all()
    assert (values <= edges[index + 1]).all()
    assert assign(np.array([np.nan, edges[0] - 1, edges[-1] + 1]), edges).tolist() == [-1, -1, -1]


def test_step_edges_of_one_step_take_everything():
    assert assign(np.array([-1e9, 0.0, 1e9]), step_edges(np.array([4.8]))).tolist() == [0, 0, 0]


GRID = np.arange(526.6, 531.1, 0.2)
COARSE, FINE = 526.6 + 0.3 * np.arange(15), 526.6 + 0.1 * np.arange(43)
SWEEP = np.linspace(526.6, 530.7, 44)


@pytest.mark.parametrize(
    ("scans", "bins"),
    [
        ([noisy(GRID, 0.002), np.r_[np.linspace(526.6, 531.0, 23), np.linspace(531.0, 526.6, 23)]], 23),
        ([noisy(np.repeat(GRID, 3), 0.002), np.linspace(526.5, 531.1, 60)], 23),
        ([noisy(GRID, 0.002), noisy(GRID + 0.1, 0.002, 1)], 46),
        ([noisy(GRID, 0.02), noisy(GRID, 0.02, 1)], 23),
        ([np.random.default_rng(5).permutation(noisy(GRID, 0.002))], 23),
        ([np.random.default_rng(6).permutation(noisy(np.repeat(GRID, 3), 0.002))], 23),
        ([np.tile(noisy(np.arange(526.6, 531.0, 0.05), 0.002), 2)], 88),
        ([noisy(np.full(50, 528.2), 0.002)], 1),
        ([noisy(np.repeat(COARSE, 4), 0.002), noisy(FINE, 0.002, 1)], 43),
        ([noisy(np.repeat(COARSE, 4), 0.002), noisy(FINE[6:25], 0.002, 1)], 27),
        ([noisy(np.repeat(COARSE, 4), 0.002), noisy(np.tile(FINE, 2), 0.002, 1), noisy(FINE[::-1], 0.002, 2)], 43),
        ([noisy(np.repeat(COARSE, 4), 0.002), np.linspace(526.55, 530.85, 41)], 15),
        ([noisy(np.repeat(COARSE, 4), 0.002), np.r_[SWEEP, SWEEP[::-1]] + 0.037], 15),
    ],
    ids=[
        "steps and sweep",
        "dwelling and sweep",
        "offset",
        "noisy",
        "random order",
        "shuffled",
        "two passes",
        "still",
        "a train per finer step",
        "finer steps on a part",
        "finer steps, several passes",
        "a sweep of few trains",
        "a sweep that turns and comes back",
    ],
)
def test_scans_of_every_kind_get_the_bins_a_person_would_draw(scans, bins):
    assert len(energy_edges(scans)) - 1 == bins


def test_steps_lose_the_noise_of_the_encoder_and_sweeps_stay():
    sweep = np.r_[np.linspace(526.6, 531.0, 30), np.linspace(531.0, 526.6, 30)]
    lost = noisy(GRID, 0.002, 2)
    lost[3] = np.nan
    scans = [noisy(GRID, 0.002), lost, sweep]
    one, two, three = snap_to_steps(scans, resolution=1e-3)
    np.testing.assert_array_equal(one[np.isfinite(two)], two[np.isfinite(two)])
    assert np.isnan(two[3])
    assert np.abs(one - GRID).max() < 0.004
    np.testing.assert_array_equal(three, sweep)
    shifted = GRID + 0.05
    np.testing.assert_array_equal(snap_to_steps([noisy(GRID, 0.002), shifted], resolution=1e-3)[1], shifted)
