"""Survey of a raw run: its sources, moving values and faults."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.euxfel.pump_pattern import pulse_report, pulse_text
from pipeline.euxfel.reader import open_run
from pipeline.euxfel.run_files import RunFiles, open_files
from pipeline.euxfel.sources import guess_detector, lacking
from schemas.instrument import ROLES, Instrument

__all__ = ["inspect_run", "inspect_text", "moved"]

LISTED = 8
"""Keys of a source that the text names; JSON has all."""


def inspect_run(path: Path, instrument: Instrument) -> dict[str, Any]:
    """Return what is in a run, what moved, and what is wrong with it; JSON-able.

    Raises
    ------
    DataError
        If nothing in the folder can be read.
    """
    files = open_files(path)
    report: dict[str, Any] = {
        "run": files.run,
        "path": str(path),
        "files": len(files.files),
        "trains": len(files.train_ids()),
        "sources": sorted(files.sources),
        "keys": {s: files.keys(s) for s in sorted(files.sources)},
        "control": sorted(set().union(*(f.control_sources for f in files.files))),
        "roles": _roles(files, instrument),
    }
    try:
        run = open_run(path, guess_detector(files, instrument)[0])
    except DataError as error:
        return report | {
            "detector": None,
            "pulses": None,
            "audit": [*files.problems, str(error)],
            "counts": {},
            "moved": moved(files),
        }
    index = run.index
    return report | {
        "detector": {
            "source": index.source,
            "module": index.module,
            "trains": len(index.train_id),
            "pulses_per_train": len(index.pulse_id),
            "frames": int(index.present.sum()),
            "bytes": int(index.present.sum()) * index.frame_bytes,
        },
        "pulses": pulse_report(run),
        "moved": moved(files),
        "counts": run.counts,
        "audit": run.audit,
    }


def _roles(files: RunFiles, instrument: Instrument) -> dict[str, dict[str, str]]:
    """Return where the profile looks for each role, and what the run lacks of it; the detector is told apart."""
    roles = {n: role for n in ROLES if n != "frames" and (role := instrument.role(n)) is not None}
    return {n: {"source": r.source, "key": r.key, "lacks": lacking(files, r)} for n, r in roles.items()}


def moved(files: RunFiles) -> dict[str, dict[str, float]]:
    """Return range and steps of the slow values that changed more than their jitter between neighbouring trains."""
    moved = {}
    for source in sorted(frozenset().union(*(f.control_sources for f in files.files))):
        for key in files.keys(source):
            found = files.values(source, key)
            if found is None or found.values.ndim != 1 or found.values.dtype.kind not in "if":
                continue
            values = found.values.astype(np.float64)
            values = values[np.isfinite(values)]
            if len(values) >= 8 and _wanders(values):
                moved[f"{source} {key}"] = {"from": float(values.min()), "to": float(values.max())}
    return moved


def _wanders(values: np.ndarray) -> bool:
    """Return whether neighbours in time are much closer than values at large (von Neumann's ratio; 1 for jitter)."""
    largest = float(np.abs(values).max())
    # squares of what a broken device tells may be beyond all numbers
    scaled = values / largest if largest else values
    variance = float(np.var(scaled))
    if variance <= 1e-18:
        return False
    return float(np.mean(np.diff(scaled) ** 2)) < 0.5 * 2 * variance


def inspect_text(report: dict[str, Any]) -> str:
    """Return the report of `inspect_run` for a terminal."""
    lines = [f"run {report['run']}: {report['files']} files, {report['trains']} trains"]
    detector = report["detector"]
    if detector is not None:
        lines.append(
            f"  detector {detector['source']}: {detector['frames']} frames in {detector['trains']} trains of up to "
            f"{detector['pulses_per_train']} pulses, {detector['bytes'] / 1e9:.2f} GB"
        )
    for name, role in report["roles"].items():
        lines.append(f"  {name:13s} {role['lacks'] or role['source'] + ' ' + role['key']}")
    lines += pulse_text(report["pulses"]) if report["pulses"] is not None else []
    lines += [f"  moved    {name}: {r['from']:.6g} … {r['to']:.6g}" for name, r in report["moved"].items()]
    if not report["moved"]:
        lines.append("  nothing moved")
    lines += [f"  ! {text}" for text in report["audit"]] or ["  audit: nothing irregular"]
    lines.append("  sources, with the keys of each and the shape of one entry:")
    for source, keys in report["keys"].items():
        kind = "control   " if source in report["control"] else "instrument"
        shown = [key + (f" {list(shape)}" if shape else "") for key, shape in list(keys.items())[:LISTED]]
        more = f", and {len(keys) - LISTED} more (--json)" if len(keys) > LISTED else ""
        lines.append(f"    {kind} {source}: {', '.join(shown) or 'no keys'}{more}")
    return "\n".join(lines)
