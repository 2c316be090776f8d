"""How a dataset is specified, checked and described.

A specification is data: dims, units, kind of number, and a sentence that also becomes the variable's `long_name`
and the reference page.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Literal

import xarray as xr

__all__ = ["DatasetSpec", "Kind", "Variable"]

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
