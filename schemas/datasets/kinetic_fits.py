"""Kinetics: the fit of one fluence, the groups of the product that gather such fits, and what plans a measurement.

What a fit says about its traces, a product says for every fluence and energy: `_gathered` makes one from the other.
"""

from __future__ import annotations

from dataclasses import replace

from schemas.datasets.measured import DELAY, FLUENCE
from schemas.datasets.spec import DatasetSpec, Variable

__all__ = [
    "COMPONENTS",
    "CUBE_COMPONENTS",
    "DELAY_SHARES",
    "EXPECTED_ERRORS",
    "KINETICS",
    "KINETIC_FIT",
    "KINETIC_FORMS",
    "SINGLE_TRACE_FITS",
    "TIME_ZERO",
]

_PARAMETER = ("parameter",)
_INTERVAL = ("parameter", "bound")
_BY_TRACE = ("trace", "parameter")

_PARAMETERS = {
    "value": Variable(_PARAMETER, "ps", "fitted value"),
    "stderr": Variable(_PARAMETER, "ps", "standard error of value"),
    "ci68": Variable(_INTERVAL, "ps", "68 % interval, open ends infinite or at the search limit"),
    "ci95": Variable(_INTERVAL, "ps", "95 % interval, open ends infinite or at the search limit"),
    "at_bound": Variable(_PARAMETER, "1", "the value lies at a limit of the search", "bool"),
    "identifiable": Variable(_PARAMETER, "1", "the data determine this parameter", "bool"),
    "verdict": Variable(_PARAMETER, "1", "what the data say of a time, in words", "str", required=False),
    "verdict_code": Variable(_PARAMETER, "1", "code of the verdict, see the reference of notes", "str", required=False),
    "amplitude": Variable(("term", "trace"), "1", "amplitude of the term, root of an OD where power is 2", stderr=True),
    "baseline": Variable(
        ("trace",), "1", "constant under the trace, optical density; 0 where it has none", stderr=True, since=2
    ),
    "baseline_prior": Variable(
        ("trace",), "1", "how well the baseline was known to be zero before the fit; 0: it has none", since=2
    ),
    "fit": Variable(("trace", "delay"), "1", "fitted difference, on its baseline"),
    "residual": Variable(("trace", "delay"), "1", "data minus fit"),
    "redchi": Variable((), "1", "χ² per degree of freedom"),
    "chi2": Variable((), "1", "χ² of the fit", required=False),
    "dof": Variable((), "1", "degrees of freedom of the fit", required=False),
    "crb": Variable(_PARAMETER, "ps", "smallest standard error that these delays and errors allow (Cramér-Rao)"),
    "systematic": Variable(_PARAMETER, "ps", "change if a fixed t_d or irf_sigma were wrong by 10 fs"),
    "t50": Variable((), "ps", "time of 50 % rise of the strongest trace", stderr=True),
    "signal": Variable(("time", "trace"), "1", "fitted difference at a few delays", stderr=True),
    "value_without_prior": Variable(
        _PARAMETER, "ps", "value without the amplitude prior, NaN where there is none", required=False
    ),
    "bootstrap_stderr": Variable(_PARAMETER, "ps", "standard error of value from the bootstrap", required=False),
    "bootstrap_ci68": Variable(_INTERVAL, "ps", "68 % interval from the bootstrap", required=False),
    "bootstrap_ci95": Variable(_INTERVAL, "ps", "95 % interval from the bootstrap", required=False),
}
_RATE = Variable(("decay",), "1/ps", "rate of the decay")
_DAS = Variable(
    ("decay", "trace"), "1", "amplitude of the decay after the rise in the shared fit, optical density", stderr=True
)
_SINGLE = {
    "tau": Variable(_BY_TRACE, "ps", "time from this energy alone, NaN where it is not fitted alone", stderr=True),
    "tau_ci95": Variable((*_BY_TRACE, "bound"), "ps", "95 % interval, open ends infinite or at the search limit"),
    "tau_identifiable": Variable(_BY_TRACE, "1", "this energy alone determines the time", "bool"),
}
_CUBE = {
    "singular_values": Variable(("component",), "1", "singular value of the difference over its noise"),
    "noise_level": Variable(("component",), "1", "singular value that noise alone exceeds in 1 of 100 cubes"),
    "n_components": Variable((), "1", "components above noise, -1 where there is no cube", "int"),
    "spectra_left": Variable(("component", "energy"), "1", "spectrum of the component, optical density"),
    "delays_right": Variable(("component", "delay"), "1", "course of the component, largest value 1"),
}

_NAMES = {
    "parameter": Variable(("parameter",), "1", "parameter of the fit", "str"),
    "bound": Variable(("bound",), "1", "lower or upper end of the interval", "str"),
    "term": Variable(("term",), "1", "amplitude of the fit", "str"),
    "time": Variable(("time",), "ps", "delay at which the signal is quoted"),
    "decay": Variable(("decay",), "1", "decay after the rise, named by its rate", "str"),
    "component": Variable(("component",), "1", "singular component, strongest first", "int"),
}
_ENERGY = Variable(("energy",), "eV", "photon energy of the trace")


def _names(*names: str) -> dict[str, Variable]:
    return {name: _NAMES[name] for name in names}


def _gathered(variables: dict[str, Variable]) -> dict[str, Variable]:
    """Return variables of one fluence as the product has them: over all fluences, a trace being an energy."""
    return {n: v.renamed({"trace": "energy"}, leading=("fluence",)) for n, v in variables.items()}


KINETIC_FIT = DatasetSpec(
    "kinetic_fit",
    "One fit of the three-exponential form, shared over its traces.",
    {
        **_names("parameter", "bound", "term", "time", "decay"),
        "delay": DELAY,
        "energy": _ENERGY.renamed({"energy": "trace"}).optional(),
        "trace": Variable(("trace",), "1", "trace", "int", required=False),
        "parameter2": replace(_NAMES["parameter"], dims=("parameter2",)),
        "parameter_tau": replace(_NAMES["parameter"], dims=("parameter_tau",)),
        "fitted": Variable(("fitted",), "1", "parameter or amplitude", "str"),
        "fitted2": Variable(("fitted2",), "1", "parameter or amplitude", "str"),
    },
    {
        **_PARAMETERS,
        "systematic": _PARAMETERS["systematic"].optional(),
        "dof": replace(_PARAMETERS["dof"], kind="int"),
        "rate": _RATE,
        "das": _DAS,
        "fixed": Variable(_PARAMETER, "1", "parameter was given, not fitted", "bool"),
        "search_bounds": Variable(_INTERVAL, "ps", "limits of the search"),
        "sign": Variable(("trace",), "1", "sign of the trace in the squared form", "int"),
        "correlation": Variable(("parameter", "parameter2"), "1", "correlation of t_d, irf_sigma, log tau"),
        "trace_correlation": Variable(
            ("trace", "fitted", "fitted2"), "1", "correlation of t_d, irf_sigma, log tau and the trace's amplitudes"
        ),
        "log_tau_sd": Variable(("direction",), "1", "standard deviation along the principal directions of log tau"),
        "log_tau_direction": Variable(("parameter_tau", "direction"), "1", "principal directions of log tau"),
        "bootstrap": Variable(("draw", "parameter"), "ps", "parameters of the replicates", required=False),
    },
)

KINETICS = DatasetSpec(
    "kinetics",
    "One fit per fluence of the three-exponential form, shared over its traces.",
    {
        "fluence": FLUENCE,
        **_names("parameter", "bound", "term"),
        "energy": _ENERGY,
        "delay": DELAY,
        **_names("time"),
    },
    _gathered(_PARAMETERS),
)

KINETIC_FORMS = DatasetSpec(
    "kinetic_forms",
    "The squared three exponentials beside other forms.",
    {"model": Variable(("model",), "1", "form of the model", "str"), **_names("parameter")},
    {
        "chi2": Variable(("model",), "1", "χ² of the data"),
        "n_parameters": Variable(("model",), "1", "number of fitted parameters", "int"),
        "aicc": Variable(("model",), "1", "corrected Akaike information criterion"),
        "delta_chi2": Variable(("model",), "1", "χ² less that of the squared form"),
        "delta_aicc": Variable(("model",), "1", "AICc less that of the squared form"),
        "tau": Variable(("model", "parameter"), "ps", "time constants of the form"),
    },
)

CUBE_COMPONENTS = DatasetSpec(
    "cube_components",
    "Singular vectors of the difference over energy and delay at one fluence.",
    {
        **_names("component"),
        "energy": _ENERGY,
        "delay": DELAY,
        "fluence": replace(FLUENCE, dims=(), required=False),
    },
    _CUBE,
)

SINGLE_TRACE_FITS = DatasetSpec(
    "single_trace_fits",
    "Every trace fitted alone.",
    {**_names("parameter", "bound"), "energy": _ENERGY.renamed({"energy": "trace"})},
    _SINGLE,
)

COMPONENTS = DatasetSpec(
    "components",
    "The difference over energy and delay in parts: singular vectors, spectra of the decays, single-energy fits.",
    {
        "fluence": FLUENCE,
        **_names("component", "decay"),
        "parameter": replace(_NAMES["parameter"], text="time of the fit"),
        **_names("bound"),
        "energy": replace(_ENERGY, text="photon energy"),
        "delay": DELAY,
    },
    _gathered({**_CUBE, "decay_rate": _RATE, "das": _DAS, **_SINGLE}),
)

TIME_ZERO = DatasetSpec(
    "time_zero",
    "Time zero as the delay scans have it: where the kinetic form begins, not where the signal has half its height.",
    {
        "fluence": replace(FLUENCE, dims=("scan",)),
        "energy": replace(_ENERGY, dims=("scan",), text="photon energy of the scan"),
        "delay": DELAY,
    },
    {
        "t_d": Variable((), "ps", "time zero of all scans on the axis of delays", stderr=True),
        "chi2": Variable((), "1", "χ² of the scans' times zero against the common one"),
        "dof": Variable((), "1", "scans with a step, less one", "int"),
        "p": Variable((), "1", "probability of that χ²; below 0.05 the error is enlarged"),
        "is_reversed": Variable((), "1", "the signal precedes the pump: delay.sign is wrong", "bool"),
        "time_zero": Variable(("scan",), "ps", "time zero of the scan; NaN where it has no step", stderr=True),
        "fit": Variable(("scan", "delay"), "1", "fitted change of optical density"),
        "stage": Variable((), ("mm", "ps"), "position of the delay stage at time zero", stderr=True, required=False),
        "t0": Variable((), ("mm", "ps"), "position of the stage that the delays count from", required=False),
    },
)

EXPECTED_ERRORS = DatasetSpec(
    "expected_errors",
    "Standard errors that a fit of planned data can reach at best.",
    {**_names("parameter"), "parameter2": replace(_NAMES["parameter"], dims=("parameter2",))},
    {
        "value": Variable(_PARAMETER, "ps", "assumed value"),
        "stderr": Variable(_PARAMETER, "ps", "smallest standard error possible"),
        "relative": Variable(_PARAMETER, "1", "smallest relative error possible"),
        "correlation": Variable(("parameter", "parameter2"), "1", "correlation of t_d, irf_sigma, log tau"),
    },
)

DELAY_SHARES = DatasetSpec(
    "delay_shares",
    "The delays that determine the times best, and what part of the shots each should get.",
    {"delay": DELAY},
    {"share": Variable(("delay",), "1", "share of the shots")},
)
