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
    assert np.prod(chunks) * 8 <= store.CHUNK_BYTES


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
    assert codecs <= {"bytes", "zstd", "vlen-utf8"}


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
