"""The keys of a config or scenario: what a YAML file may hold, and which key a misspelt one may have meant."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas.near import did_you_mean, near

__all__ = ["fields", "meant"]


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Yield key and field of a model, those of nested models below their own: `delay.t0`, `runs.delay_scans[].run`."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        yield key, field
        for nested, suffix in _models(field.annotation, ""):
            yield from fields(nested, f"{key}{suffix}.")


def _models(annotation: Any, suffix: str) -> Iterator[tuple[type[BaseModel], str]]:
    """Yield the models that a type may hold, with what stands between its key and theirs."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation, suffix
        return
    origin = get_origin(annotation)
    for argument in get_args(annotation) if origin is not Literal else ():
        inner = suffix + ("[]" if origin is list else ".<name>" if origin is dict else "")
        yield from _models(argument, inner)


def meant(model: type[BaseModel], parents: str, name: str) -> str:
    """Return a remark on an unknown key: the one beside it that looks alike, or where the same one is at home."""
    known = [key for key, _ in fields(model)]
    above = parents.split(".")[:-1]
    siblings = [last for *parts, last in (k.split(".") for k in known) if _same(parts, above)]
    if near(name, siblings):
        return did_you_mean(name, siblings)
    elsewhere = sorted({k for k in known if k.rpartition(".")[2] == name})
    return f"; did you mean {' or '.join(elsewhere)}?" if 0 < len(elsewhere) <= 3 else ""


def _same(parts: list[str], above: list[str]) -> bool:
    return len(parts) == len(above) and all(p in (a, "<name>") for p, a in zip(parts, above, strict=True))
