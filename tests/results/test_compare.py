"""What `show A B` says about two versions that differ in known ways."""

import json

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from pipeline.results.compare import _on_common_points, compare, compare_versions, comparison_text
from schemas.catalogue import note
from schemas.notes import as_plain
from tests.synthetic import fitted, publish_version


def product(**changes):
    """A small tree with the groups that the comparison reads; `changes` are root attributes."""
    energy = np.array([526.0, 526.2, 526.4, 526.6])
    spectra = xr.Dataset(
        {
            "delta_xas": (("fluence", "energy"), np.linspace(-1e-3, 1e-3, 4)[None], {"units": "1"}),
            "delta_xas_stderr": (("fluence", "energy"), np.full((1, 4), 1e-4), {"units": "1"}),
            "n_pulses": (("fluence", "energy"), np.full((1, 4), 100), {"units": "1"}),
        },
        {"fluence": [8.0], "energy": energy},
    )
    kinetics = xr.Dataset(
        {
            "value": (("fluence", "parameter"), np.array([[0.15, 1.5]]), {"units": "ps"}),
            "stderr": (("fluence", "parameter"), np.array([[0.02, 0.1]]), {"units": "ps"}),
            "identifiable": (("fluence", "parameter"), np.array([[True, True]])),
        },
        {"fluence": [8.0], "parameter": ["tau1", "tau3"]},
    )
    mixture = xr.Dataset(
        {"alpha": ("fluence", np.array([0.05])), "alpha_stderr": ("fluence", np.array([0.01]))}, {"fluence": [8.0]}
    )
    tree = xr.DataTree.from_dict({"/spectra": spectra, "/kinetics": kinetics, "/mixture": mixture})
    tree.attrs = {
        "dataset": "test",
        "created": "then",
        "code_version": "1",
        "schema_version": 1,
        "product_hash": "a",
        "config": json.dumps({"kinetics": {"power": 2}, "runs": {"energy_scans": [{"run": 3, "fluence": 8.0}]}}),
        "inputs": {"r0003": [{"name": "x.h5", "sha256": "1"}, {"name": "y.h5", "sha256": "2"}]},
        "environment": {"numpy": "2.1"},
        **changes,
    }
    return tree


def test_a_product_does_not_differ_from_itself():
    compared = compare(product(), product())
    assert not compared["config"]
    assert not any(compared["inputs"].values())
    assert all(r["difference"] == 0 for r in compared["numbers"])
    assert all(r["same"] for r in compared["arrays"])
    assert "same arrays, bit for bit" in comparison_text(compared)
    json.dumps(compared, allow_nan=False)


def test_every_kind_of_change_is_told():
    config = {
        "kinetics": {"power": 1},
        "runs": {"energy_scans": [{"run": 2, "fluence": 4.0}, {"run": 3, "fluence": 16.0}]},
    }
    inputs = {"r0003": [{"name": "x.h5", "sha256": "9"}], "r0002": [{"name": "z.h5", "sha256": "3"}]}
    new = product(config=json.dumps(config), inputs=inputs, product_hash="b", code_version="2")
    new["kinetics"]["value"][0, 0] = 0.19
    new["kinetics"]["stderr"][0, 0] = 0.04
    new["spectra"]["delta_xas"][0, 2] += 3e-4
    new["spectra"]["n_pulses"][0, 2] = 90
    new["kinetics"]["identifiable"][0, 1] = False
    compared = compare(product(), new)
    assert {r["key"]: (r["old"], r["new"]) for r in compared["config"]} == {
        "kinetics.power": (2, 1),
        "runs.energy_scans[run 2].fluence": (None, 4.0),
        "runs.energy_scans[run 3].fluence": (8.0, 16.0),
    }
    assert compared["inputs"] == {"added": ["r0002/z.h5"], "removed": ["r0003/y.h5"], "changed": ["r0003/x.h5"]}
    moved = {r["name"]: r for r in compared["numbers"] if r["difference"]}
    assert list(moved) == ["tau1 at 8 mJ/cm²"]
    # in units of the larger of the two errors
    assert moved["tau1 at 8 mJ/cm²"]["sigmas"] == pytest.approx(1.0)
    arrays = {(r["group"], r["variable"]): r for r in compared["arrays"] if not r["same"]}
    assert arrays["spectra", "delta_xas"]["max_difference"] == pytest.approx(3e-4)
    assert arrays["spectra", "delta_xas"]["max_sigmas"] == pytest.approx(3.0)
    assert arrays["spectra", "n_pulses"]["n_different"] == 1
    assert arrays["kinetics", "identifiable"]["n_different"] == 1
    text = comparison_text(compared)
    for line in (
        "code_version  1 → 2",
        "kinetics.power: 2 → 1",
        "tau1 at 8 mJ/cm²: 0.15 ± 0.02 → 0.19 ± 0.04 ps   by +1.00 σ",
        "added r0002/z.h5",
        "/spectra/delta_xas: 1 of 4 differ, by at most 0.0003, 3 σ",
    ):
        assert line in text


def test_other_grids_are_compared_where_they_meet():
    new = product()
    shifted = new["spectra"].to_dataset().isel(energy=[1, 2, 3])
    # measured energies differ by the noise of the encoder; that is the same point
    new["spectra"] = xr.DataTree(shifted.assign_coords(energy=shifted["energy"] + 1e-3))
    row = next(r for r in compare(product(), new)["arrays"] if r["variable"] == "delta_xas")
    assert (row["points"], row["points_old"], row["points_new"]) == (3, 4, 3)
    assert row["max_difference"] == 0
    assert not row["same"]


def test_groups_and_variables_that_only_one_has():
    new = product()
    del new["mixture"]
    new["spectra"] = xr.DataTree(new["spectra"].to_dataset().drop_vars("n_pulses"))
    compared = compare(product(), new)
    only = {(r["group"], r["variable"]): r["only"] for r in compared["arrays"] if "only" in r}
    assert only == {("mixture", None): "old", ("spectra", "n_pulses"): "old"}
    assert next(r for r in compared["numbers"] if r["name"].startswith("alpha"))["new"]["value"] is None
    assert "/mixture: only in the old one" in comparison_text(compared)


@given(
    st.lists(st.integers(-40, 40), unique=True, max_size=20), st.lists(st.integers(-40, 40), unique=True, max_size=20)
)
def test_points_match_one_to_one_and_only_where_near(old, new):
    grids = (np.array(old, float), np.array(new, float) + 0.01)
    products = [xr.Dataset({"place": ("energy", grid)}, {"energy": grid}) for grid in grids]
    a, b = (ds["place"].values for ds in _on_common_points(*products))
    assert len(set(a.tolist())) == len(a) == len(b) == len(set(b.tolist()))
    steps = np.concatenate([np.diff(np.sort(grid)) for grid in grids])
    if steps.size:
        assert set(old) & set(new) <= set(a.astype(int).tolist())
        assert np.all(np.abs(a - b) <= 0.1 * steps.min() + 1e-12)


def test_a_dim_without_places_that_changed_its_length_has_nothing_in_common():
    old, new = product(), product()
    for tree, n in ((old, 3), (new, 4)):
        tree["kinetics"] = xr.DataTree(tree["kinetics"].to_dataset().assign(draws=("draw", np.zeros(n))))
    row = next(r for r in compare(old, new)["arrays"] if r["variable"] == "draws")
    assert (row["points"], row["points_old"], row["points_new"], row["same"]) == (0, 3, 4, False)


@given(st.lists(st.floats(0.1, 100), min_size=17, max_size=40))
def test_the_largest_changes_are_shown_first_and_the_rest_is_counted(sizes):
    compared = compare(product(), product())
    row = {"group": "spectra", "points": 4, "points_old": 4, "points_new": 4, "unit": "1", "same": False}
    compared["arrays"] = [
        row | {"variable": f"v{i}", "max_difference": 1.0, "max_sigmas": s, "n_different": 4}
        for i, s in enumerate(sizes)
    ]
    lines = comparison_text(compared).splitlines()
    start = lines.index("arrays") + 1
    shown = [line.split(":")[0] for line in lines[start:-1]]
    ranked = [f"  /spectra/v{i}" for i in np.argsort(-np.array(sizes), kind="stable")]
    assert shown == ranked[:15]
    assert lines[-1] == f"  and {len(sizes) - 15} more, smaller ones; --all shows them"
    assert len(comparison_text(compared, most=None).splitlines()) == start + len(sizes)


def test_warnings_are_compared_by_code_and_text_and_with_an_older_product_by_text(tmp_path):
    tree, summary = fitted("seed")
    kept, gone, new = (note("quality.noise", run=n, ratio=1.6) for n in (3, 4, 5))
    fault = note("reference.offset_unknown")
    for notes in ([kept.text, gone.text], as_plain([kept, gone]), as_plain([fault, kept, new])):
        publish_version(tmp_path, tree, {**summary, "warnings": notes})
    older, coded, last = (str(tmp_path / "products" / "seed" / f"v000{n}") for n in (1, 2, 3))
    assert compare_versions(older, coded)["warnings"] == {"added": [], "removed": []}
    compared = compare_versions(coded, last)
    assert compared["warnings"] == {"added": as_plain([fault, new]), "removed": as_plain([gone])}
    lines = comparison_text(compared).splitlines()
    i = lines.index("warnings")
    assert lines[i + 1 : i + 4] == [
        f"  added FAULT {fault.text}",
        f"  added CAUTION {new.text}",
        f"  removed CAUTION {gone.text}",
    ]
    assert "warnings  no change" in comparison_text(compare_versions(older, coded))


def test_another_reference_and_another_thickness_of_the_films_are_told():
    def compared_with(name, ratio):
        tree = product()
        spectra = tree["spectra"].to_dataset().expand_dims(delay=[0.2]).transpose("fluence", "delay", "energy")
        rows = xr.ones_like(spectra["n_pulses"].isel(energy=0, drop=True), dtype=float)
        tree["spectra"] = xr.DataTree(
            spectra.assign(
                reference=rows.astype(int).astype("U14").where(rows < 0, name),
                film_ratio=ratio * rows,
                film_ratio_stderr=0.01 * rows,
            )
        )
        return tree

    old, new = compared_with("flat_field", 1.02), compared_with("in_run", 1.05)
    compared = compare(old, new)
    keys = [row["key"] for row in compared["references"]]
    assert len(set(keys)) == len(keys) > 0
    assert {(row["old"], row["new"]) for row in compared["references"]} == {
        ("flat field", "pulses without pump in the run")
    }
    films = [row for row in compared["numbers"] if row["name"].startswith("thickness of the films at")]
    assert [row["sigmas"] for row in films] == pytest.approx([3.0] * len(films))
    assert films
    assert f"{keys[0]}: flat field → pulses without pump in the run" in comparison_text(compared)
    assert compare(old, old)["references"] == []
