"""The product: all groups, the summary and the figures, as a version that never changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from pipeline.job import Job
from pipeline.plots import draw_beams, draw_product
from pipeline.results.summary import summarise
from pipeline.stages.base import Context, Made, Stage
from pipeline.stages.bin import BIN
from pipeline.stages.calibrate import CALIBRATE
from pipeline.stages.code import code_hash
from pipeline.stages.fit import FIT
from pipeline.stages.inject import INJECT
from pipeline.stages.inventory import inventories
from pipeline.stages.label import roles_of
from pipeline.stages.model_results import files_of
from pipeline.storage import leftovers, versions
from pipeline.storage.checksums import version_identity
from pipeline.storage.hashes import code_version, digest, environment
from pipeline.storage.places import Place
from pipeline.storage.record import Published, Record
from schemas.catalogue import note
from schemas.datasets.fitted import MODEL_RESULTS
from schemas.notes import Note, read_notes
from schemas.products import SCHEMA_VERSION

__all__ = ["PUBLISH", "published", "runs_left_out"]


@dataclass(frozen=True)
class _Publish(Stage):
    """The stage whose result is a version: the same arrays from the same inputs, config and code are not published twice."""

    def key(self, context: Context, run: int | None = None) -> str:
        """Return the hash of all that decides about the product: runs that failed, and injections that were asked for."""
        key = digest([super().key(context, run), dict(context.job.failed)])
        injected = INJECT.current_key(context)
        return key if injected is None else digest([key, injected])

    def run(self, context: Context, run: int | None = None) -> bool:
        """Publish a version unless the latest one is current and as it was published."""
        job, key = context.job, self.key(context, run)
        leftovers.sweep(job.product_dir)
        if self._is_latest(job, key):
            return False
        version = _published(job, context)
        self.records(job).put(_entry(job), Published(key, [], version.name, version_identity(version)))
        return True

    def _is_latest(self, job: Job, key: str) -> bool:
        record, latest = self.records(job).get(_entry(job), Published), versions.intact_latest(job.product_dir)
        if record is None or latest is None:
            return False
        return record == Published(key, [], latest.name, version_identity(latest))


def _entry(job: Job) -> str:
    """Return the name of the record: the same stages may serve a folder and a bucket."""
    return PUBLISH.name if job.target is None else f"{PUBLISH.name} at {job.target}"


def published(job: Job) -> Place:
    """Return the version that was published last from this folder."""
    record = PUBLISH.records(job).get(_entry(job), Published)
    return job.product_dir / (record.version if record is not None else "")


def runs_left_out(job: Job) -> dict[int, str]:
    """Return the runs that the latest version lacks because they could not be used, with the reason."""
    latest = versions.latest(job.product_dir)
    told = read_notes(versions.read_summary(latest)["warnings"]) if latest is not None else []  # type: ignore[arg-type]
    runs = [one for one in told if one.code == "run.left_out" and one.run is not None]
    return {one.run: one.text.removeprefix(note(one.code, run=one.run, reason="").text) for one in runs}  # type: ignore[misc]


def _published(job: Job, context: Context) -> Place:
    injected = INJECT.current_key(context) is not None
    datasets = BIN.result(job) | FIT.result(job) | (INJECT.result(job) if injected else {})
    attachments = files_of(datasets.pop(MODEL_RESULTS.name))
    groups = {f"/{name}": dataset for name, dataset in datasets.items()}
    tree = xr.DataTree.from_dict({"/": xr.Dataset(), **groups})
    found, calibration = inventories(job), CALIBRATE.recorded_key(context, None)
    tree.attrs = {
        "schema_version": SCHEMA_VERSION,
        "dataset": job.config.dataset,
        "code_version": code_version(),
        "code_hash": code_hash(__name__),
        "config": job.config.model_dump_json(by_alias=True),
        "instrument": {"name": job.instrument.name, "hash": digest(job.profile), "roles": job.profile},
        "inputs": {f"r{n:04d}": one.files for n, one in found.items()},
        "calibration": calibration,
        "environment": environment(),
        "beam_order": roles_of(job),
    }
    audits = {n: one.audit for n, one in found.items()}
    summary = summarise(tree, job.config, audits=audits, notes=_notes(job, PUBLISH.lineage() + [INJECT] * injected))
    draw = partial(_draw, CALIBRATE.result(job, key=calibration))
    return versions.publish(job.product_dir, tree, summary, draw=draw, attachments=attachments, work=job.stage_dir)


def _notes(job: Job, stages: Sequence[Stage]) -> list[Note]:
    """Return what the stages had to say, in the order of the data."""
    notes = [note("run.left_out", run=n, reason=reason) for n, reason in job.failed.items()]
    for stage in stages:
        records = (stage.records(job, number).get(stage.name, Record) for number in stage.runs(job))
        notes += [said for record in records if record is not None for said in record.notes]
    return notes


def _draw(calibration: dict[str, xr.Dataset], tree: xr.DataTree, summary: dict[str, Any], folder: Path) -> None:
    draw_product(tree, summary, folder)
    draw_beams(calibration["image"]["image"], calibration["/"], tree.attrs["beam_order"], folder / "beams.png")


def _no_dataset(context: Context, run: int | None, key: str) -> Made:
    return Made({})


PUBLISH = _Publish(
    name="product",
    title="product",
    make=_no_dataset,
    makes={},
    store="",
    needs=(FIT,),
    options=("dataset", "sample"),
)
