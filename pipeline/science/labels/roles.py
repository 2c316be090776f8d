"""Which patch is which beam, told by the data.

A sample absorbs least at the low end of a scan across a resonance or an edge, so both sample beams lose against the
reference beam towards higher energies. Of the two sample beams, the pumped one is that whose transmission changes with
delay and fluence at fixed energy. Without an energy scan, the beam against which both others change between the few
energies there are (of delay scans and flat field) is the reference; at one energy, the beam that changes with delay against
both others is the pumped one, and the 0th order lies in the middle. What nothing tells keeps the usual order.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from pipeline.science.sums.accumulate import accumulate, merge_sums
from pipeline.science.sums.binning import assign, step_edges
from pipeline.science.sums.contrast import log_contrast, ratio
from pipeline.science.sums.edges import nominal_edges
from schemas.catalogue import note
from schemas.notes import Note

__all__ = ["assign_roles"]

MIDDLE = 1
"""Place of the zone plate's 0th order, which goes through no sample."""
FLOOR = 5e-4
"""Variation of a ratio [OD] that tells nothing: drifts of the optics."""
SIGNIFICANT = 6.0
"""Difference of χ² in units of its own standard deviation above which the data overrule the usual order."""


def assign_roles(
    runs: Sequence[xr.Dataset], flat: xr.Dataset | None, default: Sequence[str]
) -> tuple[list[str], list[Note]]:
    """Return the roles of the patches in their order, and notes on how they were found.

    Parameters
    ----------
    runs
        Pulses of all scans with `drop_reason`, `delay`, `nominal_delay`, scalar `fluence`; beams in the order of the patches.
    flat
        Pulses of the flat-field run, a scan point without pump.
    default
        Usual order of the roles.
    """
    usual = list(default)
    if len(usual) == 2:
        return usual, [note("beams.two_not_told_apart", roles=" and ".join(usual))]
    if not runs:
        return usual, []
    names = [str(b) for b in runs[0]["beam"].values]
    answer = _sums([*runs, *([flat] if flat is not None else [])], energy_only=False)
    response = _spread(answer, names, along="condition")
    reference = _reference(_sums(runs, energy_only=True), names)
    notes: list[Note] = []
    if reference is None:
        everything = [*runs, *([flat] if flat is not None else [])]
        reference = _stands_out(_spread(_sums(everything, energy_only=True), names, along="cell"))
        notes.append(note("beams.no_edge") if reference is None else note("beams.reference_from_energies"))
    if reference is None:
        pumped = _stands_out(response)
        rest = [r for r in usual if r != "pumped"]
        if pumped is not None and pumped != MIDDLE:
            reference = MIDDLE
            notes = [note("beams.reference_from_place")]
            rest = ["unpumped"]
    else:
        pumped = _changes_more(response, *(k for k in range(3) if k != reference))
        rest = ["unpumped"]
    if pumped is None:
        notes.append(note("beams.no_pump_response"))
        rest = [r for r in usual if reference is None or r != "reference"]
    found = {k: role for k, role in ((pumped, "pumped"), (reference, "reference")) if k is not None}
    found |= dict(zip((k for k in range(3) if k not in found), rest, strict=True))
    roles = [found[k] for k in range(3)]
    if roles != usual:
        notes.append(note("beams.order_from_data", roles=", ".join(roles)))
    return roles, notes


def _reference(sums: xr.Dataset, names: list[str]) -> int | None:
    """Return the beam against which both others are absorbed, or None."""
    for k in range(3):
        if all(_absorbed(sums, names[other], names[k]) for other in range(3) if other != k):
            return k
    return None


def _changes_more(response: _Spread, first: int, second: int) -> int | None:
    """Return which of two sample beams changes more against the reference, or None if that is not clear."""
    third = next(iter({0, 1, 2} - {first, second}))
    chi2 = [response.chi2[frozenset((k, third))] for k in (first, second)]
    noise = np.sqrt(2 * (response.dof + 2 * max(chi2)))
    if abs(chi2[0] - chi2[1]) <= SIGNIFICANT * noise:
        return None
    return first if chi2[0] > chi2[1] else second


def _absorbed(sums: xr.Dataset, a: str, b: str) -> bool | None:
    """Return whether beam a is absorbed relative to beam b, or None where neither is."""
    value, _, shot = log_contrast(sums, ratio(a, b))
    good = np.flatnonzero(np.isfinite(value.values).all(axis=0) if value.ndim > 1 else np.isfinite(value.values))
    if len(good) < 4:
        return None
    row = value.transpose("condition", "cell").values[0, good]
    variance = shot.transpose("condition", "cell").values[0, good] + FLOOR**2
    low = max(len(good) // 8, 1)
    excess = row[low:].mean() - row[:low].mean()
    error = np.sqrt(variance[low:].mean() / (len(good) - low) + variance[:low].mean() / low)
    return bool(excess < 0) if abs(excess) > SIGNIFICANT * error else None


@dataclass(frozen=True)
class _Spread:
    """How much the ratio of each pair of beams varies: χ² against a constant, and its degrees of freedom."""

    chi2: dict[frozenset[int], float]
    dof: int


def _spread(sums: xr.Dataset, names: list[str], *, along: str) -> _Spread:
    pairs = list(itertools.combinations(range(3), 2))
    found = {frozenset(p): _chi2(sums, names[p[0]], names[p[1]], along=along) for p in pairs}
    return _Spread({p: chi2 for p, (chi2, _) in found.items()}, max(dof for _, dof in found.values()))


def _stands_out(spread: _Spread) -> int | None:
    """Return the beam whose ratios to both others vary while theirs does not, or None if none stands out."""
    quiet = min(spread.chi2, key=lambda p: spread.chi2[p])
    loud = min(v for p, v in spread.chi2.items() if p != quiet)
    noise = np.sqrt(2 * (spread.dof + 2 * loud))
    if spread.dof < 1 or loud < 1.5 * spread.chi2[quiet] or loud - spread.chi2[quiet] < SIGNIFICANT * noise:
        return None
    return next(iter({0, 1, 2} - quiet))


def _sums(runs: Sequence[xr.Dataset], *, energy_only: bool) -> xr.Dataset:
    """Return sums over (condition, cell): cells are energies, conditions are fluence, delay and run kind."""
    everything = np.concatenate([r["energy"].values for r in runs])
    finite = np.sort(everything[np.isfinite(everything)])
    if not len(finite):
        finite = np.zeros(1)
    # the runs need a common energy grid only roughly, and cells with enough trains
    width = max(4e-4 * float(np.median(finite)), float(np.ptp(finite)) / 100, 1e-6)
    edges = np.arange(finite[0] - 0.5 * width, finite[-1] + width, width)
    delay_edges = step_edges(np.array([0.0])) if energy_only else _delay_edges(runs)
    n_e, n_d = len(edges) - 1, len(delay_edges) - 1
    by_fluence: dict[float, list[xr.Dataset]] = {}
    for run in runs:
        e = assign(run["energy"].values, edges)[:, None]
        scanned = "delay" in run.coords
        delay = (
            run["delay"].values if scanned and not energy_only else np.zeros((run.sizes["train"], run.sizes["pulse"]))
        )
        d = assign(delay, delay_edges)
        cell = np.where((e >= 0) & (d >= 0) & (run["drop_reason"].values == 0), d * n_e + e, -1)
        fluence = 0.0 if energy_only or "fluence" not in run.coords else float(run["fluence"])
        by_fluence.setdefault(fluence, []).append(accumulate(run, cell, n_e * n_d))
    merged = [merge_sums(p) for p in by_fluence.values()]
    stacked = xr.concat(merged, dim="fluence")
    shape = (len(merged) * n_d, n_e)
    out = {}
    for name, v in stacked.data_vars.items():
        tail = v.transpose("fluence", "cell", ...)
        out[name] = (("condition", "cell", *tail.dims[2:]), tail.values.reshape(*shape, *tail.shape[2:]))
    return xr.Dataset(out, coords={"beam": stacked["beam"]})


def _delay_edges(runs: Sequence[xr.Dataset]) -> np.ndarray:
    edges = nominal_edges([r for r in runs if "delay" in r.coords], None)
    return edges if len(edges) <= 400 else edges[:: len(edges) // 200]


def _chi2(sums: xr.Dataset, a: str, b: str, *, along: str) -> tuple[float, int]:
    """Return χ² of ln(S_a / S_b) against a constant along a dim, and its degrees of freedom."""
    value, _, shot = log_contrast(sums, ratio(a, b))
    weight = (1.0 / (shot + FLOOR**2)).where(np.isfinite(value), 0.0)
    value = value.fillna(0.0)
    total = weight.sum(along)
    mean = ((weight * value).sum(along) / total.where(total > 0)).fillna(0.0)
    chi2 = float((weight * (value - mean) ** 2).sum())
    return chi2, int((weight > 0).sum()) - int((total > 0).sum())
