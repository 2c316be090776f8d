"""What the intervals of the times hold, and how many of the times called identifiable are wrong, on truth drawn at random.

`python -m tests.benchmarks.kinetic_coverage [--sets N] [--snr 30 100 300] [--traces 1 5]` fits traces whose times, signs and
sizes of amplitudes, response, time zero and delays are drawn at random (`tests.science.random_kinetics`); the response is
known to 3 fs. One row per signal-to-noise ratio and number of traces; the errors are binomial.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np

from pipeline.science.kinetics.problem import build_problem
from pipeline.science.kinetics.search import refine, solve
from pipeline.science.kinetics.shared import fit_kinetics
from tests.science.random_kinetics import IRF, IRF_STDERR, RANGES, random_traces

TAUS = ["tau1", "tau2", "tau3"]
WRONG = 1.5
HEAD = (
    "| SNR | traces | in 68 % | in 95 % | identifiable | of these in 68 % | in 95 % | off by > 1.5 |\n"
    "|---|---|---|---|---|---|---|---|"
)


def one(seed: int, snr: float, n_traces: int, power: int = 2) -> np.ndarray:
    """Return per tau: in the 68 % interval, in the 95 % one, identifiable, off by more than 1.5; dims (tau, what)."""
    truth = random_traces(seed, snr=snr, n_traces=n_traces, power=power)
    fit = fit_kinetics(truth.traces, irf_sigma=(truth.measured_irf, IRF_STDERR), systematics=False, power=power)
    fit = fit.sel(parameter=TAUS)
    # tau2 and tau3 are told apart by their size alone
    taus = np.array([truth.taus[0], *sorted(truth.taus[1:])])
    inside = [(fit[c].values[:, 0] <= taus) & (taus <= fit[c].values[:, 1]) for c in ("ci68", "ci95")]
    wrong = np.abs(np.log(fit["value"].values / taus)) > np.log(WRONG)
    return np.stack([*inside, fit["identifiable"].values, wrong], axis=1)


def row(snr: float, n_traces: int, found: np.ndarray) -> str:
    """Return the row of found (set, tau, what)."""
    in68, in95, known, wrong = found.reshape(-1, 4).T
    shares = (in68, in95, known, in68[known], in95[known], wrong[known])
    cells = [f"{100 * np.mean(s):.1f} ± {100 * np.sqrt(np.mean(s) * (1 - np.mean(s)) / len(s)):.1f}" for s in shares]
    return f"| {snr:g} | {n_traces} | " + " | ".join(cells) + " |"


def missed(seed: int, snr: float, starts: int = 60) -> float:
    """Return by how much χ² of the search exceeds that of local fits from the truth and from many starts drawn at random."""
    truth = random_traces(seed, snr=snr)
    arrays = [truth.traces[n].values for n in ("delay", "delta_xas", "delta_xas_stderr")]
    problem = build_problem(*arrays, irf_sigma=(truth.measured_irf, IRF_STDERR))
    rng, logs = np.random.default_rng(seed), np.log(RANGES)
    drawn = rng.uniform(logs[:, 0] - 1.0, logs[:, 1] + 1.0, (starts, 3))
    rows = np.column_stack([rng.uniform(-0.25, 0.25, starts), rng.uniform(*IRF, starts), drawn])
    rows[0] = truth.t_d, truth.irf_sigma, *np.log(truth.taus)
    found = solve(problem)[0].cost
    return found - min(found, *(refine(problem, start, thorough=True, tolerance=1e-3).cost for start in rows))


def main() -> None:
    """Print the table, then how often the lowest minimum is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=300, help="draws per row")
    parser.add_argument("--snr", type=float, nargs="+", default=[30.0, 100.0, 300.0])
    parser.add_argument("--traces", type=int, nargs="+", default=[1])
    parser.add_argument("--power", type=int, default=2, choices=[1, 2])
    parser.add_argument("--search", action="store_true", help="also count the lowest minima that the search misses")
    options = parser.parse_args()
    show(HEAD)
    for n_traces in options.traces:
        for snr in options.snr:
            found = np.array([one(seed, snr, n_traces, options.power) for seed in range(options.sets)])
            show(row(snr, n_traces, found))
    for snr in options.snr if options.search else ():
        gaps = np.array([missed(seed, snr) for seed in range(options.sets)])
        show(f"SNR {snr:g}: lowest minimum missed by more than 0.1 in {100 * np.mean(gaps > 0.1):.1f} %")


def show(text: Any) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
