"""What a published product is: its groups, `summary.json` and the pointer to the latest version."""

from __future__ import annotations

import json
from typing import Annotated, Any

import xarray as xr
from pydantic import Field, SerializerFunctionWrapHandler, ValidationError, field_validator, model_serializer

from schemas.datasets import fitted, measured
from schemas.datasets import kinetic_fits as kinetics
from schemas.datasets.budget import BUDGET
from schemas.datasets.injection import INJECTION
from schemas.datasets.quality import QUALITY
from schemas.datasets.target_fits import TARGET
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


class SignalSummary(Strict):
    """The fitted difference at one delay."""

    delay: float
    """Pump-probe delay [ps]."""
    signal: Estimate
    """Fitted difference [OD]."""


class TargetSummary(Strict):
    """The target model at one fluence."""

    model: str
    """What describes the cube best: species, or a line that moves."""
    parameters: dict[str, Tau]
    """By name: t_d, irf_sigma, tau1, tau2, tau3."""
    redchi: float | None
    """χ² per degree of freedom."""
    describes_data: bool
    """Whether chance allows this χ² (probability above 1 in 1000)."""
    free_amplitudes_aicc: float | None
    """AICc of the seed's formula with free amplitudes less that of this model; positive: this one is the better."""
    shift: Estimate
    """Place of the line at first less that in the end; null for species."""
    returning: Estimate
    """Share of what is excited that returns to the ground with tau2."""


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
    form: str | None = None
    """Form that was fitted; null: no fit, and in older products."""
    half_rise: Estimate | None = None
    """Time of half rise of the strongest trace, which any form gives; null likewise."""
    energy: float | None = None
    """Photon energy of the strongest trace [eV]; null likewise."""
    signals: list[SignalSummary] = Field(default=[])
    """Fitted difference there at a few delays."""
    target: TargetSummary | None = None
    """The target model of the cube; null where there is none, and in older products."""


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


class InjectedQuantity(Strict):
    """What became of injected signals: one quantity at one fluence."""

    fluence: float
    """Pump fluence [mJ/cm²]."""
    quantity: str
    """alpha, tau1, tau2 or tau3."""
    n: int
    """Fits that count."""
    n_known: int
    """Of these, fits that call it determined."""
    coverage68: float | None
    """Share of 68 % intervals that hold what was injected."""
    coverage95: float | None
    """Share of 95 % intervals that hold what was injected."""
    pull_mean: float | None
    """Mean of (fitted − injected) / error; 0 where errors are right."""
    pull_std: float | None
    """Its scatter; 1 where errors are right."""
    bias: float | None
    """Median of fitted / injected − 1 at the session's signal; null: it was never determined."""
    limit: float | None
    """Size of the signal, 1: the session's, from which it is determined in half of the fits."""
    limit_signal: float | None
    """The same as largest |ΔXAS| [OD]."""
    out_of_reach: bool
    """No size that was tried determines it in half of the fits."""
    alpha_limit: float | None
    """Smallest excited fraction that this session would find; null for times."""


class InjectionSummary(Strict):
    """Signals of known size in the session's own pulses, fitted again: `trxas inject`."""

    n: int
    """Number of injected signals."""
    seed: int
    """Seed of the draws."""
    carriers: dict[str, int]
    """Number of scans by the pulses that carried their signal: in_run, pump_off_scan, on_top."""
    quantities: list[InjectedQuantity]
    """What was found again."""


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
