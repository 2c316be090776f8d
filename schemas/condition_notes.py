"""Notes about which pulses the pump reached, and what they are compared with, see `schemas.catalogue`."""

from __future__ import annotations

from schemas.notes import Entry

__all__ = ["ABOUT_CONDITION", "ABOUT_DESIGN", "ABOUT_REFERENCE", "ABOUT_ROLES"]

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

ABOUT_ROLES = {
    "beams.reference_from_energies": Entry(
        "info",
        "no absorption edge in the scans: the reference beam is the one against which both others change between the energies "
        "of delay scans and flat field",
        "The samples absorb differently at different energies, the reference beam does not. Check the order on "
        "`figures/beams.png`.",
    ),
    "beams.reference_from_place": Entry(
        "caution",
        "all was measured at one energy: the reference beam is taken to be the one in the middle, the 0th order; delta_xas "
        "does not need to know, optical densities do. Give beams: {{order: [...]}} if it is another one",
        "At one energy nothing tells the reference beam from that through the unpumped sample. The zone plate's 0th order lies "
        "between the two others. With pulses without pump in the run delta_xas is the same with either.",
    ),
    "beams.roles_wrong": Entry(
        "fault",
        "before time zero delta_xas is {value:.0f} ± {stderr:.0f} mOD at {fluence:g} mJ/cm²: the reference beam is probably "
        "taken for the one through the unpumped sample; give beams: {{order: [...]}}",
        "Where one beam goes through no sample, the ratio of the two changes with energy by the whole optical density. Check "
        "the order on `figures/beams.png`.",
    ),
}

ABOUT_REFERENCE = {
    "reference.flat_field_missing": Entry(
        "caution",
        "no flat-field run: the constant of delta_xas is taken from delays before {before:g} ps",
        "The ratio of the beams without pump effect is taken from pulses before time zero. Right as long as `delay.t0` is and "
        "the sample recovers between pulses; list a `runs.flat_field` where there is one.",
    ),
    "reference.offset_unknown": Entry(
        "fault",
        "no flat-field run and no delays before time zero: delta_xas and all fits have an unknown offset",
        "Nothing in the data says what the ratio of the beams is without pump effect. List a `runs.flat_field`, or a scan with "
        "delays before time zero.",
    ),
    "mixture.reference_unknown": Entry(
        "caution",
        "alpha at {fluence:g} mJ/cm² is {alpha:.2g} ± {unknown:.2g} %, because the reference does not tell films, splitting and "
        "drift from the pump; measure pump-off scans, or pump every second pulse",
        "The error is in `alpha_model_stderr`. What delta_xas is compared with is in `reference`; pulses without pump in the same "
        "run leave nothing open.",
    ),
}

ABOUT_DESIGN = {
    "design.fluence_with_time": Entry(
        "caution",
        "fluence {goes} with time over {n} runs ({minutes:.0f} min): {unknown:.2g} mOD of drift and wear cannot be told from its "
        "effect (signal {signal:.3g} mOD); interleave the fluences, repeat the first one, or measure a pump-off scan at the end",
        "The film loses a little with every run and the ratio of the beams drifts. Where fluence and time go together and no pulses "
        "without pump are in the runs, that looks like an effect of the fluence. It is in the systematic errors; only other data "
        "can tell. `trxas plan` says what to interleave.",
    ),
    "design.delay_with_time": Entry(
        "caution",
        "{what}: delay {goes} with time ({minutes:.0f} min): {unknown:.2g} mOD of drift and wear look like a slow relaxation "
        "(signal {signal:.3g} mOD); take delays to and fro or at random, or pump every second pulse",
        "A delay scan in one direction, taken once, or energy scans in the order of their delays: what drifts meanwhile is in the "
        "plateau and the slowest time. Repeat it in the other direction, or measure pulses without pump between.",
    ),
}
