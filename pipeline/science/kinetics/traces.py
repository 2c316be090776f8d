"""Which traces a kinetic fit uses, and how the fits of all fluences become one dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.kinetics.intervals import describes
from pipeline.science.kinetics.parameters import parameter_names
from pipeline.science.kinetics.report import TIMES
from schemas.catalogue import note
from schemas.datasets.kinetic_fits import KINETICS
from schemas.datasets.spec import DatasetSpec
from schemas.notes import Note

__all__ = [
    "MIN_SPECTRA_DELAYS",
    "baseline_demanded",
    "collect_traces",
    "describes_data",
    "gather_fits",
    "gathered",
    "prior_decides",
    "simpler_form",
    "traces_of",
]

MIN_SPECTRA_DELAYS = 6
"""Delays a spectrum's energy needs to take part: with fewer its own amplitudes use up what it says about the times."""


def describes_data(fit: xr.Dataset) -> bool:
    """Return whether chi-square of a fit is one that chance allows (probability above 1 in 1000)."""
    return describes(float(fit["chi2"]), float(fit["dof"]))


def prior_decides(fluence: float, fit: xr.Dataset) -> Note | None:
    """Say so if a time moves by more than its standard error when the amplitude prior is left out."""
    if "value_without_prior" not in fit:
        return None
    moved = [
        f"{name} {value:.2g} ps with it and {bare:.2g} ps without"
        for name, value, bare, stderr in zip(
            *(fit[v].values.tolist() for v in ("parameter", "value", "value_without_prior", "stderr")), strict=True
        )
        if name.startswith("tau") and abs(bare - value) > stderr
    ]
    return note("kinetics.prior_decides", fluence=fluence, moved=", ".join(moved)) if moved else None


def baseline_demanded(fluence: float, traces: xr.Dataset, fit: xr.Dataset) -> Note | None:
    """Say so if the fit freed the constant under its traces, although the reference says that there is none."""
    if traces["baseline_stderr"].values.any() or not fit["baseline_prior"].values.any():
        return None
    strongest = int(np.argmax(np.abs(fit["baseline"].values) / fit["baseline_stderr"].values))
    value, stderr = (1e3 * float(fit[name][strongest]) for name in ("baseline", "baseline_stderr"))
    return note("kinetics.baseline_demanded", fluence=fluence, value=value, stderr=stderr)


def collect_traces(
    spectra: xr.Dataset | None, delay_scan: xr.Dataset | None, fluence: float, *, include_spectra: bool
) -> xr.Dataset | None:
    """Return the difference against delay at one fluence, or None where there is no trace.

    Parameters
    ----------
    spectra
        delta_xas (fluence, delay, energy), if there are any.
    delay_scan
        delta_xas (scan, delay) with coordinates fluence and energy along scan, if there are any.
    fluence
        Fluence [mJ/cm²].
    include_spectra
        Whether every energy of the spectra is a trace too, where it was measured at `MIN_SPECTRA_DELAYS` delays or more.

    Returns
    -------
    Dataset over (trace, delay): delta_xas, delta_xas_stderr; NaN where a trace lacks a delay. Over trace:
    baseline_stderr, what all delays of a trace share of the reference's error (NaN: unknown), which delta_xas_stderr then
    lacks.
    """
    names = ["delta_xas", "delta_xas_stderr", "baseline_stderr"]
    parts = []
    scans = np.empty(0, np.int64) if delay_scan is None else np.flatnonzero(delay_scan["fluence"].values == fluence)
    if delay_scan is not None and len(scans):
        chosen = _with_baseline(delay_scan)[names].isel(scan=scans).drop_vars("fluence", errors="ignore")
        parts.append(chosen.rename(scan="trace"))
    if include_spectra and spectra is not None and fluence in spectra["fluence"].values:
        chosen = _with_baseline(spectra.sel(fluence=fluence, drop=True))[names]
        measured = chosen["delta_xas"].notnull().sum("delay").values
        enough = np.flatnonzero(measured >= MIN_SPECTRA_DELAYS)
        if len(enough):
            parts.append(chosen.isel(energy=enough).reset_index("energy").rename_dims(energy="trace"))
    if not parts:
        return None
    traces = xr.concat(parts, dim="trace", join="outer", coords="minimal", compat="override")
    used = traces["delta_xas"].notnull().any("trace")
    return traces.isel(delay=np.flatnonzero(used)).transpose("trace", "delay").sortby("energy")


def _with_baseline(measured: xr.Dataset) -> xr.Dataset:
    """Return a difference whose error leaves out what its reference shares over the delays; that is `baseline_stderr`."""
    there = measured["delta_xas"].notnull()
    shared, unknown = (
        measured[name].where(there) if name in measured else xr.zeros_like(measured["delta_xas"])
        for name in ("reference_stderr", "delta_xas_stderr_systematic")
    )
    common = shared.min("delay")
    variance = measured["delta_xas_stderr"] ** 2
    alone = np.sqrt(np.maximum(variance - common.fillna(0.0) ** 2, 0.01 * variance))
    return measured.assign(
        delta_xas_stderr=xr.where(common > 0, alone, measured["delta_xas_stderr"]).transpose(
            *measured["delta_xas"].dims
        ),
        baseline_stderr=np.sqrt(common**2 + (unknown**2).mean("delay")),
    )


def traces_of(binned: Sequence[xr.Dataset], fluence: float | None = None) -> xr.Dataset:
    """Return the traces of delay scans, spectra, or both, at a fluence [mJ/cm²], the only one unless given.

    Raises
    ------
    DataError
        If there is no trace at the fluence, or no fluence is given and there are several; names those there are.
    """
    scans = next((one for one in binned if "scan" in one.dims), None)
    spectra = next((one for one in binned if "scan" not in one.dims), None)
    there = sorted({float(f) for one in binned for f in one["fluence"].values})
    wanted = there[0] if fluence is None and len(there) == 1 else fluence
    if wanted is not None:
        traces = collect_traces(spectra, scans, wanted, include_spectra=True)
        if traces is not None:
            return traces
    named = ", ".join(f"{f:g}" for f in there) or "none"
    raise DataError(f"kinetics: no trace at fluence {wanted}; fluences of the data [mJ/cm²]: {named}")


def simpler_form(fluence: float, compared: xr.Dataset, chosen: str = "squared, 3 exponentials") -> Note | None:
    """Say so if a form with fewer parameters describes the data as well as the one that was chosen.

    Parameters
    ----------
    fluence
        Fluence [mJ/cm²].
    compared
        From `compare_models`.
    chosen
        Name of the form that is fitted, from `form_name`.
    """
    own = compared.sel(model=chosen)
    fewer = compared.isel(model=np.flatnonzero(compared["n_parameters"] < int(own["n_parameters"])))
    as_good = fewer.isel(model=np.flatnonzero(fewer["aicc"] <= own["aicc"]))
    if not as_good.sizes["model"]:
        return None
    best = as_good.isel(model=int(np.argmin(as_good["aicc"].values)))
    form, change = str(best["model"].values), float(best["chi2"] - own["chi2"])
    return note("kinetics.simpler_form", fluence=fluence, chosen=chosen, form=form, delta_chi2=change)


def gather_fits(
    fitted: Mapping[float, xr.Dataset | None], forms: Mapping[float, xr.Dataset] | None = None
) -> xr.Dataset:
    """Return the group kinetics from the fits of every fluence.

    Parameters
    ----------
    fitted
        Fluence [mJ/cm²] -> result of `fit_kinetics`, None where there is none.
    forms
        Fluence -> result of `compare_models`.

    Returns
    -------
    Dataset over fluence, traces on common axes of energy and delay; NaN and not identifiable without a fit. `verdict` and
    `verdict_code` are empty for time zero and response of a fit. attrs["forms"] is JSON: fluence -> model form -> Δχ²
    and ΔAICc against the squared three exponentials.
    """
    done = {f: [fit] for f, fit in fitted.items() if fit is not None}
    optional = ["value_without_prior", "chi2", "dof"]
    if any("bootstrap_stderr" in fit for (fit,) in done.values()):
        optional += ["bootstrap_stderr", "bootstrap_ci68", "bootstrap_ci95"]
    names = parameter_names()
    axes = {"parameter": names, "bound": ["lower", "upper"], "term": ["A1", "A2", "A3"], "time": TIMES}
    out = gathered(KINETICS, sorted(fitted), done, axes, optional)
    said = [[_verdict(fitted[f], name) for name in names] for f in sorted(fitted)]
    shape = (len(fitted), len(names), 2)
    for i, name in enumerate(("verdict", "verdict_code")):
        out[name] = (("fluence", "parameter"), np.array(said, str).reshape(shape)[..., i])
    compared = {
        f"{fluence:g}": {
            str(form): {k: round(float(found[k].sel(model=form)), 2) for k in ("delta_chi2", "delta_aicc")}
            for form in found["model"].values
        }
        for fluence, found in (forms or {}).items()
    }
    return KINETICS.describe(out).assign_attrs(forms=json.dumps(compared))


def gathered(
    spec: DatasetSpec,
    fluences: Sequence[float],
    parts: Mapping[float, Sequence[xr.Dataset]],
    axes: Mapping[str, Any],
    optional: Sequence[str] = (),
) -> xr.Dataset:
    """Return one dataset over fluence from those of single fluences; empty where there is nothing.

    Parameters
    ----------
    spec
        What to make; its dim energy stands for the dim trace of the parts.
    fluences
        All fluences [mJ/cm²].
    parts
        Fluence -> datasets.
    axes
        Axes that are known beforehand; energy [eV] and delay [ps] are those of the parts.
    optional
        Variables to make beside the required ones.
    """
    every = [part for some in parts.values() for part in some]
    found = {
        name: np.unique(np.concatenate([np.empty(0), *(p[name].values for p in every if name in p.coords)]))
        for name in ("energy", "delay")
    }
    out = spec.empty({"fluence": np.asarray(fluences, np.float64), **axes, **found}, optional)
    for k, fluence in enumerate(fluences):
        for part in parts.get(fluence, ()):
            for name in set(out.data_vars) & set(part.data_vars):
                dims = out[name].dims[1:]
                values = part[name].transpose(*("trace" if d not in part.dims else d for d in dims)).values
                at = np.ix_([k], *(out.get_index(d).get_indexer(part[d].values) for d in dims))
                out[name].values[at] = values[None]
    return out


def _verdict(fit: xr.Dataset | None, name: str) -> tuple[str, str]:
    if fit is None or name not in fit["parameter"].values:
        absent = note("kinetics.no_fit" if fit is None else "kinetics.not_in_the_form", parameter=name)
        return absent.text, absent.code
    one = fit.sel(parameter=name)
    return str(one["verdict"].values), str(one["verdict_code"].values)
