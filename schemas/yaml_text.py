"""YAML as people write it: a key that is there twice is a mistake, of which YAML tells nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

__all__ = ["parse_yaml"]


def parse_yaml(text: str) -> Any:
    """Return what a YAML text holds.

    Raises
    ------
    yaml.YAMLError
        If it is none.
    ValueError
        If a key is there twice, naming it and both lines.

    Examples
    --------
    >>> parse_yaml("delay: {t0: 1, sign: 1}")
    {'delay': {'t0': 1, 'sign': 1}}
    """
    for key, first, second in _twice(yaml.compose(text, Loader=yaml.SafeLoader), "", set()):
        where = f"in line {first}" if first == second else f"in lines {first} and {second}"
        raise ValueError(f"{key}: given twice, {where}; keep one of them")
    return yaml.safe_load(text)


def _twice(node: yaml.Node | None, above: str, seen: set[int]) -> Iterator[tuple[str, int, int]]:
    """Yield keys that are repeated in one mapping, and the lines of both."""
    if node is None or id(node) in seen:
        return
    # anchors may lead back to where they stand
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for i, one in enumerate(node.value):
            yield from _twice(one, f"{above}[{i}]", seen)
    elif isinstance(node, yaml.MappingNode):
        lines: dict[tuple[str, str], int] = {}
        for key, value in node.value:
            name = f"{above}.{key.value}".removeprefix(".")
            line = key.start_mark.line + 1
            if isinstance(key, yaml.ScalarNode) and (same := (key.tag, key.value)) in lines:
                yield name, lines[same], line
            elif isinstance(key, yaml.ScalarNode):
                lines[same] = line
            yield from _twice(value, name, seen)
