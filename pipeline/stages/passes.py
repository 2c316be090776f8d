"""From raw runs to calibrations and pulses: the stages that touch frames, block by block.

One pass over the raw bytes fills the frames cube and the pulses. Blocks are whole trains, so memory is bounded by
block size × workers whatever the length of the run, and a block's result does not depend on the others.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from pipeline.compute.chunk_plan import plan_blocks
from pipeline.compute.workers import Workers, threads_of
from pipeline.errors import DataError
from pipeline.euxfel.frame_source import FrameSource
from pipeline.euxfel.reader import Run
from pipeline.science.detector.beam_photons import Reducer, prepare
from pipeline.science.detector.crop import Crop
from pipeline.stages.blocks import RawBlock, StoredBlock, Target, finish
from pipeline.storage import cube as cubes
from pipeline.storage import store
from pipeline.storage.ledger import Ledger, Result
from schemas.config.compute import Compute
from schemas.datasets.stages import FRAMES

__all__ = [
    "Progress",
    "reduce_raw",
    "reduce_stored",
]

Progress = Callable[[int, int], None]
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
    progress: Progress | None = None,
) -> xr.Dataset:
    """Reduce a raw run to pulses and, in the same pass, fill its frames cube.

    Parameters
    ----------
    run
        The opened run.
    calibration
        See `pipeline.science.detector.assemble`.
    keep, cube
        What part of the frames is stored, and where; None: not stored.
    workers, memory
        Where it runs (a number: so many threads), with how much memory; the result does not depend on it.
    ledger
        Where finished blocks are entered; those that are in it already are not done again.

    Returns
    -------
    Pulses dataset with neutral beams 0, 1, 2; `attrs["n_blank"]` counts announced frames that hold nothing.
    """
    index = run.index
    workers = _threads(workers) if isinstance(workers, int) else workers
    train_bytes = len(index.pulse_id) * index.frame_bytes
    plan = plan_blocks(len(index.train_id), train_bytes, workers=threads_of(workers.settings), memory=memory)
    if index.dtype != np.uint16 and index.dtype.kind != "f":
        raise DataError(
            f"run {run.number}: {index.source} {index.key} is {index.dtype}, neither raw uint16 nor corrected"
        )
    if calibration.attrs.get("corrected_input", 0) != int(index.dtype.kind == "f"):
        raise DataError(
            f"run {run.number}: dark run and this run are not both raw or both corrected; take them from one folder"
        )
    target = None
    if keep is not None and cube is not None:
        # what killed workers leave behind goes with the ledger
        aside = None if ledger is None else ledger.folder
        target = Target(cube, keep.rows, keep.columns, plan.trains, aside)
    if ledger is not None:
        # blocks of another size are other blocks
        ledger = replace(ledger, key=f"{ledger.key}-{plan.trains}")
    if ledger is None or not ledger.is_open:
        if target is not None and keep is not None:
            _create_cube(run, keep, target)
        if ledger is not None:
            ledger.begin()
    with FrameSource(run.number, index) as source:
        blocks = [RawBlock(number, source.part(part), target) for number, part in enumerate(plan.slices())]
        results = _work(blocks, prepare(calibration), workers, ledger, progress, index.row.size)
    return _as_pulses(run.labels, results)


def _threads(count: int) -> Workers:
    return Workers(Compute(workers=count))


def _create_cube(run: Run, keep: Crop, target: Target) -> None:
    labels = run.labels.drop_vars(["dark_frame", "arrival", "intensity", "trigger"])
    labels = labels.set_coords(["energy", "delay_stage"]).assign_coords(keep.coords())
    labels = labels.assign_coords(delay=(("train", "pulse"), np.full(run.index.row.shape, np.nan)))
    labels = FRAMES.describe(labels)
    labels.attrs = {"run": run.number, "source": run.index.source}
    trains, pulses = run.index.row.shape
    shape = {"train": trains, "pulse": pulses, "y": keep.shape[0], "x": keep.shape[1]}
    attrs = FRAMES["frames"].attrs
    cubes.create_cube(target.path, labels, shape=shape, chunk=target.trains, attrs=attrs)


def _work(
    blocks: Sequence[RawBlock] | Sequence[StoredBlock],
    kernel: Reducer,
    workers: Workers,
    ledger: Ledger | None,
    progress: Progress | None,
    frames: int,
) -> list[Result]:
    """Return the results of all blocks in order; those in the ledger are taken from there."""
    finished = {} if ledger is None else _still_there(ledger, blocks)
    results = dict(finished)
    todo = [block for block in blocks if block.number not in results]
    if results and ledger is not None:
        log.info("%s: %d of %d blocks were finished before", ledger.folder.parent.name, len(results), len(blocks))

    def tell(done: int) -> None:
        if progress is not None:
            progress((len(finished) + done) * frames // len(blocks), frames)

    tell(0)
    new = workers.map(finish, todo, (kernel, ledger), tell)
    results |= {block.number: result for block, result in zip(todo, new, strict=True)}
    return [results[block.number] for block in blocks]


def _still_there(ledger: Ledger, blocks: Sequence[RawBlock] | Sequence[StoredBlock]) -> dict[int, Result]:
    """Return the finished blocks whose chunk of the cube is as long as it was when they were entered."""
    finished = ledger.finished()
    cube = next((block.target.path for block in blocks if isinstance(block, RawBlock) and block.target), None)
    if cube is None:
        return {number: result for number, (result, _) in finished.items()}
    return {number: result for number, (result, size) in finished.items() if cubes.chunk_bytes(cube, number) == size}


def reduce_stored(
    path: Path,
    labels: xr.Dataset,
    calibration: xr.Dataset,
    *,
    workers: Workers | int,
    ledger: Ledger | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Reduce a stored frames cube to pulses; the raw run is not needed. Labels are those of the former pulses."""
    cube = store.open_dataset(path)
    trains = cubes.chunk_trains(path)
    height, width = cube["frames"].shape[2:]
    y0, x0 = int(cube["y"][0]), int(cube["x"][0])
    cells, recorded = cube["cell_id"].values, cube["present"].values
    if ledger is not None and not ledger.is_open:
        ledger.begin()
    parts = [slice(first, first + trains) for first in range(0, len(recorded), trains)]
    blocks = [
        StoredBlock(number, path, trains, cells[part], recorded[part], (height, width), y0, x0)
        for number, part in enumerate(parts)
    ]
    workers = _threads(workers) if isinstance(workers, int) else workers
    return _as_pulses(labels, _work(blocks, prepare(calibration), workers, ledger, progress, recorded.size))


def _as_pulses(labels: xr.Dataset, results: list[Result]) -> xr.Dataset:
    whole = {name: np.concatenate([result[name] for result in results]) for name in results[0]}
    photons, stderr, saturated, present = (whole[n] for n in ("photons", "photons_stderr", "n_saturated", "present"))
    dims = ("train", "pulse", "beam")
    pulses = labels.assign(photons=(dims, photons), photons_stderr=(dims, stderr), n_saturated=(dims, saturated))
    blank = int((labels["present"].values & ~present).sum()) + int(labels.attrs.get("n_blank", 0))
    pulses["present"] = labels["present"].copy(data=present)
    pulses = pulses.set_coords(["energy", "delay_stage", "present"])
    pulses.attrs = {"n_blank": blank}
    return pulses
