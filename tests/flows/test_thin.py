"""Flow files orchestrate: no arithmetic, short flows, and nothing heavy crosses the border of a task."""

import ast
import inspect
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from prefect.flows import Flow
from prefect.tasks import Task
from rich.text import Text

from flows import process, tasks, watch
from pipeline import workflow

FILES = [Path(module.__file__) for module in (process, tasks, watch)]
ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult)
LONGEST = 15
"""Statements of a flow body; what is longer belongs into pipeline."""
ALL_TASKS = [*tasks.TASKS.values(), *(value for value in vars(tasks).values() if isinstance(value, Task))]
ALL_FLOWS = [value for module in (process, watch) for value in vars(module).values() if isinstance(value, Flow)]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_flow_files_do_not_compute(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ARITHMETIC)]
    assert [f"line {node.lineno}: {ast.unparse(node)}" for node in found] == []
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [a.name for a in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not imported & {"numpy", "xarray", "scipy", "dask", "zarr", "h5py"}


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_flow_bodies_are_short(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)):
        statements = [n for n in ast.walk(function) if isinstance(n, ast.stmt)][1:]
        assert len(statements) <= LONGEST, f"{path.name}: {function.name} has {len(statements)} statements"


@pytest.mark.parametrize("one", ALL_TASKS, ids=lambda t: t.name)
def test_tasks_take_and_return_places_numbers_and_words(one):
    """No array, no dataset: Prefect would hash and look through it."""
    light = {
        "Job",
        "Look",
        "Path",
        "Remote",
        "Context",
        "str",
        "int",
        "float",
        "bool",
        "NoneType",
        "Callable",
    }

    def names(hint):
        return (
            {n for a in get_args(hint) for n in names(a)} if get_args(hint) else {getattr(hint, "__name__", str(hint))}
        )

    for name, hint in get_type_hints(one.fn).items():
        assert names(hint) <= light, f"{one.name}: {name}: {hint}"


@pytest.mark.parametrize("one", ALL_TASKS, ids=lambda t: t.name)
def test_tasks_try_again_only_what_may_pass_and_cache_nothing(one):
    assert one.retries > 0
    assert one.retry_condition_fn is tasks._may_pass
    assert len(set(one.retry_delay_seconds)) == one.retries
    assert one.cache_policy is tasks.NO_CACHE
    assert not one.persist_result


def test_stages_of_the_parameter_are_those_of_the_pipeline():
    assert get_args(process.Restart) == tuple(workflow.RESTARTS)


@pytest.mark.parametrize("one", ALL_FLOWS, ids=lambda f: f.name)
def test_every_parameter_of_a_flow_is_described_and_typed_for_the_ui(one):
    properties = one.parameters.properties
    assert set(properties) == set(inspect.signature(one.fn).parameters)
    for name, schema in properties.items():
        assert schema["description"], name
        assert {"type", "anyOf", "enum", "allOf", "$ref"} & set(schema), name


def test_what_prefect_says_of_a_change_that_is_none_is_readable():
    """It prints the pattern as text with markup, which would swallow what stands in brackets."""
    pattern = process.process.parameters.properties["changes"]["items"]["pattern"]
    assert Text.from_markup(pattern).plain == pattern
    for good in ("kinetics.power=1", "delay.t0 = 120.02", "runs.energy_scans=[{run: 3, fluence: 8.0}]"):
        assert re.search(pattern, good)
    for wrong in ("kinetics power", "kinetics.power", "=1", ".power=1"):
        assert not re.search(pattern, wrong)
