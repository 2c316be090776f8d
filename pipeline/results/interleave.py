"""What to interleave in a session, so that films, splitting, drift and wear cannot look like physics: for `trxas plan`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from pipeline.results.wording import finite_or_none
from pipeline.science.quality.session_design import FEWEST, MATTERS, ORDERED, rank_correlation
from pipeline.science.spectra.reference import EARLY
from schemas.config import Config
from schemas.strict import grid_values

__all__ = ["interleave_lines", "interleave_of_config", "interleave_of_product"]

USUAL_DENSITY = 0.5
"""Optical density that is assumed before there are data."""
EARLY_POINTS = 4
"""Delays before time zero that tell an offset of a few tenths of a mOD."""


def interleave_of_config(config: Config) -> dict[str, Any]:
    """Return what to interleave, from the `plan` section and the runs of a config, as plain data."""
    plan = config.plan
    stderr = plan.noise_ratio * np.sqrt(2.0 / plan.photons / (plan.trains * plan.pulses_per_train))
    return _plan(config, plan.signal, stderr, USUAL_DENSITY, grid_values(plan.delays), [])


def interleave_of_product(tree: xr.DataTree, config: Config) -> dict[str, Any]:
    """Return what to interleave, from the delay scans of a product, as plain data."""
    scan = tree["delay_scan"].to_dataset().load()
    there = scan["n_pulses"].transpose("scan", "delay").values > 0
    signal, stderr = float(np.abs(scan["delta_xas"]).max()), float(scan["delta_xas_stderr"].median())
    densities = [tree[n].to_dataset()["od_unpumped"].values.ravel() for n in ("spectra", "delay_scan")]
    density = finite_or_none(np.nanmax(np.concatenate(densities), initial=-np.inf))
    fewest = min((scan["delay"].values[row] for row in there), key=lambda t: int((t < EARLY).sum()))
    names = set(scan["reference"].transpose("scan", "delay").values[there].tolist()) if "reference" in scan else set()
    return _plan(config, signal, stderr, USUAL_DENSITY if density is None else density, fewest, sorted(names))


def _plan(
    config: Config, signal: float, stderr: float, density: float, delays: Sequence[float], references: list[str]
) -> dict[str, Any]:
    order = [s.fluence for s in sorted(config.runs.energy_scans, key=lambda s: s.run)]
    usual = config.usual
    wear = usual.wear * density
    return {
        "signal": signal,
        "stderr": stderr,
        "stderr_every_second": float(np.sqrt(2.0) * stderr),
        "films": usual.films * density,
        "splitting_per_ev": usual.splitting,
        "drift_per_hour": usual.drift,
        "wear_per_run": wear,
        "density": density,
        "in_run": references == ["in_run"],
        "runs_between_pump_off_scans": max(1, int(MATTERS * signal / wear)) if wear > 0 else None,
        "fluences": order,
        "fluences_with_time": len(order) >= FEWEST and abs(rank_correlation(order, range(len(order)))) >= ORDERED,
        "better_fluences": _to_and_fro(sorted(set(order))),
        "early_delays": int((np.asarray(delays) < EARLY).sum()),
    }


def _to_and_fro(levels: list[float]) -> list[float]:
    """Return rising levels in an order that is none in time: lowest, highest, second lowest, …, and the first again."""
    order = [levels[k // 2] if k % 2 == 0 else levels[-1 - k // 2] for k in range(len(levels))]
    return [*order, *order[:1]] if len(order) > 1 else order


def interleave_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Return what to interleave for a terminal."""
    names = ("signal", "stderr", "stderr_every_second", "films", "splitting_per_ev", "drift_per_hour", "wear_per_run")
    signal, one, two, films, splitting, drift, wear = (f"{1e3 * found[n]:.2g}" for n in names)
    yield f"What to interleave (signal {signal} mOD, error of a delay {one} mOD)"
    yield f"  without it   films {films} mOD, splitting {splitting} mOD per eV, drift {drift} mOD per hour, wear {wear} mOD per run with pump"
    yield f"               (usual sizes at an optical density of {found['density']:.2g})"
    if found["in_run"]:
        yield "  pump         pulses without pump are in the runs: nothing of this stays. Keep it so"
    else:
        yield f"  pump         on every second pulse: all of this cancels; error {two} mOD for as many pumped pulses (√2)"
        runs = found["runs_between_pump_off_scans"]
        often = (
            "at the beginning and the end" if runs is None else f"before the first run and after every {_runs(runs)}"
        )
        yield f"  pump-off     if every pulse must be pumped: an energy scan with the pump off {often}"
    if found["fluences_with_time"]:
        yield f"  fluences     {_listed(found['fluences'])} go with time, as wear does; better {_listed(found['better_fluences'])}"
    elif len(found["better_fluences"]) > 1:
        yield f"  fluences     up and down, never in one direction: {_listed(found['better_fluences'])}"
    yield f"  delays       {EARLY_POINTS} or more before {EARLY:g} ps (now {found['early_delays']}); to and fro or at random, not once in one direction"
    yield "  repeats      the first fluence and delay again at the end: the difference of the two is wear and drift"


def _runs(n: int) -> str:
    return "run" if n == 1 else f"{n} runs"


def _listed(values: Sequence[float]) -> str:
    return ", ".join(f"{v:g}" for v in values) + " mJ/cm²"
