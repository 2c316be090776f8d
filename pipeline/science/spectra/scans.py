"""Pulses → spectra and delay scans: which bins there are, and which pulse belongs to which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.labels.selection import only_pulses
from pipeline.science.spectra.difference import TrainNoise, difference, in_run_difference
from pipeline.science.sums.accumulate import accumulate_runs, join_limbs, mean_coordinate
from pipeline.science.sums.binning import assign, snap_to_steps
from pipeline.science.sums.edges import Bins, edges_of_delay, edges_of_energy, group_scans, nominal_edges
from schemas.datasets.measured import DELAY_SCAN, SPECTRA

__all__ = [
    "at_steps",
    "delay_scans",
    "quality_cells",
    "spectra",
]


def at_steps(runs: Sequence[xr.Dataset]) -> list[xr.Dataset]:
    """Return energy scans with the energies of those that step freed from the noise of the encoder."""
    energies = [run["energy"].values for run in runs]
    finite = [e[np.isfinite(e)] for e in energies]
    if not any(len(e) for e in finite):
        return list(runs)
    snapped = snap_to_steps(energies, resolution=2e-6 * float(np.median(np.concatenate(finite))))
    return [run.assign_coords(energy=("train", e)) for run, e in zip(runs, snapped, strict=True)]


def spectra(
    runs: Sequence[xr.Dataset],
    *,
    energy_bins: Bins = None,
    delay_bins: Bins = None,
    constant: tuple[float, float] = (0.0, 0.0),
    workers: int = 1,
    train_noise: TrainNoise | None = None,
    pulses: np.ndarray | None = None,
    in_run: bool = False,
) -> xr.Dataset:
    """Bin energy scans into spectra.

    Parameters
    ----------
    runs
        Pulses of each run with `drop_reason` (train, pulse; 0 = used) and scalar `fluence`. Runs at the same fluence and delay
        add up, photon by photon.
    energy_bins
        Edges [eV], (start, stop, step) of centres, or None: found in the data.
    delay_bins
        Edges [ps], a width, or None: one bin per stage position. Pulses go by their own delay, see `edges_of_delay`.
    constant
        What ln(I_pumped / I_unpumped) is without pump, and its standard error, see `flat_constant`.
    workers
        Threads; the result does not depend on their number.
    train_noise
        Variance that the pulses of a train share, see `noise_of_trains`.
    pulses
        Indices of the pulses in their trains that count; the bins and coordinates stay those of all pulses.
    in_run
        Whether pulses with pump are compared with those without it in the same bin, by their `condition`, and not with the
        constant.

    Returns
    -------
    Dataset over (fluence, delay, energy), see `difference` and `in_run_difference`; coordinates are means over the bins' pulses.
    """
    if not runs:
        return SPECTRA.empty({"fluence": [], "delay": [], "energy": []}, ["n_trains"])
    e_edges = edges_of_energy(runs, energy_bins)
    d_edges = edges_of_delay(runs, delay_bins)
    fluence = np.unique([float(r["fluence"]) for r in runs])
    n_e, n_d = len(e_edges) - 1, len(d_edges[0]) - 1

    def rows(run: xr.Dataset) -> np.ndarray:
        e = assign(run["energy"].values, e_edges)
        return np.where(e >= 0, int(np.searchsorted(fluence, float(run["fluence"]))) * n_e + e, -1)

    def summed(chosen: Sequence[xr.Dataset]) -> xr.Dataset:
        sums = accumulate_runs(
            chosen, map(rows, chosen), len(fluence) * n_e, delay_edges=d_edges, workers=workers, by_condition=in_run
        )
        shaped = _unstack(join_limbs(sums), {"fluence": len(fluence), "energy": n_e, "delay": n_d})
        return shaped.assign_coords(fluence=fluence)

    whole = summed(runs)
    bins = {
        "delay": np.flatnonzero(whole["n_pulses"].sum(["fluence", "energy"]) > 0),
        "energy": np.flatnonzero(whole["n_pulses"].sum(["fluence", "delay"]) > 0),
    }
    kept = whole.isel(bins)
    if kept["n_pulses"].size == 0:
        raise DataError(
            "no pulse of the energy scans falls into a bin; check energy.bins, delay.bin and sources.energy"
        )
    energy, _ = mean_coordinate(kept, "energy", over=["fluence", "delay"])
    at, _ = mean_coordinate(kept, "delay", over=["fluence", "energy"])
    if pulses is not None:
        kept = summed([only_pulses(r, pulses) for r in runs]).isel(bins)
    result = _compared(kept, constant, in_run, along="energy", axis=energy, train_noise=train_noise)
    return SPECTRA.describe(result.assign_coords(energy=energy, delay=at).transpose("fluence", "delay", "energy", ...))


def delay_scans(
    runs: Sequence[xr.Dataset],
    *,
    delay_bins: Bins = None,
    constant: tuple[float, float] = (0.0, 0.0),
    workers: int = 1,
    train_noise: TrainNoise | None = None,
    pulses: np.ndarray | None = None,
    in_run: bool = False,
) -> xr.Dataset:
    """Bin delay scans at fixed energy; scans at the same fluence and energy (within 2·10⁻⁴) add up.

    With `delay_bins` None the bins follow the stage's steps, and pulses whose arrival time moves them go to the bin of
    their own delay. Other parameters and the result are those of `spectra`, over (scan, delay), with coordinates
    fluence and energy along scan.
    """
    if not runs:
        return DELAY_SCAN.empty({"fluence": [], "energy": [], "delay": []}, ["n_trains"])
    d_edges = nominal_edges(runs, delay_bins)
    groups = group_scans(runs)
    members = [(i, run) for i, group in enumerate(groups) for run in group]

    def summed(chosen: Sequence[tuple[int, xr.Dataset]]) -> xr.Dataset:
        sums = accumulate_runs(
            [run for _, run in chosen],
            (np.full(run.sizes["train"], i) for i, run in chosen),
            len(groups),
            delay_edges=[d_edges] * len(chosen),
            along="delay",
            by_condition=in_run,
            workers=workers,
        )
        return _unstack(join_limbs(sums), {"scan": len(groups), "delay": len(d_edges) - 1})

    whole = summed(members)
    filled = np.flatnonzero(whole["n_pulses"].sum("scan") > 0)
    kept = whole.isel(delay=filled)
    if kept["n_pulses"].size == 0:
        raise DataError(
            "no pulse of the delay scans falls into a bin; check delay.bin, delay.t0 and sources.delay_stage"
        )
    at, _ = mean_coordinate(kept, "delay", over=["scan"])
    energy, _ = mean_coordinate(kept, "energy", over=["delay"])
    if pulses is not None:
        kept = summed([(i, only_pulses(r, pulses)) for i, r in members]).isel(delay=filled)
    result = _compared(kept, constant, in_run, along="delay", axis=at, train_noise=train_noise)
    fluence = ("scan", [float(g[0]["fluence"]) for g in groups])
    result = result.assign_coords(delay=at, energy=energy, fluence=fluence)
    return DELAY_SCAN.describe(result.transpose("scan", "delay", ...))


def _compared(sums: xr.Dataset, constant: tuple[float, float], in_run: bool, **scanned: Any) -> xr.Dataset:
    result = in_run_difference(sums, **scanned) if in_run else difference(sums, constant, **scanned)
    names = ("flat_field_constant", "flat_field_constant_stderr")
    return result.assign(dict(zip(names, (0.0, 0.0) if in_run else constant, strict=True)))


def quality_cells(run: xr.Dataset, *, kind: str, energy_bins: Bins = None, delay_bins: Bins = None) -> np.ndarray:
    """Return the bin (train, pulse) in which each pulse of one run is compared with others; -1 where it does not count.

    `kind`: energy_scan, delay_scan, pump_off_scan or flat_field; the bins are the run's own.
    """
    shape = run["present"].shape
    zeros = np.zeros(shape, np.int64)
    if kind == "flat_field":
        return np.where(run["drop_reason"].values == 0, zeros, -1)
    if kind == "delay_scan":
        delay = assign(run["delay"].values, nominal_edges([run], delay_bins))
        return _cells(run, np.zeros((shape[0], 1), np.int64), delay, 1)
    edges = edges_of_energy([run], energy_bins)
    if kind == "pump_off_scan":
        return _cells(run, assign(run["energy"].values, edges)[:, None], zeros, len(edges) - 1)
    inside = assign(run["delay"].values, nominal_edges([run], delay_bins)) >= 0
    return _cells(run, assign(run["energy"].values, edges)[:, None], np.where(inside, zeros, -1), len(edges) - 1)


def _cells(run: xr.Dataset, energy_bin: np.ndarray, delay_bin: np.ndarray, n_energy: int) -> np.ndarray:
    inside = (energy_bin >= 0) & (delay_bin >= 0) & (run["drop_reason"].values == 0)
    return np.where(inside, delay_bin * n_energy + energy_bin, -1)


def _unstack(sums: xr.Dataset, sizes: dict[str, int]) -> xr.Dataset:
    names = tuple(sizes)
    shape = tuple(sizes.values())
    out = {}
    for name, variable in sums.data_vars.items():
        at = variable.dims.index("cell")
        dims = (*variable.dims[:at], *names, *variable.dims[at + 1 :])
        values = variable.values.reshape(*variable.shape[:at], *shape, *variable.shape[at + 1 :])
        out[name] = (dims, values, variable.attrs)
    return xr.Dataset(out, coords={"beam": sums["beam"]})
