"""The bunch pattern of a run: which slots of a train hold an X-ray pulse, and in which the pump laser fires.

A slot is 1 / 4.5 MHz. The machine's own table says in the bits of every slot where the bunch goes and which lasers are
triggered; the decoder of an instrument lists the slots of its X-ray pulses and, mostly, of its laser.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from euxfel_bunch_pattern import PPL_BITS, is_laser, is_sase

from pipeline.euxfel.run_files import RunFiles, TrainValues
from schemas.instrument import Role

__all__ = ["SLOTS", "BunchPattern", "Slots", "laser_name", "read_pattern"]

SLOTS = 2700
"""Slots of a train."""
_FLAGS = 2**16
"""Entries of the machine's table carry flags in their upper bits; slots of a list stay far below."""
_TABLE = "bunchpatterntable"
_XRAYS, _LASER = 1, 2

_LASER_OF = {"FXE": "LP_FXE", "HED": "LP_SASE2", "MID": "LP_SASE2", "SCS": "LP_SCS", "SPB": "LP_SPB", "SQS": "LP_SQS"}
"""Bit of the table in which each instrument's pump laser is announced."""


@dataclass(frozen=True)
class Slots:
    """Slots in use, train by train."""

    source: str
    used: np.ndarray
    """(train, slot) bool, slots from 0 on to the last that is in use; nothing where the train is not known."""
    known: np.ndarray
    """(train,) bool, whether the pattern of the train was recorded."""

    def at(self, slot: np.ndarray) -> np.ndarray:
        """Return whether some slots are in use, (train, len(slot)); a slot outside the pattern is not."""
        inside = (slot >= 0) & (slot < self.used.shape[1])
        found = np.zeros((len(self.used), len(slot)), bool)
        found[:, inside] = self.used[:, slot[inside]]
        return found

    def usual(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the slots that most trains with any pulse use, and which trains (train,) use exactly those."""
        lit = np.flatnonzero(self.used.any(axis=1))
        like = np.zeros(len(self.used), bool)
        if not len(lit):
            return np.empty(0, np.int64), like
        # as bytes: sorting whole rows, as np.unique does, takes ten times as long
        rows = [row.tobytes() for row in np.packbits(self.used[lit], axis=1)]
        most = Counter(rows).most_common(1)[0][0]
        like[lit] = [row == most for row in rows]
        return np.flatnonzero(self.used[lit[rows.index(most)]]), like


@dataclass(frozen=True)
class BunchPattern:
    """X-ray pulses and, where it was recorded, the pump laser."""

    xrays: Slots
    laser: Slots | None
    laser_bit: str | None = None
    """Which bit of the machine's table was taken for the laser; None: a decoder's laser."""

    @property
    def sources(self) -> frozenset[str]:
        """Where it was read."""
        return frozenset(part.source for part in (self.xrays, self.laser) if part is not None)


def read_pattern(files: RunFiles, role: Role | None, trains: np.ndarray) -> BunchPattern | None:
    """Return the bunch pattern of some trains, or None if the run has none.

    The laser is that of the role's source; where this is a decoder that knows no laser, that of the run's time server.
    """
    if role is None:
        return None
    if _TABLE in role.key.casefold():
        return _from_table(files, role.source, role.key, role, trains)
    found = files.values(role.source, role.key)
    if found is None or found.values.ndim != 2:
        return None
    if found.values.max(initial=0) >= _FLAGS:
        return _from_table(files, role.source, role.key, role, trains)
    xrays = _slots_of(files, role.source, role.key, found, trains)
    laser = _listed(files, role.source, "laser.pulseIds", trains)
    if laser is not None:
        return BunchPattern(xrays, laser)
    tables = (_from_table(files, *name, role, trains) for name in _time_servers(files, role.source))
    table = next((table for table in tables if table is not None and table.laser is not None), None)
    return BunchPattern(xrays, None) if table is None else replace(table, xrays=xrays)


def laser_name(role: Role) -> str | None:
    """Return the name of the bit that announces the pump laser: the role's own, or else that of the instrument."""
    return role.laser or _LASER_OF.get(role.source[:3])


def _time_servers(files: RunFiles, source: str) -> Iterator[tuple[str, str]]:
    """Yield source and key of the tables of time servers: those of the same instrument, and of its data stream, first."""
    domain = source.partition("/")[0]
    named = (s for s in files.sources if "timeserver" in s.casefold())
    for name in sorted(named, key=lambda s: (s.partition("/")[0] != domain, ":" not in s, s)):
        yield from ((name, key) for key in files.keys(name) if _TABLE in key.casefold())


def _from_table(files: RunFiles, source: str, key: str, role: Role, trains: np.ndarray) -> BunchPattern | None:
    laser = laser_name(role)
    bit = None if laser is None else int(PPL_BITS[laser])
    # two bits of every entry are kept, so that the table of a long run is never in memory as a whole
    found = files.values(source, key, partial(_kept_bits, sase=role.sase, laser=bit))
    if found is None or found.values.ndim != 2:
        return None
    row, known = found.rows(trains)
    bits = found.values[row] * known[:, None]
    xrays = Slots(source, _trimmed((bits & _XRAYS) != 0), known)
    if bit is None:
        return BunchPattern(xrays, None)
    return BunchPattern(xrays, Slots(source, _trimmed((bits & _LASER) != 0), known), laser)


def _kept_bits(table: np.ndarray, *, sase: int, laser: int | None) -> np.ndarray:
    entries = table.astype(np.uint32, copy=False)
    bits = np.where(is_sase(entries, sase), np.uint8(_XRAYS), np.uint8(0))
    if laser is not None:
        bits[is_laser(entries, laser)] |= _LASER
    return bits


def _listed(files: RunFiles, source: str, key: str, trains: np.ndarray) -> Slots | None:
    found = files.values(source, key)
    return None if found is None or found.values.ndim != 2 else _slots_of(files, source, key, found, trains)


def _slots_of(files: RunFiles, source: str, key: str, found: TrainValues, trains: np.ndarray) -> Slots:
    """Return the slots of lists; how long each is, is a key beside it."""
    count = files.values(source, key.rpartition(".")[0] + ".nPulses")
    row, known = found.rows(trains)
    table = found.values[row]
    n_pulses = count.at(trains) if count is not None else _leading(table)
    known = known & np.isfinite(n_pulses)
    listed = known[:, None] & (np.arange(table.shape[1]) < np.nan_to_num(n_pulses)[:, None])
    listed &= (table >= 0) & (table < SLOTS)
    used = np.zeros((len(trains), SLOTS), bool)
    train, place = np.nonzero(listed)
    used[train, table[train, place].astype(np.int64)] = True
    return Slots(source, _trimmed(used), known)


def _leading(table: np.ndarray) -> np.ndarray:
    # unused entries are zero, so the list ends where the slots stop growing
    grows = np.diff(table.astype(np.int64), axis=1) > 0
    return 1.0 + np.cumprod(grows, axis=1).sum(axis=1)


def _trimmed(used: np.ndarray) -> np.ndarray:
    last = np.flatnonzero(used.any(axis=0))
    return used[:, : last[-1] + 1].copy() if len(last) else used[:, :0].copy()
