"""Which patch is which beam: decided by signals without noise, left to the usual order where nothing decides."""

import itertools

import numpy as np
import pytest

from pipeline.science.labels.roles import (
    _absorbed,
    _changes_more,
    _chi2,
    _Spread,
    _stands_out,
    _sums,
    assign_roles,
)
from tests.science.pulse_truth import exact_pulses

USUAL = ["pumped", "unpumped", "reference"]
ENERGY = np.linspace(526.0, 534.0, 17)
EDGE = 0.5 / (1 + np.exp(-(ENERGY - 530.0) / 0.5))


def scan(order, *, pump=0.0, delay=-1.0, fluence=8.0, edge=EDGE, photons=1e6):
    """Return a scan across an edge with the beams in an order; `pump` changes the pumped one [OD]."""
    od = {"pumped": edge + pump, "unpumped": edge, "reference": 0 * edge}
    seen = photons * np.exp(-np.stack([od[role] for role in order], axis=1))
    run = exact_pulses(ENERGY, seen[:, None, :], delay=delay, fluence=fluence)
    return run.assign_coords(beam=["a", "b", "c"])


def flat(order, photons=1e6):
    """Return a flat-field run: one energy, no pump, no delay."""
    run = exact_pulses(np.full(4, 526.0), np.full((4, 1, 3), photons))
    return run.reset_coords("delay").drop_vars("fluence").assign_coords(beam=["a", "b", "c"])


@pytest.mark.parametrize("order", list(itertools.permutations(USUAL)))
def test_edge_and_pump_decide_in_any_order(order):
    runs = [scan(order), scan(order, pump=0.05, delay=1.0)]
    roles, notes = assign_roles(runs, None, USUAL)
    assert roles == list(order)
    assert len(notes) == (order != tuple(USUAL))
    if notes:
        assert notes[0].code == "beams.order_from_data"
        assert ", ".join(order) in notes[0].text


@pytest.mark.parametrize("order", list(itertools.permutations(USUAL)))
def test_delay_scans_alone_tell_the_pumped_beam_and_say_what_they_cannot(order):
    """At one energy there is no edge; the pumped beam changes against both others, the 0th order lies in the middle."""
    still = np.zeros_like(ENERGY)
    runs = [scan(order, edge=still, delay=d, pump=0.05 * (d > 0)) for d in (-1.0, 1.0, 2.0)]
    roles, notes = assign_roles(runs, None, USUAL)
    assert roles[order.index("pumped")] == "pumped"
    if order.index("pumped") == 1:
        assert [r for r in roles if r != "pumped"] == ["unpumped", "reference"]
        assert "beams.no_edge" in [n.code for n in notes]
    else:
        assert roles[1] == "reference"
        assert "beams.reference_from_place" in [n.code for n in notes]


def test_a_change_with_fluence_tells_the_pumped_beam_too():
    order = ["unpumped", "reference", "pumped"]
    runs = [scan(order, pump=0.02, delay=1.0, fluence=8.0), scan(order, pump=0.06, delay=1.0, fluence=32.0)]
    assert assign_roles(runs, None, USUAL)[0] == order


@pytest.mark.parametrize("order", list(itertools.permutations(USUAL)))
def test_a_flat_field_run_is_a_point_without_pump(order):
    pumped = scan(order, pump=0.05, delay=1.0)
    assert assign_roles([pumped], flat(order), USUAL)[0] == list(order)
    # without it one scan is all there is, and which sample beam is pumped stays open
    assert "beams.no_pump_response" in [n.code for n in assign_roles([pumped], None, USUAL)[1]]


def test_what_nothing_decides_keeps_the_usual_order_and_is_said():
    runs = [scan(["reference", "unpumped", "pumped"], edge=0 * EDGE) for _ in range(2)]
    roles, notes = assign_roles(runs, None, USUAL)
    assert roles == USUAL
    assert [n.code for n in notes] == ["beams.no_edge", "beams.no_pump_response"]
    # an edge without pump: the reference is known, which of the others is pumped is not
    roles, notes = assign_roles([scan(["reference", "unpumped", "pumped"])] * 2, None, USUAL)
    assert roles == ["reference", "pumped", "unpumped"]
    assert notes[0].code == "beams.no_pump_response"


def test_two_beams_are_named_as_usual_and_no_runs_say_nothing():
    roles, notes = assign_roles([], None, ["unpumped", "pumped"])
    assert roles == ["unpumped", "pumped"]
    assert notes[0].code == "beams.two_not_told_apart"
    assert "unpumped and pumped" in notes[0].text
    assert assign_roles([], None, USUAL) == (USUAL, [])


def test_a_beam_is_absorbed_where_it_loses_towards_higher_energies():
    sums = _sums([scan(USUAL)], energy_only=True)
    assert _absorbed(sums, "a", "c") is True
    assert _absorbed(sums, "c", "a") is False
    assert _absorbed(sums, "a", "b") is None
    # three energies do not make an edge
    short = _sums([scan(USUAL).isel(train=[0, 8, 16])], energy_only=True)
    assert _absorbed(short, "a", "c") is None
    # and neither does a step that photon noise explains: 0.5 OD with four photons a pulse
    assert _absorbed(_sums([scan(USUAL, photons=4.0)], energy_only=True), "a", "c") is None


def test_chi_square_against_a_constant_along_the_conditions():
    """Two conditions that differ by d at every energy: d² / 2σ² each, one degree of freedom each."""
    runs = [scan(USUAL, edge=0 * EDGE), scan(USUAL, edge=0 * EDGE, pump=0.01, delay=1.0)]
    sums = _sums(runs, energy_only=False)
    chi2, dof = _chi2(sums, "a", "b", along="condition")
    photons = 4e6 * np.array([1.0, np.exp(-0.01)])
    variance = 1 / photons + 1 / 4e6 + 5e-4**2
    assert dof == len(ENERGY)
    assert chi2 == pytest.approx(len(ENERGY) * 0.01**2 / variance.sum(), rel=1e-6)
    assert _chi2(sums, "b", "c", along="condition")[0] == pytest.approx(0.0, abs=1e-9)


def spread(ab, ac, bc, dof=100):
    return _Spread({frozenset(p): v for p, v in (((0, 1), ab), ((0, 2), ac), ((1, 2), bc))}, dof)


def test_the_beam_stands_out_whose_ratios_to_both_others_vary():
    assert _stands_out(spread(1e4, 1e4, 100)) == 0
    assert _stands_out(spread(1e4, 100, 1e4)) == 1
    assert _stands_out(spread(100, 1e4, 1e4)) == 2
    # the quieter of the two loud ones decides, by six standard deviations of χ² and half as much again
    assert _stands_out(spread(1e4, 150, 100)) is None
    assert _stands_out(spread(1e4, 1400, 1000)) is None
    assert _stands_out(spread(1e4, 1e4, 100, dof=0)) is None


def test_of_two_sample_beams_the_one_that_changes_more_is_pumped():
    # against the third beam, 2
    assert _changes_more(spread(0, 1e4, 100), 0, 1) == 0
    assert _changes_more(spread(0, 100, 1e4), 0, 1) == 1
    assert _changes_more(spread(0, 100, 150), 0, 1) is None
    assert _changes_more(spread(100, 0, 1e4), 0, 2) == 2


def steps(order, energy, *, pump=0.05, photons=1e6):
    """Return a delay scan at one energy, with the beams in an order."""
    delay = np.repeat([-1.0, 0.5, 2.0, 5.0], 4)
    change = np.where(delay > 0, pump, 0.0)
    od = float(np.interp(energy, ENERGY, EDGE + 0.2))
    seen = {"pumped": np.exp(-od - change), "unpumped": np.full(16, np.exp(-od)), "reference": np.ones(16)}
    photons_of = photons * np.stack([seen[role] for role in order], axis=1)
    run = exact_pulses(np.full(16, energy), photons_of[:, None, :], delay=delay)
    return run.assign_coords(beam=["a", "b", "c"])


@pytest.mark.parametrize("order", list(itertools.permutations(USUAL)))
def test_a_flat_field_at_another_energy_tells_the_reference_without_an_energy_scan(order):
    still = exact_pulses(np.full(4, 527.0), _flat_of(order)[None, None, :], n_pulses=4)
    still = still.reset_coords("delay").drop_vars("fluence").assign_coords(beam=["a", "b", "c"])
    roles, notes = assign_roles([steps(order, 529.5)], still, USUAL)
    assert roles == list(order)
    assert "beams.reference_from_energies" in [n.code for n in notes]


def _flat_of(order):
    od = float(np.interp(527.0, ENERGY, EDGE + 0.2))
    return 1e6 * np.array([1.0 if role == "reference" else np.exp(-od) for role in order])


def test_at_one_energy_the_reference_is_the_beam_in_the_middle_and_it_is_said():
    order = ["unpumped", "reference", "pumped"]
    roles, notes = assign_roles([steps(order, 528.2)], None, USUAL)
    assert roles == order
    assert [n.code for n in notes] == ["beams.reference_from_place", "beams.order_from_data"]
    # the pumped beam itself in the middle: the usual order of the others
    roles, _ = assign_roles([steps(["unpumped", "pumped", "reference"], 528.2)], None, USUAL)
    assert roles == ["unpumped", "pumped", "reference"]
