"""Play of the monochromator and arrival jitter, injected into raw runs, are reported by name in the product."""

import json

import numpy as np
import pytest
import xarray as xr

from pipeline.job import load_job
from pipeline.simulate import simulate_scenario
from pipeline.stages.bin import BIN
from pipeline.stages.label import LABEL
from pipeline.storage.store import open_tree
from pipeline.workflow import context_of, process
from schemas.scenario import Scenario

ENERGIES = [{"start": 526.6, "stop": 531.0, "step": 0.2}]
SCAN = {"kind": "energy_scan", "energies": ENERGIES, "fluence": 32.0}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    scenario = Scenario.model_validate(
        {
            "name": "axes",
            "seed": 3,
            "machine": {"pulses_per_train": 16, "pulse_id_step": 8},
            "arrival": {"train_sigma": 60.0, "pulse_sigma": 53.0, "monitor_noise": 5.0},
            "runs": [
                {"run": 1, "kind": "dark", "trains": 16},
                {"run": 2, "kind": "flat_field", "trains": 20, "energy": 528.2},
                {"run": 3, "delay": 0.05, **SCAN},
                {"run": 4, "delay": 4.8, "trains_per_step": 4, "sweep": 2, "backlash": 0.1, **SCAN},
                {"run": 5, "delay": 4.8, "trains_per_step": 4, "sweep": 2, **SCAN},
            ],
            "process": {"energy": {"bins": {"start": 526.6, "stop": 531.0, "step": 0.2}}},
        }
    )
    return simulate_scenario(scenario, tmp_path_factory.mktemp("axes"))


@pytest.mark.long
def test_backlash_and_jitter_are_in_quality_and_a_warning(config, tmp_path):
    version = process(load_job(config, tmp_path / "out", ["frames.keep=none"])).version
    tree = xr.open_datatree(version / "product.zarr")
    quality = tree["quality"].to_dataset()
    warnings = json.loads((version / "summary.json").read_text())["warnings"]
    value, error = quality["backlash"], quality["backlash_stderr"]
    assert float(value.sel(run=4)) == pytest.approx(0.1, abs=4 * float(error.sel(run=4)))
    assert float(value.sel(run=4)) > 5 * float(error.sel(run=4))
    assert float(value.sel(run=5)) == pytest.approx(0.0, abs=4 * float(error.sel(run=5)))
    # one direction, no scan
    assert np.isnan(value.sel(run=[2, 3])).all()
    assert [w["run"] for w in warnings if w["code"] == "quality.backlash"] == [4]
    assert quality["delay_spread"].sel(run=[3, 4, 5]).values == pytest.approx(0.08, rel=0.15)
    assert [w["run"] for w in warnings if w["code"] == "bins.delay_blur"] == [3]

    # one train per energy, each at a time of its own: no line shape, and errors that say so
    peaks = tree["peaks"].to_dataset()
    shaken, steady = (peaks.sel(delay=at, method="nearest") for at in (0.05, 4.8))
    assert float(shaken["stderr_scale"].max()) > 2
    assert float(steady["stderr_scale"].max()) < 2
    (said,) = [w for w in warnings if w["code"].startswith("peaks.")]
    assert (said["code"], said["fluence"], said["run"]) == ("peaks.scatter_by_arrival", 32.0, 3)
    assert "fs rms apart" in said["text"]

    job = load_job(config, tmp_path / "out", ["frames.keep=none", "delay.bin={width: 0.05}"])
    for stage in (LABEL, BIN):
        stage.run(context_of(job))
    sharp = open_tree(job.stage_dir / "spectra.zarr")
    spread = sharp["quality/delay_spread"].sel(run=3)
    assert float(spread) == pytest.approx(0.05 / np.sqrt(12), rel=0.15)
    assert int((sharp["spectra/delay"] < 0.5).sum()) > 5
