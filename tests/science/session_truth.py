"""Sessions as labelled pulses, without frames: what a scenario of the simulator says, in a fiftieth of the time.

What a detector adds (pedestals, pump light, its response) is left out; the clock is that of the session.
"""

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pipeline.job import Job
from pipeline.science import forward
from pipeline.science.labels.condition import OFF, ON
from pipeline.science.labels.selection import REASONS
from pipeline.science.spectra.pump_off import TRAINS_PER_HOUR
from pipeline.simulate.session import plan_session
from pipeline.simulate.timetable import RunPlan, build_model, plan_run
from schemas.instrument import load_instrument
from schemas.reading import parse_config
from schemas.scenario import DelayScan, EnergyScan, Scenario
from tests.science import mixture_truth

WINDOW = (526.5, 531.0)
STEPS = {"start": 526.6, "stop": 531.0, "step": 0.2}
EVERY_SECOND = {"pulses": [1, 0]}
PIXELS_READ = 0.34
"""Variance of a pixel's reading [photons²]."""


def _energy_scan(run: int, fluence: float, delay: float) -> dict[str, Any]:
    return {"run": run, "kind": "energy_scan", "fluence": fluence, "delay": delay, "energies": [STEPS]}


FLAT = {"kind": "flat_field", "trains": 25, "energy": 528.2}
RUNS: tuple[dict[str, Any], ...] = (
    {"run": 2, **FLAT},
    {"run": 3, "kind": "pump_off_scan", "energies": [STEPS]},
    # neither fluence nor delay rises with time
    _energy_scan(4, 16.0, 4.8),
    _energy_scan(5, 8.0, 4.8),
    _energy_scan(6, 32.0, 4.8),
    _energy_scan(7, 8.0, 0.2),
    _energy_scan(8, 32.0, 4.8),
    _energy_scan(9, 8.0, 4.8),
    {
        "run": 10,
        "kind": "delay_scan",
        "fluence": 8.0,
        "energy": 528.2,
        "trains_per_step": 2,
        "delays": [-1.0, -0.5, {"start": -0.1, "stop": 0.5, "step": 0.05}, 0.6, 0.8, 1.0, 1.5, 2.5, 4.8, 10.0, 30.0],
    },
    {"run": 11, "kind": "pump_off_scan", "energies": [STEPS]},
    {"run": 12, **FLAT},
)
"""A short session: two hours, a quarter of which is spent on what is measured without pump."""


def short_session(*, runs: tuple[dict[str, Any], ...] = RUNS, **sections: Any) -> Scenario:
    """Return a scenario of a short session; sections as in a scenario file, all effects are off unless given."""
    machine = {"pulses_per_train": 32, "gap": 2.5, "time_lapse": 150}
    return Scenario.model_validate({"name": "session", "machine": machine, "runs": runs, **sections})


def job_of(*flat_fields: int, pump_off: tuple[int, ...] = (), **sections: Any) -> Job:
    """Return the job of a short session that knows some of what was measured without pump."""
    scans = [r for r in RUNS if "fluence" in r]
    runs = {
        "dark": 1,
        "flat_field": list(flat_fields),
        "pump_off_scans": [{"run": n} for n in pump_off],
        **{f"{k}s": [{"run": r["run"], "fluence": r["fluence"]} for r in scans if r["kind"] == k] for k in SCANS},
    }
    mixture = {"window": WINDOW, "min_delay": 4.0, "gaussian_fwhm": mixture_truth.GAUSSIAN_FWHM}
    said = {"dataset": "session", "runs": runs, "compute": {"workers": 1}, "peaks": {"window": WINDOW}}
    config = parse_config({**said, "mixture": mixture, "kinetics": {"irf_sigma": 0.04}, **sections})
    nowhere = Path("nowhere")
    return Job(config, nowhere, nowhere, nowhere, load_instrument("scs-dssc-boz"))


SCANS = ("energy_scan", "delay_scan")


def session_pulses(scenario: Scenario, seed: int) -> dict[int, xr.Dataset]:
    """Return the runs of a scenario by number: photons of every pulse, with all labels; the dark run is left out."""
    session, runs = plan_session(scenario, seed), {}
    for i, spec in enumerate(scenario.runs):
        if spec.kind != "dark":
            rng = np.random.default_rng([seed, spec.run, 0x9A7])
            runs[spec.run] = _pulses(scenario, plan_run(scenario, i, seed, session), rng)
    return runs


def film_of(scenario: Scenario, seed: int) -> dict[int, float]:
    """Return the mean thickness of the pumped film over that of the other, by run."""
    planned = zip(scenario.runs, plan_session(scenario, seed), strict=True)
    return {spec.run: float(conditions.film.mean()) for spec, conditions in planned}


def _pulses(scenario: Scenario, plan: RunPlan, rng: np.random.Generator) -> xr.Dataset:
    beams, spec = scenario.beams, plan.spec
    read = PIXELS_READ * beams.width * beams.height
    seen = rng.poisson(plan.photons.astype(float) * beams.width * beams.height) + rng.normal(
        0.0, np.sqrt(read), plan.photons.shape
    )
    shape, dims = plan.present.shape, ("train", "pulse")
    arrival = 1e-3 * (plan.arrival_read.astype(float) - scenario.arrival.mean)
    nominal = np.full(shape[0], spec.delay) if isinstance(spec, EnergyScan) else np.zeros(shape[0])
    if isinstance(spec, DelayScan):
        away = plan.stage_read - scenario.delay.t0
        nominal = scenario.delay.sign * away / 0.149896229 - (plan.trigger_read or 0.0)
    dark = np.broadcast_to(~plan.lit, shape)
    return xr.Dataset(
        {
            "photons": ((*dims, "beam"), seen),
            "photons_stderr": ((*dims, "beam"), np.sqrt(np.maximum(seen, 0.0) + read)),
            "n_saturated": ((*dims, "beam"), np.zeros(seen.shape, np.int32)),
            "dark_frame": (dims, dark),
            "drop_reason": (dims, np.where(dark, REASONS.index("dark"), 0).astype(np.uint8)),
        },
        coords={
            "beam": list(beams.order),
            "train_id": ("train", np.round(1e6 + plan.conditions.hours * TRAINS_PER_HOUR).astype(np.int64)),
            "pulse_id": ("pulse", plan.pulse_id.astype(np.int64)),
            "present": (dims, plan.present),
            "blank": (dims, np.zeros(shape, bool)),
            "energy": ("train", plan.energy_read),
            "delay": (dims, nominal[:, None] + (arrival if scenario.arrival.recorded else 0.0 * arrival)),
            "nominal_delay": ("train", nominal),
            "fluence": float(getattr(spec, "fluence", 0.0)),
            "condition": (dims, np.where(plan.conditions.pumped, ON, OFF).astype(np.uint8)),
        },
    )


def true_difference(scenario: Scenario, energy: np.ndarray, delay: np.ndarray | float, fluence: float) -> np.ndarray:
    """Return ΔXAS of a film of the unpumped one's thickness."""
    at = [xr.DataArray(np.asarray(v, float), dims="bin") for v in np.broadcast_arrays(energy, delay)]
    found: Any = forward.delta_xas(build_model(scenario), *at, fluence=fluence)
    return np.asarray(found.values)
