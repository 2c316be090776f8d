"""Into which pulses a signal is injected: those without pump play the pumped ones, and what is measured beside them stays.

A part of the pulses is called pumped and gets the signal; the rest is their reference. Which pulse is of which part is
drawn anew each time, so the noise of the difference is that of the pulses themselves. Both the photons and their error
are multiplied by exp(−ΔOD): pulses with a signal scatter as much as their errors say.
"""

from __future__ import annotations

import numpy as np
import xarray as xr

from pipeline.science.labels.condition import OFF, ON
from pipeline.science.labels.selection import REASONS

__all__ = ["as_scan", "halved", "measured_signal", "parts_by_train", "pulses_of", "with_signal"]

_DIMS = ("train", "pulse")


def parts_by_train(run: xr.Dataset) -> bool:
    """Return whether a run is to be halved train by train: its trains are with pump or without it, or hold one pulse.

    Parameters
    ----------
    run
        Pulses with drop_reason and condition (train, pulse).
    """
    used = run["drop_reason"].transpose(*_DIMS).values == 0
    condition = run["condition"].transpose(*_DIMS).values
    on, off = ((used & (condition == which)).any(axis=1) for which in (ON, OFF))
    if on.any() and off.any():
        return bool((on & off).sum() < 0.5 * min(on.sum(), off.sum()))
    return bool(np.median(used.sum(axis=1)[used.any(axis=1)]) < 2) if used.any() else False


def halved(run: xr.Dataset, rng: np.random.Generator, *, by_train: bool = False) -> xr.Dataset:
    """Return a run in which one half of the pulses that count, drawn at random, is with pump and the other without.

    Parameters
    ----------
    run
        Pulses with drop_reason (train, pulse; 0 = used).
    rng
        Generator of the draw.
    by_train
        Whether trains are kept together: one of every two that follow each other is with pump. Otherwise half the pulses
        of every train are.
    """
    used = run["drop_reason"].transpose(*_DIMS).values == 0
    chosen = _half(used.any(axis=1)[None], rng)[0][:, None] if by_train else _half(used, rng)
    condition = np.where(chosen & used, ON, OFF).astype(np.uint8)
    return run.assign_coords(condition=(_DIMS, condition, run["condition"].attrs if "condition" in run.coords else {}))


def _half(used: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Choose one of every two used places that follow each other in a row, a last single one by chance."""
    number = np.cumsum(used, axis=1) - 1
    coin = rng.integers(0, 2, (used.shape[0], used.shape[1] // 2 + 1))
    return np.asarray(used & ((number % 2) == np.take_along_axis(coin, np.maximum(number, 0) // 2, axis=1)))


def pulses_of(run: xr.Dataset, condition: int) -> xr.Dataset:
    """Return a run of which only pulses of a condition of `halved` count; the condition of all is ON.

    Parameters
    ----------
    run
        Pulses with drop_reason and condition (train, pulse).
    condition
        Which half counts.
    """
    reason, here = (run[n].transpose(*_DIMS).values for n in ("drop_reason", "condition"))
    kept = np.where((here == condition) | (reason != 0), reason, REASONS.index("excluded")).astype(np.uint8)
    on = np.full(here.shape, ON, np.uint8)
    return run.assign(drop_reason=(_DIMS, kept)).assign_coords(condition=(_DIMS, on, run["condition"].attrs))


def as_scan(still: xr.Dataset, scan: xr.Dataset) -> xr.Dataset:
    """Return pulses of a run without pump with the fluence and delay [ps] of an energy scan; their energies stay.

    Parameters
    ----------
    still
        Energy scan with the pump off.
    scan
        Energy scan whose labels fluence and nominal_delay (train) are taken.
    """
    delay = np.full(still.sizes["train"], np.nanmedian(scan["nominal_delay"].values))
    by_pulse = np.broadcast_to(delay[:, None], (still.sizes["train"], still.sizes["pulse"])).copy()
    labels = {"delay": (_DIMS, by_pulse), "nominal_delay": ("train", delay), "fluence": scan["fluence"]}
    return still.assign_coords(labels)


def with_signal(run: xr.Dataset, change: xr.DataArray) -> xr.Dataset:
    """Return a run whose pumped film absorbs more in the pulses with pump.

    Parameters
    ----------
    run
        photons and photons_stderr (train, pulse, beam), condition (train, pulse).
    change
        Change of optical density (train, pulse).
    """
    here = (run["condition"] == ON) & (run["beam"] == "pumped")
    factor = xr.where(here, np.exp(-change), 1.0).transpose(*run["photons"].dims).drop_vars("beam", errors="ignore")
    scaled = {n: run[n] * factor.values for n in ("photons", "photons_stderr")}
    return run.assign({n: v.transpose(*run[n].dims).assign_attrs(run[n].attrs) for n, v in scaled.items()})


def measured_signal(run: xr.Dataset, binned: xr.Dataset) -> xr.DataArray:
    """Return ΔXAS (train, pulse) as it was measured, where each pulse of a run lies; 0 where nothing was.

    Parameters
    ----------
    run
        energy [eV] (train), delay [ps] (train, pulse), fluence.
    binned
        Spectra (fluence, delay, energy) for an energy scan, delay scans (scan, delay) for a delay scan.
    """
    shape = run["delay"].transpose(*_DIMS)
    found = xr.zeros_like(shape).reset_coords(drop=True)
    same = np.flatnonzero(binned["fluence"].values == float(run["fluence"]))
    if not len(same) or not binned["delta_xas"].size:
        return found
    if "scan" in binned.dims:
        apart = np.abs(binned["energy"].values[same] - np.nanmedian(run["energy"].values))
        curve, at = binned["delta_xas"].isel(scan=same[np.argmin(apart)]), shape.values
        axis = binned["delay"].values
    else:
        row = binned["delta_xas"].isel(fluence=same[0])
        away = np.abs(binned["delay"].values - np.nanmedian(run["nominal_delay"].values))
        curve, at = row.isel(delay=int(np.argmin(away))), np.broadcast_to(run["energy"].values[:, None], shape.shape)
        axis = binned["energy"].values
    known = np.isfinite(curve.values)
    if known.any():
        found.values[...] = np.nan_to_num(np.interp(at, axis[known], curve.values[known]))
    return found
