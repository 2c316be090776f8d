"""The simulated sample: its spectrum in both states and its answer to the pump; part of a scenario."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from schemas.strict import Positive, Strict

__all__ = ["AbsorptionSpec", "KineticsSpec", "LineSpec"]

NotNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
FractionTable = tuple[tuple[NotNegative, Fraction], ...]


class LineSpec(Strict):
    """A Gaussian line as measured, instrument broadening included."""

    position: Positive
    """Photon energy of its centre [eV]."""
    height: float
    """Optical density at the centre."""
    fwhm: Positive
    """Full width at half maximum [eV]."""


class AbsorptionSpec(Strict):
    """Optical density of the sample: two pre-edge lines that differ, and the rest that the states share."""

    ground: LineSpec = LineSpec(position=529.2, height=0.25, fwhm=1.0)
    """Pre-edge line of the ground state: where the difference has its dip B."""
    excited: LineSpec = LineSpec(position=528.2, height=0.25, fwhm=0.9)
    """Pre-edge line of the excited state: where the difference has its peak A."""
    shared: tuple[LineSpec, ...] = (
        LineSpec(position=532.0, height=0.12, fwhm=1.8),
        LineSpec(position=534.2, height=0.30, fwhm=2.2),
    )
    """Shoulder and main peak, the same in both states."""
    features: tuple[LineSpec, ...] = (
        LineSpec(position=532.6, height=-0.05, fwhm=0.6),
        LineSpec(position=534.2, height=-0.06, fwhm=0.6),
    )
    """Excited minus ground state above the pre-edge; narrow enough to be nothing inside the pre-edge
    window."""
    edge_position: Positive = 533.0
    """Photon energy of the edge step [eV]."""
    edge_height: NotNegative = 0.25
    """Optical density of the step."""
    edge_fwhm: Positive = 3.0
    """Width of the step, FWHM of its derivative [eV]."""
    background: float = 0.05
    """Optical density of everything else."""
    resolution: NotNegative = 0.3
    """Instrument broadening, Gaussian FWHM [eV]; the DOS files are written without it, the run configuration
    names it."""
    extra_broadening: NotNegative = 0.4
    """Broadening that the DOS files lack beside the instrument's, Gaussian FWHM [eV]: what a calculation leaves
    out (disorder, phonons) and a fit has to find."""

    @property
    def missing_broadening(self) -> float:
        """All that the DOS files lack, Gaussian FWHM [eV]."""
        return math.hypot(self.resolution, self.extra_broadening)

    @model_validator(mode="after")
    def _resolvable(self) -> AbsorptionSpec:
        widths = [line.fwhm for line in [self.ground, self.excited, *self.shared, *self.features]]
        if min([*widths, self.edge_fwhm]) <= self.missing_broadening:
            raise ValueError(
                f"resolution and extra_broadening make {self.missing_broadening:g} eV, which is not below the "
                f"narrowest line ({min([*widths, self.edge_fwhm]):g} eV)"
            )
        return self


class KineticsSpec(Strict):
    """The signal at the excited line against delay, and how it grows with fluence."""

    taus: tuple[Positive, Positive, Positive] = (0.15, 0.24, 1.5)
    """τ1, τ2, τ3 [ps]; the published values."""
    amplitudes: tuple[float, float, float] = (1.0, 2.5, -0.5)
    """A1 : A2 : A3; unpublished. A2 and A3 of opposite sign make the times better known; these put the
    maximum near 0.2 ps and leave a plateau that stays."""
    power: Literal[1, 2] = 2
    """2: the squared form as printed."""
    t_d: float = 0.0
    """Time zero of the signal [ps]."""
    irf_sigma: NotNegative = 0.04
    """Instrument response, Gaussian σ [ps]: 30 fs pump, X-ray pulse and timing together."""
    reference_delay: Positive = 4.8
    """Delay [ps] at which `fraction` holds."""
    fraction: Annotated[FractionTable, Field(min_length=2)] = ((0, 0), (8, 0.05), (32, 0.27))
    """Pairs of fluence [mJ/cm²] and excited fraction α at the reference delay; linear between."""
    early_shift: float = -0.2
    """Where the excited line is at the start, relative to its final place [eV]."""
    settle: Positive = 0.8
    """Delay [ps] from which the excited line is exactly in its final place."""

    @field_validator("fraction")
    @classmethod
    def _rising(cls, pairs: FractionTable) -> FractionTable:
        fluences = [p[0] for p in pairs]
        if fluences[0] != 0 or pairs[0][1] != 0 or any(b <= a for a, b in pairwise(fluences)):
            raise ValueError("must start with [0, 0] and rise in fluence")
        return pairs
