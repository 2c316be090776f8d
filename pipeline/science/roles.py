"""Which patch is which beam, told by the data.

The reference beam passes no sample: its ratio to the two others follows the absorption edge, while the ratio of the two
sample beams does not. Of those two, the pumped one is the one whose transmission answers to the pump. Where the data
cannot tell (no edge in the scan, no effect), the usual order is kept.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import xarray as xr

from pipeline.science.accumulate import accumulate, log_ratio, merge_sums
from pipeline.science.binning import assign, step_edges
from pipeline.science.spectra import nominal_edges
from pipeline.science.uncertainty import moderated_variance

__all__ = ["assign_roles"]

SIGNIFICANT = 6.0
"""Difference of χ² in units of its own standard deviation above which the data overrule the usual order."""


def assign_roles(
    runs: Sequence[xr.Dataset], flat: xr.Dataset | None, default: Sequence[str]
) -> tuple[list[str], list[str]]:
    """Return the roles of the patches in their order, and notes on how they were found.

    Parameters
    ----------
    runs
        Pulses of all scans with `code`, `delay`, `nominal_delay`, scalar `fluence`; beams in the order of the patches.
    flat
        Pulses of the flat-field run, a scan point without pump.
    default
        Usual order of the roles.
    """
    roles = list(default)
    if len(roles) != 3 or not runs:
        return roles, []
    names = [str(b) for b in runs[0]["beam"].values]
    notes: list[str] = []
    energies = _sums(runs, energy_only=True)
    pairs = list(itertools.combinations(range(3), 2))
    spread = [_chi2(energies, names[a], names[b], along="cell") for a, b in pairs]
    chi2 = np.array([s[0] for s in spread])
    dof = max(spread[0][1], 1)
    quietest = int(np.argmin(chi2))
    others = np.delete(chi2, quietest)
    usual_reference = roles.index("reference")
    if others.min() - chi2[quietest] > SIGNIFICANT * np.sqrt(2 * (dof + 2 * others.min())):
        reference = ({0, 1, 2} - set(pairs[quietest])).pop()
        if reference != usual_reference:
            notes.append(f"beam {reference} from the left is the reference: it does not follow the absorption")
    else:
        reference = usual_reference
        notes.append("no absorption edge in the scans: the reference beam is taken from the usual order")
    sample = [i for i in range(3) if i != reference]
    usual = [r for r in roles if r != "reference"]
    answer = _sums([*runs, *([flat] if flat is not None else [])], energy_only=False)
    response = [_chi2(answer, names[i], names[reference], along="condition") for i in sample]
    gap = response[0][0] - response[1][0]
    noise = np.sqrt(2 * (response[0][1] + 2 * max(response[0][0], response[1][0])))
    pumped_first = usual[0] == "pumped"
    if abs(gap) > SIGNIFICANT * noise:
        if (gap > 0) != pumped_first:
            notes.append("the beams are mirrored: the pumped beam is the one that answers to the pump")
        pumped_first = gap > 0
    else:
        notes.append("no beam answers clearly to the pump: pumped and unpumped are taken from the usual order")
    result = ["reference"] * 3
    result[sample[0]], result[sample[1]] = ("pumped", "unpumped") if pumped_first else ("unpumped", "pumped")
    return result, notes


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
        cell = np.where((e >= 0) & (d >= 0) & (run["code"].values == 0), d * n_e + e, -1)
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
    value, scatter, shot = log_ratio(sums, a, b)
    variance = moderated_variance(scatter, shot, sums["n_trains"])
    weight = (1.0 / variance).where(np.isfinite(value) & np.isfinite(variance), 0.0)
    value = value.fillna(0.0)
    mean = (weight * value).sum(along) / weight.sum(along).where(weight.sum(along) > 0)
    chi2 = float((weight * (value - mean.fillna(0.0)) ** 2).sum())
    return chi2, int((weight > 0).sum()) - int((weight.sum(along) > 0).sum())
