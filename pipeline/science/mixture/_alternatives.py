"""What may be true where the DOS miss the spectra: other tails, windows, widths, and the ground state as it was measured."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.science.mixture._ground import GroundShape, Merged, left_over, merge_scans
from pipeline.science.mixture._lines import Lines, free_lines
from pipeline.science.mixture.alpha import fit_mixture
from pipeline.science.mixture.dos import FWHM_PER_SIGMA, shape_of

__all__ = ["COMPARED", "Fits", "MeasuredGround", "as_well", "fit_measured", "instead"]

Floats = NDArray[np.float64]
Options = Mapping[str, Any]
COMPARED = ("alpha", "slope", "intercept")
LOWER = 0.15
"""Part of the window that is left out at its upper end, where the edge is."""
MISSES = 1.5
"""χ² per degree of freedom from which on the DOS miss a spectrum, whatever the noise."""
WIDTH_GAIN = 2.0
"""Fall of χ² of ΔXAS by another width of the excited state from which on the width is in doubt."""
LINES_GAIN = 30.0
"""Fall of χ² of the unpumped spectrum by free lines, which have five parameters more, that shows that the DOS misses it."""
HOLDS_EDGE = 0.15
"""A DOS that is still this high, against its peak, where the window ends has the edge in it."""
_FREE = {"width": "free excited width", "free": "free excited peak"}
_REACH = 6.0
_STEP = 0.02


def as_well(
    spectra: xr.Dataset, dos: tuple[xr.DataArray, xr.DataArray], first: xr.Dataset, options: Options
) -> dict[str, xr.Dataset]:
    """Return what describes the unpumped spectrum as well as the first result: other tails, and a window that ends lower."""
    found = {}
    for form in first.attrs["other_edges"]:
        found[f"{form} edge"] = fit_mixture(spectra, *dos, **{**options, "edge": form})
    low, high = options["window"]
    if first.attrs["edge"] != "none":
        lower = {**options, "window": (low, high - LOWER * (high - low))}
        with suppress(DataError):
            found["lower window"] = _with_shares(first, fit_mixture(spectra, *dos, **lower))
    return found


def instead(
    spectra: xr.Dataset, dos: tuple[xr.DataArray, xr.DataArray], first: xr.Dataset, options: Options
) -> dict[str, xr.Dataset]:
    """Return what may be true instead of the first result, where that misses the unpumped spectrum or ΔXAS."""
    same = {**options, "edge": first.attrs["edge"]}
    missed = max(float(first["ground_redchi"]), float(first["redchi"].max())) > MISSES
    grounds = _grounds(spectra, dos, first, options)
    found: dict[str, xr.Dataset] = {}
    width = fit_mixture(
        spectra, *dos, **{**same, "excited_shape": "width", "min_gain": 0.0 if missed or grounds else WIDTH_GAIN}
    )
    if width.attrs["excited_shift"] == "width":
        found["free excited width"] = width
    if not (missed or grounds or found):
        return {}
    found["free excited peak"] = fit_mixture(spectra, *dos, **{**same, "excited_shape": "free"})
    if missed or grounds:
        found["measured ground"] = fit_mixture(spectra, *dos, **{**same, "ground": "measured"})
        found["measured shape"] = fit_mixture(spectra, *dos, **{**same, "ground": "moved"})
        low, high = options["window"]
        inner = {**options, "window": (low + LOWER * (high - low), high - LOWER * (high - low))}
        with suppress(DataError):
            found["inner window"] = _with_shares(first, fit_mixture(spectra, *dos, **inner))
    plain = {n: v for n, v in options.items() if n not in ("gaussian_fwhm", "lorentzian_fwhm")}
    for k, ground in enumerate(grounds):
        name = f"free lines, {ground.lines.form or 'no'} edge"
        also = {**plain, "edge": ground.lines.form or "none"}
        for shape in ("dos", "width", "free") if k == 0 else ("dos",):
            with suppress(DataError):
                fit = fit_mixture(spectra, ground.dos, ground.moved, **also, excited_shape=shape)
                found[name if shape == "dos" else f"{name}, {_FREE[shape]}"] = fit
    return found


def _with_shares(first: xr.Dataset, other: xr.Dataset) -> xr.Dataset:
    """Return a result with the numbers of another one that has fewer energies."""
    names = [*(f"{n}{s}" for n in COMPARED for s in ("", "_stderr")), "redchi", "ground_redchi"]
    return first.assign({name: other[name] for name in names})


class Fits(NamedTuple):
    """A result, those that describe the spectra as well, and those that may be true instead, by name."""

    first: xr.Dataset
    others: dict[str, xr.Dataset]
    instead: dict[str, xr.Dataset]


def fit_measured(
    spectra: xr.Dataset, dos: tuple[xr.DataArray, xr.DataArray], by_dos: xr.Dataset, options: Options
) -> Fits:
    """Return the mixture whose ground component is the measured one, with what describes the spectra as well.

    Parameters
    ----------
    by_dos
        What `fit_mixture` gave with the ground DOS.
    """
    grounds = measured_ground(spectra, dos, by_dos, options)
    if not grounds:
        same = {**options, "edge": by_dos.attrs["edge"]}
        return Fits(fit_mixture(spectra, *dos, **{**same, "ground": "measured"}), {}, {})
    plain = {n: v for n, v in options.items() if n not in ("gaussian_fwhm", "lorentzian_fwhm")}
    edges = [g.lines.form or "none" for g in grounds]
    fits = [
        fit_mixture(spectra, g.dos, g.excited, **{**plain, "edge": edge})
        for g, edge in zip(grounds, edges, strict=True)
    ]
    others = {f"{edge} edge": fit for edge, fit in zip(edges[1:], fits[1:], strict=True)}
    best = {**plain, "edge": edges[0]}
    found = {"measured shape": fit_mixture(spectra, grounds[0].dos, grounds[0].moved, **best)}
    gain = 0.0 if float(fits[0]["redchi"].max()) > MISSES else WIDTH_GAIN
    width = {**best, "excited_shape": "width", "min_gain": gain}
    for name, upper in (("", grounds[0].excited), ("measured shape, ", grounds[0].moved)):
        fit = fit_mixture(spectra, grounds[0].dos, upper, **width)
        if fit.attrs["excited_shift"] == "width":
            found[f"{name}{_FREE['width']}"] = fit
    return Fits(fits[0], others, found)


class MeasuredGround(NamedTuple):
    """The ground state as the unpumped spectrum has it, on the scale of the DOS, and what the excited one may be beside it."""

    lines: Lines
    dos: xr.DataArray
    """The ground state."""
    excited: xr.DataArray
    """The excited DOS, scaled as the area of the ground DOS asks for."""
    moved: xr.DataArray
    """The same and what the ground DOS lacks, moved as the two DOS are."""
    gain: float
    """Fall of χ² of the unpumped spectrum against the DOS."""


def _grounds(
    spectra: xr.Dataset, dos: tuple[xr.DataArray, xr.DataArray], first: xr.Dataset, options: Options
) -> list[MeasuredGround]:
    """Return the ground states of free lines, the two best, where these describe the unpumped spectrum clearly better."""
    if not float(first["ground_redchi"]) - 1.0 > 1.5 * np.sqrt(2.0 / max(first.attrs["ground_dof"], 1)):
        return []
    found = measured_ground(spectra, dos, first, options)[:2]
    return [g for g in found if g.gain > LINES_GAIN * max(g.lines.chi2 / g.lines.dof, 1.0)]


def measured_ground(
    spectra: xr.Dataset, dos: tuple[xr.DataArray, xr.DataArray], first: xr.Dataset, options: Options
) -> list[MeasuredGround]:
    """Return the measured ground state over each background that describes the spectrum about as well as the best.

    None where the DOS have the edge in them: nothing then tells the state from what is below it.

    Parameters
    ----------
    spectra, options
        As for `fit_models`.
    dos
        Ground and excited.
    first
        What `fit_mixture` gave for them.
    """
    widths = options.get("gaussian_fwhm", 0.0), options.get("lorentzian_fwhm", 0.0)
    ground, excited = (shape_of(one, *widths) for one in dos)
    merged = merge_scans(spectra, options["window"])
    energy, shift = merged.energy, float(first["ground_shift"])
    extra = float(first["extra_fwhm"])
    variance = float(np.sign(extra)) * (extra / FWHM_PER_SIGMA) ** 2
    inside = ground(energy - shift, variance)
    if inside[-1] > HOLDS_EDGE * inside.max():
        return []
    top = float(first["ground_position"])
    found = free_lines(merged, top if np.isfinite(top) else float(energy.mean()))
    least = merged.constant - float(merged.moment @ np.linalg.pinv(merged.precision, hermitian=True) @ merged.moment)
    of_first = float(first["ground_redchi"]) * first.attrs["ground_dof"] - least
    grid = np.arange(energy[0] - _REACH, energy[-1] + _REACH, _STEP)
    apart = _top(excited) - _top(ground)
    states = []
    for lines in found:
        size = float(lines(energy).sum() / inside.sum())
        state, upper = _state(lines, merged, grid), size * excited(grid - shift, variance)
        lacks = np.interp(grid - apart, grid, state - size * ground(grid - shift, variance))
        own, scaled, moved = (
            xr.DataArray(v, dims="energy", coords={"energy": grid}) for v in (state, upper, upper + lacks)
        )
        states.append(MeasuredGround(lines, own, scaled, moved, of_first - lines.chi2))
    return states


def _top(shape: GroundShape) -> float:
    return float(shape.grid[int(np.argmax(shape(shape.grid, 0.0)))])


def _state(lines: Lines, merged: Merged, grid: Floats) -> Floats:
    """Return the ground state: the lines, and where these miss the spectrum by more than its noise what is left, too."""
    state = lines(grid)
    if lines.chi2 > MISSES * lines.dof:
        rest = left_over(merged, lines(merged.energy) + lines.background)
        state = state + np.interp(grid, merged.energy, rest, left=0.0, right=0.0)
    return np.asarray(state)
