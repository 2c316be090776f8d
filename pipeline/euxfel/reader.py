"""The reader: one EuXFEL run as labelled, audited data; frames are read block by block, never as a whole.

`open_run` joins the detector's frames with photon energy, delay stage, trigger, arrival time and pulse energy by
(train id, pulse id); what a run lacks stays NaN or is reported, nothing is filled in.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr
from euxfel_bunch_pattern import indices_at_sase

from pipeline.errors import DataError
from pipeline.euxfel.frame_index import FrameIndex, index_frames
from pipeline.euxfel.run_files import RunFiles, TrainValues, open_files
from schemas.datasets.measured import PULSES
from schemas.instrument import Instrument, Role
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

    @property
    def counts(self) -> dict[str, int]:
        """What the audit counted, by reason."""
        return self.index.counts

    @property
    def audit(self) -> list[str]:
        """What the audit found, one line each."""
        return [*self.files.problems, *self.index.notes, *self.labels.attrs.get("notes", [])]


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
        (train, pulse). NaN: not recorded.

    Raises
    ------
    DataError
        If the run holds no readable frames of the detector, or a role's unit is not known.
    """
    files = open_files(path)
    index = index_frames(files, instrument.frames)
    return Run(files.run, path, files, index, _labels(files, index, instrument))


def _labels(files: RunFiles, index: FrameIndex, instrument: Instrument) -> xr.Dataset:
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
        labels[name] = ("train", *_kept(files, role, name, values))
    pattern = _xray_pulses(files, instrument.bunch_pattern, trains)
    for name in ("arrival", "intensity"):
        role = instrument.role(name)
        values = _per_pulse(files, role, index, pattern)
        labels[name] = (("train", "pulse"), *_kept(files, role, name, values))
    dark = np.zeros(shape, bool)
    if pattern is not None:
        dark = ~_in_pattern(pattern, index.pulse_id)
        if dark.all() and any(ids is not None and len(ids) for ids in pattern):
            notes.append("no frame's pulse id is in the bunch pattern; the pattern is not used")
            dark = np.zeros(shape, bool)
    labels["dark_frame"] = (("train", "pulse"), dark)
    labels.attrs["notes"] = notes
    return PULSES.describe(labels)


def _kept(files: RunFiles, role: Role | None, name: str, values: np.ndarray) -> tuple[np.ndarray, dict[str, str]]:
    """Return values in the unit in which they are kept, and that unit."""
    if role is None:
        return values, {"units": PULSES[name].known_units[0]}
    try:
        unit, factor = kept_unit(name, role.unit)
    except ValueError as error:
        raise DataError(f"run {files.run}: {error}") from None
    return values * factor, {"units": unit}


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


Pattern = list[np.ndarray | None]


def _xray_pulses(files: RunFiles, role: Role | None, trains: np.ndarray) -> Pattern | None:
    """Return the ids of the X-ray pulses of each train (None where it was not recorded), or None for the whole run."""
    found = files.values(role.source, role.key) if role is not None else None
    if role is None or found is None or found.values.ndim != 2:
        return None
    # entries of the machine's table carry flags in their upper bits, pulse ids stay below 2,700
    if found.values.max(initial=0) >= 2**16:
        known = np.isin(found.train_id, trains)
        decoded = dict(zip(found.train_id[known].tolist(), found.values[known].astype(np.uint32), strict=True))
        return [
            np.asarray(indices_at_sase(decoded[t], role.sase), np.int64) if t in decoded else None
            for t in trains.tolist()
        ]
    count = files.values(role.source, role.key.rpartition(".")[0] + ".nPulses")
    table = found.at(trains)
    n_pulses = count.at(trains) if count is not None else _leading(table)
    return [
        row[: int(n)].astype(np.int64) if np.isfinite(n) and np.isfinite(row).all() else None
        for row, n in zip(table, n_pulses, strict=True)
    ]


def _leading(table: np.ndarray) -> np.ndarray:
    # unused slots are zero, so the list ends where the ids stop growing
    grows = np.diff(table, axis=1) > 0
    return 1.0 + np.cumprod(grows, axis=1).sum(axis=1)


def _in_pattern(pattern: Pattern, pulse_id: np.ndarray) -> np.ndarray:
    wanted = pulse_id.astype(np.int64)
    known: dict[bytes, np.ndarray] = {}
    # a train without pattern says nothing about its frames
    found = np.ones((len(pattern), len(wanted)), bool)
    for i, ids in enumerate(pattern):
        if ids is not None:
            key = ids.tobytes()
            if key not in known:
                known[key] = np.isin(wanted, ids)
            found[i] = known[key]
    return found


def _per_pulse(files: RunFiles, role: Role | None, index: FrameIndex, pattern: Pattern | None) -> np.ndarray:
    """Return one value per train and pulse, looked up by train id and pulse id; NaN where there is none."""
    result = np.full(index.row.shape, np.nan)
    found = files.values(role.source, role.key) if role is not None else None
    if role is None or found is None or found.values.ndim != 2:
        return result
    table = found.at(index.train_id)
    pulses = index.pulse_id.astype(np.int64)
    if role.index == "packed":
        for i, row in enumerate(table):
            ids = pattern[i] if pattern is not None else pulses[index.present[i]]
            if ids is None:
                continue
            place = np.searchsorted(ids, pulses) if len(ids) else np.zeros(len(pulses), np.int64)
            known = (place < min(len(ids), len(row))) if len(ids) else np.zeros(len(pulses), bool)
            known &= np.isin(pulses, ids)
            result[i, known] = row[place[known]]
        return result
    slot = pulses * (2 if role.index == "bucket" else 1)
    inside = slot < table.shape[1]
    result[:, inside] = table[:, slot[inside]]
    return result
