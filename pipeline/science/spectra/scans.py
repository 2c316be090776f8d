"""Pulses → spectra and delay scans: which bins there are, and which pulse belongs to which."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.pulses.selection import REASONS
from pipeline.science.spectra.accumulate import accumulate_runs, log_ratio, mean_coordinate, pulse_scatter, settle
from pipeline.science.spectra.binning import (
    MAX_SINGLE_STEPS,
    assign,
    energy_edges,
    grid_edges,
    step_centres,
    step_centres_of_all,
    step_edges,
    sweep_edges,
)
from pipeline.science.spectra.difference import TrainNoise, difference, no_difference
from pipeline.science.spectra.uncertainty import beyond_noise, moderated_variance

__all__ = [
    "SAME_ENERGY",
    "Bins",
    "delay_scans",
    "edges_of_delay",
    "edges_of_energy",
    "flat_constant",
    "group_scans",
    "noise_of_trains",
    "nominal_edges",
    "quality_cells",
    "spectra",
]

SAME_ENERGY = 2e-4
"""Delay scans whose energies differ by less than this fraction add up."""

_EXCLUDED = REASONS.index("excluded")

Bins = Sequence[float] | tuple[float, float, float] | float | None


def flat_constant(runs: Sequence[xr.Dataset], *, pulses: np.ndarray | None = None) -> tuple[float, float]:
    """Return ln(Σ I_pumped / Σ I_unpumped) of pulses without pump effect, and its standard error.

    Parameters
    ----------
    runs
        Pulses with `code` (0 = used): the flat-field run, or scans of which only pulses before time zero are used.
    pulses
        Indices of the pulses in their trains that count; None: all.

    Raises
    ------
    DataError
        If no pulse counts.
    """
    sums = _all_together(runs if pulses is None else [_only(r, pulses) for r in runs])
    value, scatter, shot = log_ratio(sums, "pumped", "unpumped")
    if not np.isfinite(value[0]):
        raise DataError("no pulse of the flat-field run counts; is it a run with X-rays?")
    single = pulse_scatter(sums, "pumped", "unpumped")
    variance = moderated_variance(scatter, shot, sums["n_trains"], pulses=single, n_pulses=sums["n_pulses"])
    return float(value[0]), float(np.sqrt(variance[0]))


def noise_of_trains(runs: Sequence[xr.Dataset]) -> dict[tuple[str, str], float]:
    """Return the variance of ln(I_a / I_b) that the pulses of a train share, by pair of beams.

    What trains scatter more than their single pulses explain is noise of whole trains. A bin of one or two trains cannot
    know it, a run at fixed energy without pump effect does. 0 where it is not significant.

    Parameters
    ----------
    runs
        As for `flat_constant`, each at one energy.
    """
    sums = _all_together(runs)
    beams = [str(b) for b in sums["beam"].values]
    found = {}
    for a, b in (("pumped", "unpumped"), ("unpumped", "reference"), ("pumped", "reference")):
        if a not in beams or b not in beams:
            continue
        _, scatter, shot = (float(v[0]) for v in log_ratio(sums, a, b))
        trains, expected = int(sums["n_trains"][0]), max(float(pulse_scatter(sums, a, b)[0]), shot)
        if trains > 1 and expected > 0 and beyond_noise(scatter / expected, trains - 1) > 1.0:
            found[a, b] = (scatter - expected) * trains
    return found


def _all_together(runs: Sequence[xr.Dataset]) -> xr.Dataset:
    return accumulate_runs(runs, (np.zeros(r.sizes["train"], np.int64) for r in runs), 1)


def nominal_edges(runs: Sequence[xr.Dataset], bins: Bins, *, resolution: float = 5e-3) -> np.ndarray:
    """Return delay bin edges [ps] common to some runs.

    Parameters
    ----------
    runs
        delay (train, pulse) [ps]; the nominal delay is the median of a train.
    bins
        Edges, a width, or None for the steps of the stage.
    resolution
        Stage readings closer than this [ps] are the same step.
    """
    runs = [r for r in runs if np.isfinite(r["nominal_delay"].values).any()]
    medians = [_train_median(r["delay"].values) for r in runs]
    everything = np.concatenate(medians) if medians else np.empty(0)
    everything = everything[np.isfinite(everything)]
    if not len(everything):
        raise DataError("no train has a delay; set sources.delay_stage or the runs' `delay:`")
    if isinstance(bins, float | int):
        # as far as the jitter inside trains reaches, but not to every stray reading of the arrival monitor
        reach = 4 * max(_scatter_in_trains(r["delay"].values, m) for r, m in zip(runs, medians, strict=True))
        return sweep_edges(np.array([everything.min() - reach, everything.max() + reach]), width=float(bins))
    if bins is not None:
        return np.asarray(bins, np.float64)
    if (steps := _stage_steps(runs, resolution=resolution)) is not None:
        return step_edges(steps[0] + steps[1])
    places = np.unique(np.round(everything / resolution) * resolution)
    if len(places) <= MAX_SINGLE_STEPS:
        return step_edges(step_centres_of_all([places], resolution=resolution))
    return sweep_edges(everything, width=max(float(np.ptp(everything)) / MAX_SINGLE_STEPS, 0.01))


def _stage_steps(runs: Sequence[xr.Dataset], *, resolution: float = 5e-3) -> tuple[np.ndarray, float] | None:
    """Return the nominal delays [ps] at which the stage stood, and how far the arrival time moves them all; None: it swept."""
    runs = [r for r in runs if np.isfinite(r["nominal_delay"].values).any()]
    steps = [step_centres(r["nominal_delay"].values, resolution=resolution) for r in runs]
    if not steps or any(s is None for s in steps):
        return None
    moved = [_train_median(r["delay"].values) - r["nominal_delay"].values for r in runs]
    found = step_centres_of_all([s for s in steps if s is not None], resolution=resolution)
    return found, float(np.nanmedian(np.concatenate(moved)))


def edges_of_delay(runs: Sequence[xr.Dataset], bins: Bins) -> list[np.ndarray]:
    """Return the delay bin edges [ps] of each energy scan, the same number of bins for all.

    Given bins are those of all runs. Found ones are one bin per stage position; a pulse whose arrival time moves it goes
    to the nearest position that was visited at its own fluence (bins of the others have no width there): what leaks
    into a position that a fluence never visited would be a biased sample of delays.
    """
    edges = nominal_edges(runs, bins)
    steps = _stage_steps(runs) if bins is None else None
    if steps is None:
        return [edges] * len(runs)
    centres, offset = steps
    visited: dict[float, set[int]] = {}
    for run in runs:
        index = assign(run["nominal_delay"].values, step_edges(centres))
        visited.setdefault(float(run["fluence"]), set()).update(index[index >= 0].tolist())
    own = {}
    for fluence, places in visited.items():
        known = np.array(sorted(places), np.int64)
        inner = step_edges(centres[known] + offset) if len(known) else np.full(1, np.inf)
        own[fluence] = inner[np.searchsorted(known, np.arange(len(edges)))]
    return [own[float(run["fluence"])] for run in runs]


def _train_median(delay: np.ndarray) -> np.ndarray:
    usable = np.isfinite(delay).any(axis=1)
    result = np.full(len(delay), np.nan)
    if usable.any():
        result[usable] = np.nanmedian(delay[usable], axis=1)
    return result


def _scatter_in_trains(delay: np.ndarray, median: np.ndarray) -> float:
    """Return a robust σ of the pulses' delays about the median of their train."""
    known = np.isfinite(median)
    return float(np.nanmedian(np.abs(delay[known] - median[known, None]))) / 0.6745 if known.any() else 0.0


def edges_of_energy(runs: Sequence[xr.Dataset], bins: Bins) -> np.ndarray:
    """Return energy bin edges [eV] common to some runs: as given (edges, or start, stop, step of centres) or found."""
    if bins is None:
        return energy_edges([r["energy"].values for r in runs])
    if isinstance(bins, tuple) and len(bins) == 3:
        return grid_edges(*bins)
    return np.asarray(bins, np.float64)


def spectra(
    runs: Sequence[xr.Dataset],
    *,
    energy_bins: Bins = None,
    delay_bins: Bins = None,
    constant: tuple[float, float] = (0.0, 0.0),
    workers: int = 1,
    train_noise: TrainNoise | None = None,
    pulses: np.ndarray | None = None,
) -> xr.Dataset:
    """Bin energy scans into spectra.

    Parameters
    ----------
    runs
        Pulses of each run with `code` (train, pulse; 0 = used) and scalar `fluence`. Runs at the same fluence and delay
        add up, photon by photon.
    energy_bins
        Edges [eV], (start, stop, step) of centres, or None: found in the data.
    delay_bins
        Edges [ps], a width, or None: one bin per stage position. Pulses go by their own delay, see `edges_of_delay`.
    constant
        Flat-field constant and its standard error, see `flat_constant`.
    workers
        Threads; the result does not depend on their number.
    train_noise
        Variance that the pulses of a train share, see `noise_of_trains`.
    pulses
        Indices of the pulses in their trains that count; the bins and coordinates stay those of all pulses.

    Returns
    -------
    Dataset over (fluence, delay, energy), see `difference`; coordinates are means over the bins' pulses.
    """
    if not runs:
        return no_difference(("fluence", "delay", "energy"))
    e_edges = edges_of_energy(runs, energy_bins)
    d_edges = edges_of_delay(runs, delay_bins)
    fluence = np.unique([float(r["fluence"]) for r in runs])
    n_e, n_d = len(e_edges) - 1, len(d_edges[0]) - 1

    def rows(run: xr.Dataset) -> np.ndarray:
        e = assign(run["energy"].values, e_edges)
        return np.where(e >= 0, int(np.searchsorted(fluence, float(run["fluence"]))) * n_e + e, -1)

    def summed(chosen: Sequence[xr.Dataset]) -> xr.Dataset:
        sums = accumulate_runs(chosen, map(rows, chosen), len(fluence) * n_e, delay_edges=d_edges, workers=workers)
        shaped = _unstack(settle(sums), {"fluence": len(fluence), "energy": n_e, "delay": n_d})
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
        kept = summed([_only(r, pulses) for r in runs]).isel(bins)
    result = difference(kept, constant, along="energy", axis=energy, train_noise=train_noise)
    return result.assign_coords(energy=energy, delay=at).transpose("fluence", "delay", "energy", ...)


def delay_scans(
    runs: Sequence[xr.Dataset],
    *,
    delay_bins: Bins = None,
    constant: tuple[float, float] = (0.0, 0.0),
    workers: int = 1,
    train_noise: TrainNoise | None = None,
    pulses: np.ndarray | None = None,
) -> xr.Dataset:
    """Bin delay scans at fixed energy; scans at the same fluence and energy (within 2·10⁻⁴) add up.

    With `delay_bins` None the bins follow the stage's steps, and pulses whose arrival time moves them go to the bin of
    their own delay. Other parameters and the result are those of `spectra`, over (scan, delay), with coordinates
    fluence and energy along scan.
    """
    if not runs:
        return no_difference(("scan", "delay"))
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
            workers=workers,
        )
        return _unstack(settle(sums), {"scan": len(groups), "delay": len(d_edges) - 1})

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
        kept = summed([(i, _only(r, pulses)) for i, r in members]).isel(delay=filled)
    result = difference(kept, constant, along="delay", axis=at, train_noise=train_noise)
    fluence = ("scan", [float(g[0]["fluence"]) for g in groups])
    return result.assign_coords(delay=at, energy=energy, fluence=fluence).transpose("scan", "delay", ...)


def _only(run: xr.Dataset, pulses: np.ndarray) -> xr.Dataset:
    """Return a run in which only some pulses of each train count."""
    chosen = np.isin(np.arange(run.sizes["pulse"]), pulses)
    code = np.where(chosen, run["code"].transpose("train", "pulse").values, _EXCLUDED)
    return run.assign(code=(("train", "pulse"), code.astype(np.uint8)))


def quality_cells(run: xr.Dataset, *, kind: str, energy_bins: Bins = None, delay_bins: Bins = None) -> np.ndarray:
    """Return the bin (train, pulse) in which each pulse of one run is compared with its like, -1 where it counts not.

    `kind`: energy_scan, delay_scan or flat_field; the bins are the run's own.
    """
    shape = run["present"].shape
    zeros = np.zeros(shape, np.int64)
    if kind == "flat_field":
        return np.where(run["code"].values == 0, zeros, -1)
    if kind == "delay_scan":
        delay = assign(run["delay"].values, nominal_edges([run], delay_bins))
        return _cells(run, np.zeros((shape[0], 1), np.int64), delay, 1)
    edges = edges_of_energy([run], energy_bins)
    inside = assign(run["delay"].values, nominal_edges([run], delay_bins)) >= 0
    return _cells(run, assign(run["energy"].values, edges)[:, None], np.where(inside, zeros, -1), len(edges) - 1)


def group_scans(runs: Sequence[xr.Dataset]) -> list[list[xr.Dataset]]:
    """Return the delay scans that add up, by fluence and energy."""
    groups: list[list[xr.Dataset]] = []
    for run in sorted(runs, key=lambda r: (float(r["fluence"]), _energy(r))):
        last = groups[-1][0] if groups else None
        same = last is not None and float(last["fluence"]) == float(run["fluence"])
        if last is not None and same and abs(_energy(run) - _energy(last)) <= SAME_ENERGY * _energy(last):
            groups[-1].append(run)
        else:
            groups.append([run])
    return groups


def _energy(run: xr.Dataset) -> float:
    known = run["energy"].values[np.isfinite(run["energy"].values)]
    return float(np.median(known)) if len(known) else np.nan


def _cells(run: xr.Dataset, energy_bin: np.ndarray, delay_bin: np.ndarray, n_energy: int) -> np.ndarray:
    inside = (energy_bin >= 0) & (delay_bin >= 0) & (run["code"].values == 0)
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
