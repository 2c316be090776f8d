"""Look at the raw folder of a dataset, and keep the watcher's memory between looks in the output folder."""

from __future__ import annotations

import json
import logging
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from pipeline.euxfel import raw_folder
from pipeline.euxfel.draft import classify
from pipeline.job import Job
from pipeline.stages.code import code_hash
from pipeline.storage.hashes import write_json
from pipeline.watch.decide import Failure, LastProcessing, Look, Memory, Seen, after_failure, look, resting

__all__ = ["look_and_log", "peek", "remember", "remember_failure", "rests"]

log = logging.getLogger("trxas")


def look_and_log(job: Job, now: float) -> Look:
    """Look at the raw folder at a time [s since the epoch], and log the notes that are new."""
    result, memory = _look(job, now)
    _save(job, memory)
    for note in result.notes:
        (log.error if note.severity == "fault" else log.info)("%s", note.text)
    return result


def peek(job: Job, now: float) -> Look:
    """Look as `look_and_log` does, but report nothing."""
    before = _load(job)
    result, memory = _look(job, now)
    _save(job, replace(memory, told=before.told))
    return result


def remember(job: Job, result: Look, version: str) -> None:
    """Store what was published after a look, so that it is not done again until something changes."""
    _save(job, replace(_load(job), processed=LastProcessing(result.key, result.ready, version)))


def remember_failure(job: Job, result: Look | None, error: str, failure: Failure) -> None:
    """Store that processing failed after a look, or that the look itself did: it is not repeated at once, or not at all."""
    memory = _load(job)
    key = "" if result is None else result.key
    _save(job, replace(memory, processed=after_failure(memory.processed, key, error, failure, time.time())))


def rests(job: Job, now: float) -> str | None:
    """Return why there is no look at a time [s since the epoch], or None."""
    return resting(_load(job), now)


def _look(job: Job, now: float) -> tuple[Look, Memory]:
    def faults(number: int) -> list[str]:
        return raw_folder.unreadable(job.raw_run(number))

    def kinds(numbers: list[int]) -> dict[int, str]:
        found, _ = classify(job.raw, job.instrument, numbers)
        return {r["run"]: r["kind"] for r in found}

    return look(
        job.config,
        raw_folder.list_runs(job.raw),
        _load(job),
        now,
        faults=faults,
        kinds=kinds,
        code=code_hash("pipeline.workflow"),
    )


def _path(job: Job) -> Path:
    return job.out / "watch" / f"{job.config.dataset}.json"


def _load(job: Job) -> Memory:
    """Return the stored memory; empty if the file is missing or damaged, so that every run is examined again."""
    try:
        stored: dict[str, Any] = json.loads(_path(job).read_text(encoding="utf-8"))
        runs = {int(n): Seen(**seen) for n, seen in stored["runs"].items()}
        return Memory(runs, stored["told"], LastProcessing(**stored["processed"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Memory()


def _save(job: Job, memory: Memory) -> None:
    stored = asdict(memory)
    if memory != _load(job):
        write_json(_path(job), stored | {"runs": {str(n): seen for n, seen in stored["runs"].items()}})
