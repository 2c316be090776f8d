"""A shift between up and down sweeps: found where it was put, not where it was not, with a true error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.science.quality.backlash import backlash, directions
from pipeline.science.sums.edges import edges_of_energy
from tests.science.pulse_truth import make_pulses


def od(energy):
    """Return a pre-edge peak and an edge."""
    return 0.2 + 0.3 * np.exp(-(((energy - 529.0) / 0.5) ** 2)) + 0.4 / (1 + np.exp(-(energy - 531.5) / 0.4))


def ways(kind, trains):
    """Return readings [eV] of a scan up and down again."""
    if kind == "sweep":
        up = np.linspace(526.0, 533.0, trains)
        return np.r_[up, up[::-1] - 0.013]
    up = np.repeat(np.arange(526.0, 533.01, 0.2), trains)
    return np.r_[up, up[::-1]]


def scan(rng, kind, trains, injected, *, beams=3, photons=2e4, noise=0.002, shape=od):
    path = ways(kind, trains)
    n = len(path) // 2
    true = path - 0.5 * injected * np.r_[np.ones(n), -np.ones(n)]
    run = make_pulses(rng, path + rng.normal(0, noise, 2 * n), od=shape(true), delta=0.1 * shape(true), photons=photons)
    return run.isel(beam=slice(beams))


def found_in(run, bins=None):
    return backlash(run, edges_of_energy([run], bins))


@pytest.mark.parametrize(
    ("kind", "trains", "injected", "bins"),
    [
        ("steps", 1, 0.1, None),
        pytest.param("steps", 2, 0.0, None, marks=pytest.mark.long),
        pytest.param("sweep", 300, 0.1, None, marks=pytest.mark.long),
        pytest.param("sweep", 100, 0.0, (526.0, 533.0, 0.2), marks=pytest.mark.long),
        ("sweep", 150, -0.3, (526.0, 533.0, 0.2)),
    ],
)
def test_the_shift_is_unbiased_and_its_error_true(kind, trains, injected, bins):
    rng = np.random.default_rng(21)
    found = np.array([found_in(scan(rng, kind, trains, injected), bins) for _ in range(40)])
    pulls = (found[:, 0] - injected) / found[:, 1]
    assert np.isfinite(pulls).all()
    assert abs(pulls.mean()) < 4 / np.sqrt(len(pulls)), pulls.mean()
    assert 0.75 < pulls.std() < 1.3, pulls.std()


def test_without_a_reference_beam_the_difference_tells():
    rng = np.random.default_rng(22)
    value, error = found_in(scan(rng, "steps", 4, 0.1, beams=2, photons=2e5))
    assert value == pytest.approx(0.1, abs=4 * error)
    assert value > 5 * error


@pytest.mark.parametrize("why", ["one direction", "flat", "few bins"])
def test_what_cannot_be_known_is_not_claimed(why):
    rng = np.random.default_rng(23)
    run = scan(rng, "steps", 2, 0.1, shape=(lambda e: 0.3 + 0 * e) if why == "flat" else od)
    if why == "one direction":
        run = run.isel(train=slice(72))
    if why == "few bins":
        run = run.isel(train=slice(66, 78))
    assert np.isnan(found_in(run)).all()


def test_directions_are_those_of_the_path_and_not_of_its_noise():
    rng = np.random.default_rng(24)
    path = np.r_[np.repeat(np.arange(526, 533, 0.2), 3), np.repeat(np.arange(533, 526, -0.2), 3)]
    way = directions(path + rng.normal(0, 0.02, len(path)))
    half = len(path) // 2
    assert (way[9:half] >= 0).all()
    assert (way[9 : half - 3] == 1).all()
    # neither at the beginning nor just after the turn
    assert (way[:5] == 0).all()
    assert (way[half + 3 : half + 6] == 0).all()
    assert (way[half + 9 :] == -1).all()
    lost = path.copy()
    lost[10] = np.nan
    assert directions(lost)[10] == 0
    assert not directions(np.full(5, 528.0)).any()


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=60))
def test_a_path_turned_over_has_the_opposite_directions(path):
    values = np.array(path, float)
    np.testing.assert_array_equal(directions(-values), -directions(values))
