"""From the labelled pulses of all runs to spectra, delay scans, and the quality of every run."""

from __future__ import annotations

from collections.abc import Callable
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
from pipeline.science.quality.burst import pulse_groups, resolved
from pipeline.science.quality.noise import BLUR, SETTLED, Early, profile_of_burst, run_quality
from pipeline.science.spectra.compared import Outside, compared, has_both_conditions, outside_reference
from pipeline.science.spectra.difference import TrainNoise
from pipeline.science.spectra.pump_off import without_ratio
from pipeline.science.spectra.reference import EARLY, flat_constant, noise_of_trains
from pipeline.science.spectra.resampling import Replicates, resampled_differences
from pipeline.science.spectra.scans import at_steps, delay_scans, quality_cells, spectra
from pipeline.science.sums.edges import edges_of_delay, edges_of_energy
from pipeline.stages.base import Context, Made, Stage
from pipeline.stages.inventory import inventories
from pipeline.stages.label import LABEL, labelled_runs
from schemas.catalogue import note
from schemas.config.axes import BinGrid, BinWidth
from schemas.datasets.measured import BURST_DELAY_SCAN, BURST_SPECTRA, DELAY_SCAN, REFERENCES, SPECTRA
from schemas.datasets.quality import QUALITY
from schemas.notes import Note

__all__ = ["BIN", "bin_scans", "resample_scans"]


def bin_scans(job: Job, runs: dict[int, xr.Dataset]) -> tuple[dict[str, xr.Dataset], list[Note]]:
    """Return the groups spectra, delay_scan, quality and, on request, burst, and what a person must know about them.

    Parameters
    ----------
    job
        The dataset.
    runs
        Pulses of every run by number, with `drop_reason`.

    Raises
    ------
    DataError
        If no scan holds a pulse that falls into a bin.
    """
    energy_bins, delay_bins = _energy_bins(job), _delay_bins(job)
    runs = _at_steps(runs, [s.run for s in job.energy_scans])
    energy_runs, delay_runs, outside, noise, notes = _parts(job, runs)
    common = {"delay_bins": delay_bins, "train_noise": noise, "workers": job.workers}
    of_spectra = {"energy_bins": energy_bins, **common}
    tree = {}
    for name, function, chosen, options in (
        ("spectra", spectra, energy_runs, of_spectra),
        ("delay_scan", delay_scans, delay_runs, common),
    ):
        tree[name], said = _binned(function, chosen, outside, **options)
        notes += said
    if not any(ds["n_pulses"].size for ds in tree.values()):
        raise DataError(
            f"{job.config.dataset}: {'; '.join(n.text for n in notes) or 'no scan holds a pulse that counts'}"
        )
    if all(set(np.unique(ds["reference"])) <= {REFERENCES[0]} for ds in tree.values()):
        notes = [n for n in notes if not n.code.startswith("reference.")]
    delay_edges = _delay_edges({s.run: runs[s.run] for s in job.energy_scans}, delay_bins)
    axes = {n: _axes(runs[n], energy_bins, edges) for n, edges in delay_edges.items()}
    notes += [said for n, found in axes.items() for said in _blurred(n, runs[n], found["delay_spread"])]
    if not _has_reference(runs):
        notes.append(note("beams.no_reference"))
    quality = _quality(job, runs, outside, of_spectra, delay_edges, axes).assign(_stderr_ratios(tree))
    tree["quality"] = QUALITY.describe(quality.assign_coords(_of_scans(tree["delay_scan"])))
    if job.config.burst.resolve:
        for name, function, chosen, options in (
            ("spectra", spectra, energy_runs, of_spectra),
            ("delay_scan", delay_scans, delay_runs, common),
        ):
            if tree[name]["n_pulses"].size:
                tree[f"burst_{name}"] = _along_burst(job, function, chosen, outside, _flats(job, runs), options)
    return tree, notes


def resample_scans(job: Job, runs: dict[int, xr.Dataset], *, n_draws: int, seed: int) -> Replicates:
    """Return delta_xas of the spectra and delay scans as resampled trains give it; see `resampled_differences`."""
    runs = _at_steps(runs, [s.run for s in job.energy_scans])
    energy_runs, delay_runs, outside, noise, _ = _parts(job, runs)
    bins = {"energy_bins": _energy_bins(job), "delay_bins": _delay_bins(job)}
    cubes, _ = _binned(spectra, energy_runs, outside, train_noise=noise, **bins)
    scans, _ = _binned(delay_scans, delay_runs, outside, train_noise=noise, delay_bins=bins["delay_bins"])
    return resampled_differences(energy_runs, delay_runs, cubes, scans, **bins, n_draws=n_draws, seed=seed)


def _parts(
    job: Job, runs: dict[int, xr.Dataset]
) -> tuple[list[xr.Dataset], list[xr.Dataset], Outside, TrainNoise, list[Note]]:
    """Return energy scans, delay scans, the reference of rows without one, noise that pulses of a train share, and notes."""
    energy_runs = [runs[s.run] for s in job.energy_scans]
    delay_runs = [runs[s.run] for s in job.delay_scans]
    flats = _flats(job, runs)
    noise = noise_of_trains(flats[:1]) if flats else {}
    still = [runs[n] for n in job.pump_off_scans]
    outside, notes = outside_reference(flats, still, [*energy_runs, *delay_runs], train_noise=noise)
    return energy_runs, delay_runs, outside, noise, notes


def _flats(job: Job, runs: dict[int, xr.Dataset]) -> list[xr.Dataset]:
    return [runs[n] for n in job.flat_fields]


def _has_reference(runs: dict[int, xr.Dataset]) -> bool:
    return "reference" in [str(b) for b in next(iter(runs.values()))["beam"].values]


def _along_burst(
    job: Job,
    function: Callable[..., xr.Dataset],
    runs: list[xr.Dataset],
    outside: Outside,
    flats: list[xr.Dataset],
    options: dict[str, Any],
) -> xr.Dataset:
    """Return the difference by pulse index. Each group has its own constant: memory cells are not quite alike."""
    wanted = job.config.burst.groups
    n_pulses = max(r.sizes["pulse"] for r in runs)
    prepared = [outside.prepared(run) for run in runs]
    n_bins = function(prepared, **options)["n_pulses"].size
    groups = pulse_groups(n_pulses, n_bins, None if wanted == "auto" else wanted)
    constants = []
    for group in groups:
        try:
            still = [without_ratio(f, outside.model) if outside.applied and outside.model else f for f in flats[:1]]
            constants.append(outside.constant if not flats else flat_constant(still, pulses=group))
        except DataError:
            constants.append(outside.constant)
    return resolved(function, prepared, groups, constants, **options)


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


def _at_steps(runs: dict[int, xr.Dataset], scans: list[int]) -> dict[int, xr.Dataset]:
    """Return the runs with the energies of stepping scans freed from the noise of the encoder."""
    return runs | dict(zip(scans, at_steps([runs[n] for n in scans]), strict=True))


def _binned(
    function: Callable[..., xr.Dataset], runs: list[xr.Dataset], outside: Outside, **options: Any
) -> tuple[xr.Dataset, list[Note]]:
    nothing = function([], **options)
    if not runs:
        return nothing, []
    try:
        return compared(function, runs, outside, **options), []
    except DataError as error:
        return nothing, [note("bins.empty", reason=error)]


def _energy_bins(job: Job) -> Any:
    bins = job.config.energy.bins
    if isinstance(bins, BinGrid):
        return (bins.start, bins.stop, bins.step)
    return None if bins == "auto" else bins


def _delay_bins(job: Job) -> Any:
    bins = job.config.delay.bin
    if isinstance(bins, BinWidth):
        return bins.width
    return None if bins == "auto" else bins


def _quality(
    job: Job,
    runs: dict[int, xr.Dataset],
    outside: Outside,
    options: dict[str, Any],
    delay_edges: dict[int, np.ndarray],
    axes: dict[int, dict[str, float]],
) -> xr.Dataset:
    """Return the group `/quality`: per run, what became of its frames and pulses, and how good they are."""
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
            "pulses_without_pump": int(((inside >= 0) & (run["condition"].values == OFF)).sum()),
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


def _make(context: Context, run: int | None, key: str) -> Made:
    job = context.job
    tree, notes = bin_scans(job, labelled_runs(job))
    return Made(tree, notes)


BIN = Stage(
    name="spectra",
    title="spectra and delay scans",
    make=_make,
    makes={spec.name: spec for spec in (SPECTRA, DELAY_SCAN, QUALITY, BURST_SPECTRA, BURST_DELAY_SCAN)},
    store="spectra.zarr",
    needs=(LABEL,),
    options=("energy", "delay", "filters", "runs", "burst"),
)
