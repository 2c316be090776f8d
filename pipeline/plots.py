"""The figures of a product. Error bands everywhere, colours that colour-blind people can tell apart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter

__all__ = ["draw_beams", "draw_product"]

log = logging.getLogger("trxas")

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_ENERGY, _DELAY = "photon energy (eV)", "delay (ps)"


def draw_beams(image: xr.DataArray, beams: xr.Dataset, roles: list[str], path: Path) -> None:
    """Draw the mean image with the patches that were found, numbered from low to high x."""
    figure, (axes,) = _figure(1, width=9, height=3)
    values = image.values
    top = float(np.percentile(values, 99.5))
    shown = axes.imshow(values, vmin=0, vmax=top, cmap="viridis", interpolation="nearest", aspect="equal")
    figure.colorbar(shown, ax=axes, label="mean signal (ADU)", shrink=0.8)
    for i in range(beams.sizes["beam"]):
        x0, x1, y0, y1 = (int(beams[n][i]) for n in ("x0", "x1", "y0", "y1"))
        axes.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, color="white", lw=1.2))
        axes.text(x0, y0 - 2, f"beam {i}", color="black", fontsize=8, va="bottom")
    axes.set(xlabel="column (pixel)", ylabel="row (pixel)")
    _save(figure, path)


def draw_product(tree: xr.DataTree, summary: Mapping[str, Any], folder: Path) -> None:
    """Draw all figures of a product into a folder; a figure without data is left out."""
    spectra, scan, kinetics = (tree[n].to_dataset() for n in ("spectra", "delay_scan", "kinetics"))
    drawings: dict[str, Callable[[Path], None]] = {
        "quality": lambda to: _draw_quality(tree["quality"].to_dataset(), to),
        "burst": lambda to: _draw_burst(tree["quality"].to_dataset(), to),
    }
    if spectra.sizes["energy"]:
        drawings |= {
            "spectra": lambda to: _draw_spectra(spectra, to),
            "delta_xas": lambda to: _draw_difference(spectra, to),
            "peaks": lambda to: _draw_peaks(tree["peaks"].to_dataset(), to),
            "mixture": lambda to: _draw_mixture(tree["mixture"].to_dataset(), to),
        }
    if scan.sizes["scan"]:
        drawings["kinetics"] = lambda to: _draw_kinetics(scan, kinetics, summary, to)
    for name, draw in drawings.items():
        try:
            draw(folder / f"{name}.png")
        except Exception as error:  # a picture must not cost the numbers
            log.warning("figure %s cannot be drawn: %s", name, error)


def _figure(columns: int, *, width: float, height: float, rows: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(np.ravel(figure.subplots(rows, columns, squeeze=False)))


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _band(axes: Axes, x: np.ndarray, y: np.ndarray, error: np.ndarray, colour: Any, label: str | None = None) -> None:
    good = np.isfinite(y)
    axes.fill_between(x[good], (y - error)[good], (y + error)[good], color=colour, alpha=0.25, lw=0)
    axes.plot(x[good], y[good], color=colour, lw=1.2, label=label)


def _measured(spectra: xr.Dataset) -> list[tuple[int, int]]:
    there = (spectra["n_pulses"] > 0).any("energy").values
    return [(int(f), int(d)) for f, d in np.argwhere(there)]


def _name(spectra: xr.Dataset, f: int, d: int) -> str:
    return f"{float(spectra['fluence'][f]):g} mJ/cm², {float(spectra['delay'][d]):.2g} ps"


def _draw_spectra(spectra: xr.Dataset, path: Path) -> None:
    figure, (axes,) = _figure(1, width=7, height=4.5)
    energy = spectra["energy"].values
    pairs = _measured(spectra)
    f, d = max(pairs, key=lambda p: float(np.nanmax(np.abs(spectra["delta_xas"].values[p]), initial=0.0)))
    for name, colour, label in (("od_unpumped", _COLOURS[0], "unpumped"), ("od_pumped", _COLOURS[1], "pumped")):
        one = spectra.isel(fluence=f, delay=d)
        _band(axes, energy, one[name].values, one[f"{name}_stderr"].values, colour, f"{label}, {_name(spectra, f, d)}")
    axes.set(xlabel=_ENERGY, ylabel="optical density")
    axes.legend(frameon=False)
    _save(figure, path)


def _delay_axis(axes: Axes) -> None:
    """Linear around time zero, logarithmic beyond a picosecond."""
    axes.set_xscale("symlog", linthresh=1.0, linscale=1.5)
    axes.set_xticks([-1, -0.5, 0, 0.5, 1, 2, 5, 10, 20, 50, 100])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    low, high = axes.dataLim.intervalx
    if not np.isfinite([low, high]).all():
        return
    axes.set_xlim(low - 0.1 * abs(low) - 0.05, high * 1.3)


def _draw_difference(spectra: xr.Dataset, path: Path) -> None:
    pairs = _measured(spectra)
    columns = 2 if len(pairs) > 4 else 1
    rows = -(-len(pairs) // columns)
    figure, panels = _figure(columns, width=4.5 * columns + 1, height=1.2 + 1.3 * rows, rows=rows)
    energy = spectra["energy"].values
    for k, axes in enumerate(panels):
        if k >= len(pairs):
            axes.set_axis_off()
            continue
        f, d = pairs[k]
        one = spectra.isel(fluence=f, delay=d)
        _band(axes, energy, 1e3 * one["delta_xas"].values, 1e3 * one["delta_xas_stderr"].values, _COLOURS[0])
        axes.axhline(0, color="0.7", lw=0.6, zorder=0)
        axes.text(0.98, 0.93, _name(spectra, f, d), transform=axes.transAxes, ha="right", va="top", fontsize=8)
        if k + columns < len(pairs):
            axes.tick_params(labelbottom=False)
        else:
            axes.set_xlabel(_ENERGY)
    figure.supylabel("ΔXAS (mOD)", fontsize=10)
    _save(figure, path)


def _draw_kinetics(scan: xr.Dataset, kinetics: xr.Dataset, summary: Mapping[str, Any], path: Path) -> None:
    n = scan.sizes["scan"]
    figure, panels = _figure(n, width=5.5 * n, height=5.5, rows=2)
    for i in range(n):
        fluence, energy = float(scan["fluence"][i]), float(scan["energy"][i])
        axes, below = panels[i], panels[n + i]
        t = scan["delay"].values
        axes.errorbar(
            t, 1e3 * scan["delta_xas"][i], 1e3 * scan["delta_xas_stderr"][i], fmt=".", color=_COLOURS[0], lw=0.8, ms=4
        )
        axes.set(title=f"{energy:.2f} eV, {fluence:g} mJ/cm²", ylabel="ΔXAS (mOD)")
        if fluence in kinetics["fluence"].values and kinetics.sizes["energy"]:
            fit = kinetics.sel(fluence=fluence).sel(energy=energy, method="nearest")
            axes.plot(kinetics["delay"], 1e3 * fit["fit"], color=_COLOURS[1], lw=1.2)
            sigma = scan["delta_xas_stderr"][i].values
            residual = fit["residual"].reindex(delay=t, method="nearest", tolerance=1e-6).values
            below.plot(t, residual / sigma, ".", color=_COLOURS[0], ms=4)
            axes.text(0.97, 0.95, _taus(summary, fluence), transform=axes.transAxes, ha="right", va="top", fontsize=8)
        below.axhline(0, color="0.6", lw=0.7)
        below.set(xlabel=_DELAY, ylabel="residual / σ")
        for a in (axes, below):
            _delay_axis(a)
    _save(figure, path)


def _taus(summary: Mapping[str, Any], fluence: float) -> str:
    fit = next((k for k in summary["kinetics"] if k["fluence"] == fluence), None)
    if fit is None:
        return ""
    lines = []
    for name in ("tau1", "tau2", "tau3"):
        p = fit["parameters"].get(name)
        if p is None or p["value"] is None:
            continue
        low, high = ("open" if v is None else f"{v:.2g}" for v in p["ci68"])
        shown = f"{p['value']:.3g} ± {p['stderr'] or 0:.2g} ps" if p["identifiable"] else "not determined"
        lines.append(f"τ{name[-1]} {shown} (68 %: {low} … {high})")
    return "\n".join(lines)


def _draw_peaks(peaks: xr.Dataset, path: Path) -> None:
    """Positions of both lines, shift of A and distance of B from A; a line that is not there is a cross at the bottom."""
    figure, panels = _figure(2, width=9.5, height=6.6, rows=2)
    seen = peaks["detected"]
    curves = [(f"peak {p}", "position (eV)", peaks.sel(peak=p), "position", seen.sel(peak=p)) for p in ("A", "B")]
    curves.append(("shift of A from its latest position", "shift (eV)", peaks, "shift", seen.sel(peak="A")))
    curves.append(("distance of B from A", "B − A (eV)", peaks, "separation", seen.all("peak")))
    for axes, (title, label, data, name, there) in zip(panels, curves, strict=True):
        if name not in data:
            axes.set_axis_off()
            continue
        for k, fluence in enumerate(peaks["fluence"].values.tolist()):
            one = data.sel(fluence=fluence)
            colour = _COLOURS[k % 7]
            axes.errorbar(
                peaks["delay"],
                one[name],
                one[f"{name}_stderr"],
                fmt="o-",
                ms=4,
                lw=0.8,
                capsize=2,
                color=colour,
                label=f"{fluence:g} mJ/cm²",
            )
            measured = np.isfinite(one["redchi"]) if "redchi" in one else np.ones(peaks.sizes["delay"], bool)
            absent = peaks["delay"].values[measured & ~there.sel(fluence=fluence).values]
            height = np.full(len(absent), 0.03 + 0.04 * k)
            axes.plot(absent, height, "x", color=colour, ms=5, transform=axes.get_xaxis_transform())
        axes.set(title=title, xlabel=_DELAY, ylabel=label)
        _delay_axis(axes)
        axes.ticklabel_format(axis="y", useOffset=False)
    panels[2].axhline(0, color="0.7", lw=0.6, zorder=0)
    panels[0].legend(frameon=False, fontsize=8)
    figure.supxlabel("× measured, but the line is not above the noise", fontsize=8)
    _save(figure, path)


def _draw_burst(quality: xr.Dataset, path: Path) -> None:
    """The difference against pulse index, about the mean of the trains, with the drift that was fitted."""
    runs = quality["run"].values.tolist()
    columns = min(3, len(runs))
    rows = -(-len(runs) // columns)
    figure, panels = _figure(columns, width=3.6 * columns + 0.6, height=0.6 + 2.2 * rows, rows=rows)
    pulse = quality["pulse"].values
    for axes in panels[len(runs) :]:
        axes.set_axis_off()
    for axes, run in zip(panels, runs, strict=False):
        one = quality.sel(run=run)
        value, error = 1e3 * one["burst_profile"].values, 1e3 * one["burst_profile_stderr"].values
        there = np.isfinite(value)
        axes.axhline(0, color="0.7", lw=0.6, zorder=0)
        axes.errorbar(pulse, value, error, fmt=".", ms=4, lw=0.8, color=_COLOURS[0])
        drift, drift_error = 1e3 * float(one["drift"]), 1e3 * float(one["drift_stderr"])
        title = f"run {run}"
        if np.isfinite(drift) and there.sum() > 1:
            x = pulse[there]
            t = (x - np.average(x, weights=error[there] ** -2.0)) / np.ptp(x)
            axes.plot(x, drift * t, color=_COLOURS[1], lw=1.2)
            axes.fill_between(
                x,
                drift * t - drift_error * abs(t),
                drift * t + drift_error * abs(t),
                color=_COLOURS[1],
                alpha=0.25,
                lw=0,
            )
            title += f": {drift:+.2f} ± {drift_error:.2f} mOD"
        axes.set_title(title, fontsize=9)
    figure.supxlabel("pulse index in the train", fontsize=10)
    figure.supylabel("ΔXAS − mean of the train (mOD)", fontsize=10)
    _save(figure, path)


def _draw_mixture(mixture: xr.Dataset, path: Path) -> None:
    """The fitted difference, the two components of the strongest fluence, and α against fluence with line and band."""
    figure, (left, middle, right) = _figure(3, width=13.5, height=3.8)
    usable = [f for f in mixture["fluence"].values.tolist() if np.isfinite(mixture["alpha"].sel(fluence=f))]
    colours = colormaps["viridis"](np.linspace(0, 0.85, max(len(usable), 1)))
    for colour, fluence in zip(colours, usable, strict=False):
        one = mixture.sel(fluence=fluence)
        data = one["fit"] + one["residual"]
        left.plot(mixture["energy"], 1e3 * data, ".", color=colour, ms=3)
        left.plot(mixture["energy"], 1e3 * one["fit"], color=colour, lw=1.2, label=f"{fluence:g} mJ/cm²")
    left.axhline(0, color="0.7", lw=0.6, zorder=0)
    left.set(xlabel=_ENERGY, ylabel="ΔXAS (mOD)", title="pumped − unpumped and its fit")
    if usable:
        left.legend(frameon=False, fontsize=8)
        _draw_components(middle, mixture.sel(fluence=usable[-1]))
    _draw_shares(right, mixture)
    _save(figure, path)


def _draw_components(axes: Axes, one: xr.Dataset) -> None:
    energy, alpha = one["energy"].values, float(one["alpha"])
    ground, excited = one["component_ground"].values, one["component_excited"].values
    axes.plot(energy, ground + excited, color="black", lw=1.4, label="sum: pumped")
    for values, colour, label in (
        (ground, _COLOURS[0], f"ground, {1 - alpha:.0%}"),
        (excited, _COLOURS[1], f"excited, {alpha:.1%}"),
    ):
        axes.fill_between(energy, 0, values, color=colour, alpha=0.2, lw=0)
        axes.plot(energy, values, color=colour, lw=1.2, label=label)
    if abs(1 - alpha) > 0.05:
        axes.plot(energy, ground / (1 - alpha), color="0.5", lw=1, ls="--", label="unpumped")
    axes.set(xlabel=_ENERGY, ylabel="optical density", title=f"components at {float(one['fluence']):g} mJ/cm²")
    axes.legend(frameon=False, fontsize=8)


def _draw_shares(axes: Axes, mixture: xr.Dataset) -> None:
    fluence, alpha, error = (mixture[n].values for n in ("fluence", "alpha", "alpha_stderr"))
    model = mixture["alpha_model_stderr"].values if "alpha_model_stderr" in mixture else np.full(alpha.shape, np.nan)
    if np.isfinite(model).any():
        axes.errorbar(
            fluence, 100 * alpha, 100 * model, fmt="none", ecolor="0.6", elinewidth=4, alpha=0.6, label="model error"
        )
    axes.errorbar(fluence, 100 * alpha, 100 * error, fmt="o", color=_COLOURS[0], ms=4, capsize=2, label="α")
    slope, intercept = float(mixture["slope"]), float(mixture["intercept"])
    if np.isfinite(slope) and "line_covariance" in mixture:
        x = np.linspace(0, float(fluence.max()) * 1.05, 50)
        design = np.stack([np.ones_like(x), x], axis=1)
        sd = np.sqrt(np.einsum("ip,pq,iq->i", design, mixture["line_covariance"].values, design))
        p = float(mixture["linear_p"])
        label = "straight line" + (f", p = {p:.2g}" if np.isfinite(p) else "")
        _band(axes, x, 100 * (intercept + slope * x), 100 * sd, _COLOURS[1], label)
    axes.axhline(0, color="0.7", lw=0.6, zorder=0)
    axes.set(xlabel="fluence (mJ/cm²)", ylabel="excited fraction α (%)", title="α against fluence")
    if np.isfinite(alpha).any():
        axes.legend(frameon=False, fontsize=8)


def _draw_quality(quality: xr.Dataset, path: Path) -> None:
    figure, panels = _figure(3, width=10, height=3)
    x = np.arange(quality.sizes["run"])
    for axes, name, label, ideal in (
        (panels[0], "noise_ratio", "noise / photon noise", 1.0),
        (panels[1], "null_chi2", "odd − even trains, χ²/dof", 1.0),
        (panels[2], "drift", "drift along the burst (OD)", 0.0),
    ):
        error = quality["drift_stderr"].values if name == "drift" else None
        axes.errorbar(x, quality[name].values, error, fmt="o", color=_COLOURS[0], ms=4)
        axes.axhline(ideal, color="0.6", lw=0.8)
        axes.set_xticks(x, [str(n) for n in quality["run"].values], fontsize=7)
        axes.set(xlabel="run", ylabel=label)
    _save(figure, path)
