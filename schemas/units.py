"""Units: in which ones a role may be recorded, and in which one it is kept.

One table per quantity; a unit that is in none of a role's tables is an error, never a guess.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["ROLE_QUANTITIES", "Quantity", "known_units", "kept_unit"]


@dataclass(frozen=True)
class Quantity:
    """A kind of number: the unit in which it is kept, and what one of every known unit is in it."""

    unit: str
    factors: dict[str, float]


PHOTON_ENERGY = Quantity("eV", {"eV": 1.0, "keV": 1e3})
LENGTH = Quantity("mm", {"mm": 1.0, "um": 1e-3, "m": 1e3})
TIME = Quantity("ps", {"ps": 1.0, "fs": 1e-3, "ns": 1e3, "us": 1e6, "s": 1e12})
PULSE_ENERGY = Quantity("uJ", {"uJ": 1.0, "nJ": 1e-3, "mJ": 1e3, "J": 1e6})
NUMBER = Quantity("1", {"1": 1.0})

ROLE_QUANTITIES: dict[str, tuple[Quantity, ...]] = {
    "frames": (NUMBER,),
    "energy": (PHOTON_ENERGY,),
    "delay_stage": (LENGTH, TIME),
    "trigger": (TIME,),
    "arrival": (TIME,),
    # a monitor that is not calibrated has arbitrary units
    "intensity": (PULSE_ENERGY, NUMBER),
    "bunch_pattern": (NUMBER,),
}
"""What each role of an instrument may be; a stage reports a position, or the time that it makes."""


def known_units(role: str) -> tuple[str, ...]:
    """Return the units in which a role may be recorded."""
    return tuple(unit for quantity in ROLE_QUANTITIES[role] for unit in quantity.factors)


def kept_unit(role: str, unit: str) -> tuple[str, float]:
    """Return the unit in which a role is kept, and by what its recorded values are multiplied.

    Raises ValueError naming the key and the known units.

    >>> kept_unit("arrival", "fs")
    ('ps', 0.001)
    >>> kept_unit("intensity", "µJ")
    ('uJ', 1.0)
    """
    # the micro sign and the Greek letter look alike
    plain = unit.replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u")
    for quantity in ROLE_QUANTITIES[role]:
        if plain in quantity.factors:
            return quantity.unit, quantity.factors[plain]
    found = "no unit is given" if unit == "1" else f"{unit!r} is not a unit of this role"
    raise ValueError(f"sources.{role}.unit: {found}; known: {', '.join(known_units(role))}")
