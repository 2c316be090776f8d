"""What configs and scenarios refuse beyond unknown keys: values that contradict each other or the machine."""

import pytest

from schemas.reading import parse_config
from schemas.scenario import Scenario

RUNS = {"dark": 1, "flat_field": 2, "energy_scans": [{"run": 3, "fluence": 8.0}]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": RUNS | {"flat_field": 1}}, "runs: run 1 is both dark and flat_field"),
        ({"energy": {"bins": {"start": 538, "stop": 526, "step": 0.2}}}, r"energy.*: stop \(526\) must be above start"),
        ({"plan": {"delays": [{"start": 2, "stop": 1, "step": 0.1}]}}, r"plan\.delays.*stop \(1\) must be above start"),
        (
            {"beams": {"count": 3, "order": ["pumped", "unpumped"]}},
            "beams.*: order must name each of pumped, reference, unpumped",
        ),
        ({"plan": {"amplitudes": [0, 0, 0]}}, r"plan\.amplitudes: amplitudes must not all be zero"),
        ({"peaks": {"window": [531.0, 526.5]}}, r"peaks\.window: \[531\.0, 526\.5\] is not \[low, high\]"),
    ],
)
def test_a_config_that_contradicts_itself_names_the_key(change, message):
    with pytest.raises(ValueError, match=message) as caught:
        parse_config({"dataset": "test", "runs": RUNS} | change)
    assert "\n" not in str(caught.value)


DARK = {"run": 1, "kind": "dark", "trains": 4}
SCAN = {"run": 2, "kind": "energy_scan", "fluence": 8.0, "delay": 1.0, "energies": [528.2]}
LASER = {"recorded": True}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"runs": [DARK, DARK | {"run": 3}]}, "more than one dark run"),
        (
            {"machine": {"xray_slot": 2600}},
            "xray_slot: the last pulse would be in slot 2756; the bunch pattern has 2700",
        ),
        ({"detector": {"knee": 110.0}}, "knee stands in place of curvature; set curvature: 0"),
        ({"laser": LASER | {"first_slot": -4}, "runs": [SCAN]}, "the laser would fire in slots -4 to 152; the bunch"),
        ({"laser": LASER | {"first_slot": 2600}, "runs": [SCAN]}, "laser would fire in slots 2600 to 2756"),
        (
            {"machine": {"pulses_per_train": 90, "cell_step": 9}},
            "the detector has 800 memory cells; lower pulses_per_train",
        ),
        ({"machine": {"pulses_per_train": 8, "dark_frames": [8]}}, "dark_frames: 8 is not below pulses_per_train"),
        ({"beams": {"order": ["pumped", "reference"]}}, "order must name pumped and unpumped"),
        ({"beams": {"height": 120}}, "the beams reach to y = 134; the module is 128 high"),
        ({"beams": {"pitch": 110, "width": 110}}, "pitch 110 lets beams of width 110 overlap"),
        (
            {"absorption": {"resolution": 2.0}},
            "resolution and extra_broadening make 2.03961 eV, which is not below the",
        ),
        ({"kinetics": {"fraction": [[0, 0.1], [8, 0.2]]}}, r"must start with \[0, 0\] and rise in fluence"),
        ({"kinetics": {"fraction": [[0, 0], [8, 0.2], [8, 0.3]]}}, r"must start with \[0, 0\] and rise in fluence"),
    ],
)
def test_a_scenario_that_no_machine_could_measure(change, message):
    with pytest.raises(ValueError, match=message):
        Scenario.model_validate({"name": "x", "seed": 1, "runs": [DARK]} | change)
