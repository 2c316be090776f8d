"""DOS without an edge, and DOS that are not the sample's: α holds within its total error, on shapes that no model contains."""

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter1d
from scipy.stats import norm

from pipeline.science.mixture.dos_models import fit_models
from tests.science.random_mixtures import STATES, random_mixture

ENERGY = np.arange(526.0, 531.6, 0.1)
ALPHA = np.array([0.057, 0.13, 0.27])
NOISE = 4e-4


def line(energy, centre, width, eta):
    """A pseudo-Voigt line of height 1."""
    x = (energy - centre) / width
    return eta / (1 + 4 * x**2) + (1 - eta) * np.exp(-4 * np.log(2) * x**2)


GROUND = {
    "gaussian": lambda e: line(e, 528.9, 1.1, 0.0),
    "pseudo-Voigt": lambda e: line(e, 528.9, 1.1, 0.4),
    "asymmetric": lambda e: line(e, 528.9, np.where(e < 528.9, 0.9, 1.4), 0.2),
    "two lines": lambda e: 0.7 * line(e, 528.6, 0.9, 0.1) + 0.5 * line(e, 529.4, 1.0, 0.1),
}
TAIL = {
    "none": lambda e: 0 * e,
    "error function": lambda e: 0.6 * norm.cdf((e - 533) / 1.4),
    "arctan": lambda e: 0.5 * (0.5 + np.arctan((e - 532.5) / 0.6) / np.pi),
    "logistic": lambda e: 0.6 / (1 + np.exp(-(e - 532.8) / 0.5)),
}


def measured(seed, ground, tail):
    rng = np.random.default_rng(seed)
    lower, upper = 0.35 * GROUND[ground](ENERGY), 0.315 * GROUND[ground](ENERGY + 0.55)
    shape = (3, 2, len(ENERGY))
    unpumped = 0.2 + lower + TAIL[tail](ENERGY) + 2 * NOISE * rng.standard_normal(shape)
    change = ALPHA[:, None, None] * (upper - lower) + NOISE * rng.standard_normal(shape)
    dims, one = ("fluence", "delay", "energy"), np.ones(shape)
    errors = {"od_unpumped": 2 * NOISE, "delta_xas": NOISE, "od_pumped": np.sqrt(5) * NOISE}
    values = {"od_unpumped": unpumped, "delta_xas": change, "od_pumped": unpumped + change}
    data = {n: (dims, v) for n, v in values.items()} | {f"{n}_stderr": (dims, e * one) for n, e in errors.items()}
    return xr.Dataset(data, coords={"fluence": [8.0, 16.0, 32.0], "delay": [4.8, 10.0], "energy": ENERGY})


def dos(ground, broader=0.0):
    """The states of a ground state without any edge, broadened by some eV more."""
    energy = np.arange(515.0, 545.0, 0.02)
    states = [GROUND[ground](energy), 0.9 * GROUND[ground](energy + 0.55)]
    if broader:
        states = [gaussian_filter1d(s, broader / 2.355 / 0.02) for s in states]
    return tuple(xr.DataArray(s, dims="energy", coords={"energy": energy}) for s in states)


def pulls(sample, tail, states, seeds, **options):
    found = []
    for seed in seeds:
        result = fit_models(
            measured(seed, sample, tail), {"main": states}, window=(526.2, 531.2), min_delay=4.0, **options
        )
        total = np.hypot(result["alpha_stderr"], result["alpha_model_stderr"].fillna(0.0))
        found.append(((result["alpha"] - ALPHA) / total).values)
    return np.array(found), result


@pytest.mark.parametrize("tail", list(TAIL))
def test_dos_that_hold_the_pre_edge_only_give_the_right_share(tail):
    z, result = pulls("pseudo-Voigt", tail, dos("pseudo-Voigt"), range(6))
    assert np.mean(z**2) < 1.6
    assert abs(z).max() < 3.5
    assert (result.attrs["edge"] == "none") == (tail == "none")


MISFITS = [
    ("pseudo-Voigt", "gaussian", 0.0),
    ("gaussian", "pseudo-Voigt", 0.0),
    ("asymmetric", "pseudo-Voigt", 0.0),
    ("asymmetric", "gaussian", 0.0),
    ("two lines", "gaussian", 0.0),
    ("pseudo-Voigt", "pseudo-Voigt", 0.3),
    ("asymmetric", "asymmetric", 0.3),
]


def test_where_the_dos_miss_the_spectrum_the_error_says_so():
    """One session per sample and DOS."""
    z = []
    for ground, states, broader in MISFITS:
        found, result = pulls(ground, "arctan", dos(states, broader), [1])
        assert result["alpha_model_stderr"].notnull().all()
        z.append(found[0])
    z = np.array(z)
    assert np.mean(np.abs(z) < 1) >= 0.65
    assert np.mean(np.abs(z) < 2) >= 0.93


@pytest.mark.long
@pytest.mark.parametrize("kind", ["right", "no edge", "one line", "0.3 eV too broad"])
def test_total_errors_hold_on_states_drawn_at_random(kind):
    """Two sessions per state; `python -m tests.benchmarks mixture_coverage` draws two hundred."""
    z = []
    for state in STATES:
        for seed in range(2):
            drawn = random_mixture(700 + seed, state, kind)
            result = fit_models(drawn.spectra, {"main": drawn.dos}, window=drawn.window)
            parts = np.stack([result[f"alpha_{n}stderr"].fillna(0.0) for n in ("", "model_", "reference_")])
            z.append((result["alpha"].values - drawn.alpha) / np.sqrt((parts**2).sum(axis=0)))
    z = np.abs(np.concatenate(z))
    assert np.mean(z < 1) > 0.5
    assert np.mean(z < 2) > 0.85


def test_the_measured_ground_state_needs_no_dos_that_describes_it():
    """The ground DOS gives the size of the excited one only, by its area: a Gaussian does, where the sample is skewed."""
    z, result = pulls("asymmetric", "arctan", dos("gaussian"), range(2), ground="measured")
    assert abs(z).max() < 2.5
    assert float(result["ground_redchi"]) < 1.3
    total = np.hypot(result["alpha_stderr"], result["alpha_model_stderr"])
    assert (total < 0.5 * result["alpha"]).all()
