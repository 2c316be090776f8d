"""Notes about peaks, kinetics and mixture, see `schemas.catalogue`."""

from __future__ import annotations

from schemas.notes import Entry

__all__ = ["ABOUT_KINETICS", "ABOUT_MIXTURE", "ABOUT_PEAKS"]

_SCATTER = (
    "peaks at {fluence:g} mJ/cm², {delay:.3g} ps ({runs}): delta_xas scatters about lines A and B far beyond "
    "delta_xas_stderr (χ²/dof {redchi:.1f}); the errors of the lines are enlarged ({scale:.1f} times), those of "
    "delta_xas are too small. "
)

ABOUT_PEAKS = {
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

ABOUT_MIXTURE = {
    "mixture.no_late_spectrum": Entry(
        "info",
        "no mixture: no spectrum at delays of {min_delay:g} ps or later",
        "There are no excited fractions in the product. `mixture.min_delay` says from which delay on spectra count.",
    ),
    "mixture.delays_differ": Entry(
        "caution",
        "the fluences share no delay from {min_delay:g} ps on: alpha compares unequal delays, and the slope holds what happens between them",
        "The excited fraction still moves with delay. Measure one late delay at all fluences; `alpha_delay` has each by itself.",
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
