"""summary.json: the numbers a person wants first, and what that person must know before using them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import chi2

from pipeline.science.kinetics.intervals import describes
from pipeline.science.quality.noise import BLUR, EARLY, SETTLED
from schemas.config import Config
from schemas.config.runs import DelayScanRun
from schemas.products import SCHEMA_VERSION

__all__ = ["summarise", "summary_text"]

CHANCE = 1e-4
"""A null test that is less probable than this is a warning."""
SIGMAS = 5.0
"""Deviations of so many standard errors are a warning."""
DELAYS_AGREE = 0.02
"""A run belongs to a spectrum whose delay is this near [ps]."""
PEAK_PARAMETERS = 7
"""Parameters of two free lines and a constant."""


def summarise(
    tree: xr.DataTree, config: Config, *, audits: Mapping[int, Sequence[str]], warnings: Sequence[str]
) -> dict[str, Any]:
    """Return the summary of a product; `version`, `created` and `product_hash` are added when it is published.

    Parameters
    ----------
    tree
        All groups of the product.
    config
        The config it was made with.
    audits
        What the audit of each run found.
    warnings
        What the stages had to say.
    """
    mixture = tree["mixture"].to_dataset()
    quality = tree["quality"].to_dataset()
    runs = [_run(quality.sel(run=n), config, audits.get(n, [])) for n in quality["run"].values.tolist()]
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": config.dataset,
        "instrument": {n: tree.attrs["instrument"][n] for n in ("name", "hash")}
        if "instrument" in tree.attrs
        else None,
        "kinetics": _kinetics(tree["kinetics"].to_dataset()),
        "alpha": [
            {
                "fluence": f,
                "alpha": _estimate(mixture.sel(fluence=f), "alpha", "1"),
                "model_stderr": _number(mixture["alpha_model_stderr"].sel(fluence=f)),
            }
            for f in mixture["fluence"].values.tolist()
        ],
        "slope": _estimate(mixture, "slope", "cm^2/mJ"),
        "slope_model_stderr": _number(mixture["slope_model_stderr"]),
        "intercept": _estimate(mixture, "intercept", "1"),
        "peaks": _peaks(tree["peaks"].to_dataset()),
        "runs": runs,
        "warnings": [*warnings, *_quality_warnings(quality), *_fit_warnings(tree)],
    }


def _number(value: Any) -> float | None:
    number = float(value)
    return number if np.isfinite(number) else None


def _estimate(dataset: xr.Dataset, name: str, unit: str) -> dict[str, Any]:
    return {"value": _number(dataset[name]), "stderr": _number(dataset[f"{name}_stderr"]), "unit": unit}


def _kinetics(kinetics: xr.Dataset) -> list[dict[str, Any]]:
    verdicts = json.loads(kinetics.attrs.get("verdicts", "{}"))
    result = []
    for fluence in kinetics["fluence"].values.tolist():
        fit = kinetics.sel(fluence=fluence)
        words = verdicts.get(f"{fluence:g}", [])
        parameters = {}
        for name in map(str, fit["parameter"].values):
            one = fit.sel(parameter=name)
            own = [w for w in words if w.startswith(name)]
            parameters[name] = {
                "value": _number(one["value"]),
                "stderr": _number(one["stderr"]),
                "ci68": [_number(v) for v in one["ci68"].values],
                "ci95": [_number(v) for v in one["ci95"].values],
                "identifiable": bool(one["identifiable"]),
                **{n: _number(one[n]) for n in ("value_without_prior", "bootstrap_stderr") if n in one},
                "verdict": own[0] if own else ("" if np.isfinite(one["value"]) else f"{name}: no fit at this fluence"),
            }
        described = _described(fit)
        result.append(
            {
                "fluence": fluence,
                "parameters": parameters,
                "redchi": _number(fit["redchi"]),
                "describes_data": described,
            }
        )
    return result


def _described(fit: xr.Dataset) -> bool | None:
    """Whether the model describes the data of one fluence; None where there is no fit or an older product says no χ²."""
    if not {"chi2", "dof"} <= set(fit.data_vars) or not float(fit["dof"]) > 0:
        return None
    return describes(float(fit["chi2"]), float(fit["dof"]))


def _peaks(peaks: xr.Dataset) -> list[dict[str, Any]]:
    result = []
    for fluence in peaks["fluence"].values.tolist():
        for delay in peaks["delay"].values.tolist():
            for peak in map(str, peaks["peak"].values):
                one = peaks.sel(fluence=fluence, delay=delay, peak=peak)
                if bool(one["detected"]):
                    result.append(
                        {
                            "peak": peak,
                            "fluence": fluence,
                            "delay": delay,
                            "position": _estimate(one, "position", "eV"),
                            "amplitude": _estimate(one, "amplitude", "1"),
                        }
                    )
    return result


def _run(row: xr.Dataset, config: Config, audit: Sequence[str]) -> dict[str, Any]:
    number = int(row["run"])
    scan = config.run_of(number)
    kind = "flat_field" if scan is None else ("delay_scan" if isinstance(scan, DelayScanRun) else "energy_scan")
    return {
        "run": number,
        "kind": kind,
        "frames_expected": int(row["frames_expected"]),
        "frames_read": int(row["frames_read"]),
        "pulses_used": int(row["pulses_used"]),
        "noise_ratio": _number(row["noise_ratio"]),
        "null_chi2": _number(row["null_chi2"]),
        "audit": list(audit),
    }


def _quality_warnings(quality: xr.Dataset) -> list[str]:
    """Return what a person must know before using the numbers, run by run."""
    found = []
    for number in quality["run"].values.tolist():
        row = {str(n): float(v) for n, v in quality.sel(run=number).data_vars.items() if v.ndim == 0}
        name = f"run {number}"
        if row["pulses_used"] == 0:
            found.append(f"{name}: no pulse is used")
        if row["null_p"] < CHANCE:
            found.append(f"{name}: odd and even trains differ (χ²/dof {row['null_chi2']:.2f}): do not trust its errors")
        if row["null_p_unpumped"] < CHANCE:
            found.append(
                f"{name}: the unpumped sample differs between odd and even trains (χ²/dof {row['null_chi2_unpumped']:.2f})"
            )
        if row["null_p_early"] < CHANCE:
            found.append(
                f"{name}: delta_xas is not zero before time zero (χ²/dof {row['null_chi2_early']:.2f}): its "
                "normalisation, delay.t0, delay.sign or the flat field is off"
            )
        if row["agreement_p"] < CHANCE:
            found.append(
                f"{name}: delta_xas disagrees with other runs at this fluence and delay (χ²/dof "
                f"{row['agreement_chi2']:.2f})"
            )
        if row["noise_ratio"] > 1.5:
            found.append(f"{name}: noise is {row['noise_ratio']:.2f} times the photon noise")
        if abs(row.get("backlash", np.nan)) > SIGMAS * row.get("backlash_stderr", np.nan):
            found.append(
                f"{name}: the energy axis of up sweeps reads {1e3 * row['backlash']:+.0f} ± {1e3 * row['backlash_stderr']:.0f} meV"
                " against that of down sweeps (backlash): lines are broadened and moved by half of it"
            )
        for what, text in (
            ("offset", "delta_xas differs from that of other runs at this fluence and delay by"),
            ("normalisation", "od_unpumped differs from that of the other energy scans by"),
            ("drift", "delta_xas changes along the burst by"),
        ):
            if abs(row[what]) > SIGMAS * row[f"{what}_stderr"]:
                found.append(f"{name}: {text} {1e3 * row[what]:.2f} ± {1e3 * row[f'{what}_stderr']:.2f} mOD")
        if abs(row["build_up"]) > SIGMAS * row["build_up_stderr"]:
            found.append(
                f"{name}: the size of delta_xas changes along the burst by {100 * row['build_up']:.0f} ± "
                f"{100 * row['build_up_stderr']:.0f} %"
            )
    return found


def _fit_warnings(tree: xr.DataTree) -> list[str]:
    kinetics, found = tree["kinetics"].to_dataset(), []
    for fluence in kinetics["fluence"].values.tolist():
        fit = kinetics.sel(fluence=fluence)
        points = float(fit["dof"]) if "dof" in fit else np.nan
        if _described(fit) is False:
            found.append(
                f"kinetics at {fluence:g} mJ/cm²: the model does not describe the data (χ²/dof {float(fit['redchi']):.2f})"
            )
        if points > 0 and float(fit["redchi"]) < 1 - SIGMAS * np.sqrt(2 / points):
            found.append(
                f"kinetics at {fluence:g} mJ/cm²: the errors of the data look too large (χ²/dof {float(fit['redchi']):.2f})"
            )
    return [*found, *_disturbed_spectra(tree), *_constants_under_peaks(tree)]


def _disturbed_spectra(tree: xr.DataTree) -> list[str]:
    """Name the spectra that lines do not describe within their errors, by how much these were enlarged, and why."""
    peaks, quality = tree["peaks"].to_dataset(), tree["quality"].to_dataset()
    if "stderr_scale" not in peaks:
        return []
    found = []
    for fluence in peaks["fluence"].values.tolist():
        for delay in peaks["delay"].values.tolist():
            one = peaks[["redchi", "stderr_scale", "n_bins"]].sel(fluence=fluence, delay=delay)
            redchi, scale = float(one["redchi"]), float(one["stderr_scale"])
            freedom = max(int(one["n_bins"]) - PEAK_PARAMETERS, 1)
            if not (scale > 1.0 and chi2.sf(redchi * freedom, freedom) < CHANCE):
                continue
            near = _measured_at(quality, fluence, delay)
            text = (
                f"peaks at {fluence:g} mJ/cm², {delay:.3g} ps ({_names(near)}): delta_xas scatters about lines A and B far beyond "
                f"delta_xas_stderr (χ²/dof {redchi:.1f}); the errors of the lines are enlarged ({scale:.1f} times), those of "
                "delta_xas are too small"
            )
            spread = float(near["delay_spread"].max()) if "delay_spread" in near and near.sizes["run"] else np.nan
            if EARLY < delay < SETTLED and spread > BLUR:
                text += f". Its pulses arrive at times {1e3 * spread:.0f} fs rms apart while the signal changes"
            elif EARLY < delay < SETTLED:
                text += (
                    ". So near time zero trains that arrive at different times do this (jitter that was not recorded), as do a"
                    " pump that fluctuates and lines of another shape; take several trains per energy"
                )
            else:
                text += (
                    ". Noise of whole trains that the flat field does not have (the pump), or lines of another shape"
                )
            found.append(text)
    return found


def _measured_at(quality: xr.Dataset, fluence: float, delay: float) -> xr.Dataset:
    """Return the rows of the runs that belong to a spectrum."""
    apart = abs(quality["run_delay"] - delay)
    # the mean delay of few trains that jitter is not quite the stage's
    spread = quality["delay_spread"].fillna(0.0) if "delay_spread" in quality else xr.zeros_like(apart)
    near = (quality["run_fluence"] == fluence) & (apart < np.maximum(spread, DELAYS_AGREE))
    return quality.isel(run=np.flatnonzero(near.values))


def _names(quality: xr.Dataset) -> str:
    return ", ".join(f"run {n}" for n in quality["run"].values.tolist()) or "several runs"


def _constants_under_peaks(tree: xr.DataTree) -> list[str]:
    """Name the runs whose difference stands on a constant: no other run need have measured the same to see that."""
    peaks, quality = tree["peaks"].to_dataset(), tree["quality"].to_dataset()
    if not peaks.attrs.get("constant_offset") or "offset" not in peaks:
        return []
    common = float(tree["spectra"]["flat_field_constant_stderr"])
    found = []
    for fluence in peaks["fluence"].values.tolist():
        for delay in peaks["delay"].values.tolist():
            value, error = (float(peaks[n].sel(fluence=fluence, delay=delay)) for n in ("offset", "offset_stderr"))
            # the error of the flat-field constant is in all bins alike
            error = float(np.hypot(error, common))
            if abs(value) > SIGMAS * error > 0:
                found.append(
                    f"{_names(_measured_at(quality, fluence, delay))}: delta_xas at {fluence:g} mJ/cm², {delay:.3g} ps stands on a constant of {1e3 * value:.2f} ± "
                    f"{1e3 * error:.2f} mOD: a step of the normalisation, or a change that peaks A and B do not describe"
                )
    return found


def summary_text(summary: Mapping[str, Any]) -> str:
    """Return a summary as text for a terminal."""
    lines = [f"{summary['dataset']}  {summary.get('version', '')}  {summary.get('created', '')}"]
    if instrument := summary.get("instrument"):
        lines.append(f"instrument profile {instrument['name']}, content {instrument['hash'][:8]}")
    lines.append("")
    for fit in summary.get("kinetics", []):
        if all(p["value"] is None for p in fit["parameters"].values()):
            lines.append(f"kinetics at {fit['fluence']:g} mJ/cm²: no fit, no delay scan")
            continue
        lines.append(
            f"kinetics at {fit['fluence']:g} mJ/cm²"
            + (f"   χ²/dof {fit['redchi']:.2f}" if fit["redchi"] else "")
            + ("   the model does not describe the data" if fit.get("describes_data") is False else "")
        )
        for name, p in fit["parameters"].items():
            if p["value"] is None:
                continue
            low, high = ("open" if v is None else f"{v:.3g}" for v in p["ci68"])
            if p["identifiable"]:
                lines.append(f"  {name:9s} {_pm(p['value'], p['stderr'])} ps   68 %: {low} … {high}")
            else:
                lines.append(
                    f"  {name:9s} not determined   68 %: {low} … {high} ps"
                    + (f"   {p['verdict']}" if p["verdict"] else "")
                )
    if summary.get("alpha"):
        lines.append("excited fraction")
        for row in summary.get("alpha", []):
            a = row["alpha"]
            shown = "–" if a["value"] is None else f"{_pm(100 * a['value'], 100 * (a['stderr'] or 0))} %"
            model = row.get("model_stderr")
            other = "" if model is None else f"   other models: ± {100 * model:.2g} %"
            lines.append(f"  {row['fluence']:6g} mJ/cm²  α = {shown}{other}")
        s = summary.get("slope") or {"value": None}
        if s["value"] is not None:
            lines.append(f"  slope {_pm(100 * s['value'], 100 * (s['stderr'] or 0))} % per mJ/cm²")
    if summary.get("peaks"):
        lines.append("peaks of the difference")
        for row in summary.get("peaks", []):
            p, a = row["position"], row["amplitude"]
            lines.append(
                f"  {row['peak']} {row['fluence']:6g} mJ/cm² {row['delay']:7.2f} ps  {_pm(p['value'], p['stderr'])} eV"
                f"   {_pm(1e3 * a['value'], 1e3 * (a['stderr'] or 0))} mOD"
            )
    lines.append("runs")
    for run in summary.get("runs", []):
        noise = "–" if run["noise_ratio"] is None else f"{run['noise_ratio']:.2f}"
        lines.append(
            f"  {run['run']:4d} {run['kind']:12s} {run['pulses_used']:>8d} of {run['frames_expected']} pulses used, "
            f"noise/photon noise {noise}"
        )
        lines += [f"       ! {text}" for text in run["audit"]]
    lines += [f"WARNING {text}" for text in summary.get("warnings", [])]
    return "\n".join(lines)


def _pm(value: float, stderr: float | None) -> str:
    if not stderr:
        return f"{value:.4g}"
    digits = max(0, int(np.ceil(1 - np.log10(stderr)))) if stderr < 10 else 0
    return f"{value:.{digits}f} ± {stderr:.{digits}f}"
