"""What two output folders must have in common to be the same to the bit."""

import json

import xarray as xr

from pipeline.storage import versions as publish


def product_hash(out):
    return json.loads((publish.resolve(out) / "summary.json").read_text())["product_hash"]


def assert_same_stores(one, other):
    """Compare the latest products and the stores of every run."""
    a, b = (xr.open_datatree(publish.resolve(out) / "product.zarr", engine="zarr") for out in (one, other))
    assert a.attrs["product_hash"] == b.attrs["product_hash"]
    xr.testing.assert_identical(a["spectra"].to_dataset(), b["spectra"].to_dataset())
    xr.testing.assert_identical(a["delay_scan"].to_dataset(), b["delay_scan"].to_dataset())
    names = sorted(p.name for p in (one / "runs").iterdir())
    assert names == sorted(p.name for p in (other / "runs").iterdir())
    for name in names:
        files = [sorted(p.relative_to(out) for p in (out / "runs" / name).rglob("*")) for out in (one, other)]
        assert files[0] == files[1]
        for store in (one / "runs" / name).glob("*.zarr"):
            xr.testing.assert_identical(xr.open_zarr(store), xr.open_zarr(other / "runs" / name / store.name))
