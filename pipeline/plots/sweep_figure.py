"""The figure of a sweep: each time and the excited fraction against the choice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from pipeline.plots.style import fluence_colours, house_style, new_figure, panel_letters, save
from pipeline.results.wording import TAU_SYMBOLS

__all__ = ["draw_sweep"]


def draw_sweep(table: xr.Dataset, path: Path) -> None:
    """Draw τ1 … τ3 and α with their errors, a colour for each fluence; open: a time that the data do not determine.

    A choice of one key with numbers is an axis; others stand side by side.
    """
    place, names = _places(table)
    colours = fluence_colours(table["fluence"].values)
    with house_style():
        figure, panels = new_figure(2, rows=2, width=7.6, height=5.2)
        for axes, name in zip(panels, (*TAU_SYMBOLS, "alpha"), strict=True):
            for k, (fluence, colour) in enumerate(colours.items()):
                one = table.sel(fluence=fluence)
                # beside each other where they would hide each other
                x = place + 0.012 * np.ptp(place) * (k - 0.5 * (len(colours) - 1))
                if name == "alpha":
                    error = np.hypot(one["alpha_stderr"], np.nan_to_num(one["alpha_model_stderr"]))
                    _points(
                        axes, x, 100 * one["alpha"], 100 * error, np.ones(len(x), bool), colour, f"{fluence:g} mJ/cm²"
                    )
                else:
                    time = one.sel(parameter=name)
                    _points(axes, x, time["tau"], time["tau_stderr"], time["tau_identifiable"].values, colour, None)
            axes.set_ylabel("α (%)" if name == "alpha" else f"{TAU_SYMBOLS[name]} (ps)")
            axes.set_xlim(place.min() - 0.08 * (np.ptp(place) or 1.0), place.max() + 0.08 * (np.ptp(place) or 1.0))
            axes.set_xlabel(", ".join(map(str, table["key"].values)))
            if names is not None:
                axes.set_xticks(place, names, rotation=30, ha="right", fontsize=7)
        panels[-1].legend(fontsize=7)
        panels[0].set_title("open: not determined by the data")
        panel_letters(panels)
        save(figure, path)


def _places(table: xr.Dataset) -> tuple[np.ndarray, list[str] | None]:
    """Return where the choices stand on the axis, and their names where these are no numbers."""
    names = [str(name) for name in table["choice"].values]
    try:
        if table.sizes["key"] == 1 and len(names) > 1:
            return np.array([float(name) for name in names]), None
    except ValueError:
        pass
    return np.arange(len(names), dtype=float), names


def _points(
    axes: object, x: np.ndarray, y: xr.DataArray, error: xr.DataArray, known: np.ndarray, colour: str, label: str | None
) -> None:
    for chosen, face in ((known, colour), (~known, "w")):
        good = chosen & np.isfinite(y.values)
        if good.any() or face != "w":
            axes.errorbar(  # type: ignore[attr-defined]
                x[good], y.values[good], error.values[good], fmt="o", ms=4, lw=0.9, color=colour, mfc=face,
                label=label if face != "w" else None,
            )  # fmt: skip
