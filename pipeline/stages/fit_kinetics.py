"""Spectra and delay scans → kinetics of every fluence and components of the cube: which traces, which forms, what to say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.kinetics.components import cube_components, gather_components, single_trace_fits
from pipeline.science.kinetics.forms import compare_models, form_name
from pipeline.science.kinetics.parameters import kinetic_parameters
from pipeline.science.kinetics.problem import FitOptions
from pipeline.science.kinetics.report import contradicted, withheld
from pipeline.science.kinetics.shared import KineticFit, solve_kinetics, with_bootstrap
from pipeline.science.kinetics.target import fit_target, gather_targets, line_moves
from pipeline.science.kinetics.traces import (
    baseline_demanded,
    collect_traces,
    describes_data,
    gather_fits,
    prior_decides,
    simpler_form,
)
from pipeline.science.spectra.resampling import Replicates
from pipeline.stages.model_results import Fitted
from schemas.catalogue import note
from schemas.config import Config
from schemas.config.fit_options import Kinetics, Measured
from schemas.datasets.kinetic_fits import COMPONENTS, KINETICS
from schemas.datasets.target_fits import TARGET
from schemas.notes import Note

if TYPE_CHECKING:
    import lmfit

__all__ = ["SEED", "fit_all_kinetics", "form_of_fit", "parameters_of"]

LATEST_START = 0.5
"""Delay after time zero [ps] by which a trace must begin: later ones hold neither the rise nor what follows at once."""
SEED = 0
"""Seed of everything that is drawn: the same data and config give the same numbers."""


def fit_all_kinetics(
    spectra: xr.Dataset,
    delay_scan: xr.Dataset,
    config: Config,
    replicates: Replicates | None = None,
) -> tuple[dict[str, xr.Dataset], Fitted, list[Note]]:
    """Return the groups kinetics, components and target, the fits with their data, and what a person must know.

    Parameters
    ----------
    spectra, delay_scan
        See `schemas.datasets.measured`.
    config
        Options of the fits.
    replicates
        Differences of resampled trains for `kinetics.bootstrap: trains`.
    """
    options, notes = config.kinetics, list[Note]()
    fluences = np.union1d(spectra["fluence"].values, delay_scan["fluence"].values).tolist()
    fits: dict[float, tuple[xr.Dataset, xr.Dataset]] = {}
    forms: dict[float, xr.Dataset] = {}
    alone: dict[float, xr.Dataset] = {}
    targets: dict[float, xr.Dataset] = {}
    times: dict[str, Any] = {name: _prior(options.setting(name)) for name in ("irf_sigma", "t_d")}
    settings = form_of_fit(options)
    for fluence in fluences:
        traces = collect_traces(spectra, delay_scan, fluence, include_spectra=options.global_)
        if traces is None:
            continue
        try:
            _needs_rise(traces, times["t_d"])
            scans = collect_traces(spectra, delay_scan, fluence, include_spectra=False)
            traces, solved, target, said_of_line = _chosen(
                fluence, traces, scans, settings, with_target=options.global_
            )
            notes += said_of_line
            if target is not None:
                targets[fluence] = target
            fit = solved.result
            if options.bootstrap == "parametric":
                fit = with_bootstrap(solved, n_draws=options.n_bootstrap, seed=SEED)
            elif replicates is not None:
                include = traces is not scans and options.global_
                drawn = _resampled(spectra, delay_scan, replicates, fluence, include_spectra=include)
                fit = with_bootstrap(solved, replicates=drawn)
            fits[fluence] = traces, fit
            if (said := baseline_demanded(fluence, traces, fit)) is not None:
                notes.append(said)
            same = traces.assign(baseline_stderr=fit["baseline_prior"].drop_vars(fit["baseline_prior"].coords))
            forms[fluence] = compare_models(same, **times, amplitude_prior=settings["amplitude_prior"])
            if options.per_energy:
                alone[fluence] = single_trace_fits(same, fit, **settings)
        except DataError as error:
            notes.append(note("kinetics.not_fitted", fluence=fluence, reason=error))
    if not fits:
        notes.append(note("kinetics.none"))
    elif times == {"irf_sigma": "fit", "t_d": "fit"}:
        notes.append(note("kinetics.response_fitted"))
    chosen = form_name(options.power, options.n_exponentials)
    notes += [said for fluence, compared in forms.items() if (said := simpler_form(fluence, compared, chosen))]
    notes += [said for fluence, (_, fit) in fits.items() if (said := prior_decides(fluence, fit))]
    cubes = {f: cube_components(spectra.sel(fluence=f), seed=SEED) for f in spectra["fluence"].values.tolist()}
    done = {f: fit for f, (_, fit) in fits.items()}
    groups = {
        KINETICS.name: gather_fits({f: done.get(f) for f in fluences}, forms),
        COMPONENTS.name: gather_components(fluences, cubes, done, alone),
    }
    if targets:
        groups[TARGET.name] = gather_targets(fluences, targets)
    return groups, fits, notes


def _chosen(
    fluence: float, traces: xr.Dataset, scans: xr.Dataset | None, settings: FitOptions, *, with_target: bool
) -> tuple[xr.Dataset, KineticFit, xr.Dataset | None, list[Note]]:
    """Return which traces are fitted, their fit, the target model of the cube and what a person must know of it.

    The delay scans are fitted alone where the energies of the spectra share no times with them. Of two descriptions that
    χ² allows neither is believed where they have other times.
    """
    solved, notes = solve_kinetics(traces, **settings), list[Note]()
    target = fit_target(traces, solved.result, **settings) if with_target else None
    moves = line_moves(target, solved.result)
    if moves:
        solved = solved._replace(result=withheld(solved.result))
    agrees = [] if moves or not describes_data(solved.result) else [("free amplitudes", solved.result)]
    fewer = scans is not None and scans.sizes["trace"] < traces.sizes["trace"]
    if scans is not None and fewer and not agrees:
        alone = solve_kinetics(scans, **settings)
        if describes_data(alone.result):
            agrees = [("the delay scans alone", alone.result)]
            notes.append(note("kinetics.spectra_left_out", fluence=fluence, redchi=float(solved.result["redchi"])))
            traces, solved = scans, alone
    if target is not None:
        for who, fit in agrees:
            target = contradicted(target, who, fit["value"], fit["ci95"])
        notes += [_moving(fluence, target)] if moves else []
    return traces, solved, target, notes


def _moving(fluence: float, target: xr.Dataset) -> Note:
    """Say that the line moves, and what the target model gives."""
    times = [
        f"{name} {value:.3g} ± {stderr:.2g} ps" if known else f"{name} not determined"
        for name, value, stderr, known in zip(
            *(target[n].values.tolist()[2:] for n in ("parameter", "value", "stderr", "identifiable")), strict=True
        )
    ]
    return note("kinetics.line_moves", fluence=fluence, model=target.attrs["model"], times=", ".join(times))


def form_of_fit(options: Kinetics) -> FitOptions:
    """Return what the config says of the fit of a fluence."""
    return {
        "power": options.power,
        "n_exponentials": options.n_exponentials,
        "amplitude_prior": None if options.amplitude_prior == "none" else options.amplitude_prior,
        "parameters": parameters_of(options),
    }


def parameters_of(options: Kinetics) -> lmfit.Parameters:
    """Return the shared parameters of the fit as lmfit writes them, from the config."""
    # a formula is all there is to say, and a value that is absent is absent in lmfit too
    said = {
        name: {"expr": one.expr} if one.expr is not None else one.model_dump(exclude_none=True)
        for name, one in options.given.items()
    }
    return kinetic_parameters(said, options.n_exponentials)


def _needs_rise(traces: xr.Dataset, t_d: Any) -> None:
    """Raise DataError if all delays lie behind the rise: a fit would then find a time zero among them."""
    zero = 0.0 if t_d == "fit" else float(t_d[0] if isinstance(t_d, tuple) else t_d)
    first = float(traces["delay"].values[traces["delta_xas"].notnull().any("trace").values].min())
    if first > zero + LATEST_START:
        raise DataError(
            f"the first delay is {first:.3g} ps, behind the rise; measure delays before and around time zero"
        )


def _resampled(
    spectra: xr.Dataset, delay_scan: xr.Dataset, replicates: Replicates, fluence: float, *, include_spectra: bool
) -> xr.DataArray:
    """Put the replicates of one fluence on the traces of the fit."""
    draws = [
        collect_traces(
            spectra.assign(delta_xas=replicates.spectra.isel(draw=i)),
            delay_scan.assign(delta_xas=replicates.delay_scan.isel(draw=i)),
            fluence,
            include_spectra=include_spectra,
        )
        for i in range(replicates.delay_scan.sizes["draw"])
    ]
    return xr.concat([one["delta_xas"] for one in draws if one is not None], dim="draw")


def _prior(option: Any) -> Any:
    return (option.value, option.stderr) if isinstance(option, Measured) else option
