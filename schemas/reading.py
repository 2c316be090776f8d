"""Reading a config: from YAML, with changes of the command line, and errors in one line that names the key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from schemas.config import Config, Sources
from schemas.keys import meant
from schemas.yaml_text import parse_yaml

__all__ = ["assigned", "describe_error", "load_config", "override", "parse_config", "parse_sources"]


def describe_error(error: ValidationError, model: type[BaseModel], *above: str) -> str:
    """Return one line that names the key of the model at fault, the value and what was expected.

    `above` are the keys above what was validated.
    """
    first = min(error.errors(), key=_relevance)
    *between, last = first["loc"] or ("",)
    parts = [*above, *(p for p in between if not _is_branch(str(p)))]
    if first["type"] == "extra_forbidden" or not _is_branch(str(last)):
        parts.append(last)
    key = ".".join(map(str, parts))
    if first["type"] == "extra_forbidden":
        parents = "".join("[]" if isinstance(p, int) else f".{p}" for p in parts[:-1]).removeprefix(".")
        return f"{key}: unknown key{meant(model, f'{parents}.' if parents else '', str(parts[-1]))}"
    if first["type"] == "missing":
        return f"{key}: missing"
    text = first["msg"].removeprefix("Value error, ")
    shown = repr(first["input"])
    return f"{key or 'config'}: {text}" + (f" (got {shown})" if len(shown) < 80 and key else "")


def _is_branch(part: str) -> bool:
    # names of union branches, which pydantic puts into locations
    words = ("regions", "search", "word", "auto", "[key]", "str", "float", "int", "bool", "")
    return (
        part in words
        or part[:1].isupper()
        or part.startswith(("list[", "tuple[", "literal[", "function-", "constrained"))
    )


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
        raise ValueError(describe_error(error, Config)) from None


def parse_sources(data: Any) -> Sources:
    """Validate overrides of a profile's sources; raises ValueError with one line that names the key."""
    try:
        return TypeAdapter(Sources).validate_python(data)
    except ValidationError as error:
        raise ValueError(describe_error(error, Config, "sources")) from None


def load_config(path: str | Path) -> Config:
    """Read and validate a YAML config; raises ValueError naming the file and the key, OSError if unreadable."""
    try:
        data = parse_yaml(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        where = getattr(error, "problem_mark", None)
        line = f" in line {where.line + 1}" if where is not None else ""
        raise ValueError(f"{path}: not valid YAML{line}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    try:
        return parse_config(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def override(config: Config, assignments: Iterable[str]) -> Config:
    """Return the config with `key=value` changes; keys are dotted, values are YAML.

    Raises ValueError naming the key for an unknown key or a value that does not fit.
    """
    return parse_config(assigned(config.model_dump(mode="json", by_alias=True), assignments))


def assigned(data: dict[str, Any], assignments: Iterable[str]) -> dict[str, Any]:
    """Return nested mappings with `key=value` changes made in them; raises ValueError for what is no such change."""
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
            node[last] = parse_yaml(text)
        except yaml.YAMLError:
            raise ValueError(f"--set {item}: {text!r} is not a YAML value") from None
        except ValueError as error:
            raise ValueError(f"--set {item}: {error}") from None
    return data
