"""How true the errors of delta_xas are: the table in docs/explanation/difference.md, against simulated truth.

`python -m tests.benchmarks.error_bars [--sets N]` simulates pulses (not frames) of energy scans with known noise, computes
their spectra as the pipeline does, compares them with the truth and writes the table between its markers.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from scipy.stats import norm

from pipeline.science.spectra.reference import flat_constant, noise_of_trains
from pipeline.science.spectra.scans import spectra
from tests.science.pulse_truth import make_pulses

PAGE = Path(__file__).resolve().parents[2] / "docs" / "explanation" / "difference.md"
BEGIN, END = "<!-- error bars: begin -->", "<!-- error bars: end -->"
NOISE = {
    "photons and read noise": (0.0, 0.0),
    "1 % per pulse and beam": (0.01, 0.0),
    "0.4 % per train and beam": (0.0, 0.004),
}
"""Name, and the relative scatter of single pulses and of whole trains beyond it."""
TRAINS, RUNS = (1, 2, 3, 6), (1, 3)
STEPS = np.arange(527.0, 531.0, 0.25)
FLAT_TRAINS = 60
HEAD = "| noise | trains per bin | runs | χ²/dof | in ±σ (68.3 %) | in ±1.96 σ (95 %) |\n|---|---|---|---|---|---|"


def truth(energy):
    """Difference of two Gaussian lines of opposite sign [OD] at energies [eV]."""
    return 0.02 * np.exp(-(((energy - 528.2) / 0.5) ** 2)) - 0.02 * np.exp(-(((energy - 529.2) / 0.5) ** 2))


def pulls(noise: str, trains: int, runs: int, seed: int) -> np.ndarray:
    """Return (value - truth) / delta_xas_stderr of the bins of one simulated data set."""
    jitter, excess = NOISE[noise]
    rng = np.random.default_rng([seed, trains, runs, list(NOISE).index(noise)])

    def measured(energy, **options):
        run = make_pulses(rng, energy, excess=excess, **options)
        return run.assign(photons=run["photons"] * (1 + jitter * rng.standard_normal(run["photons"].shape)))

    flat = measured(np.full(FLAT_TRAINS, 528.2))
    scans = []
    for k in range(runs):
        energy = np.repeat(STEPS, trains) + rng.normal(0, 0.002, len(STEPS) * trains)
        scans.append(measured(energy, delta=truth(energy), first_train=10000 * (k + 1)))
    row = spectra(scans, constant=flat_constant([flat]), train_noise=noise_of_trains([flat])).isel(fluence=0, delay=0)
    return ((row["delta_xas"] - truth(row["energy"])) / row["delta_xas_stderr"]).values


def row(noise: str, trains: int, runs: int, found: list[np.ndarray]) -> str:
    """One row; the bins of a set share a constant and a level of noise, so the errors are those over sets."""
    cells = []
    for figure in (np.square, lambda z: 100 * (np.abs(z) < 1), lambda z: 100 * (np.abs(z) < norm.ppf(0.975))):
        of_sets = np.array([np.mean(figure(z)) for z in found])
        digits = 3 if not cells else 1
        cells.append(f"{of_sets.mean():.{digits}f} ± {of_sets.std(ddof=1) / np.sqrt(len(of_sets)):.{digits}f}")
    return f"| {noise} | {trains} | {runs} | " + " | ".join(cells) + " |"


def main() -> None:
    """Write the table into the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=400, help="simulated data sets per row")
    options = parser.parse_args()
    lines = [HEAD]
    with Pool() as pool:
        for case in itertools.product(NOISE, TRAINS, RUNS):
            found = pool.starmap(pulls, [(*case, seed) for seed in range(options.sets)], chunksize=10)
            lines.append(row(*case, found))
            sys.stdout.write(lines[-1] + "\n")
            sys.stdout.flush()
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text(before + BEGIN + "\n" + "\n".join(lines) + "\n" + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
