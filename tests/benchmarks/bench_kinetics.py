"""Speed, reach and honesty of the kinetics fit on simulated truth, beside plain lmfit and pyglotaran in the same run.

`python -m tests.benchmarks.bench_kinetics [--quick] [--peer-python PYTHON]`. Times are medians of processor time of one
thread; ratios inside one run are what to compare. U is the form without the square, S the squared one; "opp" and "same"
are amplitudes of opposite and of one sign; delays are 100, dense before 1.2 ps. pyglotaran, which cannot share an
environment with us, runs under the interpreter given here or as TRXAS_PEER_PYTHON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from pipeline.science.kinetics.intervals import (
    bootstrap_parameters,
    covariance,
    design_bound,
    error_scale,
    profile_intervals,
)
from pipeline.science.kinetics.model import kinetic_trace
from pipeline.science.kinetics.problem import Problem, build_problem
from pipeline.science.kinetics.search import refine, solve
from pipeline.science.kinetics.shared import fit_kinetics
from tests.science.kinetic_truth import DENSE, OPPOSITE, SAME, TAUS, lmfit_model, simulate

AMPLITUDES = {"opp": OPPOSITE, "same": SAME}
FORMS = {1: "U", 2: "S"}
TAU_NAMES = ["tau1", "tau2", "tau3"]


def main() -> None:
    """Run all parts and print them; the last line holds the same numbers as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few sets: a minute instead of a quarter of an hour")
    parser.add_argument("--sets", type=int, help="data sets per case, 400 unless given")
    parser.add_argument(
        "--peer-python", default=os.environ.get("TRXAS_PEER_PYTHON"), help="interpreter with pyglotaran"
    )
    parser.add_argument("--only", choices=["speed", "reach", "honesty"], help="one part")
    options = parser.parse_args()
    n = options.sets or (12 if options.quick else 400)
    fit_kinetics(simulate())  # compiles
    fit_kinetics(simulate(power=1), power=1)
    result: dict[str, Any] = {"n_sets": n}
    if options.only in (None, "speed"):
        result["speed"] = speed(3 if options.quick else 11, options.peer_python)
    if options.only in (None, "reach"):
        result["reach"] = reach(n)
    if options.only in (None, "honesty"):
        result["honesty"] = honesty(n)
    show(json.dumps(result))


def speed(repeats: int, peer_python: str | None) -> dict[str, dict[str, float]]:
    """Milliseconds per fit and ratios to plain lmfit (one trace, one start) and to pyglotaran (same traces, one start)."""
    show("speed at SNR 50                        ms   / lmfit, 1 trace   pyglotaran / ours")
    out = {}
    peers = {power: median_ms(lambda p=power: lmfit_from_twice_the_truth(p), repeats) for power in (1, 2)}
    glotaran = {n: pyglotaran_ms(simulate(snr=50, power=1, n_traces=n), peer_python) for n in (1, 25, 250)}
    if not any(glotaran.values()):
        show("pyglotaran is left out: give --peer-python or TRXAS_PEER_PYTHON, an interpreter that can import it")
    start = np.array([0.0, 0.05, *np.log(2 * np.array(TAUS))])
    for power, n_traces in ((1, 1), (1, 25), (1, 250), (2, 1), (2, 25), (2, 250)):
        problem = problem_of(simulate(snr=50, power=power, n_traces=n_traces), power)
        for kind, fit in (
            ("one start", lambda q=problem: refine(q, start)),
            ("multi-start", lambda q=problem: solve(q)),
        ):
            label = f"{FORMS[power]} {n_traces:3d} traces, {kind}"
            peer = glotaran[n_traces] if power == 1 else None
            out[label] = line(label, median_ms(fit, repeats), peers[power], peer)
    for power in (1, 2):
        traces = simulate(snr=50, power=power)
        problem = problem_of(traces, power)
        minima = solve(problem)
        scale = error_scale(problem, minima[0])
        errors = np.sqrt(scale * np.diag(covariance(problem, minima[0]).theta))
        rng = np.random.default_rng(0)
        jobs: dict[str, tuple[Callable[[], Any], int]] = {
            "4 profiles, 3 levels": (
                lambda q=problem, m=minima, s=scale, e=errors: profile_intervals(q, m, s, e),
                repeats,
            ),
            "everything": (lambda t=traces, p=power: fit_kinetics(t, power=p, irf_sigma=0.05), repeats),
            "200 bootstraps": (lambda q=problem, m=minima, r=rng: bootstrap_parameters(q, m, n_draws=200, rng=r), 1),
        }
        for kind, (job, times) in jobs.items():
            label = f"{FORMS[power]}   1 trace,  {kind}"
            out[label] = line(label, median_ms(job, times), peers[power])
    return out


def reach(n: int) -> dict[str, dict[str, Any]]:
    """How often the lowest minimum known is found, how often all taus are near the truth, and the efficiency."""
    show("reach                     lowest  in 3 sd (lmfit)   bound variance / MSE, each ± " + f"{np.sqrt(2 / n):.2f}")
    out = {}
    cases = [(p, k, s, 1) for p in (1, 2) for k, s in (("opp", 20), ("opp", 50), ("opp", 200), ("same", 200))]
    cases += [(p, "opp", s, 25) for p in (1, 2) for s in (50, 200)]
    for power, kind, snr, n_traces in cases:
        found, near, errors, peer = [], [], [], []
        bound = true_bound(power, kind, snr, n_traces)
        for seed in range(n):
            traces = simulate(AMPLITUDES[kind], snr=snr, seed=seed, power=power, n_traces=n_traces)
            problem = problem_of(traces, power)
            best = solve(problem)[0]
            from_truth = refine(problem, np.array([0.01, 0.05, *np.log(TAUS)]), tolerance=1e-8, max_iterations=200)
            found.append(best.cost <= from_truth.cost + 0.01)
            errors.append(best.theta[2:] - np.log(TAUS))
            near.append(np.all(np.abs(np.expm1(errors[-1])) < 3 * bound))
            if n_traces == 1 and seed < 100:
                taus = lmfit_from_twice_the_truth(power, traces, AMPLITUDES[kind])
                peer.append(np.all(np.abs(taus / TAUS - 1) < 3 * bound))
        efficiency = bound**2 / np.mean(np.square(errors), axis=0)
        label = f"{FORMS[power]} {kind} SNR {snr}, {n_traces} traces"
        out[label] = {
            "lowest": float(np.mean(found)),
            "in_3_sigma": float(np.mean(near)),
            "efficiency": efficiency.tolist(),
            "relative_bound": bound.tolist(),
            "lmfit_in_3_sigma": float(np.mean(peer)) if peer else None,
        }
        beside = f"({np.mean(peer):.2f})" if peer else "      "
        show(f"{label:26s} {np.mean(found):.3f}   {np.mean(near):.3f}  {beside}   {efficiency.round(2)}")
    return out


def honesty(n: int) -> dict[str, dict[str, Any]]:
    """Coverage of the intervals, width of the pulls, and how often each tau is called identifiable."""
    show("honesty              68 % interval        95 % interval        rms pull          identifiable")
    out = {}
    cases = [
        (p, k, s) for p in (1, 2) for k, s in (("opp", 20), ("opp", 50), ("opp", 200), ("same", 50), ("same", 200))
    ]
    for power, kind, snr in cases:
        rows = []
        for seed in range(n):
            traces = simulate(AMPLITUDES[kind], snr=snr, seed=10_000 + seed, power=power)
            taus = fit_kinetics(traces, power=power, irf_sigma=0.05, systematics=False).sel(parameter=TAU_NAMES)
            inside = [(taus[c].values[:, 0] <= TAUS) & (taus[c].values[:, 1] >= TAUS) for c in ("ci68", "ci95")]
            pull = ((taus["value"] - TAUS) / taus["stderr"]).values
            rows.append([*inside, np.square(pull), taus["identifiable"].values])
        c68, c95, square, identified = np.mean(np.array(rows, dtype=float), axis=0)
        label = f"{FORMS[power]} {kind} SNR {snr}"
        out[label] = {"ci68": c68.tolist(), "ci95": c95.tolist(), "rms_pull": np.sqrt(square).tolist()}
        out[label]["identifiable"] = identified.tolist()
        pulls = np.sqrt(square).round(2)
        show(f"{label:16s} {c68.round(3)!s:21s}{c95.round(3)!s:21s}{pulls!s:18s}{identified.round(2)}")
    return out


def problem_of(traces: xr.Dataset, power: int, prior: float | None = 3.0) -> Problem:
    return build_problem(
        DENSE,
        traces["delta_xas"].values,
        traces["delta_xas_stderr"].values,
        power=power,
        irf_sigma=0.05,
        amplitude_prior=prior,
    )


def true_bound(power: int, kind: str, snr: float, n_traces: int) -> np.ndarray:
    """Cramer-Rao bound of the log taus at the truth."""
    clean = simulate(AMPLITUDES[kind], snr=1e8, power=power, n_traces=n_traces)
    problem = problem_of(clean.assign(delta_xas_stderr=clean["delta_xas_stderr"] * (1e8 / snr)), power)
    best = refine(problem, np.array([0.01, 0.05, *np.log(TAUS)]), max_iterations=0)
    return design_bound(problem, best)[0][2:]


def lmfit_from_twice_the_truth(
    power: int, traces: xr.Dataset | None = None, amplitudes: tuple[float, float, float] = OPPOSITE
) -> np.ndarray:
    """Taus that plain lmfit finds from the true amplitudes, taus a factor 2 off; signal scaled to its peak."""
    traces = simulate(snr=50, power=power) if traces is None else traces
    model = lmfit_model(power)
    y, sigma = 100 * traces["delta_xas"].values[0], 100 * traces["delta_xas_stderr"].values[0]
    clean = kinetic_trace(DENSE, t_d=0.01, irf_sigma=0.05, taus=TAUS, amplitudes=amplitudes, power=power)
    start = np.array(amplitudes) / np.abs(clean).max() ** (1 / power)
    parameters = model.make_params(**{f"A{i + 1}": a for i, a in enumerate(start.tolist())})
    parameters["t_d"].set(value=0.0, min=-0.3, max=0.3)
    parameters["irf_sigma"].set(value=0.05, vary=False)
    for name, tau in zip(TAU_NAMES, TAUS, strict=True):
        parameters[name].set(value=2 * tau, min=0.01, max=200.0)
    found = model.fit(y, parameters, delay=DENSE, weights=1 / sigma).params
    taus = np.array([found[name].value for name in TAU_NAMES])
    return np.array([taus[0], *np.sort(taus[1:])])


def pyglotaran_ms(traces: xr.Dataset, python: str | None) -> float | None:
    """Milliseconds that pyglotaran takes for the same traces, form U, from taus a factor 2 off; None without it.

    Raises
    ------
    RuntimeError
        If its minimum is not ours: then the times would not compare.
    """
    if not python:
        return None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "traces.npz"
        signal, stderr = traces["delta_xas"].values, traces["delta_xas_stderr"].values
        np.savez(file, delay=DENSE, signal=signal, stderr=stderr, taus=2 * np.array(TAUS), irf_sigma=0.05)
        script = Path(__file__).with_name("pyglotaran_fit.py")
        done = subprocess.run([python, str(script), str(file), "5"], capture_output=True, text=True, check=False)
    if done.returncode:
        show(f"pyglotaran fails: {done.stderr.strip().splitlines()[-1]}")
        return None
    answer = json.loads(done.stdout)
    ours = solve(problem_of(traces, 1, prior=None))[0].cost
    if answer["chi2"] > ours + 0.1:
        raise RuntimeError(f"pyglotaran stops at chi-square {answer['chi2']:.2f}, the minimum is {ours:.2f}")
    return 1e3 * float(answer["seconds"])


def median_ms(function: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        function()
        times.append(1e3 * (time.process_time() - begin))
    return float(np.median(times))


def line(label: str, ms: float, lmfit_ms: float, glotaran_ms: float | None = None) -> dict[str, float]:
    beside = f"{glotaran_ms / ms:12.1f}" if glotaran_ms else ""
    show(f"{label:32s} {ms:8.1f} {ms / lmfit_ms:12.3f} {beside}")
    found = {"ms": ms, "lmfit_ms": lmfit_ms, "over_lmfit": ms / lmfit_ms}
    return found | ({"pyglotaran_ms": glotaran_ms, "pyglotaran_over_ours": glotaran_ms / ms} if glotaran_ms else {})


def show(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
