"""In which slot of the bunch pattern the X-ray pulse of each frame lies.

The machine counts slots; a detector may count the same slots, slots from the first of its own on, or X-ray pulses.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.euxfel.bunch_pattern import SLOTS, Slots

__all__ = ["NEARLY", "SlotMatch", "match_slots"]

NEARLY = 0.9
"""Share of the pulses, or of the trains, that must agree: some trains are always incomplete or without X-rays."""


@dataclass(frozen=True)
class SlotMatch:
    """How the pulse ids of a detector and the slots of the X-ray pulses belong together."""

    how: Literal["equal", "offset", "order", "no_xrays", "foreign"]
    """`equal`, `offset`: slot = pulse id + offset; `order`: the n-th frame is that of the n-th X-ray pulse; `no_xrays`: there
    is no X-ray pulse to compare with; `foreign`: no frame's id can be a slot of an X-ray pulse.
    """
    pulse_slot: np.ndarray
    """(pulse,) slot of each pulse id; -1 unknown."""
    offset: int = 0
    doubt: str = ""
    """What is assumed and cannot be seen; empty for nothing."""


def match_slots(xrays: Slots, pulse_id: np.ndarray, present: np.ndarray) -> SlotMatch:
    """Bring pulse ids (pulse,) of the detector and slots of the X-ray pulses together; `present` (train, pulse).

    Tried in this order, each must hold for nearly all pulses that could match: ids that are the slots; a constant offset,
    first slot − first id; the same number of frames and of X-ray pulses. An id that is then in no X-ray slot is a frame
    without X-rays. If none of them holds, ids that share any slot with the X-rays are slots.
    """
    ids = pulse_id.astype(np.int64)
    could = np.minimum(present.sum(axis=1), xrays.used.sum(axis=1)).sum()
    if could == 0:
        return SlotMatch("no_xrays", np.full(len(ids), -1))

    def share(slot: np.ndarray) -> float:
        return float((xrays.at(slot) & present).sum() / could)

    # an id that only a few trains have does not count where the first, or the number, is asked for
    common = present.mean(axis=0) > 0.5
    frames = ids[common] if common.any() else ids
    slots, like = xrays.usual()
    first = int(slots[0] - frames[0])
    same_number = len(frames) == len(slots)
    equal = share(ids)
    if equal >= NEARLY:
        return SlotMatch("equal", _valid(ids))
    if share(ids + first) >= NEARLY:
        doubt = (
            f"{len(frames)} frames and {len(slots)} X-ray pulses per train, and ids that are no slots: the first frame is "
            f"taken for that of the first X-ray pulse, slot = pulse id + {first}"
        )
        return SlotMatch("offset", _valid(ids + first), first, "" if same_number else doubt)
    if same_number and like.sum() >= NEARLY * xrays.used.any(axis=1).sum():
        ordered = np.full(len(ids), -1)
        ordered[np.isin(ids, frames)] = slots
        return SlotMatch("order", ordered)
    if equal > 0:
        return SlotMatch("equal", _valid(ids))
    return SlotMatch("foreign", np.full(len(ids), -1))


def _valid(slot: np.ndarray) -> np.ndarray:
    return np.where((slot >= 0) & (slot < SLOTS), slot, -1)
