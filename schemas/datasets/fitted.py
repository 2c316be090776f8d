"""What is fitted to the spectra: peaks and mixture; kinetics have a module of their own."""

from __future__ import annotations

from schemas.datasets.measured import DELAY, FLUENCE
from schemas.datasets.spec import DatasetSpec, Kind, Variable

__all__ = ["MIXTURE", "MODEL_RESULTS", "PEAKS"]


def _optional(dims: tuple[str, ...], units: str, text: str, kind: Kind = "float", *, stderr: bool = False) -> Variable:
    """Describe a variable that a product may lack."""
    return Variable(dims, units, text, kind, required=False, stderr=stderr)


_PEAK = ("peak", "fluence", "delay")
PEAKS = DatasetSpec(
    "peaks",
    "Maximum A and minimum B of the difference, without a model of their shape, and two lines fitted beside them.",
    {"peak": Variable(("peak",), "1", "peak", "str"), "fluence": FLUENCE, "delay": DELAY},
    {
        "position": Variable(_PEAK, "eV", "energy of the maximum A or minimum B of delta_xas", stderr=True),
        "amplitude": Variable(_PEAK, "1", "delta_xas there", stderr=True),
        "fwhm": Variable(_PEAK, "eV", "full width at half the amplitude", stderr=True),
        "detected": Variable(_PEAK, "1", "there is an extremum above the noise", "bool"),
        "position_stderr_systematic": _optional(_PEAK, "eV", "error of position from what the reference cannot know"),
        "amplitude_stderr_systematic": _optional(_PEAK, "1", "error of amplitude from what the reference cannot know"),
        "shift": _optional(_PEAK[1:], "eV", "shift of A against its position at the latest delay", stderr=True),
        "separation": _optional(_PEAK[1:], "eV", "distance of B from A, B − A", stderr=True),
        "redchi": _optional(_PEAK[1:], "1", "χ² per degree of freedom about a smooth curve, errors as in delta_xas"),
        "dof": _optional(_PEAK[1:], "1", "effective degrees of freedom of redchi"),
        "stderr_scale": _optional(
            _PEAK[1:], "1", "factor on the errors of delta_xas, 1 where they cover the scatter about a smooth curve"
        ),
        "n_bins": _optional(_PEAK[1:], "1", "energies used", "int"),
        "line_position": _optional(_PEAK, "eV", "position of the line fitted to the peak", stderr=True),
        "line_amplitude": _optional(_PEAK, "1", "height of that line", stderr=True),
        "line_fwhm": _optional(_PEAK, "eV", "full width at half maximum of that line", stderr=True),
        "line_correlation": _optional(_PEAK[1:], "1", "largest correlation of a line's position with a width"),
        "line_degenerate": _optional(
            _PEAK[1:], "1", "lines overlap, or their positions cannot be told from their widths", "bool"
        ),
        "line_redchi": _optional(_PEAK[1:], "1", "χ² per degree of freedom of the lines, errors as in delta_xas"),
        "offset": _optional(_PEAK[1:], "OD", "constant under the lines", stderr=True),
    },
)

MIXTURE = DatasetSpec(
    "mixture",
    "Fraction of the excited state at late delays.",
    {
        "fluence": FLUENCE,
        "energy": Variable(("energy",), "eV", "photon energy"),
        "model": Variable(("model",), "1", "model of the two states, the reported one first", "str", required=False),
        "delay": DELAY.optional(),
    },
    {
        "alpha": Variable(
            ("fluence",), "1", "excited fraction at delays ≥ min_delay that all fluences share", stderr=True
        ),
        "alpha_model_stderr": _optional(
            ("fluence",),
            "1",
            "model error of alpha: rms distance of the other models, and what the reference cannot know",
        ),
        "slope_model_stderr": _optional((), "cm^2/mJ", "model error of slope"),
        "intercept_model_stderr": _optional((), "1", "model error of intercept"),
        "alpha_reference_stderr": _optional(
            ("fluence",),
            "1",
            "part of alpha_model_stderr: what the reference leaves open after the fit of its baseline",
        ),
        "slope_reference_stderr": _optional((), "cm^2/mJ", "the same of slope"),
        "intercept_reference_stderr": _optional((), "1", "the same of intercept"),
        "alpha_by_model": _optional(("model", "fluence"), "1", "alpha of every model", stderr=True),
        "slope_by_model": _optional(("model",), "cm^2/mJ", "slope of every model", stderr=True),
        "intercept_by_model": _optional(("model",), "1", "intercept of every model", stderr=True),
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
