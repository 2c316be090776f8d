"""Which pulses of every run the pump reached, as the config and the bunch pattern say, and whether the data agree."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.job import Job
from pipeline.science.labels.condition import (
    OFF,
    ON,
    UNKNOWN,
    condition_by_laser,
    condition_by_pulse,
    condition_by_train,
    laser_offsets,
    one_condition,
)
from pipeline.science.labels.pump_evidence import Period, find_period, swapped
from schemas.catalogue import note
from schemas.config.pump import LaserPattern, PulsePattern, TrainPattern
from schemas.notes import Note

__all__ = ["Conditions", "conditions", "judged"]

Runs = Mapping[int, xr.Dataset]


@dataclass(frozen=True)
class Conditions:
    """One reading of the pump: the condition of every pulse of every run, and where it is from."""

    source: str
    """Words for a person."""
    found: Mapping[int, xr.DataArray]

    def of(self, runs: Runs) -> dict[int, xr.Dataset]:
        """Return the runs with their conditions."""
        return {n: run.assign_coords(condition=self.found[n].variable) for n, run in runs.items()}


def conditions(job: Job, runs: Runs) -> list[Conditions]:
    """Return the readings that are possible, the likeliest first: one, but for a laser whose place is not known.

    Raises
    ------
    DataError
        If the config asks for the laser's bits and no scan holds any.
    """
    pump, scans = job.config.pump, {n: r for n, r in runs.items() if job.config.run_of(n) is not None}

    def reading(source: str, condition: Callable[[xr.Dataset], xr.DataArray]) -> Conditions:
        still = {n: one_condition(run, OFF) for n, run in runs.items() if n not in scans}
        return Conditions(source, still | {n: condition(run) for n, run in scans.items()})

    if isinstance(pump, PulsePattern):
        return [reading(f"pump.pulses {_text(pump.pulses)}", lambda run: condition_by_pulse(run, pump.pulses))]
    if isinstance(pump, TrainPattern):
        said = f"pump.trains {_text(pump.trains)}"
        return [
            reading(f"{said} by train id", lambda run: condition_by_train(run, pump.trains)),
            reading(f"{said} from the first train", lambda run: condition_by_train(run, pump.trains, from_first=True)),
        ]
    recorded = [run for run in scans.values() if "laser" in run and run["laser"].any()]
    if isinstance(pump, LaserPattern):
        if not recorded:
            raise DataError(
                f"{job.config.dataset}: pump.laser is given, and no scan has laser bits in its bunch pattern; set "
                "sources.bunch_pattern, or pump to a pattern of pulses or trains"
            )
        offsets = [pump.laser.offset]
    else:
        offsets = laser_offsets(recorded[0]) if pump == "auto" and recorded else []
    if not offsets:
        return [reading("pump: all" if pump == "all" else "no pattern", lambda run: one_condition(run, ON))]

    def by_laser(offset: int) -> Callable[[xr.Dataset], xr.DataArray]:
        return lambda run: condition_by_laser(run, offset) if "laser" in run else _unknown(run)

    return [reading(f"laser bits at offset {n} slots", by_laser(n)) for n in offsets]


def judged(
    job: Job, choices: list[Conditions], selected: Callable[[Conditions], Runs]
) -> tuple[Conditions, list[Note]]:
    """Return the first reading that the data do not contradict, or the first of all, and what must be known about it.

    Parameters
    ----------
    job
        The dataset.
    choices
        Readings, the likeliest first.
    selected
        Gives the runs of a reading, with beams named and `drop_reason`.
    """
    first: tuple[str, Period | None] | None = None
    for choice in choices:
        runs = selected(choice)
        scans = [r for n, r in runs.items() if job.config.run_of(n) is not None]
        still = [r for n, r in runs.items() if n in job.flat_fields]
        period = find_period(scans, still, condition=ON)
        turned = _mixed(scans) and swapped(scans)
        if period is None and not turned:
            moved = [note("condition.laser_moved", source=choice.source, said=choices[0].source)] if first else []
            return choice, [*moved, *_told(choice, scans)]
        first = first or (_seen(period, turned), period)
    seen, period = first or ("", None)
    code = "condition.period" if choices[0].source in ("no pattern", "pump: all") else "condition.contradiction"
    return choices[0], [note(code, source=choices[0].source, seen=seen)]


def _seen(period: Period | None, turned: bool) -> str:
    if period is not None:
        return f"every {_ordinal(period.length)} of its {period.along} differs, by {1e3 * period.size:.2g} mOD"
    return "pulses said to be without pump change with delay and fluence, the others do not" if turned else ""


def _told(choice: Conditions, scans: list[xr.Dataset]) -> list[Note]:
    if not _mixed(scans):
        return []
    used = [run["drop_reason"].values == 0 for run in scans]
    n_off = sum(int(((run["condition"].values == OFF) & u).sum()) for run, u in zip(scans, used, strict=True))
    share = n_off / max(sum(int(u.sum()) for u in used), 1)
    return [note("condition.found", source=choice.source, share=share)]


def _mixed(scans: list[xr.Dataset]) -> bool:
    return any(bool((run["condition"] == OFF).any()) for run in scans)


def _unknown(run: xr.Dataset) -> xr.DataArray:
    known = one_condition(run, ON)
    return known.copy(data=np.full(known.shape, UNKNOWN, np.uint8))


def _text(pattern: tuple[int, ...]) -> str:
    return "[" + ", ".join(map(str, pattern)) + "]"


def _ordinal(n: int) -> str:
    return {2: "second", 3: "third"}.get(n, f"{n}th")
