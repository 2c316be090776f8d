"""Bokeh figures from lines, points and bands. Pure: nothing is read, and the same numbers give the same figure.

A `Plot` is made once per version and then only given new numbers, so that a zoom survives a pick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bokeh.events import Tap

from pipeline.dashboard import canvas
from pipeline.dashboard.canvas import DARK, LIGHT, Style, bk, delay_range
from pipeline.dashboard.curves import LINEAR, Series
from pipeline.results.lookup import Floats, Interval
from pipeline.results.wording import TAU_SYMBOLS, ends

__all__ = [
    "DARK",
    "LIGHT",
    "Plot",
    "Style",
    "delay_range",
    "interval_plot",
    "map_plot",
    "run_plot",
    "series_columns",
    "series_plot",
    "show_map",
]

_HOVER = [("", "@label"), ("x", "@x_text"), ("y", "@y_text")]


@dataclass
class Plot:
    """A figure, what it draws, and the marks of what is picked."""

    figure: Any
    sources: dict[str, Any]
    marks: dict[str, Any] = field(default_factory=dict)

    def show(self, columns: Mapping[str, Mapping[str, Any]], title: str | None = None) -> None:
        """Draw other numbers in the same figure, under another title if one is given."""
        for name, data in columns.items():
            self.sources[name].data = dict(data)
        if title is not None:
            self.figure.title.text = title

    def mark(self, dimension: str, at: float | None) -> None:
        """Move the line that marks the picked energy or delay; None hides it."""
        span = self.marks[dimension]
        span.visible = at is not None
        if at is not None:
            span.location = at

    def on_tap(self, call: Callable[[float, float], None]) -> None:
        """Call with the place of a click, in axis units."""
        self.figure.on_event(Tap, lambda event: call(event.x, event.y))


def series_columns(
    series: Iterable[Series], style: Style, *, delay_axis: bool = False
) -> dict[str, dict[str, list[Any]]]:
    """Return the columns of a `series_plot`: lines, bands (lighter ones of total errors), points and error bars."""
    lines: dict[str, list[Any]] = {n: [] for n in ("xs", "ys", "colour", "label", "dash")}
    bands: dict[str, list[Any]] = {n: [] for n in ("xs", "ys", "colour", "alpha")}
    points: dict[str, list[Any]] = {
        n: [] for n in ("x", "y", "low", "high", "colour", "fill", "label", "x_text", "y_text", "size")
    }

    def add(columns: dict[str, list[Any]], **values: Any) -> None:
        for name, value in values.items():
            columns[name].append(value)

    for one in series:
        good = one.finite
        x, y = one.x[good], one.y[good]
        error = np.zeros(len(x)) if one.error is None else np.nan_to_num(one.error[good])
        colour, banded = style.series[one.colour % len(style.series)], one.kind == "band"
        if one.kind in ("band", "line", "dashed"):
            dash = [6, 4] if one.kind == "dashed" else []
            add(lines, xs=x.tolist(), ys=y.tolist(), dash=dash, colour=colour, label=one.label)
        total = None if one.total is None else np.nan_to_num(one.total[good])
        for half, alpha in ((total, 0.12), (error if banded else None, 0.22)):
            if half is not None:
                outline = np.concatenate([y - half, (y + half)[::-1]])
                add(bands, xs=np.concatenate([x, x[::-1]]).tolist(), ys=outline.tolist(), colour=colour, alpha=alpha)
        if one.kind in ("points", "open", "band"):
            fill, size = style.background if one.kind == "open" else colour, 3 if banded else 6
            look: dict[str, Any] = {"colour": colour, "fill": fill, "size": size, "label": one.label}
            for u, v, e in zip(x.tolist(), y.tolist(), error.tolist(), strict=True):
                bar = 0.0 if banded else e
                x_text = _delay_text(u) if delay_axis else f"{u:.2f}"
                y_text = f"{v:.4g}" if one.error is None else f"{v:.4g} ± {e:.2g}"
                add(points, x=u, y=v, low=v - bar, high=v + bar, x_text=x_text, y_text=y_text, **look)
    return {"lines": lines, "bands": bands, "points": points}


def _delay_text(u: float) -> str:
    t = u / LINEAR if abs(u) <= LINEAR else np.sign(u) * 10 ** (abs(u) - LINEAR)
    return f"{t:.3g} ps"


def series_plot(
    series: Iterable[Series],
    style: Style,
    *,
    title: str = "",
    x_label: str = "",
    y_label: str = "",
    delay_axis: bool = False,
    x_range: Any = None,
    zero: bool = False,
    legend: bool = True,
    height: int = 280,
    ticks: int = 14,
) -> Plot:
    """Return a figure of lines with bands, points with error bars, hover and marks for what is picked.

    With `delay_axis` x is `curves.symlog` of a delay, labelled with at most so many `ticks`; `x_range` may be that of
    another figure, to zoom together; `zero` draws the line y = 0.
    """
    plot = canvas.empty_figure(style, title, x_label, y_label, height, x_range)
    sources = {n: bk.ColumnDataSource(dict(d)) for n, d in series_columns(series, style, delay_axis=delay_axis).items()}
    if zero:
        plot.add_layout(bk.Span(location=0, dimension="width", line_color=style.text, line_alpha=0.35, line_width=1))
    plot.patches("xs", "ys", source=sources["bands"], color="colour", alpha="alpha", line_width=0)
    lines = plot.multi_line("xs", "ys", source=sources["lines"], color="colour", line_width=1.8, line_dash="dash")
    # error bars as segments: whiskers would not count for the range of the axis
    plot.segment("x", "low", "x", "high", source=sources["points"], line_color="colour")
    points = plot.scatter(
        "x", "y", source=sources["points"], size="size", line_color="colour", fill_color="fill", line_width=1.4
    )
    plot.add_tools(bk.HoverTool(renderers=[points], tooltips=_HOVER, point_policy="snap_to_data"))
    if legend:
        canvas.legend_above(plot, style, points if sources["points"].data["x"] else lines)
    if delay_axis:
        canvas.delay_ticks(plot.xaxis[0], ticks)
    return Plot(plot, sources, canvas.marks(plot, style))


def map_plot(
    cells: Mapping[str, Floats], style: Style, *, title: str = "", even: bool = False, height: int = 280
) -> Plot:
    """Return the map of ΔXAS (`curves.map_cells`), symmetric about zero in colour; `even`: rows of equal height."""
    plot = canvas.empty_figure(style, title, "photon energy (eV)", "delay (ps)", height, bk.Range1d(0, 1))
    mapper = bk.LinearColorMapper(palette=canvas.palette(style), low=-1, high=1, nan_color=style.missing)
    source = bk.ColumnDataSource({n: [] for n in cells})
    colour = {"field": "value", "transform": mapper}
    quads = plot.quad("left", "right", "bottom", "top", source=source, fill_color=colour, line_color=None)
    plot.y_range = bk.Range1d(0, 1)
    tooltips = [("energy", "@energy{0.00} eV"), ("delay", "@delay{0.00} ps")]
    tooltips += [("ΔXAS", "@value{0.00} ± @error{0.00} mOD"), ("pulses", "@pulses{0}")]
    plot.add_tools(bk.HoverTool(renderers=[quads], tooltips=tooltips))
    plot.add_layout(canvas.colour_bar(mapper, style, "mOD"), "right")
    plot.grid.visible = False
    made = Plot(plot, {"cells": source}, canvas.marks(plot, style))
    show_map(made, cells, even=even)
    return made


def show_map(plot: Plot, cells: Mapping[str, Floats], *, even: bool) -> None:
    """Draw the cells of another fluence or another delay axis in the same figure."""
    values = np.abs(cells["value"][np.isfinite(cells["value"])])
    bound = float(np.percentile(values, 99.5)) if len(values) else 1.0
    mapper = plot.figure.select_one(bk.LinearColorMapper)
    mapper.low, mapper.high = -bound, bound
    plot.show({"cells": cells})
    canvas.bounds(plot.figure.x_range, cells["left"], cells["right"])
    canvas.bounds(plot.figure.y_range, cells["bottom"], cells["top"])
    axis = plot.figure.yaxis[0]
    if even:
        _label_rows(axis, [f"{t:.3g}" for t in np.unique(cells["delay"])])
        axis.formatter = bk.BasicTickFormatter()
    else:
        axis.major_label_overrides = {}
        canvas.delay_ticks(axis, 13)


def _label_rows(axis: Any, labels: Sequence[str]) -> None:
    """Label the places 0, 1, 2, … of an axis."""
    axis.ticker = bk.FixedTicker(ticks=list(range(len(labels))))
    axis.major_label_overrides = dict(enumerate(labels))


def interval_plot(found: Sequence[Interval], fluences: Sequence[float], style: Style, *, height: int = 280) -> Plot:
    """Return 68 % (thick) and 95 % (thin) intervals of the times; a dot only where the data determine the value.

    An open end runs to the border of the figure. `fluences` are all that have a colour.
    """
    positive = [e for one in found for e in (*one.ci68, *one.ci95, one.value) if e is not None and e > 0]
    low, high = (min(positive) / 1.6, max(positive) * 1.6) if positive else (0.05, 5.0)
    rows = [f"{TAU_SYMBOLS[one.name]}   {one.fluence:g} mJ/cm²" for one in found]
    log = {"x_axis_type": "log", "y_range": bk.FactorRange(*(rows[::-1] or ["no fit"]), range_padding=0.3)}
    plot = canvas.empty_figure(style, "intervals of the times", "ps", "", height, bk.Range1d(low, high), **log)
    for name, width in (("ci95", 2), ("ci68", 7)):
        pairs = [getattr(one, name) for one in found]
        columns = {
            "row": rows,
            "left": [low if p[0] is None or p[0] <= 0 else p[0] for p in pairs],
            "right": [high if p[1] is None else p[1] for p in pairs],
            "colour": [style.series[fluences.index(one.fluence) % len(style.series)] for one in found],
            "text": [ends(p) for p in pairs],
        }
        look = {"line_width": width, "line_color": "colour", "line_alpha": 0.55 if width > 2 else 1}
        bars = plot.segment("left", "row", "right", "row", source=bk.ColumnDataSource(columns), **look)
        tooltips = [("", "@row"), (f"{name.removeprefix('ci')} %", "@text ps")]
        plot.add_tools(bk.HoverTool(renderers=[bars], tooltips=tooltips))
    plot.xaxis[0].ticker = bk.FixedTicker(ticks=[m * 10.0**k for k in range(-3, 5) for m in (1, 2, 5)])
    plot.xaxis[0].formatter = bk.NumeralTickFormatter(format="0.[000]")
    known = {row: one.value for row, one in zip(rows, found, strict=True) if one.value is not None}
    plot.scatter(list(known.values()), list(known), size=8, color=style.text)
    unknown = {row: one.instead_of_value for row, one in zip(rows, found, strict=True) if not one.determined}
    look = {"text_color": style.series[1], "text_font_size": "11px", "y_offset": -7}
    plot.text([low * 1.05] * len(unknown), list(unknown), list(unknown.values()), **look)
    return Plot(plot, {})


def run_plot(series: Series, style: Style, runs: Sequence[int], *, title: str, ideal: float) -> Plot:
    """Return a quantity per run, with a line where it should be."""
    made = series_plot([series], style, title=title, x_label="run", legend=False, height=190)
    made.mark("y", ideal)
    _label_rows(made.figure.xaxis[0], list(map(str, runs)))
    made.figure.x_range = bk.Range1d(-0.6, len(runs) - 0.4)
    return made
