"""Figures of the peaks and of the mixture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from pipeline.plots import style
from pipeline.results.lookup import Floats, with_error

__all__ = ["draw_mixture", "draw_peaks"]


def draw_peaks(peaks: xr.Dataset, path: Path) -> None:
    """Positions, heights, widths of A and B, the shift of A and the distance of B from it; × where there is no line."""
    figure, panels = style.new_figure(3, rows=2, width=10, height=6.2)
    seen = peaks["detected"]
    a, b = (peaks.sel(peak=p) for p in ("A", "B"))
    curves = [
        ("peak A", "position (eV)", a, "position", seen.sel(peak="A"), 1.0),
        ("peak B", "position (eV)", b, "position", seen.sel(peak="B"), 1.0),
        ("height of A", style.DELTA, a, "amplitude", seen.sel(peak="A"), 1e3),
        ("shift of A from its latest position", "shift (eV)", peaks, "shift", seen.sel(peak="A"), 1.0),
        ("distance of B from A", "B − A (eV)", peaks, "separation", seen.all("peak"), 1.0),
        ("height of B", style.DELTA, b, "amplitude", seen.sel(peak="B"), 1e3),
    ]
    for axes, (title, label, data, name, there, scale) in zip(panels, curves, strict=True):
        if name not in data:
            axes.set_axis_off()
            continue
        _draw_course(axes, data, name, there, scale)
        axes.set(title=title, xlabel=style.DELAY, ylabel=label)
    for axes in panels[2:4] + panels[5:]:
        style.zero_line(axes)
    panels[0].legend()
    style.panel_letters(panels)
    if bool((~seen).any()):
        figure.supxlabel("× measured, but the line is not above the noise", fontsize=8)
    style.save(figure, path)


def _draw_course(axes: Axes, data: xr.Dataset, name: str, there: xr.DataArray, scale: float) -> None:
    """Draw a quantity of a peak against delay for all fluences, with crosses at the bottom where there is no peak."""
    delay = data["delay"].values
    for k, (fluence, colour) in enumerate(style.fluence_colours(data["fluence"].values).items()):
        one = data.sel(fluence=fluence)
        y, error = with_error(one, name, scale)
        style.points(axes, delay, y, error, colour, f"{fluence:g} mJ/cm²", fmt="o-")
        measured = np.isfinite(one["redchi"].values) if "redchi" in one else np.ones(len(delay), bool)
        absent = delay[measured & ~there.sel(fluence=fluence).values]
        height = np.full(len(absent), 0.03 + 0.04 * k)
        axes.plot(absent, height, "x", color=colour, ms=4.5, transform=axes.get_xaxis_transform())
    style.delay_axis(axes)


def draw_mixture(mixture: xr.Dataset, spectra: xr.Dataset, path: Path) -> None:
    """The mixture fit at late delays, both components of the pumped spectrum, and α against fluence."""
    figure, (left, middle, right) = style.new_figure(3, width=10.5, height=3.4)
    usable = [float(f) for f in mixture["fluence"].values if np.isfinite(mixture["alpha"].sel(fluence=f))]
    colours = style.fluence_colours(mixture["fluence"].values)
    energy = mixture["energy"].values
    for fluence in usable:
        one = mixture.sel(fluence=fluence)
        data, error = 1e3 * (one["fit"] + one["residual"]), _late_error(spectra, mixture, fluence)
        style.points(left, energy, data, error, colours[fluence], fmt=".")
        left.plot(energy, 1e3 * one["fit"], color=colours[fluence], label=f"{fluence:g} mJ/cm²")
    style.zero_line(left)
    left.set(xlabel=style.ENERGY, ylabel=style.DELTA, title="difference and fit")
    if usable:
        left.legend()
        _draw_components(middle, mixture.sel(fluence=max(usable)))
    _draw_alpha(right, mixture, colours)
    style.panel_letters([left, middle, right])
    style.save(figure, path)


def _late_error(spectra: xr.Dataset, mixture: xr.Dataset, fluence: float) -> Floats | None:
    """Standard error [mOD] of the difference averaged over the delays of the shares, where the product tells which they are."""
    delays = mixture.attrs.get("delays")
    if delays is None or fluence not in spectra["fluence"].values:
        return None
    one = spectra["delta_xas_stderr"].sel(fluence=fluence)
    one = one.sel(delay=np.atleast_1d(delays), method="nearest")
    one = one.reindex(energy=mixture["energy"], method="nearest", tolerance=1e-6)
    weight = (one**-2.0).where(np.isfinite(one)).sum("delay").values
    error: Floats = 1e3 * np.where(weight > 0, weight, np.inf) ** -0.5
    return error


def _draw_components(axes: Axes, one: xr.Dataset) -> None:
    energy, ground, excited = one["energy"].values, one["component_ground"].values, one["component_excited"].values
    alpha = 100 * float(one["alpha"])
    axes.plot(energy, ground + excited, color="0.2", lw=1.6, label="sum: pumped")
    for y, colour, label in (
        (ground, style.COLOURS[0], f"{100 - alpha:.0f} % ground"),
        (excited, style.COLOURS[1], f"{alpha:.0f} % excited"),
    ):
        axes.fill_between(energy, 0.0, y, color=colour, alpha=0.2, lw=0)
        axes.plot(energy, y, color=colour, label=label)
    if alpha < 95.0:
        axes.plot(energy, ground / (1 - alpha / 100), color="0.5", lw=1, ls="--", label="unpumped")
    axes.set(xlabel=style.ENERGY, ylabel="optical density", title=f"components at {float(one['fluence']):g} mJ/cm²")
    axes.set_ylim(bottom=min(0.0, float(np.nanmin(ground))))
    axes.legend()


def _draw_alpha(axes: Axes, mixture: xr.Dataset, colours: dict[float, str]) -> None:
    fluence, alpha, error = (mixture[n].values for n in ("fluence", "alpha", "alpha_stderr"))
    model = mixture["alpha_model_stderr"].values if "alpha_model_stderr" in mixture else np.full(alpha.shape, np.nan)
    if np.isfinite(model).any():
        look: dict[str, Any] = {"fmt": "none", "ecolor": "0.7", "elinewidth": 4, "alpha": 0.7}
        total = 100 * np.hypot(error, np.nan_to_num(model))
        axes.errorbar(fluence, 100 * alpha, total, label="with models and reference", **look)
    if np.isfinite(mixture["slope"]):
        _draw_line(axes, mixture)
    for f, y, e in zip(fluence.tolist(), alpha, error, strict=True):
        style.points(axes, [f], [100 * y], [100 * e], colours[f])
    style.zero_line(axes)
    axes.set(xlabel="fluence (mJ/cm²)", ylabel="excited fraction α (%)", title="excited fraction")
    axes.set_xlim(left=0)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left")


def _draw_line(axes: Axes, mixture: xr.Dataset) -> None:
    """Draw the straight line through the fractions, with its error band where the product has its covariance."""
    x = np.linspace(0, float(mixture["fluence"].max()) * 1.08, 50)
    slope, error = 100 * float(mixture["slope"]), 100 * float(mixture["slope_stderr"])
    label = f"{slope:.3f} ± {error:.3f} % per mJ/cm²"
    p = float(mixture["linear_p"]) if "linear_p" in mixture else np.nan
    label += f", p = {p:.2g}" if np.isfinite(p) else ""
    spread = np.zeros_like(x)
    if "line_covariance" in mixture:
        design = np.stack([np.ones_like(x), x], axis=1)
        spread = 100 * np.sqrt(np.einsum("ip,pq,iq->i", design, mixture["line_covariance"].values, design))
    style.band(axes, x, 100 * float(mixture["intercept"]) + slope * x, spread, "0.5", label)
