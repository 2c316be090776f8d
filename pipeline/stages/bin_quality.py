"""The quality of every run: what became of its frames and pulses, how good they are, and what a person must know of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.job import Job
from pipeline.science.labels.condition import OFF, ON
from pipeline.science.labels.selection import REASONS, count_reasons, only_condition
from pipeline.science.labels.timing import delay_spread
from pipeline.science.quality.agreement import FIGURES, compare_runs
from pipeline.science.quality.backlash import backlash
from pipeline.science.quality.light import border_change, intensity_test
from pipeline.science.quality.noise import BLUR, SETTLED, Early, profile_of_burst, run_quality
from pipeline.science.spectra.compared import Outside, has_both_conditions
from pipeline.science.spectra.reference import EARLY
from pipeline.science.spectra.scans import quality_cells
from pipeline.science.sums.edges import edges_of_delay, edges_of_energy
from pipeline.stages.inventory import inventories
from schemas.catalogue import note
from schemas.datasets.quality import QUALITY
from schemas.notes import Note

__all__ = ["AXES", "quality_of_runs", "roles_notes"]

WRONG_ROLE = 0.01
"""Difference before time zero [OD] that no drift makes …"""
WRONG_SIGMAS = 4.0
"""… and how many of its errors it must be."""


def quality_of_runs(
    job: Job, runs: dict[int, xr.Dataset], outside: Outside, tree: dict[str, xr.Dataset], options: dict[str, Any]
) -> tuple[xr.Dataset, list[Note]]:
    """Return the group `/quality`: per run, what became of its frames and pulses, and how good they are; and notes.

    Parameters
    ----------
    job
        The dataset.
    runs
        Pulses of every run by number, with all labels.
    outside
        Reference of runs without one of their own.
    tree
        The groups spectra and delay_scan.
    options
        Of the spectra: energy_bins, delay_bins, train_noise.
    """
    scans = {s.run: runs[s.run] for s in job.energy_scans}
    delay_edges = _delay_edges(scans, options["delay_bins"])
    axes = {n: _axes(runs[n], options["energy_bins"], edges) for n, edges in delay_edges.items()}
    table = _table(job, runs, outside, options, delay_edges, axes)
    quality = table.assign(_stderr_ratios(tree)).assign_coords(_of_scans(tree["delay_scan"]))
    notes = [said for n, found in axes.items() for said in _blurred(n, runs[n], found["delay_spread"])]
    return QUALITY.describe(quality), notes


def roles_notes(tree: dict[str, xr.Dataset]) -> list[Note]:
    """Say so where the difference before time zero is as large as an optical density: a beam has the wrong role."""
    for dataset in tree.values():
        early = dataset["delta_xas"].where(dataset["delay"] < EARLY)
        error = np.hypot(dataset["delta_xas_stderr"], dataset["delta_xas_stderr_systematic"].fillna(0.0))
        for k, fluence in enumerate(dataset["fluence"].values.tolist()):
            row = {dataset["fluence"].dims[0]: k}
            value, sigma = early.isel(row).values, xr.DataArray(error).isel(row).values
            known = np.isfinite(value) & np.isfinite(sigma)
            if known.sum() < 2:
                continue
            mean, spread = float(np.mean(value[known])), float(np.mean(sigma[known]))
            if abs(mean) > max(WRONG_SIGMAS * spread, WRONG_ROLE):
                return [note("beams.roles_wrong", fluence=fluence, value=1e3 * mean, stderr=1e3 * spread)]
    return []


def _table(
    job: Job,
    runs: dict[int, xr.Dataset],
    outside: Outside,
    options: dict[str, Any],
    delay_edges: dict[int, np.ndarray],
    axes: dict[int, dict[str, float]],
) -> xr.Dataset:
    """Return what is known of every run (run)."""
    rows, profiles = [], []
    bins = {n: options[n] for n in ("energy_bins", "delay_bins")}
    found = inventories(job)
    agreement = compare_runs(
        {s.run: runs[s.run] for s in job.energy_scans},
        {s.run: runs[s.run] for s in job.delay_scans},
        train_noise=options["train_noise"],
        **bins,
    )
    for number, run in runs.items():
        kind = job.config.kind_of(number)
        science = kind in ("energy_scan", "delay_scan")
        both = science and has_both_conditions(run)
        seen = only_condition(run, ON) if both else run
        try:
            own = delay_edges.get(number, bins["delay_bins"])
            cell = quality_cells(seen, kind=kind, **(bins | {"delay_bins": own}))
            inside = quality_cells(run, kind=kind, **(bins | {"delay_bins": own})) if both else cell
        except DataError:
            # a run without energy or delay has no bins, but its pulses are still counted by drop reason
            cell = inside = np.full(run["present"].shape, -1)
        reasons = count_reasons(
            np.where(
                (run["drop_reason"].values == 0) & (inside < 0),
                REASONS.index("outside_bins"),
                run["drop_reason"].values,
            )
        )
        counts = found[number].counts
        at_one_delay = kind == "energy_scan" and np.isfinite(run["nominal_delay"].values).any()
        row = {
            "run_fluence": float(run["fluence"]),
            "run_delay": float(np.nanmedian(run["nominal_delay"])) if at_one_delay else np.nan,
            "frames_expected": (run.sizes["train"] + counts.get("missing", 0)) * run.sizes["pulse"],
            "frames_read": int(run["present"].sum()),
            "frames_blank": int(run["blank"].sum()),
            "pulses_used": reasons.pop("used"),
            "pulses_without_pump": int(((inside >= 0) & (only_condition(run, OFF)["drop_reason"].values == 0)).sum()),
            "trains_missing": counts.get("missing", 0),
            "trains_partial": counts.get("partial", 0),
            "trains_suspect": counts.get("suspect", 0),
            **{
                f"trains_{why}": counts.get(why, 0)
                for why in ("truncated", "misindexed", "duplicate", "duplicate_pulse")
            },
            "sequences_missing": counts.get("missing_sequences", 0),
            **{f"dropped_{reason}": n for reason, n in reasons.items()},
            **run_quality(
                seen if both or not science else outside.prepared(run),
                cell,
                along="delay" if kind == "delay_scan" else "energy",
                early=_early(run, inside, outside) if science else None,
                train_noise=options["train_noise"],
            ),
            **intensity_test(
                seen,
                cell,
                along="delay" if kind == "delay_scan" else "energy",
                train_noise=options["train_noise"],
            ),
            **border_change(run if kind == "energy_scan" else run.drop_vars("border", errors="ignore")),
            **agreement.get(number, dict.fromkeys(FIGURES, np.nan)),
            **axes.get(number, dict.fromkeys(AXES, np.nan)),
        }
        rows.append(row)
        profiles.append(profile_of_burst(seen, cell, along="delay" if kind == "delay_scan" else "energy"))
    data: dict[str, Any] = {name: ("run", np.array([row[name] for row in rows])) for name in rows[0]}
    n_pulses = max(run.sizes["pulse"] for run in runs.values())
    for k, name in enumerate(("burst_profile", "burst_profile_stderr")):
        padded = [np.pad(p[k], (0, n_pulses - len(p[k])), constant_values=np.nan) for p in profiles]
        data[name] = (("run", "pulse"), np.stack(padded))
    coords = {"run": np.array(list(runs), np.int64), "pulse": np.arange(n_pulses)}
    return xr.Dataset(data, coords=coords)


def _early(run: xr.Dataset, cell: np.ndarray, outside: Outside) -> Early:
    """Return the pulses of a run and the constant with which those before time zero must agree."""
    if has_both_conditions(run):
        return Early(run, cell, None)
    return Early(outside.prepared(run), cell, outside.constant)


AXES = ("backlash", "backlash_stderr", "delay_spread")


def _delay_edges(scans: dict[int, xr.Dataset], delay_bins: Any) -> dict[int, np.ndarray]:
    """Return the delay bins of each energy scan; none where no run has a delay, which is said elsewhere."""
    try:
        return dict(zip(scans, edges_of_delay(list(scans.values()), delay_bins), strict=True))
    except DataError:
        return {}


def _axes(run: xr.Dataset, energy_bins: Any, delay_edges: np.ndarray) -> dict[str, float]:
    """Return how far the axes of an energy scan can be trusted: play of the drive, spread of the delays in a bin."""
    value, error = np.nan, np.nan
    if np.isfinite(run["energy"].values).any():
        value, error = backlash(run, edges_of_energy([run], energy_bins))
    return {"backlash": value, "backlash_stderr": error, "delay_spread": delay_spread(run, delay_edges)}


def _blurred(number: int, run: xr.Dataset, spread: float) -> list[Note]:
    """Say so where the delays [ps] of an energy scan spread in a bin while the signal changes."""
    if spread > BLUR and EARLY < float(np.nanmedian(run["delay"])) < SETTLED:
        return [note("bins.delay_blur", run=number, spread_fs=1e3 * spread)]
    return []


def _stderr_ratios(tree: dict[str, xr.Dataset]) -> dict[str, xr.DataArray]:
    """Return error from the data over error from photon noise, per bin and as the mean over a spectrum or scan."""
    spectra, scan = tree["spectra"], tree["delay_scan"]
    of_spectra, of_scan = (d["delta_xas_stderr"] / d["delta_xas_stderr_shot"] for d in (spectra, scan))
    of_scan = of_scan.drop_vars(["fluence", "energy"], errors="ignore")
    return {
        "stderr_ratio": of_spectra,
        "stderr_ratio_mean": of_spectra.mean("energy"),
        "stderr_ratio_scan": of_scan.rename(delay="scan_delay"),
        "stderr_ratio_scan_mean": of_scan.mean("delay"),
    }


def _of_scans(scan: xr.Dataset) -> dict[str, tuple[str, np.ndarray]]:
    """Return what tells the scans apart, under names that do not clash with the axes of the spectra."""
    return {f"scan_{n}": ("scan", scan[n].values) for n in ("fluence", "energy")}
