"""The figure of the reference: c(E) as it was measured without pump, the model of it, and how it drifts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes

from pipeline.plots import style
from pipeline.results.lookup import total_error, with_error

__all__ = ["draw_reference"]

NEAR = 0.35
"""Energies [eV] this near each other drift alike."""


def draw_reference(reference: xr.Dataset, path: Path) -> None:
    """Points of c against energy on the bands of the model; beside it, where several runs were measured, its drift."""
    runs = np.unique(reference["measured_run"].values)
    figure, panels = style.new_figure(2 if len(runs) > 1 else 1, width=8.4 if len(runs) > 1 else 4.6, height=3.4)
    _draw_energy(panels[0], reference, runs)
    if len(runs) > 1:
        _draw_time(panels[1], reference, runs)
    style.panel_letters(panels)
    style.save(figure, path)


def _draw_energy(axes: Axes, reference: xr.Dataset, runs: np.ndarray) -> None:
    for run, colour in zip(runs, _colours(runs), strict=True):
        one = reference.isel(point=reference["measured_run"].values == run)
        value, error = with_error(one, "measured", 1e3)
        label = f"run {run}" if len(runs) < 7 else None
        style.points(axes, one["measured_energy"].values, value, error, colour, label)
    _model(axes, reference, "energy", "c")
    axes.set(
        xlabel=style.ENERGY, ylabel="c = −ln(I$_p$/I$_u$) without pump (mOD)", title="at the mean time of the scans"
    )
    axes.legend(fontsize=7)


def _draw_time(axes: Axes, reference: xr.Dataset, runs: np.ndarray) -> None:
    """Draw what each run that was measured near the energy of the drift lies above c(E), and the drift of the model."""
    energy, at = reference["measured_energy"].values, float(reference["drift_energy"])
    above = reference["measured"].values - np.interp(energy, reference["energy"], reference["c"])
    weight = reference["measured_stderr"].values ** -2.0
    for run, colour in zip(runs, _colours(runs), strict=True):
        own = (reference["measured_run"].values == run) & (np.abs(energy - at) < NEAR)
        if not own.any():
            continue
        value, error = np.average(above[own], weights=weight[own]), weight[own].sum() ** -0.5
        time = reference["measured_hours"].values[own].mean()
        style.points(axes, [60 * time], [1e3 * value], [1e3 * error], colour)
    style.zero_line(axes)
    _model(axes, reference.assign_coords(hours=60 * reference["hours"]), "hours", "drift")
    axes.set(xlabel="time (min)", ylabel="change of c (mOD)", title=f"at {at:.1f} eV")


def _model(axes: Axes, reference: xr.Dataset, along: str, name: str) -> None:
    value, noise = with_error(reference, name, 1e3)
    total = total_error(reference, name, 1e3)
    style.band(axes, reference[along].values, value, noise, "0.25", "model", total=total)


def _colours(runs: np.ndarray) -> np.ndarray:
    colours: np.ndarray = colormaps["viridis"](np.linspace(0.0, 0.85, len(runs)))
    return colours
