"""Speed, reach and honesty of the kinetics fit on simulated truth, against plain lmfit in the same run.

Run `python -m tests.benchmarks.bench_kinetics [--quick] [--json FILE]`. Times are medians; ratios inside one run are
what to compare, milliseconds differ by a factor of two between machines and hours. U is the form without the square,
S the squared one; "opp" and "same" are amplitudes of opposite and of one sign; delays are 100, dense before 1.2 ps.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from pipeline.science.kinetic_fit import Problem, build_problem, refine, solve
from pipeline.science.kinetic_intervals import (
    bootstrap_parameters,
    chi_square,
    covariance,
    design_bound,
    profile_intervals,
)
from pipeline.science.kinetic_model import kinetic_lmfit_model, kinetic_trace
from pipeline.science.kinetics import fit_kinetics
from tests.science.kinetic_truth import DENSE, OPPOSITE, SAME, TAUS, simulate

AMPLITUDES = {"opp": OPPOSITE, "same": SAME}
FORMS = {1: "U", 2: "S"}


def main() -> None:
    """Run all parts and print them; the JSON holds the same numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few repeats: half a minute instead of five")
    parser.add_argument("--json", type=Path, help="write the numbers here too")
    options = parser.parse_args()
    n = 12 if options.quick else 100
    fit_kinetics(simulate())  # compiles
    fit_kinetics(simulate(power=1), power=1)
    result: dict[str, Any] = {"n_sets": n}
    result["speed"] = speed(3 if options.quick else 11)
    result["reach"] = reach(n)
    result["honesty"] = honesty(n)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1))


def speed(repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds per fit and the ratio to plain lmfit (one start, numerical derivatives) for one trace."""
    show("\nspeed at SNR 50                         fit     lmfit, 1 trace   ratio")
    out = {}
    peers = {power: median_ms(lambda p=power: lmfit_from_twice_the_truth(p), repeats) for power in (1, 2)}
    for power, n_traces in ((1, 1), (1, 25), (1, 250), (2, 1), (2, 25), (2, 250)):
        traces = simulate(snr=50, power=power, n_traces=n_traces)
        ms = median_ms(lambda t=traces, p=power: solve(problem_of(t, p)), repeats)
        label = f"{FORMS[power]} {n_traces:3d} traces, multi-start"
        out[label] = line(label, ms, peers[power])
    for power in (1, 2):
        traces = simulate(snr=50, power=power)
        problem = problem_of(traces, power)
        start = np.array([0.0, 0.05, *np.log(2 * np.array(TAUS))])
        label = f"{FORMS[power]}   1 trace, one start"
        out[label] = line(label, median_ms(lambda q=problem, s=start: refine(q, s), repeats), peers[power])
        minima = solve(problem)
        scale = chi_square(problem, minima[0]) / problem.dof
        errors = np.sqrt(scale * np.diag(covariance(problem, minima[0]).theta))
        ms = median_ms(lambda q=problem, m=minima, s=scale, e=errors: profile_intervals(q, m, s, e), repeats)
        label = f"{FORMS[power]}   1 trace, 4 profiles, 3 levels"
        out[label] = line(label, ms, peers[power])
        ms = median_ms(lambda t=traces, p=power: fit_kinetics(t, power=p, irf_sigma=0.05), repeats)
        label = f"{FORMS[power]}   1 trace, everything"
        out[label] = line(label, ms, peers[power])
        rng = np.random.default_rng(0)
        ms = median_ms(lambda q=problem, m=minima, r=rng: bootstrap_parameters(q, m, n_draws=200, rng=r), 1)
        label = f"{FORMS[power]}   1 trace, 200 bootstraps"
        out[label] = line(label, ms, peers[power])
    return out


def reach(n: int) -> dict[str, dict[str, Any]]:
    """How often the lowest minimum known is found, how often all taus are near the truth, and the efficiency."""
    show(
        "\nreach                       lowest   in 3 sigma bound   CRB variance / MSE (tau1, tau2, tau3)   lmfit lowest"
    )
    out = {}
    cases = [(p, k, s, 1) for p in (1, 2) for k in ("opp", "same") for s in (50, 200)]
    cases += [(p, "opp", s, 25) for p in (1, 2) for s in (50, 200)]
    for power, kind, snr, n_traces in cases:
        found, near, errors, peer = [], [], [], []
        bound = true_bound(power, kind, snr, n_traces)
        for seed in range(n if n_traces == 1 else max(n // 3, 4)):
            traces = simulate(AMPLITUDES[kind], snr=snr, seed=seed, power=power, n_traces=n_traces)
            problem = problem_of(traces, power)
            best = solve(problem)[0]
            from_truth = refine(problem, np.array([0.01, 0.05, *np.log(TAUS)]), tolerance=1e-8, max_iterations=200)
            found.append(best.cost <= from_truth.cost + 0.01)
            errors.append(best.theta[2:] - np.log(TAUS))
            near.append(np.all(np.abs(errors[-1]) < 3 * bound))
            if n_traces == 1 and seed < 30:
                free = solve(problem_of(traces, power, prior=None))[0]
                peer.append(lmfit_from_twice_the_truth(power, traces, AMPLITUDES[kind]) <= free.cost + 0.5)
        efficiency = bound**2 / np.mean(np.square(errors), axis=0)
        label = f"{FORMS[power]} {kind} SNR {snr}, {n_traces} traces"
        out[label] = {"lowest": np.mean(found), "in_3_sigma": np.mean(near), "efficiency": efficiency.tolist()}
        out[label]["lmfit_lowest"] = float(np.mean(peer)) if peer else None
        peer_text = f"{np.mean(peer):.2f}" if peer else "-"
        show(
            f"{label:28s} {np.mean(found):.2f}     {np.mean(near):.2f}             {efficiency.round(2)}    {peer_text}"
        )
    return out


def honesty(n: int) -> dict[str, dict[str, Any]]:
    """Coverage of the intervals, of three standard errors, and how often tau1 is called identifiable."""
    show("\nhonesty                     68 % interval      95 % interval      in 3 stderr        tau1 identifiable")
    out = {}
    for power, kind, snr in [(p, k, s) for p in (1, 2) for k, s in (("opp", 20), ("opp", 50), ("opp", 200))] + [
        (p, "same", s) for p in (1, 2) for s in (50, 200)
    ]:
        rows = []
        for seed in range(n):
            traces = simulate(AMPLITUDES[kind], snr=snr, seed=10_000 + seed, power=power)
            fit = fit_kinetics(traces, power=power, irf_sigma=0.05, systematics=False)
            taus = fit.sel(parameter=["tau1", "tau2", "tau3"])
            inside = [(taus[c][:, 0] <= TAUS) & (taus[c][:, 1] >= TAUS) for c in ("ci68", "ci95")]
            near = np.abs(taus["value"] - TAUS) <= 3 * taus["stderr"]
            rows.append([*(np.asarray(i) for i in inside), near.values, taus["identifiable"].values])
        c68, c95, c3, identified = np.mean(np.array(rows, dtype=float), axis=0)
        label = f"{FORMS[power]} {kind} SNR {snr}"
        out[label] = {"ci68": c68.tolist(), "ci95": c95.tolist(), "in_3_stderr": c3.tolist()}
        out[label]["tau1_identifiable"] = float(identified[0])
        show(f"{label:24s} {c68.round(2)!s:20s}{c95.round(2)!s:20s}{c3.round(3)!s:22s}{identified[0]:.2f}")
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
) -> float:
    """Chi-square that plain lmfit reaches from the true amplitudes, taus a factor 2 off; signal scaled to its peak."""
    traces = simulate(snr=50, power=power) if traces is None else traces
    model = kinetic_lmfit_model(power)
    y, sigma = 100 * traces["delta_xas"].values[0], 100 * traces["delta_xas_stderr"].values[0]
    clean = kinetic_trace(DENSE, t_d=0.01, irf_sigma=0.05, taus=TAUS, amplitudes=amplitudes, power=power)
    start = np.array(amplitudes) / np.abs(clean).max() ** (1 / power)
    parameters = model.make_params(**{f"A{i + 1}": a for i, a in enumerate(start.tolist())})
    parameters["t_d"].set(value=0.0, min=-0.3, max=0.3)
    parameters["irf_sigma"].set(value=0.05, vary=False)
    for name, tau in zip(("tau1", "tau2", "tau3"), TAUS, strict=True):
        parameters[name].set(value=2 * tau, min=0.01, max=200.0)
    return float(model.fit(y, parameters, delay=DENSE, weights=1 / sigma).chisqr)


def median_ms(function: Callable[[], Any], repeats: int) -> float:
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(times))


def line(label: str, ms: float, peer: float) -> dict[str, float]:
    show(f"{label:34s} {ms:8.1f} ms {peer:8.1f} ms       {ms / peer:7.3f}")
    return {"ms": ms, "lmfit_ms": peer, "ratio": ms / peer}


def show(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
