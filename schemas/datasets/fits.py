"""What is fitted to the spectra: peaks, kinetics, components, mixture."""

from __future__ import annotations

from dataclasses import replace

from schemas.datasets.spec import DatasetSpec, Kind, Variable
from schemas.datasets.stages import DELAY, FLUENCE

__all__ = ["COMPONENTS", "KINETICS", "MIXTURE", "MODEL_RESULTS", "PEAKS"]


def _optional(dims: tuple[str, ...], units: str, text: str, kind: Kind = "float", *, stderr: bool = False) -> Variable:
    """Describe a variable that a product may lack."""
    return Variable(dims, units, text, kind, required=False, stderr=stderr)


_PEAK = ("peak", "fluence", "delay")
PEAKS = DatasetSpec(
    "peaks",
    "The positive peak A and the negative peak B of the difference.",
    {"peak": Variable(("peak",), "1", "peak", "str"), "fluence": FLUENCE, "delay": DELAY},
    {
        "position": Variable(_PEAK, "eV", "position of the line", stderr=True),
        "amplitude": Variable(_PEAK, "1", "height of the line", stderr=True),
        "fwhm": Variable(_PEAK, "eV", "full width at half maximum", stderr=True),
        "detected": Variable(_PEAK, "1", "the line is above the noise", "bool"),
        "shift": _optional(_PEAK[1:], "eV", "shift of A against its position at the latest delay", stderr=True),
        "separation": _optional(_PEAK[1:], "eV", "distance of B from A, B − A", stderr=True),
        "offset": _optional(_PEAK[1:], "OD", "constant under the lines, 0: not asked for", stderr=True),
        "redchi": _optional(_PEAK[1:], "1", "χ² per degree of freedom of the chosen lines, errors as in delta_xas"),
        "stderr_scale": _optional(
            _PEAK[1:], "1", "factor on all errors of these lines, √redchi where that is no chance, else 1"
        ),
        "n_bins": _optional(_PEAK[1:], "1", "energies used", "int"),
    },
)

_PARAMETER = ("fluence", "parameter")
_TRACE = ("fluence", "energy", "delay")
KINETICS = DatasetSpec(
    "kinetics",
    "One fit per fluence of the three-exponential form, shared over its traces.",
    {
        "fluence": FLUENCE,
        "parameter": Variable(("parameter",), "1", "parameter of the fit", "str"),
        "bound": Variable(("bound",), "1", "lower or upper end of the interval", "str"),
        "term": Variable(("term",), "1", "amplitude of the fit", "str"),
        "energy": Variable(("energy",), "eV", "photon energy of the trace"),
        "delay": DELAY,
        "time": Variable(("time",), "ps", "delay at which the signal is quoted"),
    },
    {
        "value": Variable(_PARAMETER, "ps", "fitted value"),
        "stderr": Variable(_PARAMETER, "ps", "standard error of value"),
        "ci68": Variable((*_PARAMETER, "bound"), "ps", "68 % interval, open ends infinite or at the search limit"),
        "ci95": Variable((*_PARAMETER, "bound"), "ps", "95 % interval, open ends infinite or at the search limit"),
        "at_bound": Variable(_PARAMETER, "1", "the value lies at a limit of the search", "bool"),
        "identifiable": Variable(_PARAMETER, "1", "the data determine this parameter", "bool"),
        "verdict": _optional(_PARAMETER, "1", "what the data say of a time, in words", "str"),
        "verdict_code": _optional(_PARAMETER, "1", "code of the verdict, see the reference of notes", "str"),
        "amplitude": Variable(
            ("fluence", "term", "energy"), "1", "amplitude of the term, root of an OD where power is 2", stderr=True
        ),
        "fit": Variable(_TRACE, "1", "fitted difference"),
        "residual": Variable(_TRACE, "1", "data minus fit"),
        "redchi": Variable(("fluence",), "1", "χ² per degree of freedom"),
        "chi2": _optional(("fluence",), "1", "χ² of the fit"),
        "dof": _optional(("fluence",), "1", "degrees of freedom of the fit"),
        "crb": Variable(_PARAMETER, "ps", "smallest standard error that these delays and errors allow (Cramér-Rao)"),
        "systematic": Variable(_PARAMETER, "ps", "change if a fixed t_d or irf_sigma were wrong by 10 fs"),
        "t50": Variable(("fluence",), "ps", "time of 50 % rise of the strongest trace", stderr=True),
        "signal": Variable(("fluence", "time", "energy"), "1", "fitted difference at a few delays", stderr=True),
        "value_without_prior": Variable(
            _PARAMETER, "ps", "value without the amplitude prior, NaN where there is none", required=False
        ),
        "bootstrap_stderr": Variable(_PARAMETER, "ps", "standard error of value from the bootstrap", required=False),
        "bootstrap_ci68": Variable((*_PARAMETER, "bound"), "ps", "68 % interval from the bootstrap", required=False),
        "bootstrap_ci95": Variable((*_PARAMETER, "bound"), "ps", "95 % interval from the bootstrap", required=False),
    },
)

_COMPONENT = ("fluence", "component")
_DECAY_SPECTRUM = ("fluence", "decay", "energy")
_ALONE = ("fluence", "energy", "parameter")
COMPONENTS = DatasetSpec(
    "components",
    "The difference over energy and delay in parts: singular vectors, spectra of the decays, single-energy fits.",
    {
        "fluence": FLUENCE,
        "component": Variable(("component",), "1", "singular component, strongest first", "int"),
        "decay": Variable(("decay",), "1", "decay after the rise, named by its rate", "str"),
        "parameter": Variable(("parameter",), "1", "time of the fit", "str"),
        "bound": Variable(("bound",), "1", "lower or upper end of the interval", "str"),
        "energy": Variable(("energy",), "eV", "photon energy"),
        "delay": DELAY,
    },
    {
        "singular_values": Variable(_COMPONENT, "1", "singular value of the difference over its noise"),
        "noise_level": Variable(_COMPONENT, "1", "singular value that noise alone exceeds in 1 of 100 cubes"),
        "n_components": Variable(("fluence",), "1", "components above noise, -1 where there is no cube", "int"),
        "spectra_left": Variable((*_COMPONENT, "energy"), "1", "spectrum of the component, optical density"),
        "delays_right": Variable((*_COMPONENT, "delay"), "1", "course of the component, largest value 1"),
        "decay_rate": Variable(("fluence", "decay"), "1/ps", "rate of the decay"),
        "das": Variable(
            _DECAY_SPECTRUM,
            "1",
            "amplitude of the decay after the rise in the shared fit, optical density",
            stderr=True,
        ),
        "tau": Variable(_ALONE, "ps", "time from this energy alone, NaN where it is not fitted alone", stderr=True),
        "tau_ci95": Variable((*_ALONE, "bound"), "ps", "95 % interval, open ends infinite or at the search limit"),
        "tau_identifiable": Variable(_ALONE, "1", "this energy alone determines the time", "bool"),
    },
)

MIXTURE = DatasetSpec(
    "mixture",
    "Fraction of the excited state at late delays.",
    {
        "fluence": FLUENCE,
        "energy": Variable(("energy",), "eV", "photon energy"),
        "model": Variable(("model",), "1", "model of the two states, the reported one first", "str", required=False),
        "delay": replace(DELAY, required=False),
    },
    {
        "alpha": Variable(("fluence",), "1", "excited fraction at delays ≥ min_delay", stderr=True),
        "alpha_model_stderr": Variable(
            ("fluence",),
            "1",
            "model error of alpha: rms distance of the other models, NaN for one model",
            required=False,
        ),
        "slope_model_stderr": Variable((), "cm^2/mJ", "model error of slope", required=False),
        "intercept_model_stderr": Variable((), "1", "model error of intercept", required=False),
        **{
            f"{name}_by_model": Variable(dims, units, f"{name} of every model", required=False, stderr=True)
            for name, dims, units in (
                ("alpha", ("model", "fluence"), "1"),
                ("slope", ("model",), "cm^2/mJ"),
                ("intercept", ("model",), "1"),
            )
        },
        "redchi": Variable(("fluence",), "1", "χ² per degree of freedom"),
        "ground_position": Variable((), "eV", "position of the ground-state peak", stderr=True),
        "ground_fwhm": Variable((), "eV", "full width at half maximum of the ground-state peak", stderr=True),
        "excited_position": Variable((), "eV", "position of the excited-state peak", stderr=True),
        "excited_fwhm": Variable((), "eV", "full width at half maximum of the excited-state peak", stderr=True),
        "slope": Variable((), "cm^2/mJ", "slope of alpha against fluence", stderr=True),
        "intercept": Variable((), "1", "intercept of alpha against fluence", stderr=True),
        "component_ground": Variable(("fluence", "energy"), "1", "ground-state part of the fitted pumped spectrum"),
        "component_excited": Variable(("fluence", "energy"), "1", "excited-state part of the fitted pumped spectrum"),
        "fit": Variable(("fluence", "energy"), "1", "fitted difference"),
        "residual": Variable(("fluence", "energy"), "1", "difference minus fit"),
        "alpha_ci68": _optional(("fluence", "bound"), "1", "68 % interval of alpha, limited to 0 … 1"),
        "alpha_ci95": _optional(("fluence", "bound"), "1", "95 % interval of alpha, limited to 0 … 1"),
        "alpha_stderr_independent": _optional(
            ("fluence",), "1", "standard error of alpha from its own delta_xas alone"
        ),
        "alpha_covariance": _optional(
            ("fluence", "fluence_other"), "1", "covariance of the alphas, which share the ground-state spectrum"
        ),
        "alpha_delay": _optional(("fluence", "delay"), "1", "excited fraction at every delay", stderr=True),
        "linear_chi2": _optional((), "1", "χ² of alpha linear in fluence, fluences − 2 degrees of freedom"),
        "linear_p": _optional((), "1", "probability of linear_chi2 by chance"),
        "line_covariance": _optional(("line", "line_other"), "1", "covariance of intercept and slope"),
        "redchi_by_model": _optional(("model", "fluence"), "1", "redchi of every model"),
        "ground_redchi": _optional((), "1", "χ² per degree of freedom of the unpumped spectra"),
        "ground_redchi_by_model": _optional(("model",), "1", "ground_redchi of every model"),
        "excited_area": _optional((), "1", "area of the excited component over that of its DOS", stderr=True),
        "scale": _optional((), "1", "optical density per unit of the ground DOS", stderr=True),
        "ground_shift": _optional((), "eV", "shift of the ground DOS", stderr=True),
        "excited_shift": _optional((), "eV", "shift of the excited DOS", stderr=True),
        "extra_fwhm": _optional((), "eV", "broadening beyond what the config names", stderr=True),
    },
)

MODEL_RESULTS = DatasetSpec(
    "model_results",
    "Files that lmfit reads, and reports, on their way into the folder `fits/` of a version; no group of the product.",
    {"file": Variable(("file",), "1", "name of the file", "str")},
    {"text": Variable(("file",), "1", "its content", "str")},
)
