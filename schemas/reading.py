"""Reading a config: from YAML, with changes of the command line, and errors in one line that names the key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from schemas.config import Config

__all__ = ["describe_error", "load_config", "override", "parse_config"]


def describe_error(error: ValidationError) -> str:
    """Return one line that names the key at fault, the value and what was expected."""
    first = min(error.errors(), key=_relevance)
    key = ".".join(str(p) for p in first["loc"] if not _is_branch(str(p)))
    if first["type"] == "extra_forbidden":
        return f"{key}: unknown key"
    if first["type"] == "missing":
        return f"{key}: missing"
    text = first["msg"].removeprefix("Value error, ")
    shown = repr(first["input"])
    return f"{key or 'config'}: {text}" + (f" (got {shown})" if len(shown) < 80 and key else "")


def _is_branch(part: str) -> bool:
    # names of union branches, which pydantic puts into locations
    return part in ("regions", "search", "word", "auto") or part.startswith(("list[", "function-", "constrained"))


def _relevance(item: Any) -> tuple[int, int]:
    # of a failed union pydantic lists every branch; the deepest location is what the person meant
    return (0 if item["type"] in ("extra_forbidden", "value_error") else 1, -len(item["loc"]))


def parse_config(data: Any) -> Config:
    """Validate a mapping; raises ValueError with one line that names the key."""
    if not isinstance(data, Mapping):
        raise ValueError("the file must hold a mapping of keys (dataset: …, runs: …)")
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ValueError(describe_error(error)) from None


def load_config(path: str | Path) -> Config:
    """Read and validate a YAML config; raises ValueError naming the file and the key, OSError if unreadable."""
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where is not None else ""
        raise ValueError(f"{path}: not valid YAML{line}") from None
    try:
        return parse_config(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def override(config: Config, assignments: Iterable[str]) -> Config:
    """Return the config with `key=value` changes; keys are dotted, values are YAML.

    Raises ValueError naming the key for an unknown key or a value that does not fit.
    """
    data = config.model_dump(mode="json", by_alias=True)
    for item in assignments:
        key, equals, text = item.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"--set {item}: expected key=value, e.g. kinetics.power=1")
        *parents, last = key.strip().split(".")
        node: dict[str, Any] = data
        for part in parents:
            # what cannot hold keys is replaced; whether the result makes sense, the schema says
            if not isinstance(node.get(part), dict):
                node[part] = {}
            node = node[part]
        try:
            node[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ValueError(f"--set {item}: {text!r} is not a YAML value") from None
    return parse_config(data)
