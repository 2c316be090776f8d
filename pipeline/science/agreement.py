"""Do runs that measured the same agree? A run that does not is named, with how far it is off.

Runs at the same fluence and delay share ΔXAS; all energy scans share the spectrum of the unpumped sample. Every run is
compared, bin by bin, with the sum of the others.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from pipeline.science.accumulate import accumulate, mean_coordinate, merge_sums, without
from pipeline.science.binning import assign
from pipeline.science.difference import Along, estimate_ratio
from pipeline.science.spectra import Bins, edges_of_energy, nominal_edges

__all__ = ["FIGURES", "compare_runs"]

FIGURES = ("agreement_chi2", "offset", "offset_stderr", "normalisation", "normalisation_stderr")
_NONE = dict.fromkeys(FIGURES, float("nan"))


def compare_runs(
    energy_scans: Mapping[int, xr.Dataset],
    delay_scans: Mapping[int, xr.Dataset],
    *,
    energy_bins: Bins = None,
    delay_bins: Bins = None,
) -> dict[int, dict[str, float]]:
    """Return the figures of agreement of every run; NaN where no other run measured the same.

    Parameters
    ----------
    energy_scans, delay_scans
        Pulses by run number, with `code`, `nominal_delay` and scalar `fluence`.
    energy_bins, delay_bins
        See `pipeline.science.spectra.spectra`.

    Returns
    -------
    dict
        agreement_chi2: χ² per degree of freedom of ΔXAS against the other runs at the same fluence and delay; offset and
        offset_stderr: its mean difference [OD]; normalisation and normalisation_stderr: mean difference of od_unpumped
        from that of all other energy scans [OD].
    """
    found = {number: dict(_NONE) for number in [*energy_scans, *delay_scans]}
    if any(np.isfinite(run["energy"].values).any() for run in energy_scans.values()):
        edges = edges_of_energy(list(energy_scans.values()), energy_bins)
        sums = {n: _by_energy(run, edges) for n, run in energy_scans.items()}
        for group in _groups(energy_scans, delay=True):
            _compare(found, {n: sums[n] for n in group}, ("pumped", "unpumped"))
        if "reference" in [str(b) for b in next(iter(energy_scans.values()))["beam"].values]:
            _compare(found, sums, ("unpumped", "reference"))
    for group in _groups(delay_scans, delay=False):
        runs = {n: delay_scans[n] for n in group}
        edges = nominal_edges(list(runs.values()), delay_bins)
        _compare(found, {n: _by_delay(run, edges) for n, run in runs.items()}, ("pumped", "unpumped"), "delay")
    return found


def _groups(runs: Mapping[int, xr.Dataset], *, delay: bool) -> list[list[int]]:
    groups: dict[tuple[float, float], list[int]] = {}
    for number, run in runs.items():
        at = float(np.nanmedian(run["nominal_delay"])) if delay else float(np.nanmedian(run["energy"]))
        groups.setdefault((float(run["fluence"]), round(at, 2 if delay else 1)), []).append(number)
    return [g for g in groups.values() if len(g) > 1]


def _by_energy(run: xr.Dataset, edges: np.ndarray) -> xr.Dataset:
    e = np.broadcast_to(assign(run["energy"].values, edges)[:, None], run["present"].shape)
    return accumulate(run, np.where(run["code"].values == 0, e, -1), len(edges) - 1)


def _by_delay(run: xr.Dataset, edges: np.ndarray) -> xr.Dataset:
    d = assign(run["delay"].values, edges)
    return accumulate(run, np.where(run["code"].values == 0, d, -1), len(edges) - 1, along="delay")


def _compare(
    found: dict[int, dict[str, float]], sums: Mapping[int, xr.Dataset], beams: tuple[str, str], along: Along = "energy"
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
        ours, theirs = (estimate_ratio(s.isel(cell=filled), *beams, along=along, axis=axis)[:2] for s in (own, rest))
        difference, weight = (theirs[0] - ours[0]).values, (1.0 / (ours[1] + theirs[1])).values
        good = np.isfinite(difference) & np.isfinite(weight)
        if not good.any():
            continue
        difference, weight = difference[good], weight[good]
        offset = float(np.sum(weight * difference) / np.sum(weight))
        error = float(1.0 / np.sqrt(np.sum(weight)))
        if beams[0] == "pumped":
            found[number].update(
                agreement_chi2=float(np.mean(weight * difference**2)), offset=offset, offset_stderr=error
            )
        else:
            found[number].update(normalisation=offset, normalisation_stderr=error)
