"""What is found again of signals that were injected into the pulses of a session."""

from __future__ import annotations

from schemas.datasets.measured import FLUENCE
from schemas.datasets.spec import DatasetSpec, Kind, Variable

__all__ = ["CARRIERS", "INJECTION", "QUANTITIES", "RECOVERED"]

QUANTITIES = ("alpha", "tau1", "tau2", "tau3")
CARRIERS = ("in_run", "pump_off_scan", "on_top")
"""Into which pulses a signal was put: pulses without pump of the same run; of a pump-off scan; pulses with pump, from
which the measured signal cancels."""

_ONE, _TAU, _LEVEL = ("draw", "fluence"), ("draw", "fluence", "parameter"), ("fluence", "quantity", "level")
_COORDS = {
    "fluence": FLUENCE,
    "parameter": Variable(("parameter",), "1", "time of the fit", "str"),
    "bound": Variable(("bound",), "1", "lower or upper end of the interval", "str"),
    "size": Variable(("draw",), "1", "size of the injected signal, 1: its signal over noise is that of the session"),
}
_DRAWN = {
    "alpha": Variable(_ONE, "1", "excited fraction that was fitted; _stderr: total error", stderr=True),
    "alpha_true": Variable(_ONE, "1", "excited fraction that was injected"),
    "tau": Variable(_TAU, "ps", "time that was fitted"),
    "tau_true": Variable(_TAU, "ps", "time that was injected"),
    "tau_ci68": Variable((*_TAU, "bound"), "ps", "68 % interval of tau"),
    "tau_ci95": Variable((*_TAU, "bound"), "ps", "95 % interval of tau"),
    "tau_identifiable": Variable(_TAU, "1", "tau was called determined", "bool"),
}
RECOVERED = DatasetSpec("recovered", "What the fits made of every injected signal.", _COORDS, _DRAWN)


def _told(text: str, kind: Kind = "float") -> Variable:
    return Variable(("fluence", "quantity"), "1", text, kind)


INJECTION = DatasetSpec(
    "injection",
    "Signals of known size injected into the session's own pulses and fitted again; made by `trxas inject`. A signal of "
    "size 1 is the measured one, with the session's signal over noise.",
    {
        **_COORDS,
        "quantity": Variable(("quantity",), "1", "excited fraction or time", "str"),
        "level": Variable(("level",), "1", "sizes of the injected signals"),
    },
    {
        **_DRAWN,
        "carrier": Variable(("run",), "1", "pulses that carry the signal of a scan: " + ", ".join(CARRIERS), "str"),
        "carrier_run": Variable(("run",), "1", "number of the scan", "int"),
        "n": _told("fits that count for coverage: with a signal (times), with and without one (alpha)", "int"),
        "n_independent": _told(
            "of these, fits whose noise and reference are their own; a pump-off scan is one, however often it is played",
            "int",
        ),
        "coverage68": _told("share of 68 % intervals that hold what was injected"),
        "coverage95": _told("share of 95 % intervals that hold what was injected"),
        "n_known": _told("of these, fits that call the quantity determined", "int"),
        "coverage95_known": _told("coverage95 among fits that call the quantity determined"),
        "pull_mean": _told("mean of (fitted − injected) / error, where determined"),
        "pull_std": _told("standard deviation of the same"),
        "bias": _told("median of fitted / injected − 1, where determined"),
        "known": Variable(_LEVEL, "1", "share of fits that call the quantity determined (alpha: above zero at 97.5 %)"),
        "found_in_nothing": _told("the same where nothing was injected"),
        "limit": _told(
            "size of the signal, 1: the session's, from which the quantity is determined in half of the fits"
        ),
        "limit_signal": _told("the same as largest size of ΔXAS (times: of a delay scan; alpha: of the spectrum)"),
        "alpha_limit": Variable(
            ("fluence",),
            "1",
            "smallest excited fraction that this session would find: 3.29 standard deviations of alpha",
        ),
    },
)
