"""What passes through a session from run to run: the clock, the pump laser's shots, drift, wear, pedestals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.simulate.module import ASICS
from schemas.scenario import (
    DarkRun,
    DelayScan,
    EnergyScan,
    EnergyScanning,
    FlatFieldRun,
    RunSpec,
    Scenario,
    grid_values,
)

__all__ = ["RunConditions", "plan_session", "settings", "splitting_od"]

_TRAINS_PER_SECOND = 10.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RunConditions:
    """One run's part of the session: T trains, P frames per train."""

    train_id: NDArray[np.uint64]
    hours: Floats
    """(T) time since the first train of the session."""
    pumped: NDArray[np.bool_]
    """(T, P) whether the pump laser reaches the frame."""
    drift: Floats
    """(T) what time has added to −ln(pumped/unpumped) [OD]."""
    film: Floats
    """(T) thickness of the pumped film relative to the unpumped one."""
    pedestal: Floats
    """(T, ASIC) how the pedestals differ from those of the dark run [ADU]; noise of single frames comes on top."""


def plan_session(scenario: Scenario, seed: int) -> tuple[RunConditions, ...]:
    """Return the conditions of every run, in order."""
    machine = scenario.machine
    trains, first = [], machine.first_train
    for i, spec in enumerate(scenario.runs):
        gap = machine.gap if spec.gap is None else spec.gap
        first += round(gap * _TRAINS_PER_SECOND) if i else 0
        trains.append(np.arange(first, first + settings(spec)[0].size, dtype=np.uint64))
        first += trains[-1].size
    hour = 3600.0 * _TRAINS_PER_SECOND / machine.time_lapse
    hours = [(ids - np.uint64(machine.first_train)).astype(float) / hour for ids in trains]
    pumped = [_shots(scenario, spec, ids, seed) for spec, ids in zip(scenario.runs, trains, strict=True)]
    pedestals = [_pedestal(scenario, spec, ids.size, seed) for spec, ids in zip(scenario.runs, trains, strict=True)]
    columns = (trains, hours, pumped, _drift(scenario, hours, seed), _film(scenario, pumped), pedestals)
    return tuple(RunConditions(*run) for run in zip(*columns, strict=True))


def settings(spec: RunSpec) -> tuple[Floats, Floats]:
    """Return photon energy [eV] and nominal delay [ps] of every train of a run."""
    if isinstance(spec, DarkRun):
        return np.full(spec.trains, 530.0), np.zeros(spec.trains)
    if isinstance(spec, FlatFieldRun):
        return np.full(spec.trains, spec.energy), np.zeros(spec.trains)
    if isinstance(spec, DelayScan):
        delays = np.repeat(grid_values(spec.delays), spec.trains_per_step)
        return np.full(delays.size, spec.energy), delays
    energies = _energies(spec)
    return energies, np.full(energies.size, spec.delay)


def _energies(spec: EnergyScanning) -> Floats:
    energies = np.array(grid_values(spec.energies))
    n_trains = energies.size * spec.trains_per_step
    if not spec.sweep:
        return np.repeat(energies, spec.trains_per_step)
    phase = (np.arange(n_trains) + 0.5) / n_trains * spec.sweep
    ramp = 1.0 - np.abs(phase % 2.0 - 1.0)
    return np.asarray(energies.min() + (energies.max() - energies.min()) * ramp)


def _shots(scenario: Scenario, spec: RunSpec, train_id: NDArray[np.uint64], seed: int) -> NDArray[np.bool_]:
    pattern, laser = scenario.pump_in(spec), scenario.laser
    shape = train_id.size, scenario.machine.pulses_per_train
    if pattern is None:
        return np.zeros(shape, bool)
    pulses = np.resize(np.array(pattern.pulses, bool), shape[1])
    trains = np.array(pattern.trains, bool)[(train_id % np.uint64(len(pattern.trains))).astype(int)]
    rng = np.random.default_rng([seed, spec.run, 0x1A5])
    comes = (rng.random(shape) >= laser.missing_shots) & (rng.random((shape[0], 1)) >= laser.missing_trains)
    return np.asarray(trains[:, None] & pulses & comes)


def _drift(scenario: Scenario, hours: list[Floats], seed: int) -> list[Floats]:
    spec = scenario.splitting
    time = np.concatenate(hours)
    steps = np.random.default_rng([seed, 0x3A7]).standard_normal(time.size) * np.sqrt(np.diff(time, prepend=0.0))
    drift = spec.drift * time + spec.walk * np.cumsum(steps)
    return np.split(drift, np.cumsum([h.size for h in hours])[:-1])


def _film(scenario: Scenario, pumped: list[NDArray[np.bool_]]) -> list[Floats]:
    """Thickness at the start of every train; a run wears the film pulse by pumped pulse."""
    spec, lost, films = scenario.films, 0.0, []
    for run, shots in zip(scenario.runs, pumped, strict=True):
        fluence = run.fluence if isinstance(run, EnergyScan | DelayScan) else 0.0
        so_far = np.cumsum(shots.sum(axis=1))
        total = int(so_far[-1])
        per_pulse = 1e-3 * spec.wear_per_dose * fluence + (spec.wear_per_run / total if fluence and total else 0.0)
        films.append(spec.thickness * np.maximum(1.0 - lost - per_pulse * np.concatenate([[0], so_far[:-1]]), 0.0))
        lost += per_pulse * total
    return films


def splitting_od(scenario: Scenario, energy: Floats) -> Floats:
    """Return what the splitting ratio adds to −ln(pumped/unpumped) at `energy` [eV], c(E) without drift [OD]."""
    spec = scenario.splitting
    away = energy - spec.energy
    wave = np.sin(2.0 * np.pi * away / spec.wiggle_period)
    return np.asarray(spec.slope * away + spec.curvature * away**2 + spec.wiggle * wave)


def _pedestal(scenario: Scenario, spec: RunSpec, n_trains: int, seed: int) -> Floats:
    pedestal = scenario.detector.pedestal
    if isinstance(spec, DarkRun):
        return np.zeros((n_trains, ASICS))
    rng = np.random.default_rng([seed, spec.run, 0x9ED])
    shift = pedestal.mean + pedestal.sigma * rng.standard_normal(ASICS)
    change = pedestal.in_run * rng.standard_normal(ASICS)
    return np.asarray(shift + change * np.linspace(-0.5, 0.5, n_trains)[:, None])
