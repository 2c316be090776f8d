"""From frames to the pulses that count: the `beams`, `detector`, `filters` and `frames` parts of a config."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from schemas.ranges import Gain
from schemas.strict import Strict

__all__ = ["AutoBeams", "Beams", "BeamsChoice", "Detector", "Filters", "FlatField", "Frames"]

Roi = tuple[int, int, int, int]


class Beams(Strict):
    """Regions of the beams in module pixels, [x0, x1, y0, y1], upper ends excluded."""

    pumped: Roi
    """The beam through the pumped sample."""
    unpumped: Roi
    """The beam through the unpumped sample."""
    reference: Roi | None = None
    """The beam through no sample, where there is one."""

    @field_validator("pumped", "unpumped", "reference")
    @classmethod
    def _region(cls, roi: Roi | None) -> Roi | None:
        if roi is not None and not (0 <= roi[0] < roi[1] and 0 <= roi[2] < roi[3]):
            raise ValueError(f"{list(roi)} is not [x0, x1, y0, y1] with 0 <= x0 < x1 and 0 <= y0 < y1")
        return roi


class AutoBeams(Strict):
    """Find the beams on the mean image of the flat-field run."""

    count: Literal[2, 3, "auto"] = "auto"
    """How many beams the zone plate makes; auto: two or three, as the image shows."""
    order: list[Literal["pumped", "unpumped", "reference"]] | Literal["auto"] = "auto"
    """Roles from low to high x. Auto: the reference is the beam without an edge, the pumped beam the one that
    answers to the pump; where the data cannot tell, the order is pumped, unpumped, reference."""

    @model_validator(mode="after")
    def _roles(self) -> AutoBeams:
        if self.order != "auto":
            count = len(self.order) if self.count == "auto" else self.count
            expected = {"pumped", "unpumped", "reference"} if count == 3 else {"pumped", "unpumped"}
            if set(self.order) != expected or len(self.order) != count:
                raise ValueError(f"order must name each of {', '.join(sorted(expected))} once")
        return self


def _beams_kind(value: Any) -> str:
    if isinstance(value, Beams) or (isinstance(value, dict) and {"pumped", "unpumped"} & set(value)):
        return "regions"
    return "word" if isinstance(value, str) else "search"


BeamsChoice = Annotated[
    Annotated[Beams, Tag("regions")] | Annotated[AutoBeams, Tag("search")] | Annotated[Literal["auto"], Tag("word")],
    Discriminator(_beams_kind),
]


class FlatField(Strict):
    """Smooth correction of each beam's patch."""

    order: Annotated[int, Field(ge=1, le=3)] = 1
    """Order of the polynomial in x and y; applied only where it lowers the noise on held-out trains."""


class Detector(Strict):
    """From ADU to photons."""

    calibration: str = "auto"
    """auto: made from the dark and flat-field runs; or the hash of one made before, a folder in `<out>/calibration`."""
    gain: Gain | Literal["auto"] = "auto"
    """ADU per photon; auto: photon-transfer curve of the flat-field run."""
    nonlinearity: str = "auto"
    """auto: self-calibrated on the flat-field run; none; or a file with columns adu, corrected_adu."""
    flat_field: FlatField | Literal["none"] = FlatField()
    """Order of the flat-field correction, or none."""
    pedestal: Literal["auto", "none"] = "auto"
    """auto: the pedestal of the readout chips is followed with unlit pixels beside the beams, and taken off in runs where it
    has moved by more than noise since the dark run; none: it is not looked at."""
    saturation: Annotated[int, Field(ge=1, le=65535)] = 255
    """Raw value [ADU] at and above which a pixel is saturated."""


class Filters(Strict):
    """Which pulses count."""

    min_intensity: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Floor, as a fraction of the run's median photons per pulse: ratios of almost nothing only add noise."""
    max_saturated: Annotated[int, Field(ge=0)] = 0
    """Saturated pixels allowed in any beam of a pulse; clipped pixels bias the ratio."""
    exclude_pulses: list[Annotated[int, Field(ge=0)]] = Field(default=[])
    """Pulse ids to leave out, e.g. a bunch that is known to be bad."""


class Frames(Strict):
    """What is kept of the frames."""

    keep: Literal["beams", "full", "none"] = "beams"
    """beams: the rectangle that holds the beams; full: the module; none: only the pulses are stored."""
