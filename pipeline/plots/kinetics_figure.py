"""The figure of the delay scans: data, fit between the points, residuals, and what is known about the times."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from pipeline.plots import style
from pipeline.results.lookup import (
    Interval,
    fitted_trace,
    intervals,
    reference_of,
    residual_of,
    total_error,
    with_error,
)
from pipeline.results.wording import TAU_SYMBOLS, plus_minus

__all__ = ["draw_kinetics"]

_COLUMNS = 4


def draw_kinetics(scan: xr.Dataset, kinetics: xr.Dataset, summary: Mapping[str, Any], power: int, path: Path) -> None:
    """Delay scans with fit and residuals, a column each, and the intervals of the times at every fluence."""
    chosen = _chosen(scan)
    found = intervals(summary["kinetics"])
    n = len(chosen)
    tall = 0.9 + 0.24 * len(found) if found else 0.0
    mosaic: Any = [[f"a{i}" for i in range(n)], [f"r{i}" for i in range(n)]] + ([["t"] * n] if found else [])
    figure, _ = style.new_figure(1, width=max(4.8, 0.5 + 3.4 * n), height=4.3 + tall)
    figure.clear()
    ratios = [2.8, 1.2] + ([tall] if found else [])
    panels: dict[str, Axes] = figure.subplot_mosaic(mosaic, height_ratios=ratios)
    colours = style.fluence_colours(kinetics["fluence"].values)
    for k, i in enumerate(chosen):
        above, below = panels[f"a{k}"], panels[f"r{k}"]
        _draw_scan(above, below, scan.isel(scan=i), kinetics, power, colours)
        below.set_xlabel(style.DELAY)
        if k == 0:
            above.set_ylabel(style.DELTA)
            below.set_ylabel("residual / σ")
    if found:
        _draw_intervals(panels["t"], found, colours)
    style.panel_letters([panels[f"a{k}"] for k in range(n)] + ([panels["t"]] if found else []))
    style.save(figure, path)


def _chosen(scan: xr.Dataset) -> list[int]:
    """The strongest scans, in the order of the product, as many as a page is wide."""
    strength = np.nan_to_num(np.abs(scan["delta_xas"].transpose("scan", "delay").values).max(axis=1))
    return sorted(np.argsort(-strength, kind="stable")[:_COLUMNS].tolist())


def _draw_scan(
    above: Axes, below: Axes, one: xr.Dataset, kinetics: xr.Dataset, power: int, colours: Mapping[float, str]
) -> None:
    fluence, energy, t = float(one["fluence"]), float(one["energy"]), one["delay"].values
    style.points(above, t, *with_error(one, "delta_xas", 1e3), "0.35", "data", fmt=".")
    total, words = total_error(one, "delta_xas", 1e3), reference_of(one)
    if total is not None:
        style.total_band(above, t, 1e3 * one["delta_xas"].values, total, "0.35")
    above.set_title(f"{energy:.2f} eV, {fluence:g} mJ/cm²" + (f"\nagainst {words}" if words else ""))
    style.zero_line(above)
    style.zero_line(below)
    fit = fitted_trace(kinetics, fluence, energy, power=power)
    if fit is not None:
        label = f"fit, χ²/dof {float(kinetics['redchi'].sel(fluence=fluence)):.2f}"
        above.plot(fit[0], 1e3 * fit[1], color=colours.get(fluence, "black"), lw=1.4, label=label)
        below.axhspan(-1, 1, color="0.92", lw=0, zorder=0)
        below.plot(t, residual_of(kinetics, one), ".", color="0.35")
        above.legend(loc="best")
    for axes in (above, below):
        style.delay_axis(axes)
    below.set_xlim(above.get_xlim())
    above.tick_params(labelbottom=False)


def _draw_intervals(axes: Axes, found: Sequence[Interval], colours: Mapping[float, str]) -> None:
    """Bars of 68 % (thick) and 95 % (thin); open ends run off the panel; a dot only where the data determine a value."""
    ends = [e for one in found for e in (*one.ci68, *one.ci95, one.value) if e is not None and e > 0]
    low, high = (min(ends) / 1.4, max(ends) * 1.4) if ends else (0.05, 5.0)
    for row, one in enumerate(found):
        colour = colours.get(one.fluence, "black")
        for pair, width, alpha in ((one.ci95, 1.4, 1.0), (one.ci68, 5.0, 0.55)):
            left, right = (pair[0] or low / 10, high * 10 if pair[1] is None else pair[1])
            axes.plot([left, right], [row, row], color=colour, lw=width, alpha=alpha, solid_capstyle="butt")
        if one.value is not None:
            axes.plot(one.value, row, "o", color="black", ms=4)
        words = one.instead_of_value if one.value is None else f"{plus_minus(one.value, one.stderr)} ps"
        beside: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center", "annotation_clip": False}
        axes.annotate(words, (1.01, row), fontsize=7.5, **beside)
    axes.set_yticks(range(len(found)), [f"{TAU_SYMBOLS[one.name]}, {one.fluence:g} mJ/cm²" for one in found])
    axes.set(xscale="log", xlim=(low, high), ylim=(len(found) - 0.4, -0.6), xlabel="ps (bars: 68 %, lines: 95 %)")
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="y", left=False, right=False)
    axes.set_title("times of the fit")
