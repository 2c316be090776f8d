"""Which pulses the pump reached: the `pump` part of a config."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.strict import Strict

__all__ = ["LaserPattern", "Pump", "PulsePattern", "TrainPattern"]

Pattern = Annotated[tuple[Literal[0, 1], ...], Field(min_length=1)]


class PulsePattern(Strict):
    """A pattern over the X-ray pulses of a train."""

    pulses: Pattern
    """1: pump on, 0: off; repeats from the first X-ray pulse of every train. [1, 0]: every second pulse."""


class TrainPattern(Strict):
    """A pattern over the trains of a run."""

    trains: Pattern
    """1: pump on, 0: off; repeats from the first train of every run, by train id. [1, 0]: every second train."""


class LaserSlots(Strict):
    """Where the laser's slots of the bunch pattern lie."""

    offset: Annotated[int, Field(ge=-2699, le=2699)]
    """Slots by which the laser's pattern must be moved to lie on the X-ray pulses that it pumps."""


class LaserPattern(Strict):
    """The laser's bits of the bunch pattern, moved by a known number of slots."""

    laser: LaserSlots
    """Where they lie."""


Pump = Literal["auto", "all"] | PulsePattern | TrainPattern | LaserPattern
"""auto: the laser's bits of the bunch pattern where there are any, else all pulses of a scan."""
