"""Notes about the kinetic fit, see `schemas.catalogue`."""

from __future__ import annotations

from schemas.notes import Entry

__all__ = ["ABOUT_KINETICS"]

_ADVICE = "SNR is {ratio}, {advice}"


ABOUT_KINETICS = {
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
    "kinetics.baseline_demanded": Entry(
        "caution",
        "kinetics at {fluence:g} mJ/cm²: the traces stand on a constant of {value:.2f} ± {stderr:.2f} mOD that the "
        "reference does not have; it is fitted",
        "χ² falls by more than chance allows when every trace may stand on a constant. Something differs between pulses with "
        "pump and those without it before the pump has done anything: pump light, the pedestal, or a wrong time zero.",
    ),
    "kinetics.simpler_form": Entry(
        "caution",
        "kinetics at {fluence:g} mJ/cm²: the data do not support the fitted form “{chosen}” over the simpler "
        "“{form}” (Δχ² {delta_chi2:.1f})",
        "A form with fewer parameters describes the data as well, so the times are more than the data know. Measure longer, "
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
    "kinetics.tau_rival": Entry(
        "caution",
        "{parameter} is not determined: {value:.2g} ps, or {rival:.2g} ps with χ² {excess:.1f} higher; {low} to {high} ps at 95 %",
        "Verdict on a time: two solutions describe the data about as well and place it differently (rise and decay that change "
        "places, for example). Quote the interval; a response measured better, or another delay scan, tells them apart.",
    ),
    "kinetics.tau_of_target_open": Entry(
        "caution",
        "{parameter} is not determined by the target model: {low:.2g} to {high} ps at 95 %",
        "Verdict on a time of the target model: quote the interval.",
    ),
    "kinetics.tau_of_target_rival": Entry(
        "caution",
        "{parameter} is not known: {value:.2g} ps by the target model, {rival:.2g} ps by {who}, and χ² allows both",
        "Verdict on the times of the target model, none of which is called known where one differs. What moves in the spectrum is then "
        "neither two species nor a line that follows tau3; quote the times of the delay scan, at one energy.",
    ),
    "kinetics.tau_of_moving_line": Entry(
        "caution",
        "{parameter} is not known from amplitudes that are free at every energy: the spectrum changes while the times run; "
        "see the target model",
        "Verdict on a time: where the spectrum changes while the times run there are no rates that all energies share. Take the "
        "time of the target model, or that of one energy.",
    ),
    "kinetics.line_moves": Entry(
        "caution",
        "kinetics at {fluence:g} mJ/cm²: the spectrum changes while the times run, so the fit with free amplitudes is "
        "withheld; the target model “{model}” takes all energies ({times})",
        "The target model describes the cube with far fewer parameters than free amplitudes need, one spectrum does not, and the "
        "times differ. Its times stand in `/target` and in the summary; those of `/kinetics` come from the delay scans alone, or "
        "are not called known.",
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
