"""Frames to photons per pulse and beam, run by run, block by block.

One pass over the raw bytes fills the frames cube and the pulses. Blocks are whole trains, so memory is bounded by
block size × workers whatever the length of the run, and a block's result does not depend on the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pipeline.compute.chunk_plan import plan_blocks
from pipeline.compute.workers import Workers, threads_of
from pipeline.errors import DataError
from pipeline.euxfel.frame_source import FrameSource
from pipeline.euxfel.reader import Run, open_run
from pipeline.job import Job
from pipeline.science.detector.beam_photons import Reducer, prepare, subtract_intra_train_dark
from pipeline.science.detector.crop import Crop
from pipeline.science.detector.pedestal import subtract_pedestal
from pipeline.stages.base import Context, Made, Stage, number_of
from pipeline.stages.blocks import RawBlock, StoredBlock, finish
from pipeline.stages.calibrate import CALIBRATE
from pipeline.stages.frames import Target, create_cube, crop_of, cube_of, frames_code, recorded
from pipeline.stages.inventory import INVENTORY
from pipeline.storage import cube as cubes
from pipeline.storage import store
from pipeline.storage.hashes import digest
from pipeline.storage.ledger import Ledger, Result
from pipeline.storage.record import Record
from schemas.catalogue import note
from schemas.config.compute import Compute
from schemas.datasets.measured import PULSES
from schemas.notes import Note

__all__ = ["REDUCE", "FrameProgress", "pulses_of", "reduce_raw", "reduce_stored"]

FrameProgress = Callable[[int, int], None]
"""Called with what was done and what there is to do, in frames."""

log = logging.getLogger("trxas")


def reduce_raw(
    run: Run,
    calibration: xr.Dataset,
    *,
    keep: Crop | None,
    cube: Path | None,
    workers: Workers | int,
    memory: str,
    ledger: Ledger | None = None,
    progress: FrameProgress | None = None,
) -> xr.Dataset:
    """Reduce a raw run to pulses and, in the same pass, fill its frames cube.

    Parameters
    ----------
    run
        The opened run.
    calibration
        See `pipeline.science.detector.assemble`.
    keep, cube
        Crop of the frames to store, and the path of their cube; None: frames are not stored.
    workers, memory
        Workers (or a number of threads) and the memory limit; the result does not depend on them.
    ledger
        Ledger of finished blocks; blocks already in it are not reduced again.

    Returns
    -------
    Pulses dataset with beams 0, 1, 2 from low to high x.
    """
    index = run.index
    workers = _threads(workers) if isinstance(workers, int) else workers
    train_bytes = len(index.pulse_id) * index.frame_bytes
    plan = plan_blocks(len(index.train_id), train_bytes, workers=threads_of(workers.settings), memory=memory)
    if calibration.attrs.get("corrected_input", 0) != int(index.dtype.kind == "f"):
        raise DataError(
            f"run {run.number}: dark run and this run are not both raw or both corrected; take them from one folder"
        )
    target = None
    if keep is not None and cube is not None:
        # temporary chunks of killed workers are removed together with the ledger
        aside = None if ledger is None else ledger.folder
        target = Target(cube, keep.rows, keep.columns, plan.trains, aside)
    if ledger is not None:
        # blocks of a different size cannot be reused
        ledger = replace(ledger, key=f"{ledger.key}-{plan.trains}")
    if ledger is None or not ledger.is_open:
        if target is not None and keep is not None:
            create_cube(run, keep, target)
        if ledger is not None:
            ledger.begin()
    with FrameSource(run.number, index) as source:
        blocks = [RawBlock(number, source.part(part), target) for number, part in enumerate(plan.slices())]
        results = _work(blocks, prepare(calibration), workers, ledger, progress, index.row.size)
    return _as_pulses(run.labels, results)


def _threads(count: int) -> Workers:
    return Workers(Compute(workers=count))


def _work(
    blocks: Sequence[RawBlock] | Sequence[StoredBlock],
    kernel: Reducer,
    workers: Workers,
    ledger: Ledger | None,
    progress: FrameProgress | None,
    frames: int,
) -> list[Result]:
    """Return the results of all blocks in order; finished ones are read from the ledger."""
    finished = {} if ledger is None else _still_there(ledger, blocks)
    results = dict(finished)
    todo = [block for block in blocks if block.number not in results]
    if results and ledger is not None:
        log.info("%s: %d of %d blocks were finished before", ledger.folder.parent.name, len(results), len(blocks))

    def report(done: int) -> None:
        if progress is not None:
            progress((len(finished) + done) * frames // len(blocks), frames)

    report(0)
    new = workers.map(finish, todo, (kernel, ledger), report)
    results |= {block.number: result for block, result in zip(todo, new, strict=True)}
    return [results[block.number] for block in blocks]


def _still_there(ledger: Ledger, blocks: Sequence[RawBlock] | Sequence[StoredBlock]) -> dict[int, Result]:
    """Return the finished blocks whose cube chunk still has the size recorded in the ledger."""
    finished = ledger.finished()
    cube = next((block.target.path for block in blocks if isinstance(block, RawBlock) and block.target), None)
    if cube is None:
        return {number: result for number, (result, _) in finished.items()}
    return {number: result for number, (result, size) in finished.items() if cubes.chunk_bytes(cube, number) == size}


def reduce_stored(
    path: Path,
    calibration: xr.Dataset,
    *,
    workers: Workers | int,
    ledger: Ledger | None = None,
    progress: FrameProgress | None = None,
) -> xr.Dataset:
    """Reduce a stored frames cube to pulses; the raw run is not needed."""
    cube = store.open_dataset(path)
    trains = cubes.chunk_trains(path)
    height, width = cube["frames"].shape[2:]
    y0, x0 = int(cube["y"][0]), int(cube["x"][0])
    cells, present = cube["cell_id"].values, cube["present"].values
    if ledger is not None and not ledger.is_open:
        ledger.begin()
    parts = [slice(first, first + trains) for first in range(0, len(present), trains)]
    blocks = [
        StoredBlock(number, path, trains, cells[part], present[part], (height, width), y0, x0)
        for number, part in enumerate(parts)
    ]
    workers = _threads(workers) if isinstance(workers, int) else workers
    return _as_pulses(recorded(cube), _work(blocks, prepare(calibration), workers, ledger, progress, present.size))


def _as_pulses(labels: xr.Dataset, results: list[Result]) -> xr.Dataset:
    joined = {name: np.concatenate([result[name] for result in results]) for name in results[0]}
    photons, stderr, saturated, present = (joined[n] for n in ("photons", "photons_stderr", "n_saturated", "present"))
    dims = ("train", "pulse", "beam")
    pulses = labels.assign(photons=(dims, photons), photons_stderr=(dims, stderr), n_saturated=(dims, saturated))
    if "pedestal" in joined:
        pulses = pulses.assign(pedestal=(dims, joined["pedestal"]))
    # none of it where a train has no light
    share = np.where(joined["border_total"] > 0, joined["border"] / np.maximum(joined["border_total"], 1.0), np.nan)
    pulses = pulses.assign(border=(("train", "beam"), share))
    announced = labels["present"]
    blank = announced.values & ~present
    if "blank" in labels:
        # a stored cube already records its blank frames
        blank |= labels["blank"].values
    # pulses from a cube and from raw files must be identical, attributes included
    pulses = pulses.assign_coords(present=announced.copy(data=present), blank=(announced.dims, blank)).drop_attrs(
        deep=False
    )
    return pulses.set_coords(["energy", "delay_stage"])


@dataclass(frozen=True)
class _Reduce(Stage):
    """Reduction stage, which keeps a ledger of finished blocks while it runs."""

    def run(self, context: Context, run: int | None = None) -> bool:
        """Reduce a run unless its pulses are current; resumes after a kill."""
        done = super().run(context, run)
        log.info("run %d: %s", number_of(self, run), "reduced to pulses" if done else "pulses are current")
        # a kill between writing the record and this line leaves the ledger behind
        ledger = _ledger(context.job, number_of(self, run), "")
        if ledger.folder.exists():
            ledger.remove()
        return done

    def forget(self, job: Job, run: int | None, *also: str) -> None:
        """Discard the pulses of a run and the finished blocks of an interrupted reduction."""
        super().forget(job, run, *also)
        _ledger(job, number_of(self, run), "").remove()


def _ledger(job: Job, run: int, key: str) -> Ledger:
    return Ledger(job.run_dir(run) / "blocks", key)


def pulses_of(job: Job, run: int) -> xr.Dataset:
    """Return the pulses of a run, in memory."""
    return REDUCE.result(job, run)["/"]


def _make(context: Context, run: int | None, key: str) -> Made:
    job, number = context.job, number_of(REDUCE, run)
    calibration = CALIBRATE.result(job, key=CALIBRATE.recorded_key(context, None))["/"]
    crop, cube, records = crop_of(job, calibration), cube_of(job, number), REDUCE.records(job, number)
    frames_key = digest([INVENTORY.recorded_key(context, number), str(crop), frames_code()])
    settings: dict[str, Any] = {
        "workers": context.workers,
        "ledger": _ledger(job, number, key),
        "progress": lambda done, total: context.tell(f"run {number}", done, total),
    }
    if crop is not None and records.key("frames") == frames_key and cube.exists():
        pulses = reduce_stored(cube, calibration, **settings)
    else:
        records.forget("frames")
        context.require_unchanged(number)
        pulses = reduce_raw(
            open_run(job.raw_run(number), job.instrument),
            calibration,
            keep=crop,
            cube=cube if crop is not None else None,
            memory=job.config.compute.memory,
            **settings,
        )
        context.require_unchanged(number)
    if crop is not None:
        # announced frames that turn out to be blank are known only after the reduction
        store.replace_coords(cube, {name: pulses[name].values for name in ("present", "blank")})
        records.put("frames", Record(frames_key))
    if "pedestal" in pulses:
        pulses = subtract_pedestal(pulses, calibration)
    dim = pulses["photons"].max("beam") < 0.2 * pulses["photons"].max("beam").median()
    pulses = subtract_intra_train_dark(pulses, pulses["dark_frame"] & dim)
    return Made({"/": pulses.assign_coords(beam=np.arange(pulses.sizes["beam"]))}, _notes(number, pulses, calibration))


def _notes(run: int, pulses: xr.Dataset, calibration: xr.Dataset) -> list[Note]:
    """Say by how much the pedestal of a run has moved, in the beam where it is most, if it was taken off."""
    if "pedestal_subtracted" not in pulses:
        return []
    per_beam = pulses["pedestal_subtracted"].mean(("train", "pulse")) / calibration["pedestal_weight"].sum("chip")
    return [note("pedestal.moved", run=run, shift=float(per_beam[int(np.argmax(np.abs(per_beam.values)))]))]


REDUCE = _Reduce(
    name="pulses",
    title="run {run}",
    make=_make,
    makes={"/": PULSES},
    store="pulses.zarr",
    needs=(INVENTORY, CALIBRATE),
    options=("frames",),
    per_run=True,
    heavy=True,
)
