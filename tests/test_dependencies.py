"""What the code imports is what pyproject.toml asks for."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("schemas", "pipeline", "flows")
ONLY_FOR_TYPES = {"_typeshed"}
ONLY_LIMITED = {"fastapi", "sqlalchemy"}
"""Prefect brings them; pyproject.toml says which of their versions do not work with it."""


def normalised(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def imported():
    """Return the distributions that any module of ours imports, at any depth."""
    modules = set()
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                modules |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules.add(node.module.partition(".")[0])
    known = packages_distributions()
    foreign = modules - set(sys.stdlib_module_names) - set(PACKAGES) - ONLY_FOR_TYPES
    return {normalised(known[module][0]) for module in foreign}


def declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {normalised(re.match(r"[\w.-]+", one).group()) for one in project["dependencies"]}


def test_every_import_is_declared_and_everything_declared_is_imported():
    assert imported() == declared() - ONLY_LIMITED
