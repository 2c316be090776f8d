"""The runs of a scenario: what moves, how long it takes, when the pump laser fires."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from schemas.strict import Grid, Positive, Strict

__all__ = [
    "Beam",
    "DarkRun",
    "DelayScan",
    "EnergyScan",
    "EnergyScanning",
    "FlatFieldRun",
    "Pump",
    "PumpOffScan",
    "PumpPattern",
    "RunSpec",
]

NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=0)]
Beam = Literal["pumped", "unpumped", "reference"]
Repeated = Annotated[tuple[Literal[0, 1], ...], Field(min_length=1)]


class PumpPattern(Strict):
    """Which frames the pump laser reaches: 1 fires, 0 does not; both patterns repeat and both must say 1."""

    pulses: Repeated = (1,)
    """Along the frames of a train, from its first frame on: [1, 0] is every second, [0, 1] the odd ones."""
    trains: Repeated = (1,)
    """Along the trains, by train id modulo the length of the pattern."""


Pump = Literal["all", "none"] | PumpPattern


class _Run(Strict):
    run: Annotated[int, Field(ge=0, le=9999)]
    """Run number."""
    gap: NotNegative | None = None
    """Time since the end of the run before [s]; none: `machine.gap`."""
    missing_trains: Count = 0
    """Trains that the control system recorded and the detector did not."""
    partial_trains: Count = 0
    """Trains of which the detector recorded only some frames."""
    flux: Annotated[dict[Beam, Positive], Field(default_factory=dict)]
    """Factor on the flux of a beam in this run: a step of the normalisation."""
    arrival_recorded: bool = True
    """Whether the arrival monitor is in this run, where the session has one."""
    trigger: float | None = None
    """Electronic delay of the pump in this run [ps], which the stage makes up for; none: `delay.trigger`."""


class DarkRun(_Run):
    """No X-rays."""

    kind: Literal["dark"]
    trains: Annotated[int, Field(ge=1)]
    """Length of the run."""
    pump: Pump = "none"
    """When the pump laser fires."""


class FlatFieldRun(_Run):
    """Pump off, fixed energy."""

    kind: Literal["flat_field"]
    trains: Annotated[int, Field(ge=1)]
    """Length of the run."""
    energy: Positive
    """Photon energy [eV]."""


class EnergyScanning(_Run):
    """What every run has in which the monochromator moves."""

    energies: Grid
    """Photon energies [eV]. A sweep uses only the lowest and the highest."""
    trains_per_step: Annotated[int, Field(ge=1)] = 1
    """Trains at each energy; a sweep has as many trains as the steps would have had."""
    sweep: Annotated[int, Field(ge=0)] = 0
    """0: steps. n: n continuous ramps up and down."""
    encoder_noise: NotNegative = 0.002
    """σ of the recorded energy [eV]."""
    backlash: float = 0.0
    """Play of the drive [eV]: the recorded energy is ahead of the true one by half of it on the way up, behind on the
    way down."""


class PumpOffScan(EnergyScanning):
    """The monochromator moves, the pump laser is off: what the two beams differ by without it."""

    kind: Literal["pump_off_scan"]
    delay: float = 0.0
    """Where the delay stage stands [ps]."""


class EnergyScan(EnergyScanning):
    """The monochromator moves, the delay stands."""

    kind: Literal["energy_scan"]
    fluence: NotNegative
    """Pump fluence [mJ/cm²]."""
    delay: float
    """Pump-probe delay [ps]."""
    pump: Pump | None = None
    """When the pump laser fires; none: as in the scenario."""


class DelayScan(_Run):
    """The delay stage steps, the energy stands."""

    kind: Literal["delay_scan"]
    delays: Grid
    """Delays [ps], in the order in which they are taken."""
    trains_per_step: Annotated[int, Field(ge=1)] = 1
    """Trains at each delay."""
    energy: Positive
    """Photon energy [eV]."""
    fluence: NotNegative
    """Pump fluence [mJ/cm²]."""
    pump: Pump | None = None
    """When the pump laser fires; none: as in the scenario."""


RunSpec = Annotated[DarkRun | FlatFieldRun | PumpOffScan | EnergyScan | DelayScan, Field(discriminator="kind")]
