"""Bokeh figures from lines, points and bands. Pure: nothing is read, and the same numbers give the same figure.

A `Plot` is made once per version and then only given new numbers, so that a zoom survives a pick.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from bokeh.events import Tap

from pipeline.dashboard.canvas import (
    DARK,
    LIGHT,
    Style,
    bk,
    bounds,
    delay_range,
    delay_ticks,
    empty_figure,
    legend_above,
    marks,
    paint_bar,
    palette,
)
from pipeline.dashboard.curves import LINEAR, Series
from pipeline.results.lookup import Floats, Interval

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

    def show(self, columns: Mapping[str, Mapping[str, Any]]) -> None:
        """Draw other numbers in the same figure."""
        for name, data in columns.items():
            self.sources[name].data = dict(data)

    def name(self, title: str) -> None:
        """Write another title."""
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
    """Return the columns of a `series_plot`: lines, bands, points and error bars."""
    lines: dict[str, list[Any]] = {n: [] for n in ("xs", "ys", "colour", "label", "dash")}
    bands: dict[str, list[Any]] = {n: [] for n in ("xs", "ys", "colour")}
    points: dict[str, list[Any]] = {
        n: [] for n in ("x", "y", "low", "high", "colour", "fill", "label", "x_text", "y_text", "size")
    }
    for one in series:
        good = one.finite
        x, y = one.x[good], one.y[good]
        error = np.zeros(len(x)) if one.error is None else np.nan_to_num(one.error[good])
        colour = style.series[one.colour % len(style.series)]
        if one.kind in ("band", "line", "dashed"):
            lines["xs"].append(x.tolist())
            lines["ys"].append(y.tolist())
            lines["dash"].append([6, 4] if one.kind == "dashed" else [])
            lines["colour"].append(colour)
            lines["label"].append(one.label)
        if one.kind == "band":
            bands["xs"].append([*x.tolist(), *x[::-1].tolist()])
            bands["ys"].append([*(y - error).tolist(), *(y + error)[::-1].tolist()])
            bands["colour"].append(colour)
        if one.kind in ("points", "open", "band"):
            n = len(x)
            bars = error if one.kind != "band" else np.zeros(n)
            for name, values in (("x", x), ("y", y), ("low", y - bars), ("high", y + bars)):
                points[name] += values.tolist()
            points["colour"] += [colour] * n
            points["fill"] += [style.background if one.kind == "open" else colour] * n
            points["size"] += [3 if one.kind == "band" else 6] * n
            points["label"] += [one.label] * n
            points["x_text"] += [_delay_text(v) if delay_axis else f"{v:.2f}" for v in x]
            points["y_text"] += [
                f"{v:.4g}" if one.error is None else f"{v:.4g} ± {e:.2g}" for v, e in zip(y, error, strict=True)
            ]
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

    Parameters
    ----------
    series
        What to draw at first; may be empty.
    style
        Colours.
    title, x_label, y_label
        Texts.
    delay_axis
        Whether x is `curves.symlog` of a delay.
    x_range
        The range of another figure, to zoom together.
    zero
        Draw the line y = 0.
    legend
        Whether to show one above the figure.
    height
        In pixels; 0 is half of what the controls leave of the window.
    ticks
        Most labels on the delay axis.
    """
    plot = empty_figure(style, title, x_label, y_label, height, x_range)
    sources = {n: bk.ColumnDataSource(dict(d)) for n, d in series_columns(series, style, delay_axis=delay_axis).items()}
    if zero:
        plot.add_layout(bk.Span(location=0, dimension="width", line_color=style.text, line_alpha=0.35, line_width=1))
    plot.patches("xs", "ys", source=sources["bands"], color="colour", alpha=0.22, line_width=0)
    lines = plot.multi_line("xs", "ys", source=sources["lines"], color="colour", line_width=1.8, line_dash="dash")
    # error bars as segments: whiskers would not count for the range of the axis
    plot.segment("x", "low", "x", "high", source=sources["points"], line_color="colour")
    points = plot.scatter(
        "x", "y", source=sources["points"], size="size", line_color="colour", fill_color="fill", line_width=1.4
    )
    plot.add_tools(bk.HoverTool(renderers=[points], tooltips=_HOVER, point_policy="snap_to_data"))
    if legend:
        legend_above(plot, style, points if sources["points"].data["x"] else lines)
    if delay_axis:
        delay_ticks(plot.xaxis[0], ticks)
    return Plot(plot, sources, marks(plot, style))


def map_plot(
    cells: Mapping[str, Floats], style: Style, *, title: str = "", even: bool = False, height: int = 280
) -> Plot:
    """Return the map of ΔXAS on energy and delay, symmetric about zero in colour.

    Parameters
    ----------
    cells
        `curves.map_cells`.
    style
        Colours.
    title
        Text.
    even
        Whether the rows have equal heights.
    height
        In pixels.
    """
    plot = empty_figure(style, title, "photon energy (eV)", "delay (ps)", height, bk.Range1d(0, 1))
    mapper = bk.LinearColorMapper(palette=palette(style), low=-1, high=1, nan_color=style.missing)
    source = bk.ColumnDataSource({n: [] for n in cells})
    quads = plot.quad(
        "left",
        "right",
        "bottom",
        "top",
        source=source,
        fill_color={"field": "value", "transform": mapper},
        line_color=None,
    )
    plot.y_range = bk.Range1d(0, 1)
    tooltips = [
        ("energy", "@energy{0.00} eV"),
        ("delay", "@delay{0.00} ps"),
        ("ΔXAS", "@value{0.00} ± @error{0.00} mOD"),
        ("pulses", "@pulses{0}"),
    ]
    plot.add_tools(bk.HoverTool(renderers=[quads], tooltips=tooltips))
    bar = bk.ColorBar(
        color_mapper=mapper, title="mOD", width=10, padding=4, background_fill_color=None, label_standoff=4
    )
    paint_bar(bar, style)
    plot.add_layout(bar, "right")
    plot.grid.visible = False
    made = Plot(plot, {"cells": source}, marks(plot, style))
    show_map(made, cells, even=even)
    return made


def show_map(plot: Plot, cells: Mapping[str, Floats], *, even: bool) -> None:
    """Draw the cells of another fluence or another delay axis in the same figure."""
    values = np.abs(cells["value"][np.isfinite(cells["value"])])
    bound = float(np.percentile(values, 99.5)) if len(values) else 1.0
    mapper = plot.figure.select_one(bk.LinearColorMapper)
    mapper.low, mapper.high = -bound, bound
    plot.show({"cells": cells})
    bounds(plot.figure.x_range, cells["left"], cells["right"])
    bounds(plot.figure.y_range, cells["bottom"], cells["top"])
    axis = plot.figure.yaxis[0]
    if even:
        rows = np.unique(cells["delay"])
        axis.ticker = bk.FixedTicker(ticks=list(range(len(rows))))
        axis.formatter = bk.BasicTickFormatter()
        axis.major_label_overrides = {i: f"{t:.3g}" for i, t in enumerate(rows)}
    else:
        axis.major_label_overrides = {}
        delay_ticks(axis, 13)


def interval_plot(found: Sequence[Interval], fluences: Sequence[float], style: Style, *, height: int = 280) -> Plot:
    """Return 68 % (thick) and 95 % (thin) intervals of the times; a dot only where the data determine the value.

    An open end runs to the border of the figure. `fluences` are all that have a colour.
    """
    ends = [e for one in found for e in (*one.ci68, *one.ci95, one.value) if e is not None and e > 0]
    low, high = (min(ends) / 1.6, max(ends) * 1.6) if ends else (0.05, 5.0)
    rows = [f"{_TAU[one.name]}   {one.fluence:g} mJ/cm²" for one in found][::-1]
    plot = empty_figure(
        style,
        "intervals of the times",
        "ps",
        "",
        height,
        None,
        y_range=bk.FactorRange(*(rows or ["no fit"]), range_padding=0.3),
        x_axis_type="log",
        x_range_log=(low, high),
    )
    for name, width in (("ci95", 2), ("ci68", 7)):
        pairs = [getattr(one, name) for one in found]
        source = bk.ColumnDataSource(
            {
                "row": rows[::-1],
                "left": [low if p[0] is None or p[0] <= 0 else p[0] for p in pairs],
                "right": [high if p[1] is None else p[1] for p in pairs],
                "colour": [style.series[fluences.index(one.fluence) % len(style.series)] for one in found],
                "text": [_ends(p) for p in pairs],
            }
        )
        bars = plot.segment(
            "left",
            "row",
            "right",
            "row",
            source=source,
            line_width=width,
            line_color="colour",
            line_alpha=0.55 if width > 2 else 1,
        )
        plot.add_tools(
            bk.HoverTool(renderers=[bars], tooltips=[("", "@row"), (name.replace("ci", "") + " %", "@text ps")])
        )
    plot.xaxis[0].ticker = bk.FixedTicker(ticks=[m * 10.0**k for k in range(-3, 5) for m in (1, 2, 5)])
    plot.xaxis[0].formatter = bk.NumeralTickFormatter(format="0.[000]")
    known = [(row, one) for row, one in zip(rows[::-1], found, strict=True) if one.value is not None]
    plot.scatter([one.value for _, one in known], [row for row, _ in known], size=8, color=style.text)
    unknown = [(row, one.instead_of_value) for row, one in zip(rows[::-1], found, strict=True) if not one.determined]
    plot.text(
        [low * 1.05] * len(unknown),
        [row for row, _ in unknown],
        [words for _, words in unknown],
        text_color=style.series[1],
        text_font_size="11px",
        y_offset=-7,
    )
    return Plot(plot, {})


def run_plot(series: Series, style: Style, runs: Sequence[int], *, title: str, ideal: float) -> Plot:
    """Return a quantity per run, with a line where it should be."""
    made = series_plot([series], style, title=title, x_label="run", legend=False, height=190)
    made.mark("y", ideal)
    axis = made.figure.xaxis[0]
    axis.ticker = bk.FixedTicker(ticks=list(range(len(runs))))
    axis.major_label_overrides = {i: str(n) for i, n in enumerate(runs)}
    made.figure.x_range = bk.Range1d(-0.6, len(runs) - 0.4)
    return made


_TAU = {"tau1": "τ1", "tau2": "τ2", "tau3": "τ3"}


def _ends(pair: tuple[float | None, float | None]) -> str:
    low, high = ("open" if v is None else f"{v:.3g}" for v in pair)
    return f"{low} … {high}"
