"""What every stage's dataset must look like, in reading order; `faults` lists everything that is wrong with one.

A specification is data: dims, units, kind of number, and a sentence that also becomes the variable's `long_name`
and the reference page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import xarray as xr

__all__ = [
    "BURST_DELAY_SCAN",
    "BURST_SPECTRA",
    "COMPONENTS",
    "DELAY_SCAN",
    "FRAMES",
    "KINETICS",
    "MIXTURE",
    "PEAKS",
    "PULSES",
    "QUALITY",
    "SPECTRA",
    "DatasetSpec",
    "Variable",
]

Kind = Literal["float", "int", "bool", "str"]
_KINDS = {"float": "f", "int": "iu", "bool": "b", "str": "UOT"}


@dataclass(frozen=True)
class Variable:
    """One variable or coordinate: dims in order, units, kind of number and meaning."""

    dims: tuple[str, ...]
    units: str
    text: str
    kind: Kind = "float"
    required: bool = True
    stderr: bool = False
    """True: a variable `<name>_stderr` of the same dims and units belongs to it."""
    since: int = 1
    """Version of the product's schema that brought it; older products may lack it."""


def _optional(dims: tuple[str, ...], units: str, text: str, kind: Kind = "float", *, stderr: bool = False) -> Variable:
    """Describe a variable that a product may lack."""
    return Variable(dims, units, text, kind, required=False, stderr=stderr)


@dataclass(frozen=True)
class DatasetSpec:
    """A stage's dataset."""

    name: str
    text: str
    coords: dict[str, Variable]
    variables: dict[str, Variable] = field(default_factory=dict)

    def expanded(self) -> Iterator[tuple[str, Variable]]:
        """Yield all variables, the standard errors included."""
        for name, variable in self.variables.items():
            yield name, variable
            if variable.stderr:
                text = f"standard error of {name}"
                yield f"{name}_stderr", replace(variable, text=text, kind="float", stderr=False)

    def faults(self, dataset: xr.Dataset, version: int | None = None) -> list[str]:
        """Return one line per fault: variable, what was expected, what was found.

        A dataset of an older schema `version` may lack what came later; what it has must be right all the same.
        """
        found: list[str] = []
        for what, items in (("coordinate", self.coords.items()), ("variable", self.expanded())):
            for name, variable in items:
                later = version is not None and variable.since > version
                expected = replace(variable, required=False) if later else variable
                found += _faults_of(self.name, name, expected, dataset, what)
        return found

    def describe(self, dataset: xr.Dataset) -> xr.Dataset:
        """Return the dataset with `units`, `long_name` and `ancillary_variables` filled in from the specification."""
        result = dataset.copy()
        for name, expected in [*self.coords.items(), *self.expanded()]:
            if name in result.variables:
                attrs = {"long_name": expected.text} | ({} if expected.units == "*" else {"units": expected.units})
                if f"{name}_stderr" in result.variables:
                    attrs["ancillary_variables"] = f"{name}_stderr"
                result[name].attrs = {**result[name].attrs, **attrs}
        for other in result.variables:
            result[other].attrs.setdefault("units", "1")
            result[other].attrs.setdefault("long_name", str(other).replace("_", " "))
        return result


def _faults_of(stage: str, name: str, expected: Variable, dataset: xr.Dataset, what: str) -> list[str]:
    if name not in dataset.variables:
        return [f"{stage}: {what} {name} is missing"] if expected.required else []
    variable = dataset[name]
    found = []
    if variable.dims != expected.dims:
        found.append(f"{stage}/{name}: dims {_dims(variable.dims)} found, {_dims(expected.dims)} expected")
    if variable.dtype.kind not in _KINDS[expected.kind]:
        found.append(f"{stage}/{name}: dtype {variable.dtype} found, {expected.kind} expected")
    units = variable.attrs.get("units")
    if units != expected.units and not (expected.units == "*" and units):
        found.append(f"{stage}/{name}: units {units!r} found, {expected.units!r} expected")
    if not variable.attrs.get("long_name"):
        found.append(f"{stage}/{name}: long_name is missing")
    return found


def _dims(dims: tuple[object, ...]) -> str:
    return "(" + ", ".join(map(str, dims)) + ")"


_TRAIN = {"train_id": Variable(("train",), "1", "train id", "int")}
_LABELS = {
    **_TRAIN,
    "pulse_id": Variable(("pulse",), "1", "pulse id of the machine", "int"),
    "cell_id": Variable(("train", "pulse"), "1", "memory cell of the detector", "int"),
    "present": Variable(("train", "pulse"), "1", "the frame was recorded", "bool"),
    "energy": Variable(("train",), "eV", "photon energy"),
    "delay_stage": Variable(("train",), "*", "position of the delay stage, in its own unit", required=False),
    "delay": Variable(("train", "pulse"), "ps", "pump-probe delay, positive: pump first"),
}

FRAMES = DatasetSpec(
    "frames",
    "Raw detector frames of one run, as recorded, cropped to the beams or whole.",
    {
        **_LABELS,
        "y": Variable(("y",), "1", "row of the module", "int"),
        "x": Variable(("x",), "1", "column of the module", "int"),
    },
    {"frames": Variable(("train", "pulse", "y", "x"), "ADU", "raw detector frame", "int")},
)

PULSES = DatasetSpec(
    "pulses",
    "Photons per pulse and beam of one run.",
    {
        **_LABELS,
        "beam": Variable(("beam",), "1", "beam", "str"),
        "fluence": Variable((), "mJ/cm^2", "pump fluence"),
    },
    {
        "photons": Variable(("train", "pulse", "beam"), "1", "photons in the beam", stderr=True),
        "n_saturated": Variable(("train", "pulse", "beam"), "1", "saturated pixels in the beam", "int"),
        "intensity": Variable(("train", "pulse"), "uJ", "pulse energy before the sample", required=False),
        "arrival": Variable(("train", "pulse"), "ps", "arrival time of the X-ray pulse", required=False),
        "dark_frame": Variable(("train", "pulse"), "1", "frame without an X-ray pulse", "bool"),
    },
)


def _difference(dims: tuple[str, ...]) -> dict[str, Variable]:
    return {
        "od_unpumped": Variable(
            dims, "1", "optical density of the unpumped sample, −ln(I_unpumped / I_reference)", stderr=True
        ),
        "od_pumped": Variable(dims, "1", "optical density of the pumped sample, od_unpumped + delta_xas", stderr=True),
        "delta_xas": Variable(dims, "1", "change of optical density, pumped − unpumped", stderr=True),
        "delta_xas_stderr_shot": Variable(dims, "1", "standard error of delta_xas from photon and read noise alone"),
        "n_pulses": Variable(dims, "1", "pulses in the bin", "int"),
        "photons_pumped": Variable(dims, "1", "photons through the pumped sample"),
        "photons_unpumped": Variable(dims, "1", "photons through the unpumped sample"),
        "n_trains": Variable(dims, "1", "trains with pulses in the bin", "int", required=False),
        **_constant(()),
    }


def _constant(dims: tuple[str, ...]) -> dict[str, Variable]:
    """The constant of the difference; its error is part of every error of delta_xas and the same in all bins."""
    return {
        "flat_field_constant": Variable(
            dims,
            "1",
            "constant of delta_xas, ln(I_pumped / I_unpumped) without pump; its error squared is the covariance of "
            "delta_xas between any two bins",
            stderr=True,
        )
    }


_FLUENCE = Variable(("fluence",), "mJ/cm^2", "pump fluence")
_DELAY = Variable(("delay",), "ps", "pump-probe delay, positive: pump first")
_ENERGY = Variable(("energy",), "eV", "photon energy, mean of the bin's pulses")

SPECTRA = DatasetSpec(
    "spectra",
    "Spectra of the pumped and the unpumped sample and their difference.",
    {"fluence": _FLUENCE, "delay": _DELAY, "energy": _ENERGY},
    _difference(("fluence", "delay", "energy")),
)

DELAY_SCAN = DatasetSpec(
    "delay_scan",
    "The same against delay at fixed photon energy.",
    {
        "fluence": Variable(("scan",), "mJ/cm^2", "pump fluence of the scan"),
        "energy": Variable(("scan",), "eV", "photon energy of the scan"),
        "delay": _DELAY,
    },
    _difference(("scan", "delay")),
)

_BURST = {
    "pulse": Variable(("pulse",), "1", "index of the pulse in its train, mean of its group"),
    "first_pulse": Variable(("pulse",), "1", "first index of the group", "int"),
    "last_pulse": Variable(("pulse",), "1", "last index of the group", "int"),
}


def _by_pulse(spec: DatasetSpec, dims: tuple[str, ...]) -> DatasetSpec:
    names = ("delta_xas", "delta_xas_stderr_shot", "n_pulses")
    found = {n: v for n, v in _difference(dims).items() if n in names}
    return DatasetSpec(
        f"burst_{spec.name}",
        f"The difference of /{spec.name} by pulse index, on the same bins; made where burst.resolve is set. Groups of "
        "pulses share their trains.",
        {**_BURST, **spec.coords},
        found | _constant(("pulse",)),
    )


BURST_SPECTRA = _by_pulse(SPECTRA, ("pulse", "fluence", "delay", "energy"))
BURST_DELAY_SCAN = _by_pulse(DELAY_SCAN, ("pulse", "scan", "delay"))

_PEAK = ("peak", "fluence", "delay")
PEAKS = DatasetSpec(
    "peaks",
    "The positive peak A and the negative peak B of the difference.",
    {"peak": Variable(("peak",), "1", "peak", "str"), "fluence": _FLUENCE, "delay": _DELAY},
    {
        "position": Variable(_PEAK, "eV", "position of the line", stderr=True),
        "amplitude": Variable(_PEAK, "1", "height of the line", stderr=True),
        "fwhm": Variable(_PEAK, "eV", "full width at half maximum", stderr=True),
        "detected": Variable(_PEAK, "1", "the line is above the noise", "bool"),
        "shift": _optional(_PEAK[1:], "eV", "shift of A against its position at the latest delay", stderr=True),
        "separation": _optional(_PEAK[1:], "eV", "distance of B from A, B − A", stderr=True),
        "offset": _optional(_PEAK[1:], "OD", "constant under the lines, 0: not asked for", stderr=True),
        "redchi": _optional(_PEAK[1:], "1", "χ² per degree of freedom of the chosen lines"),
        "n_bins": _optional(_PEAK[1:], "1", "energies used", "int"),
    },
)

_PARAMETER = ("fluence", "parameter")
_TRACE = ("fluence", "energy", "delay")
KINETICS = DatasetSpec(
    "kinetics",
    "One fit per fluence of the three-exponential form, shared over its traces.",
    {
        "fluence": _FLUENCE,
        "parameter": Variable(("parameter",), "1", "parameter of the fit", "str"),
        "bound": Variable(("bound",), "1", "lower or upper end of the interval", "str"),
        "term": Variable(("term",), "1", "amplitude of the fit", "str"),
        "energy": Variable(("energy",), "eV", "photon energy of the trace"),
        "delay": _DELAY,
        "time": Variable(("time",), "ps", "delay at which the signal is quoted"),
    },
    {
        "value": Variable(_PARAMETER, "ps", "fitted value"),
        "stderr": Variable(_PARAMETER, "ps", "standard error of value"),
        "ci68": Variable((*_PARAMETER, "bound"), "ps", "68 % interval, open ends infinite or at the search limit"),
        "ci95": Variable((*_PARAMETER, "bound"), "ps", "95 % interval, open ends infinite or at the search limit"),
        "at_bound": Variable(_PARAMETER, "1", "the value lies at a limit of the search", "bool"),
        "identifiable": Variable(_PARAMETER, "1", "the data determine this parameter", "bool"),
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
        "fluence": _FLUENCE,
        "component": Variable(("component",), "1", "singular component, strongest first", "int"),
        "decay": Variable(("decay",), "1", "decay after the rise, named by its rate", "str"),
        "parameter": Variable(("parameter",), "1", "time of the fit", "str"),
        "bound": Variable(("bound",), "1", "lower or upper end of the interval", "str"),
        "energy": Variable(("energy",), "eV", "photon energy"),
        "delay": _DELAY,
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
        "fluence": _FLUENCE,
        "energy": Variable(("energy",), "eV", "photon energy"),
        "model": Variable(("model",), "1", "model of the two states, the reported one first", "str", required=False),
        "delay": replace(_DELAY, required=False),
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

QUALITY = DatasetSpec(
    "quality",
    "What happened to every frame and pulse, and how close to the shot-noise limit the run is.",
    {
        "run": Variable(("run",), "1", "run number", "int"),
        "pulse": Variable(("pulse",), "1", "index of the pulse in its train", "int"),
        "fluence": _FLUENCE,
        "delay": _DELAY,
        "energy": _ENERGY,
        "scan_delay": Variable(("scan_delay",), "ps", "pump-probe delay of the delay scans"),
        "scan_fluence": Variable(("scan",), "mJ/cm^2", "pump fluence of the scan"),
        "scan_energy": Variable(("scan",), "eV", "photon energy of the scan"),
    },
    {
        "run_fluence": Variable(("run",), "mJ/cm^2", "pump fluence of the run"),
        "run_delay": Variable(("run",), "ps", "nominal delay of an energy scan"),
        "frames_expected": Variable(("run",), "1", "trains × pulses of the run", "int"),
        "frames_read": Variable(("run",), "1", "frames recorded and read", "int"),
        "pulses_used": Variable(("run",), "1", "pulses in the result", "int"),
        "trains_missing": Variable(("run",), "1", "trains without detector data", "int"),
        "trains_partial": Variable(("run",), "1", "trains with fewer frames than usual", "int"),
        "trains_suspect": Variable(("run",), "1", "trains whose index is flagged as suspect", "int"),
        "trains_truncated": Variable(("run",), "1", "trains whose index points past the data", "int"),
        "trains_misindexed": Variable(("run",), "1", "trains whose index points at another train", "int"),
        "trains_duplicate": Variable(("run",), "1", "trains recorded twice, the second copy left out", "int"),
        "trains_duplicate_pulse": Variable(("run",), "1", "trains in which a pulse id repeats", "int"),
        "sequences_missing": Variable(("run",), "1", "sequence files of the detector that are missing", "int"),
        "frames_blank": Variable(("run",), "1", "frames announced but never written, or zero everywhere", "int"),
        **{
            f"dropped_{reason}": Variable(("run",), "1", f"pulses left out: {text}", "int")
            for reason, text in {
                "absent": "no frame",
                "dark": "no X-ray pulse in the bunch pattern",
                "excluded": "excluded by the config",
                "no_calibration": "the dark run lacks the memory cell",
                "low_intensity": "below the intensity floor",
                "saturated": "saturated pixels",
                "no_energy": "no photon energy for the train",
                "no_delay": "no delay: stage or arrival time missing",
                "outside_bins": "outside all bins",
            }.items()
        },
        "noise_ratio": Variable(("run",), "1", "scatter of pumped/unpumped over photon noise"),
        "noise_ratio_reference": Variable(("run",), "1", "scatter of unpumped/reference over photon noise"),
        "null_chi2": Variable(("run",), "1", "χ² per degree of freedom, odd against even trains"),
        "null_p": Variable(("run",), "1", "probability of null_chi2 by chance"),
        "null_p_unpumped": Variable(("run",), "1", "probability of null_chi2_unpumped by chance"),
        "null_chi2_unpumped": Variable(
            ("run",), "1", "χ² per degree of freedom of od_unpumped, odd against even trains"
        ),
        "null_chi2_early": Variable(
            ("run",), "1", "χ² per degree of freedom of delta_xas against zero, delays before time zero"
        ),
        "null_p_early": Variable(("run",), "1", "probability of null_chi2_early by chance"),
        "agreement_p": Variable(("run",), "1", "probability of agreement_chi2 by chance"),
        "agreement_chi2": Variable(
            ("run",), "1", "χ² per degree of freedom against other runs at this fluence and delay"
        ),
        "offset": Variable(("run",), "1", "mean difference of delta_xas from those runs", stderr=True),
        "normalisation": Variable(("run",), "1", "mean difference of od_unpumped from other energy scans", stderr=True),
        "saturated_fraction": Variable(("run",), "1", "pulses with saturated pixels over X-ray pulses"),
        "backlash": Variable(
            ("run",), "eV", "reading of a feature in up sweeps less that in down sweeps", stderr=True, required=False
        ),
        "delay_spread": Variable(
            ("run",), "ps", "rms of the pulses' delays about the mean of their bin", required=False
        ),
        "drift": Variable(
            ("run",), "1", "change of delta_xas from the first to the last pulse of the burst", stderr=True
        ),
        "build_up": Variable(
            ("run",), "1", "relative change of the size of delta_xas from the first to the last pulse", stderr=True
        ),
        "burst_profile": Variable(
            ("run", "pulse"), "1", "deviation of delta_xas at a pulse index from the mean of its train", stderr=True
        ),
        "stderr_ratio": Variable(
            ("fluence", "delay", "energy"), "1", "delta_xas_stderr over delta_xas_stderr_shot of /spectra"
        ),
        "stderr_ratio_mean": Variable(("fluence", "delay"), "1", "mean of stderr_ratio over the spectrum"),
        "stderr_ratio_scan": Variable(
            ("scan", "scan_delay"), "1", "delta_xas_stderr over delta_xas_stderr_shot of /delay_scan"
        ),
        "stderr_ratio_scan_mean": Variable(("scan",), "1", "mean of stderr_ratio_scan over the scan"),
    },
)
