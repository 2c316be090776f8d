"""How a dataset is specified, described and checked.

A specification is data: dims, units, kind of number, and a sentence that also becomes the variable's `long_name`
and the reference page. Science and stages take units and texts from here and say none of their own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import xarray as xr

__all__ = ["DatasetSpec", "Kind", "SpecError", "Variable"]

Kind = Literal["float", "int", "bool", "str"]
_KINDS = {"float": "f", "int": "iu", "bool": "b", "str": "UOT"}
_NO_VALUE = {"float": np.nan, "int": -1, "bool": False, "str": ""}


class SpecError(ValueError):
    """A dataset is not what its specification says; the message names the stage and the variable."""


@dataclass(frozen=True)
class Variable:
    """One variable or coordinate: dims in order, units, kind of number and meaning."""

    dims: tuple[str, ...]
    units: str | tuple[str, ...]
    """Several: the data say which of them it is."""
    text: str
    kind: Kind = "float"
    required: bool = True
    stderr: bool = False
    """True: a variable `<name>_stderr` of the same dims and units belongs to it."""
    since: int = 1
    """Version of the product's schema that brought it; older products may lack it."""

    @property
    def attrs(self) -> dict[str, str]:
        """`long_name` and, unless the data say it, `units`: the attributes of an array that holds this variable."""
        return {"long_name": self.text} | ({"units": self.units} if isinstance(self.units, str) else {})

    @property
    def known_units(self) -> tuple[str, ...]:
        """All units that it may have."""
        return (self.units,) if isinstance(self.units, str) else self.units

    def optional(self) -> Variable:
        """Return the same for a dataset that may lack it."""
        return replace(self, required=False)

    def renamed(self, dims: dict[str, str], *, leading: tuple[str, ...] = ()) -> Variable:
        """Return the same over other dims: some renamed, some put before all others."""
        return replace(self, dims=(*leading, *(dims.get(d, d) for d in self.dims)))


@dataclass(frozen=True)
class DatasetSpec:
    """A stage's dataset."""

    name: str
    text: str
    coords: dict[str, Variable]
    variables: dict[str, Variable] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Variable:
        """Return a coordinate or variable by name, standard errors included."""
        return self._all()[name]

    def expanded(self) -> Iterator[tuple[str, Variable]]:
        """Yield all variables, the standard errors included."""
        for name, variable in self.variables.items():
            yield name, variable
            if variable.stderr:
                text = f"standard error of {name}"
                yield f"{name}_stderr", replace(variable, text=text, kind="float", stderr=False)

    def describe(self, dataset: xr.Dataset) -> xr.Dataset:
        """Return the dataset with `units`, `long_name` and `ancillary_variables` as specified.

        Functions of `pipeline.science` call this with what they made. Units that the data say are left as they are.
        """
        result = dataset.copy()
        for name, expected in self._all().items():
            if name in result.variables:
                result[name].attrs = {**result[name].attrs, **expected.attrs, **_error_of(name, result)}
        return result

    def empty(self, coords: Mapping[str, Any], optional: Collection[str] = ()) -> xr.Dataset:
        """Return a dataset without results on given coordinates: NaN, -1, false.

        Required variables are there, and those named in `optional`.
        """
        axes = {name: (self.coords[name].dims, np.asarray(values)) for name, values in coords.items()}
        sizes = {dim: n for dims, values in axes.values() for dim, n in zip(dims, values.shape, strict=True)}
        found = {n: v for n, v in self.expanded() if v.required or {n, n.removesuffix("_stderr")} & {*optional}}
        data = {n: (v.dims, np.full([sizes[d] for d in v.dims], _NO_VALUE[v.kind])) for n, v in found.items()}
        return self.describe(xr.Dataset(data, coords=axes))

    def check(self, dataset: xr.Dataset) -> xr.Dataset:
        """Return the dataset of a stage, described, if it is as specified; units that are missing are filled in.

        Raises
        ------
        SpecError
            In one line: a variable that is missing, or that the specification does not know; wrong dims, dtype or units.
        """
        specified = self._all()
        own = {n: v.attrs["units"] for n, v in dataset.variables.items() if "units" in v.attrs}
        result = self.describe(dataset)
        for name, units in own.items():
            result[name].attrs["units"] = units
        found = self.faults(result)
        found += [
            f"{self.name}/{n}: not in the specification" for n in map(str, result.variables) if n not in specified
        ]
        if found:
            raise SpecError(found[0] + (f" (and {len(found) - 1} more)" if len(found) > 1 else ""))
        return result

    def faults(self, dataset: xr.Dataset, version: int | None = None) -> list[str]:
        """Return one line per fault: variable, what was expected, what was found.

        A dataset of an older schema `version` may lack what came later; what it has must be right all the same.
        """
        found: list[str] = []
        for what, items in (("coordinate", self.coords.items()), ("variable", self.expanded())):
            for name, variable in items:
                later = version is not None and variable.since > version
                expected = variable.optional() if later else variable
                found += _faults_of(self.name, name, expected, dataset, what)
        return found

    def _all(self) -> dict[str, Variable]:
        return {**self.coords, **dict(self.expanded())}


def _error_of(name: str, dataset: xr.Dataset) -> dict[str, str]:
    return {"ancillary_variables": f"{name}_stderr"} if f"{name}_stderr" in dataset.variables else {}


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
    if units not in expected.known_units:
        known = " or ".join(map(repr, expected.known_units))
        found.append(f"{stage}/{name}: units {units!r} found, {known} expected")
    if not variable.attrs.get("long_name"):
        found.append(f"{stage}/{name}: long_name is missing")
    return found


def _dims(dims: tuple[object, ...]) -> str:
    return "(" + ", ".join(map(str, dims)) + ")"
