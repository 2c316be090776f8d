"""What all figures share: canvas, colours, error bands, the axis of delays, and how they are written."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

__all__ = [
    "COLOURS",
    "DELAY",
    "DELTA",
    "ENERGY",
    "band",
    "by_delay",
    "delay_axis",
    "fluence_colours",
    "house_style",
    "new_figure",
    "panel_letters",
    "points",
    "save",
    "total_band",
    "zero_line",
]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that colour-blind people can tell apart."""
ENERGY, DELAY, DELTA = "photon energy (eV)", "delay (ps)", "ΔXAS (mOD)"

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "axes.linewidth": 0.8,
    "xtick.direction": "in",
    "ytick.direction": "in",
    "xtick.top": True,
    "ytick.right": True,
    "lines.linewidth": 1.2,
    "lines.markersize": 4,
    "errorbar.capsize": 0,
    # letters in a PDF stay letters, in a font that travels with it; a second face would cost as much time again
    "pdf.fonttype": 42,
    "savefig.dpi": 160,
    "axes.formatter.useoffset": False,
}
_TICKS = (-10.0, -1.0, -0.5, 0.0, 0.5, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)


@contextmanager
def house_style() -> Iterator[None]:
    """Draw with our fonts, sizes and ticks, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        for name, value in _RC.items():
            mpl.rcParams[name] = value  # type: ignore[index]
        yield


def new_figure(columns: int, *, width: float, height: float, rows: int = 1, **more: Any) -> tuple[Figure, list[Axes]]:
    """Return a figure without a window, and its panels row by row; sizes in inches, `more` goes to subplots."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(np.ravel(figure.subplots(rows, columns, squeeze=False, **more)))


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG and, beside it, as PDF, with the folder they go to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    # the layout stands; doing it again would take most of the time
    figure.set_layout_engine("none")
    figure.savefig(path.with_suffix(".pdf"), metadata={"CreationDate": None})


def band(
    axes: Axes,
    x: np.ndarray,
    y: np.ndarray,
    error: np.ndarray,
    colour: Any,
    label: str | None = None,
    *,
    total: np.ndarray | None = None,
) -> None:
    """Draw a curve with its standard error as a band, in a lighter one of its `total` error; NaN is left out."""
    good = np.isfinite(y)
    if total is not None:
        total_band(axes, x, y, total, colour)
    axes.fill_between(x[good], (y - error)[good], (y + error)[good], color=colour, alpha=0.25, lw=0)
    axes.plot(x[good], y[good], color=colour, lw=1.2, label=label)


def total_band(axes: Axes, x: np.ndarray, y: np.ndarray, total: np.ndarray, colour: Any) -> None:
    """Draw a light band of what noise and reference together leave open."""
    good = np.isfinite(y) & np.isfinite(total)
    axes.fill_between(x[good], (y - total)[good], (y + total)[good], color=colour, alpha=0.12, lw=0, zorder=0.5)


def points(axes: Axes, x: Any, y: Any, error: Any, colour: Any, label: str | None = None, fmt: str = "o") -> None:
    """Draw points with error bars."""
    axes.errorbar(x, y, error, fmt=fmt, ms=3.5, lw=0.8, elinewidth=0.9, color=colour, label=label)


def zero_line(axes: Axes) -> None:
    """Draw a thin line at zero, behind everything."""
    axes.axhline(0, color="0.7", lw=0.6, zorder=0)


def fluence_colours(fluences: Any) -> dict[float, str]:
    """Return a colour per fluence [mJ/cm²], the same in all figures of a product."""
    return {float(f): COLOURS[i % len(COLOURS)] for i, f in enumerate(sorted(map(float, fluences)))}


def by_delay(n: int) -> list[Any]:
    """Return colours for delays in their order, dark to light."""
    return list(colormaps["viridis"](np.linspace(0.0, 0.8, max(n, 1))))


def panel_letters(panels: list[Axes]) -> None:
    """Write (a), (b), … beside the titles of the panels, as papers do."""
    if len(panels) > 1:
        for axes, letter in zip(panels, "abcdefghijklmnopqrstuvwxyz", strict=False):
            axes.set_title(f"({letter})", loc="left")


def delay_axis(axes: Axes, which: str = "x") -> None:
    """Make an axis linear around time zero and logarithmic beyond a picosecond, and label what fits on it."""
    low, high = axes.dataLim.intervalx if which == "x" else axes.dataLim.intervaly
    known = bool(np.isfinite([low, high]).all())
    shown = [t for t in _TICKS if not known or low - 0.3 * max(1, -low) <= t <= high * 1.4 + 0.1]
    getattr(axes, f"set_{which}scale")("symlog", linthresh=1.0, linscale=1.5)
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_ticks(shown)
    axis.set_major_formatter(FuncFormatter(lambda t, _: f"{t:g}".replace("-", "−")))
    if known:
        getattr(axes, f"set_{which}lim")(low - 0.1 * abs(low) - 0.05, high * 1.25 + 0.05)
