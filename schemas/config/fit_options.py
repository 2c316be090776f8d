"""From spectra to physics: the `peaks`, `kinetics` and `mixture` parts of a config."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from schemas.ranges import Duration, Energy, EnergyWidth, Shift, Time
from schemas.strict import Positive, Strict

__all__ = [
    "DosColumn",
    "Kinetics",
    "KineticParameter",
    "KineticParameters",
    "Measured",
    "Mixture",
    "MixtureModel",
    "Peaks",
]


LONGEST = 1e4
"""Longest time constant or instrument response [ps]."""


class Window(Strict):
    """A stretch of photon energy."""

    window: tuple[Energy, Energy] | Literal["auto"] = "auto"
    """Lower and upper energy [eV]; auto: the whole range of the spectra."""

    @field_validator("window")
    @classmethod
    def _ordered(cls, value: Any) -> Any:
        if value != "auto" and value[1] <= value[0]:
            raise ValueError(f"{list(value)} is not [low, high]")
        return value


class Peaks(Window):
    """Where peaks A and B of the difference are sought."""


class Measured(Strict):
    """A number from a separate measurement, used as a Gaussian prior."""

    value: Time
    """The measured value [ps]."""
    stderr: Positive
    """Its standard error [ps]."""


class KineticParameter(Strict):
    """One parameter of the kinetics, as lmfit knows it."""

    value: Time | None = None
    """The value [ps]: held with `vary: false`, measured with `stderr`, else one more start of the search."""
    stderr: Positive | None = None
    """Standard error [ps] of a value measured elsewhere: a Gaussian prior, for a tau on its logarithm."""
    min: Time | None = None
    """Lower bound [ps]."""
    max: Time | None = None
    """Upper bound [ps]."""
    vary: bool = True
    """Whether it is fitted; false: the value is held."""
    expr: str | None = None
    """Ties it to the other parameters, e.g. `1.6*tau1`; then it takes no other key."""

    @model_validator(mode="after")
    def _consistent(self) -> KineticParameter:
        if self.expr is not None:
            if other := sorted(self.model_fields_set - {"expr"} - self._unset()):
                raise ValueError(f"expr ties it to other parameters, so {', '.join(other)} must not be given")
            return self
        if self.value is None and not self.vary:
            raise ValueError("vary: false needs a value")
        if self.stderr is not None and (self.value is None or not self.vary):
            raise ValueError("stderr belongs to a measured value that is fitted (value, and not vary: false)")
        low, high = (-float("inf") if self.min is None else self.min), (float("inf") if self.max is None else self.max)
        if not low < high:
            raise ValueError(f"min ({low:g}) must be below max ({high:g})")
        if self.value is not None and not low <= self.value <= high:
            raise ValueError(f"value ({self.value:g}) is not between min and max")
        return self

    def _unset(self) -> set[str]:
        """Keys at their defaults: a config that was written out again names them all."""
        return {name for name, info in type(self).model_fields.items() if getattr(self, name) == info.default}


_FUNCTIONS = frozenset({"abs", "exp", "log", "max", "min", "pi", "sqrt"})
_OPERATIONS = (ast.Expression, ast.BinOp, ast.UnaryOp, ast.Call, ast.operator, ast.unaryop)
_SYNTAX = (*_OPERATIONS, ast.Name, ast.Load, ast.Constant)


class KineticParameters(Strict):
    """The parameters that the traces share."""

    t_d: KineticParameter | None = None
    """Time zero of the signal."""
    irf_sigma: KineticParameter | None = None
    """Gaussian σ of the instrument response."""
    tau1: KineticParameter | None = None
    """Rise time."""
    tau2: KineticParameter | None = None
    """First decay time."""
    tau3: KineticParameter | None = None
    """Second decay time."""

    @model_validator(mode="after")
    def _sensible(self) -> KineticParameters:
        for name, one in self.given.items():
            smallest = one.value if one.value is not None else one.max
            if name.startswith("tau") and smallest is not None and smallest <= 0:
                raise ValueError(f"{name} must be positive, got {smallest:g}")
            if name != "t_d" and one.value is not None and one.value > LONGEST:
                raise ValueError(f"{name} must be a duration of up to {LONGEST:g} ps, got {one.value:g}")
            if name == "irf_sigma" and smallest is not None and smallest < 0:
                raise ValueError(f"irf_sigma must not be negative, got {smallest:g}")
        needs = {name: self._names_in(name, one.expr) for name, one in self.given.items() if one.expr is not None}
        try:
            TopologicalSorter(needs).prepare()
        except CycleError as error:
            name = min(error.args[1])
            raise ValueError(f"{name}.expr depends on {name} itself") from None
        return self

    def _names_in(self, name: str, expr: str) -> set[str]:
        """Return the parameters that an expression names; raises ValueError for what is no such expression."""
        known = set(type(self).model_fields)
        try:
            nodes = list(ast.walk(ast.parse(expr.strip(), mode="eval")))
        except SyntaxError:
            raise ValueError(f"{name}.expr: {expr!r} is not an expression") from None
        names = {node.id for node in nodes if isinstance(node, ast.Name)}
        if strange := sorted(names - known - _FUNCTIONS):
            raise ValueError(f"{name}.expr: {strange[0]!r} is none of {', '.join(sorted(known | _FUNCTIONS))}")
        calls = [node.func for node in nodes if isinstance(node, ast.Call)]
        plain = all(isinstance(call, ast.Name) and call.id in _FUNCTIONS for call in calls)
        if not (plain and all(isinstance(node, _SYNTAX) for node in nodes) and names & known):
            raise ValueError(f"{name}.expr: {expr!r} is not a formula of other parameters, such as 1.6*tau1")
        return names & known

    @property
    def given(self) -> dict[str, KineticParameter]:
        """The parameters of which something is said, by name."""
        return {name: one for name in type(self).model_fields if (one := getattr(self, name)) is not None}


class Kinetics(Strict):
    """The three-exponential fit."""

    power: Literal[1, 2] = 2
    """2: squared, as printed in the seed publication; 1: not squared."""
    irf_sigma: Duration | Measured | Literal["fit"] = "fit"
    """Gaussian σ of the instrument response [ps]: a number (fixed), a measured value with error, or fit."""
    t_d: Time | Measured | Literal["fit"] = "fit"
    """Time zero of the signal [ps]: a number (fixed), a measured value with error, or fit."""
    parameters: KineticParameters = KineticParameters()
    """More about single parameters: fixed, bounded, measured or tied. `irf_sigma` and `t_d` above are short for the entries
    of the same names; what is not named is fitted within the search range."""
    global_: Annotated[bool, Field(alias="global")] = True
    """Share the times over the energies of the spectra too, where these have enough delays."""
    n_exponentials: Literal[1, 2, 3] = 3
    """Number of times; 3 is the seed's model."""
    amplitude_prior: Positive | Literal["none"] = 3.0
    """Weak Gaussian prior on the amplitudes, in units of the largest signal; none switches it off."""
    bootstrap: Literal["none", "parametric", "trains"] = "none"
    """Refits of replicates for a second opinion on the errors; parametric: fit plus noise of the given errors; trains:
    trains drawn anew from the pulses, which knows of noise that the errors miss. Off: it takes as long as n_bootstrap
    fits."""
    n_bootstrap: Annotated[int, Field(ge=20, le=10_000)] = 200
    """Number of replicates; 200 give the ends of a 68 % interval to 10 % of its width."""
    per_energy: bool = False
    """Fit every energy alone too, with the time zero and response of the shared fit. Off: single energies rarely
    determine the times, and each takes as long as the shared fit."""

    @model_validator(mode="after")
    def _said_once(self) -> Kinetics:
        said = self.parameters.given
        for name in ("irf_sigma", "t_d"):
            if name in said and getattr(self, name) != "fit":
                raise ValueError(f"give kinetics.{name} or kinetics.parameters.{name}, not both")
        allowed = ("t_d", "irf_sigma", *(f"tau{i + 1}" for i in range(self.n_exponentials)))
        for name, one in said.items():
            missing = {name, *(n for n in type(self.parameters).model_fields if n in _words(one.expr))} - set(allowed)
            if missing:
                raise ValueError(
                    f"kinetics.parameters.{name}: there is no {min(missing)} with n_exponentials: {self.n_exponentials}"
                )
        return self

    @property
    def given(self) -> dict[str, KineticParameter]:
        """What is said of the parameters, by name; `irf_sigma` and `t_d` count as entries of `parameters`."""
        short = {name: _parameter(getattr(self, name)) for name in ("t_d", "irf_sigma")}
        return {name: one for name, one in short.items() if one is not None} | self.parameters.given

    def setting(self, name: Literal["t_d", "irf_sigma"]) -> float | Measured | Literal["fit"]:
        """Return what is known of time zero or response beforehand: a number, a measured value, or fit."""
        one = self.given.get(name)
        if one is None or one.value is None:
            return "fit"
        if one.stderr is not None:
            return Measured(value=one.value, stderr=one.stderr)
        return "fit" if one.vary else one.value


def _words(expr: str | None) -> set[str]:
    return set() if expr is None else {n.id for n in ast.walk(ast.parse(expr.strip())) if isinstance(n, ast.Name)}


def _parameter(option: float | Measured | Literal["fit"]) -> KineticParameter | None:
    if option == "fit":
        return None
    if isinstance(option, Measured):
        return KineticParameter(value=option.value, stderr=option.stderr)
    return KineticParameter(value=option, vary=False)


class DosColumn(Strict):
    """One column of a file that holds several DOS."""

    file: str
    """Text file with a header line that names the columns, relative to the config."""
    column: str | None = None
    """Name of the DOS column; may be left out where there is only one."""


Dos = str | DosColumn


class MixtureModel(Strict):
    """Another pair of DOS that is fitted too."""

    name: Annotated[str, Field(min_length=1)]
    """What it is called in the product."""
    dos_ground: Dos
    """As `mixture.dos_ground`."""
    dos_excited: Dos
    """As `mixture.dos_excited`."""


class Mixture(Window):
    """Ground- and excited-state DOS fitted to the spectra."""

    dos_ground: Dos | None = None
    """File with columns energy_eV, dos, relative to the config, or {file, column}; none: built-in model peaks."""
    dos_excited: Dos | None = None
    """The same for the excited state."""
    alternatives: list[MixtureModel] = Field(default=[])
    """Other DOS for the same states: fitted too, and their distance from the first is the model error of alpha."""
    ground: Literal["dos", "measured"] = "dos"
    """Ground component: the ground DOS, or measured: the unpumped spectrum without its background, where no DOS describes it.
    The excited DOS then has the scale that the areas of spectrum and ground DOS ask for."""
    energy_zero: Shift = 0.0
    """Photon energy [eV] at which the energies of the DOS files are zero; 0 where they are photon energies. The fit
    moves a DOS by at most 3 eV."""
    min_delay: Time = 0.8
    """Delays [ps] from which the mixture holds: after the electronic relaxation."""
    gaussian_fwhm: EnergyWidth = 0.0
    """Instrument broadening applied to the DOS [eV]."""
    lorentzian_fwhm: EnergyWidth = 0.0
    """Lifetime broadening applied to the DOS [eV]."""

    @model_validator(mode="after")
    def _both(self) -> Mixture:
        if (self.dos_ground is None) != (self.dos_excited is None):
            raise ValueError("give both dos_ground and dos_excited, or neither")
        names = ["main", *(m.name for m in self.alternatives)]
        if self.alternatives and self.dos_ground is None:
            raise ValueError("alternatives need dos_ground and dos_excited beside them")
        if self.ground == "measured" and self.dos_ground is None:
            raise ValueError("ground: measured needs dos_ground and dos_excited, for the scale of the excited state")
        if len(set(names)) < len(names):
            raise ValueError(f"alternatives need names of their own, other than main (got {', '.join(names[1:])})")
        return self

    @property
    def models(self) -> dict[str, tuple[DosColumn, DosColumn]]:
        """The pairs (ground, excited) of DOS by name, the one that is reported first; empty: built-in peaks."""
        if self.dos_ground is None or self.dos_excited is None:
            return {}
        pairs = {"main": (self.dos_ground, self.dos_excited)}
        pairs |= {m.name: (m.dos_ground, m.dos_excited) for m in self.alternatives}
        return {n: (_dos_column(ground), _dos_column(excited)) for n, (ground, excited) in pairs.items()}


def _dos_column(dos: Dos) -> DosColumn:
    return DosColumn(file=dos) if isinstance(dos, str) else dos
