"""What the bunch pattern of a run says about pump and X-ray pulses, for people: `inspect` and `init` tell it.

The laser's slots are where it is triggered, not where its light meets the X-rays, so the pattern is told as if the laser's
first slot were that of the first X-ray pulse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pipeline.euxfel.bunch_pattern import BunchPattern, Slots
from pipeline.euxfel.pulse_slots import NEARLY
from pipeline.euxfel.reader import Run

__all__ = ["pulse_report", "pulse_text", "pump_comments", "runs_without_laser"]

_SCANS = ("energy_scan", "delay_scan")

LONGEST = 16
"""Longest pattern along pulses or trains that is sought, and written out."""


def pulse_report(run: Run) -> dict[str, Any] | None:
    """Return X-ray pulses, laser pulses, how frames belong to them, and which X-ray pulses the laser meets; JSON-able.

    None where the run has no bunch pattern.
    """
    pattern, match = run.pattern, run.match
    if pattern is None or match is None:
        return None
    return {
        "xrays": _pulses(pattern.xrays),
        "laser": None if pattern.laser is None else {"bit": pattern.laser_bit} | _pulses(pattern.laser),
        "match": {
            "how": match.how,
            "offset": match.offset if match.how in ("equal", "offset") else None,
            "frames_without_xrays": int((run.labels["dark_frame"].values & run.index.present).sum()),
        },
        "pump": _pump(pattern, run.index.train_id),
    }


def _pulses(slots: Slots) -> dict[str, Any]:
    """Return number, first slot and step [slots] of the pulses of a train as most trains have them, and the other trains."""
    usual, like = slots.usual()
    steps = np.unique(np.diff(usual))
    return {
        "source": slots.source,
        "pulses_per_train": len(usual),
        "first_slot": int(usual[0]) if len(usual) else None,
        "step": int(steps[0]) if len(steps) == 1 else None,
        "trains": int(like.sum()),
        "trains_with_other_pulses": int((slots.used.any(axis=1) & ~like).sum()),
        "trains_without_pulses": int((slots.known & ~slots.used.any(axis=1)).sum()),
        "trains_not_recorded": int((~slots.known).sum()),
    }


def _pump(pattern: BunchPattern, train_id: np.ndarray) -> dict[str, Any] | None:
    """Return which share of the X-ray pulses has the laser, and the pattern in which they do.

    `pattern` repeats: along pulses from the first X-ray pulse, along trains by train id modulo its length; None: irregular.
    """
    laser = pattern.laser
    slots, like = pattern.xrays.usual()
    if laser is None or not len(slots):
        return None
    fires, _ = laser.usual()
    offset = int(slots[0] - fires[0]) if len(fires) else 0
    trains = np.flatnonzero(like & laser.known)
    pumped = laser.at(slots - offset)[trains]
    if not pumped.size:
        return None
    share = float(pumped.mean())
    found: dict[str, Any] = {"offset": offset, "share": share}
    if share in (0.0, 1.0):
        return found | {"along": "pulses", "pattern": [int(share)]}
    by_pulse = pumped.mean(axis=0) > 0.5
    if 0 < by_pulse.mean() < 1 and float((pumped == by_pulse).mean()) >= NEARLY:
        return found | {"along": "pulses", "pattern": _repeating(by_pulse)}
    return found | {"along": "trains", "pattern": _by_train(pumped, train_id[trains].astype(np.int64), share)}


def _repeating(flags: np.ndarray) -> list[int] | None:
    """Return the shortest pattern that makes all flags when repeated; None if that is longer than is written out."""
    for length in range(1, min(LONGEST, len(flags)) + 1):
        if (flags == np.resize(flags[:length], len(flags))).all():
            return flags[:length].astype(int).tolist()
    return None


def _by_train(pumped: np.ndarray, train_id: np.ndarray, share: float) -> list[int] | None:
    """Return the shortest pattern by train id that nearly all X-ray pulses follow."""
    # a few trains would follow any long pattern
    for length in range(1, min(LONGEST, max(len(train_id) // 4, 1)) + 1):
        place = train_id % length
        flags = np.array([pumped[place == k].mean() > 0.5 if (place == k).any() else False for k in range(length)])
        agrees = float((pumped == flags[place][:, None]).mean())
        # what never is pumped agrees with a few pumped pulses too
        if agrees >= max(NEARLY, 1 - share / 2):
            return flags.astype(int).tolist()
    return None


def pulse_text(report: dict[str, Any]) -> list[str]:
    """Return the report of `pulse_report` for a terminal."""
    lines = [f"  X-rays   {_pulses_text(report['xrays'])}"]
    if report["laser"] is None:
        lines.append("  laser    not in the bunch pattern, or sources.bunch_pattern.laser does not say which it is")
    else:
        bit = report["laser"]["bit"]
        lines.append(f"  laser    {f'{bit}: ' if bit else ''}{_pulses_text(report['laser'])}")
    match = report["match"]
    lines.append(f"  frames   {_match_text(match)}; {match['frames_without_xrays']} frames without X-rays")
    if report["pump"] is not None and report["pump"]["share"] > 0:
        lines.append(f"  pump     {_pump_text(report['pump'])}")
    return lines


def _pulses_text(pulses: dict[str, Any]) -> str:
    text = f"{pulses['pulses_per_train']} pulses per train"
    if pulses["pulses_per_train"]:
        text += f", first slot {pulses['first_slot']}"
    if pulses["pulses_per_train"] > 1:
        text += f", step {pulses['step']}" if pulses["step"] else ", steps of several sizes"
    for key in ("trains_with_other_pulses", "trains_without_pulses", "trains_not_recorded"):
        text += f"; {pulses[key]} {key.replace('_', ' ')}" if pulses[key] else ""
    return f"{text} ({pulses['source']})"


def _match_text(match: dict[str, Any]) -> str:
    return {
        "equal": "detector ids = X-ray slots",
        "offset": f"detector ids {'+' if (match['offset'] or 0) >= 0 else '−'} {abs(match['offset'] or 0)} = X-ray slots",
        "order": "the n-th frame is that of the n-th X-ray pulse",
        "no_xrays": "no X-ray pulse to compare with",
        "foreign": "detector ids do not belong to the X-ray slots",
    }[str(match["how"])]


def _pump_text(pump: dict[str, Any]) -> str:
    text = f"laser slot + {pump['offset']} = X-ray slot would pump {pump['share']:.3g} of the X-ray pulses"
    return f"{text}, {_pattern_text(pump)}"


def _pattern_text(pump: dict[str, Any]) -> str:
    pattern: Sequence[int] | None = pump["pattern"]
    if pattern is None:
        return "in no pattern that repeats within 16"
    if pattern == [1]:
        return "all of them" if pump["share"] == 1 else "all but missing shots"
    return f"{', '.join(map(str, pattern))} along {pump['along']}"


def runs_without_laser(found: Iterable[dict[str, Any]]) -> list[int]:
    """Return the runs in which the laser never fires, where the bunch pattern has it in a scan; else none is known."""
    told = [(r, r["pulses"]["pump"]["share"]) for r in found if (r.get("pulses") or {}).get("pump")]
    fires = any(share > 0 and r["kind"] in _SCANS for r, share in told)
    return [r["run"] for r, share in told if fires and share == 0]


def pump_comments(found: Iterable[dict[str, Any]]) -> list[str]:
    """Return comments for a config about the pump, from runs with `run`, `kind` and `pulses` (`pulse_report`)."""
    scans = [r for r in found if r["kind"] in _SCANS]
    pumped = [r for r in scans if ((r.get("pulses") or {}).get("pump") or {"share": 0})["share"] > 0]
    if scans and not pumped:
        return [
            "# no laser in the bunch pattern: all pulses of the scans count as pumped; EDIT if not, as in pump: {pulses: [1, 0]}, "
            "and list scans with the pump off under runs: pump_off_scans: [{run: N}]"
        ]
    lines: list[str] = []
    for text in dict.fromkeys(_pattern_text(r["pulses"]["pump"]) for r in pumped):
        runs = [str(r["run"]) for r in pumped if _pattern_text(r["pulses"]["pump"]) == text]
        lines.append(
            f"# the bunch pattern has the laser in runs {', '.join(runs)}: {text}; `pump: auto` takes it from there"
        )
    return lines
