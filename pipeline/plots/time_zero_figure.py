"""The figure of time zero: the onset of every delay scan with the fitted curve, and what each scan says of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from pipeline.plots.style import DELAY, DELTA, fluence_colours, new_figure, panel_letters, points, save, zero_line

__all__ = ["draw_time_zero"]

BEFORE, AFTER = 0.8, 1.5
"""Delays [ps] about time zero that are drawn."""
MOST = 8


def draw_time_zero(scans: xr.Dataset, found: xr.Dataset, path: Path) -> None:
    """Draw the onset of the delay scans with a step (the strongest eight), and their times zero beside the common one."""
    zero, stderr = float(found["t_d"]), float(found["t_d_stderr"])
    with_step = np.flatnonzero(np.isfinite(found["time_zero"].values))
    size = np.nan_to_num(np.abs(scans["delta_xas"].transpose("scan", "delay").values)).max(axis=1)[with_step]
    chosen = np.sort(with_step[np.argsort(-size, kind="stable")[:MOST]])
    figure, (left, right) = new_figure(2, width=7.6, height=3.4, width_ratios=[1.6, 1.0])
    colours = fluence_colours(found["fluence"].values)
    near = (scans["delay"].values > zero - BEFORE) & (scans["delay"].values < zero + AFTER)
    t = scans["delay"].values[near]
    for row, i in enumerate(chosen):
        one, fit = scans.isel(scan=i), found["fit"].sel(delay=scans["delay"].values[near], method="nearest").values[i]
        fluence, energy = float(found["fluence"][i]), float(found["energy"][i])
        colour = colours[fluence]
        good = np.isfinite(fit)
        points(
            left, t, 1e3 * one["delta_xas"].values[near], 1e3 * one["delta_xas_stderr"].values[near], colour, fmt="."
        )
        left.plot(t[good], 1e3 * fit[good], color=colour, lw=1.2)
        value, error = (float(found[n][i]) for n in ("time_zero", "time_zero_stderr"))
        points(right, 1e3 * value, row, None, colour)
        right.errorbar(1e3 * value, row, xerr=1e3 * error, color=colour, lw=0.9)
        right.annotate(
            f"{energy:.2f} eV, {fluence:g} mJ/cm²", (1e3 * value, row), (0, 5), textcoords="offset points", fontsize=7
        )
    zero_line(left)
    for axes, factor in ((left, 1.0), (right, 1e3)):
        axes.axvspan(factor * (zero - stderr), factor * (zero + stderr), color="0.88", lw=0, zorder=0)
        axes.axvline(factor * zero, color="0.4", lw=0.8)
    left.set(xlabel=DELAY, ylabel=DELTA, xlim=(zero - BEFORE, zero + AFTER))
    right.set(xlabel="time zero (fs)", ylim=(len(chosen) - 0.4, -0.6), yticks=[])
    place = f"stage {float(found['stage']):.4f} {found['stage'].attrs['units']}" if "stage" in found else ""
    left.set_title(f"time zero: {1e3 * zero:+.0f} ± {1e3 * stderr:.0f} fs")
    right.set_title(place)
    panel_letters([left, right])
    save(figure, path)
