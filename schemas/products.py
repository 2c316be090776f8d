"""What a published product is: its groups, `summary.json` and the pointer to the latest version."""

from __future__ import annotations

import json
from typing import Annotated, Any

import xarray as xr
from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, field_validator, model_serializer

from schemas.datasets import fitted, measured
from schemas.datasets import kinetic_fits as kinetics
from schemas.datasets.budget import BUDGET
from schemas.datasets.quality import QUALITY
from schemas.notes import Severity, as_plain, read_notes
from schemas.strict import Strict

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
        fitted.MIXTURE,
        BUDGET,
        QUALITY,
        measured.BURST_SPECTRA,
        measured.BURST_DELAY_SCAN,
    )
}

OPTIONAL_GROUPS = (
    "components",
    BUDGET.name,
    *(s.name for s in (measured.REFERENCE, kinetics.TIME_ZERO, measured.BURST_SPECTRA, measured.BURST_DELAY_SCAN)),
)
"""Groups that a product of an earlier version lacks, that have no data, or that are made on request only."""

ROOT_ATTRIBUTES = ("schema_version", "dataset", "created", "code_version", "config", "inputs", "product_hash")


class Estimate(Strict):
    """A number with its standard error; null where the data give none."""

    value: float | None
    """The number; null: the data give none."""
    stderr: float | None
    """Its standard error."""
    unit: str
    """Its unit."""
    stderr_systematic: float | None = None
    """What the reference cannot know, beside it; null: nothing, or not worked out."""

    @model_serializer(mode="wrap")
    def _without_absent(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {n: v for n, v in serialise(self).items() if n != "stderr_systematic" or v is not None}


class ReferenceSummary(Strict):
    """What the spectra of a fluence, or a delay scan, are compared with."""

    fluence: float
    """Pump fluence [mJ/cm²]."""
    energy: float | None = None
    """Photon energy of a delay scan [eV]; null: the spectra of this fluence."""
    delays: dict[str, int]
    """Number of delays by what serves as reference: in_run, pump_off_scan, flat_field, none."""
    without_pump: float | None
    """Share of the pulses of these runs that are without pump."""
    stderr: float | None
    """Median standard error of the difference [OD]."""
    stderr_systematic: float | None
    """Median of what the reference cannot know of it [OD]; 0: nothing."""


class Tau(Strict):
    """One time of the kinetic fit."""

    value: float | None
    """Fitted value; null: no fit."""
    stderr: float | None
    """Its standard error."""
    unit: str = "ps"
    """Its unit."""
    ci68: tuple[float | None, float | None]
    """Null: open."""
    ci95: tuple[float | None, float | None]
    """Null: open."""
    identifiable: bool
    """Whether the data determine this time."""
    verdict: str
    """What the data say about it, in words."""
    verdict_code: str | None = None
    """Code of the verdict, see the reference of notes; empty for time zero and response, null in older products."""
    value_without_prior: float | None = None
    """Value without the amplitude prior; null where there is none."""
    bootstrap_stderr: float | None = None
    """Standard error from the bootstrap, where it was asked for."""


class TimeZeroSummary(Strict):
    """Time zero as the delay scans have it."""

    stage: Estimate
    """Position of the delay stage."""
    t0: float
    """Position from which the delays of the product count."""
    delay: Estimate
    """Time zero on that axis; near 0 where t0 is right."""


class KineticsSummary(Strict):
    """The kinetic fit at one fluence."""

    fluence: float
    """Pump fluence [mJ/cm²]."""
    parameters: dict[str, Tau]
    """By name: t_d, irf_sigma, tau1, tau2, tau3."""
    redchi: float | None
    """χ² per degree of freedom."""
    describes_data: bool | None = None
    """Whether chance allows this χ² (probability above 1 in 1000); false: no time is identifiable; null: no fit."""


class AlphaSummary(Strict):
    """The mixture at one fluence."""

    fluence: float
    """Pump fluence [mJ/cm²]."""
    alpha: Estimate
    """Excited fraction."""
    model_stderr: float | None = None
    """Model error: distance of the values that other DOS give, and what the reference cannot know; null: not worked out."""


class PeakSummary(Strict):
    """One peak at one fluence and delay."""

    peak: str
    """A (positive) or B (negative)."""
    fluence: float
    """Pump fluence [mJ/cm²]."""
    delay: float
    """Pump-probe delay [ps]."""
    position: Estimate
    """Position of the line."""
    amplitude: Estimate
    """Height of the line."""


class BudgetEntry(Strict):
    """What one source adds to the error of a number."""

    source: str
    """statistics, reference, t0, irf, pedestal, response, energy, dos or window."""
    error: float | None
    """One standard deviation; null: not known."""
    status: str
    """published: part of an error that stands beside the number; beside: not; none: no part in it; not_known."""


class BudgetSummary(Strict):
    """The error budget of one number."""

    quantity: str
    """tau1, tau2, tau3, alpha, slope, position_A or position_B."""
    unit: str
    """Unit of the errors."""
    fluence: float | None = None
    """Pump fluence [mJ/cm²]; null: of all."""
    delay: float | None = None
    """Pump-probe delay [ps] of a peak, the latest at which it was seen."""
    entries: list[BudgetEntry]
    """Independent of each other; one for each source."""


class RunSummary(Strict):
    """One run's bookkeeping."""

    run: int
    """Run number."""
    kind: str
    """flat_field, energy_scan or delay_scan."""
    frames_expected: int
    """Trains × pulses of the run."""
    frames_read: int
    """Frames recorded and read."""
    pulses_used: int
    """Pulses in the result."""
    pulses_without_pump: int | None = None
    """Of these, pulses that the pump did not reach; null in older products."""
    noise_ratio: float | None
    """Scatter of pumped/unpumped over photon noise; 1 is the limit."""
    null_chi2: float | None
    """χ² per degree of freedom, odd against even trains."""
    audit: list[str]
    """What the audit found, one line each."""


class InstrumentSummary(Strict):
    """The instrument profile, the config's overrides applied."""

    name: str
    """Name of the profile."""
    hash: str
    """Hash of what it says; the product's attribute `instrument` has the content."""


class NoteSummary(Strict):
    """One thing that a person must know; what it is not about is left out."""

    code: str
    """What it is, for programs; see the reference of notes."""
    severity: Severity
    """`info`: nothing to worry about; `caution`: look before you use the numbers; `fault`: do not use them before it is mended."""
    text: str
    """What it is, for people; may change between versions."""
    run: int | None = None
    """Run that it is about."""
    fluence: float | None = None
    """Fluence that it is about [mJ/cm²]."""
    parameter: str | None = None
    """Parameter of the kinetics that it is about."""

    @model_serializer(mode="wrap")
    def _without_absent(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialise(self).items() if value is not None}


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
    path: str
    """Folder of the version, relative to this file."""
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
