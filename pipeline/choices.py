"""A sweep: the stages that a choice of the analysis touches, run for each of its values, beside the dataset and not in it.

What is stored for a dataset must keep saying what its own config says, and no version may come from a choice that was only
tried. So every choice works in a folder of its own under `sweeps/`, which begins as hard links to the stores of the dataset:
stages before the choice are current there, those behind it write their own. Stores are replaced as a whole and never written
into (coordinates of the frames cube are, and are copied), so a link shows what was there when the sweep began, even if the
dataset is processed anew meanwhile. The folders are removed in the end; table and figure stay.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import multiprocessing
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import xarray as xr

from pipeline.errors import ProductError, TrxasError
from pipeline.job import Job, load_job
from pipeline.plots.sweep_figure import draw_sweep
from pipeline.results.sweep import Choice, Outcome, assignments_of, sweep_table, write_table
from pipeline.stages.base import Progress, Stage
from pipeline.stages.fit import FIT
from pipeline.stages.inventory import INVENTORY
from pipeline.stages.publish import PUBLISH
from pipeline.storage import layout, leftovers
from pipeline.storage.claim import claimed
from pipeline.storage.hashes import Identity
from pipeline.storage.record import Record
from pipeline.workflow import STAGES, context_of, run_stages

__all__ = ["Swept", "parallel_pays", "run_choices"]

log = logging.getLogger("trxas")

START = 6.0
"""Time that processes need to begin [s]: imports, and compiled code from the disk."""
MISSING = ("peaks.not_fitted", "kinetics.none", "kinetics.not_fitted", "mixture.no_late_spectrum", "mixture.not_fitted")
"""Notes that say why a number is not there."""
FILES = ("raw", "instrument", "sources", "runs")
"""Parts of a config that say which files are read."""


@dataclass(frozen=True)
class Swept:
    """Where the results of a sweep are."""

    folder: Path
    """Table and figure."""
    table: xr.Dataset
    """As in `schemas.datasets.swept_numbers`."""
    failed: Mapping[int, str]
    """Numbers of the choices that gave nothing, with the reason."""


@dataclass(frozen=True)
class _Trial:
    """All that a process needs to try one choice."""

    config: Path
    choice: Choice
    common: Path
    folder: Path
    reads_files: bool
    left_out: Mapping[int, str] = field(default_factory=dict)


def run_choices(
    config: Path,
    job: Job,
    choices: Sequence[Choice],
    *,
    progress: Progress = lambda text, done, total: None,
    wait: float | None = None,
) -> Swept:
    """Try choices of the analysis on a processed dataset, and write `table.csv` and `sweep.png` under `sweeps/`.

    Parameters
    ----------
    config, job
        The dataset, as `load_job` gives it.
    choices
        Values of keys of the config; all have the same keys.
    progress
        Called with the number of choices that were tried.
    wait
        How long to wait for another process that works on the dataset [s].

    Raises
    ------
    ConfigError
        If the config takes none of the choices.
    ProductError
        If nothing was processed there.
    TrxasError
        If what the choices have in common cannot be made.
    """
    _check(config, choices)
    if not FIT.records(job):
        raise ProductError(f"{job.out}: nothing was processed there; `trxas process {config}` first, then sweep")
    parts = {key.split(".")[0] for choice in choices for key in choice}
    place = layout.sweeps(job.out, job.config.dataset)
    # of a sweep that was killed
    leftovers.sweep(place)
    scratch = leftovers.new_partial(place)
    try:
        base = replace(job, out=scratch / "common", target=None)
        with claimed(job.out, "sweep", wait=wait):
            _link(job, job.out, base.out)
        context = context_of(base)
        with context.workers:
            run_stages(context, _before(parts))
        trials = [
            _Trial(config, choice, base.out, scratch / f"{k:04d}", bool(parts & set(FILES)), dict(context.job.failed))
            for k, choice in enumerate(choices)
        ]
        results = _try_all(trials, parallel=not any(stage.heavy for stage in _behind(parts)), progress=progress)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    folder = _next_folder(place)
    table = sweep_table(choices, [outcome for outcome, _ in results], [text for _, text in results])
    write_table(table, folder / "table.csv")
    draw_sweep(table, folder / "sweep.png")
    failed = {k: outcome for k, (outcome, _) in enumerate(results) if isinstance(outcome, str)}
    return Swept(folder, table, failed)


def _check(config: Path, choices: Sequence[Choice]) -> None:
    """Raise ConfigError if the config takes none of the choices: then a key is wrong, not a value."""
    faults = []
    for choice in choices:
        try:
            load_job(config, assignments=assignments_of(choice))
        except TrxasError as error:
            faults.append(error)
    if len(faults) == len(choices):
        raise faults[0]


def _before(parts: set[str]) -> list[Stage]:
    """Return the stages that no choice of these parts of the config touches."""
    touched = [bool(parts & set(FILES)) if stage is INVENTORY else bool(parts & set(stage.options)) for stage in STAGES]
    first = touched.index(True) if any(touched) else len(STAGES)
    return [stage for stage in STAGES[:first] if stage is not PUBLISH]


def _behind(parts: set[str]) -> list[Stage]:
    return [stage for stage in STAGES if stage not in (*_before(parts), PUBLISH)]


def _next_folder(parent: Path) -> Path:
    """Make the next numbered folder, which no other sweep makes."""
    number = 1 + max((int(p.name) for p in parent.iterdir() if p.name.isdecimal()), default=0)
    while True:
        with contextlib.suppress(FileExistsError):
            folder = parent / f"{number:04d}"
            folder.mkdir()
            return folder
        number += 1


def _link(job: Job, source: Path, target: Path) -> None:
    """Make an output folder that begins with the stores of a dataset in another one."""
    places = [Path("calibration"), layout.dataset_stores(Path(), job.config.dataset)]
    places += [layout.run_stores(Path(), number) for number in job.all_runs]
    for place in places:
        if (source / place).is_dir():
            shutil.copytree(source / place, target / place, copy_function=_linked, ignore=_unfinished)


def _linked(source: str, target: str) -> None:
    parts = Path(source).parts
    if layout.FRAMES in parts and "frames" not in parts[parts.index(layout.FRAMES) :]:
        # the reduction writes into the coordinates of the cube
        shutil.copy2(source, target)
    else:
        os.link(source, target)


def _unfinished(folder: str, names: Sequence[str]) -> list[str]:
    """Name what killed processes left: ledgers beside the stores of a run, stores that were being written."""
    ledgers = ("blocks", "image") if Path(folder).parent.name == "runs" else ()
    return [name for name in names if name in ledgers or name.startswith(".")]


def _try_all(trials: Sequence[_Trial], *, parallel: bool, progress: Progress) -> list[tuple[Outcome, str]]:
    """Return what became of every choice; the first one tells whether it pays to try the others at the same time."""

    def done(n: int) -> None:
        progress("sweep", n, len(trials))

    done(0)
    began = time.monotonic()
    results = [_try(trials[0])]
    done(1)
    seconds, workers = time.monotonic() - began, len(os.sched_getaffinity(0))
    rest = trials[1:]
    if not (parallel and parallel_pays(len(rest), seconds, workers)):
        for trial in rest:
            results.append(_try(trial))
            done(len(results))
        return results
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(min(workers, len(rest)), spawn) as processes:
        futures = [processes.submit(_try, trial) for trial in rest]
        for n, _ in enumerate(concurrent.futures.as_completed(futures), 2):
            done(n)
        return results + [future.result() for future in futures]


def parallel_pays(n: int, seconds: float, workers: int) -> bool:
    """Return whether `n` choices of so many seconds each are done sooner by processes, which need a while to begin."""
    in_turns = -(-n // workers)
    return START + in_turns * seconds < n * seconds


def _try(trial: _Trial) -> tuple[Outcome, str]:
    """Return the groups kinetics and mixture that a choice gives, or why it gives none; and what a person must know of it."""
    try:
        return _made(trial)
    except TrxasError as error:
        return str(error), ""
    except Exception as error:  # a fault of ours with one choice must not cost the others
        log.debug("traceback", exc_info=True)
        return f"unexpected {type(error).__name__}: {error}".splitlines()[0], ""
    finally:
        shutil.rmtree(trial.folder, ignore_errors=True)


def _made(trial: _Trial) -> tuple[Outcome, str]:
    job = load_job(trial.config, trial.folder, assignments_of(trial.choice))
    for number, reason in trial.left_out.items():
        job = job.without(number, reason)
    _link(job, trial.common, job.out)
    context, stages = context_of(job), [stage for stage in STAGES if stage is not PUBLISH]
    if not trial.reads_files:
        # the files are the same for all choices, and were looked at once
        stages.remove(INVENTORY)
        for number in job.all_runs:
            key = INVENTORY.records(job, number).key(INVENTORY.name)
            context.identities[number] = Identity(partial(str, key))
    with context.workers:
        run_stages(context, stages)
    groups = FIT.result(context.job)
    remarks = [f"run {n}: {reason}" for n, reason in context.job.failed.items() if n not in trial.left_out]
    record = FIT.records(job).get(FIT.name, Record)
    remarks += [one.text for one in record.notes if one.code in MISSING] if record is not None else []
    return {name: groups[name] for name in ("kinetics", "mixture")}, "; ".join(remarks)
