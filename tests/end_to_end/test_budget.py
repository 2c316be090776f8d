"""The error budget of the smallest session, from raw frames to the table."""

import json

import numpy as np
import xarray as xr

from pipeline.storage import versions
from tests.command import trxas


def test_a_product_has_the_budget_of_its_numbers_and_show_prints_it(processed):
    version = versions.resolve(str(processed[0]))
    tree = xr.open_datatree(version / "product.zarr", engine="zarr")
    budget, kinetics = (tree[name].to_dataset().load() for name in ("budget", "kinetics"))
    tau = budget["tau"].sel(fluence=32.0)
    # the detector was followed: dark run, flat field and unlit pixels say how well
    assert (budget["tau_status"].sel(fluence=32.0, source=["pedestal", "response"]) == "beside").all()
    assert (tau.sel(source=["pedestal", "response"]) < tau.sel(source="statistics")).all()
    assert (budget["alpha_status"].sel(source=["pedestal", "response"]) == "beside").all()
    assert (budget["alpha"].sel(source=["pedestal", "response"]) < 2e-3).all()
    published = tau.where(budget["tau_status"].sel(fluence=32.0) == "published")
    stated = kinetics["stderr"].sel(fluence=32.0, parameter=budget["parameter"].values)
    np.testing.assert_allclose(np.sqrt((published**2).sum("source")), stated, rtol=1e-9)
    # compared with a flat field: most of the error of α is the reference's
    assert (budget["alpha"].sel(source="reference") > budget["alpha"].sel(source="statistics")).all()
    shown = trxas("show", processed[0], "--budget")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("error budget\n")
    assert "τ₁ 32 mJ/cm² (fs)" in shown.stdout
    as_json = trxas("show", processed[0], "--budget", "--json")
    assert json.loads(as_json.stdout) == versions.read_summary(version)["budget"]
