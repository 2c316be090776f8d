"""Instrument profiles: where each role lives in a run. Profiles are data (`profiles/*.yaml`), not code."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import ValidationError

from schemas.keys import meant
from schemas.strict import Strict
from schemas.units import ROLE_QUANTITIES, kept_unit
from schemas.yaml_text import parse_yaml

__all__ = ["ROLES", "Instrument", "Laser", "Role", "RoleOverride", "load_instrument", "profile_names"]

ROLES = tuple(ROLE_QUANTITIES)

Laser = Literal["LP_FXE", "LP_LAS1", "LP_LAS2", "LP_SASE2", "LP_SCS", "LP_SPB", "LP_SQS"]
"""Pump lasers that the machine's table knows, by the facility's names; LP_SASE2 is that of MID and HED."""


class RoleOverride(Strict):
    """What a config may change of a role."""

    source: str | None = None
    """Name of the source as in `RunDirectory.all_sources`; `{module}` stands for the module number."""
    key: str | None = None
    """Key of the source (`.value` of control keys may be left out)."""
    unit: str | None = None
    """Unit in which the key is recorded, one that `schemas.units` knows for the role."""
    module: int | Literal["auto"] | None = None
    """Detector module; auto: the only one in the run, or else the profile's usual one."""
    index: Literal["pulse", "bucket", "packed"] | None = None
    """How a per-pulse array is indexed: by pulse id, by bucket (2 · pulse id), or one slot per X-ray pulse."""
    sase: Literal[1, 2, 3] | None = None
    """Which SASE's pulses count where the bunch pattern is the machine's table."""
    laser: Laser | None = None
    """Which pump laser counts in the machine's table."""


class Role(Strict):
    """Where one role lives."""

    source: str
    """Name of the source."""
    key: str
    """Key of the source."""
    unit: str = "1"
    """Unit in which the key is recorded, one that `schemas.units` knows for the role."""
    module: int | Literal["auto"] = "auto"
    """Detector module (frames only)."""
    usual_module: int = 15
    """The module that is taken when a run holds several (frames only)."""
    chip: tuple[int, int] = (64, 64)
    """Rows and columns of a readout chip, whose pixels share a pedestal (frames only)."""
    index: Literal["pulse", "bucket", "packed"] = "packed"
    """How a per-pulse array is indexed."""
    sase: Literal[1, 2, 3] = 3
    """Which SASE's pulses count where the bunch pattern is the machine's table."""
    laser: Laser | None = None
    """Which pump laser counts in the machine's table; by default that of the instrument whose name begins the source."""

    def merge(self, change: RoleOverride | str | None) -> Role:
        """Return this role with what the config overrides."""
        if change is None:
            return self
        if isinstance(change, str):
            return self.model_copy(update={"source": change})
        return self.model_copy(update=change.model_dump(exclude_none=True))


class Instrument(Strict):
    """One instrument: its roles."""

    name: str
    """Name used in `instrument:`."""
    title: str
    """One line for people."""
    frames: Role
    """Detector frames."""
    energy: Role
    """Photon energy of the monochromator."""
    delay_stage: Role
    """Pump delay stage."""
    trigger: Role | None = None
    """Electronic delay of the pump trigger; a larger value means a later pump."""
    arrival: Role | None = None
    """Arrival time of the X-ray pulse; a larger value means a later X-ray pulse."""
    intensity: Role | None = None
    """Pulse energy before the sample."""
    bunch_pattern: Role | None = None
    """Slots of the X-ray pulses of each train, and of the pump laser where its source knows them."""

    def role(self, name: str) -> Role | None:
        """Return a role by name."""
        found: Role | None = getattr(self, name)
        return found

    def with_sources(self, sources: Mapping[Any, RoleOverride | str | None]) -> Instrument:
        """Return the instrument with the config's overrides; null leaves an optional role out.

        Raises ValueError naming the role that is required, or that the profile lacks and the config only half gives; or
        the unit, of profile or config, that is none of the role.
        """
        update: dict[str, Role | None] = {}
        for name, change in sources.items():
            role = self.role(name)
            if change is None:
                if name in ("frames", "energy", "delay_stage"):
                    raise ValueError(f"sources.{name}: this role is required")
                update[name] = None
            elif role is None:
                given = {"source": change} if isinstance(change, str) else change.model_dump(exclude_none=True)
                try:
                    update[name] = Role.model_validate(given)
                except ValidationError:
                    raise ValueError(f"sources.{name}: the profile has no such role; give source and key") from None
            else:
                update[name] = role.merge(change)
        result = self.model_copy(update=update)
        for name in ROLES:
            role = result.role(name)
            if role is not None:
                kept_unit(name, role.unit)
        return result


def profile_names() -> list[str]:
    """Return the names of the profiles that come with trxas."""
    folder = resources.files("schemas") / "profiles"
    return sorted(p.name.removesuffix(".yaml") for p in folder.iterdir() if p.name.endswith(".yaml"))


def load_instrument(name: str, base: Path | None = None) -> Instrument:
    """Return a profile by name or from a file (relative to `base`); raises ValueError saying what is there."""
    if name in profile_names():
        text = (resources.files("schemas") / "profiles" / f"{name}.yaml").read_text(encoding="utf-8")
    else:
        path = (base or Path()) / name
        if not path.is_file():
            raise ValueError(f"instrument: {name!r} is neither a profile ({', '.join(profile_names())}) nor a file")
        text = path.read_text(encoding="utf-8")
    try:
        data: Any = parse_yaml(text)
        return Instrument.model_validate(data)
    except yaml.YAMLError:
        raise ValueError(f"instrument: {name}: not valid YAML") from None
    except ValidationError as error:
        first = error.errors()[0]
        *parents, last = map(str, first["loc"])
        text = first["msg"]
        if first["type"] == "extra_forbidden":
            text = f"unknown key{meant(Instrument, ''.join(f'{p}.' for p in parents), last)}"
        raise ValueError(f"instrument: {name}: {'.'.join((*parents, last))}: {text}") from None
    except ValueError as error:
        raise ValueError(f"instrument: {name}: {error}") from None
