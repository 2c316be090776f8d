"""A version that a test has changed, as it would be had it been published like that; or as an earlier program left it."""

import json

import zarr

from pipeline.storage import versions
from pipeline.storage.checksums import CHECKSUMS, SUMS, write_sums
from pipeline.storage.hashes import tree_hash


def restamp(version, *, older=False):
    """Write hash, version and checksums anew; `older`: without checksums."""
    store, summary = version / "product.zarr", json.loads((version / "summary.json").read_text())
    group = zarr.open_group(store, mode="r+")
    zarr.consolidate_metadata(store)
    group.attrs["product_hash"] = summary["product_hash"] = tree_hash(versions.open_product(version).load())
    if older and CHECKSUMS in group.attrs:
        del group.attrs[CHECKSUMS]
    zarr.consolidate_metadata(store)
    (version / "summary.json").write_text(json.dumps(summary | {"version": version.name}))
    if older:
        (version / SUMS).unlink(missing_ok=True)
    else:
        write_sums(version)
