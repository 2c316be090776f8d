"""The figures of a product: all there, as PNG and PDF, with the product's numbers in them."""

import logging
from copy import deepcopy

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.image import imread

from pipeline import plots
from pipeline.plots import fit_figures, reference_figure
from pipeline.plots import kinetics_figure as kinetics
from pipeline.plots import spectra_figures as spectra
from tests.synthetic import fitted

FIGURES = {"spectra", "delta_xas", "map", "kinetics", "peaks", "mixture", "quality", "burst", "components"}


@pytest.fixture(scope="module")
def product():
    return fitted("seed")


@pytest.fixture(scope="module")
def folder(product, tmp_path_factory):
    path = tmp_path_factory.mktemp("figures")
    plots.draw_product(*product, path)
    return path


@pytest.fixture
def drawn(monkeypatch):
    """Catch the figures of a module instead of writing them."""

    def catch(module):
        caught = []
        monkeypatch.setattr(module.style, "save", lambda figure, _path: caught.append(figure))
        return caught

    return catch


@pytest.fixture
def only(monkeypatch):
    """Draw the named figures; the others are files without content."""

    def choose(*names):
        draws = {"spectra": "absorption", "delta_xas": "differences"}
        for figure in FIGURES - set(names):
            monkeypatch.setattr(plots, f"draw_{draws.get(figure, figure)}", lambda *given: given[-1].touch())

    return choose


def texts(figure):
    """Return all words of a figure."""
    return [t.get_text() for t in figure.findobj(mpl.text.Text) if t.get_text()]


def test_every_figure_is_there_as_png_and_pdf(folder):
    assert {p.stem for p in folder.glob("*.png")} >= FIGURES
    assert {p.stem for p in folder.glob("*.pdf")} == {p.stem for p in folder.glob("*.png")}
    for path in folder.glob("*.png"):
        picture = imread(path)
        assert min(picture.shape[:2]) > 400
        assert picture[..., :3].std() > 0.03


def test_letters_in_a_pdf_are_letters_in_embedded_fonts(folder):
    for path in folder.glob("*.pdf"):
        content = path.read_bytes()
        assert content.startswith(b"%PDF")
        assert b"/FontFile2" in content
        assert b"/Type3" not in content


def test_figures_do_not_depend_on_the_users_settings(product, folder, tmp_path, only):
    only("spectra", "kinetics")
    with mpl.rc_context({"font.size": 30, "lines.linewidth": 9, "axes.facecolor": "red"}):
        plots.draw_product(*product, tmp_path)
        assert mpl.rcParams["font.size"] == 30
    for name in ("spectra", "kinetics"):
        assert (tmp_path / f"{name}.png").read_bytes() == (folder / f"{name}.png").read_bytes()
        assert (tmp_path / f"{name}.pdf").read_bytes() == (folder / f"{name}.pdf").read_bytes()


def test_the_kinetics_show_data_fit_and_intervals_but_no_value_that_is_not_determined(product, drawn, tmp_path):
    tree, summary = deepcopy(product)
    tau = next(k for k in summary["kinetics"] if k["fluence"] == 8.0)["parameters"]["tau1"]
    tau |= {"identifiable": False, "ci95": [None, 0.31]}
    caught = drawn(kinetics)
    scan = tree["delay_scan"].to_dataset()
    kinetics.draw_kinetics(scan, tree["kinetics"].to_dataset(), summary, 2, tmp_path / "k.png")
    words = texts(caught[0])
    assert words.count("interval only") == 1
    assert len([w for w in words if "±" in w]) == 5
    first = caught[0].axes[0]
    fit = max(first.lines, key=lambda line: len(line.get_xdata()))
    stored = tree["kinetics"]["fit"].sel(fluence=8.0).isel(energy=0)
    np.testing.assert_allclose(
        np.interp(stored["delay"][2:], fit.get_xdata(), fit.get_ydata()), 1e3 * stored[2:], atol=0.05
    )


def test_the_stack_has_all_delays_and_the_map_all_cells(product, drawn, tmp_path):
    data = product[0]["spectra"].to_dataset()
    caught = drawn(spectra)
    spectra.draw_differences(data, tmp_path / "d.png")
    for delay in ("−0.5 ps", "0 ps", "0.2 ps", "59.8 ps"):
        assert texts(caught[0]).count(delay) == 2
    spectra.draw_map(data, tmp_path / "m.png")
    meshes = [m for axes in caught[1].axes for m in axes.collections if isinstance(m, mpl.collections.QuadMesh)]
    np.testing.assert_allclose(meshes[0].get_array(), 1e3 * data["delta_xas"].sel(fluence=8.0))


def test_what_was_not_measured_is_not_drawn(product, tmp_path, caplog, only):
    only("spectra", "delta_xas", "map", "kinetics")
    tree, summary = product
    groups = {f"/{n}": node.to_dataset() for n, node in tree.children.items()}
    groups["/delay_scan"] = groups["/delay_scan"].isel(scan=slice(0, 0))
    groups["/spectra"] = groups["/spectra"].sel(delay=[0.2])
    less = xr.DataTree.from_dict(groups)
    less.attrs = tree.attrs
    with caplog.at_level(logging.WARNING):
        plots.draw_product(less, summary, tmp_path)
    there = {p.stem for p in tmp_path.glob("*.png")}
    assert "kinetics" not in there
    assert "map" not in there
    assert {"spectra", "delta_xas"} <= there
    assert caplog.records == []


def test_a_figure_that_fails_costs_no_other(product, tmp_path, caplog, only):
    only("peaks", "quality")
    tree, summary = product
    groups = {f"/{n}": node.to_dataset() for n, node in tree.children.items()}
    groups["/peaks"] = groups["/peaks"].drop_vars("detected")
    broken = xr.DataTree.from_dict(groups)
    broken.attrs = tree.attrs
    plots.draw_product(broken, summary, tmp_path)
    assert {p.stem for p in tmp_path.glob("*.png")} >= FIGURES - {"peaks"}
    assert "figure peaks cannot be drawn" in caplog.text


def with_unknown(dataset, size):
    name = "delta_xas_stderr_systematic"
    return dataset.assign({name: 0 * dataset[name] + size})


def bands(axes):
    """Return the mean heights of the bands of a panel, by how opaque they are."""
    found = {}
    for one in axes.collections:
        if isinstance(one, mpl.collections.PolyCollection):
            x, y = one.get_paths()[0].vertices.T
            area = 0.5 * abs(np.sum(x * np.roll(y, 1) - y * np.roll(x, 1)))
            found.setdefault(one.get_alpha(), []).append(area / np.ptp(x))
    return found


def test_a_lighter_band_shows_the_total_error_where_the_reference_leaves_something_open(product, drawn, tmp_path):
    data, caught = product[0]["spectra"].to_dataset(), drawn(spectra)
    for size in (0.0, 3e-3):
        spectra.draw_absorption(with_unknown(data, size), tmp_path / "s.png")
        spectra.draw_differences(with_unknown(data, size), tmp_path / "d.png")
    known, stacked, unknown, _ = caught
    assert 0.12 not in bands(known.axes[1])
    assert "against flat field" in texts(known)
    assert "against flat field" in texts(stacked)
    found = bands(unknown.axes[1])
    assert len(found[0.12]) == len(found[0.25])
    # the errors of this product are 0.4 mOD everywhere
    assert found[0.25] == pytest.approx([2 * 0.4] * len(found[0.25]))
    assert found[0.12] == pytest.approx([2 * np.hypot(3.0, 0.4)] * len(found[0.12]))
    assert "against flat field (light: with its error)" in texts(unknown)


def test_a_delay_scan_says_what_it_is_compared_with(product, drawn, tmp_path):
    tree, summary = product
    caught = drawn(kinetics)
    scan = with_unknown(tree["delay_scan"].to_dataset(), 3e-3)
    kinetics.draw_kinetics(scan, tree["kinetics"].to_dataset(), summary, 2, tmp_path / "k.png")
    assert "528.20 eV, 8 mJ/cm²\nagainst flat field" in texts(caught[0])
    assert 0.12 in bands(caught[0].axes[0])


@pytest.mark.parametrize("runs", [[2], [2, 3, 9]])
def test_the_reference_is_drawn_over_energy_and_over_time_where_there_are_several_runs(runs, drawn, tmp_path):
    energy, hours = np.linspace(526.0, 532.0, 5), np.linspace(0.0, 2.0, 4)
    at = np.repeat([528.2], len(runs))
    model = dict.fromkeys(("c", "c_stderr", "c_stderr_systematic"), ("energy", 0.01 + 0 * energy))
    drift = dict.fromkeys(("drift", "drift_stderr", "drift_stderr_systematic"), ("hours", 0.001 * hours))
    points = {"measured": 0.01 + 2e-3 * np.arange(len(runs)), "measured_stderr": 1e-4 + 0 * at, "measured_energy": at}
    points |= {"measured_hours": np.arange(len(runs), dtype=float), "measured_run": np.array(runs)}
    data = {n: ("point", v) for n, v in points.items()} | model | drift
    reference = xr.Dataset(data, {"energy": energy, "hours": hours}).assign(drift_energy=528.2)
    caught = drawn(reference_figure)
    reference_figure.draw_reference(reference, tmp_path / "r.png")
    panels = caught[0].axes
    assert len(panels) == (2 if len(runs) > 1 else 1)
    assert set(bands(panels[0])) == {0.12, 0.25}
    if len(runs) > 1:
        shown = [one.get_xydata()[0] for one in panels[1].lines if len(one.get_xdata()) == 1]
        np.testing.assert_allclose(shown, [[60.0 * k, 2.0 * k] for k in range(len(runs))], atol=1e-9)


def test_alpha_is_drawn_with_its_total_error(product, drawn, tmp_path):
    tree, _ = product
    mixture = tree["mixture"].to_dataset()
    mixture = mixture.assign(alpha_stderr=0 * mixture["alpha"] + 0.003, alpha_model_stderr=0 * mixture["alpha"] + 0.004)
    caught = drawn(fit_figures)
    fit_figures.draw_mixture(mixture, tree["spectra"].to_dataset(), tmp_path / "m.png")
    panel = caught[0].axes[2]
    assert "with models and reference" in texts(caught[0])
    heights = [np.ptp(s[:, 1]) for c in panel.collections if hasattr(c, "get_segments") for s in c.get_segments()]
    assert max(heights) == pytest.approx(1.0)
    assert min(heights) == pytest.approx(0.6)
