"""The figure of injected signals: pulls beside what errors promise, and from which size of the signal a quantity is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from pipeline.plots.style import COLOURS, new_figure, panel_letters, points, save
from pipeline.results.wording import TAU_SYMBOLS

__all__ = ["draw_injection"]

WIDEST = 4.0
"""Pulls beyond this are drawn at it."""


def draw_injection(injection: xr.Dataset, path: Path) -> None:
    """Draw coverage and pulls of every quantity and fluence, and the share of fits that know it against the signal's size."""
    counted = [(f, q) for f, q in np.argwhere(injection["n"].values > 0)]
    figure, (left, middle, right) = new_figure(
        3, width=10.0, height=1.6 + 0.28 * len(counted), width_ratios=[1, 1, 1.2]
    )
    names = []
    levels = injection["level"].values
    for row, (f, q) in enumerate(counted):
        one = injection.isel(fluence=f, quantity=q)
        quantity, n = str(one["quantity"].values), int(one["n"])
        colour = COLOURS[q]
        names.append(f"{TAU_SYMBOLS.get(quantity, 'α')}, {float(one['fluence']):g} mJ/cm²")
        for name, promised, mark in (("coverage68", 0.6827, "o"), ("coverage95", 0.95, "s")):
            error = 100 * np.sqrt(promised * (1 - promised) / n)
            left.errorbar(100 * float(one[name]), row, xerr=error, fmt=mark, ms=4, lw=0.9, color=colour)
        mean, spread = float(one["pull_mean"]), float(one["pull_std"])
        middle.errorbar(np.clip(mean, -WIDEST, WIDEST), row, xerr=np.nan_to_num(spread), fmt="o", ms=4, color=colour)
        shown = levels > 0
        dashes = ("-", "--", ":", "-.")[f % 4]
        right.plot(levels[shown], 100 * one["known"].values[shown], dashes, color=colour, marker="o", ms=3, lw=1.0)
    for promised in (68.27, 95.0):
        left.axvline(promised, color="0.6", lw=0.8, zorder=0)
    middle.axvspan(-1.0, 1.0, color="0.9", lw=0, zorder=0)
    middle.axvline(0.0, color="0.6", lw=0.8, zorder=0)
    right.axhline(50.0, color="0.6", lw=0.8, zorder=0)
    for axes in (left, middle):
        axes.set(ylim=(len(counted) - 0.5, -0.5), yticks=range(len(counted)))
    left.set(yticklabels=names, xlabel="intervals that hold the truth (%)", xlim=(0, 103))
    middle.set(yticklabels=[], xlabel="(fitted − injected) / error", xlim=(-WIDEST, WIDEST))
    right.set(xscale="log", xlabel="signal over the session's", ylabel="fits that determine it (%)", ylim=(-3, 103))
    right.set_xticks(levels[levels > 0], [f"{v:g}" for v in levels[levels > 0]])
    right.minorticks_off()
    for q, quantity in enumerate(map(str, injection["quantity"].values)):
        if (injection["n"].values[:, q] > 0).any():
            points(right, [], [], None, COLOURS[q], TAU_SYMBOLS.get(quantity, "α"))
    right.legend()
    panel_letters([left, middle, right])
    save(figure, path)
