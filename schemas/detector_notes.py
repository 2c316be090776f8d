"""Notes about the detector: its response and its pedestal; part of `schemas.catalogue`."""

from __future__ import annotations

from schemas.notes import Entry

__all__ = ["ABOUT_DETECTOR"]

ABOUT_DETECTOR = {
    "pulses.lost": Entry(
        "caution",
        "run {run}: {percent:.0f} % of its pulses are left out ({reason}): {meaning}",
        "More than a few per cent of the pulses do not count, for a reason that nobody asked for. The product is made of the "
        "others; `/quality` has the numbers.",
    ),
    "pulses.filtered": Entry(
        "info",
        "run {run}: {percent:.0f} % of its pulses are filtered out ({reason}): {meaning}",
        "The filters of the config take more than a few per cent of the pulses. Right where that is meant; with another "
        "intensity of the beam there would be more to use.",
    ),
    "pulses.one_cell": Entry(
        "caution",
        "run {run}: all frames are said to be of memory cell {cell}: their dark level may be that of other cells",
        "A detector stores the frames of a train in different memory cells, each with a dark level of its own. Where `cellId` "
        "was not recorded, the dark level of one cell is taken off all of them.",
    ),
    "response.not_described": Entry(
        "fault",
        "the detector's response is not one that the non-linearity describes (χ²/dof {chi2:.1f}, shares of the light change by"
        " {misfit_percent:.1f} % with intensity): no gain, numbers of photons are withheld",
        "In the flat-field run bright and dim pixels do not stay in proportion, whatever polynomial straightens the converter: a "
        "compressing or saturating sensor, or a pedestal that moved. Give the response as `detector.nonlinearity: FILE`, or less "
        "light. Differences are in units of the flat field's own scatter and hold what non-linearity is left: look at "
        "`intensity_change` in `/quality`.",
    ),
    "response.gain_given": Entry(
        "caution",
        "the detector's response is not one that the non-linearity describes (χ²/dof {chi2:.1f}, shares of the light change by"
        " {misfit_percent:.1f} % with intensity); photons are counted with the gain of the config",
        "As `response.not_described`, but the config gives `detector.gain`, so numbers of photons are not withheld. They "
        "are right where the response is straight.",
    ),
    "pedestal.unknown": Entry(
        "info",
        "the pedestal is not followed since the dark run: {reason}",
        "There are too few unlit pixels beside the beams to see whether the pedestal has moved. Draw the `beams` tighter, or "
        "record a dark run shortly before each scan.",
    ),
    "pedestal.moved": Entry(
        "info",
        "run {run}: the pedestal has moved by {shift:+.2f} ADU since the dark run; it is taken off",
        "Told by unlit pixels beside the beams. Nothing to do; a dark run nearer in time would be the better one.",
    ),
}
