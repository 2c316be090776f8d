"""Calibration of the share of the excited state at the demo's photon noise: pulls, intervals, model error, time."""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from pipeline.science.mixture.alpha import fit_mixture
from pipeline.science.mixture.dos import broaden
from pipeline.science.mixture.dos_models import fit_builtin_models, fit_models
from tests.science import mixture_truth as truth

N_SETS = 400
LINEAR = truth.alpha_of(truth.FLUENCE)
TWO_DELAYS = np.array([4.8, 10.0])


def main() -> None:
    """Print all parts; the last line is JSON with the same numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the sets")
    n = N_SETS // 10 if parser.parse_args().quick else N_SETS
    begin = time.perf_counter()
    result: dict[str, Any] = {"n_sets": n}
    print(f"{n} sets each; a mean is known to ±{1 / np.sqrt(n):.2f}, a width to ±{1 / np.sqrt(2 * n):.2f}")
    print(f"{'pulls':64s}  {'mean':>18s}  {'width':>18s}")
    cases: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "the demo": (LINEAR, {}),
        "two late delays each": (LINEAR, {"delay": TWO_DELAYS}),
        "short flat field: its constant is a common error": (LINEAR, {"flat_field_pulses": 100}),
        "a twentieth of the pulses": (LINEAR, {"pulses": 2}),
        "alpha = 0 ... 1, ends included": (np.array([0.0, 1 / 3, 2 / 3, 1.0]), {}),
        "alpha = 0 everywhere": (np.zeros(4), {}),
    }
    for seed, (name, (alpha, options)) in enumerate(cases.items()):
        results = many(n, seed, alpha, with_dos, **options)
        result[name] = {"pulls": shown(name, truth.pulls_of(results, alpha))}
        result[name] |= {"coverage": coverage(results, alpha), "linear_p": p_values(results)}
    result["built-in"] = builtin(max(n // 4, 10))
    result["alternatives"] = alternatives(max(n // 8, 10))
    result["seconds"] = time.perf_counter() - begin
    print(json.dumps(result))


def with_dos(data: xr.Dataset) -> xr.Dataset:
    ground, excited = truth.dos()
    return fit_mixture(
        data, ground, excited, window=truth.WINDOW, min_delay=truth.MIN_DELAY, gaussian_fwhm=truth.GAUSSIAN_FWHM
    )


def many(
    n: int, seed: int, alpha: np.ndarray, fit: Callable[[xr.Dataset], xr.Dataset], **options: Any
) -> list[xr.Dataset]:
    return [fit(truth.demo_spectra(np.random.default_rng([seed, k]), alpha=alpha, **options)) for k in range(n)]


def shown(name: str, pulls: dict[str, np.ndarray]) -> dict[str, dict[str, list[float]]]:
    out = {}
    for what, values in pulls.items():
        mean, width = values.mean(axis=0), values.std(axis=0)
        out[what] = {"mean": mean.tolist(), "width": width.tolist()}
        text = "  ".join(f"{span(v):>18s}" for v in (mean, width))
        print(f"{name if what == 'slope' else '':50s}{what:14s}  {text}")
    return out


def span(values: np.ndarray) -> str:
    return f"{values[0]:+.2f}" if len(values) == 1 else f"{values.min():+.2f} ... {values.max():+.2f}"


def coverage(results: list[xr.Dataset], alpha: np.ndarray) -> dict[str, list[float]]:
    """How often the stored intervals, cut to 0 ... 1, hold the truth."""
    out = {}
    for name in ("alpha_ci68", "alpha_ci95"):
        ends = np.array([r[name].values for r in results])
        inside = (ends[..., 0] <= alpha) & (alpha <= ends[..., 1])
        out[name] = inside.mean(axis=0).tolist()
    print(
        f"{'':50s}coverage of 68 and 95 % intervals   {span(np.array(out['alpha_ci68']))}   {span(np.array(out['alpha_ci95']))}"
    )
    return out


def p_values(results: list[xr.Dataset]) -> dict[str, float]:
    """The test of the straight line on shares that lie on one: uniform probabilities."""
    p = np.array([float(r["linear_p"]) for r in results])
    out = {"mean": float(p.mean()), "below_0.05": float((p < 0.05).mean())}
    print(f"{'':50s}linearity: mean p {out['mean']:.2f} (0.5), {out['below_0.05']:.1%} below 0.05")
    return out


def builtin(n: int) -> dict[str, Any]:
    """Model peaks in the place of DOS: bias, and whether statistical and model error together hold the truth."""
    results = many(n, 0, LINEAR, lambda d: fit_builtin_models(d, window=truth.WINDOW, min_delay=truth.MIN_DELAY))
    ratio = np.mean([r["alpha_by_model"].values / LINEAR for r in results], axis=0) - 1
    print(f"built-in peaks, {n} sets: alpha too high by")
    for name, row in zip(results[0]["model"].values, ratio, strict=True):
        print(f"  {name!s:26s} " + "  ".join(f"{v:+.2%}" for v in row))
    both = np.array(
        [((r["alpha"] - LINEAR) / np.hypot(r["alpha_stderr"], r["alpha_model_stderr"])).values for r in results]
    )
    model = np.mean([(r["alpha_model_stderr"] / LINEAR).values for r in results], axis=0)
    print(f"  model error {span(100 * model)} % of alpha; truth within both errors in {(np.abs(both) < 1).mean():.0%}")
    return {"bias": ratio.tolist(), "model_error": model.tolist(), "within": float((np.abs(both) < 1).mean())} | {
        "pulls": shown("statistical error alone", truth.pulls_of(results, LINEAR))
    }


def alternatives(n: int) -> dict[str, Any]:
    """A wrong DOS first and the right one beside it: the model error must hold the truth."""
    ground, excited = truth.dos()
    models = {"main": (ground, broaden(excited, 0.3, 0.0)), "right": (ground, excited)}
    options = {"window": truth.WINDOW, "min_delay": truth.MIN_DELAY, "gaussian_fwhm": truth.GAUSSIAN_FWHM}
    results = many(n, 1, LINEAR, lambda d: fit_models(d, models, **options))
    off = np.array([((r["alpha"] - LINEAR) / r["alpha_stderr"]).values for r in results])
    both = np.array(
        [((r["alpha"] - LINEAR) / np.hypot(r["alpha_stderr"], r["alpha_model_stderr"])).values for r in results]
    )
    print(
        f"excited DOS 0.3 eV too broad, the right one beside it, {n} sets: off by {span(off.mean(axis=0))} statistical errors, "
        f"by {span(both.mean(axis=0))} with the model error"
    )
    return {"statistical": off.mean(axis=0).tolist(), "with_model_error": both.mean(axis=0).tolist()}


if __name__ == "__main__":
    main()
