"""The stage: a small object that declares its inputs, the options it depends on and the datasets it makes.

A stage's result is current when the key in its record is the one that its needs, options and code give now.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import xarray as xr

from pipeline.compute.workers import Workers
from pipeline.euxfel.run_files import RunFiles
from pipeline.job import Job
from pipeline.stages.code import code_hash
from pipeline.storage import store
from pipeline.storage.hashes import Identity, digest
from pipeline.storage.record import Record, Records
from schemas.datasets.spec import DatasetSpec
from schemas.notes import Note

__all__ = ["Context", "Made", "Progress", "Stage", "number_of"]

Progress = Callable[[str, int, int], None]
"""Called with a label, the amount done and the total."""


@dataclass
class Context:
    """State shared by the stages of one processing."""

    job: Job
    """The dataset; unusable runs are removed as they are found."""
    workers: Workers
    progress: Progress | None = None
    identities: dict[int, Identity] = field(default_factory=dict)
    """Content hashes of the runs' files, computed in the background."""
    opened: dict[int, RunFiles] = field(default_factory=dict)
    """Files of the runs as they were found: no others may be read."""

    def require_unchanged(self, *runs: int) -> None:
        """Raise DataError, naming the file, if a file of these runs is not the one that was found."""
        for run in runs:
            if run in self.opened:
                self.opened[run].require_unchanged()

    def tell(self, text: str, done: int, total: int) -> None:
        """Report progress to the callback, if there is one."""
        if self.progress is not None:
            self.progress(text, done, total)


@dataclass(frozen=True)
class Made:
    """What a stage made: datasets by group (`/` for one that stands alone), and what a person must know."""

    datasets: Mapping[str, xr.Dataset]
    notes: list[Note] = field(default_factory=list)


def _nothing(job: Job) -> Any:
    return None


@dataclass(frozen=True)
class Stage:
    """One step from raw runs to the product."""

    name: str
    """Name of its record and of its task."""
    title: str
    """Name shown to users; `{run}` is replaced by the run number."""
    make: Callable[[Context, int | None, str], Made]
    """Function that computes the result for a run (None: the dataset) and a key; never writes another stage's store."""
    makes: Mapping[str, DatasetSpec]
    """Specification of each group of the result; `*` matches any other group."""
    store: str
    """Name of the result's store in the folder of the run or of the dataset; empty if there is none."""
    needs: tuple[Stage, ...] = ()
    options: tuple[str, ...] = ()
    """Parts of the config on which the result depends."""
    reads: Callable[[Job], Any] = _nothing
    """Hash of the files named by the options."""
    per_run: bool = False
    heavy: bool = False
    """Whether it uses all cores or the full disk bandwidth, so that only one runs at a time on a machine."""

    def where(self, job: Job, run: int | None = None, key: str = "") -> Path:
        """Return the store of the result for a run, or for the dataset; `key` where there may be several."""
        return (job.stage_dir if run is None else job.run_dir(run)) / self.store

    def result(self, job: Job, run: int | None = None, key: str = "") -> dict[str, xr.Dataset]:
        """Return the result, in memory, by group; `/` for a dataset that stands alone."""
        tree = store.load_tree(self.where(job, run, key))
        root = {"/": tree.to_dataset()} if "/" in self.makes else {}
        return root | {name: node.to_dataset(inherit=False) for name, node in tree.children.items()}

    def records(self, job: Job, run: int | None = None) -> Records:
        """Return the records among which this stage's is, for a run or for the dataset."""
        return Records(job.stage_dir if run is None else job.run_dir(run))

    def lineage(self) -> list[Stage]:
        """Return all stages that this one rests on, each after those that it needs."""
        found: list[Stage] = []
        for need in self.needs:
            found += [stage for stage in (*need.lineage(), need) if stage not in found]
        return found

    def spec(self, group: str) -> DatasetSpec:
        """Return the specification of a group of the result."""
        return self.makes.get(group) or self.makes["*"]

    def runs(self, job: Job) -> list[int | None]:
        """Return the runs for which this stage runs; None stands for the dataset."""
        return list(job.reduced_runs) if self.per_run else [None]

    def recorded_key(self, context: Context, run: int | None) -> str:
        """Return the key of the finished result; raises KeyError if there is none."""
        key = self.records(context.job, run).key(self.name)
        if key is None:
            raise KeyError(f"{self.name}: not made yet{'' if run is None else f' for run {run}'}")
        return key

    def key(self, context: Context, run: int | None = None) -> str:
        """Return the hash of everything the result depends on: inputs, options, the files they name, and code."""
        job = context.job
        needed = {need.name: need.keys(context, run) for need in self.needs}
        return digest([needed, job.options(*self.options), self.reads(job), code_hash(self.make.__module__)])

    def keys(self, context: Context, run: int | None) -> Any:
        """Return what a stage that needs this one must know of it: the key for the run, for all runs, or for the dataset."""
        if not self.per_run:
            return self.recorded_key(context, None)
        if run is not None:
            return self.recorded_key(context, run)
        return {n: self.recorded_key(context, n) for n in self.runs(context.job)}

    def is_current(self, context: Context, run: int | None, key: str) -> bool:
        """Return whether the result exists and was made with this key."""
        job = context.job
        return self.records(job, run).key(self.name) == key and self.where(job, run, key).exists()

    def forget(self, job: Job, run: int | None, *also: str) -> None:
        """Forget the result for a run or for the dataset, and records of other names, so that the stage runs again."""
        self.records(job, run).forget(self.name, *also)

    def run(self, context: Context, run: int | None = None) -> bool:
        """Compute the result unless it is current; returns whether it was computed.

        Raises
        ------
        TrxasError
            With one line that names the run, the source, the value and the way out.
        SpecError
            If what it made is not as specified; names the group and the variable.
        """
        key = self.key(context, run)
        if self.is_current(context, run, key):
            return False
        made = self.make(context, run, key)
        groups = {name: self.spec(name).check(dataset) for name, dataset in made.datasets.items()}
        # killed between the two, what is stored must not pass for what was there before
        self.records(context.job, run).forget(self.name)
        store.write_tree(self.where(context.job, run, key), xr.DataTree.from_dict({"/": xr.Dataset(), **groups}))
        self.records(context.job, run).put(self.name, Record(key, made.notes))
        return True


def number_of(stage: Stage, run: int | None) -> int:
    """Return the run number of a stage that runs once per run."""
    if run is None:
        raise ValueError(f"the stage {stage.name} is made run by run")
    return run
