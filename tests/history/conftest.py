"""The smallest experiment, twice with other numbers, and stages whose science is quick and forgets nothing it depends on."""

from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from pipeline.simulate import load_scenario, simulate_scenario
from pipeline.stages import bin as binning
from pipeline.stages import fit, publish
from pipeline.storage import versions
from pipeline.storage.hashes import digest, tree_hash
from schemas.datasets.spec import DatasetSpec, Variable
from schemas.notes import as_plain
from tests.shared import made_once

SCENARIO = Path(__file__).parents[1] / "history_tiny.yaml"


@pytest.fixture(scope="session")
def sessions(tmp_path_factory):
    """Return two folders with the same runs, of other seeds: what one is changed into."""

    def make(folder):
        scenario = load_scenario(SCENARIO)
        for name, seed in (("one", 5), ("other", 6)):
            simulate_scenario(scenario.model_copy(update={"seed": seed}), folder / name)

    folder = made_once(tmp_path_factory, "histories", make)
    return {name: folder / name for name in ("one", "other")}


def _fitted(spectra, delay_scan, config, models, replicates=None, inputs=None):
    """Stand for all fits: one number for all that they depend on."""
    options = config.model_dump(mode="json", by_alias=True)
    data = xr.DataTree.from_dict({"/s": spectra, "/d": delay_scan})
    seen = digest([tree_hash(data), *(options[name] for name in ("peaks", "kinetics", "mixture")), sorted(models)])
    peaks = xr.Dataset({"position": ("peak", [float(int(seen[:12], 16))])}, {"peak": [0]})
    strings = np.dtypes.StringDType()
    files = xr.Dataset({"text": ("file", np.array([seen], strings))}, {"file": np.array(["seen.txt"], strings)})
    return {"peaks": peaks, "model_results": files}, []


def _quality(job, runs, outside, tree, of_spectra):
    """Stand for the quality of runs, which takes as long as all the rest: what pulses were used."""
    counts = [int((run["drop_reason"] == 0).sum()) for run in runs.values()]
    return xr.Dataset({"pulses_used": ("run", counts)}, {"run": list(runs)}), []


def _summary(tree, config, *, audits, notes):
    """Stand for the summary: what was said, and of which dataset."""
    said = [
        {"code": "audit", "severity": "info", "text": f"{n}: {line}"} for n, lines in audits.items() for line in lines
    ]
    nothing = {"value": None, "stderr": None, "unit": ""}
    empty = {name: [] for name in ("kinetics", "alpha", "peaks", "runs")} | {"slope": nothing, "intercept": nothing}
    return {"schema_version": 2, "dataset": config.dataset, "warnings": [*as_plain(notes), *said], **empty}


@pytest.fixture
def quick(monkeypatch):
    """Leave out what takes long and has no memory: fits, quality, figures, the check of a product against its schema."""
    number = Variable(("run",), "1", "number", "int")
    few = DatasetSpec("quality", "", {"run": number}, {"pulses_used": number})
    monkeypatch.setitem(binning.BIN.makes, "quality", few)
    of_peak = Variable(("peak",), "1", "number", "int")
    few = DatasetSpec("peaks", "", {"peak": of_peak}, {"position": Variable(("peak",), "1", "number")})
    monkeypatch.setitem(fit.FIT.makes, "peaks", few)
    monkeypatch.setattr(fit, "fit_all", _fitted)
    monkeypatch.setattr(binning, "quality_of_runs", _quality)
    monkeypatch.setattr(publish, "summarise", _summary)
    monkeypatch.setattr(publish, "draw_product", lambda tree, summary, folder: None)
    monkeypatch.setattr(publish, "draw_beams", lambda *_: None)
    monkeypatch.setattr(versions, "product_faults", lambda tree: [])
