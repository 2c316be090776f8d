"""The run configuration: what a person decides; everything else comes from the data.

One YAML file, no merging of several; unknown keys are errors. `schemas.reading` reads it. The parts are beside this
file, in the order in which data flow: runs, detector, binning, fits; and compute and plan.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from schemas.config.axes import Burst, Delay, Energy
from schemas.config.beamtime import Plan
from schemas.config.compute import Compute
from schemas.config.detector import BeamsChoice, Detector, Filters, Frames
from schemas.config.fit_options import Kinetics, Mixture, Peaks
from schemas.config.pump import Pump
from schemas.config.runs import DelayScanRun, EnergyScanRun, Runs
from schemas.instrument import RoleOverride
from schemas.ranges import Fluence
from schemas.strict import Strict
from schemas.usual import Usual

__all__ = ["Config", "RunKind", "Sources", "to_json_schema"]


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


Sources = dict[
    Literal["frames", "energy", "delay_stage", "trigger", "arrival", "intensity", "bunch_pattern"],
    RoleOverride | str | None,
]


RunKind = Literal["dark", "flat_field", "pump_off_scan", "energy_scan", "delay_scan"]


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
    sources: Sources = Field(default={})
    """Overrides of the profile, by role: {source, key, unit, …}, a source name, or null to leave a role out."""
    runs: Runs
    """Which run is what."""
    pump: Pump = "auto"
    """Which pulses the pump reached: auto (bunch pattern, checked against the data), all, a pattern over pulses or trains
    ({pulses: [1, 0]}, {trains: [1, 0]}; it repeats), or the bunch pattern at a given place ({laser: {offset: N}})."""
    usual: Usual = Usual()
    """Usual sizes of films, splitting, drift and wear: what no reference measures is unknown by as much."""
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
        """Return the entry of a scan with pump, or None for any other run."""
        return next((s for s in self.runs.scans if s.run == number), None)

    def kind_of(self, number: int) -> RunKind:
        """Return what a run is."""
        scan = self.run_of(number)
        if scan is not None:
            return "delay_scan" if isinstance(scan, DelayScanRun) else "energy_scan"
        if number in self.runs.flat_fields:
            return "flat_field"
        return "dark" if number == self.runs.dark else "pump_off_scan"


def to_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of a config file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Config.model_json_schema(by_alias=True)
