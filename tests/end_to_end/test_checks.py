"""What is wrong with an experiment is in the warnings by the name of the run, and nothing else is."""

import json

import numpy as np
import pytest
import xarray as xr
import yaml

from pipeline.job import load_job
from pipeline.simulate import simulate_scenario
from pipeline.storage import versions as publish
from pipeline.workflow import process
from schemas.scenario import Scenario

ENERGIES = [{"start": 527.0, "stop": 531.0, "step": 0.2}]


def energy_scan(run, fluence, delay, **more):
    return {"run": run, "kind": "energy_scan", "fluence": fluence, "delay": delay, "energies": ENERGIES, **more}


def product(out, runs, *, change=None, options=(), **scenario):
    """Simulate, process in plain Python; returns the product's tree and its warnings."""
    always = [{"run": 1, "kind": "dark", "trains": 12}, {"run": 2, "kind": "flat_field", "trains": 24, "energy": 528.2}]
    machine = {"pulses_per_train": 12, "pulse_id_step": 8}
    process_options = {"peaks": {"window": [527.0, 531.0]}, "mixture": {"window": [527.0, 531.0], "min_delay": 4.0}}
    said = {"name": "checks", "seed": 5, "machine": machine, "process": process_options, **scenario}
    config = simulate_scenario(Scenario.model_validate({**said, "runs": [*always, *runs]}), out)
    if change is not None:
        content = yaml.safe_load(config.read_text())
        change(content)
        config.write_text(yaml.safe_dump(content))
    version = process(load_job(config, out / "out", options)).version
    warnings = json.loads((version / "summary.json").read_text())["warnings"]
    assert publish.check(version) == []
    return xr.open_datatree(version / "product.zarr", engine="zarr"), warnings, version


def runs_with(warnings, code):
    return [w.get("run") for w in warnings if w["code"] == code]


@pytest.fixture(scope="module")
def several_runs(tmp_path_factory):
    """Three runs of the same, of which run 5 has a step; a lone run 7 with a step; run 6 without pump, said to have one."""

    def say_that_run_6_was_pumped(config):
        next(s for s in config["runs"]["energy_scans"] if s["run"] == 6)["fluence"] = 8.0

    runs = [
        energy_scan(3, 16.0, 4.8),
        energy_scan(4, 16.0, 4.8),
        energy_scan(5, 16.0, 4.8, flux={"pumped": 1.01}),
        energy_scan(6, 0.0, 1.0, trains_per_step=2),
        energy_scan(7, 16.0, 0.8, flux={"unpumped": 0.99}),
    ]
    return product(tmp_path_factory.mktemp("several"), runs, change=say_that_run_6_was_pumped)


def test_a_step_of_the_normalisation_between_runs_is_reported_by_name(several_runs):
    tree, warnings, _ = several_runs
    assert 5 in runs_with(warnings, "quality.offset")
    assert 5 in runs_with(warnings, "quality.runs_disagree")
    quality = tree["quality"].to_dataset().sel(run=5)
    assert float(quality["offset"]) == pytest.approx(-np.log(1.01), abs=4 * float(quality["offset_stderr"]))
    assert runs_with(warnings, "quality.normalisation") == [7]


def test_a_step_of_a_lone_run_is_reported_by_name(several_runs):
    _, warnings, _ = several_runs
    constant = runs_with(warnings, "peaks.constant")
    assert 7 in constant
    assert 6 not in constant


def test_a_run_without_pump_shows_no_difference(several_runs):
    tree, warnings, _ = several_runs
    row = tree["spectra"].to_dataset().sel(fluence=8.0).sel(delay=1.0, method="nearest")
    z = (row["delta_xas"] / row["delta_xas_stderr"]).values
    assert len(z) == 21
    assert 0.4 < np.mean(z**2) < 1.9
    assert not tree["peaks"]["detected"].sel(fluence=8.0).any()
    assert not [w for w in warnings if "run 6" in w["text"]]


def test_the_ratio_of_errors_is_in_quality_for_every_bin(several_runs):
    tree, _, _ = several_runs
    quality, spectra = tree["quality"].to_dataset(), tree["spectra"].to_dataset()
    expected = spectra["delta_xas_stderr"] / spectra["delta_xas_stderr_shot"]
    np.testing.assert_array_equal(quality["stderr_ratio"], expected.transpose(*quality["stderr_ratio"].dims))
    mean = quality["stderr_ratio_mean"].sel(delay=[1.0, 4.8], method="nearest")
    assert float(mean.sel(fluence=8.0)[0]) == pytest.approx(1.0, abs=0.25)
    # three runs of which one is off: their scatter is in the error, and the ratio shows it
    assert float(mean.sel(fluence=16.0)[1]) > 3
    assert quality["stderr_ratio_scan"].sizes == {"scan": 0, "scan_delay": 0}
    np.testing.assert_allclose(quality["run_delay"].sel(run=[3, 7]), [4.8, 0.8], atol=0.01)


@pytest.fixture(scope="module")
def heated(tmp_path_factory, all_figures):
    runs = [
        energy_scan(3, 16.0, 4.8),
        {
            "run": 4,
            "kind": "delay_scan",
            "fluence": 16.0,
            "energy": 528.2,
            "delays": [-1.0, -0.5, 0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.6, 2.5, 4.8, 10.0, 60.0],
        },
    ]
    options = ["burst.resolve=true", "burst.groups=4"]
    return product(tmp_path_factory.mktemp("heated"), runs, options=options, burst_od=0.02)


def test_a_drift_along_the_burst_is_reported_recovered_and_drawn(heated):
    tree, warnings, version = heated
    assert runs_with(warnings, "quality.drift") == [3, 4]
    quality = tree["quality"].to_dataset()
    pull = ((quality["drift"] - 0.02) / quality["drift_stderr"]).sel(run=[3, 4])
    assert float(abs(pull).max()) < 4
    assert abs(float(quality["drift"].sel(run=2))) < 4 * float(quality["drift_stderr"].sel(run=2))
    profile = quality.sel(run=3)
    z = (profile["burst_profile"] - 0.02 * (np.arange(12) / 11 - 0.5)) / profile["burst_profile_stderr"]
    assert float((z**2).mean()) < 3
    assert (version / "figures" / "burst.png").stat().st_size > 10_000


def test_the_difference_by_pulse_index_shows_the_drift(heated):
    tree, _, _ = heated
    groups, whole = tree["burst_spectra"].to_dataset(), tree["spectra"].to_dataset()
    assert groups["delta_xas"].dims == ("pulse", "fluence", "delay", "energy")
    np.testing.assert_array_equal(groups["energy"], whole["energy"])
    np.testing.assert_array_equal(groups["first_pulse"], [0, 3, 6, 9])
    np.testing.assert_array_equal(groups["n_pulses"].sum("pulse"), whole["n_pulses"])
    together = (groups["delta_xas"] * groups["n_pulses"]).sum("pulse") / groups["n_pulses"].sum("pulse")
    left = np.abs(together - whole["delta_xas"]) / whole["delta_xas_stderr"]
    assert float(left.max()) < 1
    assert float(left.mean()) < 0.25
    change = groups["delta_xas"] - whole["delta_xas"]
    weight = 1 / groups["delta_xas_stderr"] ** 2
    mean = (change * weight).sum(["fluence", "delay", "energy"]) / weight.sum(["fluence", "delay", "energy"])
    error = np.hypot(weight.sum(["fluence", "delay", "energy"]) ** -0.5, groups["flat_field_constant_stderr"])
    z = (mean - 0.02 * (groups["pulse"] / 11 - 0.5)) / error
    assert float((z**2).mean()) < 3.5
    assert tree["burst_delay_scan/delta_xas"].dims == ("pulse", "scan", "delay")
