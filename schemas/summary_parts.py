"""What `summary.json` holds, part by part; `schemas.products.Summary` is the whole."""

from __future__ import annotations

from typing import Any

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from schemas.notes import Severity
from schemas.strict import Strict

__all__ = [
    "Estimate",
    "ReferenceSummary",
    "Tau",
    "TimeZeroSummary",
    "SignalSummary",
    "TargetSummary",
    "KineticsSummary",
    "AlphaSummary",
    "PeakSummary",
    "InjectedQuantity",
    "InjectionSummary",
    "BudgetEntry",
    "BudgetSummary",
    "RunSummary",
    "InstrumentSummary",
    "NoteSummary",
]


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
