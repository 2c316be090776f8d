"""Which bins there are: given ones as given, steps of the stage, sweeps, arrival times, and scans that add up."""

import numpy as np
import pytest

from pipeline.errors import DataError
from pipeline.science.sums.edges import SAME_ENERGY, edges_of_delay, edges_of_energy, group_scans, nominal_edges
from tests.science.pulse_truth import exact_pulses

INF = np.inf
PHOTONS = (400.0, 500.0, 1000.0)


def run_at(delay, *, energy=528.0, fluence=8.0, arrival=None):
    """Return a run whose trains stand at delays [ps]; `arrival` (train, pulse) moves the pulses."""
    delay = np.asarray(delay, float)
    run = exact_pulses(np.broadcast_to(energy, len(delay)), PHOTONS, delay=delay, fluence=fluence)
    return run if arrival is None else run.assign_coords(delay=run["delay"] + xr_like(run, arrival))


def xr_like(run, values):
    return run["delay"].copy(data=np.broadcast_to(values, run["delay"].shape))


def test_given_energy_bins_are_taken_as_given():
    run = run_at([0.0, 1.0])
    np.testing.assert_allclose(edges_of_energy([run], (527.0, 528.0, 0.5)), [526.75, 527.25, 527.75, 528.25])
    np.testing.assert_allclose(edges_of_energy([run], [1.0, 2.0, 5.0]), [1.0, 2.0, 5.0])
    # three numbers are start, stop, step; three edges are a list
    np.testing.assert_allclose(edges_of_energy([run], [527.0, 528.0, 529.0]), [527.0, 528.0, 529.0])


def test_delay_bins_that_would_fill_the_memory_are_refused():
    with pytest.raises(
        DataError, match=r"delay\.bin: a width of 0\.001 ps makes more than 100000 bins from 0 to 1e\+06 ps"
    ):
        nominal_edges([run_at([0.0, 1e6])], 0.001)


def test_energy_bins_are_the_steps_of_all_scans():
    steps = np.repeat([528.0, 528.5, 529.0], 4)
    runs = [exact_pulses(steps, PHOTONS), exact_pulses(steps + 0.5, PHOTONS)]
    np.testing.assert_allclose(edges_of_energy(runs, None), [527.5, 528.25, 528.75, 529.25, 530.0], atol=0.01)


COARSE_AND_FINE = np.concatenate([np.arange(525.0, 527.0, 0.5), np.arange(527.0, 530.05, 0.1)])


@pytest.mark.parametrize(
    "steps",
    [
        np.arange(526.6, 531.01, 0.2),
        COARSE_AND_FINE,
        np.arange(526.4, 530.0, 0.15),
        # nothing round, as of a grating that moves by equal angles
        np.arange(0, 20) * 0.20731 + 527.013,
    ],
)
def test_no_single_train_moves_the_edges_of_regular_steps(steps):
    rng = np.random.default_rng(7)
    scans = [np.repeat(steps, 3) + 1.5e-3 * rng.normal(size=3 * len(steps)) for _ in range(2)]
    sweep = np.linspace(steps[0] - 0.04, steps[-1] + 0.04, 3 * len(steps))
    whole = edges_of_energy([exact_pulses(s, PHOTONS) for s in (*scans, sweep)], None)
    np.testing.assert_allclose(whole[1:-1], 0.5 * (steps[1:] + steps[:-1]), atol=0.06 * np.diff(steps).min())
    for lost in range(len(scans[0])):
        left = [np.delete(scans[0], lost), scans[1], sweep]
        np.testing.assert_array_equal(edges_of_energy([exact_pulses(s, PHOTONS) for s in left], None), whole)


def test_edges_of_irregular_steps_lie_between_their_readings():
    steps = np.array([526.0, 526.13, 526.4, 527.51, 528.0, 529.77])
    found = edges_of_energy([exact_pulses(np.repeat(steps, 3), PHOTONS)], None)
    np.testing.assert_allclose(found[1:-1], 0.5 * (steps[1:] + steps[:-1]), rtol=1e-12)


def test_given_delay_edges_and_widths():
    run = run_at([0.0, 1.0, 2.0])
    np.testing.assert_allclose(nominal_edges([run], [0.0, 0.5, 3.0]), [0.0, 0.5, 3.0])
    # bins centred on multiples of the width, from the first to the last delay
    np.testing.assert_allclose(nominal_edges([run], 0.5), np.arange(-0.25, 2.3, 0.5))
    np.testing.assert_allclose(nominal_edges([run], 1), np.arange(-0.5, 2.6, 1.0))


def test_bins_of_a_width_reach_as_far_as_the_jitter_in_trains():
    """Four times the robust scatter of pulses in their train: ± 0.1 ps in two of four, that is 0.074 ps less."""
    jitter = np.tile([-0.1, -0.1, 0.1, 0.1], (3, 1))
    edges = nominal_edges([run_at([0.0, 1.0, 2.0], arrival=jitter)], 0.1)
    reach = 4 * 0.1 / 0.6745
    assert edges[0] == pytest.approx(np.floor(-reach / 0.1 + 0.5) * 0.1 - 0.05)
    assert edges[-1] == pytest.approx(np.floor((2 + reach) / 0.1 + 0.5) * 0.1 + 0.05)
    np.testing.assert_allclose(np.diff(edges), 0.1)


def test_the_stage_steps_are_the_bins_half_way_between():
    run = run_at(np.repeat([-0.5, 0.0, 1.0], 3))
    np.testing.assert_allclose(nominal_edges([run], None), [-1.5, -0.25, 0.5, 2.0])
    # one position: everything is one bin
    np.testing.assert_allclose(nominal_edges([run_at([0.7, 0.7])], None), [-INF, INF])
    # readings closer than the resolution are one step
    near = run_at(np.repeat([0.0, 0.004, 1.0], 3))
    assert len(nominal_edges([near], None)) == 3
    assert len(nominal_edges([near], None, resolution=1e-3)) == 4


def test_an_arrival_that_moves_all_pulses_moves_the_steps():
    run = run_at(np.repeat([-0.5, 0.0, 1.0], 3), arrival=0.3)
    np.testing.assert_allclose(nominal_edges([run], None), np.array([-1.5, -0.25, 0.5, 2.0]) + 0.3)


def test_a_sweep_of_the_stage_is_cut_into_equal_bins():
    delay = np.linspace(0.0, 10.0, 900) + 1e-9
    edges = nominal_edges([run_at(delay)], None)
    np.testing.assert_allclose(np.diff(edges), 10.0 / 200)
    assert edges[0] <= 0.0
    assert edges[-1] >= 10.0
    # a short sweep gets bins of 10 fs at least
    edges = nominal_edges([run_at(np.random.default_rng(0).permutation(np.linspace(0.0, 1.2, 900)))], None)
    np.testing.assert_allclose(np.diff(edges), 0.01)


def test_a_run_without_delays_is_left_out_and_none_at_all_is_an_error():
    blind = run_at([np.nan, np.nan])
    run = run_at(np.repeat([0.0, 1.0], 3))
    np.testing.assert_allclose(nominal_edges([blind, run], None), nominal_edges([run], None))
    with pytest.raises(DataError, match=r"no train has a delay; set sources\.delay_stage or the runs' `delay:`"):
        nominal_edges([blind], None)
    with pytest.raises(DataError, match="no train has a delay"):
        nominal_edges([], None)


def test_positions_a_fluence_never_visited_have_no_width_there():
    """A pulse that jitter moves goes to the nearest position of its own fluence, not to one that only others visited."""
    weak = run_at(np.repeat([0.0, 1.0, 2.0], 3), fluence=8.0)
    strong = run_at(np.repeat([0.0, 2.0], 3), fluence=32.0)
    of_weak, of_strong = edges_of_delay([weak, strong], None)
    np.testing.assert_allclose(of_weak, [-1.0, 0.5, 1.5, 3.0])
    np.testing.assert_allclose(of_strong, [-2.0, 1.0, 1.0, 4.0])
    # given bins are those of all
    same = edges_of_delay([weak, strong], [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(same[0], same[1])
    # and two runs of one fluence share what either visited
    first, second = edges_of_delay([strong, run_at(np.repeat([1.0, 1.0], 3), fluence=32.0)], None)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, [-1.0, 0.5, 1.5, 3.0])


def test_the_positions_of_a_fluence_follow_the_arrival_time():
    weak = run_at(np.repeat([0.0, 1.0, 2.0], 3), fluence=8.0, arrival=0.25)
    strong = run_at(np.repeat([0.0, 2.0], 3), fluence=32.0, arrival=0.25)
    of_weak, of_strong = edges_of_delay([weak, strong], None)
    np.testing.assert_allclose(of_weak, np.array([-1.0, 0.5, 1.5, 3.0]) + 0.25)
    np.testing.assert_allclose(of_strong, np.array([-2.0, 1.0, 1.0, 4.0]) + 0.25)


def test_delay_scans_at_one_fluence_and_energy_add_up():
    def scan(fluence, energy):
        return run_at([0.0, 1.0], fluence=fluence, energy=energy)

    a, b, c, d = scan(8.0, 528.0), scan(8.0, 528.0 * (1 + 0.9 * SAME_ENERGY)), scan(8.0, 529.0), scan(32.0, 528.0)
    assert [[id(r) for r in g] for g in group_scans([d, c, b, a])] == [[id(a), id(b)], [id(c)], [id(d)]]
    apart = scan(8.0, 528.0 * (1 + 1.1 * SAME_ENERGY))
    assert len(group_scans([a, apart])) == 2
    # the median of a run's energies counts, NaN left out
    noisy = scan(8.0, np.array([528.0, np.nan]))
    assert len(group_scans([a, noisy])) == 1
    assert group_scans([]) == []
