"""What stores and versions refuse: folders that cannot be written, damaged pointers and summaries, products at fault."""

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import ConfigError, DamagedError, ProductError
from pipeline.storage import store, versions
from pipeline.storage.claim import claimed
from pipeline.storage.places import Remote


def test_a_folder_below_a_file_cannot_be_written_to(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"--out: .* cannot be written to \(Not a directory\); name another"):
        claimed(tmp_path / "file" / "locks", "a test").__enter__()


def test_a_store_that_is_damaged(tmp_path):
    (tmp_path / "zarr.json").write_text("{")
    with pytest.raises(ProductError, match=f"{tmp_path}: cannot be opened"):
        store.open_tree(tmp_path)
    with pytest.raises(ProductError, match=r"absent: no product there$"):
        store.open_tree(tmp_path / "absent")


@pytest.mark.parametrize("damage", ["missing", "flipped", "head"])
def test_an_intermediate_store_that_is_damaged_is_removed(tmp_path, damage):
    path = tmp_path / "labels.zarr"
    values = xr.Dataset({"a": ("x", np.zeros(50)), "b": ((), 3), "c": ("x", np.array(["α"] * 50))})
    store.write_tree(path, xr.DataTree.from_dict({"/r0003": values, "/r0004": values}))
    xr.testing.assert_identical(store.load_tree(path)["r0003"].to_dataset(), store.plain(values))
    chunk = path / "r0004" / "a" / "c" / "0"
    why = ".*"
    if damage == "missing":
        # nothing but fill values, and there all the same
        chunk.unlink()
        why = "1 chunks are missing"
    elif damage == "flipped":
        chunk.write_bytes(bytes([chunk.read_bytes()[0] ^ 4]) + chunk.read_bytes()[1:])
    else:
        (path / "zarr.json").write_text("{")
    with pytest.raises(
        DamagedError, match=rf"labels\.zarr: was damaged \({why}\) and is removed; the same command makes it anew"
    ):
        store.load_tree(path)
    assert not path.exists()
    with pytest.raises(ProductError, match=r"labels\.zarr: no product there"):
        store.load_tree(path)


def test_pointers_and_summaries_that_are_damaged(tmp_path):
    with pytest.raises(ProductError, match=f"{tmp_path}: no product there; run `trxas process` first"):
        versions.resolve(tmp_path)
    (tmp_path / "latest.json").write_text('{"version": 3}')
    with pytest.raises(ProductError, match=r"latest\.json: not a pointer to a version; publish again or restore it"):
        versions.latest(tmp_path)
    for damaged in ("{", "[]"):
        (tmp_path / "summary.json").write_text(damaged)
        with pytest.raises(ProductError, match=r"summary\.json is missing or damaged; process again"):
            versions.read_summary(tmp_path)


def publish(folder, tree):
    return versions.publish(folder, tree, {}, draw=lambda tree, summary, figures: None)


def test_what_is_no_product_is_not_published(tmp_path):
    with pytest.raises(
        ProductError, match="the product is not valid and was not published: /: attribute schema_version is missing"
    ):
        publish(tmp_path, xr.DataTree())
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="publishing to a URL needs a local work folder"):
        publish(Remote("memory://bucket/products/x"), xr.DataTree())


def test_a_number_that_others_always_take(monkeypatch):
    folder = Remote("memory://crowded/products/x")
    listed = Remote.iterdir
    monkeypatch.setattr(versions, "ATTEMPTS", 3)
    monkeypatch.setattr(versions.time, "sleep", lambda seconds: None)

    def crowded(place):
        """List another publisher's mark beside one's own."""
        there = list(listed(place))
        return iter([*there, place / "another"] if place.name.startswith("v") else there)

    monkeypatch.setattr(Remote, "iterdir", crowded)
    with pytest.raises(ProductError, match="3 attempts to take a version number failed; others publish there"):
        versions._claim(folder)
    assert not list(listed(folder / "v0001"))
