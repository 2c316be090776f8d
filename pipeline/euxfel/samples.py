"""Samples of the frames of a run: full frames train by train, or cropped frames spread over the run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import xarray as xr

from pipeline.euxfel.frame_source import FrameSource
from pipeline.euxfel.reader import Run
from pipeline.science.detector.blank import not_blank
from schemas.datasets.measured import FRAMES

__all__ = ["frames_by_train", "sample_frames", "spread_trains"]


def spread_trains(run: Run, frames: int) -> list[int]:
    """Return positions of trains, evenly spread over a run, that together hold about so many frames."""
    total, n = int(run.index.present.sum()), len(run.index.train_id)
    wanted = int(np.clip(np.ceil(n * frames / max(total, 1)), 1, n))
    return np.unique(np.linspace(0, n - 1, wanted).round().astype(int)).tolist()


def sample_frames(run: Run, frames: int, *, rows: slice, columns: slice) -> xr.Dataset:
    """Return a frames dataset of trains spread over the run, cropped; frames without X-rays are not part of it."""
    trains = spread_trains(run, frames)
    labels = run.labels.isel(train=trains)
    n_pulses = labels.sizes["pulse"]
    cube = np.zeros((len(trains), n_pulses, rows.stop - rows.start, columns.stop - columns.start), np.uint16)
    present = np.zeros((len(trains), n_pulses), bool)
    with FrameSource(run.number, run.index) as source:
        for i, train in enumerate(trains):
            for block, _, pulse in source.blocks(slice(train, train + 1), rows=rows):
                cube[i, pulse] = block[:, :, columns]
                present[i, pulse] = not_blank(block)
    present &= ~labels["dark_frame"].values
    coords = {name: labels[name] for name in ("train_id", "pulse_id", "cell_id")}
    dataset = xr.Dataset({"frames": (("train", "pulse", "y", "x"), cube)}, coords=coords)
    dataset = dataset.assign_coords(
        present=(("train", "pulse"), present),
        y=("y", np.arange(rows.start, rows.stop, dtype=np.int16)),
        x=("x", np.arange(columns.start, columns.stop, dtype=np.int16)),
    )
    return FRAMES.describe(dataset)


def frames_by_train(run: Run, trains: Iterable[int]) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Yield the position of a train, whole raw frames of it and their memory cells, train by train."""
    index = run.index
    with FrameSource(run.number, index) as source:
        for train in trains:
            for block, t, pulse in source.blocks(slice(train, train + 1), rows=slice(0, index.frame_shape[0])):
                real = not_blank(block)
                yield train, block[real] if not real.all() else block, index.cell_id[t, pulse][real]
