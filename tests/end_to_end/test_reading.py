"""Products as others read them: lazily, in few reads, with plain zarr, in three lines, without Prefect."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from lmfit.model import load_modelresult
from zarr.storage import LocalStore, WrapperStore

from pipeline.storage import store
from schemas.products import GROUPS
from trxas import open as open_product


class Counting(WrapperStore):
    """A store that counts the chunks that are read, by array."""

    def __init__(self, path):
        super().__init__(LocalStore(path, read_only=True))
        self.read = Counter()

    async def get(self, key, prototype, byte_range=None):
        # <array>/c/0/1, or <array>/c for a scalar
        if found := re.fullmatch(r"(.*?)/c(/[\d/]+)?", key):
            self.read[found[1]] += 1
        return await super().get(key, prototype, byte_range)


@pytest.fixture(scope="module")
def where(processed):
    return Path(open_product(processed[0]).where) / "product.zarr"


def test_opening_reads_the_coordinates_and_nothing_else(where):
    counting = Counting(where)
    tree = xr.open_datatree(counting, engine="zarr")
    indexes = {f"{node.name}/{n}" for node in tree.children.values() for n in node.to_dataset().xindexes}
    assert set(counting.read) <= indexes
    assert set(counting.read.values()) == {1}
    before = sum(counting.read.values())
    tree["spectra/delta_xas"].isel(fluence=0, delay=0).load()
    assert sum(counting.read.values()) == before + 1


@pytest.mark.parametrize(("shape", "cuts"), [((4, 60, 300), 1), ((12, 150, 600), 1), ((2, 500, 2000), 8)])
def test_a_trace_a_spectrum_and_a_map_touch_few_chunks(tmp_path, shape, cuts):
    dims = ("fluence", "delay", "energy")
    values = np.random.default_rng(1).normal(size=shape)
    data = xr.Dataset({"delta_xas": (dims, values)})
    store.write_tree(tmp_path / "p.zarr", xr.DataTree.from_dict({"/spectra": data}), whole_arrays=True)
    for chosen in ({"fluence": 1, "delay": 7}, {"fluence": 1, "energy": 11}, {"fluence": 1}):
        counting = Counting(tmp_path / "p.zarr")
        found = xr.open_datatree(counting, engine="zarr", chunks=None)["spectra/delta_xas"].isel(chosen).values
        np.testing.assert_array_equal(found, data["delta_xas"].isel(chosen))
        assert counting.read["spectra/delta_xas"] <= cuts
    chunks = zarr.open_array(tmp_path / "p.zarr" / "spectra" / "delta_xas").chunks
    assert np.prod(chunks) * 8 <= store.READ_AT_ONCE


def test_plain_zarr_reads_every_array_with_codecs_that_every_reader_has(where):
    group = zarr.open_group(where, mode="r")
    assert group.metadata.zarr_format == 3
    tree = xr.open_datatree(where, engine="zarr")
    codecs = set()
    for name, node in tree.children.items():
        for variable in node.to_dataset().variables:
            array = group[f"{name}/{variable}"]
            codecs |= {c["name"] for c in array.metadata.to_dict()["codecs"]}
            assert (array.metadata.dimension_names or ()) == node[variable].dims
            np.testing.assert_array_equal(array[...], node[variable].values)
    assert codecs <= {"bytes", "zstd", "vlen-utf8", "crc32c"}


def test_every_variable_of_a_product_is_described(where):
    for name, node in xr.open_datatree(where, engine="zarr").children.items():
        known = {*GROUPS[name].coords, *dict(GROUPS[name].expanded())}
        assert {str(v) for v in node.to_dataset().variables} <= known, f"/{name}: describe them in schemas/datasets"


def test_three_lines_without_prefect(processed):
    code = f"""
import trxas
tree, summary, where = trxas.open({str(processed[0])!r})
tau = tree["kinetics"].to_dataset().sel(fluence=32.0, parameter="tau3")
print(float(tau["value"]) == summary["kinetics"][-1]["parameters"]["tau3"]["value"], where)
import sys
print([m for m in ("prefect", "distributed", "extra_data", "numba", "matplotlib") if m in sys.modules])
"""
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, timeout=120, check=True
    )
    lines = done.stdout.splitlines()
    assert lines[0].startswith("True ")
    assert lines[0].endswith("v0001")
    assert lines[1] == "[]"


def test_lmfit_opens_the_fits_of_a_product(where):
    tree, folder = xr.open_datatree(where, engine="zarr"), where.parent / "fits"
    assert {p.name for p in folder.iterdir()} == {
        f"{name}.{kind}" for name in ("kinetics_32mJcm2", "peaks", "mixture") for kind in ("json", "txt")
    }
    fitted = tree["kinetics/fit"].sel(fluence=32.0).values
    result = load_modelresult(folder / "kinetics_32mJcm2.json")
    points = result.userkws["quantity"] == -1
    np.testing.assert_allclose(result.best_fit[points], fitted[np.isfinite(fitted)], rtol=0, atol=1e-12)
    residual = tree["kinetics/residual"].sel(fluence=32.0).values
    np.testing.assert_allclose((result.data - result.best_fit)[points], residual[np.isfinite(residual)], atol=1e-12)
    kinetics = tree["kinetics"].to_dataset().sel(fluence=32.0)
    for name in kinetics["parameter"].values.tolist():
        value, stderr = (float(kinetics[v].sel(parameter=name)) for v in ("value", "stderr"))
        assert (result.params[name].value, result.params[name].stderr) == (value, stderr)
    assert "tau1 = " in (folder / "kinetics_32mJcm2.txt").read_text(encoding="utf-8")
    mixture = load_modelresult(folder / "mixture.json")
    np.testing.assert_array_equal([p.value for p in mixture.params.values()], tree["mixture/alpha"].values)
    peaks = load_modelresult(folder / "peaks.json")
    numbers = np.arange(tree["peaks/line_position"][0].size).reshape(tree["peaks/line_position"][0].shape)
    for line, position in zip("AB", tree["peaks/line_position"].values, strict=True):
        for k, expected in zip(numbers.ravel().tolist(), position.ravel().tolist(), strict=True):
            assert np.isnan(expected) == (f"{line}_position_{k}" not in peaks.params)
            assert np.isnan(expected) or peaks.params[f"{line}_position_{k}"].value == expected


def test_what_the_page_says_of_the_fits_works(where):
    page = Path(__file__).parents[2] / "docs" / "how-to" / "read-a-product.md"
    chapter = page.read_text(encoding="utf-8").split("## The fits, in lmfit")[1]
    code = re.search(r"```python\n(.*?)```", chapter, re.DOTALL)[1].replace("8mJcm2", "32mJcm2")
    names = {"where": where.parent}
    exec(compile(code, str(page), "exec"), names)
    assert names["tau1"].value == pytest.approx(0.15, abs=4 * names["tau1"].stderr)
    assert names["profile"][2] == (0.0, names["tau1"].value)
    assert len(names["measured"]) == len(names["fitted"]) < len(names["result"].data)
    assert "irf_sigma" in names["again"].var_names
    assert names["again"].chisqr <= names["result"].chisqr + 1e-9
