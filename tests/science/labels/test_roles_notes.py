"""What is said about how the beams were told apart."""

import numpy as np

from pipeline.science.labels.roles import assign_roles
from tests.science.pulse_truth import make_pulses
from tests.science.quality.test_noise import neutral, scan

USUAL = ["pumped", "unpumped", "reference"]


def codes(notes):
    return [note.code for note in notes]


def test_two_beams_are_not_told_apart():
    run = scan(np.random.default_rng(0)).isel(beam=[0, 1])
    found, notes = assign_roles([run], None, USUAL[:2])
    assert found == USUAL[:2]
    assert [(n.code, n.severity) for n in notes] == [("beams.two_not_told_apart", "caution")]
    assert "taken as pumped and unpumped from low to high x; set beams: {count: 2, order: [...]}" in notes[0].text


def test_another_order_than_the_usual_one_is_for_information():
    rng = np.random.default_rng(4)
    runs = [neutral(scan(rng, **o).isel(beam=[2, 0, 1])) for o in ({"delta": 0.0, "delay": -1.0}, {"photons": 1e5})]
    found, notes = assign_roles(runs, None, USUAL)
    assert found == ["reference", "pumped", "unpumped"]
    assert [(n.code, n.severity) for n in notes] == [("beams.order_from_data", "info")]
    assert "reference, pumped, unpumped, as the data say" in notes[0].text


def test_without_an_edge_and_without_a_pump_effect_both_are_said():
    rng = np.random.default_rng(5)
    runs = [neutral(make_pulses(rng, np.repeat(np.arange(527.0, 531.0), 8), od=0.3, delay=d)) for d in (-1.0, 0.5)]
    found, notes = assign_roles(runs, None, USUAL)
    assert found == USUAL
    assert codes(notes) == ["beams.no_edge", "beams.no_pump_response"]
