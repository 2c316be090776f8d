"""Do runs that measured the same agree? A run that does not is named, with how far it is off.

Runs at the same fluence and delay share ΔXAS; all energy scans share the spectrum of the unpumped sample. Every run is
compared, bin by bin, with the sum of the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import chi2

from pipeline.science.spectra.compared import has_both_conditions
from pipeline.science.spectra.difference import Along, TrainNoise, estimate, log_change
from pipeline.science.sums.accumulate import accumulate, mean_coordinate, merge_sums, without
from pipeline.science.sums.binning import assign
from pipeline.science.sums.contrast import ratio
from pipeline.science.sums.edges import SAME_ENERGY, Bins, edges_of_energy, nominal_edges

__all__ = ["FIGURES", "compare_runs"]

FIGURES = ("agreement_chi2", "agreement_p", "offset", "offset_stderr", "normalisation", "normalisation_stderr")
_NONE = dict.fromkeys(FIGURES, float("nan"))


def compare_runs(
    energy_scans: Mapping[int, xr.Dataset],
    delay_scans: Mapping[int, xr.Dataset],
    *,
    energy_bins: Bins = None,
    delay_bins: Bins = None,
    train_noise: TrainNoise | None = None,
) -> dict[int, dict[str, float]]:
    """Return the figures of agreement of every run; NaN where no other run measured the same.

    Parameters
    ----------
    energy_scans, delay_scans
        Pulses by run number, with `drop_reason`, `nominal_delay` and scalar `fluence`.
    energy_bins, delay_bins
        See `pipeline.science.spectra.scans.spectra`.
    train_noise
        Variance that the pulses of a train share, see `pipeline.science.spectra.scans.noise_of_trains`.

    Returns
    -------
    dict
        agreement_chi2: χ² per degree of freedom of ΔXAS against the other runs at the same fluence and delay;
        agreement_p: how probable that is by chance; offset and offset_stderr: its mean difference [OD]; normalisation and normalisation_stderr: mean difference of od_unpumped
        from that of all other energy scans [OD].
    """
    scans = [*energy_scans.values(), *delay_scans.values()]
    by_condition = bool(scans) and all(has_both_conditions(run) for run in scans)
    found = {number: dict(_NONE) for number in [*energy_scans, *delay_scans]}
    if any(np.isfinite(run["energy"].values).any() for run in energy_scans.values()):
        edges = edges_of_energy(list(energy_scans.values()), energy_bins)
        sums = {n: _by_energy(run, edges, by_condition=by_condition) for n, run in energy_scans.items()}
        for group in _groups(energy_scans, delay=True):
            _compare(found, {n: sums[n] for n in group}, ("pumped", "unpumped"), train_noise=train_noise)
        if "reference" in [str(b) for b in next(iter(energy_scans.values()))["beam"].values]:
            _compare(found, sums, ("unpumped", "reference"), train_noise=train_noise)
    for group in _groups(delay_scans, delay=False):
        runs = {n: delay_scans[n] for n in group}
        edges = nominal_edges(list(runs.values()), delay_bins)
        binned = {n: _by_delay(run, edges, by_condition=by_condition) for n, run in runs.items()}
        _compare(found, binned, ("pumped", "unpumped"), "delay", train_noise=train_noise)
    return found


def _groups(runs: Mapping[int, xr.Dataset], *, delay: bool) -> list[list[int]]:
    """Return the runs that share fluence and delay (within 10 fs) or fluence and energy (within `SAME_ENERGY`)."""
    name = "nominal_delay" if delay else "energy"
    at = {n: float(np.nanmedian(r[name])) if np.isfinite(r[name].values).any() else np.nan for n, r in runs.items()}
    groups: list[list[int]] = []
    for number in sorted((n for n in runs if np.isfinite(at[n])), key=lambda n: (float(runs[n]["fluence"]), at[n])):
        last = groups[-1][-1] if groups else None
        near = last is not None and at[number] - at[last] <= (0.01 if delay else SAME_ENERGY * at[number])
        if last is not None and near and float(runs[last]["fluence"]) == float(runs[number]["fluence"]):
            groups[-1].append(number)
        else:
            groups.append([number])
    return [g for g in groups if len(g) > 1]


def _by_energy(run: xr.Dataset, edges: np.ndarray, *, by_condition: bool) -> xr.Dataset:
    e = np.broadcast_to(assign(run["energy"].values, edges)[:, None], run["present"].shape)
    cell = np.where(run["drop_reason"].values == 0, e, -1)
    return accumulate(run, cell, len(edges) - 1, by_condition=by_condition)


def _by_delay(run: xr.Dataset, edges: np.ndarray, *, by_condition: bool) -> xr.Dataset:
    d = assign(run["delay"].values, edges)
    cell = np.where(run["drop_reason"].values == 0, d, -1)
    return accumulate(run, cell, len(edges) - 1, along="delay", by_condition=by_condition)


def _of_beams(sums: xr.Dataset, beams: tuple[str, str], **scanned: Any) -> tuple[xr.DataArray, xr.DataArray]:
    of_pump = beams == ("pumped", "unpumped")
    found = log_change(sums, **scanned) if of_pump else estimate(sums, ratio(*beams), **scanned)
    return found[:2]


def _compare(
    found: dict[int, dict[str, float]],
    sums: Mapping[int, xr.Dataset],
    beams: tuple[str, str],
    along: Along = "energy",
    *,
    train_noise: TrainNoise | None,
) -> None:
    if len(sums) < 2:
        return
    whole = merge_sums(list(sums.values()))
    axis = mean_coordinate(whole, along)[0]
    filled = np.flatnonzero(np.isfinite(axis.values))
    axis = axis.isel(cell=filled)
    for number, own in sums.items():
        rest = without(whole, own)
        # both are moved to the common coordinate: a sweep and a step scan do not share the bins' means
        ours, theirs = (
            _of_beams(s.isel(cell=filled), beams, along=along, axis=axis, train_noise=train_noise) for s in (own, rest)
        )
        difference, weight = (theirs[0] - ours[0]).values, (1.0 / (ours[1] + theirs[1])).values
        good = np.isfinite(difference) & np.isfinite(weight)
        if not good.any():
            continue
        difference, weight = difference[good], weight[good]
        offset = float(np.sum(weight * difference) / np.sum(weight))
        error = float(1.0 / np.sqrt(np.sum(weight)))
        if beams[0] == "pumped":
            statistic = float(np.sum(weight * difference**2))
            found[number].update(
                agreement_chi2=statistic / len(weight),
                agreement_p=float(chi2.sf(statistic, len(weight))),
                offset=offset,
                offset_stderr=error,
            )
        else:
            found[number].update(normalisation=offset, normalisation_stderr=error)
