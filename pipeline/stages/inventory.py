"""Inventory of the raw runs: check the sources, audit the files, hash their content."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from pipeline.errors import ConfigError, DataError
from pipeline.euxfel.reader import Run, open_run
from pipeline.euxfel.run_files import RunFiles, open_files
from pipeline.euxfel.sources import lacking
from pipeline.job import Job
from pipeline.stages.base import Context, Made, Stage, number_of
from pipeline.storage import record
from pipeline.storage.hashes import FileHashes, Identity, digest

__all__ = ["INVENTORY", "check_sources", "inventories"]

log = logging.getLogger("trxas")


@dataclass(frozen=True)
class _Inventory(Stage):
    """Inventory stage: its result is a record only. It always runs; files are hashed while other runs are reduced."""

    def runs(self, job: Job) -> list[int | None]:
        """Return all runs, the dark run first."""
        return list(job.all_runs)

    def run(self, context: Context, run: int | None = None) -> bool:
        """Audit a run, and begin to hash the files of it that matter here; unchanged files are not read again."""
        run = number_of(self, run)
        opened = open_run(context.job.raw_run(run), context.job.instrument)
        # also shown in the summary of the run
        for line in opened.audit:
            log.info("run %d: %s", run, line)
        opened.files.close()
        context.opened[run] = opened.files
        context.identities[run] = Identity(lambda: _record(context.job, opened))
        return True

    def recorded_key(self, context: Context, run: int | None) -> str:
        """Return the identity of a run's files; waits until they are hashed."""
        return context.identities[number_of(self, run)].result()


def _record(job: Job, run: Run) -> str:
    """Hash the files of a run that matter for the dataset, and record what was found; returns the key.

    Raises
    ------
    DataError
        If one of them changed since it was opened.
    """
    hashes = FileHashes(job.run_dir(run.number) / "files.json")
    wanted = {role.source for role in _roles(job)} | {run.index.source}
    if run.pattern is not None:
        wanted |= run.pattern.sources
    files = [f for f in run.files.files if wanted & f.sources]
    try:
        found = [hashes.of(f.path) for f in files]
    except OSError as error:
        raise DataError(f"run {run.number}: {error.filename}: {error.strerror}") from error
    run.files.require_unchanged()
    key = digest({"files": found, "instrument": job.profile})
    records = record.Records(job.run_dir(run.number))
    made = record.Inventory(key, [], found, run.audit, dict(run.counts))
    if records.get(INVENTORY.name, record.Inventory) != made:
        records.put(INVENTORY.name, made)
    return key


def _roles(job: Job) -> list[Any]:
    names = (name for name in type(job.instrument).model_fields if name not in ("name", "title"))
    return [role for name in names if (role := job.instrument.role(name)) is not None]


def inventories(job: Job) -> dict[int, record.Inventory]:
    """Return the inventory of each run by run number."""
    found = {n: record.Records(job.run_dir(n)).get(INVENTORY.name, record.Inventory) for n in job.all_runs}
    return {n: one or record.Inventory("") for n, one in found.items()}


def check_sources(job: Job) -> None:
    """Before hours are spent on reading frames, refuse a config whose energy, stage or overridden source no scan holds that needs it.

    A source that some runs hold is not a fault of the config: the others count their pulses as without energy or delay.
    The detector is judged where its frames are sought.

    Raises
    ------
    ConfigError
        Naming run, source and those of the run that look alike.
    """
    wanted = {name: runs for name, runs in _needed(job).items() if runs}
    opened: dict[int, RunFiles | None] = {}
    for name, runs in wanted.items():
        role, first = job.instrument.role(name), ""
        for number in runs if role is not None else []:
            if number not in opened:
                opened[number] = _open(job, number)
            files = opened[number]
            fault = "" if files is None or role is None else lacking(files, role)
            if not fault:
                break
            first = first or f"run {number}: {fault}; `trxas inspect {job.raw_run(number)}` lists all"
        else:
            if first:
                raise ConfigError(f"sources.{name}: {first}")


def _needed(job: Job) -> dict[str, list[int]]:
    """Return the runs in which each role must be: what the config gives by hand need not be recorded."""
    spectra, scans = job.energy_scans, job.delay_scans
    everywhere = [s.run for s in spectra] + [s.run for s in scans]
    named = {str(n): everywhere for n, change in job.config.sources.items() if change is not None and n != "frames"}
    return named | {
        "energy": [s.run for s in spectra] + [s.run for s in scans if s.energy is None],
        "delay_stage": [s.run for s in spectra if s.delay is None] + [s.run for s in scans],
    }


def _open(job: Job, number: int) -> RunFiles | None:
    """Return the files of a run; None where some cannot be read, which is told later and may explain what is missing."""
    try:
        files = open_files(job.raw_run(number))
    except DataError:
        return None
    return None if files.problems else files


def _no_dataset(context: Context, run: int | None, key: str) -> Made:
    return Made({})


INVENTORY = _Inventory(
    name="inventory",
    title="files of run {run}",
    make=_no_dataset,
    makes={},
    store="",
    per_run=True,
)
