"""summary.json: the numbers a person wants first, and what that person must know before using them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import xarray as xr
from scipy.stats import chi2

from pipeline.results.budget_report import budget_of
from pipeline.results.injection_report import injection_lines, injection_of
from pipeline.results.reference_summary import reference_lines, references_of
from pipeline.results.wording import ends, finite_or_none, percent, plus_minus
from pipeline.science.kinetics.forms import form_name
from pipeline.science.kinetics.intervals import describes
from pipeline.science.quality.noise import BLUR, SETTLED
from pipeline.science.spectra.reference import EARLY
from schemas.catalogue import note
from schemas.config import Config
from schemas.datasets.target_fits import MODELS
from schemas.notes import ALIKE, Note, as_plain, by_severity, note_lines, read_notes
from schemas.products import SCHEMA_VERSION

__all__ = ["summarise", "summary_text", "time_zero_line"]

CHANCE = 1e-4
"""A null test that is less probable than this is a warning."""
SIGMAS = 5.0
"""Deviations of so many standard errors are a warning."""
DELAYS_AGREE = 0.02
"""A run belongs to a spectrum whose delay is this near [ps]."""
NOISY = 1.5
"""Noise over photon noise above which somebody should look."""


def summarise(
    tree: xr.DataTree, config: Config, *, audits: Mapping[int, Sequence[str]], notes: Sequence[Note]
) -> dict[str, Any]:
    """Return the summary of a product; `version`, `created` and `product_hash` are added when it is published.

    `audits` is what the audit of each run found, `notes` what the stages had to say.
    """
    mixture, quality = tree["mixture"].to_dataset(), tree["quality"].to_dataset()
    runs = [_run(quality.sel(run=n), config, audits.get(n, [])) for n in quality["run"].values.tolist()]
    profile = tree.attrs.get("instrument")
    return {
        "schema_version": SCHEMA_VERSION,
        "dataset": config.dataset,
        "instrument": None if profile is None else {n: profile[n] for n in ("name", "hash")},
        "time_zero": _time_zero(tree),
        "references": references_of(tree, config),
        "kinetics": _kinetics(tree, config),
        "alpha": [_alpha(mixture.sel(fluence=f)) for f in mixture["fluence"].values.tolist()],
        "slope": _estimate(mixture, "slope", "cm^2/mJ"),
        "slope_model_stderr": finite_or_none(mixture["slope_model_stderr"]),
        "intercept": _estimate(mixture, "intercept", "1"),
        "peaks": _peaks(tree["peaks"].to_dataset(), tree["spectra"].to_dataset()),
        "injection": injection_of(tree),
        "budget": budget_of(tree),
        "runs": runs,
        "warnings": as_plain(by_severity([*notes, *_quality_notes(quality), *_fit_notes(tree)])),
    }


def _alpha(one: xr.Dataset) -> dict[str, Any]:
    model = finite_or_none(one["alpha_model_stderr"])
    return {"fluence": float(one["fluence"]), "alpha": _estimate(one, "alpha", "1"), "model_stderr": model}


def _estimate(dataset: xr.Dataset, name: str, unit: str) -> dict[str, Any]:
    found = {"value": finite_or_none(dataset[name]), "stderr": finite_or_none(dataset[f"{name}_stderr"]), "unit": unit}
    unknown = float(dataset.get(f"{name}_stderr_systematic", np.nan))
    return found | ({"stderr_systematic": unknown} if unknown > 0 else {})


def _time_zero(tree: xr.DataTree) -> dict[str, Any] | None:
    found = tree["time_zero"].to_dataset() if "time_zero" in tree.children else xr.Dataset()
    if "stage" not in found:
        return None
    return {
        "stage": _estimate(found, "stage", found["stage"].attrs["units"]),
        "t0": float(found["t0"]),
        "delay": _estimate(found, "t_d", "ps"),
    }


def _kinetics(tree: xr.DataTree, config: Config) -> list[dict[str, Any]]:
    kinetics, result = tree["kinetics"].to_dataset(), []
    for fluence in kinetics["fluence"].values.tolist():
        fit = kinetics.sel(fluence=fluence)
        fitted = {"redchi": finite_or_none(fit["redchi"]), "describes_data": _described(fit)}
        plain = _without_form(fit, config) if fitted["redchi"] is not None else {}
        target = _target(tree, fluence)
        result.append({"fluence": fluence, "parameters": _parameters(fit), **fitted, **plain, "target": target})
    return result


def _without_form(fit: xr.Dataset, config: Config) -> dict[str, Any]:
    """Return the form of a fit, and what other forms would give too: half rise and signal of the strongest trace."""
    strength = np.nansum(np.square(fit["signal"] / fit["signal_stderr"]), axis=fit["signal"].get_axis_num("time"))
    one = fit.isel(energy=int(np.argmax(strength)))
    signals = [one.sel(time=t) for t in one["time"].values[np.isfinite(one["signal"].values)]]
    return {
        "form": form_name(config.kinetics.power, config.kinetics.n_exponentials),
        "half_rise": _estimate(fit, "t50", "ps"),
        "energy": float(one["energy"]),
        "signals": [{"delay": float(s["time"]), "signal": _estimate(s, "signal", "1")} for s in signals],
    }


def _parameters(fit: xr.Dataset) -> dict[str, Any]:
    """Return what is known of each parameter of a kinetic fit or a target model."""
    parameters = {}
    for name in map(str, fit["parameter"].values):
        one = fit.sel(parameter=name)
        parameters[name] = {
            "value": finite_or_none(one["value"]),
            "stderr": finite_or_none(one["stderr"]),
            "ci68": [finite_or_none(v) for v in one["ci68"].values],
            "ci95": [finite_or_none(v) for v in one["ci95"].values],
            "identifiable": bool(one["identifiable"]),
            **{n: finite_or_none(one[n]) for n in ("value_without_prior", "bootstrap_stderr") if n in one},
            **{n: str(one[n].values) for n in ("verdict", "verdict_code")},
        }
    return parameters


def _target(tree: xr.DataTree, fluence: float) -> dict[str, Any] | None:
    if "target" not in tree.children or not str(tree["target"]["reported"].sel(fluence=fluence).values):
        return None
    one = tree["target"].to_dataset().sel(fluence=fluence)
    model = str(one["reported"].values)
    best = one.sel(model=model)
    return {
        "model": model,
        "parameters": _parameters(one),
        "redchi": finite_or_none(one["redchi"]),
        "describes_data": describes(float(best["chi2"]), float(best["dof"])),
        "free_amplitudes_aicc": finite_or_none(one["aicc"].sel(model=MODELS[0]) - best["aicc"]),
        "shift": _estimate(one, "shift", "eV"),
        "returning": _estimate(one, "returning", "1"),
    }


def _described(fit: xr.Dataset) -> bool | None:
    """Whether the model describes the data of one fluence; None where there is no fit or an older product says no χ²."""
    if not {"chi2", "dof"} <= set(fit.data_vars) or not float(fit["dof"]) > 0:
        return None
    return describes(float(fit["chi2"]), float(fit["dof"]))


def _peaks(peaks: xr.Dataset, spectra: xr.Dataset) -> list[dict[str, Any]]:
    result = []
    for fluence, delay, one in _spectra(peaks):
        for name in map(str, peaks["peak"].values):
            peak = one.sel(peak=name)
            if bool(peak["detected"]):
                line = {"position": _estimate(peak, "position", "eV"), "amplitude": _estimate(peak, "amplitude", "1")}
                line["amplitude"] = _unknown_at(spectra, fluence, delay, float(peak["position"])) | line["amplitude"]
                result.append({"peak": name, "fluence": fluence, "delay": delay, **line})
    return result


def _unknown_at(spectra: xr.Dataset, fluence: float, delay: float, energy: float) -> dict[str, float]:
    """Return what the reference cannot know of the difference at an energy, where it is not 0."""
    if "delta_xas_stderr_systematic" not in spectra or not spectra.sizes["energy"]:
        return {}
    row = spectra["delta_xas_stderr_systematic"].sel(fluence=fluence, delay=delay)
    value = float(row.sel(energy=energy, method="nearest"))
    return {"stderr_systematic": value} if value > 0 else {}


def _spectra(peaks: xr.Dataset) -> Iterator[tuple[float, float, xr.Dataset]]:
    """Yield fluence, delay and peaks of every spectrum."""
    for fluence, delay in product(peaks["fluence"].values.tolist(), peaks["delay"].values.tolist()):
        yield fluence, delay, peaks.sel(fluence=fluence, delay=delay)


def _run(row: xr.Dataset, config: Config, audit: Sequence[str]) -> dict[str, Any]:
    number = int(row["run"])
    return {
        "run": number,
        "kind": config.kind_of(number),
        "frames_expected": int(row["frames_expected"]),
        "frames_read": int(row["frames_read"]),
        "pulses_used": int(row["pulses_used"]),
        "pulses_without_pump": int(row["pulses_without_pump"]) if "pulses_without_pump" in row else None,
        "noise_ratio": finite_or_none(row["noise_ratio"]),
        "null_chi2": finite_or_none(row["null_chi2"]),
        "audit": list(audit),
    }


BORDER_MATTERS = 1e-3
"""Change [OD] of the light at the border of the regions over the energies of a run from which on it is told."""
_CHANCES = (
    ("null_p", "null_chi2", "quality.null_test"),
    ("null_p_unpumped", "null_chi2_unpumped", "quality.null_test_unpumped"),
    ("null_p_early", "null_chi2_early", "quality.null_test_early"),
    ("agreement_p", "agreement_chi2", "quality.runs_disagree"),
)
"""A probability in `/quality`, the χ² that it belongs to, and the code where it is no chance."""
_SIZES = {
    "offset": ("quality.offset", 1e3),
    "normalisation": ("quality.normalisation", 1e3),
    "drift": ("quality.drift", 1e3),
    "build_up": ("quality.build_up", 1e2),
    "intensity_change": ("quality.intensity", 1e3),
}
"""Variable of `/quality` -> code where it is not zero, and the factor to mOD or per cent."""


def _quality_notes(quality: xr.Dataset) -> list[Note]:
    """Return what a person must know before using the numbers, run by run."""
    return [one for number in quality["run"].values.tolist() for one in _notes_of_run(quality.sel(run=number))]


def _notes_of_run(row: xr.Dataset) -> list[Note]:
    run, value = int(row["run"]), {str(n): float(v) for n, v in row.data_vars.items() if v.ndim == 0}
    notes = [note("quality.no_pulse_used", run=run)] if value["pulses_used"] == 0 else []
    for probability, chi_square, code in _CHANCES:
        if value[probability] < CHANCE:
            notes.append(note(code, run=run, chi2=value[chi_square]))
    if value["noise_ratio"] > NOISY:
        notes.append(note("quality.noise", run=run, ratio=value["noise_ratio"]))
    if abs(value.get("backlash", np.nan)) > SIGMAS * value.get("backlash_stderr", np.nan):
        shift, stderr = (1e3 * value[n] for n in ("backlash", "backlash_stderr"))
        notes.append(note("quality.backlash", run=run, shift_mev=shift, stderr_mev=stderr))
    for name, (code, factor) in _SIZES.items():
        # an older product lacks some
        size, error = value.get(name, np.nan), value.get(f"{name}_stderr", np.nan)
        if abs(size) > SIGMAS * error:
            notes.append(note(code, run=run, value=factor * size, stderr=factor * error))
    moved, error = (value.get(n, np.nan) for n in ("border_change", "border_change_stderr"))
    if abs(moved) > max(SIGMAS * error, BORDER_MATTERS):
        notes.append(note("quality.border", run=run, value=1e3 * moved, stderr=1e3 * error))
    return notes


def _fit_notes(tree: xr.DataTree) -> list[Note]:
    kinetics, notes = tree["kinetics"].to_dataset(), []
    for fluence in kinetics["fluence"].values.tolist():
        fit = kinetics.sel(fluence=fluence)
        redchi, points = float(fit["redchi"]), float(fit["dof"]) if "dof" in fit else np.nan
        if _described(fit) is False:
            notes.append(note("kinetics.misfit", fluence=fluence, redchi=redchi))
        if points > 0 and redchi < 1 - SIGMAS * np.sqrt(2 / points):
            notes.append(note("kinetics.errors_too_large", fluence=fluence, redchi=redchi))
    return [*notes, *_disturbed_spectra(tree), *_constants_under_peaks(tree)]


def _disturbed_spectra(tree: xr.DataTree) -> list[Note]:
    """Name the spectra that scatter about a smooth curve beyond their errors, by how much these were enlarged, and why."""
    peaks, quality = tree["peaks"].to_dataset(), tree["quality"].to_dataset()
    if "dof" not in peaks:
        return []
    notes = []
    for fluence, delay, one in _spectra(peaks[["redchi", "dof", "stderr_scale"]]):
        redchi, scale = float(one["redchi"]), float(one["stderr_scale"])
        freedom = float(one["dof"])
        if scale > 1.0 and chi2.sf(redchi * freedom, freedom) < CHANCE:
            near = _measured_at(quality, fluence, delay)
            spread = float(near["delay_spread"].max()) if "delay_spread" in near and near.sizes["run"] else np.nan
            code = "peaks.scatter"
            if EARLY < delay < SETTLED:
                code = "peaks.scatter_by_arrival" if spread > BLUR else "peaks.scatter_near_time_zero"
            about = _about(near, fluence, delay)
            notes.append(note(code, **about, redchi=redchi, scale=scale, spread_fs=1e3 * spread))
    return notes


def _measured_at(quality: xr.Dataset, fluence: float, delay: float) -> xr.Dataset:
    """Return the rows of the runs that belong to a spectrum."""
    apart = abs(quality["run_delay"] - delay)
    # the mean delay of few trains that jitter is not quite the stage's
    spread = quality["delay_spread"].fillna(0.0) if "delay_spread" in quality else xr.zeros_like(apart)
    near = (quality["run_fluence"] == fluence) & (apart < np.maximum(spread, DELAYS_AGREE))
    return quality.isel(run=np.flatnonzero(near.values))


def _about(near: xr.Dataset, fluence: float, delay: float) -> dict[str, Any]:
    """Return what a note on a spectrum is about; `run` is None where several runs, or none, were measured there."""
    numbers = near["run"].values.tolist()
    runs = ", ".join(f"run {n}" for n in numbers) or "several runs"
    return {"run": numbers[0] if len(numbers) == 1 else None, "fluence": fluence, "delay": delay, "runs": runs}


def _constants_under_peaks(tree: xr.DataTree) -> list[Note]:
    """Name the runs whose difference stands on a constant: no other run need have measured the same to see that."""
    peaks, quality = tree["peaks"].to_dataset(), tree["quality"].to_dataset()
    if "line_redchi" not in peaks:
        return []
    common = float(tree["spectra"]["flat_field_constant_stderr"])
    notes = []
    for fluence, delay, one in _spectra(peaks):
        # the error of the flat-field constant is in all bins alike
        value, error = float(one["offset"]), float(np.hypot(float(one["offset_stderr"]), common))
        if abs(value) > SIGMAS * error > 0:
            about = _about(_measured_at(quality, fluence, delay), fluence, delay)
            notes.append(note("peaks.constant", **about, value=1e3 * value, stderr=1e3 * error))
    return notes


def summary_text(summary: Mapping[str, Any]) -> str:
    """Return a summary as text for a terminal."""
    lines = [f"{summary['dataset']}  {summary.get('version', '')}  {summary.get('created', '')}"]
    if instrument := summary.get("instrument"):
        lines.append(f"instrument profile {instrument['name']}, content {instrument['hash'][:8]}")
    lines += ["", *reference_lines(summary.get("references", []))]
    for fit in summary.get("kinetics", []):
        lines += _fit_lines(fit)
    if summary.get("alpha"):
        unknown = any(row.get("model_stderr") for row in summary["alpha"])
        lines.append("excited fraction" + (" (± noise ± models and reference)" if unknown else ""))
        for row in summary["alpha"]:
            value = percent(row["alpha"], row.get("model_stderr"))
            lines.append(f"  {row['fluence']:6g} mJ/cm²  α = {value or '–'}")
        if slope := percent(summary.get("slope") or {"value": None}, summary.get("slope_model_stderr")):
            lines.append(f"  slope {slope} per mJ/cm²")
    if summary.get("peaks"):
        unknown = any(row["amplitude"].get("stderr_systematic") for row in summary["peaks"])
        lines.append("peaks of the difference" + (" (± noise ± reference)" if unknown else ""))
    for row in summary.get("peaks", []):
        position, height = (_shown(row[name], factor) for name, factor in (("position", 1.0), ("amplitude", 1e3)))
        lines.append(f"  {row['peak']} {row['fluence']:6g} mJ/cm² {row['delay']:7.2f} ps  {position} eV   {height} mOD")
    lines += injection_lines(summary.get("injection"))
    lines.append("runs")
    audits = Counter(text for run in summary.get("runs", []) for text in run["audit"])
    lines += [f"  ! {n} runs: {text}" for text, n in audits.items() if n >= ALIKE]
    for run in summary.get("runs", []):
        noise = "–" if run["noise_ratio"] is None else f"{run['noise_ratio']:.2f}"
        lines.append(
            f"  {run['run']:4d} {run['kind']:12s} {run['pulses_used']:>8d} of {run['frames_expected']} pulses used, "
            f"noise/photon noise {noise}"
        )
        lines += [f"       ! {text}" for text in run["audit"] if audits[text] < ALIKE]
    lines += note_lines(read_notes(summary.get("warnings", [])))
    if zero := summary.get("time_zero"):
        lines.append(time_zero_line(zero))
    return "\n".join(lines)


def _shown(estimate: Mapping[str, Any], factor: float) -> str:
    """Return an estimate in other units, with the systematic error that is not 0."""
    value, *errors = (estimate.get(n) for n in ("value", "stderr", "stderr_systematic"))
    return plus_minus(None if value is None else factor * value, *(factor * (e or 0) for e in errors))


def time_zero_line(zero: Mapping[str, Any]) -> str:
    """Return time zero of a summary as one line, with what belongs into the config."""
    value, stderr = zero["stage"]["value"], zero["stage"]["stderr"]
    shown = plus_minus(value, stderr)
    return f"time zero at stage {shown} {zero['stage']['unit']} → delay.t0: {shown.split()[0]}"


def _fit_lines(fit: Mapping[str, Any]) -> Iterator[str]:
    head = f"kinetics at {fit['fluence']:g} mJ/cm²"
    if all(p["value"] is None for p in fit["parameters"].values()):
        yield f"{head}: no fit, no delay scan"
        return
    form = f", {fit['form']}" if fit.get("form") else ""
    yield head + form + _quality(fit)
    yield from _parameter_lines(fit["parameters"])
    if half := _plain_line(fit):
        yield half
    if target := fit.get("target"):
        yield f"  target model of all energies, {target['model']}{_quality(target)}"
        yield from _parameter_lines(target["parameters"], indent="    ")
        if target["shift"]["value"] is not None:
            yield f"    the line moves from {_shown(target['shift'], 1.0)} eV to 0 while tau3 runs"
        yield f"    {percent(target['returning'])} of what is excited returns with tau2"


def _quality(fit: Mapping[str, Any]) -> str:
    quality = f"   χ²/dof {fit['redchi']:.2f}" if fit["redchi"] else ""
    return quality + ("   the model does not describe the data" if fit.get("describes_data") is False else "")


def _parameter_lines(parameters: Mapping[str, Any], indent: str = "  ") -> Iterator[str]:
    """Yield a line per parameter of the form: a value with its error, or what is known in place of one."""
    for name, p in ((name, p) for name, p in parameters.items() if p["value"] is not None):
        if p["identifiable"]:
            yield f"{indent}{name:9s} {plus_minus(p['value'], p['stderr'])} ps   68 %: {ends(p['ci68'])}"
        elif p["verdict"]:
            yield f"{indent}{p['verdict']}"
        else:
            yield f"{indent}{name:9s} not determined to a value; {ends(p['ci68'])} ps at 68 %"


def _plain_line(fit: Mapping[str, Any]) -> str:
    """Return what any form gives of the strongest trace; empty for an older product."""
    if not (half := fit.get("half_rise")) or half["value"] is None:
        return ""
    there = [f"{_shown(one['signal'], 1e3)} mOD at {one['delay']:g} ps" for one in fit.get("signals", [])]
    return f"  any form: half rise at {_shown(half, 1.0)} ps; {fit['energy']:.2f} eV has " + ", ".join(there)
