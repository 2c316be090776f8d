"""Figures of the data's quality: noise, null tests and drift per run; the beams on the mean image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from pipeline.plots import style
from pipeline.results.lookup import QUALITY_PANELS, with_error

__all__ = ["draw_beams", "draw_burst", "draw_quality"]


def draw_beams(image: xr.DataArray, beams: xr.Dataset, roles: list[str], path: Path) -> None:
    """Draw the mean image with the patches that were found, numbered from low to high x."""
    with style.house_style():
        values = image.values
        rows, columns = values.shape
        figure, (axes,) = style.new_figure(1, width=9, height=max(1.6, 0.85 + 7.5 * rows / columns))
        top = float(np.percentile(values, 99.5))
        drawn = axes.imshow(values, vmin=0, vmax=top, cmap="viridis", interpolation="nearest", aspect="equal")
        figure.colorbar(drawn, ax=axes, label="mean signal (ADU)", pad=0.02)
        for i in range(beams.sizes["beam"]):
            x0, x1, y0, y1 = (int(beams[n][i]) for n in ("x0", "x1", "y0", "y1"))
            axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, color="white", lw=1.2))
            above: Any = {"xytext": (0, 3), "textcoords": "offset points", "ha": "center", "annotation_clip": False}
            axes.annotate(f"beam {i}", ((x0 + x1) / 2, -0.5), **above)
        axes.set(xlabel=f"column (pixel){_response(beams)}", ylabel="row (pixel)")
        axes.tick_params(direction="out", top=False, right=False)
        style.save(figure, path)


def _response(calibration: xr.Dataset) -> str:
    """Say how well the non-linearity and the gain are known, where that was fitted."""
    if not np.isfinite(calibration.get("linearity_chi2", np.nan)):
        return ""
    said = f"\nresponse: χ²/dof {float(calibration['linearity_chi2']):.2f}"
    if not calibration.attrs.get("response_described", 1):
        return f"{said}, not described"
    gain, stderr = (float(calibration[n]) for n in ("gain", "gain_stderr"))
    return said + (f", gain {gain:.3f} ± {stderr:.3f} ADU per photon" if np.isfinite(stderr) else "")


def draw_quality(quality: xr.Dataset, path: Path) -> None:
    """Noise over photon noise, null tests, and the drift along the burst, run by run."""
    n = quality.sizes["run"]
    figure, panels = style.new_figure(2, rows=2, width=max(7.0, 1.5 + 0.6 * n), height=5.0)
    x = np.arange(n)
    for axes, (name, label, ideal, scale) in zip(panels, QUALITY_PANELS, strict=True):
        if name not in quality:
            axes.set_axis_off()
            continue
        error = scale * quality[f"{name}_stderr"].values if f"{name}_stderr" in quality else None
        style.points(axes, x, scale * quality[name].values, error, style.COLOURS[0])
        axes.axhline(ideal, color="0.6", lw=0.8, zorder=0)
        axes.set_xticks(x, [str(r) for r in quality["run"].values])
        axes.set_xlim(-0.6, n - 0.4)
        axes.set(xlabel="run", ylabel=label)
    style.panel_letters(panels)
    style.save(figure, path)


def draw_burst(quality: xr.Dataset, path: Path) -> None:
    """The difference against pulse index, about the mean of the trains, with the drift that was fitted, run by run."""
    runs = quality["run"].values.tolist()
    columns = min(4, len(runs))
    rows = -(-len(runs) // columns)
    figure, panels = style.new_figure(columns, rows=rows, width=2.7 * columns + 0.4, height=0.6 + 1.8 * rows)
    for axes in panels[len(runs) :]:
        axes.set_axis_off()
    for axes, run in zip(panels, runs, strict=False):
        _draw_run(axes, quality.sel(run=run), quality["pulse"].values)
    figure.supxlabel("pulse index in the train", fontsize=9)
    figure.supylabel("ΔXAS − mean of the train (mOD)", fontsize=9)
    style.save(figure, path)


def _draw_run(axes: Axes, one: xr.Dataset, pulse: np.ndarray) -> None:
    value, error = with_error(one, "burst_profile", 1e3)
    there = np.isfinite(value)
    style.zero_line(axes)
    style.points(axes, pulse, value, error, style.COLOURS[0], fmt=".")
    drift, drift_error = 1e3 * float(one["drift"]), 1e3 * float(one["drift_stderr"])
    title = f"run {int(one['run'])}"
    if np.isfinite(drift) and there.sum() > 1:
        x = pulse[there]
        t = (x - np.average(x, weights=error[there] ** -2.0)) / np.ptp(x)
        style.band(axes, x, drift * t, drift_error * np.abs(t), style.COLOURS[1])
        title += f": {drift:+.2f} ± {drift_error:.2f} mOD"
    axes.set_title(title, fontsize=8)
