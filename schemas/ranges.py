"""What numbers of an experiment can be at all: beyond these a config, or a device, says something else than it means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import core_schema

__all__ = [
    "MOST_BINS",
    "READINGS",
    "BinStep",
    "Duration",
    "Energy",
    "EnergyStep",
    "EnergyWidth",
    "Fluence",
    "Gain",
    "Position",
    "Shift",
    "Time",
]

MOST_BINS = 10_000
"""Bins of one axis: more than any scan has steps."""


@dataclass(frozen=True)
class Within:
    """A range that a number must be in, both ends included, and what it is."""

    ge: float
    le: float
    what: str

    def check(self, value: float) -> float:
        """Return the number; raises ValueError saying what was meant."""
        if not self.ge <= value <= self.le:
            raise ValueError(f"expected {self.what}, between {self.ge:g} and {self.le:g}")
        return value

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {**handler(schema), "minimum": self.ge, "maximum": self.le}


Position = Annotated[float, Within(-100_000, 100_000, "a position of the delay stage in its own unit [mm or ps]")]
Time = Annotated[float, Within(-1_000_000, 1_000_000, "a time [ps]")]
Duration = Annotated[float, Within(0, 10_000, "a duration [ps]")]
Energy = Annotated[float, Within(10, 100_000, "a photon energy [eV]")]
EnergyWidth = Annotated[float, Within(0, 100, "a width [eV]")]
Shift = Annotated[float, Within(-100_000, 100_000, "a difference of photon energies [eV]")]
EnergyStep = Annotated[float, Within(0.0001, 1000, "a distance of photon energies [eV]")]
BinStep = Annotated[float, Within(0.001, 1_000_000, "a width of delay bins [ps]")]
Fluence = Annotated[float, Within(0, 100_000, "a pump fluence [mJ/cm²]")]
Gain = Annotated[float, Within(0.0001, 10_000, "ADU per photon")]

READINGS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "energy": (1.0, 1e6),
        "delay_stage": (-1e6, 1e6),
        "trigger": (-1e9, 1e9),
        "arrival": (-1e9, 1e9),
        "intensity": (-1e9, 1e9),
    }
)
"""What a device can read, by role and in the unit in which it is kept; anything else is no reading."""
