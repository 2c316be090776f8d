"""How often the total error of α holds the truth, on states, tails, windows and noise drawn at random (`tests.science.random_mixtures`)."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Literal

import numpy as np

from pipeline.science.mixture.dos_models import fit_models
from tests.science.random_mixtures import DOS, STATES, random_mixture

FIRST_SEED = 90_000
"""Far from those that anything was tried on."""
HEAD = (
    "| DOS | ground state | 68 % | 95 % | width of pulls, total | width, statistical | error, median |\n"
    "|---|---|---|---|---|---|---|"
)


def one(seed: int, state: str, dos: str, ground: Literal["dos", "measured"] = "dos") -> np.ndarray:
    """Return per fluence: deviation from the truth over the total and over the statistical error, and the total error over α."""
    drawn = random_mixture(seed, state, dos)
    fit = fit_models(drawn.spectra, {"main": drawn.dos}, window=drawn.window, min_delay=0.8, ground=ground)
    off, own = fit["alpha"].values - drawn.alpha, fit["alpha_stderr"].values
    own = np.hypot(own, fit["alpha_reference_stderr"].values)
    total = np.hypot(own, fit["alpha_model_stderr"].fillna(0.0).values)
    return np.stack([off / total, off / own, total / drawn.alpha], axis=1)


def row(name: str, state: str, found: np.ndarray) -> str:
    """Return a row of the table for found (fluence of any set, what)."""
    size = np.abs(found[:, 0])
    cells = [f"{100 * np.mean(size < limit):.0f}" for limit in (1.0, 1.96)]
    cells += [f"{found[:, k].std():.2f}" for k in (0, 1)] + [f"{100 * np.median(np.abs(found[:, 2])):.1f} %"]
    return f"| {name} | {state} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the table; the last line is JSON with the coverage by DOS."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="three sets a row instead of 28")
    parser.add_argument("--ground", default="dos", choices=["dos", "measured"], help="as `mixture.ground`")
    parser.add_argument("--dos", nargs="+", default=DOS, choices=DOS, help="what the analysis has")
    options = parser.parse_args()
    show(HEAD)
    result = {}
    for dos in options.dos:
        rows = {}
        for state in STATES:
            seeds = range(FIRST_SEED, FIRST_SEED + (3 if options.quick else 28))
            rows[state] = np.concatenate([one(seed, state, dos, options.ground) for seed in seeds])
            show(row(dos, state, rows[state]))
        found = np.concatenate(list(rows.values()))
        show(row(dos, "all", found))
        result[dos] = [float(np.mean(np.abs(found[:, 0]) < limit)) for limit in (1.0, 1.96)]
    show(json.dumps(result))


def show(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
