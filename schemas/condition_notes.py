"""Notes about which pulses the pump reached, see `schemas.catalogue`."""

from __future__ import annotations

from schemas.notes import Entry

__all__ = ["ABOUT_CONDITION"]

ABOUT_CONDITION = {
    "condition.found": Entry(
        "info",
        "{share:.0%} of the scans' pulses are without pump, by the {source}",
        "These pulses are the reference of those with pump, measured at the same time. Nothing to do.",
    ),
    "condition.laser_moved": Entry(
        "caution",
        "which pulses are without pump is taken from the {source}: the data contradict {said}",
        "The bunch pattern does not say where the laser's slots lie among the X-ray pulses; of the possible places the data "
        "allow this one. Give `pump: {{laser: {{offset: N}}}}` where it is known.",
    ),
    "condition.contradiction": Entry(
        "fault",
        "pump: the {source} is not what the data show: {seen}; set pump to what the laser did",
        "Pulses with pump and without it are mixed up, so differences are too small or have the wrong sign. Give the pattern "
        "in `pump`, or the place of the laser's bits.",
    ),
    "condition.period": Entry(
        "fault",
        "pump: all pulses are taken as pumped, and {seen}; set pump to the pattern of the laser",
        "The laser seems to have fired on a part of the pulses only; differences are then too small. Give the pattern, as in "
        "`pump: {{pulses: [1, 0]}}`, or the bunch pattern in `sources.bunch_pattern`.",
    ),
}
