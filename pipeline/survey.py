"""What is in raw runs: the audit of one run, and the classification of a folder of runs into a config to edit."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.ingest import dark_blocks, spread_trains
from pipeline.io.euxfel import Run, open_run
from pipeline.io.exdf import RunFiles, open_files, run_folder, run_numbers
from schemas.instrument import Instrument, RoleOverride

__all__ = ["classify", "config_text", "inspect_run", "inspect_text"]


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
    }
    try:
        run = open_run(path, guess_sources(files, instrument)[0])
    except DataError as error:
        return report | {"detector": None, "audit": [*files.problems, str(error)], "counts": {}, "moved": _moved(files)}
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
        "moved": _moved(files),
        "counts": run.counts,
        "audit": run.audit,
    }


def guess_sources(files: RunFiles, instrument: Instrument) -> tuple[Instrument, dict[str, RoleOverride | str | None]]:
    """Return the instrument with the detector source that the run really holds, where there is only one to choose."""
    head = instrument.frames.source.split("{module}")[0]
    if any(s.startswith(head) for s in files.sources):
        return instrument, {}
    detectors = sorted(s for s in files.sources if s.endswith(":xtdf"))
    if len(detectors) != 1:
        return instrument, {}
    change: dict[str, RoleOverride | str | None] = {"frames": detectors[0]}
    return instrument.with_sources(change), change


def _moved(files: RunFiles) -> dict[str, dict[str, float]]:
    """Return range and steps of the slow values that changed more than their jitter between neighbouring trains."""
    moved = {}
    for file in files.files[:1] if len(files.files) == 1 else files.files:
        for source in sorted(file.control_sources):
            for key in sorted(k for k in file.get_keys(source) if k.endswith(".value")):
                name = f"{source} {key.removesuffix('.value')}"
                if name in moved:
                    continue
                found = files.values(source, key)
                if (
                    found is None
                    or found.values.ndim != 1
                    or len(found.values) < 8
                    or found.values.dtype.kind not in "if"
                ):
                    continue
                values = found.values.astype(np.float64)
                if _wanders(values):
                    moved[name] = {"from": float(values.min()), "to": float(values.max())}
    return moved


def _wanders(values: np.ndarray) -> bool:
    """Return whether neighbours in time are much closer than values at large (von Neumann's ratio; 1 for jitter)."""
    variance = float(np.var(values))
    if variance <= (1e-9 * float(np.abs(values).max())) ** 2:
        return False
    return float(np.mean(np.diff(values) ** 2)) < 0.5 * 2 * variance


def _mean_image(run: Run) -> np.ndarray:
    """Return the mean of frames spread over a run [ADU]."""
    total, n = np.zeros(run.index.frame_shape), 0
    for train in spread_trains(run, 200):
        for _, block, _ in dark_blocks(run, [train]):
            total += block.sum(axis=0, dtype=np.int64)
            n += len(block)
    return total / max(n, 1)


def inspect_text(report: dict[str, Any]) -> str:
    """Return the report of `inspect_run` for a terminal."""
    lines = [f"run {report['run']}: {report['files']} files, {report['trains']} trains"]
    detector = report["detector"]
    if detector is not None:
        lines.append(
            f"  detector {detector['source']}: {detector['frames']} frames in {detector['trains']} trains of up to "
            f"{detector['pulses_per_train']} pulses, {detector['bytes'] / 1e9:.2f} GB"
        )
    lines += [f"  moved    {name}: {r['from']:.6g} … {r['to']:.6g}" for name, r in report["moved"].items()]
    if not report["moved"]:
        lines.append("  nothing moved")
    lines += [f"  ! {text}" for text in report["audit"]] or ["  audit: nothing irregular"]
    return "\n".join(lines)


def classify(
    folder: Path, instrument: Instrument, numbers: Sequence[int] | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return kind (dark, flat_field, energy_scan, delay_scan, unknown) of runs in a folder, and source overrides.

    A dark run is one without light; of the lit ones, an energy scan moves the monochromator, a delay scan the stage,
    and a flat field neither. A run that cannot be read is unknown, with the reason. Light is told by comparison, so
    `numbers` (all runs unless given) should hold a dark run.
    """
    found: list[dict[str, Any]] = []
    overrides: dict[str, Any] = {}
    for number in run_numbers(folder) if numbers is None else numbers:
        try:
            files = open_files(run_folder(folder, number))
            there, change = guess_sources(files, instrument)
            run = open_run(run_folder(folder, number), there)
            overrides.update(change)
        except DataError as error:
            found.append({"run": number, "kind": "unknown", "why": str(error)})
            continue
        energy, stage = run.labels["energy"].values, run.labels["delay_stage"].values
        found.append(
            {
                "run": number,
                "image": _mean_image(run),
                "energy_span": _span(energy) / max(_centre(energy), 1.0),
                "stage_span": _span(stage),
                "energy": _centre(energy),
                "stage": _centre(stage),
            }
        )
    readable = [r for r in found if "image" in r]
    if not readable:
        return found, overrides
    # pedestals differ between pixels by more than weak light: compare with the run that has least
    dimmest = min((r["image"] for r in readable), key=lambda image: float(image.mean()))
    for r in readable:
        image = r.pop("image")
        r["light"] = float(np.percentile(image - dimmest, 90)) if image.shape == dimmest.shape else np.inf
    brightest = max(r["light"] for r in readable)
    for r in readable:
        if r["light"] < 0.1 * brightest:
            r["kind"] = "dark"
        elif r["energy_span"] > 5e-4:
            r["kind"] = "energy_scan"
        else:
            r["kind"] = "delay_scan" if r["stage_span"] > 5e-3 else "flat_field"
    return found, overrides


def _span(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.ptp(finite)) if len(finite) else 0.0


def _centre(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else 0.0


def config_text(raw: Path, found: list[dict[str, Any]], overrides: dict[str, Any], *, instrument: str) -> str:
    """Return a config file to edit, with what was found as comments.

    Raises
    ------
    DataError
        If there is no dark run or no scan.
    """
    runs: dict[str, list[dict[str, Any]]] = {}
    for r in found:
        runs.setdefault(r["kind"], []).append(r)
    if "dark" not in runs:
        raise DataError(f"{raw}: none of the {len(found)} runs is dark; add a dark run")
    if not runs.get("energy_scan") and not runs.get("delay_scan"):
        raise DataError(
            f"{raw}: no run in which the profile's energy or delay stage moves; `trxas inspect RUN` lists what moved: "
            "name it in an instrument profile (--instrument FILE, see docs/how-to/instrument-profile.md)"
        )
    lines = [
        "# Written by `trxas init`. Check every line marked EDIT: the machine does not record it.",
        "schema: 1",
        "dataset: my-dataset          # EDIT: names the product",
        f"raw: {raw}",
        f"instrument: {instrument}",
    ]
    if overrides:
        lines += ["sources:", *(f'  {role}: {{source: "{source}"}}' for role, source in overrides.items())]
    lines += ["runs:", f"  dark: {runs['dark'][-1]['run']}"]
    if "flat_field" in runs:
        lines.append(f"  flat_field: {runs['flat_field'][-1]['run']}   # nothing moves; the pump must be off")
    for kind, key in (("energy_scan", "energy_scans"), ("delay_scan", "delay_scans")):
        if runs.get(kind):
            lines.append(f"  {key}:   # EDIT the fluences [mJ/cm²]")
        for r in runs.get(kind, []):
            note = f"stage at {r['stage']:.4f}" if kind == "energy_scan" else f"at {r['energy']:.2f} eV"
            lines.append(f"    - {{run: {r['run']}, fluence: 1.0}}   # {note}")
    lines += [f"  # run {r['run']} is left out: {r['why']}" for r in runs.get("unknown", [])]
    stage = next((r["stage"] for r in [*runs.get("delay_scan", []), *runs.get("energy_scan", [])]), 0.0)
    edit = "# EDIT t0: stage reading [mm] at time zero; sign: -1 if larger readings are smaller delays"
    lines += [f"delay: {{t0: {stage:.4f}, sign: 1}}   {edit}"]
    return "\n".join(lines) + "\n"
