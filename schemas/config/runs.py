"""Which run is what: the `runs` part of a config."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from schemas.ranges import Energy, Fluence, Time
from schemas.strict import Strict

__all__ = ["DelayScanRun", "EnergyScanRun", "PumpOffScanRun", "Runs"]

Run = Annotated[int, Field(ge=0, le=99999)]


class EnergyScanRun(Strict):
    """A run in which the monochromator moves."""

    run: Run
    """Run number."""
    fluence: Fluence
    """Pump fluence [mJ/cm²]; not recorded by the machine, so it must be given."""
    delay: Time | None = None
    """Nominal delay [ps]; from the delay stage unless given."""


class DelayScanRun(Strict):
    """A run in which the delay stage moves at fixed photon energy."""

    run: Run
    """Run number."""
    fluence: Fluence
    """Pump fluence [mJ/cm²]."""
    energy: Energy | None = None
    """Photon energy [eV]; from the monochromator unless given."""


class PumpOffScanRun(Strict):
    """An energy scan with the pump off."""

    run: Run
    """Run number."""


class Runs(Strict):
    """Which run is what; `trxas init` proposes it."""

    dark: Run
    """Run without X-rays: the offset of every pixel and memory cell."""
    flat_field: Run | Annotated[list[Run], Field(min_length=1)] | None = None
    """Run with the pump off at one energy, or several over time: the first calibrates the detector, all tell the ratio of
    the sample beams without pump."""
    pump_off_scans: list[PumpOffScanRun] = Field(default=[])
    """Energy scans with the pump off: the ratio of the sample beams against energy, and over time where there are several."""
    energy_scans: list[EnergyScanRun] = Field(default=[])
    """Runs that become `/spectra`."""
    delay_scans: list[DelayScanRun] = Field(default=[])
    """Runs that become `/delay_scan`."""

    @model_validator(mode="after")
    def _something_to_do(self) -> Runs:
        if not self.energy_scans and not self.delay_scans:
            raise ValueError("list at least one run under energy_scans or delay_scans")
        scans = [s.run for s in [*self.scans, *self.pump_off_scans]]
        for listed in (scans, self.flat_fields):
            doubled = sorted({r for r in listed if listed.count(r) > 1})
            if doubled:
                raise ValueError(f"run {doubled[0]} is listed twice")
        calibration = {self.dark, *self.flat_fields} & set(scans)
        if calibration:
            raise ValueError(f"run {min(calibration)} is both a calibration and a scan")
        if self.dark in self.flat_fields:
            raise ValueError(f"run {self.dark} is both dark and flat_field")
        return self

    @property
    def flat_fields(self) -> list[int]:
        """Flat-field runs; the first one calibrates the detector."""
        listed = [] if self.flat_field is None else self.flat_field
        return list(listed) if isinstance(listed, list) else [listed]

    @property
    def scans(self) -> list[EnergyScanRun | DelayScanRun]:
        """All science runs, energy scans first."""
        return [*self.energy_scans, *self.delay_scans]
