"""What is exported is read back by programs that know nothing of trxas, and holds the product's numbers exactly."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from nexusformat.nexus import nxload

import trxas
from pipeline.results.export import export


@pytest.fixture(scope="module")
def tree(processed):
    """The product, as of a sample that the config describes."""
    tree = trxas.open(processed[0]).tree.load()
    sample = {"name": None, "formula": "BaBiO3", "element": "O", "edge": "K"}
    tree.attrs["config"] = json.dumps({**json.loads(tree.attrs["config"]), "sample": sample})
    return tree


@pytest.fixture(scope="module")
def nexus(tree, tmp_path_factory):
    (path,) = export(tree, "nexus", tmp_path_factory.mktemp("nexus"))
    return nxload(path)


def test_a_nexus_reader_finds_signal_axes_and_errors(nexus, tree):
    data = nexus.plottable_data
    spectra = tree["spectra"].to_dataset()
    assert data.nxname == "spectra"
    assert data.nxsignal.nxname == "delta_xas"
    assert [a.nxname for a in data.nxaxes] == ["fluence", "delay", "energy"]
    np.testing.assert_array_equal(data.nxsignal.nxvalue, spectra["delta_xas"])
    np.testing.assert_array_equal(data.nxerrors.nxvalue, spectra["delta_xas_stderr"])
    for axis, unit in zip(data.nxaxes, ("mJ/cm^2", "ps", "eV"), strict=True):
        np.testing.assert_array_equal(axis.nxvalue, spectra[axis.nxname])
        assert axis.attrs["units"] == unit
    assert list(data.attrs["auxiliary_signals"]) == ["od_unpumped", "od_pumped"]


def test_every_nexus_group_can_be_plotted_and_every_variable_is_there(nexus, tree):
    entry = nexus["entry"]
    for data in entry.NXdata:
        assert data.nxsignal is not None
        assert [len(a) for a in data.nxaxes] == list(data.nxsignal.shape), data.nxname
    kinetics = tree["kinetics"].to_dataset()
    for name in ("tau1", "tau3"):
        data, fit = entry[f"kinetics_{name}"], kinetics.sel(parameter=name)
        np.testing.assert_array_equal(data.nxsignal.nxvalue, fit["value"])
        np.testing.assert_array_equal(data.nxerrors.nxvalue, fit["stderr"])
        np.testing.assert_array_equal(data["ci95_upper"].nxvalue, fit["ci95"].sel(bound="upper"))
    np.testing.assert_array_equal(entry["peaks_B"].nxsignal.nxvalue, tree["peaks/position"].sel(peak="B"))
    assert float(entry["mixture_scalars/slope"]) == float(tree["mixture/slope"])
    groups = [*entry.NXdata, *entry.NXcollection]
    stored = {re.sub(r"_(lower|upper)$", "", n).replace("_errors", "_stderr") for g in groups for n in g}
    wanted = {str(n) for g in tree.children.values() for n in g.data_vars} - {"stderr"}
    assert wanted <= stored


def test_every_measured_spectrum_is_an_entry_of_its_own(nexus, tree):
    spectra = tree["spectra"].to_dataset()
    entries = [e for name, e in nexus.items() if name.startswith("spectrum_")]
    assert len(entries) == int((spectra["n_pulses"] > 0).any("energy").sum()) > 1
    for entry in entries:
        assert entry["definition"] == "NXxasproc"
        assert (str(entry["element"]), str(entry["edge"])) == ("O", "K")
        assert str(entry["sample/chemical_formula"]) == "BaBiO3"
        assert "r0003/RAW-R0003" in str(entry["XAS_data_reduction/parameters/raw_file"])
        data = entry["data"]
        assert [a.nxname for a in data.nxaxes] == ["energy"]
        one = spectra.sel(fluence=float(data["fluence"]), delay=float(data["delay"]))
        np.testing.assert_array_equal(data.nxsignal.nxvalue, one["od_pumped"].dropna("energy"))
        np.testing.assert_array_equal(data["difference_errors"].nxvalue, one["delta_xas_stderr"].dropna("energy"))


def test_csv_reads_back_exactly_and_says_where_it_comes_from(tree, tmp_path):
    paths = export(tree, "csv", tmp_path)
    seen = set()
    for path in paths:
        group = next(g for g in sorted(tree.children, key=len, reverse=True) if path.stem.startswith(g))
        dataset = tree[group].to_dataset()
        table = pd.read_csv(path, comment="#")
        dims = next(dataset[n].dims for n in table.columns if n in dataset.data_vars)
        for name in [n for n in table.columns if n in dataset.data_vars]:
            values = dataset[name].values
            seen.add((group, name))
            if values.dtype.kind in "UOT":
                assert table[name].fillna("").tolist() == values.ravel().tolist()
                continue
            # the last bit is pandas' own
            read = table[name].to_numpy(dtype=float).reshape(values.shape)
            np.testing.assert_allclose(read, values.astype(float), rtol=1e-15)
        assert set(dims) <= set(table.columns)
        header = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
        assert f"# product_hash: {tree.attrs['product_hash']}" in header
        described = dict(re.match(r"# column (\S+) \[(.+?)\]", line).groups() for line in header if "# column" in line)
        assert set(described) >= set(table.columns) - set(dims)
        assert all(described[n] == dataset[n].attrs["units"] for n in described)
    assert seen == {(g, str(n)) for g, node in tree.children.items() for n in node.data_vars}


def read_xdi(path):
    """Read a file by the grammar of XDI 1.0; raises where it is not XDI."""
    lines = path.read_text(encoding="ascii").splitlines()
    assert re.fullmatch(r"# XDI/1\.0( \S+/\S+)*", lines[0])
    fields, comments, k = {}, [], 1
    while not re.fullmatch(r"#\s*/{3,}", lines[k]):
        name, value = re.fullmatch(r"# ([A-Za-z]\w*\.\w+): (\S.*)", lines[k]).groups()
        assert name.lower() not in fields, "fields do not repeat; case does not matter"
        fields[name.lower()] = value
        k += 1
    while not re.fullmatch(r"#\s*-{3,}", lines[k + 1]):
        comments.append(re.fullmatch(r"# (.*)", lines[k + 1])[1])
        k += 1
    labels = lines[k + 2].removeprefix("#").split()
    columns = [fields[f"column.{i}"].split()[0] for i in range(1, len(labels) + 1)]
    assert columns == labels
    assert f"column.{len(labels) + 1}" not in fields
    rows = [[float(v) for v in line.split()] for line in lines[k + 3 :]]
    assert {len(r) for r in rows} == {len(labels)}
    assert np.isfinite(rows).all()
    return fields, comments, dict(zip(labels, np.array(rows).T, strict=True))


def test_xdi_obeys_its_grammar_and_reads_back_exactly(tree, tmp_path):
    spectra = tree["spectra"].to_dataset()
    paths = export(tree, "xdi", tmp_path)
    assert len(paths) == int((spectra["n_pulses"] > 0).any("energy").sum())
    for path in paths:
        fields, _, table = read_xdi(path)
        assert fields["column.1"] == "energy eV"
        assert (fields["element.symbol"], fields["element.edge"]) == ("O", "K")
        assert (fields["sample.name"], fields["sample.stoichiometry"]) == ("tiny", "BaBiO3")
        assert fields["trxas.product_hash"] == tree.attrs["product_hash"]
        fluence, delay = (float(fields[f"pump.{n}"].split()[0]) for n in ("fluence", "delay"))
        one = spectra.sel(fluence=fluence, delay=delay).dropna("energy")
        np.testing.assert_array_equal(table["energy"], one["energy"])
        for name in ("od_unpumped", "od_pumped", "delta_xas"):
            np.testing.assert_array_equal(table[name], one[name])
            np.testing.assert_array_equal(table[f"{name}_stderr"], one[f"{name}_stderr"])


def test_what_is_not_known_is_left_out_and_said(tree, tmp_path):
    bare = tree.copy()
    bare.attrs = {k: v for k, v in tree.attrs.items() if k != "config"}
    spectra = tree["spectra"].to_dataset()
    nothing = xr.full_like(spectra["od_pumped"], np.nan)
    bare["spectra"] = xr.DataTree(spectra.assign({n: nothing for n in spectra.data_vars if n.startswith("od_")}))
    fields, comments, table = read_xdi(export(bare, "xdi", tmp_path)[0])
    assert set(table) == {"energy", "delta_xas", "delta_xas_stderr"}
    assert "element.symbol" not in fields
    assert any("sample.element" in c for c in comments)
    assert "od_pumped is not known" in comments
    entry = nxload(export(bare, "nexus", tmp_path)[0])["spectrum_0001"]
    assert "element" not in entry
    np.testing.assert_array_equal(entry["data"].nxsignal.nxvalue, table["delta_xas"])
