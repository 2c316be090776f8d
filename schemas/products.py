"""What a published product is: its groups, `summary.json` and the pointer to the latest version."""

from __future__ import annotations

import json
from typing import Annotated, Any

import xarray as xr
from pydantic import Field, ValidationError, field_validator

from schemas.datasets import fitted, measured
from schemas.datasets import kinetic_fits as kinetics
from schemas.datasets.budget import BUDGET
from schemas.datasets.injection import INJECTION
from schemas.datasets.quality import QUALITY
from schemas.datasets.target_fits import TARGET
from schemas.notes import as_plain, read_notes
from schemas.strict import Strict
from schemas.summary_parts import (
    AlphaSummary,
    BudgetSummary,
    Estimate,
    InjectionSummary,
    InstrumentSummary,
    KineticsSummary,
    NoteSummary,
    PeakSummary,
    ReferenceSummary,
    RunSummary,
    TimeZeroSummary,
)

__all__ = [
    "GROUPS",
    "OPTIONAL_GROUPS",
    "ROOT_ATTRIBUTES",
    "SCHEMA_VERSION",
    "Pointer",
    "Summary",
    "product_faults",
    "schema_version",
    "summary_faults",
    "to_json_schema",
]

SCHEMA_VERSION = 2

GROUPS = {
    spec.name: spec
    for spec in (
        measured.SPECTRA,
        measured.DELAY_SCAN,
        measured.REFERENCE,
        fitted.PEAKS,
        kinetics.TIME_ZERO,
        kinetics.KINETICS,
        kinetics.COMPONENTS,
        TARGET,
        fitted.MIXTURE,
        BUDGET,
        QUALITY,
        INJECTION,
        measured.BURST_SPECTRA,
        measured.BURST_DELAY_SCAN,
    )
}

OPTIONAL_GROUPS = (
    "components",
    TARGET.name,
    INJECTION.name,
    BUDGET.name,
    *(s.name for s in (measured.REFERENCE, kinetics.TIME_ZERO, measured.BURST_SPECTRA, measured.BURST_DELAY_SCAN)),
)
"""Groups that a product of an earlier version lacks, that have no data, or that are made on request only."""

ROOT_ATTRIBUTES = ("schema_version", "dataset", "created", "code_version", "config", "inputs", "product_hash")


class Summary(Strict):
    """summary.json: the numbers a person wants first."""

    schema_version: int
    """Version of the schema that this was written with."""
    dataset: str
    """Name of the dataset."""
    version: str
    """Name of the version."""
    created: str
    """When it was published, UTC."""
    product_hash: str
    """Hash of all arrays."""
    instrument: InstrumentSummary | None = None
    """Where the sources were looked up; null in older products."""
    time_zero: TimeZeroSummary | None = None
    """Time zero from the delay scans; null where they have no step, and in older products."""
    references: list[ReferenceSummary] = Field(default=[])
    """What the differences are compared with: the spectra of every fluence, then the delay scans; empty in older products."""
    kinetics: list[KineticsSummary]
    """Kinetic fit, one entry per fluence."""
    alpha: list[AlphaSummary]
    """Excited fraction, one entry per fluence."""
    slope: Estimate
    """Slope of alpha against fluence."""
    slope_model_stderr: float | None = None
    """Model error of the slope."""
    intercept: Estimate
    """Intercept of alpha against fluence; 0 where it is proportional."""
    peaks: list[PeakSummary]
    """Peaks A and B where they were detected."""
    injection: InjectionSummary | None = None
    """What became of injected signals; null: none were asked for."""
    budget: list[BudgetSummary] = Field(default=[])
    """What each source adds to the error of each number; empty in older products."""
    runs: list[RunSummary]
    """What became of every run."""
    warnings: list[NoteSummary]
    """What a person must know before using the numbers, the most severe first; text alone in older products."""

    @field_validator("warnings", mode="before")
    @classmethod
    def _with_codes(cls, stored: Any) -> Any:
        """Give the warnings of an older product, which are text, a code."""
        if isinstance(stored, list):
            return [as_plain(read_notes([one]))[0] if isinstance(one, str) else one for one in stored]
        return stored


class Pointer(Strict):
    """latest.json: resolved once by a reader, replaced atomically by a publisher."""

    version: Annotated[str, Field(pattern=r"^v\d{4,}$")]
    """Name of the newest version."""
    path: Annotated[str, Field(pattern=r"^v\d{4,}$")]
    """Folder of the version, beside this file."""
    product_hash: str
    """Hash of its arrays."""
    created: str
    """When it was published, UTC."""
    schema_version: int = SCHEMA_VERSION
    """Version of the schema that it was written with."""


def schema_version(tree: xr.DataTree) -> int | None:
    """Return the version of the schema that a product was written with; None where it does not say."""
    version = tree.attrs.get("schema_version")
    return version if isinstance(version, int) else None


def product_faults(tree: xr.DataTree) -> list[str]:
    """Return one line per fault of a product: missing groups, attributes, variables; wrong dims, dtypes, units.

    A product of an older schema may lack what came later.
    """
    found = [f"/: attribute {name} is missing" for name in ROOT_ATTRIBUTES if name not in tree.attrs]
    version = schema_version(tree)
    if version is not None and version > SCHEMA_VERSION:
        found.append(f"/: schema_version {version} found, this program knows {SCHEMA_VERSION} and older; update trxas")
    elif version is None and "schema_version" in tree.attrs:
        found.append(f"/: schema_version {tree.attrs['schema_version']!r} found, a whole number expected")
    for name, spec in GROUPS.items():
        if name not in tree.children and name in OPTIONAL_GROUPS:
            continue
        if name not in tree.children:
            found.append(f"/{name}: group is missing")
        else:
            found += [f"/{line}" for line in spec.faults(tree[name].to_dataset(), version)]
    return found


def summary_faults(text: str) -> list[str]:
    """Return one line per fault of a summary.json; one of an older schema may lack keys that came later."""
    try:
        Summary.model_validate_json(text)
    except ValidationError as error:
        faults = error.errors()
        older = isinstance(said := _version_said(text), int) and said < SCHEMA_VERSION
        return [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in faults if not (older and e["type"] == "missing")]
    return []


def _version_said(text: str) -> Any:
    try:
        content = json.loads(text)
    except ValueError:
        return None
    return content.get("schema_version") if isinstance(content, dict) else None


def to_json_schema() -> dict[str, Any]:
    """Return the JSON Schema of summary.json."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | Summary.model_json_schema()
