"""The other pages of a product: kinetics, peaks and mixture, quality, provenance, pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

import panel as pn

from pipeline.dashboard import curves, texts, views
from pipeline.dashboard import fit_curves as fitted
from pipeline.dashboard.data import Product
from pipeline.results import lookup
from pipeline.results.wording import percent

__all__ = ["kinetics_page", "peaks_page", "pictures_page", "provenance_page", "quality_page"]

Page = pn.viewable.Viewable


def _html(text: str) -> pn.pane.HTML:
    return pn.pane.HTML(text, sizing_mode="stretch_width", margin=(4, 12))


def _shown(plot: views.Plot) -> pn.pane.Bokeh:
    return pn.pane.Bokeh(plot.figure, sizing_mode="stretch_width", margin=2)


def _row(parts: Iterable[Any]) -> pn.Row:
    return pn.Row(*parts, sizing_mode="stretch_width")


def kinetics_page(product: Product, other: Product | None, style: views.Style) -> Page:
    """Return delay scans with fit and residuals, and what is known about the times."""
    scan, kinetics = product.group("delay_scan"), product.group("kinetics")
    if not scan.sizes["scan"]:
        return _html(texts.note("no delay scan in this product: the times are not fitted"))
    everything = lookup.fluences_of(product.group("spectra"), scan)
    energies = fitted.scan_energies(scan)
    spans = lookup.intervals(product.summary["kinetics"])
    redchi = {fit["fluence"]: fit["redchi"] for fit in product.summary["kinetics"]}
    x_range = views.delay_range(scan["delay"].values.tolist())
    common: dict[str, Any] = {"delay_axis": True, "x_range": x_range, "x_label": "delay (ps)", "zero": True}
    data = views.series_plot([], style, title=" ", y_label="ΔXAS (mOD)", height=330, **common)
    left = views.series_plot([], style, y_label="residual / σ", legend=False, height=170, **common)
    choice = pn.widgets.RadioButtonGroup(
        options={f"{e:.2f} eV": e for e in energies},
        value=_strongest(scan, energies),
        color="primary",
        variant="outline",
        visible=len(energies) > 1,
    )

    def draw(energy: float) -> None:
        series = [s for s in curves.trace(product, everything, energy) if s.kind != "open"]
        if other is not None:
            series += curves.trace(other, everything, energy, tag=other.tag)
        data.show(views.series_columns(series, style, delay_axis=True), f"delay scan and fit at {energy:.2f} eV")
        rest = fitted.residuals(scan, kinetics, everything, energy)
        left.show(views.series_columns(rest, style, delay_axis=True))

    draw(choice.value)
    choice.param.watch(lambda event: draw(event.new), "value")
    chart = views.interval_plot(spans, everything, style, height=max(150, 60 + 26 * len(spans)))
    scans = pn.Column(choice, _shown(data), _shown(left), sizing_mode="stretch_width")
    table = pn.Column(_shown(chart), _html(texts.taus(spans, redchi)), sizing_mode="stretch_width")
    return _row([scans, table])


def _strongest(scan: Any, energies: Sequence[float]) -> float:
    top = abs(scan["delta_xas"]).max("delay")
    i = int(top.argmax("scan"))
    return min(energies, key=lambda e: abs(e - float(scan["energy"][i])))


def peaks_page(product: Product, other: Product | None, style: views.Style) -> Page:
    """Return peaks A and B against delay, α against fluence and the mixture fit."""
    peaks, names = product.group("peaks"), list(map(str, product.group("peaks")["peak"].values))
    x_range = views.delay_range(peaks["delay"].values.tolist())
    common: dict[str, Any] = {"delay_axis": True, "x_range": x_range, "x_label": "delay (ps)", "height": 285}
    plots = []
    for peak in names:
        series = fitted.peak_values(peaks, peak, "position")
        if other is not None:
            series += fitted.peak_values(other.group("peaks"), peak, "position", tag=other.tag)
        title = f"position of peak {peak}"
        plots.append(views.series_plot(series, style, title=title, y_label="eV", ticks=9, **common))
    heights = [s for peak in names for s in fitted.peak_values(peaks, peak, "amplitude")]
    plots.append(
        views.series_plot(heights, style, title="height of A and B", y_label="mOD", zero=True, ticks=9, **common)
    )
    plots += _mixture_plots(product, other, style)
    rows = [_row(map(_shown, row)) for row in (plots[:3], plots[3:])]
    return pn.Column(*rows, _html(texts.fractions(product.summary)), sizing_mode="stretch_width")


def _mixture_plots(product: Product, other: Product | None, style: views.Style) -> list[views.Plot]:
    mixture, slope = product.group("mixture"), product.summary["slope"]
    points = fitted.alpha(mixture) + ([] if other is None else fitted.alpha(other.group("mixture"), tag=other.tag))
    title = "excited fraction α"
    if slope["value"] is not None:
        title += f": {percent(slope)} per mJ/cm²"
    strongest = max(
        (float(f) for f in mixture["fluence"].values if float(mixture["alpha"].sel(fluence=f)) > 0), default=None
    )
    energy: dict[str, Any] = {"x_label": "photon energy (eV)", "height": 285}
    fits: dict[str, Any] = {"title": "mixture fit, late delays", "y_label": "ΔXAS (mOD)", "zero": True}
    at = "" if strongest is None else f" at {strongest:g} mJ/cm²"
    parts: dict[str, Any] = {"title": f"both components{at}", "y_label": "optical density"}
    return [
        views.series_plot(points, style, title=title, x_label="fluence (mJ/cm²)", y_label="α (%)", height=285),
        views.series_plot(fitted.mixture_fit(mixture), style, **fits, **energy),
        views.series_plot(fitted.components(mixture, strongest), style, **parts, **energy),
    ]


def quality_page(product: Product, style: views.Style) -> Page:
    """Return the runs with bookkeeping and audit, noise and null tests, and every warning."""
    quality, found = product.group("quality"), product.warnings
    plots = []
    for name, title, ideal, scale in lookup.QUALITY_PANELS:
        if name in quality:
            series = fitted.per_run(quality, name, scale=scale)
            plots.append(views.run_plot(series, style, quality["run"].values.tolist(), title=title, ideal=ideal))
    warnings = f"<h3>Warnings</h3>{texts.warning_list(found)}" if found else "<p>✓ no warnings</p>"
    table = _html(texts.runs(product.summary, quality))
    return pn.Column(_row(map(_shown, plots)), table, _html(warnings), sizing_mode="stretch_width")


def provenance_page(product: Product) -> Page:
    """Return where the numbers come from, and the config that made them."""
    attrs: Any = product.tree.attrs
    left = f"<h3>Provenance</h3>{texts.provenance(attrs, str(product.folder))}<h3>Raw files</h3>{texts.inputs(attrs)}"
    right = f"<h3>Config</h3>{texts.configuration(attrs)}"
    return _row([_html(left), _html(right)])


def pictures_page(product: Product) -> Page:
    """Return the figures that were published with the version."""
    found = product.figures()
    if not found:
        return _html(texts.note("no figures in this version"))
    panes = [
        pn.Column(_html(f"<h3>{escape(name)}</h3>"), pn.pane.PNG(content, width=640, margin=(0, 12)), width=665)
        for name, content in found.items()
    ]
    return pn.FlexBox(*panes)
