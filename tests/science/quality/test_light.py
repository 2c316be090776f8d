"""A difference that depends on how bright pulses were, or on light at the border of the regions, is seen; others are not."""

import numpy as np
import pytest
import xarray as xr

from pipeline.science.quality.light import border_change, intensity_test
from pipeline.science.spectra.scans import quality_cells
from tests.science.pulse_truth import exact_pulses, make_pulses

STEPS = np.repeat(np.arange(528.0, 531.0, 0.25), 10)


def scan(seed, **options):
    od = 0.3 + 0.5 / (1 + np.exp(-(STEPS - 529.5) / 0.2))
    return make_pulses(np.random.default_rng(seed), STEPS, od=od, delta=0.02 * np.sin(STEPS), **options)


def figures_of(run):
    return intensity_test(run, quality_cells(run, kind="energy_scan"))


@pytest.mark.parametrize("beams", [3, 2])
def test_pulls_are_those_of_chance_with_and_without_a_reference(beams):
    """With few photons, where a choice by a beam of the ratio itself would favour its noise."""
    found = [figures_of(scan(seed, photons=2e3).isel(beam=slice(beams))) for seed in range(40)]
    pulls = np.array([f["intensity_change"] / f["intensity_change_stderr"] for f in found])
    assert abs(pulls.mean()) < 3 / np.sqrt(40)
    assert 0.7 < pulls.std() < 1.25
    chance = np.array([f["intensity_p"] for f in found])
    assert (chance < 0.01).sum() <= 3
    assert 0.85 < np.mean([f["intensity_chi2"] for f in found]) < 1.1


def test_a_pedestal_and_a_bent_response_change_bright_against_dim_pulses():
    clean = scan(1)
    alone = figures_of(clean)
    assert abs(alone["intensity_change"]) < 4 * alone["intensity_change_stderr"]
    pumped = clean["beam"] == "pumped"
    for spoilt, sign in (
        (clean["photons"] + 100.0 * pumped, 1.0),  # a smaller part of bright pulses: they look more absorbed
        (clean["photons"] * (1 - 2e-6 * clean["photons"] * pumped), 1.0),  # bright pulses are compressed
        (clean["photons"] - 100.0 * pumped, -1.0),
    ):
        found = figures_of(clean.assign(photons=spoilt))
        assert sign * found["intensity_change"] > 8 * found["intensity_change_stderr"]
        assert found["intensity_p"] < 1e-4


def test_thirds_are_taken_bin_by_bin():
    """Bins of very different light: a choice over all of them would compare bins, not pulses."""
    light = np.repeat([1000.0, 4000.0], 3)[:, None] * (1 + np.arange(6) / 6)[None, :]
    photons = np.stack([0.5 * light + 10.0, 0.5 * light, light], axis=-1)
    run = exact_pulses(np.repeat([528.0, 529.0], 3), photons, n_pulses=6)
    cell = np.repeat([0, 1], 3)[:, None] * np.ones((1, 6), int)
    value = {}
    for k in (0, 1):
        found = intensity_test(run, np.where(cell == k, cell, -1) if k else np.where(cell == 0, 0, -1))
        one = light[3 * k]
        bright, dim = one[4:].sum(), one[:2].sum()
        value[k] = np.log((0.5 * bright) / (0.5 * bright + 60 / 3)) - np.log((0.5 * dim) / (0.5 * dim + 60 / 3))
        assert found["intensity_change"] == pytest.approx(value[k], rel=1e-6)
    both = intensity_test(run, cell)["intensity_change"]
    assert min(value.values()) < both < max(value.values())


def test_without_pulses_to_compare_nothing_is_said():
    run = scan(1).isel(train=slice(0, 4))
    assert all(np.isnan(v) for v in intensity_test(run, np.full((4, 20), -1)).values())
    few = np.full((4, 20), -1)
    few[0, :5] = 0
    assert all(np.isnan(v) for v in intensity_test(run, few).values())


def bordered(seed, *, slope=0.0, noise=1e-4, common=0.0):
    rng, run = np.random.default_rng(seed), scan(seed)
    x = (STEPS - STEPS.mean()) / np.ptp(STEPS)
    border = 0.003 + noise * rng.standard_normal((len(STEPS), 3)) + common * x[:, None]
    border[:, 0] += slope * x
    return run.assign(border=(("train", "beam"), border))


def test_light_at_the_border_against_energy():
    pulls = []
    for seed in range(30):
        found = border_change(bordered(seed, slope=2e-3))
        pulls.append((found["border_change"] - 2e-3) / found["border_change_stderr"])
    assert abs(np.mean(pulls)) < 0.6
    assert 0.7 < np.std(pulls) < 1.3
    # what both beams share cancels in the difference
    found = border_change(bordered(3, common=5e-3))
    assert abs(found["border_change"]) < 4 * found["border_change_stderr"]
    assert found["border_change_stderr"] < 1e-4


def test_one_energy_or_no_record_of_the_border_says_nothing():
    run = bordered(1)
    assert np.isnan(border_change(run.drop_vars("border"))["border_change"])
    assert np.isnan(border_change(run.assign_coords(energy=xr.full_like(run["energy"], 528.0)))["border_change"])
    assert np.isnan(border_change(run.isel(train=slice(0, 9)))["border_change_stderr"])
