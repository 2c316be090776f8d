"""The other pages of a product: kinetics, peaks and mixture, quality, provenance, pictures."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import panel as pn

from pipeline.dashboard import curves, texts, views
from pipeline.dashboard import fit_curves as fitted
from pipeline.dashboard.data import Product
from pipeline.results import lookup

__all__ = ["kinetics_page", "peaks_page", "pictures_page", "provenance_page", "quality_page"]

Page = pn.viewable.Viewable


def _html(text: str, **more: Any) -> pn.pane.HTML:
    return pn.pane.HTML(text, sizing_mode="stretch_width", margin=(4, 12), **more)


def _shown(plot: views.Plot) -> pn.pane.Bokeh:
    return pn.pane.Bokeh(plot.figure, sizing_mode="stretch_width", margin=2)


def kinetics_page(product: Product, other: Product | None, style: views.Style) -> Page:
    """Return delay scans with fit and residuals, and what is known about the times."""
    groups = (product.group("spectra"), product.group("delay_scan"), product.group("kinetics"))
    scan, kinetics = groups[1:]
    if not scan.sizes["scan"]:
        return _html(texts.note("no delay scan in this product: the times are not fitted"))
    everything = lookup.fluences_of(*groups[:2])
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
        series = [s for s in curves.trace(groups, everything, energy, power=product.power) if s.kind != "open"]
        if other is not None:
            parts = (other.group("spectra"), other.group("delay_scan"), other.group("kinetics"))
            series += curves.trace(parts, everything, energy, power=other.power, tag=f", {other.version}")
        data.show(views.series_columns(series, style, delay_axis=True))
        data.name(f"delay scan and fit at {energy:.2f} eV")
        rest = fitted.residuals(scan, kinetics, everything, energy, everything)
        left.show(views.series_columns(rest, style, delay_axis=True))

    draw(choice.value)
    choice.param.watch(lambda event: draw(event.new), "value")
    chart = views.interval_plot(spans, everything, style, height=max(150, 60 + 26 * len(spans)))
    scans = pn.Column(choice, _shown(data), _shown(left), sizing_mode="stretch_width")
    table = pn.Column(_shown(chart), _html(texts.taus(spans, redchi)), sizing_mode="stretch_width")
    return pn.Row(scans, table, sizing_mode="stretch_width")


def _strongest(scan: Any, energies: Sequence[float]) -> float:
    top = abs(scan["delta_xas"]).max("delay")
    i = int(top.argmax("scan"))
    return min(energies, key=lambda e: abs(e - float(scan["energy"][i])))


def peaks_page(product: Product, other: Product | None, style: views.Style) -> Page:
    """Return peaks A and B against delay, α against fluence and the mixture fit."""
    peaks = product.group("peaks")
    fluences = lookup.fluences_of(peaks)
    x_range = views.delay_range(peaks["delay"].values.tolist())
    common: dict[str, Any] = {
        "delay_axis": True,
        "x_range": x_range,
        "x_label": "delay (ps)",
        "height": 285,
        "ticks": 9,
    }
    plots = []
    for peak in map(str, peaks["peak"].values):
        series = fitted.peak_values(peaks, peak, "position", fluences)
        if other is not None:
            series += fitted.peak_values(other.group("peaks"), peak, "position", fluences, tag=f", {other.version}")
        plots.append(views.series_plot(series, style, title=f"position of peak {peak}", y_label="eV", **common))
    heights = [
        s for peak in map(str, peaks["peak"].values) for s in fitted.peak_values(peaks, peak, "amplitude", fluences)
    ]
    plots.append(views.series_plot(heights, style, title="height of A and B", y_label="mOD", zero=True, **common))
    plots += _mixture_plots(product, other, style)
    rows = (plots[:3], plots[3:])
    table = _html(texts.fractions(product.summary))
    return pn.Column(
        *(pn.Row(*map(_shown, row), sizing_mode="stretch_width") for row in rows), table, sizing_mode="stretch_width"
    )


def _mixture_plots(product: Product, other: Product | None, style: views.Style) -> list[views.Plot]:
    mixture = product.group("mixture")
    points = [fitted.alpha(mixture), fitted.alpha_line(mixture)]
    if other is not None:
        points += [
            fitted.alpha(other.group("mixture"), tag=f", {other.version}"),
            fitted.alpha_line(other.group("mixture"), tag=f", {other.version}"),
        ]
    slope = product.summary["slope"]
    title = "excited fraction α"
    if slope["value"] is not None:
        title += f": {texts.plus_minus(100 * slope['value'], 100 * (slope['stderr'] or 0))} % per mJ/cm²"
    strongest = max(
        (float(f) for f in mixture["fluence"].values if float(mixture["alpha"].sel(fluence=f)) > 0), default=None
    )
    energy: dict[str, Any] = {"x_label": "photon energy (eV)", "height": 285}
    parts = fitted.components(mixture, strongest)
    at = "" if strongest is None else f" at {strongest:g} mJ/cm²"
    return [
        views.series_plot(
            [s for s in points if s], style, title=title, x_label="fluence (mJ/cm²)", y_label="α (%)", height=285
        ),
        views.series_plot(
            fitted.mixture_fit(mixture, lookup.fluences_of(mixture)),
            style,
            title="mixture fit, late delays",
            y_label="ΔXAS (mOD)",
            zero=True,
            **energy,
        ),
        views.series_plot(parts, style, title=f"both components{at}", y_label="optical density", **energy),
    ]


def quality_page(product: Product, style: views.Style) -> Page:
    """Return the runs with bookkeeping and audit, noise and null tests, and every warning."""
    quality = product.group("quality")
    plots = []
    for name, title, ideal, scale in (
        ("noise_ratio", "noise / photon noise", 1.0, 1.0),
        ("null_chi2", "odd − even trains, χ²/dof", 1.0, 1.0),
        ("null_chi2_early", "before time zero, χ²/dof", 1.0, 1.0),
        ("drift", "drift along the burst (mOD)", 0.0, 1e3),
    ):
        if name not in quality:
            continue
        series = fitted.per_run(quality, name, scale=scale)
        plots.append(_shown(views.run_plot(series, style, quality["run"].values.tolist(), title=title, ideal=ideal)))
    found = product.warnings
    said = f"<h3>Warnings</h3>{texts.warning_list(found)}" if found else "<p>✓ no warnings</p>"
    return pn.Column(
        pn.Row(*plots, sizing_mode="stretch_width"),
        _html(texts.runs(product.summary, quality)),
        _html(said),
        sizing_mode="stretch_width",
    )


def provenance_page(product: Product) -> Page:
    """Return where the numbers come from, and the config that made them."""
    attrs = product.attrs
    left = f"<h3>Provenance</h3>{texts.provenance(attrs, str(product.folder))}<h3>Raw files</h3>{texts.inputs(attrs)}"
    right = f"<h3>Config</h3>{texts.configuration(attrs)}"
    return pn.Row(_html(left), _html(right), sizing_mode="stretch_width")


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
