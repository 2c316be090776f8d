"""What a simulated experiment is: machine, detector, beams, sample, runs; every number with its unit.

`pipeline.simulate` turns a scenario into raw runs and writes every number that went in beside them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from schemas.sample import AbsorptionSpec, KineticsSpec, LineSpec
from schemas.strict import Grid, Positive, Span, Strict, grid_values

__all__ = [
    "AbsorptionSpec",
    "ArrivalSpec",
    "BeamsSpec",
    "DarkRun",
    "DelayScan",
    "DelaySpec",
    "DetectorSpec",
    "EnergyScan",
    "FlatFieldRun",
    "KineticsSpec",
    "LightSpec",
    "LineSpec",
    "MachineSpec",
    "RunSpec",
    "Scenario",
    "SourceNames",
    "Span",
    "grid_values",
]


NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0)]
Beam = Literal["pumped", "unpumped", "reference"]


class MachineSpec(Strict):
    """Trains and pulses."""

    pulses_per_train: Annotated[int, Field(ge=1, le=800)] = 40
    """Frames per train; the detector's memory holds up to 800."""
    first_train: Annotated[int, Field(ge=1)] = 1_600_000_000
    """Train id of the first run's first train; of the order that the machine has."""
    first_pulse_id: Count = 0
    """Pulse id of the first frame of a train (bunch pattern slot, 4.5 MHz)."""
    pulse_id_step: Annotated[int, Field(ge=1)] = 4
    """Slots between frames: 4 is 1.1 MHz, a common choice to spare the sample."""
    cell_step: Annotated[int, Field(ge=1)] = 1
    """Memory cells between frames."""
    dark_frames: tuple[Count, ...] = ()
    """Frames of each train (by position) without an X-ray pulse, as used for intra-train darks."""
    trains_per_sequence: Annotated[int, Field(ge=1)] | None = None
    """Trains per sequence file; none: one file per run."""

    @model_validator(mode="after")
    def _fits(self) -> MachineSpec:
        last = self.first_pulse_id + (self.pulses_per_train - 1) * self.pulse_id_step
        if last >= 2700:
            raise ValueError(f"the last pulse id would be {last}; the bunch pattern has 2700 slots")
        if (self.pulses_per_train - 1) * self.cell_step >= 800:
            raise ValueError("the detector has 800 memory cells; lower pulses_per_train or cell_step")
        if self.dark_frames and max(self.dark_frames) >= self.pulses_per_train:
            raise ValueError(f"dark_frames: {max(self.dark_frames)} is not below pulses_per_train")
        return self


class LightSpec(Strict):
    """The X-ray pulses."""

    relative_sigma: Annotated[float, Field(ge=0, le=1)] = 0.4
    """Pulse-to-pulse σ / mean behind the monochromator: gamma-distributed with 1/σ² modes, common to all
    beams."""
    train_sigma: Fraction = 0.05
    """Train-to-train σ / mean: slow machine drifts."""
    pulse_energy: Positive = 800.0
    """Mean pulse energy before the monochromator [µJ], for the gas monitor."""
    monitor_slope: NotNegative = 0.1
    """How much of a pulse's deviation behind the monochromator the gas monitor sees; before it, little is
    left."""
    monitor_noise: NotNegative = 0.02
    """σ / mean of the gas monitor's reading."""


class DetectorSpec(Strict):
    """One DSSC module: raw = ADC(v − curvature · v² / full_scale), v = offset + gain · photons + noise."""

    module: Annotated[int, Field(ge=0, le=15)] = 15
    """Module number; 15 is the usual one at this set-up."""
    gain: Positive = 1.2
    """ADU per photon."""
    read_noise: NotNegative = 0.7
    """σ of one reading [ADU]."""
    offset: NotNegative = 40.0
    """Mean pedestal [ADU]."""
    offset_pixel_sigma: NotNegative = 3.0
    """σ over pixels [ADU], the same in all cells."""
    offset_cell_sigma: NotNegative = 1.0
    """σ over memory cells [ADU], the same in all pixels."""
    offset_mixed_sigma: NotNegative = 0.5
    """σ of what depends on pixel and cell [ADU]; without it one dark image would do."""
    curvature: Annotated[float, Field(ge=0, lt=0.5)] = 0.03
    """Relative loss at full scale; a few per cent is usual."""
    full_scale: Literal[255, 511] = 255
    """Largest raw value: 8-bit or 9-bit mode."""
    dead_pixels: Count = 30
    """Pixels that show one constant value."""
    hot_pixels: Count = 20
    """Pixels with a pedestal of 120-240 ADU and ten times the noise."""
    noisy_pixels: Count = 20
    """Pixels with an ordinary pedestal and ten times the noise."""


class BeamsSpec(Strict):
    """Where the zone plate's beams are on the module and how bright."""

    order: Annotated[tuple[Beam, ...], Field(min_length=2, max_length=3)] = (
        "pumped",
        "unpumped",
        "reference",
    )
    """From low to high x. Two beams: no reference."""
    width: Annotated[int, Field(ge=8, le=512)] = 90
    """Extent in x at half intensity [pixels]."""
    height: Annotated[int, Field(ge=8, le=128)] = 110
    """Extent in y at half intensity [pixels]."""
    first_x: Count = 40
    """Left edge of the first beam [pixels]."""
    first_y: Count = 9
    """Lower edge of the beams [pixels]."""
    pitch: Annotated[int, Field(ge=8)] = 150
    """Distance of neighbouring beams in x [pixels]."""
    edge_sigma: Positive = 1.2
    """Softness of the edges, σ of the error function [pixels]."""
    unevenness: Annotated[float, Field(ge=0, lt=0.8)] = 0.35
    """Amplitude of the smooth, beam-specific structure of the illumination relative to its mean."""
    photons: Positive = 60.0
    """Mean photons per pixel, inside a beam without sample and at mean pulse energy; a few per cent of the
    pulses saturate somewhere with this."""
    flux: tuple[Positive, Positive, Positive] = (0.96, 1.04, 1.0)
    """Flux of the pumped, unpumped and reference beam relative to `photons`: the diffraction orders are not
    equal."""
    jitter: Fraction = 0.0
    """σ / mean by which one beam of one pulse deviates from the common intensity; 0: shot noise is all there
    is."""

    @model_validator(mode="after")
    def _on_module(self) -> BeamsSpec:
        if len(set(self.order)) != len(self.order) or not {"pumped", "unpumped"} <= set(self.order):
            raise ValueError("order must name pumped and unpumped, and reference at most once")
        margin = int(np.ceil(4 * self.edge_sigma))
        right = self.first_x + (len(self.order) - 1) * self.pitch + self.width + margin
        if self.first_x < margin or right > 512:
            raise ValueError(f"the beams reach from x = {self.first_x - margin} to {right}; the module is 512 wide")
        if self.first_y < margin or self.first_y + self.height + margin > 128:
            raise ValueError(f"the beams reach to y = {self.first_y + self.height + margin}; the module is 128 high")
        if self.pitch < self.width + 2 * margin:
            raise ValueError(f"pitch {self.pitch} lets beams of width {self.width} overlap")
        return self


class DelaySpec(Strict):
    """The delay stage: delay = sign · (stage − t0) · 2/c − trigger + arrival, both monitors absolute."""

    t0: float = 120.0
    """Stage position at time zero [mm]."""
    sign: Literal[1, -1] = 1
    """+1: a larger position makes the pump earlier."""
    encoder_noise: NotNegative = 0.0001
    """σ of the recorded position [mm]; 0.1 µm is 0.7 fs."""
    trigger: float | None = None
    """Constant electronic delay of the pump [ps], which the stage makes up for; none: not recorded."""


class ArrivalSpec(Strict):
    """Arrival time of the X-ray pulses; later pulses see a longer delay."""

    train_sigma: NotNegative = 0.0
    """Train-to-train jitter [fs]."""
    pulse_sigma: NotNegative = 0.0
    """Pulse-to-pulse jitter [fs]."""
    monitor_noise: NotNegative = 1.0
    """σ of the recorded arrival time [fs]."""
    recorded: bool = True
    """Whether the run holds an arrival-time monitor."""


class SourceNames(Strict):
    """Source and key names; the defaults are those of the instrument profile `scs-dssc-boz`."""

    frames: str = "SCS_DET_DSSC1M-1/DET/{module}CH0:xtdf"
    """Detector module."""
    energy: str = "SA3_XTD10_MONO/MDL/PHOTON_ENERGY"
    """Monochromator."""
    energy_key: str = "actualEnergy"
    """Key of the photon energy [eV]."""
    delay_stage: str = "SCS_ILH_LAS/MOTOR/LT3"
    """Delay stage."""
    delay_stage_key: str = "actualPosition"
    """Key of the position [mm]."""
    trigger: str = "SCS_ILH_LAS/DOOCS/PP800_PHASESHIFTER"
    """Electronic pump delay."""
    trigger_key: str = "actualPosition"
    """Key of the electronic delay [ps]."""
    intensity: str = "SCS_BLU_XGM/XGM/DOOCS:output"
    """Gas monitor."""
    intensity_key: str = "data.intensitySa3TD"
    """Key of the pulse energies [µJ], one slot per X-ray pulse, unused slots 1."""
    arrival: str = "SA3_XTD10_DOOCS/BAM/LCAT1932M_TL:output"
    """Bunch arrival monitor."""
    arrival_key: str = "data.absoluteTD"
    """Key of the arrival times [fs], index 2 · pulse id."""
    timeserver: str = "SCS_RR_UTC/TSYS/TIMESERVER:outputBunchPattern"
    """Bunch pattern table."""
    bunch_pattern: str = "SCS_RR_UTC/MDL/BUNCH_DECODER"
    """Ids and number of the X-ray pulses."""


class _Run(Strict):
    run: Annotated[int, Field(ge=0, le=9999)]
    """Run number."""
    missing_trains: Count = 0
    """Trains that the control system recorded and the detector did not."""
    partial_trains: Count = 0
    """Trains of which the detector recorded only some frames."""
    flux: Annotated[dict[Beam, Positive], Field(default_factory=dict)]
    """Factor on the flux of a beam in this run: a step of the normalisation."""


class DarkRun(_Run):
    """No X-rays."""

    kind: Literal["dark"]
    trains: Annotated[int, Field(ge=1)]
    """Length of the run."""


class FlatFieldRun(_Run):
    """Pump off, fixed energy."""

    kind: Literal["flat_field"]
    trains: Annotated[int, Field(ge=1)]
    """Length of the run."""
    energy: Positive
    """Photon energy [eV]."""


class EnergyScan(_Run):
    """The monochromator moves, the delay stands."""

    kind: Literal["energy_scan"]
    energies: Grid
    """Photon energies [eV]. A sweep uses only the lowest and the highest."""
    trains_per_step: Annotated[int, Field(ge=1)] = 1
    """Trains at each energy; a sweep has as many trains as the steps would have had."""
    sweep: Annotated[int, Field(ge=0)] = 0
    """0: steps. n: n continuous ramps up and down."""
    fluence: NotNegative
    """Pump fluence [mJ/cm²]."""
    delay: float
    """Pump-probe delay [ps]."""
    encoder_noise: NotNegative = 0.002
    """σ of the recorded energy [eV]."""
    backlash: float = 0.0
    """Play of the drive [eV]: the recorded energy is ahead of the true one by half of it on the way up, behind on the
    way down."""


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


RunSpec = Annotated[DarkRun | FlatFieldRun | EnergyScan | DelayScan, Field(discriminator="kind")]


class Scenario(Strict):
    """A simulated experiment."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Name of the dataset."""
    title: str = ""
    """One line for people."""
    seed: Count = 1
    """Start of all random numbers: the same seed gives the same files, however many workers write them."""
    machine: MachineSpec = MachineSpec()
    """Trains and pulses."""
    light: LightSpec = LightSpec()
    """The X-ray pulses."""
    detector: DetectorSpec = DetectorSpec()
    """The module."""
    beams: BeamsSpec = BeamsSpec()
    """The zone plate's beams."""
    absorption: AbsorptionSpec = AbsorptionSpec()
    """The sample's spectrum."""
    kinetics: KineticsSpec = KineticsSpec()
    """The sample's answer to the pump."""
    burst_od: float = 0.0
    """Optical density that the pumped beam gains from the first to the last frame of a train, linearly: what
    heating along the burst looks like."""
    delay: DelaySpec = DelaySpec()
    """Delay stage."""
    arrival: ArrivalSpec = ArrivalSpec()
    """Arrival time."""
    sources: SourceNames = SourceNames()
    """Names in the files."""
    runs: Annotated[tuple[RunSpec, ...], Field(min_length=1)]
    """The runs, in order of time."""
    process: Annotated[dict[str, dict[str, Any]], Field(default_factory=dict)]
    """Sections of the run configuration that is written beside the runs, where its defaults do not suit."""

    @model_validator(mode="after")
    def _consistent(self) -> Scenario:
        numbers = [r.run for r in self.runs]
        doubled = sorted({n for n in numbers if numbers.count(n) > 1})
        if doubled:
            raise ValueError(f"run {doubled[0]} is listed twice")
        for kind in ("dark", "flat_field"):
            if sum(r.kind == kind for r in self.runs) > 1:
                raise ValueError(f"more than one {kind} run")
        return self
