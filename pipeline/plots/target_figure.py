"""The figure of the target model: spectra of |2> and |1>, their populations, and where the line is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pipeline.plots import style
from pipeline.results.lookup import with_error
from pipeline.results.wording import plus_minus
from pipeline.science.kinetics.target import populations

__all__ = ["draw_target"]


def draw_target(target: xr.Dataset, power: int, path: Path) -> None:
    """Draw a row per fluence that has a target model."""
    chosen = np.flatnonzero(target["reported"].values != "")
    figure, panels = style.new_figure(3, width=12, height=3.4 * len(chosen), rows=len(chosen))
    for row, k in enumerate(chosen.tolist()):
        _draw_one(target.isel(fluence=k), power, panels[3 * row : 3 * row + 3])
    style.panel_letters(panels)
    style.save(figure, path)


def _draw_one(one: xr.Dataset, power: int, panels: list[Any]) -> None:
    spectra, courses, place = panels
    value = {str(n): float(v) for n, v in zip(one["parameter"].values, one["value"].values, strict=True)}
    t = one["delay"].values[one["population"].notnull().all("species").values]
    fine = np.unique(np.concatenate([np.linspace(t.min(), min(t.max(), 1.5), 300), np.geomspace(1.0, t.max(), 60)]))
    there = populations(
        fine,
        t_d=value["t_d"],
        irf_sigma=value["irf_sigma"],
        taus=[value[f"tau{i}"] for i in (1, 2, 3)],
        shares=(float(one["returning"]), float(one["lattice"])),
        power=power,
    )
    for k, name in enumerate(map(str, one["species"].values)):
        label, colour = f"|{name}⟩", style.COLOURS[k]
        row = one.sel(species=name)
        style.band(spectra, row["energy"].values, *with_error(row, "species_spectrum", 1e3), colour, label)
        courses.plot(fine, there[k], color=colour, label=label)
    style.zero_line(spectra)
    redchi = float(one["redchi"])
    spectra.set(title=f"{float(one['fluence']):g} mJ/cm²: {one['reported'].values!s}, χ²/dof {redchi:.2f}")
    spectra.set(xlabel=style.ENERGY, ylabel="ΔXAS if all were in it (mOD)")
    spectra.legend()
    style.zero_line(courses)
    courses.set(title="populations", xlabel=style.DELAY, ylabel="part of what is excited at once")
    courses.legend()
    style.delay_axis(courses)
    shift = float(one["shift"])
    if np.isfinite(shift):
        seen = there.sum(axis=0) > 0.01 * there.sum(axis=0).max()
        place.plot(fine[seen], shift * (there[0] / there.sum(axis=0))[seen], color=style.COLOURS[0])
        style.zero_line(place)
        place.set(title=f"the line moves from {plus_minus(shift, float(one['shift_stderr']))} eV")
        place.set(xlabel=style.DELAY, ylabel="place less that in the end (eV)")
        style.delay_axis(place)
    else:
        place.set_axis_off()
