"""A reader that opens the latest version in a loop while versions are published sees one version each time, whole."""

import json
import multiprocessing

import numpy as np
import pytest
import xarray as xr

from pipeline.storage import versions as publish

VERSIONS = 5


def publish_many(source, folder):
    """Publish versions of which all spectra hold one number, their own."""
    tree = xr.open_datatree(source / "product.zarr", engine="zarr").load()
    summary = json.loads((source / "summary.json").read_text())
    for number in range(1, VERSIONS + 1):
        spectra = tree["spectra"].to_dataset()
        marked = {n: xr.full_like(spectra[n], number) for n in ("od_unpumped", "od_pumped", "delta_xas")}
        tree["spectra"] = spectra.assign(marked)
        publish.publish(folder, tree, summary, draw=lambda *_: None)


@pytest.mark.long
def test_a_reader_never_sees_an_error_or_a_mixture(undisturbed, tmp_path):
    folder = tmp_path / "products" / "tiny"
    # reading goes on in other threads, so the publisher is not forked from here
    context = multiprocessing.get_context("spawn")
    publisher = context.Process(target=publish_many, args=(publish.resolve(undisturbed), folder))
    publisher.start()
    seen = []
    while publisher.is_alive() or not seen or seen[-1] < VERSIONS:
        assert publisher.exitcode in (None, 0)
        if publish.latest(folder) is None:
            publisher.join(0.01)
            continue
        pointer = json.loads((folder / "latest.json").read_text())
        version = folder / pointer["path"]
        summary = json.loads((version / "summary.json").read_text())
        with xr.open_datatree(version / "product.zarr", engine="zarr") as tree:
            values = [tree[f"spectra/{name}"].values for name in ("od_unpumped", "od_pumped", "delta_xas")]
            assert pointer["product_hash"] == summary["product_hash"] == tree.attrs["product_hash"]
        assert pointer["version"] == summary["version"] == version.name
        number = int(version.name[1:])
        assert all(np.all(v == number) for v in values)
        seen.append(number)
        # leave the publisher some of the machine
        publisher.join(0.05)
    assert publisher.exitcode == 0
    assert seen == sorted(seen)
    assert len(set(seen)) >= 3
    assert publish.check(publish.resolve(tmp_path)) == []
