"""What a simulation writes down about itself: `truth.json`, the DOS files and the run configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml
from numpy.typing import NDArray

from pipeline.science import forward
from pipeline.simulate.module import WIDTH, Module, linear_adu
from pipeline.simulate.session import splitting_od
from pipeline.simulate.timetable import RunPlan, build_model
from schemas.scenario import (
    DarkRun,
    DelayScan,
    EnergyScan,
    EnergyScanning,
    FlatFieldRun,
    PumpOffScan,
    PumpPattern,
    Scenario,
    SourceNames,
    grid_values,
)

__all__ = ["describe_run", "run_config", "truth_of", "write_dos", "write_text"]

_COMMENTS = {
    "delay": "t0 in mm",
    "kinetics": "irf_sigma in ps, as if measured separately",
    "mixture": "the fraction is quoted at the reference delay and still moves below min_delay [ps]; "
    "the DOS files are\n# before broadening: by gaussian_fwhm [eV], and by what a fit has to find",
}
_DOS_STEP, _DOS_MARGIN = 0.02, 12.0
_FINE = 1e-3  # eV between points among which the extrema of the difference are sought
_ROLES = ("frames", "energy", "delay_stage", "trigger", "arrival", "intensity", "bunch_pattern")


def describe_run(scenario: Scenario, plan: RunPlan) -> dict[str, Any]:
    """Return the truth of one run: what is in its files and the noise-free spectra on its own grid."""
    spec = plan.spec
    recorded = plan.present.any(axis=1)
    partial = recorded & ~plan.present.all(axis=1)
    truth: dict[str, Any] = {
        "run": spec.run,
        "kind": spec.kind,
        "n_trains": int(plan.train_id.size),
        "n_trains_recorded": int(recorded.sum()),
        "n_frames": plan.n_frames,
        "first_train_id": int(plan.train_id[0]),
        "last_train_id": int(plan.train_id[-1]),
        "pulse_ids": plan.pulse_id.tolist(),
        "xray_pulse_ids": plan.pulse_id[plan.lit].tolist(),
        "cell_ids": plan.cell_id.tolist(),
        "missing_trains": plan.train_id[~recorded].tolist(),
        "partial_trains": {
            str(plan.train_id[t]): plan.pulse_id[plan.present[t]].tolist() for t in np.flatnonzero(partial)
        },
    } | _conditions(scenario, plan)
    if isinstance(spec, DarkRun):
        return truth
    model = build_model(scenario)
    energies = sorted(grid_values(spec.energies)) if isinstance(spec, EnergyScanning) else [spec.energy]
    truth["splitting_od"] = splitting_od(scenario, np.array(energies)).tolist()
    if isinstance(spec, FlatFieldRun | PumpOffScan):
        od = forward.ground_od(model, xr.DataArray(energies, dims="energy")).values.tolist()
        if isinstance(spec, FlatFieldRun):
            return truth | {"energy": spec.energy, "od": od[0]}
        return truth | {"energies": energies, "od_unpumped": od}
    delays = sorted(grid_values(spec.delays)) if isinstance(spec, DelayScan) else [spec.delay]
    return truth | {"fluence": spec.fluence} | _noise_free(model, energies, delays, spec.fluence)


def _conditions(scenario: Scenario, plan: RunPlan) -> dict[str, Any]:
    """Return what the session did to a run.

    −ln(pumped/unpumped) is film_ratio times the pumped film's optical density
    (ground state, and in pumped frames the difference), minus that of the unpumped film, plus splitting and drift, up
    to the flux of the beams.
    """
    conditions, recorded = plan.conditions, scenario.arrival.recorded and plan.spec.arrival_recorded
    pattern = scenario.pump_in(plan.spec)
    return {
        "hours": conditions.hours.tolist(),
        "pump": None if pattern is None else pattern.model_dump(mode="json"),
        # a row per train, a character per frame
        "pumped": ["".join("1" if shot else "0" for shot in train) for train in conditions.pumped],
        "xray_slots": plan.xray_slot[plan.lit].tolist(),
        "laser_slots": plan.laser_slot[conditions.pumped.any(axis=0)].tolist(),
        "film_ratio": conditions.film.tolist(),
        "ratio_drift_od": conditions.drift.tolist(),
        "pedestal_adu": {"first": conditions.pedestal[0].tolist(), "last": conditions.pedestal[-1].tolist()},
        "arrival_mean": scenario.arrival.mean if recorded else None,
        "trigger": plan.trigger_read,
    }


def _noise_free(
    model: forward.ForwardModel, energies: list[float], delays: list[float], fluence: float
) -> dict[str, Any]:
    energy = xr.DataArray(energies, dims="energy")
    delay = xr.DataArray(delays, dims="delay")
    ground = forward.ground_od(model, energy)
    change = forward.delta_xas(model, energy, delay, fluence=fluence).transpose("delay", "energy")
    alpha = forward.excited_fraction(model, delay, fluence=fluence).values
    shift = forward.line_shift(model, delay).values
    a, b = model.excited, model.ground
    return {
        "energies": energies,
        "delays": delays,
        "alpha": alpha.tolist(),
        "amplitudes": list(forward.scaled_amplitudes(model, fluence)),
        "od_unpumped": ground.values.tolist(),
        "delta_xas": change.values.tolist(),
        "extrema": _extrema(model, energies, delay, fluence),
        "peaks": {
            "A": {
                "position": (a.position + shift).tolist(),
                "amplitude": (alpha * a.height).tolist(),
                "fwhm": [a.fwhm] * len(delays),
            },
            "B": {
                "position": [b.position] * len(delays),
                "amplitude": (-alpha * b.height).tolist(),
                "fwhm": [b.fwhm] * len(delays),
            },
        },
    }


def _extrema(
    model: forward.ForwardModel, energies: list[float], delay: xr.DataArray, fluence: float
) -> dict[str, list[float]] | None:
    """Return where ΔXAS is largest (A) and smallest (B) at every delay; None for a scan of one energy."""
    if len(energies) < 2:
        return None
    fine = np.arange(min(energies), max(energies), _FINE)
    change = forward.delta_xas(model, xr.DataArray(fine, dims="energy"), delay, fluence=fluence)
    values = change.transpose("delay", "energy").values
    return {"A": fine[values.argmax(axis=1)].tolist(), "B": fine[values.argmin(axis=1)].tolist()}


def truth_of(scenario: Scenario, seed: int, module: Module, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return everything that was put into a simulation."""
    spec = scenario.detector
    model = build_model(scenario)
    k = scenario.kinetics
    fluences = sorted({r["fluence"] for r in runs if r.get("fluence", 0.0) > 0.0})
    reference = xr.DataArray(k.reference_delay)
    return {
        "scenario": scenario.model_dump(mode="json"),
        "seed": seed,
        "units": {"energy": "eV", "delay": "ps", "fluence": "mJ/cm2", "delta_xas": "1", "gain": "ADU/photon"}
        | {"hours": "h", "arrival_mean": "fs", "trigger": "ps"},
        "detector": {
            "module": spec.module,
            "gain": spec.gain,
            "read_noise": spec.read_noise,
            "curvature": spec.curvature,
            "full_scale": spec.full_scale,
            "nonlinearity": {
                "adu": list(range(spec.full_scale + 1)),
                "linear_adu": linear_adu(spec).tolist(),
            },
            "cell_level": module.cell_level.tolist(),
            "pump_light": spec.pump_light,
            "bad_pixels": {
                "dead": _pixels(module.dead),
                "hot": _pixels(module.hot),
                "noisy": _pixels(module.noisy),
            },
        },
        "beams": [
            {
                "role": b.role,
                "region": list(b.region),
                "flux": b.flux,
                "photons_per_pulse": float(scenario.beams.photons * b.flux * b.patch.sum(dtype=float)),
            }
            for b in module.beams
        ],
        "kinetics": {
            "taus": list(k.taus),
            "t_d": k.t_d,
            "irf_sigma": k.irf_sigma,
            "power": k.power,
            "fluences": fluences,
            "amplitudes": [list(forward.scaled_amplitudes(model, f)) for f in fluences],
        },
        "mixture": {
            "delay": k.reference_delay,
            "fluences": fluences,
            "alpha": [float(forward.excited_fraction(model, reference, fluence=f)) for f in fluences],
            "ground": {"position": model.ground.position, "fwhm": model.ground.fwhm},
            "gaussian_fwhm": scenario.absorption.resolution,
            "extra_fwhm": scenario.absorption.extra_broadening,
            "excited": {"position": model.excited.position, "fwhm": model.excited.fwhm},
        },
        "runs": runs,
    }


def _pixels(flat: NDArray[np.int64]) -> list[list[int]]:
    """Flat pixel numbers as [y, x]."""
    return [[int(p) // WIDTH, int(p) % WIDTH] for p in np.sort(flat)]


def write_dos(scenario: Scenario, out: Path) -> None:
    """Write the two states' spectra before broadening, columns energy_eV and dos."""
    model = forward.without_resolution(build_model(scenario))
    lines = [model.ground, model.excited, *model.shared, *model.features]
    low = min(line.position for line in lines) - _DOS_MARGIN
    high = max(line.position for line in lines) + _DOS_MARGIN
    grid = np.round(np.arange(np.floor(low), np.ceil(high) + _DOS_STEP / 2, _DOS_STEP), 6)
    energy = xr.DataArray(grid, dims="energy")
    for state, od in {
        "ground": forward.ground_od(model, energy),
        "excited": forward.excited_od(model, energy),
    }.items():
        rows = "".join(f"{e:.2f} {d:.9f}\n" for e, d in zip(grid, od.values, strict=True))
        write_text(out / f"dos_{state}.txt", "energy_eV dos\n" + rows)


def run_config(scenario: Scenario) -> str:
    """Return the text of the run configuration that processes the simulation."""
    config: dict[str, Any] = {
        "schema": 1,
        "dataset": scenario.name,
        "raw": "raw",
        "instrument": "scs-dssc-boz",
        "sources": _overrides(scenario),
        "runs": _runs_section(scenario),
        "delay": _delay_section(scenario),
        "detector": {"saturation": scenario.detector.full_scale},
        "kinetics": {
            "power": scenario.kinetics.power,
            "irf_sigma": scenario.kinetics.irf_sigma,
            "t_d": "fit",
        },
        "mixture": {
            "dos_ground": "dos_ground.txt",
            "dos_excited": "dos_excited.txt",
            "gaussian_fwhm": scenario.absorption.resolution,
        },
    }
    if isinstance(scenario.pump, PumpPattern) and not scenario.laser.recorded:
        config["pump"] = scenario.pump.model_dump(mode="json", exclude_defaults=True)
    if len(scenario.beams.order) == 2:
        # without a reference beam the data do not tell which one is pumped
        config["beams"] = {"count": 2, "order": list(scenario.beams.order)}
    for section, values in scenario.process.items():
        config[section] = config.get(section, {}) | values
    text = f"# {scenario.title or scenario.name}: simulated; the numbers that went in are in truth.json\n"
    for section, value in config.items():
        text += f"# {_COMMENTS[section]}\n" if section in _COMMENTS else ""
        # flow style is for the innermost mappings; a scalar section would get braces
        flow = None if isinstance(value, dict) else False
        text += yaml.safe_dump(
            {section: value}, sort_keys=False, default_flow_style=flow, width=110, allow_unicode=True
        )
    return text


def _delay_section(scenario: Scenario) -> dict[str, Any]:
    """Where time zero is: at the scenario's t0 if both monitors read zero, and whatever the mean of one that has a mean."""
    references = dict.fromkeys(("trigger_reference", "arrival_reference"), 0.0)
    if scenario.arrival.mean:
        references.pop("arrival_reference")
    return {"t0": scenario.delay.t0, "sign": scenario.delay.sign, **references}


def _runs_section(scenario: Scenario) -> dict[str, Any]:
    """Which run is what; what a scenario does not have is left out."""
    flat_fields = [r.run for r in scenario.runs if r.kind == "flat_field"]
    pump_off = [{"run": r.run} for r in scenario.runs if r.kind == "pump_off_scan"]
    section: dict[str, Any] = {r.kind: r.run for r in scenario.runs if r.kind == "dark"}
    if flat_fields:
        section["flat_field"] = flat_fields[0] if len(flat_fields) == 1 else flat_fields
    if pump_off:
        section["pump_off_scans"] = pump_off
    for kind in ("energy_scan", "delay_scan"):
        scans = [r for r in scenario.runs if isinstance(r, EnergyScan | DelayScan) and r.kind == kind]
        if scans:
            section[f"{kind}s"] = [{"run": s.run, "fluence": s.fluence} for s in scans]
    return section


def _overrides(scenario: Scenario) -> dict[str, dict[str, Any]]:
    """What deviates from the instrument profile, by role."""
    named, usual = scenario.sources.model_dump(), SourceNames().model_dump()
    overrides: dict[str, dict[str, Any]] = {}
    for role in _ROLES:
        change = {}
        if named[role] != usual[role]:
            change["source"] = named[role]
        if named.get(f"{role}_key") != usual.get(f"{role}_key"):
            change["key"] = named[f"{role}_key"]
        if role == "frames" and scenario.detector.module != 15:
            change["module"] = scenario.detector.module
        if change:
            overrides[role] = change
    return overrides


def write_text(path: Path, content: str | dict[str, Any]) -> None:
    """Write text, or a mapping as JSON with numbers rounded to 12 digits."""
    if isinstance(content, dict):
        content = json.dumps(content, indent=1, allow_nan=False) + "\n"
    path.write_text(content, encoding="utf-8")
