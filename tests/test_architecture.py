"""What the import contracts cannot say: private modules stay at home, and no two modules have the same name."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(p for package in ("pipeline", "flows", "schemas") for p in (ROOT / package).rglob("*.py"))
LONGEST = 420
"""Lines of a module; what is longer holds a second idea."""


def imports_of(path):
    """Yield the modules and names that a module imports, dotted."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_private_modules_are_imported_by_their_own_package_only(path):
    package = ".".join(path.relative_to(ROOT).parent.parts)
    for name in imports_of(path):
        parts = name.split(".")
        private = [i for i, part in enumerate(parts) if part.startswith("_") and part.strip("_") and part[:2] != "__"]
        if parts[0] in ("pipeline", "flows", "schemas") and private:
            assert ".".join(parts[: private[0]]) == package, f"{name} is private"


def test_no_two_modules_have_the_same_name():
    # two of them hold private parts of other packages, as pipeline may not import Prefect
    names = Counter(p.stem for p in SOURCES if not p.stem.startswith("__") and p.stem != "compat")
    assert [name for name, count in names.items() if count > 1] == []


def test_modules_are_short():
    lines = {p.relative_to(ROOT).as_posix(): len(p.read_text(encoding="utf-8").splitlines()) for p in SOURCES}
    assert {name: n for name, n in lines.items() if n > LONGEST} == {}
