"""The plan of a beamtime: what `trxas plan` assumes before there are data."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from schemas.strict import Grid, Positive, Strict

__all__ = ["SEED_DELAYS", "Plan"]

Triple = tuple[float, float, float]
SEED_DELAYS = (-0.1, 0.0, 0.1, 0.2, 0.3, 0.5, 0.8, 1.0, 1.8, 2.0, 4.8, 5.0, 10.0, 59.8)
"""Delays [ps] of the published spectra."""


class Plan(Strict):
    """Delays, shots, noise and signal of a delay scan that is not measured yet; the fit's settings are in `kinetics`."""

    delays: Grid = SEED_DELAYS
    """Planned delays [ps]: numbers and ranges {start, stop, step}; the default are the published ones."""
    trains: Annotated[int, Field(ge=1)] = 4
    """Trains per delay and scan; a few, as in a scan that takes a minute."""
    pulses_per_train: Annotated[int, Field(ge=1, le=2700)] = 40
    """X-ray pulses (shots) per train; 40 at 1.1 MHz spare the sample."""
    photons: Positive = 4e5
    """Photons per pulse that the detector counts in each beam; sets the shot noise of a pulse, √(2 / photons)."""
    noise_ratio: Annotated[float, Field(ge=0.5)] = 1.0
    """Noise over shot noise; 1 where the normalisation is perfect. A product tells it as `noise_ratio`."""
    signal: Positive = 0.01
    """Largest |ΔXAS| [OD] of the strongest scan; 10 mOD is what the seed experiment has at 8 mJ/cm²."""
    taus: tuple[Positive, Positive, Positive] = (0.15, 0.24, 1.5)
    """Times to expect [ps]; the published ones. The best delays depend on them."""
    amplitudes: Triple | Annotated[tuple[Triple, ...], Field(min_length=1)] = (1.0, 2.5, -0.5)
    """A1, A2, A3, of which the ratios count; several triples: as many scans at photon energies of their own. They are
    not published: these put the maximum near 0.2 ps and leave a plateau. The errors depend strongly on them."""
    irf_sigma: Annotated[float, Field(ge=0)] = 0.04
    """Gaussian σ of the instrument response [ps] where `kinetics.irf_sigma` is `fit`; pump, pulse and timing together."""
    target: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Relative error of a time that is aimed at."""
    candidates: Grid | Literal["auto"] = "auto"
    """Delays [ps] to choose better ones from; auto: 136 up to the last planned or measured one, fine near time zero."""

    @field_validator("delays", "candidates", mode="before")
    @classmethod
    def _one_range(cls, value: Any) -> Any:
        return [value] if isinstance(value, dict) else value

    @field_validator("amplitudes")
    @classmethod
    def _not_nothing(cls, value: Any) -> Any:
        rows = value if isinstance(value[0], tuple) else (value,)
        if any(all(a == 0 for a in row) for row in rows):
            raise ValueError("amplitudes must not all be zero")
        return value

    @property
    def scans(self) -> tuple[Triple, ...]:
        """Amplitudes of every scan."""
        first = self.amplitudes[0]
        return self.amplitudes if isinstance(first, tuple) else (self.amplitudes,)  # type: ignore[return-value]
