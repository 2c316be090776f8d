"""The reader: one EuXFEL run as labelled, audited data; frames are read block by block, never as a whole.

`open_run` joins the detector's frames with photon energy, delay stage, trigger, arrival time and pulse energy by
(train id, pulse id); what a run lacks stays NaN or is reported, nothing is filled in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.euxfel.bunch_pattern import BunchPattern, read_pattern
from pipeline.euxfel.frame_index import FrameIndex, index_frames
from pipeline.euxfel.pulse_slots import SlotMatch, match_slots
from pipeline.euxfel.run_files import RunFiles, TrainValues, open_files
from schemas.datasets.measured import PULSES
from schemas.instrument import Instrument, Role
from schemas.ranges import READINGS
from schemas.units import kept_unit

__all__ = ["Run", "open_run"]


@dataclass(frozen=True)
class Run:
    """One run, opened: `labels` has one entry per train and pulse, `index` says where the frames are."""

    number: int
    path: Path
    files: RunFiles
    index: FrameIndex
    labels: xr.Dataset
    pattern: BunchPattern | None = None
    match: SlotMatch | None = None
    """How the frames belong to the X-ray pulses of the pattern."""

    @property
    def counts(self) -> dict[str, int]:
        """What the audit counted, by reason."""
        return self.index.counts

    @property
    def audit(self) -> list[str]:
        """What the audit found, one line each."""
        return [*self.files.problems, *self.files.faults, *self.index.notes, *self.labels.attrs.get("notes", [])]


def open_run(path: Path, instrument: Instrument) -> Run:
    """Open and audit a run.

    Parameters
    ----------
    path
        The run's folder.
    instrument
        Where each role lives, the config's overrides applied.

    Returns
    -------
    Run
        `labels` has dims (train, pulse) and coordinates train_id, pulse_id, cell_id, present; variables energy
        (train) [eV], delay_stage (train) [mm, or ps where the stage reports time], trigger (train) [ps], arrival
        (train, pulse) [ps], intensity (train, pulse) [µJ, or 1 where the monitor is not calibrated], dark_frame
        (train, pulse). NaN: not recorded. Where the bunch pattern was recorded also pulse_slot (pulse), and with the
        laser in it laser (train, slot) and laser_known (train).

    Raises
    ------
    DataError
        If the run holds no readable frames of the detector, or a role's unit is not known.
    """
    files = open_files(path)
    index = index_frames(files, instrument.frames)
    pattern = read_pattern(files, instrument.bunch_pattern, index.train_id)
    match = None if pattern is None else match_slots(pattern.xrays, index.pulse_id, index.present)
    labels = _labels(files, index, instrument, pattern, match)
    return Run(files.run, path, files, index, labels, pattern, match)


def _labels(
    files: RunFiles,
    index: FrameIndex,
    instrument: Instrument,
    pattern: BunchPattern | None,
    match: SlotMatch | None,
) -> xr.Dataset:
    notes: list[str] = []
    trains, shape = index.train_id, index.row.shape
    labels = xr.Dataset(
        coords={
            "train_id": ("train", trains),
            "pulse_id": ("pulse", index.pulse_id),
            "cell_id": (("train", "pulse"), index.cell_id),
            "present": (("train", "pulse"), index.present),
        }
    )
    for name in ("energy", "delay_stage", "trigger"):
        role = instrument.role(name)
        values = _slow(files, role, name, trains, notes)
        labels[name] = ("train", *_kept(files, role, name, values, notes))
    # where nothing is known of the slots, the ids are all there is
    slot = match.pulse_slot if match is not None and (match.pulse_slot >= 0).any() else index.pulse_id.astype(np.int64)
    for name in ("arrival", "intensity"):
        role = instrument.role(name)
        values = _per_pulse(files, role, index, pattern, slot)
        labels[name] = (("train", "pulse"), *_kept(files, role, name, values, notes))
    dark = np.zeros(shape, bool)
    if pattern is not None and match is not None:
        if match.how == "foreign":
            notes.append("no frame's pulse id is in the bunch pattern; the pattern is not used")
        else:
            # a train without pattern says nothing about its frames
            dark = pattern.xrays.known[:, None] & ~pattern.xrays.at(slot)
        notes += [match.doubt] if match.doubt else []
        labels["pulse_slot"] = ("pulse", match.pulse_slot)
        if pattern.laser is not None:
            labels["laser"] = (("train", "slot"), _as_wide(pattern.laser.used, int(slot.max()) + 1))
            labels["laser_known"] = ("train", pattern.laser.known)
    labels["dark_frame"] = (("train", "pulse"), dark)
    labels.attrs["notes"] = notes
    return PULSES.describe(labels)


def _as_wide(used: np.ndarray, slots: int) -> np.ndarray:
    """Return slots in use (train, slot), with slots at the end that are not in use where there are fewer than so many."""
    return np.pad(used, ((0, 0), (0, max(slots - used.shape[1], 0))))


def _kept(
    files: RunFiles, role: Role | None, name: str, values: np.ndarray, notes: list[str]
) -> tuple[np.ndarray, dict[str, str]]:
    """Return values in the unit in which they are kept, and that unit; NaN where no device can read them."""
    if role is None:
        return values, {"units": PULSES[name].known_units[0]}
    try:
        unit, factor = kept_unit(name, role.unit)
    except ValueError as error:
        raise DataError(f"run {files.run}: {error}") from None
    low, high = READINGS[name]
    with np.errstate(over="ignore"):
        values = values * factor
    broken = ~np.isnan(values) & ~((values >= low) & (values <= high))
    if broken.any():
        trains = int(broken.reshape(len(broken), -1).any(axis=1).sum())
        read = values[broken].flat[0]
        notes.append(
            f"{name}: {role.source} read {read:.3g} {unit} in {trains} of {len(values)} trains; taken as unknown"
        )
    return np.where(broken, np.nan, values), {"units": unit}


def _slow(files: RunFiles, role: Role | None, name: str, trains: np.ndarray, notes: list[str]) -> np.ndarray:
    """Return one value per train, as recorded; NaN where there is none."""
    if role is None:
        return np.full(len(trains), np.nan)
    found = files.values(role.source, role.key)
    if found is None:
        if role.source in files.sources:
            notes.append(f"{name}: {role.source} has no {role.key}, or no values")
        return np.full(len(trains), np.nan)
    if found.values.ndim > 1:
        found = TrainValues(found.train_id, found.values.reshape(len(found.values), -1)[:, 0])
    values = found.at(trains)
    lost = int(np.isnan(values).sum())
    if lost:
        notes.append(f"{name}: {lost} of {len(trains)} trains have no value of {role.source}")
    return values


def _per_pulse(
    files: RunFiles, role: Role | None, index: FrameIndex, pattern: BunchPattern | None, slot: np.ndarray
) -> np.ndarray:
    """Return one value per train and pulse, looked up by train id and slot; NaN where there is none."""
    result = np.full(index.row.shape, np.nan)
    found = files.values(role.source, role.key) if role is not None else None
    if role is None or found is None or found.values.ndim != 2:
        return result
    table = found.at(index.train_id)
    if role.index == "packed":
        lit, place = _numbered(index, pattern, slot)
        lit &= place < table.shape[1]
        train, pulse = np.nonzero(lit)
        result[train, pulse] = table[train, place[train, pulse]]
        return result
    entry = slot * (2 if role.index == "bucket" else 1)
    inside = (entry >= 0) & (entry < table.shape[1])
    result[:, inside] = table[:, entry[inside]]
    return result


def _numbered(index: FrameIndex, pattern: BunchPattern | None, slot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which frames have an X-ray pulse, and which of its train's that is, (train, pulse); without a pattern, by order."""
    if pattern is None:
        lit = index.present.copy()
        return lit, np.cumsum(lit, axis=1) - 1
    used = pattern.xrays.used
    lit = pattern.xrays.at(slot)
    if not lit.any():
        return lit, np.zeros(lit.shape, np.int64)
    return lit, np.cumsum(used, axis=1, dtype=np.int16)[:, slot.clip(0, used.shape[1] - 1)].astype(np.int64) - 1
