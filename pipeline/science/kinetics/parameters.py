"""What is known of a kinetic parameter before the fit: free, fixed, bounded, measured or tied to others; as in lmfit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from pipeline.errors import ConfigError

if TYPE_CHECKING:
    import lmfit

__all__ = ["Known", "Setting", "kinetic_parameters", "known_parameters", "parameter_names"]

Setting = str | float | tuple[float, float]
"""Either "fit", a fixed number, or a measured value with its standard error [ps]."""


class Known(NamedTuple):
    """What is known of one parameter [ps]."""

    value: float | None = None
    stderr: float | None = None
    """Standard error of a measured value, which is then a Gaussian prior."""
    low: float = -np.inf
    high: float = np.inf
    vary: bool = True
    expr: str | None = None

    def said(self) -> dict[str, Any]:
        """Return what is not at its default, by the names that lmfit has for it."""
        names = {"low": "min", "high": "max"}
        return {names.get(k, k): v for k, v in self._asdict().items() if v != self._field_defaults[k]}

    @property
    def is_free(self) -> bool:
        """Whether it is a free parameter of the fit."""
        return self.vary and self.expr is None

    @property
    def is_start(self) -> bool:
        """Whether its value is a start of the search."""
        return self.value is not None and self.stderr is None and self.is_free


def parameter_names(n_exponentials: int = 3) -> tuple[str, ...]:
    """Return the names of the shared parameters: t_d, irf_sigma, tau1, ..."""
    return ("t_d", "irf_sigma", *(f"tau{i + 1}" for i in range(n_exponentials)))


def kinetic_parameters(
    given: Mapping[str, Mapping[str, Any]] | None = None, n_exponentials: int = 3
) -> lmfit.Parameters:
    """Return the shared parameters as lmfit writes them, for `fit_kinetics(parameters=...)`.

    Parameters
    ----------
    given
        By name, any of value, min, max, vary, expr as in lmfit [ps], and stderr: the standard error of a value measured
        elsewhere, which is kept in the parameter's `user_data` (lmfit's own `stderr` is a result). A parameter without a
        value is sought from the data.
    n_exponentials
        Number of taus.

    Examples
    --------
    >>> parameters = kinetic_parameters({"irf_sigma": {"value": 0.04, "stderr": 0.003}, "tau2": {"expr": "1.6*tau1"}})
    >>> parameters["tau2"].expr, parameters["irf_sigma"].user_data
    ('1.6*tau1', {'stderr': 0.003})
    """
    import lmfit

    parameters = lmfit.Parameters()
    said = {name: dict((given or {}).get(name, {})) for name in parameter_names(n_exponentials)}
    # a formula can only name what is there
    for name in sorted(said, key=lambda n: said[n].get("expr") is not None):
        parameters.add(name)
    for name, one in said.items():
        stderr = one.pop("stderr", None)
        if one:
            parameters[name].set(**one)
        if stderr is not None:
            parameters[name].user_data = {"stderr": float(stderr)}
    return parameters


def known_parameters(
    n_exponentials: int, settings: Mapping[str, Setting], parameters: lmfit.Parameters | None = None
) -> dict[str, Known]:
    """Return what is known of each shared parameter, by name, in their order.

    Parameters
    ----------
    settings
        The short form, for t_d and irf_sigma.
    parameters
        The long form, for any; what is not there is free.

    Raises
    ------
    ConfigError
        If a parameter is given in both forms, is unknown, or has a value that it cannot have.
    """
    known = {name: _from_setting(name, settings.get(name, "fit")) for name in parameter_names(n_exponentials)}
    for name, parameter in (parameters or {}).items():
        if name not in known:
            raise ConfigError(f"kinetics.parameters.{name}: not one of {', '.join(known)}")
        one = _from_lmfit(parameter)
        if one != Known() and known[name] != Known():
            raise ConfigError(f"give kinetics.{name} or kinetics.parameters.{name}, not both")
        known[name] = one if one != Known() else known[name]
    for name, one in known.items():
        if one.value is not None and (one.value < 0 if name == "irf_sigma" else name != "t_d" and one.value <= 0):
            wanted = "zero or a positive number, or fit" if name == "irf_sigma" else "a positive number"
            raise ConfigError(f"kinetics.{name} is {one.value:g} ps; give {wanted}")
        if not one.low < one.high:
            raise ConfigError(f"kinetics.parameters.{name}: min ({one.low:g}) must be below max ({one.high:g})")
    return known


def _from_setting(name: str, setting: Setting) -> Known:
    if isinstance(setting, tuple):
        value, stderr = setting
        if not (np.isfinite(value) and stderr > 0):
            raise ConfigError(f"kinetics.{name}: a measured value needs a positive error, got {value} +- {stderr}")
        return Known(float(value), float(stderr))
    if isinstance(setting, str):
        if setting != "fit":
            raise ConfigError(f"kinetics.{name} is {setting!r}; give a number in ps, a value with error, or fit")
        return Known()
    return Known(float(setting), vary=False)


def _from_lmfit(parameter: lmfit.Parameter) -> Known:
    if parameter.expr is not None:
        return Known(expr=parameter.expr)
    # lmfit writes "no value" as -inf, or as the bound that is nearest to it
    value = float(parameter.value)
    stderr = (parameter.user_data or {}).get("stderr")
    given = np.isfinite(value) and (value != parameter.min or not parameter.vary or stderr is not None)
    return Known(
        value if given else None,
        stderr,
        float(parameter.min),
        float(parameter.max),
        bool(parameter.vary),
    )
