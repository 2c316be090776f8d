"""Pulls, coverage, bias and detection limits from many injected signals and what fits made of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import binom, chi2

from schemas.catalogue import note
from schemas.datasets.injection import INJECTION, QUANTITIES
from schemas.notes import Note

__all__ = ["SIZES", "injection_notes", "pull_of", "recovered", "size_of"]

Floats = NDArray[np.float64]
SIZES = (1.0, 0.0, 1.0, 0.5, 1.0, 0.25, 1.0, 2.0, 1.0, 0.125)
"""Sizes of the injected signals, over and over: half of them as large as the session's."""
DETECTION = 3.29
"""Standard deviations at which a signal is found with 95 % probability, and nothing is taken for it with 5 %.

L. A. Currie, Anal. Chem. 40, 586 (1968), equation 10a: twice 1.645.
"""
ABOVE_ZERO = 1.959964
CHANCE = 1e-3
"""A deviation from what errors promise that is less probable is told …"""
FEW = 8
"""… where there are so many fits."""


def size_of(draw: int) -> float:
    """Return the size of the signal of a draw, 1: the session's."""
    return SIZES[draw % len(SIZES)]


class _Fits(NamedTuple):
    """All fits of one quantity at one fluence."""

    size: Floats
    true: Floats
    value: Floats
    pull: Floats
    within: tuple[NDArray[np.bool_], NDArray[np.bool_]]
    """Whether the 68 % and the 95 % interval holds the truth."""
    known: NDArray[np.bool_]
    """The quantity was called determined."""
    counts: NDArray[np.bool_]
    """The fit counts for coverage."""


def pull_of(value: Floats, true: Floats, interval: Floats) -> Floats:
    """Return (value − true) over the half of the 68 % interval that lies on the side of the truth.

    Parameters
    ----------
    value, true
        Any shape.
    interval
        Lower and upper end, one more dim at the end.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        side = np.where(true < value, value - interval[..., 0], interval[..., 1] - value)
        return np.asarray((value - true) / side)


def recovered(
    draws: xr.Dataset, carriers: Mapping[int, str], session: xr.Dataset, *, n_played: int | None = None
) -> xr.Dataset:
    """Return what many injected signals tell of a session.

    Parameters
    ----------
    draws
        As in `schemas.datasets.injection.RECOVERED`.
    carriers
        Run of a scan -> which pulses carried its signal.
    session
        Of the session itself, over fluence: alpha_stderr (total error); signal and signal_spectrum [OD], its largest
        |ΔXAS| in delay scans and in spectra.
    n_played
        Number of pump-off scans that play energy scans; None: none does.

    Returns
    -------
    Dataset as in `INJECTION`.
    """
    levels = np.unique(draws["size"].values)
    shape = (draws.sizes["fluence"], len(QUANTITIES))
    told: dict[str, NDArray] = {n: np.full(shape, np.nan) for n, v in INJECTION.variables.items() if v.dims == _TOLD}
    told |= {n: np.zeros(shape, np.int64) for n in ("n", "n_known", "n_independent")}
    known, alpha_limit = np.full((*shape, len(levels)), np.nan), np.full(shape[0], np.nan)
    for f in range(shape[0]):
        for q, name in enumerate(QUANTITIES):
            fits = _fits(draws.isel(fluence=f), name)
            known[f, q] = _share_known(fits, levels)
            of_scans = "signal_spectrum" if name == "alpha" else "signal"
            found = _told(fits, levels, known[f, q], float(session[of_scans][f]))
            for key, value in found.items():
                told[key][f, q] = value
            played = name == "alpha" and n_played is not None
            told["n_independent"][f, q] = min(found["n"], n_played) if played and n_played else found["n"]
            if name == "alpha" and found["n"]:
                wider = max(1.0, float(np.sqrt(np.mean(fits.pull[fits.counts] ** 2))))
                alpha_limit[f] = DETECTION * wider * float(session["alpha_stderr"][f])
    result = draws.assign({n: (_TOLD, v) for n, v in told.items()})
    result = result.assign(
        known=((*_TOLD, "level"), known),
        alpha_limit=("fluence", alpha_limit),
        carrier=("run", np.array(list(carriers.values()), str)),
        carrier_run=("run", np.array(list(carriers), np.int64)),
    )
    return INJECTION.describe(result.assign_coords(quantity=list(QUANTITIES), level=levels))


_TOLD = ("fluence", "quantity")


def _fits(draws: xr.Dataset, name: str) -> _Fits:
    size = draws["size"].values
    if name == "alpha":
        value, true, error = (draws[n].values for n in ("alpha", "alpha_true", "alpha_stderr"))
        pull = (value - true) / error
        fitted = np.isfinite(pull)
        within = np.abs(pull) <= 1.0, np.abs(pull) <= ABOVE_ZERO
        return _Fits(size, true, value, pull, within, fitted & (value > ABOVE_ZERO * error), fitted)
    if name not in draws["parameter"].values:
        nothing = np.full(size.shape, np.nan)
        no = np.zeros(size.shape, bool)
        return _Fits(size, nothing, nothing, nothing, (no, no), no, no)
    one = draws.sel(parameter=name)
    value, true = one["tau"].values, one["tau_true"].values
    ends = [np.where(np.isnan(one[n].values), [-np.inf, np.inf], one[n].values) for n in ("tau_ci68", "tau_ci95")]
    fitted = np.isfinite(value) & np.isfinite(true)
    inside = [(e[..., 0] <= true) & (true <= e[..., 1]) for e in ends]
    known = fitted & one["tau_identifiable"].values
    pull = pull_of(value, true, ends[0])
    return _Fits(size, true, value, pull, (inside[0], inside[1]), known, fitted & (size > 0))


def _told(fits: _Fits, levels: Floats, known: Floats, signal: float) -> dict[str, float]:
    n = int(fits.counts.sum())
    if not n:
        return {"n": 0, "n_known": 0}
    sure = fits.known & fits.counts
    # an excited fraction has an error whether or not it is above zero
    judged = fits.counts if fits.counts[fits.size == 0].any() else sure
    pulls = fits.pull[judged & np.isfinite(fits.pull)]
    own = sure & (fits.size == 1.0)
    limit = _limit(levels, known)
    return {
        "n": n,
        "n_known": int(sure.sum()),
        "coverage68": float(fits.within[0][fits.counts].mean()),
        "coverage95": float(fits.within[1][fits.counts].mean()),
        "coverage95_known": float(fits.within[1][sure].mean()) if sure.any() else np.nan,
        "pull_mean": float(pulls.mean()) if len(pulls) else np.nan,
        "pull_std": float(pulls.std(ddof=1)) if len(pulls) > 1 else np.nan,
        "bias": float(np.median(fits.value[own] / fits.true[own]) - 1.0) if own.any() else np.nan,
        "found_in_nothing": float(known[0]) if levels[0] == 0 else np.nan,
        "limit": limit,
        "limit_signal": limit * signal,
    }


def _share_known(fits: _Fits, levels: Floats) -> Floats:
    fitted = fits.counts | (np.isfinite(fits.value) & (fits.size == 0))
    return np.array([fits.known[here].mean() if (here := fitted & (fits.size == k)).any() else np.nan for k in levels])


def _limit(levels: Floats, known: Floats) -> float:
    """Return the size from which half of the fits know the quantity, on a logarithmic scale; infinite: none does."""
    use = (levels > 0) & np.isfinite(known)
    size, share = levels[use], np.maximum.accumulate(known[use]) if use.any() else known[use]
    if not len(share) or share[-1] < 0.5:
        return np.inf if len(share) else np.nan
    first = int(np.argmax(share >= 0.5))
    if first == 0:
        return float(size[0])
    return float(np.exp(np.interp(0.5, share[first - 1 : first + 1], np.log(size[first - 1 : first + 1]))))


def injection_notes(injection: xr.Dataset) -> list[Note]:
    """Say for which quantities errors are smaller than chance allows, and which are off by more than their errors."""
    notes = []
    for f, fluence in enumerate(injection["fluence"].values.tolist()):
        for q, name in enumerate(QUANTITIES):
            one = {n: float(injection[n][f, q]) for n, v in INJECTION.variables.items() if v.dims == _TOLD}
            n, own = int(one["n"]), int(one["n_independent"])
            m = min(own, int(one["n"] if name == "alpha" else one["n_known"]))
            if n < FEW:
                continue
            square = one["pull_mean"] ** 2 + one["pull_std"] ** 2
            wide = (m >= FEW or own < n) and chi2.sf(m * square, m) < CHANCE
            missed = own == n and binom.cdf(round(one["coverage95"] * n), n, 0.95) < CHANCE
            if wide or missed:
                shown = {"coverage": 100 * one["coverage95"], "n": n, "pull": float(np.sqrt(square))}
                notes.append(note("injection.errors_too_small", fluence=fluence, parameter=name, **shown))  # type: ignore[arg-type]
            if own == n and m >= FEW and abs(one["pull_mean"]) > max(0.5, 5.0 / np.sqrt(m)):
                notes.append(note("injection.off", fluence=fluence, parameter=name, pull=one["pull_mean"], n=m))
    return notes
