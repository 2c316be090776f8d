"""The dashboard without a browser: numbers of the figures, words, and what is found below an output folder."""

import dataclasses
import subprocess
import sys

import bokeh.models as bk
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from pipeline.dashboard import curves, texts, views
from pipeline.dashboard import fit_curves as fitted
from pipeline.dashboard import pages as results
from pipeline.dashboard.data import Catalogue
from pipeline.dashboard.explore import Explore, Pick
from pipeline.errors import ProductError
from pipeline.results import lookup
from schemas.notes import Note, read_notes
from tests.synthetic import FLUENCES, groups

DELAYS = st.floats(-1e3, 1e3, allow_nan=False)


@pytest.fixture(scope="module")
def product(published):
    return Catalogue(published).open("seed", "v0001")


@given(DELAYS, DELAYS)
def test_the_delay_axis_keeps_the_order_and_is_linear_around_zero(a, b):
    u, v = curves.symlog([a, b])
    assert (u < v) == (a < b) or abs(a - b) < 1e-9 * max(abs(a), abs(b), 1.0)
    assert u == -curves.symlog(-a)
    if abs(a) <= 1:
        assert u == pytest.approx(curves.LINEAR * a)
    else:
        assert abs(u) == pytest.approx(curves.LINEAR + np.log10(abs(a)))


@given(st.lists(st.floats(-50, 50), min_size=1, max_size=20, unique_by=lambda v: round(v, 3)))
def test_every_centre_lies_between_its_borders(values):
    centres = np.sort(np.array(values))
    borders = lookup.edges(centres)
    assert len(borders) == len(centres) + 1
    assert (borders[:-1] < centres).all()
    assert (centres < borders[1:]).all()


def test_the_map_holds_what_was_measured(product):
    spectra = product.group("spectra")
    cells = curves.map_cells(spectra, 16.0)
    assert sorted(set(cells["delay"])) == [0.2, 4.8]
    one = spectra["delta_xas"].sel(fluence=16.0, delay=0.2).values
    np.testing.assert_array_equal(cells["value"][cells["delay"] == 0.2], 1e3 * one)
    even = curves.map_cells(spectra, 8.0, even=True)
    np.testing.assert_allclose(even["top"] - even["bottom"], 1.0)


def test_it_begins_on_peak_a_where_it_is_strongest(product):
    fluence, delay, energy = lookup.default_pick(product.group("spectra"), product.group("delay_scan"))
    assert (fluence, delay) == (32.0, 0.2)
    assert energy == pytest.approx(528.2)


def test_spectra_are_shown_only_at_the_delay_that_is_asked_for(product):
    spectra = product.group("spectra")
    found = curves.difference(spectra, FLUENCES, 0.2)
    assert [s.label for s in found] == ["8 mJ/cm²", "16 mJ/cm²", "32 mJ/cm²"]
    np.testing.assert_array_equal(found[2].y, 1e3 * spectra["delta_xas"].sel(fluence=32.0, delay=0.2))
    np.testing.assert_array_equal(found[2].error, 1e3 * spectra["delta_xas_stderr"].sel(fluence=32.0, delay=0.2))
    assert [s.label for s in curves.difference(spectra, FLUENCES, 0.3)] == ["8 mJ/cm²", "32 mJ/cm²"]
    assert lookup.measured_near(spectra, 16.0, 4.85) == 4.8
    assert lookup.measured_near(spectra, 16.0, 10.0) is None


def test_the_drawn_fit_is_the_stored_one_between_its_points_too(product):
    kinetics = product.group("kinetics")
    t, y = lookup.fitted_trace(kinetics, 32.0, 528.2, power=product.power)
    stored = kinetics["fit"].sel(fluence=32.0).sel(energy=528.2, method="nearest")
    assert len(t) > 200
    np.testing.assert_allclose(np.interp(stored["delay"][2:], t, y), stored[2:], atol=2e-3 * float(stored.max()))
    # another form than the one that was fitted is not drawn: the stored points are
    t, y = lookup.fitted_trace(kinetics, 32.0, 528.2, power=1)
    np.testing.assert_array_equal(y, stored)


def test_columns_hold_bands_and_error_bars():
    x = np.array([1.0, 2.0, np.nan])
    series = [
        curves.Series(x, 2 * x, 0.1 * x, "a", 0, "band"),
        curves.Series(x, 3 * x, 0.1 * x, "b", 8, "points"),
    ]
    columns = views.series_columns(series, views.LIGHT)
    assert columns["bands"]["ys"] == [pytest.approx([1.9, 3.8, 4.2, 2.1])]
    assert columns["points"]["high"][2:] == pytest.approx([3.1, 6.2])
    assert columns["points"]["label"] == ["a", "a", "b", "b"]
    assert columns["points"]["colour"][2] == views.LIGHT.series[8 % len(views.LIGHT.series)]
    assert columns["points"]["y_text"][2] == "3 ± 0.1"


def test_colours_of_the_map_are_symmetric_about_zero(product):
    plot = views.map_plot(curves.map_cells(product.group("spectra"), 32.0), views.DARK)
    mapper = plot.figure.select_one(bk.LinearColorMapper)
    assert mapper.low == -mapper.high
    assert mapper.high > 90
    assert len(plot.sources["cells"].data["value"]) == len(curves.map_cells(product.group("spectra"), 32.0)["value"])


def test_a_time_that_is_not_determined_has_an_interval_and_no_value(product):
    found = lookup.intervals(product.summary["kinetics"])
    first = next(one for one in found if one.name == "tau1" and one.fluence == 8.0)
    assert first.value is None
    assert first.stderr is None
    assert first.ci95 == (None, 0.31)
    words = texts.taus([first], {8.0: 1.0})
    assert "interval only" in words
    assert "open … 0.31" in words
    assert "±" not in words
    plot = views.interval_plot(found, list(FLUENCES), views.LIGHT)
    drawn = [r.glyph for r in plot.figure.renderers if isinstance(r.glyph, bk.Text)]
    assert len(drawn) == 1
    values = next(r for r in plot.figure.renderers if isinstance(r.glyph, bk.Scatter))
    assert len(values.data_source.data["y"]) == len(found) - 1


def test_residuals_and_components_are_those_of_the_product(product):
    scan, kinetics = product.group("delay_scan"), product.group("kinetics")
    one = fitted.residuals(scan, kinetics, list(FLUENCES), 528.2)[-1]
    assert one.label == "32 mJ/cm²"
    at = kinetics["fit"].sel(fluence=32.0).sel(energy=528.2, method="nearest")
    expected = (scan["delta_xas"][1] - at.values) / scan["delta_xas_stderr"][1]
    np.testing.assert_allclose(one.y, expected, atol=1e-9)
    ground, excited, total = fitted.components(product.group("mixture"), 32.0)
    np.testing.assert_allclose(ground.y + excited.y, total.y)
    assert fitted.components(product.group("mixture"), 99.0) == []


def test_whatever_a_product_says_is_escaped():
    evil = "<script>alert(1)</script>"
    for made in (
        texts.warnings([Note(evil, "fault", evil)]),
        texts.failure(evil, evil),
        texts.empty(evil),
        texts.configuration({"config": '{"dataset": "' + evil + '"}'}),
        texts.provenance({"dataset": evil, "environment": {evil: evil}}, evil),
        texts.inputs({"inputs": {evil: [{"name": evil, "size": 1, "sha256": evil}]}}),
        texts.versions({evil: [("v0001", ProductError(evil))]}, ("", ""), evil),
    ):
        assert "<script" not in made


def test_warnings_are_shown_with_their_severity_and_information_is_no_alarm():
    fault, caution, info = (Note("a.b", s, f"a text of {s}") for s in ("fault", "caution", "info"))
    shown = texts.warnings([fault, caution, caution, info])
    assert "⚠ 1 fault, 2 cautions, 1 note</b> a text of fault · a text of caution" in shown
    assert "<li class='fault' title='a.b'><b>FAULT</b> a text of fault</li>" in shown
    assert "role='alert'" in shown
    calm = texts.warnings([info])
    assert "ⓘ 1 note</b> a text of info" in calm
    assert "alert" not in calm
    assert "no warnings" in texts.warnings([])


def test_versions_are_in_the_order_of_their_numbers(tmp_path):
    for number in ("v0009", "v0010", "v10000", "partial", "v1"):
        (tmp_path / "products" / "a" / number).mkdir(parents=True)
    catalogue = Catalogue(tmp_path)
    assert catalogue.versions("a") == ["v10000", "v0010", "v0009"]
    assert catalogue.latest("a") == "v10000"
    assert catalogue.datasets() == ["a"]
    with pytest.raises(ProductError, match=r"a v0009: summary\.json is missing or damaged \(.*No such file"):
        catalogue.open("a", "v0009")


def test_nothing_outside_the_output_folder_is_found(out, published, tmp_path):
    dataset = out / "products" / "seed"
    (dataset / "v0002").symlink_to(published / "products" / "seed" / "v0001")
    (out / "products" / "elsewhere").symlink_to(published / "products" / "seed")
    secret = tmp_path / "secret.png"
    secret.write_bytes(b"secret")
    (dataset / "v0001" / "figures" / "secret.png").symlink_to(secret)
    pointer = (dataset / "latest.json").read_text()
    (dataset / "latest.json").write_text(pointer.replace('"path": "v0001"', '"path": "../../.."'))
    catalogue = Catalogue(out)
    assert catalogue.datasets() == ["seed"]
    assert catalogue.versions("seed") == ["v0001"]
    assert catalogue.latest("seed") == "v0001"
    for dataset_name, version in (
        ("elsewhere", "v0001"),
        ("seed", "v0002"),
        ("../products/seed", "v0001"),
        ("seed", ".."),
    ):
        with pytest.raises(ProductError, match=f"there is no version {version} of {dataset_name} in {out}"):
            catalogue.open(dataset_name, version)
    assert list(catalogue.open("seed", "v0001").figures()) == ["spectra"]


def test_many_faults_are_one_warning(product):
    several = dataclasses.replace(product, faults=("/peaks: group is missing", "/: attribute", "/x: units"))
    (added,) = [n for n in several.warnings if n not in product.warnings]
    assert added.code == "product.differs_from_schema"
    assert added.text.startswith("differs from the schema: /peaks: group is missing (and 2 more")
    assert product.warnings == read_notes(product.summary["warnings"])


def test_a_version_is_opened_once_and_few_are_kept(out, made):
    from tests.synthetic import publish_version

    publish_version(out, *made)
    catalogue = Catalogue(out, keep=1)
    first = catalogue.open("seed", "v0001")
    assert catalogue.open("seed", "v0001") is first
    assert first.group("spectra") is first.group("spectra")
    catalogue.open("seed", "v0002")
    assert catalogue.open("seed", "v0001") is not first


def test_a_missing_variable_is_a_warning_and_costs_only_its_page(product):
    class Damaged:
        def __init__(self):
            self.__dict__ = {n: getattr(product, n) for n in ("summary", "power", "warnings", "version")}

        def group(self, name):
            return product.group(name).drop_vars("position") if name == "peaks" else product.group(name)

    with pytest.raises(KeyError, match="position"):
        results.peaks_page(Damaged(), None, views.LIGHT)
    assert results.kinetics_page(Damaged(), None, views.LIGHT)
    assert Explore(Damaged(), None, views.LIGHT, Pick()).pick.fluence == 32.0


def test_a_product_without_energy_or_without_delay_scans_is_shown(product):
    none = groups(scans=False)

    class Only:
        power, version, summary = 2, "v0001", product.summary

        def __init__(self, **other):
            self.other = other

        def group(self, name):
            return self.other.get(name, product.group(name))

    explore = Explore(Only(delay_scan=none["delay_scan"]), None, views.LIGHT, Pick())
    assert set(explore.plots) == {"trace", "map", "difference", "absorption"}
    empty = product.group("spectra").isel(energy=slice(0, 0), delay=slice(0, 0), fluence=slice(0, 0))
    explore = Explore(Only(spectra=empty), None, views.LIGHT, Pick(energy=528.2))
    assert set(explore.plots) == {"trace"}
    assert explore.plots["trace"].sources["points"].data["x"]
    assert isinstance(empty, xr.Dataset)


def test_the_command_starts_without_the_dashboards_libraries():
    code = "import sys, flows.cli; print([m for m in ('panel', 'bokeh', 'xarray') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_damaged_version_says_which_part_it_is(out):
    version = out / "products" / "seed" / "v0001"
    product = Catalogue(out).open("seed", "v0001")
    with pytest.raises(ProductError, match="seed v0001: there is no group /nothing"):
        product.group("nothing")
    for stored in (version / "product.zarr" / "peaks").glob("*/c"):
        for chunk in (path for path in stored.rglob("*") if path.is_file()):
            chunk.write_bytes(b"damaged")
    with pytest.raises(ProductError, match=r"seed v0001: /peaks cannot be read \("):
        product.group("peaks")
    (version / "summary.json").write_text("{")
    with pytest.raises(ProductError, match=r"seed v0001: summary\.json is missing or damaged \(Invalid JSON"):
        Catalogue(out).summary("seed", "v0001")


def test_what_the_reference_leaves_open_is_a_lighter_band_and_the_reference_is_in_the_title(product):
    spectra = product.group("spectra")
    open_part = spectra.assign(delta_xas_stderr_systematic=0 * spectra["delta_xas"] + 3e-3)
    known, unknown = (curves.difference(one, [8.0], 0.2)[0] for one in (spectra, open_part))
    assert known.total is None
    np.testing.assert_allclose(unknown.total, np.hypot(3.0, unknown.error))
    narrow, wide = (views.series_columns([one], views.LIGHT)["bands"] for one in (known, unknown))
    assert (narrow["alpha"], wide["alpha"]) == ([0.22], [0.12, 0.22])
    n = len(unknown.x)
    np.testing.assert_allclose(np.subtract(wide["ys"][0][n:][::-1], wide["ys"][0][:n]), 2 * unknown.total)
    assert wide["ys"][1] == narrow["ys"][0]
    explore = Explore(product, None, views.LIGHT, Pick(delay=0.2))
    assert explore.plots["difference"].figure.title.text == "ΔXAS at 0.2 ps, against flat field"
