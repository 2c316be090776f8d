"""Write one planned run: frames are drawn on threads and written in order, a few blocks at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.simulate._frames_kernel import expose, noise_table, poisson_tables
from pipeline.simulate.exdf_writer import control_file, file_name, module_file
from pipeline.simulate.module import HEIGHT, WIDTH, Module
from pipeline.simulate.timetable import RunPlan
from schemas.scenario import DetectorSpec, Scenario

__all__ = ["BLOCK_FRAMES", "write_run"]

BLOCK_FRAMES = 64
"""Frames drawn at once: 8 MB, enough to hide the calls and little enough to be forgotten."""

_XGM_SLOTS = 1000
_DECODER_SLOTS = 1000
_BUNCH_SLOTS = 2700
_BAM_SLOTS = 7222
_SASE3 = (4 << 18) | (1 << 27)
"""Bunch pattern bits of a pulse to SASE 3: beam dump T4D, deflected photon line."""
_SCS_LASER = 1 << 13
"""Bunch pattern bit of a shot of the pump laser at SCS (`PPL_BITS.LP_SCS` of the package euxfel_bunch_pattern)."""

Progress = Callable[[int], None]


def write_run(
    scenario: Scenario, plan: RunPlan, module: Module, folder: Path, *, workers: int, progress: Progress
) -> None:
    """Write all files of one run into `folder`; `progress` gets the number of frames just written."""
    folder.mkdir(parents=True, exist_ok=True)
    for sequence, trains in enumerate(_sequences(scenario, plan)):
        _write_control(scenario, plan, folder, sequence, trains)
        _write_frames(scenario, plan, module, folder, sequence, trains, workers, progress)


def _sequences(scenario: Scenario, plan: RunPlan) -> Iterator[slice]:
    n = plan.train_id.size
    step = scenario.machine.trains_per_sequence or n
    for start in range(0, n, step):
        yield slice(start, min(start + step, n))


def _write_frames(
    scenario: Scenario,
    plan: RunPlan,
    module: Module,
    folder: Path,
    sequence: int,
    trains: slice,
    workers: int,
    progress: Progress,
) -> None:
    number = scenario.detector.module
    train, pulse = np.nonzero(plan.present[trains])
    train += trains.start
    count = plan.present[trains].sum(axis=1).astype(np.uint64)
    recorded = count > 0
    blocks = [slice(i, min(i + BLOCK_FRAMES, train.size)) for i in range(0, train.size, BLOCK_FRAMES)]
    idle = deque(np.empty((BLOCK_FRAMES, HEIGHT, WIDTH), np.uint16) for _ in range(workers + 2))
    scratch = [np.empty((HEIGHT, WIDTH), np.float32) for _ in idle]
    of_buffer = {id(b): s for b, s in zip(idle, scratch, strict=True)}
    running: deque[tuple[slice, NDArray[np.uint16], Future[None]]] = deque()
    with (
        module_file(
            folder / file_name(plan.spec.run, f"DSSC{number:02d}", sequence),
            run=plan.spec.run,
            sequence=sequence,
            source=scenario.sources.frames.format(module=number),
            train_id=plan.train_id[trains][recorded],
            count=count[recorded],
            pulse_id=plan.pulse_id[pulse],
            cell_id=plan.cell_id[pulse],
            pixels=(HEIGHT, WIDTH),
        ) as writer,
        ThreadPoolExecutor(workers) as pool,
    ):
        todo = iter(blocks)
        while True:
            while idle and (block := next(todo, None)) is not None:
                buffer = idle.popleft()
                where = train[block], pulse[block]
                task = pool.submit(_draw, scenario.detector, plan, module, *where, buffer, of_buffer[id(buffer)])
                running.append((block, buffer, task))
            if not running:
                break
            block, buffer, task = running.popleft()
            task.result()
            n = block.stop - block.start
            writer.write(block.start, buffer[:n])
            idle.append(buffer)
            progress(n)


def _draw(
    spec: DetectorSpec,
    plan: RunPlan,
    module: Module,
    train: NDArray[np.int64],
    pulse: NDArray[np.int64],
    frames: NDArray[np.uint16],
    scratch: NDArray[np.float32],
) -> None:
    cell = plan.cell_id[pulse]
    corners, patches = _stack(module)
    packed, lowest, normal = _tables()
    expose(
        frames[: train.size],
        plan.frame_seed[train, pulse],
        module.cell_level[cell],
        module.cell_slope[cell],
        plan.photons[train, pulse],
        corners,
        patches,
        np.float32(spec.gain),
        np.float32(spec.read_noise),
        np.float32(spec.curvature),
        spec.full_scale,
        np.float32(spec.knee or 0.0),
        np.float32(spec.slope_above_knee),
        module.offset,
        module.offset_slope,
        module.loud,
        module.loud_noise,
        module.dead,
        module.dead_value,
        plan.pedestal[train, pulse],
        plan.pump_light[train, pulse],
        module.pump_light,
        normal,
        packed,
        lowest,
        scratch,
    )


def _stack(module: Module) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    return np.array([b.corner for b in module.beams]), np.stack([b.patch for b in module.beams])


@lru_cache(maxsize=1)
def _tables() -> tuple[NDArray[np.uint32], NDArray[np.int32], NDArray[np.float32]]:
    return *poisson_tables(), noise_table()


def _write_control(scenario: Scenario, plan: RunPlan, folder: Path, sequence: int, trains: slice) -> None:
    names = scenario.sources
    train_id = plan.train_id[trains]
    n, n_lit = train_id.size, int(plan.lit.sum())
    slots = plan.xray_slot[plan.lit]
    ids = np.zeros((n, _DECODER_SLOTS), np.int32)
    ids[:, :n_lit] = slots
    pattern = np.zeros((n, _BUNCH_SLOTS), np.uint32)
    pattern[:, slots] = _SASE3
    monitor = np.ones((n, _XGM_SLOTS), np.float32)
    monitor[:, :n_lit] = plan.monitor_read[trains][:, plan.lit]
    control: dict[str, dict[str, NDArray[Any]]] = {
        names.energy: {names.energy_key: plan.energy_read[trains]},
        names.delay_stage: {names.delay_stage_key: plan.stage_read[trains]},
        names.bunch_pattern: {"sase3.pulseIds": ids, "sase3.nPulses": np.full(n, n_lit, np.int32)},
    }
    if scenario.laser.recorded:
        shots = plan.conditions.pumped[trains]
        train, frame = np.nonzero(shots)
        pattern[train, plan.laser_slot[frame]] |= np.uint32(_SCS_LASER)
        control[names.bunch_pattern] |= _laser_decoded(plan, shots)
    units = {
        f"{names.energy} {names.energy_key}": ("", "eV"),
        f"{names.delay_stage} {names.delay_stage_key}": ("m", "m"),
        f"{names.trigger} {names.trigger_key}": ("p", "s"),
        f"{names.arrival} {names.arrival_key}": ("f", "s"),
        f"{names.intensity} {names.intensity_key}": ("u", "J"),
    }
    if plan.trigger_read is not None:
        control[names.trigger] = {names.trigger_key: np.full(n, plan.trigger_read)}
    instrument: dict[str, dict[str, NDArray[Any]]] = {
        names.intensity: {names.intensity_key: monitor},
        names.timeserver: {"data.bunchPatternTable": pattern},
    }
    if scenario.arrival.recorded and plan.spec.arrival_recorded:
        arrival = np.zeros((n, _BAM_SLOTS), np.float32)
        arrival[:, 2 * slots] = plan.arrival_read[trains][:, plan.lit]
        instrument[names.arrival] = {names.arrival_key: arrival}
    control_file(
        folder / file_name(plan.spec.run, "DA01", sequence),
        run=plan.spec.run,
        sequence=sequence,
        train_id=train_id,
        control=control,
        instrument=instrument,
        units=units,
    )


def _laser_decoded(plan: RunPlan, shots: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
    """Return the slots of the laser's shots in every train, one after the other."""
    ids = np.zeros((shots.shape[0], _DECODER_SLOTS), np.int32)
    count = shots.sum(axis=1)
    ids[np.arange(_DECODER_SLOTS) < count[:, None]] = plan.laser_slot[np.nonzero(shots)[1]]
    return {"laser.pulseIds": ids, "laser.nPulses": count.astype(np.int32)}
