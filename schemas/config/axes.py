"""From labels to bins: the `delay`, `energy` and `burst` parts of a config."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from schemas.ranges import MOST_BINS, BinStep, EnergyStep, Position, Shift, Time
from schemas.ranges import Energy as PhotonEnergy
from schemas.strict import Positive, Strict

__all__ = ["BinGrid", "BinWidth", "Burst", "Delay", "Energy"]

Edges = Annotated[list[Time], Field(min_length=2, max_length=MOST_BINS + 1)]
EnergyEdges = Annotated[list[PhotonEnergy], Field(min_length=2, max_length=MOST_BINS + 1)]


def _increasing(values: list[float]) -> list[float]:
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError("bin edges must increase")
    return values


class BinWidth(Strict):
    """Bins of equal width."""

    width: BinStep
    """Width of a bin; one bin is centred on zero."""


class BinGrid(Strict):
    """Bins centred on start, start + step, …, stop."""

    start: PhotonEnergy
    """First bin centre."""
    stop: PhotonEnergy
    """Last bin centre (included)."""
    step: EnergyStep
    """Distance between centres."""

    @model_validator(mode="after")
    def _ordered(self) -> BinGrid:
        if self.stop <= self.start:
            raise ValueError(f"stop ({self.stop:g}) must be above start ({self.start:g})")
        if (bins := (self.stop - self.start) / self.step) > MOST_BINS:
            raise ValueError(f"a step of {self.step:g} eV makes {bins:.3g} bins; {MOST_BINS} are the most")
        return self


class Delay(Strict):
    """From the delay stage to the pump-probe delay: sign · (stage − t0) · 2/c − (trigger − its reference) + (arrival − its
    reference).
    """

    t0: Position | Literal["fit"] = 0.0
    """Stage position at time zero, in the stage's own unit (mm, or ps where the stage reports ps); fit: from the delay
    scans, as the t_d of the kinetic form. `trxas t0` tells what they say."""
    sign: Literal[1, -1] = 1
    """+1 where a larger stage position means that the pump comes earlier (delay grows)."""
    bin: Edges | BinWidth | Literal["auto"] = "auto"
    """Bin edges [ps], a width [ps], or auto: one bin per stage position where the stage steps."""
    use_arrival: bool = True
    """Add the arrival-time monitor's value per pulse where the profile names one and the run holds it."""
    arrival_reference: Time | Literal["session"] = "session"
    """Reading [ps] of the arrival monitor that counts as zero; session: the mean over all scans, without outliers. A run
    without the monitor counts as if it read that."""
    trigger_reference: Time | Literal["session"] = "session"
    """The same for the electronic delay of the pump. Give a number where `t0` was found with another trigger delay."""

    @field_validator("bin")
    @classmethod
    def _edges(cls, value: Any) -> Any:
        return _increasing(value) if isinstance(value, list) else value


class Energy(Strict):
    """How photon energies are binned."""

    bins: EnergyEdges | BinGrid | Literal["auto"] = "auto"
    """Bin edges [eV], a grid of centres [eV], or auto: the monochromator's steps, or equal bins for a sweep."""
    offset: Shift = 0.0
    """Added to the monochromator's reading [eV], where it is known to be off; an energy that the config gives stands."""
    offset_stderr: Positive | None = None
    """Standard error of the axis of energies [eV] after `offset`, for the error budget; none: it is not known."""

    @field_validator("bins")
    @classmethod
    def _edges(cls, value: Any) -> Any:
        return _increasing(value) if isinstance(value, list) else value


class Burst(Strict):
    """The difference along the pulses of a train."""

    resolve: bool = False
    """Add /burst_spectra and /burst_delay_scan to the product: delta_xas by pulse index. Off by default: every bin then
    holds a pulse or two per train, and the drift test in /quality looks for a change along the burst in any case."""
    groups: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    """Number of groups of neighbouring pulses; auto: every pulse index by itself, fewer groups only where the result
    would have more than four million bins."""
