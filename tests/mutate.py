"""Do the tests notice wrong science? Change one thing in one place, run the tests that matter, see whether one fails.

    python -m tests.mutate --since main                       the modules that changed since a revision
    python -m tests.mutate pipeline/science -n 60 --seed 3    60 mutations drawn from a folder or from modules
    python -m tests.mutate pipeline/science/labels/timing.py:80 -n 0    all mutations of a line

A mutation is killed if a test fails or hangs on it. First those tests run that import the module most directly, then, if
it survived these, those one import further away. Everything happens in a copy of the tree in a temporary folder. A
survivor is a test to be written, or a change that makes no difference: only a reader can tell.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import functools
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SLOW = {"end_to_end", "flows", "faults", "dashboard", "plots", "benchmarks"}
"""Folders of tests that run the whole pipeline: too slow to be run for every mutation."""
SWAPPED = {
    ast.Lt: ast.GtE, ast.GtE: ast.Gt, ast.Gt: ast.LtE, ast.LtE: ast.Lt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult, ast.Mod: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
PAIRS = (
    "min max", "minimum maximum", "argmin argmax", "nanmin nanmax", "any all", "sum mean", "floor ceil", "mean median",
    "nanmean nanmedian", "ones_like zeros_like", "ones zeros", "pumped unpumped", "energy delay", "ground excited",
)  # fmt: skip
OTHER = dict(map(str.split, reversed(PAIRS))) | {b: a for a, b in map(str.split, PAIRS)}
"""Names that stand for their opposite."""
NO_MATTER = {
    "strict", "copy", "kind", "optimize", "dtype", "cache", "vectorize", "output_dtypes", "ftol", "xtol", "gtol", "xatol",
    "x_scale", "method", "options", "attrs", "units", "long_name", "errors", "full_matrices", "invalid", "divide",
    "combine_attrs", "error_model", "nogil", "fastmath",
}  # fmt: skip
"""Keywords whose change nearly always leaves the result as it is."""


class Mutation(NamedTuple):
    """New text for a stretch of a file, in bytes."""

    path: str
    line: int
    start: int
    stop: int
    text: str
    kind: str


def mutations(path: str, source: str) -> list[Mutation]:
    """Return every mutation of a module that we know how to make."""
    starts = [0]
    for row in source.encode().splitlines(keepends=True):
        starts.append(starts[-1] + len(row))
    found = []
    for node in _code(ast.parse(source)):
        for old, new, kind in _changes(node):
            text = new if isinstance(new, str) else f"({ast.unparse(ast.fix_missing_locations(new))})"
            begin, end = (
                starts[line - 1] + column
                for line, column in ((old.lineno, old.col_offset), (old.end_lineno, old.end_col_offset))
            )
            found.append(Mutation(path, old.lineno, begin, end, text, kind))
    return found


def _code(node: ast.AST) -> Iterator[ast.AST]:
    """Walk what runs: neither docstrings, annotations and decorators nor the texts of errors."""
    match node:
        case ast.JoinedStr() | ast.Import() | ast.ImportFrom() | ast.Assert() | ast.Expr(ast.Constant()):
            return
        case ast.Assign([ast.Name("__all__")]):
            return
        case ast.keyword(name) if name in NO_MATTER:
            return
    yield node
    for name, value in ast.iter_fields(node):
        if name not in {"annotation", "returns", "decorator_list", "exc"}:
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _code(child)


def _changes(node: ast.AST) -> Iterator[tuple[ast.AST, ast.AST | str, str]]:
    """Yield what is replaced, by what, and what that is called."""
    match node:
        case ast.Compare(left, [op], [right]):
            yield node, ast.Compare(left, [SWAPPED[type(op)]()], [right]), "comparison"
        case ast.BinOp(left, op, right) if type(op) in SWAPPED and not _is_text(left) and not _is_text(right):
            yield node, ast.BinOp(left, SWAPPED[type(op)](), right), "operator"
        case ast.AugAssign(target, op, value) if type(op) in SWAPPED:
            yield node, f"{ast.unparse(ast.AugAssign(target, SWAPPED[type(op)](), value))}", "operator"
            yield node, "pass", "statement dropped"
        case ast.BoolOp(op, values):
            yield node, ast.BoolOp(SWAPPED[type(op)](), values), "and or"
        case ast.UnaryOp(_, operand):
            yield node, operand, "not or minus removed"
        case ast.Call(ast.Attribute(_, "sqrt" | "abs"), [argument]):
            yield node, argument, "root or modulus dropped"
        case ast.Attribute(value, name) if name in OTHER:
            yield node, ast.Attribute(value, OTHER[name]), "opposite"
        case ast.Name("min" | "max" | "any" | "all" as name):
            yield node, ast.Name(OTHER[name]), "opposite"
        case ast.Constant(bool(value)):
            yield node, ast.Constant(not value), "constant"
        case ast.Constant(int(value)):
            yield from ((node, ast.Constant(value + step), "constant") for step in (1, -1))
        case ast.Constant(float(value)):
            yield node, ast.Constant(1.5 * value or 1.0), "constant"
        case ast.Constant(str(value)) if value in OTHER:
            yield node, ast.Constant(OTHER[value]), "opposite"
        case ast.If(test) | ast.While(test) | ast.IfExp(test):
            yield test, ast.UnaryOp(ast.Not(), test), "condition negated"
        case ast.Expr(ast.Call()) | ast.Raise() | ast.Continue() | ast.Break():
            yield node, "pass", "statement dropped"
        case ast.Assign([ast.Subscript() | ast.Attribute()]):
            yield node, "pass", "statement dropped"
        case ast.keyword("axis", ast.Constant(int(axis))):
            yield node, f"axis={0 if axis else 1}", "axis"
    match node:
        case ast.Call(function, arguments, keywords) if len(arguments) + len(keywords) > 1:
            for k, one in enumerate(keywords):
                if one.arg and one.arg not in NO_MATTER:
                    rest = [*keywords[:k], *keywords[k + 1 :]]
                    yield node, ast.Call(function, arguments, rest), f"keyword {one.arg} dropped"
        case ast.Call(ast.Attribute(_, "transpose" | "moveaxis") as function, [first, second, *rest]):
            yield node, ast.Call(function, [second, first, *rest], []), "axes swapped"


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


# --- which tests matter ---------------------------------------------------------------------------------------------


@functools.cache
def imports(path: Path) -> frozenset[Path]:
    """Return the files of ours that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    found = {ROOT / (name.replace(".", "/") + end) for name in names for end in (".py", "/__init__.py")}
    return frozenset(p for p in found if p.is_file() and p != path)


def tests_of(module: Path) -> list[list[str]]:
    """Return the files of tests that reach a module, by the number of imports between."""
    ours = [p for folder in ("pipeline", "schemas", "flows", "tests") for p in (ROOT / folder).rglob("*.py")]
    near, seen, steps = {module}, {module}, []
    while near and len(steps) < 3:
        near = {p for p in ours if p not in seen and imports(p) & near}
        seen |= near
        names = (p.relative_to(ROOT) for p in near if p.name.startswith("test_"))
        if found := [str(p) for p in names if not SLOW & set(p.parts)]:
            steps.append(found)
    return steps


def compiled_with(module: Path) -> set[str]:
    """Return the modules whose compiled kernels contain code of this one: numba notices changes of a file, not of these."""
    kernels = [p for p in (ROOT / "pipeline").rglob("*.py") if "njit" in p.read_text(encoding="utf-8")]
    found, grown = set(), {module} if module in kernels else set()
    while grown:
        found |= grown
        grown = {p for p in kernels if p not in found and imports(p) & found}
    return {p.stem for p in found}


# --- running --------------------------------------------------------------------------------------------------------


class Workshop:
    """A copy of the tree in which modules are spoilt and mended, and the kernels that were compiled for it."""

    def __init__(self, folder: Path) -> None:
        self.tree, self.kernels, self.spoilt = folder / "tree", folder / "kernels", folder / "spoilt"
        skipped = shutil.ignore_patterns(".git", ".venv", "__pycache__", "*.egg-info", ".*_cache", "docs")
        shutil.copytree(ROOT, self.tree, ignore=skipped)
        self.took: dict[str, float] = {}

    def passes(self, tests: list[str], timeout: float, kernels: Path) -> bool:
        """Run tests until the first that fails; one that hangs is ended with all that it started."""
        environment = os.environ | {"PYTHONPATH": str(self.tree), "NUMBA_CACHE_DIR": str(kernels)}
        environment |= {"PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", *tests]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with subprocess.Popen(command, cwd=self.tree, env=environment, start_new_session=True, **quiet) as run:
            try:
                return run.wait(timeout) == 0
            except subprocess.TimeoutExpired:
                os.killpg(run.pid, signal.SIGKILL)
                return False

    def seconds(self, test: str) -> float:
        """Return what a file of tests takes without any mutation, which it must pass."""
        if test not in self.took:
            begun = time.monotonic()
            if not self.passes([test], 1800, self.kernels):
                raise SystemExit(f"{test} fails without any mutation")
            self.took[test] = time.monotonic() - begun
        return self.took[test]

    def survives(self, mutation: Mutation) -> bool:
        """Return whether all tests pass with a mutation; the quick ones are run first."""
        module, original = self.tree / mutation.path, ROOT / mutation.path
        stale, kernels = compiled_with(original), self.kernels
        for step in tests_of(original):
            tests = sorted(step, key=self.seconds)
            patience = 30 + 3 * sum(map(self.seconds, tests)) + (300 if stale else 0)
            if stale:
                kernels = self.spoilt
                shutil.rmtree(kernels, ignore_errors=True)
                shutil.copytree(self.kernels, kernels, ignore=shutil.ignore_patterns(*(f"{s}.*" for s in stale)))
            module.write_bytes(spoilt(mutation))
            passed = self.passes(tests, patience, kernels)
            shutil.copy2(original, module)
            if not passed:
                return False
        return True


def spoilt(mutation: Mutation) -> bytes:
    """Return the text of the module with the mutation."""
    data = (ROOT / mutation.path).read_bytes()
    return data[: mutation.start] + mutation.text.encode() + data[mutation.stop :]


def shown(mutation: Mutation) -> str:
    """Return the lines that change, old and new."""
    old, new = (ROOT / mutation.path).read_text(encoding="utf-8"), spoilt(mutation).decode()
    rows = difflib.unified_diff(old.splitlines(), new.splitlines(), n=0, lineterm="")
    return "\n".join(f"    {row}" for row in list(rows)[3:])


def chosen_files(arguments: argparse.Namespace) -> list[tuple[str, int | None]]:
    """Return the modules to mutate, with a line where one was given."""
    if not arguments.modules:
        command = ["git", "diff", "--name-only", "--diff-filter=d", arguments.since, "--", "pipeline", "schemas"]
        names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
        return [(name, None) for name in names if name.endswith(".py")]
    found = []
    for given in arguments.modules:
        name, _, line = given.partition(":")
        paths = sorted((ROOT / name).rglob("*.py")) if (ROOT / name).is_dir() else [ROOT / name]
        found += [(str(p.resolve().relative_to(ROOT)), int(line) if line else None) for p in paths]
    return found


def draw(everything: list[Mutation], n: int, rng: random.Random) -> list[Mutation]:
    """Return so many mutations, 0: all. What there is much of (constants) weighs less, or one would see little else."""
    counts = Counter(m.kind.split()[0] for m in everything)
    # without replacement: the largest of u^(1/weight), P. Efraimidis, P. Spirakis, Inf. Process. Lett. 97, 181 (2006)
    key = {m: rng.random() ** math.sqrt(counts[m.kind.split()[0]]) for m in everything}
    return sorted(everything, key=lambda m: -key[m])[: n or len(everything)]


def main() -> None:
    """Draw mutations, try each, say which survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="files, folders or file:line")
    parser.add_argument("--since", default="HEAD", help="without modules: those that differ from this git revision")
    parser.add_argument("-n", type=int, default=40, help="mutations, 0: all")
    parser.add_argument("--seed", type=int, default=13)
    arguments = parser.parse_args()
    everything = []
    for path, line in chosen_files(arguments):
        own = mutations(path, (ROOT / path).read_text(encoding="utf-8"))
        everything += [m for m in own if line in (None, m.line)]
    drawn = draw(everything, arguments.n, random.Random(arguments.seed))
    killed = 0
    with tempfile.TemporaryDirectory(prefix="mutate-") as folder:
        workshop = Workshop(Path(folder))
        for k, mutation in enumerate(drawn, 1):
            survived = workshop.survives(mutation)
            killed += not survived
            verdict = "SURVIVED" if survived else "killed"
            print(f"{verdict:8s} {mutation.path}:{mutation.line} ({mutation.kind})\n{shown(mutation)}", flush=True)
            print(f"  {killed} of {k} killed, {len(drawn) - k} to go", file=sys.stderr, flush=True)
    print(
        f"{killed} of {len(drawn)} killed ({100 * killed / max(len(drawn), 1):.0f} %), of {len(everything)} there are"
    )


if __name__ == "__main__":
    main()
