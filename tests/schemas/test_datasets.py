"""Datasets are described in one place, and checked against it."""

import ast
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from schemas.datasets.spec import DatasetSpec, SpecError, Variable

ROOT = Path(__file__).parents[2] / "pipeline"
# files of other programs have words of their own
FOREIGN = ("simulate", "storage", "results/export")

SPEC = DatasetSpec(
    "toy",
    "A toy.",
    {"energy": Variable(("energy",), "eV", "photon energy")},
    {
        "signal": Variable(("energy",), "1", "signal", stderr=True),
        "stage": Variable((), ("mm", "ps"), "stage", required=False),
        "n": Variable((), "1", "count", "int", required=False),
    },
)


def toy(**more) -> xr.Dataset:
    return xr.Dataset(
        {"signal": ("energy", np.zeros(3)), "signal_stderr": ("energy", np.ones(3))} | more,
        coords={"energy": np.arange(3.0)},
    )


def test_a_description_is_complete_and_leaves_the_dataset_alone():
    bare = toy()
    described = SPEC.describe(bare)
    assert described["signal"].attrs == {
        "units": "1",
        "long_name": "signal",
        "ancillary_variables": "signal_stderr",
    }
    assert described["signal_stderr"].attrs["long_name"] == "standard error of signal"
    assert described["energy"].attrs["units"] == "eV"
    assert not any(v.attrs for v in bare.variables.values())


def test_a_text_that_arithmetic_carried_over_is_replaced():
    moved = toy()
    moved["signal"].attrs = {"long_name": "photons", "units": "eV", "flag": 1}
    assert SPEC.describe(moved)["signal"].attrs["long_name"] == "signal"
    assert SPEC.describe(moved)["signal"].attrs["units"] == "1"
    assert SPEC.describe(moved)["signal"].attrs["flag"] == 1


def test_an_empty_dataset_is_as_specified_and_holds_no_value():
    empty = SPEC.empty({"energy": [527.0, 528.0]}, ["n"])
    SPEC.check(empty)
    assert set(empty.variables) == {"energy", "signal", "signal_stderr", "n"}
    assert np.isnan(empty["signal"]).all()
    assert int(empty["n"]) == -1


def test_a_sound_dataset_is_described_by_the_check():
    checked = SPEC.check(toy(stage=((), 120.0, {"units": "ps"}), n=3))
    assert SPEC.faults(checked) == []
    assert checked["stage"].attrs["units"] == "ps"
    assert checked["n"].attrs == {"units": "1", "long_name": "count"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (toy(signal=("energy", np.zeros(3), {"units": "mOD"})), "^toy/signal: units 'mOD' found, '1' expected$"),
        (toy(signal=("energy", np.zeros(3, int))), "^toy/signal: dtype int64 found, float expected$"),
        (toy().expand_dims("run"), r"^toy/signal: dims \(run, energy\) found, \(energy\) expected \(and 1 more\)$"),
        (toy().drop_vars("signal_stderr"), "^toy: variable signal_stderr is missing$"),
        (toy().drop_vars("energy"), "^toy: coordinate energy is missing$"),
        (toy(stage=120.0), "^toy/stage: units None found, 'mm' or 'ps' expected$"),
        (toy(stage=((), 120.0, {"units": "um"})), "^toy/stage: units 'um' found, 'mm' or 'ps' expected$"),
        (toy(extra=1.0), "^toy/extra: not in the specification$"),
    ],
)
def test_a_dataset_that_is_not_as_specified_is_refused_in_one_line(wrong, message):
    with pytest.raises(SpecError, match=message):
        SPEC.check(wrong)


def _modules() -> list[Path]:
    found = [p for p in ROOT.rglob("*.py") if not p.relative_to(ROOT).as_posix().startswith(FOREIGN)]
    assert len(found) > 60
    return found


@pytest.mark.parametrize("path", _modules(), ids=lambda p: p.relative_to(ROOT).as_posix())
def test_no_module_describes_a_variable_itself(path):
    assert descriptions(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('x = {"units": "ps"}', [1]),
        ('x = {"long_name": f"error of {n}"}', [1]),
        ('a.attrs["units"] = "ps"', [1]),
        ('a = a.assign_attrs(long_name="delay")', [1]),
        ('a.attrs.setdefault("units", "ps")', [1]),
        ('x = {"units": unit}', []),
        ('u = a.attrs.get("units", "1")', []),
        ("a.attrs = SPEC['delay'].attrs", []),
    ],
)
def test_a_description_is_found(source, expected):
    assert descriptions(source) == expected


def descriptions(source: str) -> list[int]:
    """Return the lines in which `units` or `long_name` are set to a text."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        pairs: list[tuple[object, ast.AST]] = []
        if isinstance(node, ast.Dict):
            pairs = [(key.value, value) for key, value in zip(node.keys, node.values) if isinstance(key, ast.Constant)]
        elif isinstance(node, ast.Call):
            pairs = [(keyword.arg, keyword.value) for keyword in node.keywords]
            if getattr(node.func, "attr", "") == "setdefault" and len(node.args) == 2:
                pairs.append((getattr(node.args[0], "value", None), node.args[1]))
        elif isinstance(node, ast.Assign):
            slices = [t.slice for t in node.targets if isinstance(t, ast.Subscript)]
            pairs = [(s.value, node.value) for s in slices if isinstance(s, ast.Constant)]
        texts = [v for name, v in pairs if name in ("units", "long_name") and _is_text(v)]
        lines += [text.lineno for text in texts]
    return lines


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
