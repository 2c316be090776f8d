"""Cu L3, two beams in the other order, other windows, delays and fluences: by configuration alone."""

import json

import numpy as np
import xarray as xr
from scipy.interpolate import CubicSpline

from pipeline.job import load_job
from pipeline.simulate.against_truth import compare
from pipeline.storage import versions as publish
from pipeline.workflow import process
from tests.conftest import simulated


def test_another_edge_needs_no_code(tmp_path, tmp_path_factory):
    cu = simulated("cu_l3", tmp_path_factory)
    version = process(load_job(cu.out / "config.yaml", tmp_path / "out")).version
    tree = xr.open_datatree(version / "product.zarr", engine="zarr")
    spectra = tree["spectra"].to_dataset()
    z2 = []
    for run in cu.truth["runs"]:
        if run["kind"] == "energy_scan":
            row = spectra.sel(fluence=run["fluence"]).sel(delay=run["delays"][0], method="nearest")
            true = CubicSpline(run["energies"], run["delta_xas"][0])(row["energy"])
            z2.append((((row["delta_xas"] - true) / row["delta_xas_stderr"]) ** 2).values)
    assert 0.6 < np.nanmean(z2) < 1.5
    summary = json.loads((version / "summary.json").read_text())
    rows = compare(summary, cu.truth)
    off = [(r["value"] - r["truth"]) / r["stderr"] for r in rows]
    assert len(off) > 6
    assert np.abs(off).max() < 4
    # no reference beam: no absolute spectrum, hence no mixture, and the product says so
    assert np.isnan(tree["mixture/alpha"]).all()
    said = {w["code"]: w["severity"] for w in summary["warnings"]}
    assert said == {"mixture.not_fitted": "caution", "beams.no_reference": "info"}
    for name in ("od_unpumped", "od_pumped"):
        assert np.isnan(spectra[name]).all()
        assert np.isnan(spectra[f"{name}_stderr"]).all()
    assert publish.check(version) == []
