"""Every note that a result can carry, by its code: how much it matters, its text, what it means and what to do.

A text is a format string; `note` fills it in. The page `docs/reference/notes.md` is made from this catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from schemas.condition_notes import ABOUT_CONDITION, ABOUT_DESIGN, ABOUT_REFERENCE, ABOUT_ROLES
from schemas.delay_notes import ABOUT_DELAY
from schemas.detector_notes import ABOUT_DETECTOR
from schemas.fit_notes import ABOUT_MIXTURE, ABOUT_PEAKS
from schemas.kinetics_notes import ABOUT_KINETICS
from schemas.notes import OLDER, Entry, Note

__all__ = ["CATALOGUE", "Entry", "note"]


def note(
    code: str,
    /,
    *,
    run: int | None = None,
    fluence: float | None = None,
    parameter: str | None = None,
    **values: Any,
) -> Note:
    """Return the note of a code.

    Parameters
    ----------
    code
        A key of `CATALOGUE`.
    run, fluence, parameter
        What it is about; fluence in mJ/cm².
    **values
        What else its text names.

    Raises
    ------
    KeyError
        If there is no such code, or its text names a value that is not given.

    Examples
    --------
    >>> note("run.left_out", run=5, reason="it is not complete yet").text
    'run 5 is left out: it is not complete yet'
    """
    entry = CATALOGUE[code]
    text = entry.text.format(run=run, fluence=fluence, parameter=parameter, **values)
    about = (None if run is None else int(run), None if fluence is None else float(fluence), parameter)
    return Note(code, entry.severity, text, *about)


_ABOUT_BEAMS = {
    "beams.two_not_told_apart": Entry(
        "caution",
        "with two beams the data do not tell which is pumped: taken as {roles} from low to high x; "
        "set beams: {{count: 2, order: [...]}} if it is the other way round",
        "Without a reference beam nothing in the data says which of two beams is pumped. If it is the other one, delta_xas has "
        "the wrong sign: check with a known peak, and give `beams.order`.",
    ),
    "beams.no_edge": Entry(
        "caution",
        "no absorption edge in the scans: the reference beam is taken from the usual order",
        "No beam is absorbed against another one over the scanned energies. Check the order on `figures/beams.png`, or give "
        "`beams.order`.",
    ),
    "beams.no_pump_response": Entry(
        "caution",
        "no beam answers clearly to the pump: pumped and unpumped are taken from the usual order",
        "No beam changes with delay or fluence by more than noise. Check that the pump was on and the overlap right; if the "
        "order is another one, give `beams.order`.",
    ),
    "beams.order_from_data": Entry(
        "info",
        "the beams from low to high x are {roles}, as the data say",
        "The order differs from the usual one of the instrument and was found from the data. Nothing to do.",
    ),
    "beams.no_reference": Entry(
        "info",
        "no reference beam: od_unpumped and od_pumped are unknown (NaN); delta_xas does not need one",
        "With two beams there is no absolute optical density, so no mixture fit either. Nothing to do.",
    ),
}

_ABOUT_RUNS = {
    "run.left_out": Entry(
        "caution",
        "run {run} is left out: {reason}",
        "The run is not in the product, the others are. The reason says what to mend; processing again takes the run in.",
    ),
    "bins.empty": Entry(
        "caution",
        "{reason}",
        "Scans of one kind give no result because none of their pulses falls into a bin. Check the keys that the text names.",
    ),
    "bins.delay_blur": Entry(
        "caution",
        "run {run}: its pulses differ in delay by {spread_fs:.0f} fs rms within a bin, which near time zero blurs"
        " spectra, and distorts them where energies hold few trains; delay.bin as edges or a width separates them,"
        " where their arrival times are recorded",
        "Jitter of the arrival is larger than 30 fs and the delay is near time zero. Give `delay.bin` narrower than the jitter, "
        "or read the spectrum as an average over those delays.",
    ),
    "quality.no_pulse_used": Entry(
        "caution",
        "run {run}: no pulse is used",
        "Every pulse of the run was left out; the counts by reason in `/quality` say why.",
    ),
    "quality.null_test": Entry(
        "fault",
        "run {run}: odd and even trains differ (χ²/dof {chi2:.2f}): do not trust its errors",
        "Two halves of one run should agree within their errors. Something changes from train to train, such as a shutter or "
        "the pump: look at the difference per pulse and at the drift before you use the run.",
    ),
    "quality.null_test_unpumped": Entry(
        "caution",
        "run {run}: the unpumped sample differs between odd and even trains (χ²/dof {chi2:.2f})",
        "The same test without the pump: the sample or the normalisation changes from train to train. delta_xas may still be "
        "right where both beams change alike.",
    ),
    "quality.null_test_early": Entry(
        "fault",
        "run {run}: delta_xas is not zero before time zero (χ²/dof {chi2:.2f}): its normalisation, delay.t0, delay.sign or "
        "the flat field is off",
        "Before time zero there is nothing to see. Check `delay.t0` and `delay.sign` first, then whether the flat field was "
        "taken under other conditions.",
    ),
    "quality.runs_disagree": Entry(
        "caution",
        "run {run}: delta_xas disagrees with other runs at this fluence and delay (χ²/dof {chi2:.2f})",
        "Runs of the same conditions differ by more than their errors: sample damage, another fluence than noted or another "
        "place on the sample. Leave out the one that is wrong.",
    ),
    "quality.noise": Entry(
        "caution",
        "run {run}: noise is {ratio:.2f} times the photon noise",
        "The errors hold that noise, but better data are possible: look at the beam position, at detector faults and at the "
        "gain.",
    ),
    "quality.backlash": Entry(
        "caution",
        "run {run}: the energy axis of up sweeps reads {shift_mev:+.0f} ± {stderr_mev:.0f} meV"
        " against that of down sweeps (backlash): lines are broadened and moved by half of it",
        "The monochromator's drive has play. It is reported, not corrected: scan in one direction only.",
    ),
    "quality.offset": Entry(
        "caution",
        "run {run}: delta_xas differs from that of other runs at this fluence and delay by {value:.2f} ± {stderr:.2f} mOD",
        "A step of the normalisation between runs, sample damage, another fluence than noted or another place on the sample.",
    ),
    "quality.normalisation": Entry(
        "caution",
        "run {run}: od_unpumped differs from that of the other energy scans by {value:.2f} ± {stderr:.2f} mOD",
        "The normalisation or the sample moved between runs: take a flat-field run again.",
    ),
    "quality.drift": Entry(
        "caution",
        "run {run}: delta_xas changes along the burst by {value:.2f} ± {stderr:.2f} mOD",
        "The sample does not recover between pulses, or the detector answers differently along the burst: look at "
        "`figures/burst.png`.",
    ),
    "quality.intensity": Entry(
        "caution",
        "run {run}: delta_xas of bright pulses differs from that of dim ones by {value:+.2f} ± {stderr:.2f} mOD",
        "The difference should not depend on how bright a pulse was: the detector is not as linear as it was calibrated, or its "
        "pedestal has moved. `filters.min_intensity` leaves dim pulses out; a new dark run or flat field is the better way.",
    ),
    "quality.border": Entry(
        "caution",
        "run {run}: light at the border of the beams' regions changes over the energies by {value:+.2f} ± {stderr:.2f} ‰ of the"
        " beams, pumped less unpumped: delta_xas may be off by as many mOD",
        "The beams move, or grow, with energy, and a region cuts one of them. Draw the `beams` wider, as far as there is room on "
        "the module.",
    ),
    "quality.build_up": Entry(
        "caution",
        "run {run}: the size of delta_xas changes along the burst by {value:.0f} ± {stderr:.0f} %",
        "The pump effect itself changes from the first to the last pulse of a train: heating, or a pump whose energy changes "
        "along the burst. Look at `figures/burst.png`.",
    ),
}

_ABOUT_PRODUCTS = {
    OLDER: Entry("caution", "{text}", "A warning of a product that was made before warnings had codes."),
    "product.differs_from_schema": Entry(
        "caution",
        "differs from the schema: {fault}{more}",
        "The product was made by another version of trxas or was changed; `trxas validate` lists every fault.",
    ),
}

_WATCHING = {
    "watch.unreadable": Entry(
        "fault", "{reason}", "A file of the run cannot be opened. It is tried again when the file changes."
    ),
    "watch.complete": Entry("info", "run {run}: complete", "A run of the dataset is there with all its files."),
    "watch.added": Entry(
        "info",
        "run {run}: complete, {kind}, added with fluence {fluence:g} mJ/cm²",
        "A scan that the config does not list is added because `watch.fluence` is given.",
    ),
    "watch.not_listed": Entry(
        "caution",
        "run {run}: complete, {kind}, not in the config: add {{run: {run}, fluence: …}} to runs.{key}, or give watch.fluence",
        "A scan that the config does not list; it is not used before it is listed or `watch.fluence` is given.",
    ),
    "watch.not_used": Entry(
        "info",
        "run {run}: complete, {kind}, not in the config and not used",
        "A run that is no scan and that the config does not list.",
    ),
    "watch.on_hold": Entry("info", "{reason}", "Nothing is processed before what the text names is there."),
}

CATALOGUE: Mapping[str, Entry] = MappingProxyType(
    _ABOUT_RUNS
    | ABOUT_DETECTOR
    | _ABOUT_BEAMS
    | ABOUT_CONDITION
    | ABOUT_ROLES
    | ABOUT_REFERENCE
    | ABOUT_DESIGN
    | ABOUT_DELAY
    | ABOUT_PEAKS
    | ABOUT_KINETICS
    | ABOUT_MIXTURE
    | _ABOUT_PRODUCTS
    | _WATCHING
)
"""Code -> severity, text, meaning. Codes are stable; texts are not."""
