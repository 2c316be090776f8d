"""What errors on the times to expect, how many shots a target takes, and which delays would be better.

The plan rests on a product (measured delays and errors, fitted taus and amplitudes) or, before there is one, on the
`plan` section of a config. Model and settings are those of the fit; `science.design` does the arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.errors import DataError, ProductError
from pipeline.job import out_folder, read_config
from pipeline.results.interleave import interleave_lines, interleave_of_config, interleave_of_product
from pipeline.results.wording import finite_or_none
from pipeline.science.kinetics.design import (
    Response,
    candidate_delays,
    efficiency,
    expected_errors,
    optimal_delays,
    rounded_shots,
    shots_for,
    tau_information,
)
from pipeline.science.kinetics.traces import collect_traces
from pipeline.storage import layout, versions
from schemas.config import Config
from schemas.config.beamtime import Plan
from schemas.config.fit_options import Measured
from schemas.strict import grid_values

__all__ = ["make_plan", "plan_of_config", "plan_of_product", "plan_text"]

Floats = NDArray[np.float64]
_HOPELESS = 1.0
"""A relative error above this is shown as "not determined"."""


def make_plan(
    where: Path | str, assignments: Iterable[str] = (), *, out: Path | str | None = None, from_config: bool = False
) -> dict[str, Any]:
    """Return the plan for a config (its product if it was processed and fitted, else its `plan` section) or a product.

    `where` is a config (.yaml, .yml) with `key=value` changes and the folder or URL of its products, or a product as
    `versions.resolve` takes it. With `from_config` the `plan` section is used even if there is a product.

    Raises
    ------
    ConfigError, ProductError, DataError
        One line each.
    """
    if not str(where).endswith((".yaml", ".yml")):
        found = versions.resolve_intact(where)
        return plan_of_product(versions.open_product(found), f"product {found}")
    config = read_config(Path(where), assignments)
    if from_config:
        return plan_of_config(config) | {"note": "a product, if there is one, was not looked at"}
    note = "there is no product of this config yet"
    version = versions.latest(layout.products(out_folder(Path(where), out), config.dataset))
    if version is not None:
        try:
            tree = versions.open_product(versions.intact(version))
            return plan_of_product(tree, f"product {version}", settings=config.plan)
        except ProductError as error:
            note = f"the product {version.name} cannot be used: {error}"
    return plan_of_config(config) | {"note": note}


# --- what the plan rests on -------------------------------------------------------------------------------------------


def plan_of_product(tree: xr.DataTree, source: str, *, settings: Plan | None = None) -> dict[str, Any]:
    """Return the plan of every fitted fluence of a product.

    The delay scans are planned; energies of the spectra that took part in the fit stay as they are.

    Raises
    ------
    ProductError
        If no fluence was fitted.
    """
    config = Config.model_validate_json(tree.attrs["config"])
    settings = settings or config.plan
    spectra, scan, kinetics = (tree[n].to_dataset().load() for n in ("spectra", "delay_scan", "kinetics"))
    there = (scan["n_pulses"] > 0).transpose("scan", "delay").values
    cases, notes = [], []
    for fluence in kinetics["fluence"].values.tolist():
        fit, chosen = kinetics.sel(fluence=fluence), (scan["fluence"].values == fluence) & there.any(axis=1)
        fitted = fit["value"].sel(parameter=[p for p in fit["parameter"].values if str(p).startswith("tau")]).values
        taus = tuple(fitted[np.isfinite(fitted) & (fitted > 0)].tolist())
        if not taus or not chosen.any():
            continue
        measured = scan.isel(scan=chosen, delay=there[chosen].any(axis=0)).transpose("scan", "delay")
        held = None
        if config.kinetics.global_:
            others = collect_traces(spectra, scan.isel(scan=slice(0)), fluence, include_spectra=True)
            held = None if others is None else _information(_response(config, taus, fit, others), others)
        try:
            case = _case(_response(config, taus, fit, measured), measured, settings, held)
        except DataError as error:
            notes.append(f"{fluence:g} mJ/cm²: {error}")
            continue
        known = {n: bool(fit["identifiable"].sel(parameter=n)) for n in case["taus"]}
        cases.append(
            {"fluence": fluence, "energies": measured["energy"].values.tolist()} | case | {"identifiable": known}
        )
    if not cases:
        raise ProductError(
            "; ".join(notes)
            or "the product holds no kinetic fit of a delay scan to plan from; process a delay scan first"
        )
    basis = "delays, errors, times and amplitudes as measured"
    interleave = interleave_of_product(tree, config)
    return {"source": source, "basis": basis, "note": "; ".join(notes), "cases": cases, "interleave": interleave}


def _response(config: Config, taus: tuple[float, ...], fit: xr.Dataset, traces: xr.Dataset) -> Response:
    """Return the fitted response at the energies of the traces."""
    amplitudes = fit["amplitude"].sel(energy=traces["energy"].values).values.T[:, : len(taus)]
    t_d, irf_sigma = (float(fit["value"].sel(parameter=n)) for n in ("t_d", "irf_sigma"))
    stderrs = [_known(config.kinetics.setting(n), 0.0)[1] for n in ("t_d", "irf_sigma")]
    return Response(taus, np.nan_to_num(amplitudes), config.kinetics.power, t_d, irf_sigma, *stderrs)


def _information(response: Response, traces: xr.Dataset) -> Floats:
    return tau_information(response, traces["delay"].values, _precision(traces["delta_xas_stderr"].values))


def plan_of_config(config: Config) -> dict[str, Any]:
    """Return the plan of the `plan` section, with the fit's settings of the `kinetics` section."""
    plan, kinetics = config.plan, config.kinetics
    n = kinetics.n_exponentials
    rows = np.array(plan.scans, dtype=np.float64)[:, :n]
    t_d, t_d_stderr = _known(kinetics.setting("t_d"), 0.0)
    irf_sigma, irf_stderr = _known(kinetics.setting("irf_sigma"), plan.irf_sigma)
    delay = np.unique(grid_values(plan.delays))
    response = Response(plan.taus[:n], rows, kinetics.power, t_d, irf_sigma, t_d_stderr, irf_stderr)
    peak = float(np.abs(response.traces(delay)).max())
    if not peak > 0:
        raise DataError("plan.delays: no signal at any planned delay; give delays after time zero")
    response = replace(response, amplitudes=rows * (plan.signal / peak) ** (1.0 / kinetics.power))
    shots = plan.trains * plan.pulses_per_train
    one, shape = plan.noise_ratio * np.sqrt(2.0 / plan.photons), (len(rows), len(delay))
    planned = xr.Dataset(
        {
            "delta_xas_stderr": (("scan", "delay"), np.full(shape, one / np.sqrt(shots))),
            "n_pulses": (("scan", "delay"), np.full(shape, shots)),
        },
        {"delay": delay},
    )
    case = {"fluence": None, "energies": []} | _case(response, planned, plan, None, per_train=plan.pulses_per_train)
    found = {"source": f"config {config.dataset}", "basis": _basis(plan), "note": "", "cases": [case]}
    return found | {"interleave": interleave_of_config(config)}


def _basis(plan: Plan) -> str:
    """Say which numbers of a plan are the user's own and which are those of the published experiment."""
    own = ("delays", "trains", "pulses_per_train", "photons", "noise_ratio", "signal", "taus", "amplitudes")
    given = [n for n in own if getattr(plan, n) != getattr(Plan(), n)]
    if not given:
        return (
            "NOT YOUR NUMBERS: delays, shots, noise, signal and times are those of the published experiment; write your own "
            "in the `plan` section of the config, or process a delay scan"
        )
    rest = [n for n in own if n not in given]
    return f"plan section of the config ({', '.join(given)})" + (f"; {', '.join(rest)} as published" if rest else "")


def _known(option: float | Measured | str, default: float) -> tuple[float, float]:
    """Value of t_d or irf_sigma and how well it is known: 0 fixed, infinity fitted."""
    if isinstance(option, Measured):
        return option.value, option.stderr
    return (default, np.inf) if isinstance(option, str) else (float(option), 0.0)


def _precision(stderr: Floats) -> Floats:
    usable = np.isfinite(stderr) & (stderr > 0)
    return np.where(usable, 1.0 / np.square(np.where(usable, stderr, 1.0)), 0.0)


# --- the plan ---------------------------------------------------------------------------------------------------------


def _case(
    response: Response, scans: xr.Dataset, settings: Plan, held: Floats | None, *, per_train: int = 1
) -> dict[str, Any]:
    """Return expected errors, shots for the target, and better delays for scans (scan, delay), as plain data."""
    delay, precision = scans["delay"].values, _precision(scans["delta_xas_stderr"].values)
    total = np.where(precision > 0, scans["n_pulses"].values, 0).sum(axis=1)
    # what one shot tells, the same at all delays of a scan
    per_shot = precision.sum(axis=1) / np.maximum(total, 1)
    if settings.candidates == "auto":
        candidates = candidate_delays(response, float(delay.max()))
    else:
        candidates = np.unique(grid_values(settings.candidates))
    best = optimal_delays(response, candidates, total * per_shot, held=held)
    at, share = best["delay"].values, best["share"].values
    curve = np.abs(response.traces(delay)) * np.sqrt(precision)
    shots = rounded_shots(share, max(int(total.sum()) // per_train, len(share)))
    return {
        "power": response.power,
        "n_scans": len(precision),
        "n_delays": len(delay),
        "shots": int(total.sum()),
        "snr": float(curve.max()),
        "target": settings.target,
        "t_d": _setting(response.t_d, response.t_d_stderr),
        "irf_sigma": _setting(response.irf_sigma, response.irf_stderr),
        "held": held is not None,
        "taus": _taus(response, delay, precision, settings.target, held),
        "better": {
            "delays": at.tolist(),
            "shares": share.tolist(),
            "shots": (per_train * shots).tolist(),
            "taus": _taus(response, at, (total * per_shot)[:, None] * share, settings.target, held),
            "efficiency": efficiency(response, delay, precision, best, held=held),
        },
    }


def _taus(response: Response, delay: Floats, precision: Floats, target: float, held: Floats | None) -> dict[str, Any]:
    errors = expected_errors(response, delay, precision, held=held)
    factors = shots_for(response, delay, precision, target, held=held)
    return {
        name: {"value": tau}
        | {n: finite_or_none(errors[n].sel(parameter=name)) for n in ("stderr", "relative")}
        | {"shots_factor": finite_or_none(factor)}
        for name, tau, factor in zip(response.names[2:], response.taus, factors, strict=True)
    }


def _setting(value: float, stderr: float) -> dict[str, Any]:
    mode = "fixed" if stderr == 0 else ("fitted" if np.isinf(stderr) else "measured")
    return {"value": value, "mode": mode, "stderr": stderr if mode == "measured" else None}


# --- in words ---------------------------------------------------------------------------------------------------------


def plan_text(plan: Mapping[str, Any]) -> str:
    """Return a plan as text for a terminal."""
    lines = [f"plan from {plan['source']}: {plan['basis']}"]
    if plan["note"]:
        lines.append(f"  {plan['note']}")
    for case in plan["cases"]:
        lines += ["", *_case_lines(case)]
    lines += ["", *interleave_lines(plan["interleave"])]
    lines += [
        "",
        "Errors are the smallest that the data allow (Cramér-Rao, amplitudes free); a fit reaches them below about 50 %.",
        "Better delays are best for these times only: keep some shots before time zero and between them, to test the model.",
    ]
    return "\n".join(lines)


def _case_lines(case: Mapping[str, Any]) -> list[str]:
    better, target = case["better"], case["target"]
    where = "" if case["fluence"] is None else f"{case['fluence']:g} mJ/cm², "
    scans = "1 delay scan" if case["n_scans"] == 1 else f"{case['n_scans']} delay scans"
    lines = [
        f"{where}{scans}, {case['n_delays']} delays, {case['shots']} shots, signal/noise {case['snr']:.3g} per delay at its largest; "
        f"t_d {_mode(case['t_d'])}, irf_sigma {_mode(case['irf_sigma'])}"
        + ("; spectra with many delays counted in" if case["held"] else "")
    ]
    for name, now in case["taus"].items():
        doubt = "" if case.get("identifiable", {}).get(name, True) else "   (not determined by these data: a guess)"
        lines.append(
            f"  {name} = {now['value']:.3g} ps: {_error(now)}; {target:.0%} takes {_times(now)} these shots, "
            f"{_times(better['taus'][name])} at the better delays{doubt}"
        )
    lines.append(
        f"better delays for as many shots: errors {', '.join(_percent(t['relative']) for t in better['taus'].values())}; "
        f"the delays above reach {better['efficiency']:.0%} of what is possible"
    )
    lines.append(f"  {'delay [ps]':>12s}  {'share':>6s}  {'shots':>8s}")
    lines += [
        f"  {delay:12.3f}  {share:6.1%}  {shots:8d}"
        for delay, share, shots in zip(better["delays"], better["shares"], better["shots"], strict=True)
    ]
    return lines


def _mode(setting: Mapping[str, Any]) -> str:
    text = f"{setting['mode']} at {setting['value']:.3g} ps" if setting["mode"] != "fitted" else "fitted"
    return text + (f" ± {setting['stderr']:.2g} ps" if setting["stderr"] is not None else "")


def _error(tau: Mapping[str, Any]) -> str:
    relative = tau["relative"]
    if relative is None or relative > _HOPELESS:
        return f"not determined (error {_percent(relative)})"
    return f"error {tau['stderr']:.2g} ps ({_percent(relative)})"


def _percent(relative: float | None) -> str:
    return "unbounded" if relative is None else f"{100 * relative:.2g} %" if relative < 0.1 else f"{relative:.0%}"


def _times(tau: Mapping[str, Any]) -> str:
    factor = tau["shots_factor"]
    return "more than 1e9 times" if factor is None else f"{factor:.2g} times"
