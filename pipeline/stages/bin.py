"""From the labelled pulses of all runs to spectra, delay scans, and the quality of every run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.job import Job
from pipeline.science.quality.burst import pulse_groups, resolved
from pipeline.science.quality.noise import without_photons
from pipeline.science.quality.session_design import session_notes
from pipeline.science.spectra.compared import Outside, compared, outside_reference
from pipeline.science.spectra.difference import TrainNoise
from pipeline.science.spectra.pump_off import without_ratio
from pipeline.science.spectra.pump_off_curve import pump_off_curve
from pipeline.science.spectra.reference import flat_constant, noise_of_trains
from pipeline.science.spectra.resampling import Replicates, resampled_differences
from pipeline.science.spectra.scans import at_steps, delay_scans, spectra
from pipeline.stages.base import Context, Made, Stage
from pipeline.stages.bin_quality import quality_of_runs, roles_notes
from pipeline.stages.calibrate import CALIBRATE
from pipeline.stages.label import LABEL, labelled_runs
from schemas.catalogue import note
from schemas.config.axes import BinGrid, BinWidth
from schemas.datasets.measured import BURST_DELAY_SCAN, BURST_SPECTRA, DELAY_SCAN, REFERENCE, REFERENCES, SPECTRA
from schemas.datasets.quality import QUALITY
from schemas.notes import Note

__all__ = ["BIN", "bin_differences", "bin_scans", "resample_scans"]


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
    notes += roles_notes(tree)
    of_energy, of_delay = ({s.run: runs[s.run] for s in kind} for kind in (job.energy_scans, job.delay_scans))
    notes += session_notes(
        of_energy, of_delay, tree["spectra"], tree["delay_scan"], outside.model, usual=job.config.usual
    )
    if outside.model is not None:
        numbers = np.array([*job.flat_fields, *job.pump_off_scans, *of_energy, *of_delay])[list(outside.sources)]
        tree["reference"] = pump_off_curve(outside.model, numbers.tolist(), [*energy_runs, *delay_runs])
    if not _has_reference(runs):
        notes.append(note("beams.no_reference"))
    tree["quality"], said = quality_of_runs(job, runs, outside, tree, of_spectra)
    notes += said
    if job.config.burst.resolve:
        for name, function, chosen, options in (
            ("spectra", spectra, energy_runs, of_spectra),
            ("delay_scan", delay_scans, delay_runs, common),
        ):
            if tree[name]["n_pulses"].size:
                tree[f"burst_{name}"] = _along_burst(job, function, chosen, outside, _flats(job, runs), options)
    return tree, notes


def bin_differences(job: Job, runs: dict[int, xr.Dataset]) -> tuple[xr.Dataset, xr.Dataset]:
    """Return the groups spectra and delay_scan alone, empty where nothing falls into a bin; see `bin_scans`."""
    runs = _at_steps(runs, [s.run for s in job.energy_scans])
    energy_runs, delay_runs, outside, noise, _ = _parts(job, runs)
    common = {"delay_bins": _delay_bins(job), "train_noise": noise, "workers": job.workers}
    cubes, _ = _binned(spectra, energy_runs, outside, energy_bins=_energy_bins(job), **common)
    scans, _ = _binned(delay_scans, delay_runs, outside, **common)
    return cubes, scans


def resample_scans(job: Job, runs: dict[int, xr.Dataset], *, n_draws: int, seed: int) -> Replicates:
    """Return delta_xas of the spectra and delay scans as resampled trains give it; see `resampled_differences`."""
    runs = _at_steps(runs, [s.run for s in job.energy_scans])
    energy_runs, delay_runs = ([runs[s.run] for s in kind] for kind in (job.energy_scans, job.delay_scans))
    bins = {"energy_bins": _energy_bins(job), "delay_bins": _delay_bins(job)}
    cubes, scans = bin_differences(job, runs)
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
    outside, notes = outside_reference(
        flats, still, [*energy_runs, *delay_runs], train_noise=noise, usual=job.config.usual
    )
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


def _make(context: Context, run: int | None, key: str) -> Made:
    job = context.job
    tree, notes = bin_scans(job, labelled_runs(job))
    if CALIBRATE.result(job, key=CALIBRATE.recorded_key(context, None))["/"].attrs.get("photons_relative"):
        tree = {name: without_photons(dataset) for name, dataset in tree.items()}
    return Made(tree, notes)


BIN = Stage(
    name="spectra",
    title="spectra and delay scans",
    make=_make,
    makes={spec.name: spec for spec in (SPECTRA, DELAY_SCAN, REFERENCE, QUALITY, BURST_SPECTRA, BURST_DELAY_SCAN)},
    store="spectra.zarr",
    needs=(LABEL,),
    options=("energy", "delay", "filters", "runs", "burst", "usual"),
)
