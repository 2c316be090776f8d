"""Plans blocks of whole trains that fit the memory, and refuses what cannot fit. Pure arithmetic."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pipeline.errors import ConfigError

__all__ = ["BlockPlan", "parse_memory", "plan_blocks"]

_UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}
TARGET = 64 * 1024**2
"""Raw bytes of a block: large enough that opening files does not matter, small enough to stay near the caches."""
COPIES = 2.5
"""Raw buffer, the block of the cube, and compressed chunks on their way to disk."""


@dataclass(frozen=True)
class BlockPlan:
    """Blocks of `trains` trains each, and the projected memory of `workers` of them [bytes]."""

    n_trains: int
    trains: int
    workers: int
    peak: int

    def slices(self) -> list[slice]:
        """Return the positions of the trains of every block."""
        return [slice(a, min(a + self.trains, self.n_trains)) for a in range(0, self.n_trains, self.trains)]


def parse_memory(text: str) -> int:
    """Return bytes for texts such as 2GiB or 500MB; raises ConfigError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmg]i?)?b?\s*", text.lower())
    if not match:
        raise ConfigError(f"compute.memory: {text!r} is not a size such as 2GiB")
    return int(float(match[1]) * _UNITS[match[2] or ""])


def plan_blocks(n_trains: int, train_bytes: int, *, workers: int, memory: str) -> BlockPlan:
    """Return the largest blocks up to 64 MiB of raw data of which `workers` fit into the memory; `train_bytes` are raw.

    Raises
    ------
    ConfigError
        If not even one train per worker fits.
    """
    allowed = parse_memory(memory)
    fits = int(allowed / (workers * COPIES * train_bytes)) if train_bytes else n_trains
    if fits < 1:
        need = workers * COPIES * train_bytes / 1024**2
        raise ConfigError(
            f"compute.memory: {memory} is too little for {workers} workers with trains of {train_bytes / 1e6:.0f} MB; "
            f"give at least {need:.0f}MiB or fewer workers"
        )
    trains = max(1, min(fits, TARGET // max(train_bytes, 1), n_trains))
    return BlockPlan(n_trains, trains, workers, int(workers * COPIES * trains * train_bytes))
