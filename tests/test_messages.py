"""Every text of an error is provoked by a test, or stands here with the reason why none does.

What counts is a string in a test (`match=`, `in`, a parameter) that fits one text better than all others.
"""

import ast
import itertools
import re
from collections import defaultdict
from pathlib import Path

from pipeline import errors
from schemas.datasets.spec import SpecError

ROOT = Path(__file__).parents[1]
FAMILY = {name for name, found in vars(errors).items() if isinstance(found, type) and issubclass(found, Exception)}
FAMILY |= {SpecError.__name__, "ValueError", "KeyError", "ImportError", "FileNotFoundError"}

UNPROVOKED = {
    "pipeline.compute.workers: the jobs ended before they worked": "needs SLURM: tests/slurm/try_slurm.sh has it",
}
"""`module: text` of errors that no test provokes, each with its reason."""

GAP = "…"
"""Stands for every value in a text."""
EDGE = " :;,.'()"
"""What does not count at the ends of a part."""
WORD = re.compile(r"\w{3,}")
ENOUGH, EXPECTED = 12, 9
"""Letters that a string must share with a text: any string of a test, and one that is matched, looked for or a parameter."""


class Module:
    """The texts of the errors that one module makes."""

    def __init__(self, path: Path):
        self.tree = ast.parse(path.read_text(encoding="utf-8"))
        self.functions = {n.name: n for n in ast.walk(self.tree) if isinstance(n, ast.FunctionDef)}
        self.constants = {
            n.targets[0].id: n.value
            for n in self.tree.body
            if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Name)
        }

    def texts(self) -> set[str]:
        """Return the texts of every call of a class of the family, also where another function raises it."""
        found = set()
        for function in self.functions.values():
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FAMILY:
                    found |= {text for argument in node.args[:1] for text in self._texts(argument, function)}
        # a single word before the text of another error is a place, not a text
        return {text for text in found if " " in longest(text)}

    def _texts(self, node: ast.AST, function: ast.AST, seen: frozenset = frozenset()) -> set[str]:
        """Return what an expression may say: every branch, every value that a name is given in the function."""
        match node:
            case ast.Constant(value=str() as text):
                return {text}
            case ast.FormattedValue(value=value, conversion=-1):
                said = self._texts(value, function, seen)
                # a hint that may be left out
                return {GAP} if "" in said else said
            case ast.JoinedStr(values=values):
                return {
                    "".join(parts) for parts in itertools.product(*(self._texts(v, function, seen) for v in values))
                }
            case ast.BinOp(left=left, op=ast.Add(), right=right):
                return {a + b for a in self._texts(left, function, seen) for b in self._texts(right, function, seen)}
            case ast.IfExp(body=left, orelse=right):
                return self._texts(left, function, seen) | self._texts(right, function, seen)
            case ast.BoolOp(values=values):
                return {text for value in values for text in self._texts(value, function, seen)}
            case ast.Name(id=name) if name not in seen:
                assigned = [n for n in ast.walk(function) if isinstance(n, ast.Assign)]
                values = [n.value for n in assigned if any(getattr(t, "id", None) == name for t in n.targets)]
                if not values and name in self.constants:
                    values = [self.constants[name]]
                return {text for value in values for text in self._texts(value, function, seen | {name})} or {GAP}
            case ast.Call(func=ast.Name(id=name)) if name in self.functions and name not in seen:
                body = self.functions[name]
                values = [n.value for n in ast.walk(body) if isinstance(n, ast.Return) and n.value is not None]
                return {text for value in values for text in self._texts(value, body, seen | {name})} or {GAP}
        return {GAP}


def pieces(text: str) -> list[str]:
    """Return the parts of a text that are the same whatever the values are."""
    return [piece for piece in (piece.strip(EDGE) for piece in text.split(GAP)) if len(piece) > 2]


def longest(text: str) -> str:
    """Return the part with most words."""
    return max(pieces(text) or [""], key=lambda piece: (piece.count(" "), len(piece)))


def texts_of_errors() -> dict[str, set[str]]:
    """Return the texts by name: module and longest part."""
    found = defaultdict(set)
    folders = [path for top in ("pipeline", "flows", "schemas") for path in sorted((ROOT / top).rglob("*.py"))]
    for path in [*folders, ROOT / "trxas.py"]:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for text in Module(path).texts():
            found[f"{module}: {longest(text)}"].add(text)
    return dict(found)


def strings_of_tests() -> set[tuple[str, int]]:
    """Return the strings of all other tests, and how much each has to share with a text."""
    found = set()
    for path in sorted((ROOT / "tests").rglob("*.py")):
        if path == Path(__file__):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        prose = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}
        expected = {id(string) for node in ast.walk(tree) for string in _expected(node)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
                known = id(node) in expected
                if "\n" not in node.value.strip() and (known or " " in node.value):
                    found |= {(part, EXPECTED if known else ENOUGH) for part in node.value.split("|")}
    return found


def _expected(node: ast.AST) -> list[ast.AST]:
    """Return the strings of `match=` and of parameters, and what stands before `in`."""
    match node:
        case ast.keyword(arg="match", value=value):
            return list(ast.walk(value))
        case ast.Call(func=ast.Attribute(attr="parametrize")):
            return [one for one in ast.walk(node) if " " in str(getattr(one, "value", ""))]
        case ast.Compare(left=left, ops=[ast.In()]):
            return list(ast.walk(left))
    return []


def literal_parts(pattern: str) -> list[str]:
    """Return what must be there for a regular expression to match; a plain text is one part."""
    parts = re.split(r"\.[*+]\??|(?<!\\)\[[^\]]*\][*+?]?|\\[dwsDWSbB][*+?]?|(?<!\\)[()^$]", pattern)
    return [re.sub(r"\\(\W)", r"\1", part) for part in parts]


def shared(parts: list[str], text: str) -> int:
    """Return how many letters the parts of a test's string have in common with a text, word by word from an end."""
    same = pieces(text)
    return sum(len(part) if any(part in piece for piece in same) else _overlap(part, same) for part in parts)


def _overlap(part: str, same: list[str]) -> int:
    """Return the length of the pieces in a part, and of the words with which it leaves one or enters one."""
    starts = [m.start() for m in re.finditer(r"\b\w", part)]
    others = [piece for piece in same if piece not in part]
    heads = [head for head in (part[:k].strip(EDGE) for k in starts) if head]
    leaves = [len(head) for head in heads if any(piece.endswith(head) for piece in others)]
    enters = [len(part) - k for k in starts if any(piece.startswith(part[k:]) for piece in others)]
    return max(leaves, default=0) + max(enters, default=0) + sum(len(piece) for piece in set(same) - set(others))


def provoked(texts: dict[str, set[str]]) -> set[str]:
    """Return the names of the texts that some test's string fits, and fits best."""
    found = set()
    words = {name: {w for text in all_of for w in WORD.findall(text)} for name, all_of in texts.items()}
    for string, enough in strings_of_tests():
        parts = [part.strip(EDGE) for part in literal_parts(string)]
        parts = [part for part in parts if len(part) > 2]
        same = {name for name in texts if not words[name].isdisjoint(WORD.findall(string))}
        # of texts that share as much, the shortest is meant
        score = {
            name: max((shared(parts, text), -sum(map(len, pieces(text)))) for text in texts[name]) for name in same
        }
        best = max(score.values(), default=(0, 0))
        if best[0] >= enough:
            fits = {name for name in score if score[name] == best}
            # two modules may say the same; what fits several texts tells nothing
            if len({name.partition(": ")[2] for name in fits}) == 1:
                found |= fits
    return found


def test_every_text_of_an_error_is_provoked_by_a_test():
    texts = texts_of_errors()
    assert len(texts) > 200
    assert set(texts) - provoked(texts) == set(UNPROVOKED)


def test_texts_and_strings_of_tests_are_taken_apart():
    assert pieces("run …: module … is not in the run") == ["run", "module", "is not in the run"]
    assert literal_parts(r"kinetics\.t_d: .*number \(in\) ps$") == ["kinetics.t_d: ", "number (in) ps", ""]
    assert shared(["overlap; draw"], "regions … overlap; draw them apart") == len("overlap; draw")
    assert shared(["run 3 is listed twice"], "run … is listed twice") == len("runis listed twice")
    assert shared(["'moon' is not threads"], "… is not threads, or slurm") == len("is not threads")
    assert shared(["order"], "regions … overlap; draw them apart") == 0
