"""From raw runs to calibrations and pulses: the stages that touch frames, block by block.

One pass over the raw bytes fills the frames cube and the pulses. Blocks are whole trains, so memory is bounded by
block size × workers whatever the length of the run, and a block's result does not depend on the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask.base import compute
from dask.delayed import Delayed, delayed

from pipeline.chunks import plan_blocks
from pipeline.errors import ConfigError, DataError
from pipeline.io import cube as cubes
from pipeline.io import store
from pipeline.io.euxfel import FrameSource, Run
from pipeline.science.reduce import Reducer, prepare, reduce_block

__all__ = ["Crop", "Progress", "crop_to_beams", "reduce_raw", "reduce_stored", "sample_frames", "spread_trains"]

Progress = Callable[[int, int], None]
"""Called with what was done and what there is to do, in frames."""

READ_FRAMES = 64
"""Frames that are read before they are reduced: 8 MB, still near the processor when the kernel sees them."""

UNPACK_FRAMES = 16
"""Frames of a stored cube that are unpacked before they are reduced."""

_local = threading.local()


@dataclass(frozen=True)
class Crop:
    """The part of the module that is kept, in module pixels."""

    rows: slice
    columns: slice

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns kept."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start

    def coords(self) -> dict[str, Any]:
        """Return the pixel numbers."""
        return {
            name: (
                name,
                np.arange(part.start, part.stop, dtype=np.int16),
                {"units": "1", "long_name": f"{text} of the module"},
            )
            for name, part, text in (("y", self.rows, "row"), ("x", self.columns, "column"))
        }


def crop_to_beams(beams: xr.Dataset) -> Crop:
    """Return the smallest rectangle that holds all beams."""
    y0, y1, x0, x1 = (beams[n].values for n in ("y0", "y1", "x0", "x1"))
    return Crop(slice(int(y0.min()), int(y1.max())), slice(int(x0.min()), int(x1.max())))


def spread_trains(run: Run, frames: int) -> list[int]:
    """Return positions of trains, evenly spread over a run, that together hold about so many frames."""
    total, n = int(run.index.present.sum()), len(run.index.train_id)
    wanted = int(np.clip(np.ceil(n * frames / max(total, 1)), 1, n))
    return np.unique(np.linspace(0, n - 1, wanted).round().astype(int)).tolist()


def sample_frames(run: Run, crop: Crop, frames: int) -> xr.Dataset:
    """Return a frames dataset of trains spread over the run; frames without X-rays are not part of it."""
    trains = spread_trains(run, frames)
    labels = run.labels.isel(train=trains)
    n_pulses = labels.sizes["pulse"]
    cube = np.zeros((len(trains), n_pulses, *crop.shape), np.uint16)
    present = np.zeros((len(trains), n_pulses), bool)
    with FrameSource(run.number, run.index) as source:
        for i, train in enumerate(trains):
            for block, _, pulse in source.blocks(slice(train, train + 1), rows=crop.rows):
                cube[i, pulse] = block[:, :, crop.columns]
                present[i, pulse] = _not_blank(block)
    present &= ~labels["dark_frame"].values
    coords = {name: labels[name] for name in ("train_id", "pulse_id", "cell_id")}
    dataset = xr.Dataset({"frames": (("train", "pulse", "y", "x"), cube, {"units": "ADU"})}, coords=coords)
    return dataset.assign_coords(present=(("train", "pulse"), present), **crop.coords())


def _not_blank(frames: np.ndarray) -> np.ndarray:
    """Return which frames hold anything; a frame that is zero everywhere was never recorded (offsets are not 0)."""
    return np.asarray(frames[:, ::7, ::13].any(axis=(1, 2)))


def _workspace(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Return this thread's buffer of a name: touching new memory costs more than reading."""
    buffer: np.ndarray | None = getattr(_local, name, None)
    if buffer is None or buffer.shape != shape or buffer.dtype != dtype:
        buffer = np.empty(shape, dtype)
        setattr(_local, name, buffer)
    return buffer


@dataclass(frozen=True)
class _Target:
    """The cube that a block of trains fills, one chunk each."""

    path: Path
    crop: Crop
    trains: int


def _reduce_one(
    source: FrameSource, trains: slice, kernel: Reducer, target: _Target | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    index = source.index
    n_trains, n_pulses = trains.stop - trains.start, len(index.pulse_id)
    rows = kernel.rows if target is None else target.crop.rows
    shape = (n_trains, n_pulses, kernel.n_beams)
    photons, stderr = np.full(shape, np.nan), np.full(shape, np.nan)
    saturated = np.zeros(shape, np.int32)
    present = np.zeros(shape[:2], bool)
    kept = None
    if target is not None:
        kept = _workspace("kept", (target.trains, n_pulses, *target.crop.shape), np.dtype(np.uint16))
    buffer = _workspace("raw", (READ_FRAMES, rows.stop - rows.start, index.frame_shape[1]), index.dtype)
    for block, train, pulse in source.blocks(trains, rows=rows, buffer=buffer):
        place = (train - trains.start, pulse)
        values = reduce_block(block, index.cell_id[train, pulse], kernel, y0=rows.start, x0=0)
        real = _not_blank(block)
        present[place] = real
        photons[place] = np.where(real[:, None], values[0], np.nan)
        stderr[place] = np.where(real[:, None], values[1], np.nan)
        saturated[place] = np.where(real[:, None], values[2], 0)
        if kept is not None and target is not None:
            kept[place] = block[:, :, target.crop.columns]
    if kept is not None and target is not None:
        # the buffer holds an earlier block where nothing was recorded
        kept[:n_trains][~present] = 0
        kept[n_trains:] = 0
        cubes.write_chunk(target.path, trains.start // target.trains, kept)
    return photons, stderr, saturated, present


def reduce_raw(
    run: Run,
    calibration: xr.Dataset,
    *,
    keep: Crop | None,
    cube: Path | None,
    workers: int,
    memory: str,
    scheduler: str = "threads",
    progress: Progress | None = None,
) -> xr.Dataset:
    """Reduce a raw run to pulses and, in the same pass, fill its frames cube.

    Parameters
    ----------
    run
        The opened run.
    calibration
        See `pipeline.science.calibration`.
    keep, cube
        What part of the frames is stored, and where; None: not stored.
    workers, memory, scheduler
        Where it runs; the result does not depend on it.

    Returns
    -------
    Pulses dataset with neutral beams 0, 1, 2; `attrs["n_blank"]` counts announced frames that hold nothing.
    """
    index = run.index
    train_bytes = len(index.pulse_id) * index.frame_bytes
    plan = plan_blocks(len(index.train_id), train_bytes, workers=workers, memory=memory)
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
        labels = run.labels.drop_vars(["dark_frame", "arrival", "intensity", "trigger"])
        labels = labels.set_coords(["energy", "delay_stage"]).assign_coords(keep.coords())
        labels = labels.assign_coords(delay=(("train", "pulse"), np.full(index.row.shape, np.nan), {"units": "ps"}))
        shape = {"train": len(index.train_id), "pulse": len(index.pulse_id), "y": keep.shape[0], "x": keep.shape[1]}
        attrs = {"units": "ADU", "long_name": "raw detector frame"}
        labels.attrs = {"run": run.number, "source": index.source}
        cubes.create_cube(cube, labels, shape=shape, chunk=plan.trains, attrs=attrs)
        target = _Target(cube, keep, plan.trains)
    kernel = prepare(calibration)
    with FrameSource(run.number, index) as source:
        tasks = [
            delayed(_reduce_one, pure=False, traverse=False)(source, part, kernel, target) for part in plan.slices()
        ]
        results = _compute(tasks, scheduler, workers, progress, index.row.size)
    return _as_pulses(run.labels, results)


def _compute(
    tasks: list[Delayed], scheduler: str, workers: int, progress: Progress | None, total: int
) -> list[tuple[np.ndarray, ...]]:
    """Compute delayed blocks in order, in batches so that progress can be told and little waits in memory."""
    results: list[tuple[np.ndarray, ...]] = []
    batch = max(workers * 4, 1)
    with _runner(scheduler, workers) as run:
        for start in range(0, len(tasks), batch):
            results += run(tasks[start : start + batch])
            if progress is not None:
                progress(min(start + batch, len(tasks)) * total // len(tasks), total)
    return results


@contextmanager
def _runner(scheduler: str, workers: int) -> Iterator[Callable[[list[Delayed]], list[Any]]]:
    """Yield what computes a batch: threads, processes, or a running dask scheduler by its address."""
    if not scheduler.startswith(("tcp://", "tls://")):
        yield lambda batch: list(compute(*batch, scheduler=scheduler, num_workers=workers))
        return
    # half a second to import, needed here only
    from distributed import Client

    try:
        client = Client(scheduler, timeout="20s")
    except OSError:
        raise ConfigError(f"compute.cluster: no dask scheduler answers at {scheduler}") from None
    with client:
        yield lambda batch: list(client.gather(client.compute(batch)))


def reduce_stored(
    path: Path, labels: xr.Dataset, calibration: xr.Dataset, *, workers: int, progress: Progress | None = None
) -> xr.Dataset:
    """Reduce a stored frames cube to pulses; the raw run is not needed. Labels are those of the former pulses."""
    cube = store.open_dataset(path)
    kernel = prepare(calibration)
    chunk = cubes.chunk_trains(path)
    shape = (chunk, *cube["frames"].shape[1:])
    y0, x0 = int(cube["y"][0]), int(cube["x"][0])
    cells, recorded = cube["cell_id"].values, cube["present"].values

    def reduce_part(number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        part = slice(number * chunk, min((number + 1) * chunk, len(recorded)))
        n = part.stop - part.start
        packed = cubes.PackedChunk(path, number, shape)
        cell, count = cells[part].reshape(-1), n * shape[1]
        photons, stderr = (np.full((count, kernel.n_beams), np.nan) for _ in range(2))
        saturated, real = np.zeros((count, kernel.n_beams), np.int32), np.zeros(count, bool)
        for first in range(0, count, UNPACK_FRAMES):
            some = slice(first, min(first + UNPACK_FRAMES, count))
            block = packed.frames(first, some.stop - first)
            photons[some], stderr[some], saturated[some] = reduce_block(block, cell[some], kernel, y0=y0, x0=x0)
            real[some] = _not_blank(block)
        real &= recorded[part].reshape(-1)
        photons[~real], stderr[~real], saturated[~real] = np.nan, np.nan, 0
        grid = (n, shape[1])
        table = (*grid, kernel.n_beams)
        return photons.reshape(table), stderr.reshape(table), saturated.reshape(table), real.reshape(grid)

    tasks = [delayed(reduce_part, pure=False)(number) for number in range(-(-len(recorded) // chunk))]
    return _as_pulses(labels, _compute(tasks, "threads", workers, progress, recorded.size))


def _as_pulses(labels: xr.Dataset, results: list[tuple]) -> xr.Dataset:
    photons, stderr, saturated, present = (np.concatenate(part) for part in zip(*results, strict=True))
    dims = ("train", "pulse", "beam")
    pulses = labels.assign(
        photons=(dims, photons, {"units": "1", "long_name": "photons in the beam"}),
        photons_stderr=(dims, stderr, {"units": "1", "long_name": "standard error of photons"}),
        n_saturated=(dims, saturated, {"units": "1", "long_name": "saturated pixels in the beam"}),
    )
    blank = int((labels["present"].values & ~present).sum()) + int(labels.attrs.get("n_blank", 0))
    pulses["present"] = labels["present"].copy(data=present)
    pulses = pulses.set_coords(["energy", "delay_stage", "present"])
    pulses.attrs = {"n_blank": blank}
    return pulses


def dark_blocks(run: Run, trains: list[int]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield whole raw frames and their memory cells, train by train."""
    index = run.index
    with FrameSource(run.number, index) as source:
        for train in trains:
            for block, t, pulse in source.blocks(slice(train, train + 1), rows=slice(0, index.frame_shape[0])):
                real = _not_blank(block)
                yield block[real] if not real.all() else block, index.cell_id[t, pulse][real]
