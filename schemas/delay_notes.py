"""Notes about the axis of delays, see `schemas.catalogue`."""

from __future__ import annotations

from schemas.notes import Entry

__all__ = ["ABOUT_DELAY"]


ABOUT_DELAY = {
    "run.wrong_axis": Entry(
        "fault",
        "run {run} is listed as {kind}, but its {still} stands: {way_out}",
        "What a run is for is taken from the config; the data show that it is something else. List it under the right key of "
        "`runs`, or leave it out.",
    ),
    "delay.monitor_missing": Entry(
        "info",
        "run {run}: no {monitor} monitor, which other runs have: its deviation counts as 0",
        "Its delays are on the same axis as those of the other runs, but without the correction that these have.",
    ),
    "delay.monitor_differs": Entry(
        "caution",
        "run {run}: its {monitor} monitor reads {apart_fs:+.0f} fs from the session's mean, more than the jitter of "
        "{jitter_fs:.0f} fs allows",
        "Its delays are moved by that. Right if X-rays or pump really came at another time, for example after the trigger was "
        "set anew; wrong if the monitor itself jumped: then leave it out with `delay.use_arrival: false` or `sources`.",
    ),
    "delay.sign_wrong": Entry(
        "fault",
        "the signal is there at the earliest delays and gone after time zero: delay.sign is the wrong one",
        "The axis of delays runs backwards. Change `delay.sign` from 1 to -1 or the other way round.",
    ),
    "delay.scans_disagree": Entry(
        "caution",
        "the delay scans have time zero at different delays (χ²/dof {chi2:.1f}): {scans}",
        "Time zero drifted between the scans, or one of them has a rise that the kinetic form does not describe. The error of "
        "time zero is enlarged accordingly; look at `figures/time_zero.png`.",
    ),
    "delay.zero_off": Entry(
        "caution",
        "time zero of the signal is at {zero_fs:+.0f} ± {stderr_fs:.0f} fs on the axis of delays: set delay.t0: {stage:.4f} "
        "(it is {t0:.4f}), or delay.t0: fit",
        "All delays are off by that, and what counts as before time zero is not. A better `delay.t0` costs seconds.",
    ),
}
