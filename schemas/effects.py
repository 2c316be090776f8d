"""What a real session adds to noise; part of a scenario, and all of it is off unless asked for."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from schemas.strict import Positive, Strict

__all__ = ["FilmsSpec", "LaserSpec", "PedestalSpec", "SplittingSpec"]

NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class LaserSpec(Strict):
    """The pump laser in the bunch pattern, and the shots that it misses."""

    recorded: bool = False
    """Whether the bunch pattern carries the laser's bits."""
    first_slot: int = 0
    """Slot of the bunch pattern that belongs to the first frame of a train. The machine counts the laser's slots from 0
    wherever the X-ray pulses are. Negative where the first frames are not pumped and the first shot is in slot 0."""
    missing_shots: Fraction = 0.0
    """Fraction of the shots that do not come: no bit, no pump."""
    missing_trains: Fraction = 0.0
    """Fraction of the trains without any shot."""


class FilmsSpec(Strict):
    """The pumped film beside the unpumped one."""

    thickness: Positive = 1.0
    """Thickness of the pumped film relative to the unpumped one at the start; multiplies all of its optical density."""
    wear_per_run: Fraction = 0.0
    """Part of the thickness that a run with the pump on takes away."""
    wear_per_dose: NotNegative = 0.0
    """Part of the thickness that is lost per 1000 pumped pulses and mJ/cm²."""


class SplittingSpec(Strict):
    """Pumped relative to unpumped flux: what is added to −ln(pumped/unpumped) whatever the films do."""

    energy: Positive = 529.0
    """Photon energy [eV] where the terms in energy are 0."""
    slope: float = 0.0
    """Against photon energy [OD per eV]."""
    curvature: float = 0.0
    """Against its square [OD per eV²]."""
    wiggle: float = 0.0
    """Amplitude of a sine wave in photon energy [OD]."""
    wiggle_period: Positive = 2.0
    """Period of the wave [eV]."""
    drift: float = 0.0
    """Linear in time from the first train of the session on [OD per hour]."""
    walk: NotNegative = 0.0
    """Random walk in time, σ after one hour [OD]."""


class PedestalSpec(Strict):
    """How the detector's pedestals differ from those of the dark run, per readout ASIC (2 x 8 of 64 x 64 pixels)."""

    mean: float = 0.0
    """Shift of all ASICs in every run but the dark one [ADU]."""
    sigma: NotNegative = 0.0
    """σ over ASICs and runs of what a run adds to that [ADU]."""
    in_run: NotNegative = 0.0
    """σ over ASICs and runs of the change from the first to the last train of a run [ADU]."""
    frame: NotNegative = 0.0
    """σ over ASICs and frames, the dark run's too [ADU]: common-mode noise."""
