"""Notes about peaks, mixture and injected signals, see `schemas.catalogue`."""

from __future__ import annotations

from schemas.notes import Entry

__all__ = ["ABOUT_MIXTURE", "ABOUT_PEAKS"]

_SCATTER = (
    "peaks at {fluence:g} mJ/cm², {delay:.3g} ps ({runs}): delta_xas scatters about a smooth curve far beyond "
    "delta_xas_stderr (χ²/dof {redchi:.1f}); the errors of the peaks are enlarged ({scale:.1f} times), those of "
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
        " pump that fluctuates; take several trains per energy",
        "Energies hold different mixtures of delays, and nothing recorded says which. Take more trains per energy, or a delay "
        "after the rise.",
    ),
    "peaks.scatter": Entry(
        "caution",
        _SCATTER + "Noise of whole trains that the flat field does not have (the pump), or features of one bin",
        "Either the pump fluctuates from train to train, or the difference has features that its energies hardly resolve: "
        "look at the spectrum.",
    ),
    "peaks.constant": Entry(
        "caution",
        "{runs}: delta_xas at {fluence:g} mJ/cm², {delay:.3g} ps stands on a constant of {value:.2f} ± {stderr:.2f} mOD: a "
        "step of the normalisation, or a change that peaks A and B do not describe",
        "The difference does not return to zero beside the peaks. Compare with a flat field taken before and after.",
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
    "mixture.intercept": Entry(
        "caution",
        "mixture: the line through alpha against fluence does not pass through zero (intercept {intercept:.2g} ± {error:.1g} %, total error)",
        "No pump excites nothing, so either alpha is not linear in fluence (a threshold, saturation, see `linear_p`), the fluences are "
        "off, or the reference is. Quote alpha at each fluence, not the slope.",
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
    "injection.errors_too_small": Entry(
        "caution",
        "injected signals at {fluence:g} mJ/cm²: the errors of {parameter} are too small: the 95 % intervals hold {coverage:.0f} % of "
        "{n} signals, and deviations are {pull:.1f} times the errors",
        "Known signals in the session's own pulses are found again with larger deviations than errors promise. Something in the "
        "data is in no error: look at drift, null tests and agreement of runs in `/quality`, and enlarge the error by the scatter.",
    ),
    "injection.off": Entry(
        "caution",
        "injected signals at {fluence:g} mJ/cm²: {parameter} comes back {pull:+.1f} standard errors off on average ({n} signals)",
        "Known signals in the session's own pulses are found again with a bias: look at the residuals of the fit, and at its options.",
    ),
    "injection.on_top": Entry(
        "info",
        "injected signals: {runs} had pulses with pump only, so the signal is on top of the measured one, which cancels between two "
        "halves of them; that tests noise and fits, not the reference",
        "Pulses without pump in the same run, or pump-off scans, would let an injection test the reference too.",
    ),
}
