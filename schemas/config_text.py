"""A value changed in the text of a config, which keeps its comments and its order."""

from __future__ import annotations

import yaml

__all__ = ["with_value"]


def with_value(text: str, section: str, key: str, value: str) -> str:
    """Return YAML text in which `section.key` is `value`, replaced where it is and added where it is not.

    Examples
    --------
    >>> with_value("delay: {t0: fit}  # by hand", "delay", "t0", "87.3")
    'delay: {t0: 87.3}  # by hand'
    """
    node = _entry(yaml.compose(text), section)
    if node is None or not isinstance(node, yaml.MappingNode):
        if node is not None:
            # `delay:` with nothing behind it
            end = node.end_mark.index
            return f"{text[:end]} {{{key}: {value}}}{text[end:]}"
        ending = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{ending}{section}: {{{key}: {value}}}\n"
    old = _entry(node, key)
    if old is not None:
        return text[: old.start_mark.index] + value + text[old.end_mark.index :]
    if node.flow_style:
        at = node.start_mark.index + 1
        return f"{text[:at]}{key}: {value}{', ' if node.value else ''}{text[at:]}"
    at, indent = node.start_mark.index, " " * node.start_mark.column
    return f"{text[:at]}{key}: {value}\n{indent}{text[at:]}"


def _entry(mapping: yaml.Node | None, name: str) -> yaml.Node | None:
    pairs = mapping.value if isinstance(mapping, yaml.MappingNode) else []
    return next((value for key, value in pairs if key.value == name), None)
