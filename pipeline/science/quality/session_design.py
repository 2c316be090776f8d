"""What the order of a session cannot tell apart: drift and wear from an effect of fluence or delay that goes with time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike
from scipy.stats import rankdata

from pipeline.science.spectra.compared import has_both_conditions
from pipeline.science.spectra.pump_off import PumpOff, hours
from pipeline.science.sums.edges import energy_of_scan, is_same_energy
from schemas.catalogue import note
from schemas.notes import Note
from schemas.usual import USUAL, Usual

__all__ = ["ORDERED", "rank_correlation", "session_notes"]

ORDERED = 0.7
"""Rank correlation with time above which an axis and time are one."""
FEWEST = 3
"""Runs that have an order."""
MATTERS = 0.02
"""Drift and wear, as a part of the signal, that a person must know of."""
CLEAR = 5.0
"""Standard errors of a difference that is one."""
Runs = Mapping[int, xr.Dataset]


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Return Spearman's rank correlation of two series; 0 where one of them is constant.

    C. Spearman, Am. J. Psychol. 15, 72 (1904).
    """
    first, second = rankdata(np.asarray(a)), rankdata(np.asarray(b))
    if len(np.unique(first)) < 2 or len(np.unique(second)) < 2:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def session_notes(
    energy_scans: Runs,
    delay_scans: Runs,
    spectra: xr.Dataset,
    scan: xr.Dataset,
    model: PumpOff | None,
    *,
    usual: Usual = USUAL,
) -> list[Note]:
    """Return what drift and wear may look like, with how much is not known of them beside the signal.

    Only runs without pulses of both conditions count: the others hold their own reference.

    Parameters
    ----------
    energy_scans, delay_scans
        Pulses by run number: train_id, nominal_delay (train) [ps], energy (train) [eV], scalar fluence [mJ/cm²].
    spectra, scan
        delta_xas and its errors, see `schemas.datasets.measured`.
    model
        What is known of the ratio of the beams without pump; None: nothing, so that it changes by its usual sizes.
    usual
        These sizes.
    """
    alone = {n: r for n, r in {**energy_scans, **delay_scans}.items() if not has_both_conditions(r)}
    session = _Session(alone, model, usual)
    notes = list(_of_fluence(session, spectra if spectra["delta_xas"].size else scan))
    for fluence in np.unique(spectra["fluence"].values).tolist():
        runs = [n for n in energy_scans if n in alone and float(alone[n]["fluence"]) == fluence]
        notes += _of_delay_runs(session, runs, spectra.sel(fluence=fluence), fluence)
    for k in range(scan.sizes.get("scan", 0)):
        notes += _of_delay_scan(session, [n for n in delay_scans if n in alone], scan.isel(scan=k))
    return notes


class _Strongest(NamedTuple):
    """The difference, and the energy and density at which drift and wear are counted."""

    signal: float
    energy: float
    density: float


class _Session(NamedTuple):
    runs: Runs
    model: PumpOff | None
    usual: Usual

    def time(self, run: int) -> float:
        return float(hours(self.runs[run]["train_id"].values).mean())

    def unknown(self, at: _Strongest, start: float, stop: float) -> float:
        """Return one standard deviation of the change of c from one time [h] to another that data leave open."""
        if self.model is None:
            n_runs = sum(start <= self.time(n) <= stop for n in self.runs) - 1
            return float(np.hypot(self.usual.drift * (stop - start), self.usual.wear * at.density * n_runs))
        first, last = self.model.modes(np.full(2, at.energy), np.array([start, stop]), part=1.0).T
        return float(np.sqrt(np.sum((last - first) ** 2)))


def _strongest(result: xr.Dataset) -> _Strongest | None:
    """Return the largest difference, and where the sample is thickest for X-rays among those at least half as large.

    None where there is no difference to speak of.
    """
    change = result["delta_xas"]
    energy = result["energy"].broadcast_like(change).transpose(*change.dims).values
    clear = np.abs(change.values) > CLEAR * result["delta_xas_stderr"].values
    size = np.where(clear, np.abs(change.values), 0.0)
    if not size.max(initial=0.0) > 0.0:
        return None
    density = np.nan_to_num(result["od_unpumped"].transpose(*change.dims).values)
    place = int(np.argmax(np.where(size >= 0.5 * size.max(), density, -np.inf)))
    return _Strongest(float(size.max()), float(energy.ravel()[place]), float(density.ravel()[place]))


def _of_fluence(session: _Session, result: xr.Dataset) -> Iterator[Note]:
    order = sorted(session.runs, key=session.time)
    fluence = [float(session.runs[n]["fluence"]) for n in order]
    correlation, at = rank_correlation(fluence, range(len(order))), _strongest(result)
    if len(order) < FEWEST or abs(correlation) < ORDERED or at is None:
        return
    start, stop = session.time(order[0]), session.time(order[-1])
    unknown = session.unknown(at, start, stop)
    if unknown > MATTERS * at.signal:
        yield note(
            "design.fluence_with_time",
            goes=_goes(correlation),
            n=len(order),
            minutes=60 * (stop - start),
            unknown=1e3 * unknown,
            signal=1e3 * at.signal,
        )


def _of_delay_runs(session: _Session, runs: list[int], result: xr.Dataset, fluence: float) -> Iterator[Note]:
    """Say so where energy scans at one fluence were taken in the order of their delays."""
    known = [n for n in runs if np.isfinite(session.runs[n]["nominal_delay"].values).any()]
    order = sorted(known, key=session.time)
    delay = [round(float(np.nanmedian(session.runs[n]["nominal_delay"].values)), 2) for n in order]
    if len(set(delay)) >= FEWEST:
        span = session.time(order[0]), session.time(order[-1])
        what = f"energy scans at {fluence:g} mJ/cm²"
        yield from _of_delay(session, rank_correlation(delay, range(len(order))), result, span, what, fluence, None)


def _of_delay_scan(session: _Session, runs: list[int], one: xr.Dataset) -> Iterator[Note]:
    """Say so where a delay scan went one way only."""
    fluence, energy = float(one["fluence"]), float(one["energy"])
    own = [n for n in runs if _is_at(session.runs[n], fluence, energy)]
    if not own:
        return
    time = np.concatenate([hours(session.runs[n]["train_id"].values) for n in own])
    delay = np.concatenate([session.runs[n]["nominal_delay"].values for n in own])
    known = np.isfinite(delay)
    if known.sum() < FEWEST:
        return
    correlation = rank_correlation(time[known], delay[known])
    what = f"delay scan at {energy:.2f} eV, {fluence:g} mJ/cm²"
    span = float(time[known].min()), float(time[known].max())
    yield from _of_delay(session, correlation, one, span, what, fluence, own[0] if len(own) == 1 else None)


def _of_delay(
    session: _Session,
    correlation: float,
    result: xr.Dataset,
    span: tuple[float, float],
    what: str,
    fluence: float,
    run: int | None,
) -> Iterator[Note]:
    at = _strongest(result)
    if at is None or abs(correlation) < ORDERED:
        return
    unknown = session.unknown(at, *span)
    if unknown > MATTERS * at.signal:
        yield note(
            "design.delay_with_time",
            run=run,
            fluence=fluence,
            what=what,
            goes=_goes(correlation),
            minutes=60 * (span[1] - span[0]),
            unknown=1e3 * unknown,
            signal=1e3 * at.signal,
        )


def _is_at(run: xr.Dataset, fluence: float, energy: float) -> bool:
    return bool(is_same_energy(energy_of_scan(run), np.array(energy))) and float(run["fluence"]) == fluence


def _goes(correlation: float) -> str:
    return "rises" if correlation > 0 else "falls"
