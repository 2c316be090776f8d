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

_SCATTER = (
    "peaks at {fluence:g} mJ/cm², {delay:.3g} ps ({runs}): delta_xas scatters about lines A and B far beyond "
    "delta_xas_stderr (χ²/dof {redchi:.1f}); the errors of the lines are enlarged ({scale:.1f} times), those of "
    "delta_xas are too small. "
)

_ABOUT_PEAKS = {
    "peaks.not_fitted": Entry(
        "caution",
        "no peaks: {reason}",
        "Peaks A and B are missing in the product for the reason that is given; `peaks.window` chooses the energies.",
    ),
    "peaks.scatter_by_arrival": Entry(
        "caution",
        _SCATTER + "Its pulses arrive at times {spread_fs:.0f} fs rms apart while the signal changes",
        "Energies were measured at different delays, which bends the spectrum. Give `delay.bin` as a width or edges.",
    ),
    "peaks.scatter_near_time_zero": Entry(
        "caution",
        _SCATTER
        + "So near time zero trains that arrive at different times do this (jitter that was not recorded), as do a"
        " pump that fluctuates and lines of another shape; take several trains per energy",
        "Energies hold different mixtures of delays, and nothing recorded says which. Take more trains per energy, or a delay "
        "after the rise.",
    ),
    "peaks.scatter": Entry(
        "caution",
        _SCATTER + "Noise of whole trains that the flat field does not have (the pump), or lines of another shape",
        "Either the pump fluctuates from train to train, or two lines and a constant are not what the difference is made of: "
        "look at the residuals.",
    ),
    "peaks.constant": Entry(
        "caution",
        "{runs}: delta_xas at {fluence:g} mJ/cm², {delay:.3g} ps stands on a constant of {value:.2f} ± {stderr:.2f} mOD: a "
        "step of the normalisation, or a change that peaks A and B do not describe",
        "The difference does not return to zero beside the peaks. Compare with a flat field taken before and after.",
    ),
}

_ADVICE = "SNR is {ratio}, {advice}"

_ABOUT_KINETICS = {
    "kinetics.none": Entry(
        "info",
        "no kinetics: no fluence has a delay scan with enough delays",
        "There are no times in the product. Nothing to do where none were wanted; else measure a delay scan.",
    ),
    "kinetics.not_fitted": Entry(
        "caution", "kinetics at {fluence:g} mJ/cm²: {reason}", "This fluence has no times for the reason that is given."
    ),
    "kinetics.spectra_left_out": Entry(
        "caution",
        "kinetics at {fluence:g} mJ/cm²: the energies of the spectra do not follow the shared times (χ²/dof "
        "{redchi:.2f}; a line that moves would do that); the delay scans are fitted alone",
        "The times come from the delay scans only. A line whose position changes with delay has no common times over energies.",
    ),
    "kinetics.response_fitted": Entry(
        "info",
        "kinetics: time zero and instrument response are both fitted; a measured value makes tau1 far better known",
        "Give `kinetics.irf_sigma` and `kinetics.t_d`, with their errors, where they were measured.",
    ),
    "kinetics.simpler_form": Entry(
        "caution",
        "kinetics at {fluence:g} mJ/cm²: the data do not support three exponentials over the simpler form “{form}” "
        "(Δχ² {delta_chi2:.1f})",
        "A form with fewer parameters describes the data as well, so three times are more than the data know. Measure longer, "
        "or report the simpler form.",
    ),
    "kinetics.prior_decides": Entry(
        "caution",
        "kinetics at {fluence:g} mJ/cm²: the amplitude prior decides: {moved}",
        "A time moves by more than its standard error when the amplitudes are left free (`kinetics.amplitude_prior: none`): it "
        "is known only as well as the prior is right.",
    ),
    "kinetics.misfit": Entry(
        "fault",
        "kinetics at {fluence:g} mJ/cm²: the model does not describe the data (χ²/dof {redchi:.2f})",
        "Chance allows this χ² less than once in 1000, so no time at this fluence is called determined. Look at the residuals: "
        "a wrong time zero, delays out of place, or another form.",
    ),
    "kinetics.errors_too_large": Entry(
        "caution",
        "kinetics at {fluence:g} mJ/cm²: the errors of the data look too large (χ²/dof {redchi:.2f})",
        "The data scatter less about the fit than their errors say, so the intervals of the times are too wide.",
    ),
    "kinetics.tau_determined": Entry(
        "info",
        "{parameter} = {value:.3g} ps, 95 % interval {low:.3g} to {high:.3g} ps",
        "Verdict on a time: the interval is closed and narrow, the data alone suffice, and the model describes them.",
    ),
    "kinetics.tau_given": Entry(
        "info",
        "{parameter} = {value:.3g} ps, as given",
        "Verdict on a time: `kinetics.parameters` fixes it; it was not fitted.",
    ),
    "kinetics.tau_at_bound": Entry(
        "caution",
        "{parameter} is not known: the best value lies at its bound of {value:.3g} ps",
        "Verdict on a time: the data ask for a value beyond the `min` or `max` of `kinetics.parameters`. Widen it, or say why not.",
    ),
    "kinetics.tau_of_misfit": Entry(
        "caution",
        "{parameter} is not known: the model does not describe the data (χ²/dof {redchi:.2f}, probability "
        "{probability:.0e}); if it did, {low:.2g} to {high} ps at 95 %",
        "Verdict on a time: a form that χ² contradicts gives no value, however narrow its interval.",
    ),
    "kinetics.tau_upper_limit": Entry(
        "caution",
        "{parameter} < {high:.2g} ps at 95 %, not determined {below}: " + _ADVICE,
        "Verdict on a time: quote the limit. The text says which signal-to-noise ratio would give a value.",
    ),
    "kinetics.tau_lower_limit": Entry(
        "caution",
        "{parameter} > {low:.2g} ps at 95 %, not determined {above}: " + _ADVICE,
        "Verdict on a time: quote the limit; later delays would help.",
    ),
    "kinetics.tau_between": Entry(
        "caution",
        "{parameter} between {low:.2g} and {high:.2g} ps at 95 %, not determined better: " + _ADVICE,
        "Verdict on a time: quote the interval, not a value with an error.",
    ),
    "kinetics.tau_not_determined": Entry(
        "caution",
        "{parameter} is not determined by these data: " + _ADVICE,
        "Verdict on a time: both ends of its interval are open.",
    ),
    "kinetics.no_fit": Entry(
        "info",
        "{parameter}: no fit at this fluence",
        "Verdict on a parameter: this fluence has no delay scan that could be fitted.",
    ),
    "kinetics.not_in_the_form": Entry(
        "info",
        "{parameter}: not a parameter of the fitted form",
        "Verdict on a parameter: `kinetics.n_exponentials` leaves it out.",
    ),
}

_ABOUT_MIXTURE = {
    "mixture.no_late_spectrum": Entry(
        "info",
        "no mixture: no spectrum at delays of {min_delay:g} ps or later",
        "There are no excited fractions in the product. `mixture.min_delay` says from which delay on spectra count.",
    ),
    "mixture.not_fitted": Entry(
        "caution", "no mixture: {reason}", "There are no excited fractions in the product for the reason that is given."
    ),
    "mixture.model_peaks": Entry(
        "caution",
        "mixture: built-in model peaks stand for the DOS; alpha depends on that model",
        "Give `mixture.dos_ground` and `mixture.dos_excited` for an alpha that a theory stands behind.",
    ),
    "mixture.ground_misfit": Entry(
        "caution",
        "mixture: the ground-state DOS does not describe the unpumped spectrum (χ²/dof {redchi:.1f}); alpha is less certain "
        "than its error says",
        "What the ground state cannot describe, the excited one may take over. Try a narrower `mixture.window`, other "
        "broadening or another DOS.",
    ),
    "mixture.models_differ": Entry(
        "caution",
        "mixture at {fluence:g} mJ/cm²: alpha = {alpha:.2g} % differs between the DOS by {difference:.2g} %",
        "The choice of the DOS matters more than a tenth of alpha: quote the model error beside the statistical one.",
    ),
    "mixture.misfit": Entry(
        "caution",
        "mixture at {fluence:g} mJ/cm²: the DOS do not describe the difference (χ²/dof {redchi:.1f})",
        "The error of alpha holds noise only, not what the model misses. Look at the residuals of the mixture.",
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
    | _ABOUT_PEAKS
    | _ABOUT_KINETICS
    | _ABOUT_MIXTURE
    | _ABOUT_PRODUCTS
    | _WATCHING
)
"""Code -> severity, text, meaning. Codes are stable; texts are not."""
