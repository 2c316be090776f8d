"""The run configuration: what a person decides; everything else comes from the data.

One YAML file, no merging of several; unknown keys are errors. `schemas.reading` reads it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    Tag,
    field_validator,
    model_validator,
)

from schemas.compute import Compute
from schemas.instrument import RoleOverride
from schemas.plan import Plan
from schemas.strict import Strict

__all__ = [
    "Config",
    "DelayScanRun",
    "DosColumn",
    "EnergyScanRun",
    "to_json_schema",
]


Run = Annotated[int, Field(ge=0, le=99999)]
Fluence = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Roi = tuple[int, int, int, int]
Edges = Annotated[list[float], Field(min_length=2)]


def _increasing(values: list[float]) -> list[float]:
    if any(b <= a for a, b in pairwise(values)):
        raise ValueError("bin edges must increase")
    return values


class EnergyScanRun(Strict):
    """A run in which the monochromator moves."""

    run: Run
    """Run number."""
    fluence: Fluence
    """Pump fluence [mJ/cm²]; not recorded by the machine, so it must be given."""
    delay: float | None = None
    """Nominal delay [ps]; from the delay stage unless given."""


class DelayScanRun(Strict):
    """A run in which the delay stage moves at fixed photon energy."""

    run: Run
    """Run number."""
    fluence: Fluence
    """Pump fluence [mJ/cm²]."""
    energy: Positive | None = None
    """Photon energy [eV]; from the monochromator unless given."""


class Runs(Strict):
    """Which run is what; `trxas init` proposes it."""

    dark: Run
    """Run without X-rays: the offset of every pixel and memory cell."""
    flat_field: Run | None = None
    """Run with the pump off: fixes the constant between the beams and calibrates the detector."""
    energy_scans: list[EnergyScanRun] = Field(default=[])
    """Runs that become `/spectra`."""
    delay_scans: list[DelayScanRun] = Field(default=[])
    """Runs that become `/delay_scan`."""

    @model_validator(mode="after")
    def _something_to_do(self) -> Runs:
        if not self.energy_scans and not self.delay_scans:
            raise ValueError("list at least one run under energy_scans or delay_scans")
        scans = [s.run for s in self.scans]
        doubled = sorted({r for r in scans if scans.count(r) > 1})
        if doubled:
            raise ValueError(f"run {doubled[0]} is listed twice")
        calibration = {self.dark, self.flat_field} & set(scans)
        if calibration:
            raise ValueError(f"run {min(r for r in calibration if r is not None)} is both a calibration and a scan")
        if self.dark == self.flat_field:
            raise ValueError(f"run {self.dark} is both dark and flat_field")
        return self

    @property
    def scans(self) -> list[EnergyScanRun | DelayScanRun]:
        """All science runs, energy scans first."""
        return [*self.energy_scans, *self.delay_scans]


class BinWidth(Strict):
    """Bins of equal width."""

    width: Positive
    """Width of a bin; one bin is centred on zero."""


class BinGrid(Strict):
    """Bins centred on start, start + step, …, stop."""

    start: float
    """First bin centre."""
    stop: float
    """Last bin centre (included)."""
    step: Positive
    """Distance between centres."""

    @model_validator(mode="after")
    def _ordered(self) -> BinGrid:
        if self.stop <= self.start:
            raise ValueError(f"stop ({self.stop:g}) must be above start ({self.start:g})")
        return self


class Delay(Strict):
    """From the delay stage to the pump-probe delay: sign · (stage − t0) · 2/c − trigger + arrival."""

    t0: float = 0.0
    """Stage position at time zero, in the stage's own unit (mm, or ps where the stage reports ps)."""
    sign: Literal[1, -1] = 1
    """+1 where a larger stage position means that the pump comes earlier (delay grows)."""
    bin: Edges | BinWidth | Literal["auto"] = "auto"
    """Bin edges [ps], a width [ps], or auto: one bin per stage position where the stage steps."""
    use_arrival: bool = True
    """Add the arrival-time monitor's value per pulse where the profile names one and the run holds it."""

    @field_validator("bin")
    @classmethod
    def _edges(cls, value: Any) -> Any:
        return _increasing(value) if isinstance(value, list) else value


class Energy(Strict):
    """How photon energies are binned."""

    bins: Edges | BinGrid | Literal["auto"] = "auto"
    """Bin edges [eV], a grid of centres [eV], or auto: the monochromator's steps, or equal bins for a sweep."""

    @field_validator("bins")
    @classmethod
    def _edges(cls, value: Any) -> Any:
        return _increasing(value) if isinstance(value, list) else value


class Beams(Strict):
    """Regions of the beams in module pixels, [x0, x1, y0, y1], upper ends excluded."""

    pumped: Roi
    """The beam through the pumped sample."""
    unpumped: Roi
    """The beam through the unpumped sample."""
    reference: Roi | None = None
    """The beam through no sample, where there is one."""

    @field_validator("pumped", "unpumped", "reference")
    @classmethod
    def _region(cls, roi: Roi | None) -> Roi | None:
        if roi is not None and not (0 <= roi[0] < roi[1] and 0 <= roi[2] < roi[3]):
            raise ValueError(f"{list(roi)} is not [x0, x1, y0, y1] with 0 <= x0 < x1 and 0 <= y0 < y1")
        return roi


class AutoBeams(Strict):
    """Find the beams on the mean image of the flat-field run."""

    count: Literal[2, 3] = 3
    """How many beams the zone plate makes."""
    order: list[Literal["pumped", "unpumped", "reference"]] | Literal["auto"] = "auto"
    """Roles from low to high x. Auto: the reference is the beam without an edge, the pumped beam the one that
    answers to the pump; where the data cannot tell, the order is pumped, unpumped, reference."""

    @model_validator(mode="after")
    def _roles(self) -> AutoBeams:
        if self.order != "auto":
            expected = {"pumped", "unpumped", "reference"} if self.count == 3 else {"pumped", "unpumped"}
            if set(self.order) != expected or len(self.order) != self.count:
                raise ValueError(f"order must name each of {', '.join(sorted(expected))} once")
        return self


def _beams_kind(value: Any) -> str:
    if isinstance(value, Beams) or (isinstance(value, dict) and {"pumped", "unpumped"} & set(value)):
        return "regions"
    return "word" if isinstance(value, str) else "search"


BeamsChoice = Annotated[
    Annotated[Beams, Tag("regions")] | Annotated[AutoBeams, Tag("search")] | Annotated[Literal["auto"], Tag("word")],
    Discriminator(_beams_kind),
]


class FlatField(Strict):
    """Smooth correction of each beam's patch."""

    order: Annotated[int, Field(ge=1, le=3)] = 1
    """Order of the polynomial in x and y; applied only where it lowers the noise on held-out trains."""


class Detector(Strict):
    """From ADU to photons."""

    calibration: str = "auto"
    """auto: made from the dark and flat-field runs; or the hash of one made before, a folder in `<out>/calibration`."""
    gain: Positive | Literal["auto"] = "auto"
    """ADU per photon; auto: photon-transfer curve of the flat-field run."""
    nonlinearity: str = "auto"
    """auto: self-calibrated on the flat-field run; none; or a file with columns adu, corrected_adu."""
    flat_field: FlatField | Literal["none"] = FlatField()
    """Order of the flat-field correction, or none."""
    saturation: Annotated[int, Field(ge=1, le=65535)] = 255
    """Raw value [ADU] at and above which a pixel is saturated."""


class Filters(Strict):
    """Which pulses count."""

    min_intensity: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Floor, as a fraction of the run's median photons per pulse: ratios of almost nothing only add noise."""
    max_saturated: Annotated[int, Field(ge=0)] = 0
    """Saturated pixels allowed in any beam of a pulse; clipped pixels bias the ratio."""
    exclude_pulses: list[Annotated[int, Field(ge=0)]] = Field(default=[])
    """Pulse ids to leave out, e.g. a bunch that is known to be bad."""


class Burst(Strict):
    """The difference along the pulses of a train."""

    resolve: bool = False
    """Add /burst_spectra and /burst_delay_scan to the product: delta_xas by pulse index. Off by default: every bin then
    holds a pulse or two per train, and the drift test in /quality looks for a change along the burst in any case."""
    groups: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    """Number of groups of neighbouring pulses; auto: every pulse index by itself, fewer groups only where the result
    would have more than four million bins."""


class Window(Strict):
    """A stretch of photon energy."""

    window: tuple[float, float] | Literal["auto"] = "auto"
    """Lower and upper energy [eV]; auto: the whole range of the spectra."""

    @field_validator("window")
    @classmethod
    def _ordered(cls, value: Any) -> Any:
        if value != "auto" and value[1] <= value[0]:
            raise ValueError(f"{list(value)} is not [low, high]")
        return value


class Peaks(Window):
    """Where peaks A and B of the difference are sought."""


class Measured(Strict):
    """A number from a separate measurement, used as a Gaussian prior."""

    value: float
    """The measured value [ps]."""
    stderr: Positive
    """Its standard error [ps]."""


class Kinetics(Strict):
    """The three-exponential fit."""

    power: Literal[1, 2] = 2
    """2: squared, as printed in the seed publication; 1: not squared."""
    irf_sigma: Annotated[float, Field(ge=0)] | Measured | Literal["fit"] = "fit"
    """Gaussian σ of the instrument response [ps]: a number (fixed), a measured value with error, or fit."""
    t_d: float | Measured | Literal["fit"] = "fit"
    """Time zero of the signal [ps]: a number (fixed), a measured value with error, or fit."""
    global_: Annotated[bool, Field(alias="global")] = True
    """Share the times over the energies of the spectra too, where these have enough delays."""
    n_exponentials: Literal[1, 2, 3] = 3
    """Number of times; 3 is the seed's model."""
    amplitude_prior: Positive | Literal["none"] = 3.0
    """Weak Gaussian prior on the amplitudes, in units of the largest signal; none switches it off."""
    bootstrap: Literal["none", "parametric", "trains"] = "none"
    """Refits of replicates for a second opinion on the errors; parametric: fit plus noise of the given errors; trains:
    trains drawn anew from the pulses, which knows of noise that the errors miss. Off: it takes as long as n_bootstrap
    fits."""
    n_bootstrap: Annotated[int, Field(ge=20, le=10_000)] = 200
    """Number of replicates; 200 give the ends of a 68 % interval to 10 % of its width."""
    per_energy: bool = False
    """Fit every energy alone too, with the time zero and response of the shared fit. Off: single energies rarely
    determine the times, and each takes as long as the shared fit."""


class DosColumn(Strict):
    """One column of a file that holds several DOS."""

    file: str
    """Text file with a header line that names the columns, relative to the config."""
    column: str | None = None
    """Name of the DOS column; may be left out where there is only one."""


Dos = str | DosColumn


class MixtureModel(Strict):
    """Another pair of DOS that is fitted too."""

    name: Annotated[str, Field(min_length=1)]
    """What it is called in the product."""
    dos_ground: Dos
    """As `mixture.dos_ground`."""
    dos_excited: Dos
    """As `mixture.dos_excited`."""


class Mixture(Window):
    """Ground- and excited-state DOS fitted to the spectra."""

    dos_ground: Dos | None = None
    """File with columns energy_eV, dos, relative to the config, or {file, column}; none: built-in model peaks."""
    dos_excited: Dos | None = None
    """The same for the excited state."""
    alternatives: list[MixtureModel] = Field(default=[])
    """Other DOS for the same states: fitted too, and their distance from the first is the model error of alpha."""
    energy_zero: float = 0.0
    """Photon energy [eV] at which the energies of the DOS files are zero; 0 where they are photon energies. The fit
    moves a DOS by at most 3 eV."""
    min_delay: float = 0.8
    """Delays [ps] from which the mixture holds: after the electronic relaxation."""
    gaussian_fwhm: Annotated[float, Field(ge=0)] = 0.0
    """Instrument broadening applied to the DOS [eV]."""
    lorentzian_fwhm: Annotated[float, Field(ge=0)] = 0.0
    """Lifetime broadening applied to the DOS [eV]."""

    @model_validator(mode="after")
    def _both(self) -> Mixture:
        if (self.dos_ground is None) != (self.dos_excited is None):
            raise ValueError("give both dos_ground and dos_excited, or neither")
        names = ["main", *(m.name for m in self.alternatives)]
        if self.alternatives and self.dos_ground is None:
            raise ValueError("alternatives need dos_ground and dos_excited beside them")
        if len(set(names)) < len(names):
            raise ValueError(f"alternatives need names of their own, other than main (got {', '.join(names[1:])})")
        return self

    @property
    def models(self) -> dict[str, tuple[DosColumn, DosColumn]]:
        """The pairs (ground, excited) of DOS by name, the one that is reported first; empty: built-in peaks."""
        if self.dos_ground is None or self.dos_excited is None:
            return {}
        pairs = {"main": (self.dos_ground, self.dos_excited)}
        pairs |= {m.name: (m.dos_ground, m.dos_excited) for m in self.alternatives}
        return {n: (_dos_column(ground), _dos_column(excited)) for n, (ground, excited) in pairs.items()}


def _dos_column(dos: Dos) -> DosColumn:
    return DosColumn(file=dos) if isinstance(dos, str) else dos


class Frames(Strict):
    """What is kept of the frames."""

    keep: Literal["beams", "full", "none"] = "beams"
    """beams: the rectangle that holds the beams; full: the module; none: only the pulses are stored."""


class Watch(Strict):
    """What `trxas watch` does with runs as they come in."""

    fluence: Fluence | None = None
    """Pump fluence [mJ/cm²] of energy and delay scans that are found and not listed: they are added. Without it such runs
    are reported once and left alone, because the machine does not record the fluence."""
    settle: Annotated[float, Field(ge=0)] = 30.0
    """Time [s] for which the files of a run must not have changed: files are written without a pause, and file systems tell
    of a change after a few seconds."""
    marker: str = "*.complete"
    """Name pattern of a file that the facility puts into the folder of a closed run; where it is, nothing else is waited
    for. Runs without one are judged by `settle`."""


class Sample(Strict):
    """What was measured; changes no number, but other programs want to know it (exports)."""

    name: str | None = None
    """Name of the sample; the dataset's name unless given."""
    formula: str | None = None
    """Chemical formula, e.g. BaBiO3."""
    element: Annotated[str, Field(pattern=r"^[A-Z][a-z]?$")] | None = None
    """Symbol of the absorbing element, e.g. O."""
    edge: Annotated[str, Field(pattern=r"^(K|[LMN][1-7]?)$")] | None = None
    """Absorption edge, e.g. K or L3."""


class Proposal(Strict):
    """Raw data at the facility."""

    proposal: int
    """Proposal number, opened by extra-data."""


class Config(Strict):
    """A dataset to process."""

    schema_: Annotated[Literal[1], Field(alias="schema")] = 1
    """Version of this format."""
    dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    """Names the product's folder."""
    raw: str | Proposal = "raw"
    """Folder of rNNNN runs, relative to the config file, or {proposal: N} at the facility."""
    instrument: str = "scs-dssc-boz"
    """Name of an instrument profile, or the path of a profile file."""
    sources: dict[
        Literal["frames", "energy", "delay_stage", "trigger", "arrival", "intensity", "bunch_pattern"],
        RoleOverride | str | None,
    ] = Field(default={})
    """Overrides of the profile, by role: {source, key, unit, …}, a source name, or null to leave a role out."""
    runs: Runs
    """Which run is what."""
    delay: Delay = Delay()
    """Pump-probe delay."""
    energy: Energy = Energy()
    """Photon energy."""
    beams: BeamsChoice = "auto"
    """Where the beams are on the module."""
    detector: Detector = Detector()
    """Detector calibration."""
    filters: Filters = Filters()
    """Pulse selection."""
    burst: Burst = Burst()
    """Resolution along the burst."""
    peaks: Peaks = Peaks()
    """Peak tracking."""
    kinetics: Kinetics = Kinetics()
    """Kinetic fit."""
    mixture: Mixture = Mixture()
    """Mixture fit."""
    plan: Plan = Plan()
    """What `trxas plan` assumes before there are data."""
    frames: Frames = Frames()
    """What is stored of the frames."""
    compute: Compute = Compute()
    """Where it runs."""
    watch: Watch = Watch()
    """How runs that come in are taken up."""
    sample: Sample = Sample()
    """What was measured."""

    def run_of(self, number: int) -> EnergyScanRun | DelayScanRun | None:
        """Return the scan entry of a run, or None for the dark and flat-field runs."""
        return next((s for s in self.runs.scans if s.run == number), None)


def to_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Config.model_json_schema(by_alias=True)
