"""What effects of a beamtime do to ΔXAS and α with each reference, and whether one is told: docs/explanation/beamtime-effects.md."""

import argparse
import json
import os
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import xarray as xr

from pipeline.results.summary import summarise
from pipeline.simulate.session import plan_session
from pipeline.stages.bin import bin_scans
from pipeline.stages.fit import fit_all
from schemas.scenario import Scenario
from tests.science import mixture_truth
from tests.science.session_truth import EVERY_SECOND, RUNS, job_of, session_pulses, short_session, true_difference

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "beamtime-effects.md"
REFERENCES: dict[str, tuple[Any, dict[str, Any]]] = {
    "in_run": (EVERY_SECOND, {"flats": (2,)}),
    "pump_off_scan": ("all", {"flats": (2, 12), "pump_off": (3, 11)}),
    "two flat fields": ("all", {"flats": (2, 12)}),
    "flat_field": ("all", {"flats": (2,)}),
}
"""Name -> when the pump fires, and which runs without pump are known."""
REFERENCE_KINDS = ("in_run", "pump_off_scan", "flat_field")
SPLITTING = {"slope": 0.002, "curvature": 0.0003, "wiggle": 0.0005, "wiggle_period": 2.5}
ALL = {"films": {"thickness": 1.02, "wear_per_run": 0.003}, "splitting": {**SPLITTING, "drift": 0.003, "walk": 0.001}}
EFFECTS: dict[str, dict[str, Any]] = {
    "noise alone": {},
    "pumped film 2 % thicker": {"films": {"thickness": 1.02}},
    "pumped film 0.5 % thicker": {"films": {"thickness": 1.005}},
    "splitting 2 mOD/eV, bent, with waves of 0.5 mOD": {"splitting": SPLITTING},
    "drift 3 mOD an hour, and 1 mOD/√h at random": {"splitting": {"drift": 0.003, "walk": 0.001}},
    "wear 0.3 % a run": {"films": {"wear_per_run": 0.003}},
    "all of these": ALL,
}
LATE = 4.0


class Session(NamedTuple):
    """One session, processed with one reference."""

    z: np.ndarray
    """(ΔXAS − truth) / total error, all bins of the spectra."""
    statistical: np.ndarray
    """The same in statistical errors."""
    alpha: np.ndarray
    """(α − truth) / total error by fluence."""
    alpha_statistical: np.ndarray
    relative: np.ndarray
    """α / truth − 1."""
    slope: float
    """In total errors."""
    times: np.ndarray
    """Whether the 68 % intervals of τ1, τ2, τ3 hold the truth."""
    told: tuple[str, ...]
    """Codes of faults and cautions."""


def drawn(rng: np.random.Generator) -> dict[str, Any]:
    """Return all effects, of sizes as they occur."""
    films = {"thickness": 1 + 0.02 * rng.standard_normal(), "wear_per_run": rng.uniform(0.001, 0.005)}
    each = {"slope": 1e-3, "curvature": 3e-4, "wiggle": 5e-4, "drift": 3e-3}
    splitting = {name: size * rng.standard_normal() for name, size in each.items()}
    return {"films": films, "splitting": {**splitting, "wiggle_period": rng.uniform(2.0, 4.0), "walk": 1.5e-3}}


def measured(effects: dict[str, Any] | None, reference: str, seed: int) -> Session:
    """Simulate and process a session; effects: None draws them."""
    warnings.simplefilter("ignore")
    pump, known = REFERENCES[reference]
    effects = drawn(np.random.default_rng([seed, 99])) if effects is None else effects
    scenario = short_session(pump=pump, **effects)
    job = job_of(*known["flats"], pump_off=known.get("pump_off", ()))
    pulses = session_pulses(scenario, seed)
    tree, notes = bin_scans(job, {n: pulses[n] for n in job.reduced_runs})
    groups, said = fit_all(tree["spectra"], tree["delay_scan"], job.config, {"main": mixture_truth.dos()})
    whole = xr.DataTree.from_dict({**tree, **groups})
    summary = summarise(whole, job.config, audits={}, notes=[*notes, *said])
    told = {w["code"] for w in summary["warnings"] if w["severity"] != "info"}
    spectra, mixture = tree["spectra"], groups["mixture"]
    error = spectra["delta_xas_stderr"].values
    off = (spectra["delta_xas"] - _truth(scenario, spectra, seed)).values
    total = np.hypot(error, spectra["delta_xas_stderr_systematic"].values)
    seen = np.isfinite(off)
    true = mixture_truth.alpha_of(mixture["fluence"].values)
    alpha = mixture["alpha"].values - true
    of_alpha = mixture["alpha_stderr"].values
    slope = (float(mixture["slope"]) - mixture_truth.line_of(true, mixture["fluence"].values)[0]) / np.hypot(
        float(mixture["slope_stderr"]), float(mixture["slope_model_stderr"])
    )
    times = groups["kinetics"].sel(fluence=8.0, parameter=["tau1", "tau2", "tau3"])["ci68"].values
    taus = np.array(scenario.kinetics.taus)
    return Session(
        (off / total)[seen],
        (off / error)[seen],
        alpha / np.hypot(of_alpha, mixture["alpha_model_stderr"].values),
        alpha / of_alpha,
        alpha / true,
        slope,
        (np.nan_to_num(times[:, 0], nan=-np.inf) <= taus) & (taus <= np.nan_to_num(times[:, 1], nan=np.inf)),
        tuple(sorted(told)),
    )


def _truth(scenario: Scenario, spectra: xr.Dataset, seed: int) -> xr.DataArray:
    """Return what was simulated in every bin: the sample's difference times the thickness of the pumped film."""
    conditions = {s.run: c for s, c in zip(scenario.runs, plan_session(scenario, seed), strict=True)}
    true = xr.full_like(spectra["delta_xas"], np.nan)
    for f, fluence in enumerate(spectra["fluence"].values):
        for d, delay in enumerate(spectra["delay"].values):
            runs = [r for r in RUNS if r.get("fluence") == fluence and abs(r.get("delay", np.inf) - delay) < 0.02]
            if runs:
                film = np.mean([conditions[r["run"]].film.mean() for r in runs])
                true[f, d] = film * true_difference(
                    scenario, spectra["energy"].values, float(runs[0]["delay"]), float(fluence)
                )
    return true


def many(pool: ProcessPoolExecutor, effects: dict[str, Any] | None, reference: str, n: int) -> list[Session]:
    return list(pool.map(measured, [effects] * n, [reference] * n, range(n), chunksize=2))


def row(effect: str, reference: str, found: list[Session]) -> str:
    """Return a row of the table of effects."""
    chi2, error = _mean([np.mean(s.z**2) for s in found])
    alpha = np.array([s.alpha for s in found])
    relative = np.sqrt(np.mean(np.square([s.relative for s in found]), axis=0))
    codes = Counter(code for s in found for code in s.told)
    told = ", ".join(f"`{code}`" for code, n in codes.most_common() if n > len(found) / 2) or "–"
    cells = (
        f"{chi2:.2f} ± {error:.2f}",
        f"{np.sqrt(np.mean(alpha**2)):.1f}",
        ", ".join(f"{100 * r:.1f}" for r in relative),
    )
    return f"| {effect} | {reference} | " + " | ".join(cells) + f" | {told} |"


def _mean(values: Any) -> tuple[float, float]:
    values = np.asarray(values, float)
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def calibration(reference: str, found: list[Session]) -> str:
    """Return a row of the table of errors: each session is one number, whatever its bins share."""
    name = "statistical" if reference == "in_run" else "total"
    z = [s.statistical if name == "statistical" else s.z for s in found]
    alpha = np.array([s.alpha for s in found])
    within = [_mean([100 * np.mean(np.abs(one) < width) for one in z]) for width in (1.0, 1.96)]
    of_alpha = [_mean([100 * np.mean(np.abs(one) < width) for one in alpha]) for width in (1.0, 1.96)]
    cells = (
        "{:.2f} ± {:.2f}".format(*_mean([np.mean(one**2) for one in z])),
        *(f"{a:.0f} ± {b:.0f}" for a, b in within),
        *(f"{one.mean():+.2f}, {one.std():.2f}" for one in (np.array([s.alpha_statistical for s in found]), alpha)),
        *(f"{a:.0f} ± {b:.0f}" for a, b in of_alpha),
        f"{np.mean([s.slope for s in found]):+.2f}, {np.std([s.slope for s in found]):.2f}",
        ", ".join(f"{100 * v:.0f}" for v in np.mean([s.times for s in found], axis=0)),
    )
    return f"| {reference} | {name} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the tables and write them into the page; the last line is JSON with the same rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few sessions, and the page is left alone")
    parser.add_argument("--sessions", type=int, default=20, help="sessions a row of the table of effects")
    parser.add_argument("--calibration", type=int, default=100, help="sessions a row of the table of errors")
    parser.add_argument("--only", choices=["effects", "calibration"], help="one of the tables")
    options = parser.parse_args()
    n, m = (2, 4) if options.quick else (options.sessions, options.calibration)
    tables: dict[str, list[str]] = {}
    with ProcessPoolExecutor() as pool:
        if options.only != "effects":
            tables["calibration"] = rows = []
            for reference in REFERENCES:
                rows.append(calibration(reference, many(pool, None, reference, m)))
                print(rows[-1], flush=True)
        if options.only != "calibration":
            tables["effects"] = rows = []
            for effect, sizes in EFFECTS.items():
                for reference in REFERENCE_KINDS:
                    rows.append(row(effect, reference, many(pool, sizes, reference, n)))
                    print(rows[-1], flush=True)
    if not options.quick:
        text = PAGE.read_text(encoding="utf-8")
        for name, rows in tables.items():
            begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
            before, rest = text.split(begin)
            head = "\n".join(rest.splitlines()[:2])
            text = before + begin + head + "\n" + "\n".join(rows) + "\n" + end + rest.split(end)[1]
        PAGE.write_text(text, encoding="utf-8")
    print(json.dumps(tables))


if __name__ == "__main__":
    main()
