"""What each noise level determines: the table in docs/explanation/kinetics.md, from the scenario `noise_levels`.

`python -m tests.benchmarks.noise_levels [--sets N]` simulates traces (not frames) with the photon noise of the
scenario's shots, times 1, 10, 100 and 1000, fits them as the pipeline does and writes the table between its markers.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from pipeline.science import forward
from pipeline.science.kinetics.shared import fit_kinetics
from pipeline.simulate import load_scenario
from pipeline.simulate.timetable import build_model
from schemas.scenario import DelayScan, EnergyScan, Scenario, grid_values

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "explanation" / "kinetics.md"
BEGIN, END = "<!-- noise levels: begin -->", "<!-- noise levels: end -->"
SHOTS = (1, 10, 100, 1000)
FLUENCE = 8.0
RESPONSE = (0.04, 0.003)
"""Instrument response [ps] as a measurement would give it."""
HEAD = (
    "| delays and energies | shots | SNR | τ1 (0.15 ps) | τ2 (0.24 ps) | τ3 (1.5 ps) | half rise (ps) "
    "| ΔXAS at 1 ps (mOD) | χ²/dof |\n|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Write the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=40, help="simulated data sets per row")
    options = parser.parse_args()
    scenario = load_scenario(ROOT / "sample_runs" / "noise_levels.yaml")
    lines = [HEAD]
    for title, delays, energies, model in cases(scenario):
        for shots in SHOTS:
            lines.append(row(title, scenario, model, delays, energies, shots, options.sets))
            sys.stdout.write(lines[-1] + "\n")
            sys.stdout.flush()
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after, encoding="utf-8")


def cases(scenario: Scenario) -> list[tuple[str, list[float], list[float], forward.ForwardModel]]:
    """Delays, energies and sample of each block of the table."""
    scans = sorted((r for r in scenario.runs if isinstance(r, DelayScan)), key=lambda r: len(grid_values(r.delays)))
    few, fine = grid_values(scans[0].delays), grid_values(scans[-1].delays)
    spectrum = next(r for r in scenario.runs if isinstance(r, EnergyScan))
    energies, here = grid_values(spectrum.energies), [scans[0].energy]
    moving = build_model(scenario)
    still = replace(moving, early_shift=0.0)
    return [
        (f"{len(few)} published delays, peak A", few, here, moving),
        (f"fine scan of {len(fine)} delays, peak A", fine, here, moving),
        (f"{len(few)} delays, {len(energies)} energies, line stands still", few, energies, still),
        (f"{len(few)} delays, {len(energies)} energies, line moves by 0.2 eV", few, energies, moving),
    ]


def row(
    title: str,
    scenario: Scenario,
    model: forward.ForwardModel,
    delays: list[float],
    energies: list[float],
    shots: int,
    n_sets: int,
) -> str:
    """One row: medians over the sets. A time that fewer than half of them determine shows as its 95 % interval."""
    delay, energy = xr.DataArray(delays, dims="delay"), xr.DataArray(energies, dims="trace")
    clean = forward.delta_xas(model, energy, delay, fluence=FLUENCE).transpose("trace", "delay").values
    stderr = photon_noise(scenario, model, energy).values[:, None] / np.sqrt(shots) * np.ones_like(clean)
    fits = []
    for seed in range(n_sets):
        noisy = clean + stderr * np.random.default_rng([seed, shots]).standard_normal(clean.shape)
        dims = ("trace", "delay")
        traces = xr.Dataset(
            {"delta_xas": (dims, noisy), "delta_xas_stderr": (dims, stderr)},
            coords={"delay": delays, "energy": ("trace", energies)},
        )
        fits.append(fit_kinetics(traces, irf_sigma=RESPONSE, systematics=False))
    ratio = float(np.max(np.abs(clean) / stderr))
    cells = [title, f"{shots}", f"{ratio:.0f}", *(time_cell(fits, name) for name in ("tau1", "tau2", "tau3"))]
    strongest = int(np.argmax(np.abs(clean).max(axis=1)))
    signal = [1e3 * np.array([float(f[n].sel(time=1.0)[strongest]) for f in fits]) for n in ("signal", "signal_stderr")]
    half = [np.array([float(f[n]) for f in fits]) for n in ("t50", "t50_stderr")]
    cells += [plus_minus(*half), plus_minus(*signal), f"{np.median([float(f['redchi']) for f in fits]):.2f}"]
    return "| " + " | ".join(cells) + " |"


def photon_noise(scenario: Scenario, model: forward.ForwardModel, energy: xr.DataArray) -> xr.DataArray:
    """Standard error of the difference from one train per point, from the photons of both beams."""
    beams = scenario.beams
    per_train = beams.photons * beams.width * beams.height * scenario.machine.pulses_per_train
    transmitted = per_train * np.exp(-forward.ground_od(model, energy))
    pumped, unpumped, _ = beams.flux
    return np.sqrt(1 / (pumped * transmitted) + 1 / (unpumped * transmitted))


def time_cell(fits: list[xr.Dataset], name: str) -> str:
    """Value ± error where at least half of the sets determine the time, else the median 95 % interval in brackets."""
    ones = [f.sel(parameter=name) for f in fits]
    share = float(np.mean([bool(o["identifiable"]) for o in ones]))
    if share < 0.5:
        low, high = np.median([o["ci95"].values for o in ones], axis=0)
        return f"({low:.2g} … {'open' if np.isinf(high) else f'{high:.2g}'})"
    text = plus_minus(np.array([float(o["value"]) for o in ones]), np.array([float(o["stderr"]) for o in ones]))
    return text if share > 0.95 else f"{text} in {share:.0%}"


def plus_minus(value: np.ndarray, error: np.ndarray) -> str:
    middle, width = float(np.nanmedian(value)), float(np.nanmedian(error))
    digits = max(0, int(np.ceil(1 - np.log10(width))))
    return f"{middle:.{digits}f} ± {width:.{digits}f}"


if __name__ == "__main__":
    main()
