"""What a simulated experiment is: machine, detector, beams, sample, runs; every number with its unit.

`pipeline.simulate` turns a scenario into raw runs and writes every number that went in beside them.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from schemas.effects import FilmsSpec, LaserSpec, PedestalSpec, SplittingSpec
from schemas.sample import AbsorptionSpec, KineticsSpec, LineSpec
from schemas.scenario_runs import (
    Beam,
    DarkRun,
    DelayScan,
    EnergyScan,
    EnergyScanning,
    FlatFieldRun,
    Pump,
    PumpOffScan,
    PumpPattern,
    RunSpec,
)
from schemas.strict import Positive, Span, Strict, grid_values

__all__ = [
    "AbsorptionSpec",
    "ArrivalSpec",
    "BeamsSpec",
    "DarkRun",
    "DelayScan",
    "DelaySpec",
    "DetectorSpec",
    "EnergyScan",
    "EnergyScanning",
    "FilmsSpec",
    "FlatFieldRun",
    "KineticsSpec",
    "LaserSpec",
    "LightSpec",
    "LineSpec",
    "MachineSpec",
    "PedestalSpec",
    "Pump",
    "PumpOffScan",
    "PumpPattern",
    "RunSpec",
    "Scenario",
    "SourceNames",
    "Span",
    "SplittingSpec",
    "grid_values",
]


NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Count = Annotated[int, Field(ge=0)]


class MachineSpec(Strict):
    """Trains and pulses."""

    pulses_per_train: Annotated[int, Field(ge=1, le=800)] = 40
    """Frames per train; the detector's memory holds up to 800."""
    first_train: Annotated[int, Field(ge=1)] = 1_600_000_000
    """Train id of the first run's first train; of the order that the machine has."""
    first_pulse_id: Count = 0
    """Pulse id that the detector gives the first frame of a train (4.5 MHz)."""
    xray_slot: Count | None = None
    """Slot of the bunch pattern in which the first frame's X-ray pulse lies; none: its pulse id is the slot."""
    pulse_id_step: Annotated[int, Field(ge=1)] = 4
    """Slots between frames: 4 is 1.1 MHz, a common choice to spare the sample."""
    cell_step: Annotated[int, Field(ge=1)] = 1
    """Memory cells between frames."""
    dark_frames: tuple[Count, ...] = ()
    """Frames of each train (by position) without an X-ray pulse, as used for intra-train darks."""
    trains_per_sequence: Annotated[int, Field(ge=1)] | None = None
    """Trains per sequence file; none: one file per run."""
    gap: NotNegative = 100.0
    """Time between runs [s]."""
    time_lapse: Positive = 1.0
    """How much faster drifts run than the clock in the files, so that a few trains stand for a long session."""

    @property
    def first_slot(self) -> int:
        """Slot of the bunch pattern that belongs to the first frame."""
        return self.first_pulse_id if self.xray_slot is None else self.xray_slot

    @model_validator(mode="after")
    def _fits(self) -> MachineSpec:
        last = self.first_pulse_id + (self.pulses_per_train - 1) * self.pulse_id_step
        if last >= 2700:
            raise ValueError(f"the last pulse id would be {last}; the bunch pattern has 2700 slots")
        last += self.first_slot - self.first_pulse_id
        if last >= 2700:
            raise ValueError(f"xray_slot: the last pulse would be in slot {last}; the bunch pattern has 2700")
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
    knee: Positive | None = None
    """Signal and pedestal [ADU] above which the response has another slope, in place of the curvature."""
    slope_above_knee: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Slope above the knee relative to that below."""
    full_scale: Literal[255, 511] = 255
    """Largest raw value: 8-bit or 9-bit mode."""
    dead_pixels: Count = 30
    """Pixels that show one constant value."""
    hot_pixels: Count = 20
    """Pixels with a pedestal of 120-240 ADU and ten times the noise."""
    noisy_pixels: Count = 20
    """Pixels with an ordinary pedestal and ten times the noise."""
    pump_light: NotNegative = 0.0
    """Mean over the module of what the pump laser's stray light adds to a frame that it reaches [ADU], with or without
    X-rays; it varies smoothly over the module."""
    pedestal: PedestalSpec = PedestalSpec()
    """How pedestals differ from those of the dark run."""

    @model_validator(mode="after")
    def _one_response(self) -> DetectorSpec:
        if self.knee is not None and self.curvature:
            raise ValueError("knee stands in place of curvature; set curvature: 0")
        return self


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
    mean: float = 0.0
    """Mean of the recorded arrival time [fs]: what the monitor shows when the stage alone says the delay."""
    recorded: bool = True
    """Whether the runs hold an arrival-time monitor."""


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
    pump: Pump = "all"
    """When the pump laser fires in scans with a fluence."""
    laser: LaserSpec = LaserSpec()
    """The pump laser in the bunch pattern."""
    films: FilmsSpec = FilmsSpec()
    """The pumped film beside the unpumped one."""
    splitting: SplittingSpec = SplittingSpec()
    """Pumped relative to unpumped flux, against photon energy and time."""
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
        if sum(r.kind == "dark" for r in self.runs) > 1:
            raise ValueError("more than one dark run")
        return self

    @model_validator(mode="after")
    def _laser_in_pattern(self) -> Scenario:
        machine, frames = self.machine, range(self.machine.pulses_per_train)
        patterns = [self.pump_in(r) for r in self.runs] if self.laser.recorded else []
        fires = {k for p in patterns if p for k in frames if p.pulses[k % len(p.pulses)]}
        slots = [self.laser.first_slot + k * machine.pulse_id_step for k in sorted(fires)]
        if slots and not 0 <= slots[0] <= slots[-1] < 2700:
            raise ValueError(
                f"laser.first_slot: the laser would fire in slots {slots[0]} to {slots[-1]}; the bunch pattern has 2700"
            )
        return self

    def pump_in(self, spec: RunSpec) -> PumpPattern | None:
        """Return when the laser fires in a run; none: never."""
        if isinstance(spec, EnergyScan | DelayScan):
            pump = (self.pump if spec.pump is None else spec.pump) if spec.fluence > 0.0 else "none"
        else:
            pump = spec.pump if isinstance(spec, DarkRun) else "none"
        if isinstance(pump, PumpPattern):
            return pump
        return PumpPattern() if pump == "all" else None
