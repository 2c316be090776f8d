"""The figure of the components: how many there are above noise, their spectra and courses, spectra of the decays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from pipeline.plots import style
from pipeline.results.lookup import with_error

__all__ = ["draw_components", "has_components"]


def has_components(components: xr.Dataset) -> bool:
    """Whether there is anything to draw."""
    if "n_components" not in components:
        return False
    return bool((components["n_components"] >= 0).any()) or len(_fluences_with_das(components)) > 0


def draw_components(components: xr.Dataset, path: Path) -> None:
    """Draw the cube of the fluence with most delays (singular values, spectra, courses) and the spectra of the decays."""
    cubes = np.flatnonzero(components["n_components"].values >= 0)
    with_das = _fluences_with_das(components)
    rows = bool(len(cubes)) + -(-len(with_das) // 3)
    figure, panels = style.new_figure(3, width=12, height=3.4 * rows, rows=rows)
    if len(cubes):
        counts = components["delays_right"].isel(component=0, fluence=cubes).notnull().sum("delay").values
        _draw_cube(components.isel(fluence=int(cubes[np.argmax(counts)])), panels[:3])
    below = panels[3:] if len(cubes) else panels
    for axes, k in zip(below, with_das, strict=False):
        _draw_das(components.isel(fluence=k), axes)
    for axes in below[len(with_das) :]:
        axes.set_axis_off()
    style.panel_letters(panels[: (3 if len(cubes) else 0) + len(with_das)])
    style.save(figure, path)


def _draw_cube(one: xr.Dataset, panels: list[Axes]) -> None:
    values, spectra, courses = panels
    number = one["component"].values
    values.semilogy(number, one["singular_values"], "o", color=style.COLOURS[0], label="difference")
    values.semilogy(number, one["noise_level"], "_", ms=14, color=style.COLOURS[1], label="noise, 99 %")
    n = int(one["n_components"])
    values.set(
        title=f"{float(one['fluence']):g} mJ/cm²: {n} above noise", xlabel="component", ylabel="singular value / noise"
    )
    values.set_xticks(number)
    values.margins(x=0.1)
    values.legend()
    for k in range(n):
        row = one.isel(component=k)
        look: Any = {"color": style.COLOURS[k], "label": f"component {k + 1}"}
        spectra.plot(*_finite(row["energy"].values, 1e3 * row["spectra_left"].values), **look)
        courses.plot(*_finite(row["delay"].values, row["delays_right"].values), "o-", ms=4, **look)
    style.zero_line(spectra)
    spectra.set(xlabel=style.ENERGY, ylabel="spectrum (mOD)")
    style.zero_line(courses)
    courses.set(xlabel=style.DELAY, ylabel="course, largest value 1")
    if n:
        spectra.legend()
        style.delay_axis(courses)


def _draw_das(one: xr.Dataset, axes: Axes) -> None:
    for k, name in enumerate(map(str, one["decay"].values)):
        row, label = one.sel(decay=name), "stays" if name == "0" else f"decays with {name}"
        if row["das"].notnull().any():
            style.band(axes, one["energy"].values, *with_error(row, "das", 1e3), style.COLOURS[k], label)
    style.zero_line(axes)
    axes.set(title=f"{float(one['fluence']):g} mJ/cm²", xlabel=style.ENERGY, ylabel="amplitude after the rise (mOD)")
    axes.legend(fontsize=7)


def _fluences_with_das(components: xr.Dataset) -> list[int]:
    """Fluences whose fit covers several energies: the amplitudes of one are in the product, not in the figure."""
    return np.flatnonzero((components["das"].notnull().any("decay").sum("energy") > 1).values).tolist()


def _finite(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    good = np.isfinite(y)
    return x[good], y[good]
