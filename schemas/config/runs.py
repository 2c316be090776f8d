"""Which run is what: the `runs` part of a config."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from schemas.strict import Positive, Strict

__all__ = ["DelayScanRun", "EnergyScanRun", "Fluence", "Runs"]

Run = Annotated[int, Field(ge=0, le=99999)]
Fluence = Annotated[float, Field(ge=0)]
"""Pump fluence [mJ/cm²]."""


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
