"""Classify the runs of a raw folder and draft a config from them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.errors import ConfigError, DataError
from pipeline.euxfel.pump_pattern import pulse_report, pump_comments, runs_without_laser
from pipeline.euxfel.reader import Run, open_run
from pipeline.euxfel.run_files import RunFiles, open_files, run_folder, run_numbers
from pipeline.euxfel.samples import frames_by_train, spread_trains
from pipeline.euxfel.sources import guess_detector, guess_slow, lacking
from pipeline.euxfel.survey import moved
from schemas.instrument import ROLES, Instrument, load_instrument
from schemas.near import near
from schemas.reading import assigned, parse_config, parse_sources

__all__ = ["check_folder", "classify", "draft"]


def classify(
    folder: Path, instrument: Instrument, numbers: Sequence[int] | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return kind (dark, flat_field, energy_scan, delay_scan, unknown) of runs in a folder, and source overrides.

    A dark run is one without light; of the lit ones, an energy scan moves the monochromator, a delay scan the stage,
    and a flat field neither. A run that cannot be read is unknown, with the reason. Light is told by comparison, so
    `numbers` (all runs unless given) should hold a dark run.
    """
    opened: dict[int, RunFiles] = {}
    found: list[dict[str, Any]] = []
    for number in run_numbers(folder) if numbers is None else numbers:
        try:
            opened[number] = open_files(run_folder(folder, number))
        except DataError as error:
            found.append({"run": number, "kind": "unknown", "why": str(error)})
    instrument, overrides = _find_slow(instrument, list(opened.values()))
    for number, files in opened.items():
        try:
            there, change = guess_detector(files, instrument)
            run = open_run(files.path, there)
            overrides.update(change)
        except DataError as error:
            found.append({"run": number, "kind": "unknown", "why": str(error)})
            continue
        files.close()
        energy, stage = run.labels["energy"].values, run.labels["delay_stage"].values
        found.append(
            {
                "run": number,
                "image": _mean_image(run),
                "energy_span": _span(energy) / max(_centre(energy), 1.0),
                "stage_span": _span(stage),
                "energy": _centre(energy),
                "stage": _centre(stage),
                "pulses": pulse_report(run),
            }
        )
    found.sort(key=lambda r: r["run"])
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


def _find_slow(instrument: Instrument, runs: list[RunFiles]) -> tuple[Instrument, dict[str, Any]]:
    """Return the instrument with energy and stage of the names that these runs have, where the profile's are not there."""
    overrides: dict[str, Any] = {}
    energy = instrument.energy
    for name, role in (("energy", energy), ("delay_stage", instrument.delay_stage)):
        if not runs or any(not lacking(files, role) for files in runs):
            continue
        wandering = [set(moved(files)) for files in runs]
        if name == "delay_stage":
            # motors of the monochromator move with the energy
            wandering = [names for names in wandering if f"{energy.source} {energy.key}" not in names]
        change = guess_slow(name, role, set[str]().union(*wandering))
        if change is not None:
            overrides[name] = change
            instrument = instrument.with_sources({name: change})
            energy = instrument.energy
    return instrument, overrides


def _span(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.ptp(finite)) if len(finite) else 0.0


def _centre(values: np.ndarray) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if len(finite) else 0.0


def _mean_image(run: Run) -> np.ndarray:
    """Return the mean of frames spread over a run [ADU]."""
    total, n = np.zeros(run.index.frame_shape), 0
    for train in spread_trains(run, 200):
        for _, block, _ in frames_by_train(run, [train]):
            total += block.sum(axis=0, dtype=np.int64)
            n += len(block)
    return total / max(n, 1)


def draft(raw: Path, instrument: str, changes: Iterable[str] = ()) -> tuple[list[dict[str, Any]], str]:
    """Return the kind of every run of a folder, and a config file to edit with what was found as comments.

    Parameters
    ----------
    raw
        Folder of rNNNN runs.
    instrument
        Profile name or file.
    changes
        `key=value` of the config: sources count before the runs are classified, the rest is written as given.

    Raises
    ------
    ConfigError
        Naming the key, or the folder that holds no runs.
    DataError
        If there is no dark run or no scan.
    """
    check_folder(raw)
    try:
        given = assigned({}, changes)
        name = str(given.pop("instrument", instrument))
        profile = load_instrument(name).with_sources(parse_sources(given.get("sources", {})))
    except ValueError as error:
        raise ConfigError(str(error)) from None
    if Path(name).is_file():
        # the config may be written to another folder
        name = str(Path(name).resolve())
    found, overrides = classify(raw, profile)
    sources = {n: o if isinstance(o, str) else o.model_dump(exclude_none=True) for n, o in overrides.items()}
    proposed = {
        "schema": 1,
        "dataset": "my-dataset",
        "raw": str(raw.resolve()),
        "instrument": name,
        **({"sources": sources} if sources else {}),
        "runs": _runs(found),
        "delay": {"t0": "fit" if any(r["kind"] == "delay_scan" for r in found) else round(_stage(found), 4), "sign": 1},
    }
    data = _merged(proposed, given)
    _check_runs(raw, found, data["runs"])
    try:
        parse_config(data)
    except ValueError as error:
        raise ConfigError(str(error)) from None
    return found, _text(data, given, found, _alike(raw, found, profile))


def check_folder(raw: Path) -> None:
    """Raise ConfigError if a folder does not hold runs."""
    if not raw.is_dir():
        raise ConfigError(f"{raw} is not a folder; name the folder that holds the runs (r0001, r0002, …)")
    if not run_numbers(raw):
        inside = " itself is a run; name the folder above it" if list(raw.glob("*.h5")) else " holds no runs (r0001, …)"
        raise ConfigError(f"{raw}{inside}")


def _check_runs(raw: Path, found: list[dict[str, Any]], runs: Any) -> None:
    if not isinstance(runs, dict):
        return
    unread = [f"{r['why']}" for r in found if r["kind"] == "unknown"]
    hint = f"; {len(unread)} cannot be read, e.g. {unread[0]}" if unread else ""
    if "dark" not in runs:
        raise DataError(
            f"{raw}: none of the {len(found)} runs is dark{hint}; add a dark run, or name one with --set runs.dark=N"
        )
    if not runs.get("energy_scans") and not runs.get("delay_scans"):
        raise DataError(
            f"{raw}: no run in which the profile's energy or delay stage moves{hint}; `trxas inspect RUN` lists what moved: "
            "name it with --set sources.energy.source=… sources.energy.key=… (or delay_stage), or in an instrument profile"
        )


def _runs(found: list[dict[str, Any]]) -> dict[str, Any]:
    numbers: dict[str, list[int]] = {}
    for r in found:
        numbers.setdefault(r["kind"], []).append(r["run"])
    runs: dict[str, Any] = {k: numbers[k][-1] for k in ("dark", "flat_field") if k in numbers}
    still = runs_without_laser(found)
    if flats := [n for n in numbers.get("flat_field", []) if n in still]:
        runs["flat_field"] = flats if len(flats) > 1 else flats[0]
    if off := [{"run": n} for n in numbers.get("energy_scan", []) if n in still]:
        runs["pump_off_scans"] = off
    for kind in ("energy_scan", "delay_scan"):
        if scans := [
            {"run": n, "fluence": 1.0} for n in numbers.get(kind, []) if kind == "delay_scan" or n not in still
        ]:
            runs[f"{kind}s"] = scans
    return runs


def _stage(found: list[dict[str, Any]]) -> float:
    """Return where the stage stood: a placeholder for time zero where there is no delay scan to find it from."""
    return next((float(r["stage"]) for r in found if r["kind"] == "energy_scan"), 0.0)


def _merged(base: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """Return nested mappings with those of a change laid over them."""
    both = {
        k: _merged(base[k], v) if isinstance(v, dict) and isinstance(base.get(k), dict) else v
        for k, v in change.items()
    }
    return base | both


def _alike(raw: Path, found: list[dict[str, Any]], instrument: Instrument) -> list[str]:
    """Return what may stand for the roles that a run can do without, where the profile's are not there."""
    scans = [r["run"] for r in found if r["kind"].endswith("_scan")]
    if not scans:
        return []
    files, lines = open_files(run_folder(raw, scans[0])), []
    for name in ROLES:
        role = instrument.role(name)
        if name in ("frames", "energy", "delay_stage") or role is None or not lacking(files, role):
            continue
        alike = near(role.source, files.sources, 1)
        lines.append(
            f"# {name}: no {role.source} in run {scans[0]}, so it is left out"
            + (f'; EDIT if it is this, under sources: {name}: "{alike[0]}"' if alike else "")
        )
    return lines


def _text(data: dict[str, Any], given: dict[str, Any], found: list[dict[str, Any]], notes: list[str]) -> str:
    """Return a config as YAML, with what was found, and what the machine does not record, as comments."""
    lines = ["# Written by `trxas init`. Check every line marked EDIT: the machine does not record it."]
    for key, value in data.items():
        if key == "runs" and isinstance(value, dict):
            lines += ["runs:", *_run_lines(value, given.get("runs", {}), found)]
        elif key == "sources" and isinstance(value, dict):
            lines.append(
                "sources:   # in place of the profile's; EDIT units (unit: …) where they differ from the profile's"
            )
            lines += [f"  {role}: {_flow(change)}" for role, change in value.items()]
        else:
            lines.append(f"{key}: {_flow(value)}{'' if given.get(key) == value else _EDIT.get(key, '')}")
    lines += [*notes, *pump_comments(found)]
    lines += [f"# run {r['run']} is left out: {r['why']}" for r in found if r["kind"] == "unknown"]
    return "\n".join(lines) + "\n"


_EDIT = {
    "dataset": "          # EDIT: names the product",
    "delay": "   # t0: stage reading [mm] at time zero, or fit: from the delay scans (`trxas t0` tells it); EDIT sign: -1 if"
    " larger readings are smaller delays",
}


def _run_lines(runs: dict[str, Any], given: Any, found: list[dict[str, Any]]) -> list[str]:
    notes = {
        r["run"]: f"   # stage at {r['stage']:.4f}" if r["kind"] == "energy_scan" else f"   # at {r['energy']:.2f} eV"
        for r in found
        if r["kind"] in ("energy_scan", "delay_scan")
    }
    lines = []
    for key, value in runs.items():
        own = key in given
        if isinstance(value, list) and all(isinstance(v, dict) for v in value):
            off = key == "pump_off_scans"
            said = "the laser does not fire in these" if off else "EDIT the fluences [mJ/cm²]"
            lines.append(f"  {key}:{'' if own else f'   # {said}'}")
            lines += [f"    - {_flow(v)}{notes.get(v.get('run'), '')}" for v in value]
        else:
            pump = "   # nothing moves; the pump must be off" if key == "flat_field" and not own else ""
            lines.append(f"  {key}: {_flow(value)}{pump}")
    return lines


def _flow(value: Any) -> str:
    """Return a value as YAML in one line."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, sort_keys=False, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")
