"""From spectra to physics: the `peaks`, `kinetics` and `mixture` parts of a config."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from schemas.strict import Positive, Strict

__all__ = ["DosColumn", "Kinetics", "Measured", "Mixture", "MixtureModel", "Peaks"]


class Window(Strict):
    """A stretch of photon energy."""

    window: tuple[float, float] | Literal["auto"] = "auto"
    """Lower and upper energy [eV]; auto: the whole range of the spectra."""

    @field_validator("window")
    @classmethod
    def _ordered(cls, value: Any) -> Any:
        if value != "auto" and value[1] <= value[0]:
            raise ValueError(f"{list(value)} is not [low, high]")
        return value


class Peaks(Window):
    """Where peaks A and B of the difference are sought."""


class Measured(Strict):
    """A number from a separate measurement, used as a Gaussian prior."""

    value: float
    """The measured value [ps]."""
    stderr: Positive
    """Its standard error [ps]."""


class Kinetics(Strict):
    """The three-exponential fit."""

    power: Literal[1, 2] = 2
    """2: squared, as printed in the seed publication; 1: not squared."""
    irf_sigma: Annotated[float, Field(ge=0)] | Measured | Literal["fit"] = "fit"
    """Gaussian σ of the instrument response [ps]: a number (fixed), a measured value with error, or fit."""
    t_d: float | Measured | Literal["fit"] = "fit"
    """Time zero of the signal [ps]: a number (fixed), a measured value with error, or fit."""
    global_: Annotated[bool, Field(alias="global")] = True
    """Share the times over the energies of the spectra too, where these have enough delays."""
    n_exponentials: Literal[1, 2, 3] = 3
    """Number of times; 3 is the seed's model."""
    amplitude_prior: Positive | Literal["none"] = 3.0
    """Weak Gaussian prior on the amplitudes, in units of the largest signal; none switches it off."""
    bootstrap: Literal["none", "parametric", "trains"] = "none"
    """Refits of replicates for a second opinion on the errors; parametric: fit plus noise of the given errors; trains:
    trains drawn anew from the pulses, which knows of noise that the errors miss. Off: it takes as long as n_bootstrap
    fits."""
    n_bootstrap: Annotated[int, Field(ge=20, le=10_000)] = 200
    """Number of replicates; 200 give the ends of a 68 % interval to 10 % of its width."""
    per_energy: bool = False
    """Fit every energy alone too, with the time zero and response of the shared fit. Off: single energies rarely
    determine the times, and each takes as long as the shared fit."""


class DosColumn(Strict):
    """One column of a file that holds several DOS."""

    file: str
    """Text file with a header line that names the columns, relative to the config."""
    column: str | None = None
    """Name of the DOS column; may be left out where there is only one."""


Dos = str | DosColumn


class MixtureModel(Strict):
    """Another pair of DOS that is fitted too."""

    name: Annotated[str, Field(min_length=1)]
    """What it is called in the product."""
    dos_ground: Dos
    """As `mixture.dos_ground`."""
    dos_excited: Dos
    """As `mixture.dos_excited`."""


class Mixture(Window):
    """Ground- and excited-state DOS fitted to the spectra."""

    dos_ground: Dos | None = None
    """File with columns energy_eV, dos, relative to the config, or {file, column}; none: built-in model peaks."""
    dos_excited: Dos | None = None
    """The same for the excited state."""
    alternatives: list[MixtureModel] = Field(default=[])
    """Other DOS for the same states: fitted too, and their distance from the first is the model error of alpha."""
    energy_zero: float = 0.0
    """Photon energy [eV] at which the energies of the DOS files are zero; 0 where they are photon energies. The fit
    moves a DOS by at most 3 eV."""
    min_delay: float = 0.8
    """Delays [ps] from which the mixture holds: after the electronic relaxation."""
    gaussian_fwhm: Annotated[float, Field(ge=0)] = 0.0
    """Instrument broadening applied to the DOS [eV]."""
    lorentzian_fwhm: Annotated[float, Field(ge=0)] = 0.0
    """Lifetime broadening applied to the DOS [eV]."""

    @model_validator(mode="after")
    def _both(self) -> Mixture:
        if (self.dos_ground is None) != (self.dos_excited is None):
            raise ValueError("give both dos_ground and dos_excited, or neither")
        names = ["main", *(m.name for m in self.alternatives)]
        if self.alternatives and self.dos_ground is None:
            raise ValueError("alternatives need dos_ground and dos_excited beside them")
        if len(set(names)) < len(names):
            raise ValueError(f"alternatives need names of their own, other than main (got {', '.join(names[1:])})")
        return self

    @property
    def models(self) -> dict[str, tuple[DosColumn, DosColumn]]:
        """The pairs (ground, excited) of DOS by name, the one that is reported first; empty: built-in peaks."""
        if self.dos_ground is None or self.dos_excited is None:
            return {}
        pairs = {"main": (self.dos_ground, self.dos_excited)}
        pairs |= {m.name: (m.dos_ground, m.dos_excited) for m in self.alternatives}
        return {n: (_dos_column(ground), _dos_column(excited)) for n, (ground, excited) in pairs.items()}


def _dos_column(dos: Dos) -> DosColumn:
    return DosColumn(file=dos) if isinstance(dos, str) else dos
