"""What a beamtime adds to noise, from raw files: ΔXAS and α are the truth's within their errors, or a note says what is not known.

Effects of films, splitting, drift and wear, which frames add nothing to, are in `tests/stages/test_beamtime_effects.py`.
"""

import json

import numpy as np
import pytest
import xarray as xr
import yaml

from pipeline.job import load_job
from pipeline.simulate import simulate_scenario
from pipeline.simulate.against_truth import compare, compare_differences
from pipeline.workflow import process
from schemas.scenario import Scenario

STEPS = [{"start": 527.0, "stop": 530.6, "step": 0.4}]
DARK = {"run": 1, "kind": "dark", "trains": 12}
FLAT = {"run": 2, "kind": "flat_field", "trains": 16, "energy": 528.2}
SCAN = {"run": 3, "kind": "energy_scan", "fluence": 32.0, "delay": 4.8, "energies": STEPS, "trains_per_step": 2}
DELAYS = {
    "run": 4,
    "kind": "delay_scan",
    "fluence": 32.0,
    "energy": 528.2,
    "delays": [-1.0, -0.5, 0.0, 0.1, 0.2, 0.3, 0.5, 0.8, 1.6, 2.5, 4.8, 10.0, 30.0],
}
MACHINE = {"pulses_per_train": 16, "pulse_id_step": 8}


class Product:
    """What came out of a simulated session, and what went in."""

    def __init__(self, out, config, change=None):
        if change is not None:
            content = yaml.safe_load(config.read_text())
            change(content)
            config.write_text(yaml.safe_dump(content))
        version = process(load_job(config, out)).version
        self.tree = xr.open_datatree(version / "product.zarr", engine="zarr")
        self.summary = json.loads((version / "summary.json").read_text())
        self.truth = json.loads((config.parent / "truth.json").read_text())
        self.said = {w["code"]: w for w in self.summary["warnings"]}

    def differences(self):
        return compare_differences(self.tree["spectra"].to_dataset(), self.tree["delay_scan"].to_dataset(), self.truth)

    def chi2(self):
        z = np.concatenate([row["z"] for row in self.differences()])
        return np.mean(z**2), len(z)


def session(folder, *runs, change=None, **sections):
    said = {"name": "beamtime", "seed": 11, "machine": MACHINE, "runs": [DARK, *runs], **sections}
    config = simulate_scenario(Scenario.model_validate(said), folder)
    return Product(folder / "out", config, change)


def agrees(product):
    """χ² of all bins in total errors, within four of its standard deviations; nothing is a fault."""
    chi2, n = product.chi2()
    assert chi2 == pytest.approx(1.0, abs=4 * np.sqrt(2 / n))
    assert [w for w in product.summary["warnings"] if w["severity"] == "fault"] == []


@pytest.fixture(scope="module")
def everything(beamtime_tiny, tmp_path_factory):
    return Product(tmp_path_factory.mktemp("everything"), beamtime_tiny.out / "config.yaml")


def test_all_effects_at_once_every_second_pulse_pumped(everything):
    agrees(everything)
    assert {row["reference"] for row in everything.differences()} == {"in_run"}
    assert "laser bits at offset 1046 slots" in everything.said["condition.found"]["text"]
    rows = compare(everything.summary, everything.truth)
    off = {row["name"]: (row["value"] - row["truth"]) / row["stderr"] for row in rows}
    assert {"alpha at 16 mJ/cm²", "alpha at 32 mJ/cm²", "slope of alpha", "time zero at the stage"} <= set(off)
    assert max(map(abs, off.values())) < 4, off


def test_films_and_their_wear_are_measured(everything):
    films = [row["film_ratio"] for row in everything.differences() if "film_ratio" in row]
    assert len(films) == 3
    assert all(abs(f["value"] - f["truth"]) < 3 * f["stderr"] < 0.03 for f in films)


def test_a_run_without_arrival_monitor_is_where_the_stage_says(everything):
    """The monitor's mean of 0.3 ps is in no delay."""
    run = everything.said["delay.monitor_missing"]
    assert (run["run"], run["severity"]) == (5, "info")
    np.testing.assert_allclose(everything.tree["spectra"]["delay"], [0.2, 4.8], atol=0.01)


def test_pedestals_that_moved_are_told(everything):
    assert everything.said["pedestal.moved"]["severity"] == "info"


def test_odd_pulses_with_slots_that_start_elsewhere_and_pump_light(tmp_path):
    """Frame 0 is not pumped; the laser's first shot is in slot 0, the X-rays start in slot 1046, the detector's ids at 0."""
    product = session(
        tmp_path,
        FLAT,
        SCAN,
        DELAYS,
        machine=MACHINE | {"xray_slot": 1046},
        pump={"pulses": [0, 1]},
        laser={"recorded": True, "first_slot": -8},
        films={"thickness": 1.02},
        detector={"pump_light": 0.1},
    )
    agrees(product)
    assert "laser bits at offset 1054 slots" in product.said["condition.laser_moved"]["text"]
    assert product.said["condition.found"]["severity"] == "info"


def test_every_second_train_by_the_config_alone(tmp_path):
    product = session(
        tmp_path, FLAT, SCAN, DELAYS | {"trains_per_step": 2}, pump={"trains": [1, 0]}, films={"thickness": 1.03}
    )
    agrees(product)
    assert {row["reference"] for row in product.differences()} == {"in_run"}
    assert "pump.trains [1, 0]" in product.said["condition.found"]["text"]


@pytest.mark.long
def test_a_pattern_that_nobody_told_is_a_fault(tmp_path):
    product = session(tmp_path, FLAT, SCAN, pump={"pulses": [1, 0]}, change=lambda config: config.pop("pump"))
    assert "every second of its pulses differs" in product.said["condition.period"]["text"]
    assert product.said["condition.period"]["severity"] == "fault"


def test_only_delay_scans_with_the_reference_beam_in_the_middle(tmp_path):
    order = {"order": ["pumped", "reference", "unpumped"]}
    product = session(tmp_path, FLAT, DELAYS, beams=order, pump={"pulses": [1, 0]}, laser={"recorded": True})
    agrees(product)
    assert product.said["beams.reference_from_place"]["severity"] == "caution"
    assert "peaks.not_fitted" not in product.said


def test_two_beams_are_found_or_the_message_says_how_to_tell(tmp_path):
    order = {"order": ["pumped", "unpumped"]}
    product = session(
        tmp_path,
        FLAT,
        SCAN,
        beams=order,
        pump={"pulses": [1, 0]},
        laser={"recorded": True},
        change=lambda c: c.pop("beams"),
    )
    told = product.said["beams.two_not_told_apart"]
    assert told["severity"] == "caution"
    assert "beams: {count: 2, order: [...]}" in told["text"]
    chi2, n = product.chi2()
    assert chi2 == pytest.approx(1.0, abs=4 * np.sqrt(2 / n))


def test_a_compressing_response_gives_no_photon_numbers(tmp_path):
    """Slope ½ above 110 ADU: the gain would be a quarter of the truth."""
    product = session(
        tmp_path,
        FLAT,
        SCAN,
        pump={"pulses": [1, 0]},
        laser={"recorded": True},
        detector={"curvature": 0.0, "knee": 110.0},
    )
    fault = product.said["response.not_described"]
    assert fault["severity"] == "fault"
    assert "numbers of photons are withheld" in fault["text"]
