"""Figures of the energy scans: absorption, differences stacked over delay and fluence, the energy-delay map."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from pipeline.plots import style
from pipeline.results.lookup import (
    Floats,
    best_fluence,
    delays_of,
    edges,
    fluences_of,
    reference_of,
    total_error,
    with_error,
)
from pipeline.results.wording import delay_words

__all__ = ["draw_absorption", "draw_differences", "draw_map"]

_MAPPED = 3
"""So many delays make a map."""


def draw_absorption(spectra: xr.Dataset, path: Path) -> None:
    """Ground and excited XAS, and below them their difference, where the difference is strongest and where it ends."""
    fluence = best_fluence(spectra)
    delays = _delays_shown(spectra, fluence)
    figure, (above, below) = style.new_figure(1, rows=2, width=4.6, height=5.0, sharex=True, height_ratios=[2, 1.2])
    energy = spectra["energy"].values
    one = spectra.sel(fluence=fluence, delay=delays[0])
    style.band(above, energy, *with_error(one, "od_unpumped"), "0.25", "ground (unpumped)")
    for delay, colour in zip(delays, (style.COLOURS[1], style.COLOURS[0]), strict=False):
        one = spectra.sel(fluence=fluence, delay=delay)
        label = f"excited, {delay_words(delay)}"
        style.band(above, energy, *with_error(one, "od_pumped"), colour, label)
        total = total_error(one, "delta_xas", 1e3)
        style.band(below, energy, *with_error(one, "delta_xas", 1e3), colour, label, total=total)
    style.zero_line(below)
    above.set(ylabel="optical density", title=f"{fluence:g} mJ/cm²")
    above.legend()
    below.set_title(_against(spectra.sel(fluence=fluence, delay=delays)))
    below.set(xlabel=style.ENERGY, ylabel=style.DELTA)
    style.panel_letters([above, below])
    style.save(figure, path)


def draw_differences(spectra: xr.Dataset, path: Path) -> None:
    """ΔXAS at all delays, stacked, at the two fluences with most of them; and at one delay for all fluences."""
    several = [f for f in fluences_of(spectra) if len(delays_of(spectra, f)) > 1]
    several = sorted(sorted(several, key=lambda f: (len(delays_of(spectra, f)), f))[-2:])
    common, at = _shared_delay(spectra)
    stacks: list[tuple[str, list[tuple[str, Any, xr.Dataset]]]] = []
    for fluence in several:
        delays = delays_of(spectra, fluence)
        colours = style.by_delay(len(delays))
        rows = [
            (delay_words(t), c, spectra.sel(fluence=fluence, delay=t)) for t, c in zip(delays, colours, strict=True)
        ]
        stacks.append((f"{fluence:g} mJ/cm²", rows))
    if len(at) > 1 or not stacks:
        colour = style.fluence_colours(fluences_of(spectra))
        rows = [(f"{f:g} mJ/cm²", colour[f], spectra.sel(fluence=f, delay=common)) for f in at]
        stacks.append((delay_words(common), rows))
    tallest = max(len(rows) for _, rows in stacks)
    figure, panels = style.new_figure(len(stacks), width=0.4 + 3.2 * len(stacks), height=1.8 + 0.48 * tallest)
    for axes, (title, rows) in zip(panels, stacks, strict=True):
        _stack(axes, spectra["energy"].values, rows)
        axes.set(title=title, xlabel=style.ENERGY)
    figure.suptitle(_against(spectra), fontsize=8)
    panels[0].set_ylabel("ΔXAS, stacked")
    style.panel_letters(panels)
    style.save(figure, path)


def _stack(axes: Axes, energy: Floats, rows: list[tuple[str, Any, xr.Dataset]]) -> None:
    """Draw spectra above each other, the first lowest, far enough apart to be distinguished."""
    values = [1e3 * one["delta_xas"].values for _, _, one in rows]
    reach = max(float(np.nanmax(np.abs(v), initial=0.0)) for v in values) or 1.0
    # neighbours look alike, so that half of the largest excursion is enough
    apart = _round(0.9 * reach)
    first, last, span = energy[0], energy[-1], np.ptp(energy)
    for k, ((label, colour, one), y) in enumerate(zip(rows, values, strict=True)):
        axes.plot([first, last], [k * apart, k * apart], color="0.8", lw=0.6, zorder=0)
        total = total_error(one, "delta_xas", 1e3)
        style.band(axes, energy, y + k * apart, 1e3 * one["delta_xas_stderr"].values, colour, total=total)
        axes.text(last + 0.02 * span, k * apart, label, va="center", fontsize=7.5, color=colour)
    axes.margins(y=0.03)
    axes.set_xlim(first - 0.01 * span, last + 0.24 * span)
    axes.set_yticks([])
    axes.set_xticks([e for e in axes.get_xticks() if first <= e <= last])
    # the ruler stands above the last label, where no spectrum is
    bar, x, y0 = _round(0.6 * reach), last + 0.05 * span, (len(rows) - 1 + 0.35) * apart
    axes.plot([x, x], [y0, y0 + bar], color="black", lw=2, solid_capstyle="butt")
    axes.text(x + 0.02 * span, y0 + bar / 2, f"{bar:g} mOD", va="center", fontsize=7)


def draw_map(spectra: xr.Dataset, path: Path) -> bool:
    """ΔXAS on energy and delay, a panel per fluence with enough delays; returns whether there was one."""
    fluences = [f for f in fluences_of(spectra) if len(delays_of(spectra, f)) >= _MAPPED][-4:]
    if not fluences:
        return False
    figure, panels = style.new_figure(len(fluences), width=1.2 + 3.3 * len(fluences), height=3.4, sharey=True)
    for axes, fluence in zip(panels, fluences, strict=True):
        delays = np.array(delays_of(spectra, fluence))
        values = 1e3 * spectra["delta_xas"].sel(fluence=fluence, delay=delays).values
        bound = float(np.nanpercentile(np.abs(values), 99.7)) or 1.0
        x, y = edges(spectra["energy"].values), _delay_borders(delays)
        drawn = axes.pcolormesh(x, y, values, cmap="RdBu_r", vmin=-bound, vmax=bound, rasterized=True)
        axes.plot(np.full(len(delays), x[-1]), delays, "<", ms=3.5, color="black", clip_on=False)
        figure.colorbar(drawn, ax=axes, label=style.DELTA, pad=0.02)
        axes.set(title=f"{fluence:g} mJ/cm²", xlabel=style.ENERGY)
        style.delay_axis(axes, "y")
        axes.set_ylim(y[0], y[-1])
        axes.tick_params(which="both", direction="out", top=False, right=False)
    panels[0].set_ylabel(style.DELAY)
    style.panel_letters(panels)
    style.save(figure, path)
    return True


def _delay_borders(delays: Floats) -> Floats:
    """Borders half-way on the axis that is drawn, so that every row has its delay in its middle."""
    scaled = np.where(
        np.abs(delays) <= 1, delays, np.sign(delays) * (1 + np.log10(np.maximum(np.abs(delays), 1)) / 1.5)
    )
    b = edges(scaled)
    result: Floats = np.where(np.abs(b) <= 1, b, np.sign(b) * 10 ** (1.5 * (np.abs(b) - 1)))
    return result


def _delays_shown(spectra: xr.Dataset, fluence: float) -> list[float]:
    """The delay where the difference is strongest, and the last one."""
    delays = delays_of(spectra, fluence)
    change = spectra["delta_xas"].sel(fluence=fluence, delay=delays)
    strongest = delays[int(np.argmax(np.nanmax(np.abs(change.values), axis=1)))]
    return [strongest] if strongest == delays[-1] else [strongest, delays[-1]]


def _shared_delay(spectra: xr.Dataset) -> tuple[float, list[float]]:
    """The delay that most fluences have, the latest of those, and these fluences."""
    fluences = fluences_of(spectra)
    having = {t: [f for f in fluences if t in delays_of(spectra, f)] for t in delays_of(spectra)}
    common = max(having, key=lambda t: (len(having[t]), t))
    return common, having[common]


def _against(spectra: xr.Dataset) -> str:
    """Return what the spectra are compared with, and what the lighter bands are, where there are any."""
    words = reference_of(spectra)
    lighter = " (light: with its error)" if words and total_error(spectra, "delta_xas") is not None else ""
    return f"against {words}{lighter}" if words else ""


def _round(value: float) -> float:
    """Return the next 1, 2 or 5 at or below a value."""
    decade = 10.0 ** np.floor(np.log10(value)) if value > 0 else 1.0
    return float(max(m * decade for m in (1, 2, 5) if m * decade <= value * (1 + 1e-9)))
