"""What a published product is: its groups, `summary.json` and the pointer to the latest version."""

from __future__ import annotations

from typing import Annotated, Any

import xarray as xr
from pydantic import BaseModel, ConfigDict, Field

from schemas import datasets

__all__ = [
    "GROUPS",
    "OPTIONAL_GROUPS",
    "ROOT_ATTRIBUTES",
    "SCHEMA_VERSION",
    "Pointer",
    "Summary",
    "product_faults",
    "to_json_schema",
]

SCHEMA_VERSION = 1

GROUPS = {
    spec.name: spec
    for spec in (
        datasets.SPECTRA,
        datasets.DELAY_SCAN,
        datasets.PEAKS,
        datasets.KINETICS,
        datasets.COMPONENTS,
        datasets.MIXTURE,
        datasets.QUALITY,
        datasets.BURST_SPECTRA,
        datasets.BURST_DELAY_SCAN,
    )
}

OPTIONAL_GROUPS = ("components", datasets.BURST_SPECTRA.name, datasets.BURST_DELAY_SCAN.name)
"""Groups that a product of an earlier version lacks, or that are made on request only."""

ROOT_ATTRIBUTES = ("schema_version", "dataset", "created", "code_version", "config", "inputs", "product_hash")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Estimate(_Strict):
    """A number with its standard error; null where the data give none."""

    value: float | None
    stderr: float | None
    unit: str


class Tau(_Strict):
    """One time of the kinetic fit."""

    value: float | None
    stderr: float | None
    unit: str = "ps"
    ci68: tuple[float | None, float | None]
    """Null: open."""
    ci95: tuple[float | None, float | None]
    """Null: open."""
    identifiable: bool
    """Whether the data determine this time."""
    verdict: str
    """What the data say about it, in words."""
    value_without_prior: float | None = None
    """Value without the amplitude prior; null where there is none."""
    bootstrap_stderr: float | None = None
    """Standard error from the bootstrap, where it was asked for."""


class KineticsSummary(_Strict):
    """The kinetic fit at one fluence."""

    fluence: float
    parameters: dict[str, Tau]
    redchi: float | None


class AlphaSummary(_Strict):
    """The mixture at one fluence."""

    fluence: float
    alpha: Estimate
    model_stderr: float | None = None
    """Model error: distance of the values that other DOS give; null where there is one model."""


class PeakSummary(_Strict):
    """One peak at one fluence and delay."""

    peak: str
    fluence: float
    delay: float
    position: Estimate
    amplitude: Estimate


class RunSummary(_Strict):
    """One run's bookkeeping."""

    run: int
    kind: str
    frames_expected: int
    frames_read: int
    pulses_used: int
    noise_ratio: float | None
    null_chi2: float | None
    audit: list[str]
    """What the audit found, one line each."""


class Summary(_Strict):
    """summary.json: the numbers a person wants first."""

    schema_version: int
    dataset: str
    version: str
    created: str
    product_hash: str
    kinetics: list[KineticsSummary]
    alpha: list[AlphaSummary]
    slope: Estimate
    slope_model_stderr: float | None = None
    """Model error of the slope."""
    intercept: Estimate
    peaks: list[PeakSummary]
    runs: list[RunSummary]
    warnings: list[str]
    """What a person must know before using the numbers."""


class Pointer(_Strict):
    """latest.json: resolved once by a reader, replaced atomically by a publisher."""

    version: Annotated[str, Field(pattern=r"^v\d{4,}$")]
    path: str
    """Folder of the version, relative to this file."""
    product_hash: str
    created: str
    schema_version: int = SCHEMA_VERSION


def product_faults(tree: xr.DataTree) -> list[str]:
    """Return one line per fault of a product: missing groups, attributes, variables; wrong dims, dtypes, units."""
    found = [f"/: attribute {name} is missing" for name in ROOT_ATTRIBUTES if name not in tree.attrs]
    version = tree.attrs.get("schema_version")
    if version is not None and version != SCHEMA_VERSION:
        found.append(f"/: schema_version {version} found, this program knows {SCHEMA_VERSION}")
    for name, spec in GROUPS.items():
        if name not in tree.children and name in OPTIONAL_GROUPS:
            continue
        if name not in tree.children:
            found.append(f"/{name}: group is missing")
        else:
            found += [f"/{line}" for line in spec.faults(tree[name].to_dataset())]
    return found


def to_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of summary.json."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Summary.model_json_schema()
