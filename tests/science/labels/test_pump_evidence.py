"""The data tell a period of the pump and which half is without it, and see none where there is none."""

import numpy as np
import pytest

from pipeline.science.labels.condition import OFF, ON, condition_by_pulse, condition_by_train, one_condition
from pipeline.science.labels.pump_evidence import find_period, swapped
from tests.science.pulse_truth import make_pulses

ENERGY = np.repeat(np.arange(527.0, 531.0, 0.2), 6)


def delta(energy, size):
    return size * (np.exp(-(((energy - 528.2) / 0.4) ** 2)) - np.exp(-(((energy - 529.2) / 0.5) ** 2)))


def run_of(seed, *, size=0.012, by=None, delay=1.0, drift=0.0, excess=0.0, step=0.0, pulses=16):
    """A scan in which the pump reaches the pulses that `by` says; `step`: memory cells, odd against even [OD]."""
    rng = np.random.default_rng(seed)
    common = {
        "n_pulses": pulses,
        "photons": 2e5,
        "read_variance": 0.0,
        "delay": delay,
        "drift": drift,
        "excess": excess,
    }
    on = make_pulses(rng, ENERGY, delta=delta(ENERGY, size), **common)
    off = make_pulses(rng, ENERGY, **common)
    condition = one_condition(on, ON) if by is None else by(on)
    photons = on["photons"].where(condition == ON, off["photons"])
    photons = photons * np.exp(-step * (np.arange(pulses) % 2))[None, :, None] ** np.array([1, 0, 0])
    return on.assign(photons=photons).assign_coords(condition=condition)


def said(runs, condition):
    return [run.assign_coords(condition=condition(run)) for run in runs]


PATTERNS = {
    "every second pulse": (lambda run: condition_by_pulse(run, [1, 0]), "pulses", 2),
    "one of three": (lambda run: condition_by_pulse(run, [0, 0, 1]), "pulses", 3),
    "every second train": (lambda run: condition_by_train(run, [0, 1]), "trains", 2),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_a_period_that_nobody_told_is_found(pattern):
    by, along, length = PATTERNS[pattern]
    runs = said([run_of(seed, by=by) for seed in range(3)], lambda run: one_condition(run, ON))
    found = find_period(runs, condition=ON)
    assert found is not None
    assert (found.along, found.length) == (along, length)
    # told the truth, there is none left
    assert find_period(said(runs, by), condition=ON) is None


@pytest.mark.parametrize(
    "more",
    [{}, {"drift": 0.02}, {"excess": 0.01}, {"size": 0.0}, {"size": 0.1}],
    ids=["noise", "heat along the burst", "jitter of trains", "no signal", "a large signal"],
)
def test_no_period_is_found_where_there_is_none(more):
    still = [run_of(99, size=0.0, excess=more.get("excess", 0.0))]
    for seed in range(0, 12, 3):
        assert find_period([run_of(seed + k, **more) for k in range(3)], still, condition=ON) is None


def test_memory_cells_that_are_not_alike_are_no_pump():
    runs = [run_of(seed, step=0.004) for seed in range(3)]
    assert find_period(runs, condition=ON).length == 2
    assert find_period(runs, [run_of(9, size=0.0, step=0.004)], condition=ON) is None


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_condition_that_varies_with_delay_is_with_pump(pattern):
    by = PATTERNS[pattern][0]
    runs = [run_of(1, by=by, delay=1.0), run_of(2, by=by, delay=-1.0, size=0.0)]
    assert not swapped(runs)
    assert swapped([run.assign_coords(condition=(ON + OFF) - run["condition"]) for run in runs])
    # one run alone tells nothing
    assert not swapped([run.assign_coords(condition=(ON + OFF) - run["condition"]) for run in runs[:1]])


@pytest.mark.parametrize("still", [[], [run_of(9, size=0.0)]], ids=["alone", "beside a quiet flat field"])
def test_trains_that_scatter_by_an_unknown_amount_show_no_period(still):
    """Four trains in seven classes at a step: nothing tells a period from jitter, which a run without pump does not have."""
    runs = [run_of(seed, excess=0.01).isel(train=slice(0, 40)) for seed in range(3)]
    assert find_period([run.isel(train=slice(0, None, 3)) for run in runs], still, condition=ON) is None
