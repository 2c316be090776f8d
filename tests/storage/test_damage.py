"""A version that is damaged in any way is found, and refused in one line by everything that reads products."""

import json
import shutil
from copy import deepcopy
from pathlib import Path

import fsspec
import numpy as np
import pytest
import zarr

from pipeline.dashboard.data import Catalogue
from pipeline.errors import ProductError
from pipeline.results.compare import compare_versions
from pipeline.storage import versions
from pipeline.storage.checksums import CHECKSUMS, SUMS, write_sums
from pipeline.storage.places import place
from tests import synthetic

FLIPS = 100


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """Return an output folder with two versions of a dataset and one of another; not to be changed."""
    out = tmp_path_factory.mktemp("whole")
    for number, dataset in enumerate(("seed", "seed", "other")):
        tree, summary = (deepcopy(part) for part in synthetic.fitted("seed"))
        tree["spectra/delta_xas"] += 1e-6 * number
        tree.attrs["dataset"] = summary["dataset"] = dataset
        synthetic.publish_version(out, tree, summary)
    return out


@pytest.fixture
def version(published, tmp_path):
    """Return the latest version of a copy that may be damaged."""
    shutil.copytree(published, tmp_path / "out")
    return tmp_path / "out" / "products" / "seed" / "v0002"


def assert_found(version):
    faults = versions.check(version)
    assert faults
    assert all(len(fault.splitlines()) == 1 for fault in faults)
    with pytest.raises(ProductError, match=r"\A[^\n]*\Z"):
        versions.intact(version)
    return faults


def test_versions_that_are_whole(published):
    for version in (published / "products").glob("*/v*"):
        assert versions.check(version) == []
        assert versions.intact(version) == version


def test_any_bit_of_any_file(version):
    rng = np.random.default_rng(163)
    files = sorted(p for p in version.rglob("*") if p.is_file())
    # a file for each bit, then bits of the large ones
    sizes = np.array([p.stat().st_size for p in files], float)
    chosen = [*rng.choice(len(files), FLIPS // 2), *rng.choice(len(files), FLIPS // 2, p=sizes / sizes.sum())]
    for number, path in enumerate([version / "summary.json", version / SUMS, *(files[i] for i in chosen)]):
        whole = path.read_bytes()
        at, bit = int(rng.integers(len(whole))), int(rng.integers(8))
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << bit]) + whole[at + 1 :])
        with pytest.raises(ProductError, match=r"\A[^\n]*\Z"):
            versions.intact(version)
        if number < 6:
            assert_found(version)
        path.write_bytes(whole)
    assert versions.check(version) == []


def test_any_file_that_is_missing_or_cut(version):
    rng = np.random.default_rng(3)
    files = sorted(p for p in version.rglob("*") if p.is_file())
    for path in [*rng.choice(files, 12), version / SUMS, version / "summary.json"]:
        whole = path.read_bytes()
        path.unlink()
        faults = assert_found(version)
        assert any("is missing" in fault for fault in faults)
        path.write_bytes(whole[: len(whole) // 2])
        assert_found(version)
        path.write_bytes(whole)
    assert versions.check(version) == []


def rewritten(version):
    array = zarr.open_array(version / "product.zarr" / "spectra" / "delta_xas", mode="r+")
    array[0, 0, 0] = array[0, 0, 0] + 1e-9


@pytest.mark.parametrize("sums", [True, False])
def test_numbers_that_are_written_anew(version, sums):
    rewritten(version)
    if not sums:
        make_older(version)
    faults = assert_found(version)
    what = "product.zarr/spectra/delta_xas/c/0/0/0: is not what was published" if sums else "product_hash: "
    assert faults[0].startswith(what)


def make_older(version):
    """Take off what products of an earlier program do not have."""
    (version / SUMS).unlink()
    head = version / "product.zarr" / "zarr.json"
    content = json.loads(head.read_text())
    del content["attributes"][CHECKSUMS]
    head.write_text(json.dumps(content))


def test_a_product_of_an_earlier_program_is_known_by_its_hash(version):
    make_older(version)
    assert versions.check(version) == []
    assert versions.intact(version) == version
    # zarr left out chunks of nothing but fill values, so that others may be missing unnoticed
    shutil.rmtree(version / "product.zarr" / "spectra" / "n_pulses" / "c")
    assert "product_hash: " in assert_found(version)[0]


def test_a_chunk_that_is_not_there_or_not_whole_is_an_error_for_xarray_too(version):
    chunk = version / "product.zarr" / "spectra" / "delta_xas" / "c" / "0" / "0" / "0"
    whole = chunk.read_bytes()
    chunk.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="checksum"):
        versions.open_product(version)["spectra/delta_xas"].load()


def test_what_belongs_to_another_version(version):
    folder = version.parent
    other, foreign = folder / "v0001", folder.parent / "other" / "v0001"
    kept = folder / "kept"
    for source in (other, foreign):
        for name in ("summary.json", "product.zarr", SUMS):
            copy = shutil.copytree(version, kept)
            (shutil.rmtree if (version / name).is_dir() else Path.unlink)(version / name)
            (shutil.copytree if (source / name).is_dir() else shutil.copy)(source / name, version / name)
            assert_found(version)
            shutil.rmtree(version)
            copy.rename(version)
        # all of it
        copy = shutil.copytree(version, kept)
        shutil.rmtree(version)
        shutil.copytree(source, version)
        assert_found(version)
        shutil.rmtree(version)
        copy.rename(version)
    version.rename(kept)
    other.rename(version)
    kept.rename(other)
    assert any("summary.json: is that of v0001" in fault for fault in assert_found(version))
    assert any("summary.json: is that of v0002" in fault for fault in assert_found(other))


def test_a_summary_of_other_numbers_with_checksums_of_its_own(version):
    path = version / "summary.json"
    summary = json.loads(path.read_text())
    path.write_text(json.dumps(summary | {"product_hash": "ab" * 16}))
    write_sums(version)
    assert "summary.json: product_hash is 'abab" in assert_found(version)[0]
    path.write_text(json.dumps(summary))
    pointer = version.parent / "latest.json"
    pointer.write_text(json.dumps(json.loads(pointer.read_text()) | {"product_hash": "ab" * 16}))
    write_sums(version)
    assert assert_found(version) == ["product_hash: is not the one in latest.json"]


def test_readers_refuse_it(version):
    out = version.parents[2]
    rewritten(version)
    message = (
        r"v0002: is damaged \(product\.zarr/spectra/delta_xas/c/0/0/0: is not what was published\); "
        "`trxas validate` lists every fault, processing again publishes it anew"
    )
    with pytest.raises(ProductError, match=message):
        Catalogue(out).open("seed", "v0002")
    assert Catalogue(out).open("seed", "v0001").version == "v0001"
    with pytest.raises(ProductError, match=message):
        compare_versions("v0001", str(version))
    with pytest.raises(ProductError, match=message):
        versions.resolve_intact(version)
    assert versions.intact_latest(version.parent) is None


@pytest.mark.parametrize("path", ["../../../elsewhere/v0001", "/v0001", "v0001/../../x", ".", "v0009"])
def test_the_pointer_stays_in_its_folder(version, tmp_path, path):
    elsewhere = shutil.copytree(version, tmp_path / "elsewhere" / "v0001")
    folder, pointer = version.parent, version.parent / "latest.json"
    pointer.write_text(json.dumps(json.loads(pointer.read_text()) | {"path": path}))
    if path == "v0009":
        (folder / path).symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(ProductError, match=r"latest\.json: (not a pointer to a version|leads out of its folder)"):
        versions.latest(folder)
    # and publishing mends it
    assert versions.intact_latest(folder) is None
    if path == "v0009":
        (folder / path).unlink()
    assert synthetic.publish_version(folder.parents[1], *synthetic.fitted("seed")).name == "v0003"
    assert versions.intact_latest(folder).name == "v0003"


def test_behind_a_url(published, tmp_path):
    tree, summary = synthetic.fitted("seed")
    target = place("memory://damaged/products/seed")
    version = versions.publish(target, tree, summary, draw=lambda *_: None, work=tmp_path)
    assert versions.check(version) == []
    (version / "product.zarr" / "spectra" / "delta_xas" / "c" / "0" / "0" / "0").remove()
    with pytest.raises(ProductError, match=r"delta_xas/c/0/0/0: is missing"):
        versions.intact(version)
    fsspec.filesystem("memory").rm("/damaged", recursive=True)
