"""What happens in a run, train by train and pulse by pulse, before any pixel is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.constants import speed_of_light

from pipeline.errors import ConfigError
from pipeline.science import forward
from pipeline.simulate.module import ASICS
from pipeline.simulate.session import RunConditions, plan_session, settings, splitting_od
from schemas.scenario import (
    AbsorptionSpec,
    DarkRun,
    DelayScan,
    EnergyScan,
    EnergyScanning,
    LineSpec,
    PedestalSpec,
    RunSpec,
    Scenario,
)

__all__ = ["RunPlan", "build_model", "plan_run"]

_MM_PER_PS = speed_of_light * 1e-9 / 2.0

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RunPlan:
    """One run. T trains, P frames per train, B beams; true values unless a name ends in `_read`."""

    spec: RunSpec
    conditions: RunConditions
    energy_read: Floats
    """(T) what the monochromator reports [eV]."""
    stage_read: Floats
    """(T) what the delay stage reports [mm]."""
    trigger_read: float | None
    """Electronic delay of the pump [ps]; none: not recorded."""
    pulse_id: NDArray[np.uint64]
    """(P) as the detector counts."""
    xray_slot: NDArray[np.int64]
    """(P) slot of the bunch pattern that belongs to the frame's X-ray pulse."""
    laser_slot: NDArray[np.int64]
    """(P) slot of the bunch pattern that belongs to the frame's laser shot."""
    cell_id: NDArray[np.uint16]
    lit: NDArray[np.bool_]
    """(P) whether an X-ray pulse belongs to the frame."""
    present: NDArray[np.bool_]
    """(T, P) whether the detector recorded the frame."""
    photons: NDArray[np.float32]
    """(T, P, B) mean photons per pixel where the illumination is 1."""
    pump_light: NDArray[np.float32]
    """(T, P) mean stray light of the pump laser [ADU]."""
    pedestal: NDArray[np.float32]
    """(T, P, ASIC) how the pedestals differ from those of the dark run [ADU]; no ASICs where they do not."""
    monitor_read: NDArray[np.float32]
    """(T, P) pulse energy [µJ]."""
    arrival_read: NDArray[np.float32]
    """(T, P) arrival time [fs]."""
    frame_seed: NDArray[np.uint64]
    """(T, P) start of a frame's random numbers."""

    @property
    def train_id(self) -> NDArray[np.uint64]:
        """(T) train ids."""
        return self.conditions.train_id

    @property
    def n_frames(self) -> int:
        """Number of recorded frames."""
        return int(self.present.sum())


def build_model(scenario: Scenario) -> forward.ForwardModel:
    """Return the scenario's forward model."""
    a, k = scenario.absorption, scenario.kinetics
    return forward.ForwardModel(
        **_lines(a),
        edge_position=a.edge_position,
        edge_height=a.edge_height,
        edge_fwhm=a.edge_fwhm,
        background=a.background,
        resolution=a.missing_broadening,
        taus=k.taus,
        amplitudes=k.amplitudes,
        power=k.power,
        t_d=k.t_d,
        irf_sigma=k.irf_sigma,
        reference_delay=k.reference_delay,
        fraction=k.fraction,
        early_shift=k.early_shift,
        settle=k.settle,
    )


def _lines(spec: AbsorptionSpec) -> dict[str, Any]:
    def line(s: LineSpec) -> forward.Line:
        return forward.Line(s.position, s.height, s.fwhm)

    return {
        "ground": line(spec.ground),
        "excited": line(spec.excited),
        "shared": tuple(map(line, spec.shared)),
        "features": tuple(map(line, spec.features)),
    }


def plan_run(scenario: Scenario, index: int, seed: int, session: tuple[RunConditions, ...] | None = None) -> RunPlan:
    """Return the plan of the scenario's run number `index` (position in the list); `session` only saves time."""
    spec = scenario.runs[index]
    conditions = (session or plan_session(scenario, seed))[index]
    machine = scenario.machine
    rng = np.random.default_rng([seed, spec.run, 0x12A])
    energy, delay = settings(spec)
    n_trains, n_pulses = energy.size, machine.pulses_per_train
    shape = (n_trains, n_pulses)
    lit = np.ones(n_pulses, bool)
    lit[list(machine.dark_frames)] = False
    if isinstance(spec, DarkRun):
        lit[:] = False
    intensity = _intensity(scenario, shape, rng)
    arrival = _jitter(scenario, shape, rng)
    trigger = scenario.delay.trigger if spec.trigger is None else spec.trigger
    stage = scenario.delay.t0 + scenario.delay.sign * (delay + (trigger or 0.0)) * _MM_PER_PS
    true_energy = energy - 0.5 * _play(spec, energy)
    transmitted = _transmission(scenario, spec, conditions, true_energy, delay[:, None] + 1e-3 * arrival)
    photons = scenario.beams.photons * (intensity * lit)[..., None] * transmitted
    if scenario.beams.jitter:
        photons = photons * np.maximum(1.0 + scenario.beams.jitter * rng.standard_normal(photons.shape), 0.0)
    light = scenario.light
    seen = 1.0 + light.monitor_slope * (intensity - 1.0) + light.monitor_noise * rng.standard_normal(shape)
    encoder_noise = spec.encoder_noise if isinstance(spec, EnergyScanning) else 0.002
    slots = machine.pulse_id_step * np.arange(n_pulses)
    return RunPlan(
        spec=spec,
        conditions=conditions,
        energy_read=energy + encoder_noise * rng.standard_normal(n_trains),
        stage_read=stage + scenario.delay.encoder_noise * rng.standard_normal(n_trains),
        trigger_read=trigger,
        pulse_id=(machine.first_pulse_id + slots).astype(np.uint64),
        xray_slot=machine.first_slot + slots,
        laser_slot=scenario.laser.first_slot + slots,
        cell_id=(machine.cell_step * np.arange(n_pulses)).astype(np.uint16),
        lit=lit,
        present=_present(spec, shape, rng),
        photons=photons.astype(np.float32),
        pump_light=(scenario.detector.pump_light * conditions.pumped).astype(np.float32),
        pedestal=_pedestal(scenario, conditions, spec.run, seed),
        monitor_read=np.maximum(light.pulse_energy * seen, 1.5).astype(np.float32),
        arrival_read=_arrival_read(scenario, arrival, rng),
        frame_seed=rng.integers(0, 2**64, shape, dtype=np.uint64),
    )


def _arrival_read(scenario: Scenario, arrival: Floats, rng: np.random.Generator) -> NDArray[np.float32]:
    spec = scenario.arrival
    return (arrival + spec.mean + spec.monitor_noise * rng.standard_normal(arrival.shape)).astype(np.float32)


def _pedestal(scenario: Scenario, conditions: RunConditions, run: int, seed: int) -> NDArray[np.float32]:
    shape, pedestal = conditions.pumped.shape, scenario.detector.pedestal
    if pedestal == PedestalSpec():
        return np.zeros((*shape, 0), np.float32)
    common = np.random.default_rng([seed, run, 0xC0]).standard_normal((*shape, ASICS))
    return (conditions.pedestal[:, None] + pedestal.frame * common).astype(np.float32)


def _play(spec: RunSpec, energy: Floats) -> Floats:
    """What the drive's play adds between the two directions, by train: + on the way up, − on the way down [eV]."""
    if not isinstance(spec, EnergyScanning) or spec.backlash == 0.0:
        return np.zeros(energy.size)
    moves = np.sign(np.diff(energy, prepend=energy[:1]))
    # a train at rest keeps the direction of the last move; before the first, that of the first
    last = np.maximum.accumulate(np.where(moves != 0, np.arange(energy.size), 0))
    way = moves[last]
    first = moves[moves != 0]
    return spec.backlash * np.where(way != 0, way, first[0] if first.size else 0.0)


def _intensity(scenario: Scenario, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    light = scenario.light
    train = np.maximum(1.0 + light.train_sigma * rng.standard_normal(shape[0]), 0.1)
    if light.relative_sigma == 0.0:
        return np.broadcast_to(train[:, None], shape).copy()
    modes = light.relative_sigma**-2
    return np.asarray(train[:, None] * rng.gamma(modes, 1.0 / modes, shape))


def _jitter(scenario: Scenario, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    spec = scenario.arrival
    train = spec.train_sigma * rng.standard_normal(shape[0])
    return np.asarray(train[:, None] + spec.pulse_sigma * rng.standard_normal(shape))


def _transmission(
    scenario: Scenario, spec: RunSpec, conditions: RunConditions, energy: Floats, delay: Floats
) -> Floats:
    """Flux times transmission of every beam, (T, P, B)."""
    model = build_model(scenario)
    energies = xr.DataArray(energy, dims="train")
    delays = xr.DataArray(delay, dims=("train", "pulse"))
    unpumped = forward.ground_od(model, energies).broadcast_like(delays).transpose("train", "pulse").values
    pumped = unpumped
    if isinstance(spec, EnergyScan | DelayScan) and spec.fluence > 0.0:
        change = forward.delta_xas(model, energies, delays, fluence=spec.fluence)
        drift = scenario.burst_od * np.linspace(0.0, 1.0, delay.shape[1]) if delay.shape[1] > 1 else 0.0
        excited = unpumped + change.transpose("train", "pulse").values + drift
        pumped = np.where(conditions.pumped, excited, unpumped)
    splitting = splitting_od(scenario, energy) + conditions.drift
    pumped = conditions.film[:, None] * pumped + splitting[:, None]
    od = {"pumped": pumped, "unpumped": unpumped, "reference": np.zeros_like(unpumped)}
    flux = dict(zip(("pumped", "unpumped", "reference"), scenario.beams.flux, strict=True))
    factors = {str(role): factor for role, factor in spec.flux.items()}
    flux = {role: value * factors.get(role, 1.0) for role, value in flux.items()}
    return np.stack([flux[role] * np.exp(-od[role]) for role in scenario.beams.order], axis=-1)


def _present(spec: RunSpec, shape: tuple[int, int], rng: np.random.Generator) -> NDArray[np.bool_]:
    """Take away whole trains and parts of trains: by turns the end and the middle of a partial train."""
    present = np.ones(shape, bool)
    n_trains, n_pulses = shape
    spoiled = spec.missing_trains + spec.partial_trains
    if spoiled and (spoiled > n_trains - 2 or (spec.partial_trains and n_pulses < 4)):
        raise ConfigError(
            f"run {spec.run}: missing_trains + partial_trains is {spoiled}, but the run has {n_trains} trains"
            f" of {n_pulses} frames; ask for at most {max(n_trains - 2, 0)}, with trains of 4 frames or more"
        )
    chosen = rng.choice(np.arange(1, n_trains - 1), spoiled, replace=False) if spoiled else np.empty(0, int)
    present[chosen[: spec.missing_trains]] = False
    for i, train in enumerate(np.sort(chosen[spec.missing_trains :])):
        kept = int(rng.integers(n_pulses // 2, n_pulses - 1))
        start = kept // 2 if i % 2 else kept
        present[train, start : start + n_pulses - kept] = False
    return present
