"""Spectra and delay scans, each row compared with the best reference there is: pulses without pump of the same run and
bin; else what was measured without pump at other times, in energy and time; else the flat field, one constant.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from pipeline.science.labels.condition import OFF, ON
from pipeline.science.labels.selection import only_condition
from pipeline.science.spectra.difference import TrainNoise
from pipeline.science.spectra.pump_off import (
    PumpOff,
    fit_pump_off,
    hours,
    pump_off_points,
    unpumped_density,
    without_ratio,
)
from pipeline.science.spectra.reference import before_time_zero, constant_of
from pipeline.science.sums.edges import energy_of_scan, is_same_energy
from schemas.datasets.measured import REFERENCES
from schemas.notes import Note
from schemas.usual import USUAL, Usual

__all__ = ["NO_REFERENCE", "Outside", "compared", "has_both_conditions", "outside_reference"]

SHARE = 0.1
"""Pulses without pump, of those with pump, that are enough to be their reference."""
MODE_ENERGIES = 60
"""Energies at which independent errors are worked out; between them they are straight."""
FILLED = 0.9
"""Part of a row's bins that must have them."""


class Outside(NamedTuple):
    """The reference of rows that have none of their own."""

    kind: str
    """pump_off_scan, flat_field, before_time_zero or none."""
    constant: tuple[float, float]
    """ln(I_pumped / I_unpumped) without pump and its standard error; 0 where the model is applied to the pulses."""
    model: PumpOff | None
    applied: bool
    """Whether the model's c(E, t) is taken off every train; else it only tells what the constant cannot know."""
    sources: tuple[int, ...] = ()
    """Places of the runs of the model's points in the list of flat fields, pump-off scans and scans."""

    def prepared(self, run: xr.Dataset) -> xr.Dataset:
        """Return a run of which only pulses with pump count, with c(E, t) taken off."""
        pumped = only_condition(run, ON)
        return without_ratio(pumped, self.model) if self.applied and self.model is not None else pumped


NO_REFERENCE = Outside("none", (0.0, 0.0), None, applied=False)


def has_both_conditions(run: xr.Dataset) -> bool:
    """Return whether pulses with pump and without it count in a run."""
    if "condition" not in run.coords:
        return False
    used = (
        run["condition"].transpose("train", "pulse").values[run["drop_reason"].transpose("train", "pulse").values == 0]
    )
    return bool((used == ON).any() and (used == OFF).any())


def outside_reference(
    flats: Sequence[xr.Dataset],
    pump_off_scans: Sequence[xr.Dataset],
    scans: Sequence[xr.Dataset],
    *,
    train_noise: TrainNoise | None = None,
    usual: Usual = USUAL,
) -> tuple[Outside, list[Note]]:
    """Return the reference from what was measured without pump, and notes.

    Parameters
    ----------
    flats, pump_off_scans
        Runs without pump, with `drop_reason` (train, pulse; 0 = used).
    scans
        Runs with pump; their pulses without pump are data as well.
    train_noise
        Variance that the pulses of a train share.
    usual
        What is not measured is unknown by as much.

    Raises
    ------
    DataError
        If no pulse of a flat field counts.
    """
    pumped = [only_condition(run, ON) for run in scans]
    constant, notes = constant_of(flats[0] if flats else None, pumped)
    apart = len(flats) + len(pump_off_scans)
    still = dict(enumerate([*flats, *pump_off_scans]))
    still |= {apart + k: only_condition(run, OFF) for k, run in enumerate(scans) if has_both_conditions(run)}
    early = {} if still else {k: r for k, r in enumerate(before_time_zero(pumped)) if (r["drop_reason"] == 0).any()}
    if not still and not early:
        return Outside("none", constant, None, applied=False), notes
    notes = notes if early else []
    times = [hours(run["train_id"].values) for run in scans]
    spans = [(float(t[0]), float(t[-1])) for t in times]
    points = pump_off_points(list((still or early).values()), train_noise=train_noise)
    model = fit_pump_off(points, unpumped_density([*still.values(), *scans]), spans, usual=usual)
    scanned = bool(pump_off_scans) or len(np.unique(np.round(points["energy"].values, 1))) > 3
    # one flat field, or what was measured before time zero at one energy, is a constant and no more
    applied = scanned or not (early or (flats and len(still) == 1))
    kind = "before_time_zero" if early else "pump_off_scan" if scanned else "flat_field"
    return Outside(kind, (0.0, 0.0) if applied else constant, model, applied, tuple(still or early)), notes


def compared(
    function: Callable[..., xr.Dataset], runs: Sequence[xr.Dataset], outside: Outside, **options: Any
) -> xr.Dataset:
    """Return spectra or delay scans, each row with the best reference there is.

    Parameters
    ----------
    function
        `pipeline.science.spectra.scans.spectra` or `delay_scans`.
    runs
        Pulses with all labels.
    outside
        Reference of rows without one of their own.
    **options
        Of the function.

    Returns
    -------
    Dataset of the function with reference (its name, by row), reference_stderr and delta_xas_stderr_systematic.

    Raises
    ------
    DataError
        If no pulse falls into a bin.
    """
    prepared = [outside.prepared(run) for run in runs]
    if not any(has_both_conditions(run) for run in runs):
        return _with_films(
            _with_errors(function(prepared, constant=outside.constant, **options), runs, outside), runs, outside
        )
    inside = function(runs, in_run=True, **options)
    own = _rows(inside)
    inside = inside.drop_vars("n_pulses_off").assign(
        reference=xr.where(own, REFERENCES[0], ""), delta_xas_stderr_systematic=xr.zeros_like(inside["delta_xas"])
    )
    if bool(own.all()):
        return _with_films(_ordered(inside), runs, outside)
    other = function(prepared, constant=outside.constant, **options)
    # the same bins; c(E, t) has changed the weights of their pulses by next to nothing
    other = _with_errors(other.assign_coords({n: inside[n] for n in ("energy", "delay")}), runs, outside)
    if "systematic_mode" in other:
        inside = inside.assign(systematic_mode=xr.zeros_like(other["systematic_mode"]))
    merged = {
        str(n): xr.where(own, v, other[n], keep_attrs=True) if v.ndim else other[n] for n, v in inside.data_vars.items()
    }
    return _with_films(_ordered(inside.assign(merged)), runs, outside)


def _ordered(result: xr.Dataset) -> xr.Dataset:
    dims = result["delta_xas"].dims
    return result.transpose(..., *dims).assign(reference=result["reference"].transpose(*_row_dims(result)))


def _row_dims(result: xr.Dataset) -> tuple[str, ...]:
    return ("scan", "delay") if "scan" in result.dims else ("fluence", "delay")


def _rows(inside: xr.Dataset) -> xr.DataArray:
    """Return which rows have a reference of their own in nearly all of their bins."""
    filled = inside["n_pulses"] > 0
    enough = filled & (inside["n_pulses_off"] >= SHARE * inside["n_pulses"])
    along = "delay" if "scan" in inside.dims else "energy"
    own = enough.sum(along) >= FILLED * filled.sum(along)
    return (own & xr.ones_like(inside["delay"], dtype=bool)).transpose(*_row_dims(inside))


def _with_errors(result: xr.Dataset, runs: Sequence[xr.Dataset], outside: Outside) -> xr.Dataset:
    """Return a result with the errors of the reference: from noise beside the others', what it cannot know by itself."""
    dims = result["delta_xas"].dims
    reference = xr.DataArray(
        np.full([result.sizes[d] for d in _row_dims(result)], outside.kind), dims=_row_dims(result)
    )
    result = result.assign(reference=reference)
    unknown = xr.full_like(result["delta_xas"], 0.0 if outside.kind != "none" else np.nan)
    if outside.model is None or not result["delta_xas"].size:
        return result.assign(delta_xas_stderr_systematic=unknown)
    time = _times(result, runs)
    energy, time = (v.transpose(*dims) for v in xr.broadcast(result["energy"], time, result["delta_xas"])[:2])
    c, noise, systematic = (np.empty(energy.shape) for _ in range(3))
    for row in np.ndindex(energy.shape[:-1]):
        c[row], noise[row], systematic[row] = outside.model.at(energy.values[row], time.values[row])
    if outside.applied:
        errors = ["delta_xas_stderr", "delta_xas_stderr_shot", "od_pumped_stderr"]
        result = result.assign({n: np.hypot(result[n], xr.DataArray(noise, dims=dims)) for n in errors})
        result["reference_stderr"] = (dims, noise)
        # what the sample let through, without the factor that makes both beams alike
        result["photons_pumped"] = result["photons_pumped"] * xr.DataArray(np.exp(-c), dims=dims)
    result = result.assign(delta_xas_stderr_systematic=(dims, systematic))
    return result if "scan" in result.dims else result.assign(_modes(result, time, outside.model))


def _modes(result: xr.Dataset, time: xr.DataArray, model: PumpOff) -> dict[str, tuple[tuple[str, ...], np.ndarray]]:
    """Return the systematic error of spectra as independent errors (mode, fluence, delay, energy)."""
    energy = result["energy"].values
    some = energy[np.unique(np.linspace(0, len(energy) - 1, min(len(energy), MODE_ENERGIES)).round().astype(int))]
    shape = result["delta_xas"].shape
    filled = np.argwhere((result["n_pulses"].sum("energy") > 0).transpose("fluence", "delay").values)
    at = np.repeat([float(time.values[tuple(row)].mean()) for row in filled], len(some))
    found = model.modes(np.tile(some, len(filled)), at)
    modes = np.zeros((len(found), *shape))
    for k, mode in enumerate(found.reshape(len(found), len(filled), len(some))):
        for row, values in zip(filled, mode, strict=True):
            modes[k, row[0], row[1]] = np.interp(energy, some, values)
    return {"systematic_mode": (("mode", "fluence", "delay", "energy"), modes)}


def _with_films(result: xr.Dataset, runs: Sequence[xr.Dataset], outside: Outside) -> xr.Dataset:
    """Return spectra with the thickness of the pumped film over that of the other one, where anything tells it."""
    if outside.model is None or "scan" in result.dims or not result["delta_xas"].size:
        return result
    ratio, stderr = outside.model.film_ratio(_times(result, runs).values)
    return result.assign(film_ratio=(_row_dims(result), ratio), film_ratio_stderr=(_row_dims(result), stderr))


def _times(result: xr.Dataset, runs: Sequence[xr.Dataset]) -> xr.DataArray:
    """Return when each row was measured [h]: the mean time of its trains; of all runs together where there are none."""
    delay = result["delay"].values
    edges = np.concatenate([[-np.inf], 0.5 * (delay[1:] + delay[:-1]), [np.inf]])
    first = result.sizes[_row_dims(result)[0]]
    total, count = np.zeros((first, len(delay))), np.zeros((first, len(delay)))
    everything = np.concatenate([hours(run["train_id"].values) for run in runs])
    for run in runs:
        time, at = hours(run["train_id"].values), run["nominal_delay"].values
        known = np.isfinite(at)
        place = np.searchsorted(edges, at[known], side="right") - 1
        for row in _row_of(result, run):
            np.add.at(total[row], place, time[known])
            np.add.at(count[row], place, 1)
    time = np.where(count > 0, total / np.maximum(count, 1), everything.mean())
    return xr.DataArray(time, dims=_row_dims(result))


def _row_of(result: xr.Dataset, run: xr.Dataset) -> np.ndarray:
    """Return the numbers of the fluence or the scan of a run."""
    same = result["fluence"].values == float(run["fluence"])
    if "scan" in result.dims:
        same &= is_same_energy(energy_of_scan(run), result["energy"].values)
    return np.flatnonzero(same)
