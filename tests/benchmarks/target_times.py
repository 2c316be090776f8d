"""How right the target model's times are on cubes of a line that moves, or of two species, made by brute force.

`python -m tests.benchmarks.target_times [--sets N]` prints a line per case and time: pulls (in units of the side of the 68 %
interval that looks to the truth), coverage, how often the time is called identifiable, how much sharper it is than the delay
scan at peak A alone (the first 20 cubes), how often free amplitudes are withheld, and whether the right model is reported.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np

from pipeline.science.kinetics.shared import fit_kinetics
from pipeline.science.kinetics.target import fit_target, line_moves
from tests.science.moving_line import Sample, cube, peak_a_alone

IRF = 0.003
"""How well the response is known beforehand [ps]."""
ALONE = 20
CASES = {
    "Gaussian line moves, p = 2, SNR 100": (Sample(power=2, returning=0.7), 100.0),
    "Voigt line moves, p = 1, SNR 100": (Sample(returning=0.7, lorentzian=0.5), 100.0),
    "Gaussian line moves, p = 2, SNR 300": (Sample(power=2, returning=0.7), 300.0),
    "Gaussian line stands still, p = 2, SNR 100": (Sample(power=2, returning=0.7, move=0.0), 100.0),
    "two species, p = 1, SNR 300": (Sample(returning=0.7, species=True), 300.0),
}
HEAD = (
    "| cube | time | pull | its width | in 68 % | in 95 % | identifiable | sharper than peak A alone "
    "| free amplitudes withheld | told apart |\n|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=200, help="simulated cubes per row")
    parser.add_argument("--case", type=int, default=None, help="number of the only case")
    options = parser.parse_args()
    sys.stdout.write(HEAD + "\n")
    for i, (title, (sample, snr)) in enumerate(CASES.items()):
        if options.case in (None, i):
            for line in rows(title, sample, snr, options.sets):
                sys.stdout.write(line + "\n")
                sys.stdout.flush()


def rows(title: str, sample: Sample, snr: float, n_sets: int) -> list[str]:
    """A row for each time."""
    truth = np.array(sample.taus)
    found, alone, withheld, right = [], [], [], []
    for seed in range(n_sets):
        measured = 0.04 + IRF * np.random.default_rng([seed, 1]).standard_normal()
        settings = {"irf_sigma": (measured, IRF), "power": sample.power}
        traces = cube(sample, snr=snr, seed=seed)
        shared = fit_kinetics(traces, systematics=False, **settings)
        target = fit_target(traces, shared, **settings)
        assert target is not None
        found.append(target.isel(parameter=slice(2, 5)))
        withheld.append(line_moves(target, shared))
        right.append((target.attrs["model"] == "species") == sample.species)
        if seed < ALONE:
            single = fit_kinetics(peak_a_alone(traces), systematics=False, **settings)
            alone.append(single["stderr"].values[2:])
    value, stderr, known = (np.array([t[n].values for t in found]) for n in ("value", "stderr", "identifiable"))
    ends = {n: np.array([t[n].values for t in found]) for n in ("ci68", "ci95")}
    towards = np.where(value > truth, ends["ci68"][..., 0], ends["ci68"][..., 1])
    pull = (value - truth) / np.abs(value - towards)
    inside = {n: (e[..., 0] <= truth) & (truth <= e[..., 1]) for n, e in ends.items()}
    ratio = np.median(np.array(alone) / stderr[:ALONE], axis=0)
    shares = f"{np.mean(withheld):.0%} | {np.mean(right):.0%} |"
    return [
        f"| {title} | τ{k + 1} | {np.mean(pull[:, k]):+.2f} | {np.std(pull[:, k]):.2f} "
        f"| {np.mean(inside['ci68'][:, k]):.1%} | {np.mean(inside['ci95'][:, k]):.1%} | {np.mean(known[:, k]):.0%} "
        f"| {ratio[k]:.1f} | {shares}"
        for k in range(3)
    ]


if __name__ == "__main__":
    main()
