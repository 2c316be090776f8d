"""The look of the figures: colours, axes, legends, the symmetric-log delay axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import bokeh.models
import bokeh.plotting
import numpy as np

from pipeline.dashboard.curves import LINEAR, symlog
from pipeline.results.lookup import Floats

__all__ = [
    "DARK",
    "LIGHT",
    "Style",
    "bk",
    "bounds",
    "colour_bar",
    "delay_range",
    "delay_ticks",
    "empty_figure",
    "legend_above",
    "marks",
    "palette",
]

# the type hints of Bokeh do not know the constructors of its own models
bk: Any = bokeh.models


@dataclass(frozen=True)
class Style:
    """Colours of a page; colour-blind people can tell the series apart too."""

    name: str
    background: str
    text: str
    grid: str
    missing: str
    series: tuple[str, ...]
    diverging: str
    """Name of a matplotlib colormap whose middle is the background."""


LIGHT = Style(
    "light",
    "#ffffff",
    "#24292f",
    "#e4e7eb",
    "#d0d4d9",
    ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#444444"),
    "RdBu_r",
)
DARK = Style(
    "dark",
    "#171a1f",
    "#d7dce2",
    "#343b44",
    "#3a4048",
    ("#56b4e9", "#ff8f3f", "#2fc79a", "#e79ac8", "#f0e442", "#9fb4ff", "#c8ccd2"),
    "berlin",
)

_HALF = ":host { height: calc((100vh - 212px) / 2) !important; min-height: 230px; }"
"""Two rows of figures fill what the controls leave of a window."""

_TICKS = f"""
const L = {LINEAR};
const u = t => Math.abs(t) <= 1 ? L * t : Math.sign(t) * (L + Math.log10(Math.abs(t)));
const lo = Math.min(cb_data.range.start, cb_data.range.end), hi = Math.max(cb_data.range.start, cb_data.range.end);
const apart = (hi - lo) / MOST;
let best = [-1000, -100, -10, -1, 0, 1, 10, 100, 1000];
for (const [step, parts] of [[1, [1]], [0.5, [1]], [0.5, [1, 3]], [0.2, [1, 2, 5]], [0.1, [1, 2, 3, 5]], [0.05, [1, 2, 3, 4, 5, 6, 8]],
                             [0.02, [1, 1.5, 2, 2.5, 3, 4, 5, 6, 7, 8, 9]], [0.01, [1, 1.2, 1.5, 2, 3]], [0.005, [1]], [0.002, [1]]]) {{
  const far = [1, 10, 100, 1000].flatMap(d => parts.map(p => d * p)).filter(t => t > 1);
  const near = []; for (let k = Math.round(-1 / step); k <= Math.round(1 / step); k++) near.push(k * step);
  const all = [...far.map(t => -t).reverse(), ...near, ...far];
  const seen = all.filter(t => u(t) >= lo && u(t) <= hi);
  if (seen.some((t, i) => i > 0 && u(t) - u(seen[i - 1]) < apart)) break;
  best = all;
}}
return best.map(u);
"""
_TICK_TEXT = f"""
const a = Math.abs(tick), t = a <= {LINEAR} ? tick / {LINEAR} : Math.sign(tick) * Math.pow(10, a - {LINEAR});
return String(+t.toPrecision(3)).replace("-", "−");
"""


def empty_figure(style: Style, title: str, x_label: str, y_label: str, height: int, x_range: Any, **more: Any) -> Any:
    """Return a figure in the colours of a page, with tools that appear on hover and a box zoom.

    A height of 0 is half of what the controls leave of the window.
    """
    if x_range is not None:
        more["x_range"] = x_range
    plot: Any = bokeh.plotting.figure(
        title=title,
        x_axis_label=x_label,
        y_axis_label=y_label,
        height=height or 280,
        stylesheets=[] if height else [_HALF],
        sizing_mode="stretch_width",
        tools="pan,box_zoom,wheel_zoom,reset,save",
        active_drag="box_zoom",
        toolbar_location="right",
        **more,
    )
    plot.toolbar.logo = None
    plot.toolbar.autohide = True
    plot.background_fill_color = plot.border_fill_color = style.background
    plot.outline_line_color = style.grid
    plot.title.text_color, plot.title.text_font_size = style.text, "13px"
    plot.grid.grid_line_color = style.grid
    plot.min_border_left, plot.min_border_right, plot.min_border_top = 62, 20, 4
    for axis in plot.axis:
        axis.axis_line_color = axis.major_tick_line_color = style.text
        axis.minor_tick_line_color = None
        axis.major_label_text_color = axis.axis_label_text_color = style.text
        axis.major_label_text_font_size, axis.axis_label_text_font_size = "11px", "12px"
        axis.axis_label_text_font_style, axis.axis_label_standoff = "normal", 4
    return plot


def legend_above(plot: Any, style: Style, renderer: Any) -> None:
    """Put a legend over a figure, an entry per label of the renderer's source."""
    items = [bk.LegendItem(label={"field": "label"}, renderers=[renderer])]
    sizes = {"padding": 0, "margin": 2, "spacing": 10, "glyph_width": 16, "glyph_height": 14, "label_height": 14}
    paint = {"border_line_color": None, "background_fill_color": None, "label_text_color": style.text}
    look = {"orientation": "horizontal", "location": "left", "label_text_font_size": "11px"}
    plot.add_layout(bk.Legend(items=items, **look, **paint, **sizes), "above")


def marks(plot: Any, style: Style) -> dict[str, Any]:
    """Add a hidden line per axis that marks what is picked; returns them by axis."""
    spans = {
        name: bk.Span(dimension=dimension, line_color=style.text, line_dash="dotted", line_width=1.5, visible=False)
        for name, dimension in (("x", "height"), ("y", "width"))
    }
    for span in spans.values():
        plot.add_layout(span)
    return spans


def delay_ticks(axis: Any, most: int) -> None:
    """Label an axis of `curves.symlog` with delays [ps], at most so many in sight; more appear on zooming in."""
    axis.ticker = bk.CustomJSTicker(major_code=_TICKS.replace("MOST", str(most)), minor_code="return [];")
    axis.formatter = bk.CustomJSTickFormatter(code=_TICK_TEXT)


def bounds(axis_range: Any, low: Floats, high: Floats) -> None:
    """Make a range hold all cells, also after a reset."""
    if len(low):
        axis_range.start, axis_range.end = float(low.min()), float(high.max())
        axis_range.reset_start, axis_range.reset_end = axis_range.start, axis_range.end


def colour_bar(mapper: Any, style: Style, title: str) -> Any:
    """Return a colour bar in the colours of a page."""
    bar = bk.ColorBar(
        color_mapper=mapper, title=title, width=10, padding=4, background_fill_color=None, label_standoff=4
    )
    bar.major_label_text_color = bar.title_text_color = bar.major_tick_line_color = style.text
    bar.major_label_text_font_size = bar.title_text_font_size = "11px"
    bar.title_text_font_style = "normal"
    return bar


def delay_range(delays: Sequence[float]) -> Any:
    """Return a range of the symmetric-log axis that holds the delays with a little room."""
    u = symlog(list(delays)) if len(delays) else np.array([-1.0, 3.0])
    room = 0.04 * max(float(u.max() - u.min()), 1.0)
    return bk.Range1d(float(u.min()) - room, float(u.max()) + room)


def palette(style: Style) -> list[str]:
    """Return the colours of the map, from the strongest negative to the strongest positive difference."""
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    return [to_hex(c) for c in colormaps[style.diverging](np.linspace(0, 1, 255))]
