"""What the runs hold: sources checked, files audited, contents identified."""

from __future__ import annotations

from pipeline.errors import ConfigError, DataError
from pipeline.euxfel.run_files import RunFiles, open_files
from pipeline.euxfel.sources import lacking
from pipeline.job import Job

__all__ = ["check_sources"]


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
