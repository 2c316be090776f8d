"""Fits → the error budget: what noise, reference, time zero, response, detector, energies and models each add to every number.

Errors that the product states are taken apart; what they do not hold is found by fitting again with the input moved by its
error. Where the error of an input is not known, the entry is NaN and says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
import xarray as xr

from pipeline.errors import TrxasError
from pipeline.science.kinetics.error_parts import moved_times, time_error_parts
from pipeline.science.kinetics.traces import collect_traces
from pipeline.science.mixture.dos_models import LOWER, model_error_parts
from pipeline.science.mixture.reference_error import per_film
from pipeline.science.peaks.extrema import find_extrema
from pipeline.stages.fit_kinetics import form_of_fit
from pipeline.stages.fit_mixture import TOLERANCE, Models, fit_spectra
from pipeline.stages.model_results import Fitted
from schemas.config import Config
from schemas.datasets.budget import BUDGET, SOURCES

__all__ = ["NOTHING_KNOWN", "Inputs", "Moved", "error_budget"]

TAUS = ("tau1", "tau2", "tau3")


@dataclass(frozen=True)
class Moved:
    """Spectra and delay scans as one wrong input would have made them."""

    spectra: xr.Dataset
    delay_scan: xr.Dataset


@dataclass(frozen=True)
class Inputs:
    """What is known of the errors of the inputs, from before the fits; NaN and absent: nothing."""

    t0: float = np.nan
    """Standard error of time zero on the axis of delays [ps]."""
    energy: float = np.nan
    """Standard error of the axis of energies [eV]."""
    moved: Mapping[str, Sequence[Moved]] = field(default_factory=dict)
    """Source → the data with that input wrong, one for each independent error; none: it makes no difference."""


NOTHING_KNOWN = Inputs()


def error_budget(
    spectra: xr.Dataset,
    delay_scan: xr.Dataset,
    config: Config,
    models: Models,
    groups: Mapping[str, xr.Dataset],
    fits: Fitted,
    window: tuple[float, float],
    inputs: Inputs,
) -> xr.Dataset:
    """Return the group budget.

    Parameters
    ----------
    spectra, delay_scan, config, models
        As in `fit_all`.
    groups
        The groups peaks and mixture.
    fits
        The kinetics of each fluence.
    window
        Energies [eV] of the peaks.
    inputs
        What is known of the errors of the inputs.
    """
    fluences = np.union1d(spectra["fluence"].values, delay_scan["fluence"].values)
    axes = {"source": list(SOURCES), "fluence": fluences, "parameter": list(TAUS)}
    axes |= {"peak": groups["peaks"]["peak"].values, "delay": groups["peaks"]["delay"].values}
    out = BUDGET.empty(axes)
    for name in ("tau", "alpha", "slope", "position"):
        out[f"{name}_status"] = xr.full_like(out[name], "not_known", dtype="U9")
    data = Moved(spectra, delay_scan)
    for fluence, (traces, fit) in fits.items():
        _put(out, "tau", _times(data, traces, fit, config, inputs, fluence), fluence=fluence)
    mixture = groups["mixture"]
    for name, entries in _shares(spectra, mixture, config, models, window, inputs).items():
        _put(out, name, entries)
    _put(out, "position", _positions(spectra, groups["peaks"], window, inputs))
    values = {"tau": _values(fits, fluences), "alpha": mixture["alpha"], "slope": mixture["slope"]}
    for name, value in (values | {"position": groups["peaks"]["position"]}).items():
        there = value.notnull().reindex({d: out[d] for d in value.dims}, fill_value=False)
        out[f"{name}_status"] = out[f"{name}_status"].where(there, "no_value").transpose(*out[name].dims)
        out[name] = out[name].where(there).transpose(*out[name].dims)
    return BUDGET.describe(out)


_Entries = dict[str, tuple[str, xr.DataArray | float]]
"""Source → how the entry is to be read, and the error; a source that is absent is not known."""


def _put(out: xr.Dataset, name: str, entries: _Entries, **where: float) -> None:
    for source, (status, error) in entries.items():
        at = {"source": source, **where}
        there, error = out[name].loc[at], xr.DataArray(error)
        # not every fluence has a share, nor every form all times
        values = xr.zeros_like(there) + error.reindex({d: there[d] for d in error.dims})
        said = xr.where(values == 0, "none", xr.full_like(values, status, dtype="U9"))
        out[name].loc[at] = values.transpose(*there.dims)
        out[f"{name}_status"].loc[at] = said.where(values.notnull(), "not_known").transpose(*there.dims)


def _times(
    data: Moved, traces: xr.Dataset, fit: xr.Dataset, config: Config, inputs: Inputs, fluence: float
) -> _Entries:
    names = [name for name in TAUS if name in fit["parameter"].values]
    form, held = form_of_fit(config.kinetics), fit["fixed"]
    parts = time_error_parts(traces, fit, **form).sel(parameter=names)
    entries: _Entries = {n: ("published", parts.sel(source=n, drop=True)) for n in ("statistics", "reference")}
    for source, name in (("t0", "t_d"), ("irf", "irf_sigma")):
        if not held.sel(parameter=name):
            entries[source] = ("published", parts.sel(source=source, drop=True))
    if held.sel(parameter="t_d") and np.isfinite(inputs.t0):
        ends = [moved_times(traces, fit, zero_moved=by, **form) for by in (-inputs.t0, inputs.t0)]
        entries["t0"] = ("beside", (abs(ends[1] - ends[0]) / 2).sel(parameter=names))
    n_scans = int((data.delay_scan["fluence"] == fluence).sum())

    def moved(one: Moved) -> xr.DataArray:
        include = traces.sizes["trace"] > n_scans
        other = collect_traces(one.spectra, one.delay_scan, fluence, include_spectra=include)
        return moved_times(traces, fit, moved=other, **form).sel(parameter=names)

    for source, each in inputs.moved.items():
        entries[source] = ("beside", sum((moved(one) ** 2 for one in each), xr.DataArray(0.0)) ** 0.5)
    return entries | dict.fromkeys(("energy", "dos", "window"), ("none", 0.0))


def _shares(
    spectra: xr.Dataset,
    mixture: xr.Dataset,
    config: Config,
    models: Models,
    window: tuple[float, float],
    inputs: Inputs,
) -> dict[str, _Entries]:
    """Return the entries of alpha and of slope."""
    if not np.isfinite(mixture["alpha"]).any():
        return {}
    found = mixture[["alpha", "slope"]]
    # to seek the form of the edge again would take most of the time
    edge = str(mixture.attrs.get("edge", "auto"))

    def moved(data: xr.Dataset) -> xr.Dataset:
        try:
            again = fit_spectra(per_film(data), config.mixture, models, window, again=True, edge=edge)
            return again[["alpha", "slope"]] - found
        except TrxasError:
            return xr.full_like(found, np.nan)

    beside: dict[str, xr.Dataset] = {}
    # a share belongs to its spectrum, whatever its delay is called, unless that begins or ceases to count
    border = spectra["delay"].values - config.mixture.min_delay + TOLERANCE
    if np.isfinite(inputs.t0):
        crossing = (abs(border) <= inputs.t0).any()
        ends = [moved(spectra.assign_coords(delay=spectra["delay"] + by)) for by in (-inputs.t0, inputs.t0) if crossing]
        # a share that is lost is not known
        beside["t0"] = abs(xr.concat([xr.zeros_like(found), *ends], dim="end")).max("end", skipna=False)
    if np.isfinite(inputs.energy):
        ends = [moved(spectra.assign_coords(energy=spectra["energy"] + by)) for by in (-inputs.energy, inputs.energy)]
        beside["energy"] = abs(ends[1] - ends[0]) / 2
    for source, each in inputs.moved.items():
        beside[source] = sum((moved(one.spectra) ** 2 for one in each), xr.zeros_like(found)) ** 0.5
    entries: dict[str, _Entries] = {}
    for name in ("alpha", "slope"):
        entries[name] = {"statistics": ("published", mixture[f"{name}_stderr"]), "irf": ("none", 0.0)}
        if f"{name}_reference_stderr" in mixture:
            entries[name]["reference"] = ("published", mixture[f"{name}_reference_stderr"])
        if "model" in mixture.dims:
            parts = model_error_parts(mixture, name).items()
            entries[name] |= {part: ("published", error) for part, error in parts}
        entries[name] |= {source: ("beside", error[name]) for source, error in beside.items()}
    return entries


def _positions(spectra: xr.Dataset, peaks: xr.Dataset, window: tuple[float, float], inputs: Inputs) -> _Entries:
    if not peaks["detected"].any():
        return {}

    unknown = peaks.get("position_stderr_systematic", xr.zeros_like(peaks["position"]))
    entries: _Entries = {"statistics": ("published", peaks["position_stderr"]), "reference": ("published", unknown)}
    # what is seen belongs to its spectrum, and no model has a part in it
    entries |= dict.fromkeys(("t0", "irf", "dos"), ("none", 0.0))
    if np.isfinite(inputs.energy):
        entries["energy"] = ("beside", inputs.energy)
    low, high = window
    # too few energies may be left
    with suppress(TrxasError):
        elsewhere = find_extrema(spectra, window=(low, high - LOWER * (high - low)))["position"]
        entries["window"] = ("beside", abs(elsewhere - peaks["position"]))
    for source, each in inputs.moved.items():
        modes = [one.spectra["delta_xas"] - spectra["delta_xas"] for one in each]
        entries[source] = ("beside", 0.0)
        if modes:
            # with the curve as smooth as it is: another choice of it would be counted too
            bent = spectra.drop_vars("systematic_mode", errors="ignore")
            bent = bent.assign(systematic_mode=xr.concat(modes, dim="mode"))
            entries[source] = ("beside", find_extrema(bent, window=window)["position_stderr_systematic"])
    return entries


def _values(fits: Fitted, fluences: np.ndarray) -> xr.DataArray:
    """Return the times (fluence, parameter) that have a value."""
    found = {f: fit["value"].reindex(parameter=list(TAUS)) for f, (_, fit) in fits.items()}
    nothing = xr.DataArray(np.full(len(TAUS), np.nan), dims="parameter", coords={"parameter": list(TAUS)})
    rows = [found.get(f, nothing) for f in fluences.tolist()]
    return (
        xr.concat(rows, dim="fluence").assign_coords(fluence=fluences)
        if rows
        else nothing.expand_dims(fluence=fluences)
    )
