"""Blocks of trains as processed by a worker: frames in, a cube chunk and the photons per pulse out.

A block does not depend on the others, nor on where it is worked on; it can be sent to other processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from pipeline.euxfel.frame_source import FrameSource
from pipeline.science.detector.beam_photons import Reducer, border_block, pedestal_block, reduce_block
from pipeline.science.detector.blank import not_blank
from pipeline.stages.frames import Chunk, Target, recorded_frames
from pipeline.storage import cube as cubes
from pipeline.storage.ledger import Ledger, Result

__all__ = ["Block", "RawBlock", "StoredBlock", "finish"]

BORDER_FRAMES = 8
"""Frames of a train that say how much light is at the border of the regions."""
UNPACK_FRAMES = 16
"""Frames of a stored cube decompressed at a time before they are reduced."""


class Block(Protocol):
    """A block of trains to reduce."""

    @property
    def number(self) -> int:
        """Position of the block in the run."""

    def reduce(self, kernel: Reducer) -> tuple[Result, int]:
        """Return photons, photons_stderr, n_saturated and, where there are unlit pixels, pedestal (train, pulse, beam) and
        present (train, pulse) by name, and the size of the chunk that was written [bytes]; 0 for none.
        """


def finish(block: Block, shared: tuple[Reducer, Ledger | None]) -> Result:
    """Reduce a block and record it in the ledger."""
    kernel, ledger = shared
    if ledger is not None and not ledger.is_open:
        raise ledger.taken_over()
    result, chunk_bytes = block.reduce(kernel)
    if ledger is not None:
        ledger.add(block.number, result, chunk_bytes)
    return result


@dataclass(frozen=True)
class RawBlock:
    """Trains of a raw run; `source` holds no others."""

    number: int
    source: FrameSource
    target: Target | None

    def reduce(self, kernel: Reducer) -> tuple[Result, int]:
        """See `Block`."""
        index, target = self.source.index, self.target
        n_trains, n_pulses = index.row.shape
        rows = kernel.rows if target is None else target.rows
        result = _empty((n_trains, n_pulses), kernel)
        chunk = None if target is None else Chunk(target, n_pulses)
        for block, real, where in recorded_frames(self.source, rows):
            values = reduce_block(block, index.cell_id[where], kernel, y0=rows.start, x0=0)
            result["present"][where] = real
            result["photons"][where] = np.where(real[:, None], values[0], np.nan)
            result["photons_stderr"][where] = np.where(real[:, None], values[1], np.nan)
            result["n_saturated"][where] = np.where(real[:, None], values[2], 0)
            if kernel.unlit is not None:
                pedestal = pedestal_block(block, index.cell_id[where], kernel, y0=rows.start, x0=0)
                result["pedestal"][where] = np.where(real[:, None], pedestal, np.nan)
            shown = real & _shows_border(where[1], n_pulses)
            border = border_block(block[shown], index.cell_id[where][shown], kernel, y0=rows.start, x0=0)
            _add_border(result, where[0][shown], border, values[0][shown])
            if chunk is not None:
                chunk.put(block, where)
        return result, 0 if chunk is None else chunk.write(self.number, result["present"])


@dataclass(frozen=True)
class StoredBlock:
    """A chunk of a frames cube; `cell_id` and `present` (train, pulse) of its trains, module pixel of its first."""

    number: int
    path: Path
    trains: int
    cell_id: np.ndarray
    present: np.ndarray
    frame_shape: tuple[int, int]
    y0: int
    x0: int

    def reduce(self, kernel: Reducer) -> tuple[Result, int]:
        """See `Block`."""
        grid = self.present.shape
        packed = cubes.PackedChunk(self.path, self.number, (self.trains, grid[1], *self.frame_shape))
        cell, count = self.cell_id.reshape(-1), self.present.size
        train, pulse = (np.broadcast_to(n, grid).reshape(-1) for n in np.ogrid[: grid[0], : grid[1]])
        result = _empty((count,), kernel, n_trains=grid[0])
        for first in range(0, count, UNPACK_FRAMES):
            some = slice(first, min(first + UNPACK_FRAMES, count))
            block = packed.frames(first, some.stop - first)
            values = reduce_block(block, cell[some], kernel, y0=self.y0, x0=self.x0)
            result["photons"][some], result["photons_stderr"][some], result["n_saturated"][some] = values
            result["present"][some] = not_blank(block)
            if kernel.unlit is not None:
                result["pedestal"][some] = pedestal_block(block, cell[some], kernel, y0=self.y0, x0=self.x0)
            shown = result["present"][some] & self.present.reshape(-1)[some] & _shows_border(pulse[some], grid[1])
            border = border_block(block[shown], cell[some][shown], kernel, y0=self.y0, x0=self.x0)
            _add_border(result, train[some][shown], border, values[0][shown])
        real = result["present"]
        real &= self.present.reshape(-1)
        by_train = {name: result.pop(name) for name in ("border", "border_total")}
        for name in result.keys() - {"present"}:
            result[name][~real] = np.nan if result[name].dtype.kind == "f" else 0
        return {name: values.reshape(*grid, *values.shape[1:]) for name, values in result.items()} | by_train, 0


def _shows_border(pulse: np.ndarray, n_pulses: int) -> np.ndarray:
    """Whether frames of these pulse indices are among the few of their train that the border is looked at in."""
    every: np.ndarray = pulse % max(n_pulses // BORDER_FRAMES, 1) == 0
    return every


def _add_border(result: Result, train: np.ndarray, border: np.ndarray, photons: np.ndarray) -> None:
    known = np.isfinite(photons).all(axis=1)
    for name, values in (("border", border), ("border_total", photons)):
        np.add.at(result[name], train[known], values[known])


def _empty(shape: tuple[int, ...], kernel: Reducer, *, n_trains: int | None = None) -> Result:
    table = (*shape, kernel.n_beams)
    pedestal = {} if kernel.unlit is None else {"pedestal": np.full(table, np.nan)}
    by_train = (shape[0] if n_trains is None else n_trains, kernel.n_beams)
    return pedestal | {
        "border": np.zeros(by_train),
        "border_total": np.zeros(by_train),
        "photons": np.full(table, np.nan),
        "photons_stderr": np.full(table, np.nan),
        "n_saturated": np.zeros(table, np.int32),
        "present": np.zeros(shape, bool),
    }
