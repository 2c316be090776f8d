"""THE FILE TO READ FIRST: the stages in the order in which data flow, in plain Python.

    raw run → frames → pulses → spectra → peaks, kinetics, mixture → product

Every stage looks whether its result is current (same inputs, options and code) and does nothing if it is. `process`
walks them all; the Prefect flow in `flows/` calls the same functions, one task each.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pipeline.compute.workers import Workers
from pipeline.errors import ConfigError, DataError
from pipeline.euxfel.reader import Run, open_run
from pipeline.job import Job
from pipeline.plots import draw_beams, draw_product
from pipeline.results.summary import summarise
from pipeline.science.detector.beam_photons import subtract_intra_train_dark
from pipeline.science.detector.crop import Crop, crop_to_beams
from pipeline.science.labels.roles import assign_roles
from pipeline.stages import fit as fits
from pipeline.stages import passes as ingest
from pipeline.stages.base import CODE, STAGES
from pipeline.stages.bin import bin_scans, resample_scans
from pipeline.stages.calibration_runs import Ledgers, make_calibration, nonlinearity_of
from pipeline.stages.fit_kinetics import SEED
from pipeline.stages.inventory import check_sources
from pipeline.stages.label import fluence_of, labelled, select
from pipeline.stages.model_results import files_of
from pipeline.storage import dos_files, leftovers, store
from pipeline.storage import record as manifest
from pipeline.storage import versions as publish
from pipeline.storage.hashes import FileHashes, Identity, code_hash, code_version, digest, environment
from pipeline.storage.ledger import Ledger
from pipeline.storage.places import Place
from schemas.config.fits import DosColumn
from schemas.datasets.fits import MODEL_RESULTS
from schemas.datasets.stages import PULSES
from schemas.products import GROUPS, SCHEMA_VERSION

__all__ = [
    "STAGES",
    "bin_spectra",
    "calibrate",
    "fit",
    "inventory",
    "label",
    "process",
    "publish_product",
    "reduce_run",
    "restart_from",
    "workers_of",
]

log = logging.getLogger("trxas")

Progress = Callable[[str, int, int], None]
"""Called with a label, what was done and what there is to do."""


def process(job: Job, *, progress: Progress | None = None) -> Place:
    """Take a dataset from raw runs to a published product; returns its version, a folder or a URL.

    Raises
    ------
    TrxasError
        With one line that names the run, the source, the value and the way out.
    """
    check_sources(job)
    inputs = {}
    for run in job.all_runs:
        try:
            inputs[run] = inventory(job, run)
        except DataError as error:
            job = job.without(run, str(error))
    calibrate(job, inputs, progress=progress)
    with workers_of(job) as workers:
        for run in job.reduced_runs:
            try:
                reduce_run(job, run, inputs[run], workers=workers, progress=progress)
            except DataError as error:
                job = job.without(run, str(error))
    label(job)
    bin_spectra(job)
    fit(job)
    return publish_product(job)


# --- raw run ---------------------------------------------------------------------------------------------------------


def inventory(job: Job, number: int) -> Identity:
    """Audit a run, and begin to hash the files of it that matter here; unchanged files are not read again."""
    run = _open(job, number)
    # the summary shows it too, beside what became of the run
    for line in run.audit:
        log.info("run %d: %s", number, line)
    return Identity(lambda: _hash(job, run))


def _hash(job: Job, run: Run) -> str:
    folder = job.run_dir(run.number)
    hashes = FileHashes(folder / "files.json")
    wanted = {job_role.source for job_role in _roles(job)} | {run.index.source}
    files = [f for f in run.files.files if wanted & (f.control_sources | f.instrument_sources)]
    found = [hashes.of(Path(f.filename)) for f in files]
    key = digest({"files": found, "instrument": job.profile})
    if not manifest.is_current(folder, "inventory", key):
        manifest.record(folder, "inventory", key, files=found, audit=run.audit, counts=run.counts)
    return key


def _roles(job: Job) -> list[Any]:
    return [role for name in type(job.instrument).model_fields if (role := _role(job, name)) is not None]


def _role(job: Job, name: str) -> Any:
    return None if name in ("name", "title") else job.instrument.role(name)


def _open(job: Job, number: int) -> Run:
    return open_run(job.raw_run(number), job.instrument)


# --- calibration -----------------------------------------------------------------------------------------------------


def calibrate(job: Job, inputs: dict[int, Identity], *, progress: Progress | None = None) -> str:
    """Make the calibration of the dataset from its dark and flat-field runs; returns its hash.

    Without a flat-field run the beams are sought in the first scan, and the gain must be given.
    """
    dark, lit = job.config.runs.dark, job.reduced_runs[0]
    dark_key, lit_key = inputs[dark].result(), inputs[lit].result()
    if job.config.detector.calibration != "auto":
        return _made_before(job, job.config.detector.calibration)
    nonlinearity = nonlinearity_of(job)
    code = code_hash(CODE["calibration"])
    key = digest(
        {
            "inputs": [dark_key, lit_key],
            "options": job.options("detector", "beams"),
            "table": None if isinstance(nonlinearity, str) else nonlinearity.tolist(),
            "code": code,
        }
    )
    folder, ledgers = job.calibrations / key, Ledgers.of(job, dark_key, lit_key, code)
    if not manifest.is_current(folder, "calibration", key, "calibration.zarr"):
        calibration, image = make_calibration(job, nonlinearity, ledgers=ledgers, progress=progress)
        store.write_dataset(folder / "calibration.zarr", calibration)
        store.write_dataset(folder / "image.zarr", image.rename("image").to_dataset())
        draw_beams(image, calibration, job.roles, folder / "beams.png")
        manifest.record(folder, "calibration", key, dark=dark, flat_field=lit)
    manifest.record(job.stage_dir, "calibration", key)
    ledgers.remove()
    return key


def _made_before(job: Job, key: str) -> str:
    there = sorted(p.parent.name for p in job.calibrations.glob("*/calibration.zarr"))
    if key not in there:
        raise ConfigError(
            f"detector.calibration: {key!r} is not in {job.calibrations}; there: {', '.join(there) or 'none'}"
        )
    manifest.record(job.stage_dir, "calibration", key)
    return key


# --- frames and pulses -----------------------------------------------------------------------------------------------


def workers_of(job: Job) -> Workers:
    """Return the workers that the config asks for; a cluster starts when it is first needed."""
    return Workers(job.config.compute, job.out / "logs")


def reduce_run(
    job: Job, number: int, inputs: Identity, *, workers: Workers | None = None, progress: Progress | None = None
) -> bool:
    """Reduce a run to pulses, and fill its frames cube in the same pass; returns whether there was anything to do.

    A current frames cube is reduced again without the raw run. Finished blocks of trains are entered in a ledger, from
    which a killed run goes on. Workers are those of `workers_of`, for this run only unless given.
    """
    folder = job.run_dir(number)
    calibration_key = manifest.read(job.stage_dir)["calibration"]["key"]
    calibration = store.open_dataset(job.calibrations / calibration_key / "calibration.zarr").load()
    crop = _crop(job, calibration)
    frames_key = digest({"inputs": inputs.result(), "crop": str(crop), "code": code_hash(CODE["frames"])})
    key = digest({"frames": frames_key, "calibration": calibration_key, "code": code_hash(CODE["pulses"])})
    ledger = Ledger(folder / "blocks", key)
    if manifest.is_current(folder, "pulses", key, "pulses.zarr"):
        if ledger.is_open:
            # killed between the record and this
            ledger.remove()
        return False
    show = None if progress is None else lambda done, total: progress(f"run {number}", done, total)
    stored = crop is not None and manifest.is_current(folder, "frames", frames_key, "frames.zarr", "pulses.zarr")
    with nullcontext(workers) if workers is not None else workers_of(job) as where:
        if stored:
            former = store.open_dataset(folder / "pulses.zarr").load()
            labels = former.drop_vars(["photons", "photons_stderr", "n_saturated", "beam"])
            pulses = ingest.reduce_stored(
                folder / "frames.zarr", labels, calibration, workers=where, ledger=ledger, progress=show
            )
        else:
            manifest.forget(folder, "frames", "pulses")
            pulses = ingest.reduce_raw(
                _open(job, number),
                calibration,
                keep=crop,
                cube=folder / "frames.zarr" if crop is not None else None,
                workers=where,
                memory=job.config.compute.memory,
                ledger=ledger,
                progress=show,
            )
    if crop is not None:
        store.replace_coords(folder / "frames.zarr", {"present": pulses["present"].values})
    dim = pulses["photons"].max("beam") < 0.2 * pulses["photons"].max("beam").median()
    pulses = subtract_intra_train_dark(pulses, pulses["dark_frame"] & dim)
    pulses = pulses.assign_coords(
        beam=("beam", np.array(job.roles[: pulses.sizes["beam"]])),
        delay=(("train", "pulse"), np.full(pulses["present"].shape, np.nan)),
        nominal_delay=("train", np.full(pulses.sizes["train"], np.nan)),
        fluence=fluence_of(job, number),
    )
    store.write_dataset(folder / "pulses.zarr", PULSES.describe(pulses))
    # in one go: a cube is current only together with the pulses that hold its labels
    made = {"frames": {"key": frames_key}} if crop is not None else {}
    manifest.update(folder, {**made, "pulses": {"key": key, "n_blank": pulses.attrs["n_blank"]}}, drop=("labels",))
    ledger.remove()
    return True


def _crop(job: Job, calibration: xr.Dataset) -> Crop | None:
    keep = job.config.frames.keep
    if keep == "none":
        return None
    if keep == "beams":
        return crop_to_beams(calibration)
    return Crop(slice(0, calibration.attrs["module_rows"]), slice(0, calibration.attrs["module_columns"]))


# --- labels ----------------------------------------------------------------------------------------------------------


def label(job: Job) -> bool:
    """Give every pulse its delay and fluence and every patch its role; returns whether there was anything to do.

    These depend on a few numbers of the config only, so a better t0 costs seconds and reads no frames.
    """
    keys = {n: manifest.read(job.run_dir(n))["pulses"]["key"] for n in job.reduced_runs}
    key = digest(
        {
            "pulses": keys,
            "options": job.options("runs", "delay", "beams", "filters"),
            "code": code_hash(CODE["labels"]),
        }
    )
    marked = all(manifest.read(job.run_dir(n)).get("labels", {}).get("key") == key for n in job.reduced_runs)
    if marked and manifest.is_current(job.stage_dir, "labels", key):
        return False
    runs = {n: labelled(job, n) for n in job.reduced_runs}
    flat = job.config.runs.flat_field
    scans = [r for n, r in runs.items() if n != flat]
    roles, notes = job.roles, list[str]()
    if not job.roles_are_given:
        roles, notes = assign_roles(scans, runs.get(flat) if flat is not None else None, job.roles)
    for number, run in runs.items():
        folder = job.run_dir(number)
        found = run.assign_coords(beam=("beam", np.array(roles[: run.sizes["beam"]])))
        store.write_dataset(folder / "pulses.zarr", PULSES.describe(found.drop_vars("drop_reason")))
        if (folder / "frames.zarr").exists():
            store.replace_coords(folder / "frames.zarr", {"delay": run["delay"].values})
        manifest.record(folder, "labels", key)
    manifest.record(job.stage_dir, "labels", key, roles=roles, notes=notes)
    return True


# --- spectra ---------------------------------------------------------------------------------------------------------


def bin_spectra(job: Job) -> bool:
    """Bin the pulses of all runs into spectra and delay scans; returns whether there was anything to do."""
    key = digest(
        {
            "labels": manifest.read(job.stage_dir)["labels"]["key"],
            "options": job.options("energy", "delay", "filters", "runs", "burst"),
            "code": code_hash(CODE["spectra"]),
        }
    )
    if manifest.is_current(job.stage_dir, "spectra", key, "spectra.zarr"):
        return False
    tree, warnings = bin_scans(job, _selected(job))
    described = {name: GROUPS[name].describe(ds) for name, ds in tree.items()}
    store.write_tree(job.stage_dir / "spectra.zarr", xr.DataTree.from_dict({"/": xr.Dataset(), **described}))
    manifest.record(job.stage_dir, "spectra", key, warnings=warnings)
    return True


def _selected(job: Job) -> dict[int, xr.Dataset]:
    """Load the pulses of all runs, with the code that says which count."""
    runs = {n: store.open_dataset(job.run_dir(n) / "pulses.zarr").load() for n in job.reduced_runs}
    return {n: r.assign(drop_reason=select(job, r, n)) for n, r in runs.items()}


# --- fits and product ------------------------------------------------------------------------------------------------


def fit(job: Job) -> bool:
    """Fit peaks, kinetics, components and mixture to the spectra; returns whether there was anything to do."""
    models = job.config.mixture.models
    files = sorted({job.base / dos.file for pair in models.values() for dos in pair})
    hashes = FileHashes(job.stage_dir / "dos.json")
    key = digest(
        {
            "spectra": manifest.read(job.stage_dir)["spectra"]["key"],
            "options": job.options("peaks", "kinetics", "mixture"),
            "dos": [hashes.of(path)["sha256"] for path in files if path.is_file()],
            "code": code_hash(CODE["fits"]),
        }
    )
    if manifest.is_current(job.stage_dir, "fits", key, "fits.zarr"):
        return False
    tree = store.open_tree(job.stage_dir / "spectra.zarr")
    curves = {name: (_dos(job, ground), _dos(job, excited)) for name, (ground, excited) in models.items()}
    replicates = None
    if job.config.kinetics.bootstrap == "trains":
        replicates = resample_scans(job, _selected(job), n_draws=job.config.kinetics.n_bootstrap, seed=SEED)
    results, warnings = fits.fit_all(
        tree["spectra"].to_dataset().load(), tree["delay_scan"].to_dataset().load(), job.config, curves, replicates
    )
    specs = {**GROUPS, MODEL_RESULTS.name: MODEL_RESULTS}
    described = {name: specs[name].describe(ds) for name, ds in results.items()}
    store.write_tree(job.stage_dir / "fits.zarr", xr.DataTree.from_dict({"/": xr.Dataset(), **described}))
    manifest.record(job.stage_dir, "fits", key, warnings=warnings)
    return True


def _dos(job: Job, dos: DosColumn) -> xr.DataArray:
    return dos_files.read_dos(job.base / dos.file, dos.column, energy_zero=job.config.mixture.energy_zero)


def publish_product(job: Job) -> Place:
    """Assemble, validate and publish the product; returns the version that holds it, a folder or a URL.

    The same arrays from the same config, inputs and code are not published twice.
    """
    stages = manifest.read(job.stage_dir)
    key = digest(
        {
            "fits": stages["fits"]["key"],
            "config": job.options("dataset", "sample"),
            "failed": dict(job.failed),
            "code": code_hash(CODE["product"]),
        }
    )
    # what was published where: the same stages may serve a folder and a bucket
    entry = "product" if job.target is None else f"product at {job.target}"
    latest = publish.latest(job.product_dir)
    leftovers.sweep(job.product_dir)
    if (
        latest is not None
        and manifest.is_current(job.stage_dir, entry, key)
        and latest.name == stages[entry]["version"]
    ):
        return latest
    groups: dict[str, xr.Dataset] = {"/": xr.Dataset()}
    for name in ("spectra.zarr", "fits.zarr"):
        tree = store.open_tree(job.stage_dir / name)
        groups |= {f"/{n}": node.to_dataset().load() for n, node in tree.children.items()}
    attachments = files_of(groups.pop(f"/{MODEL_RESULTS.name}"))
    audits = {n: manifest.read(job.run_dir(n)).get("inventory", {}) for n in job.all_runs}
    attrs = {
        "schema_version": SCHEMA_VERSION,
        "dataset": job.config.dataset,
        "code_version": code_version(),
        "code_hash": code_hash(module for modules in CODE.values() for module in modules),
        "config": job.config.model_dump_json(by_alias=True),
        "instrument": {"name": job.instrument.name, "hash": digest(job.profile), "roles": job.profile},
        "inputs": {f"r{n:04d}": audit.get("files", []) for n, audit in audits.items()},
        "calibration": stages["calibration"]["key"],
        "environment": environment(),
        "beam_order": stages["labels"]["roles"],
    }
    lost = [f"run {n} is left out: {reason}" for n, reason in job.failed.items()]
    notes = [*lost, *stages["labels"]["notes"], *stages["spectra"]["warnings"], *stages["fits"]["warnings"]]
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = attrs
    summary = summarise(tree, job.config, audits={n: a.get("audit", []) for n, a in audits.items()}, warnings=notes)
    beams_figure = job.calibrations / stages["calibration"]["key"] / "beams.png"
    version = publish.publish(
        job.product_dir,
        tree,
        summary,
        draw=draw_product,
        extra_figures=[beams_figure],
        attachments=attachments,
        work=job.stage_dir,
    )
    manifest.record(job.stage_dir, entry, key, version=version.name)
    return version


def _was_processed(job: Job) -> bool:
    return any(manifest.read(f) for f in (job.stage_dir, *map(job.run_dir, job.reduced_runs)))


def restart_from(job: Job, stage: str) -> None:
    """Forget a stage and what follows, so that the next `process` runs it again."""
    if stage not in STAGES:
        raise ConfigError(f"--from {stage}: not one of {', '.join(STAGES)}")
    if not _was_processed(job):
        log.warning(
            "%s: nothing was processed there, so everything runs from raw data (--out: another folder)", job.out
        )
    later = STAGES[STAGES.index(stage) :]
    per_run = [s for s in ("frames", "pulses") if s in later]
    for number in job.reduced_runs:
        manifest.forget(job.run_dir(number), *per_run)
        if per_run:
            Ledger(job.run_dir(number) / "blocks", "").remove()
    manifest.forget(job.stage_dir, *(s for s in later if s not in per_run))
