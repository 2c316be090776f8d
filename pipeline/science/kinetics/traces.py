"""Which traces a kinetic fit uses, and how the fits of all fluences become one dataset."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.kinetics.intervals import describes
from schemas.catalogue import note
from schemas.datasets.kinetic_fits import KINETICS
from schemas.notes import Note

__all__ = [
    "MIN_SPECTRA_DELAYS",
    "PARAMETERS",
    "collect_traces",
    "describes_data",
    "gather_fits",
    "prior_decides",
    "simpler_form",
    "traces_of",
]

PARAMETERS = ("t_d", "irf_sigma", "tau1", "tau2", "tau3")
TERMS = ("A1", "A2", "A3")
TIMES = (0.3, 1.0, 60.0)
_PER_PARAMETER = ("value", "stderr", "crb", "systematic", "value_without_prior")
_BOOTSTRAP = ("bootstrap_ci68", "bootstrap_ci95")
MIN_SPECTRA_DELAYS = 6
"""Delays a spectrum's energy needs to take part: with fewer its own amplitudes use up what it says about the times."""


def describes_data(fit: xr.Dataset) -> bool:
    """Return whether chi-square of a fit is one that chance allows (probability above 1 in 1000)."""
    return describes(float(fit["chi2"]), float(fit["dof"]))


def prior_decides(fluence: float, fit: xr.Dataset) -> Note | None:
    """Say so if a time moves by more than its standard error when the amplitude prior is left out."""
    if "value_without_prior" not in fit:
        return None
    moved = []
    for name in (str(n) for n in fit["parameter"].values if str(n).startswith("tau")):
        one = fit.sel(parameter=name)
        value, bare, stderr = (float(one[v]) for v in ("value", "value_without_prior", "stderr"))
        if abs(bare - value) > stderr:
            moved.append(f"{name} {value:.2g} ps with it and {bare:.2g} ps without")
    return note("kinetics.prior_decides", fluence=fluence, moved=", ".join(moved)) if moved else None


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
    Dataset over (trace, delay): delta_xas, delta_xas_stderr; NaN where a trace lacks a delay.
    """
    names = ["delta_xas", "delta_xas_stderr"]
    parts = []
    scans = np.empty(0, np.int64) if delay_scan is None else np.flatnonzero(delay_scan["fluence"].values == fluence)
    if delay_scan is not None and len(scans):
        chosen = delay_scan[names].isel(scan=scans).drop_vars("fluence", errors="ignore")
        parts.append(chosen.rename(scan="trace"))
    if include_spectra and spectra is not None and fluence in spectra["fluence"].values:
        chosen = spectra[names].sel(fluence=fluence, drop=True)
        measured = chosen["delta_xas"].notnull().sum("delay").values
        enough = np.flatnonzero(measured >= MIN_SPECTRA_DELAYS)
        if len(enough):
            picked = chosen.isel(energy=enough)
            parts.append(
                picked.rename(energy="trace")
                .assign_coords(energy=("trace", picked["energy"].values))
                .drop_vars("trace")
            )
    if not parts:
        return None
    traces = xr.concat(parts, dim="trace", join="outer", coords="minimal", compat="override")
    used = traces["delta_xas"].notnull().any("trace")
    return traces.isel(delay=np.flatnonzero(used)).transpose("trace", "delay").sortby("energy")


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


def simpler_form(fluence: float, compared: xr.Dataset) -> Note | None:
    """Say so if a form with fewer parameters describes the data as well as the squared three exponentials.

    Parameters
    ----------
    compared
        From `compare_models`.
    """
    seed = "squared, 3 exponentials"
    fewer = compared.isel(
        model=np.flatnonzero(compared["n_parameters"] < int(compared["n_parameters"].sel(model=seed)))
    )
    as_good = fewer.isel(model=np.flatnonzero(fewer["delta_aicc"] <= 0))
    if not as_good.sizes["model"]:
        return None
    best = as_good.isel(model=int(np.argmin(as_good["delta_aicc"].values)))
    form, change = str(best["model"].values), float(best["delta_chi2"])
    return note("kinetics.simpler_form", fluence=fluence, form=form, delta_chi2=change)


def gather_fits(
    fitted: Mapping[float, xr.Dataset | None], forms: Mapping[float, xr.Dataset] | None = None
) -> xr.Dataset:
    """Return one dataset over fluence from the fits of `fit_kinetics`; NaN and not identifiable where there is none.

    Traces are put on common axes of energy and delay. `verdict` and `verdict_code` (fluence, parameter) say what the data
    know of a parameter, empty for time zero and response of a fit; `attrs["forms"]` is JSON: fluence → model form → Δχ² and ΔAICc against the squared three exponentials.
    """
    fluence = np.array(sorted(fitted), np.float64)
    done = {f: d for f, d in fitted.items() if d is not None}
    energy = np.unique(np.concatenate([d["energy"].values for d in done.values()])) if done else np.empty(0)
    delay = np.unique(np.concatenate([d["delay"].values for d in done.values()])) if done else np.empty(0)
    n, p = len(fluence), len(PARAMETERS)
    out = xr.Dataset(
        coords={
            "fluence": fluence,
            "parameter": np.array(PARAMETERS),
            "bound": np.array(["lower", "upper"]),
            "term": np.array(TERMS),
            "time": np.array(TIMES),
            "energy": energy,
            "delay": delay,
        }
    )
    bootstrap = any("bootstrap_stderr" in d for d in done.values())
    for name in (*_PER_PARAMETER, *(("bootstrap_stderr",) if bootstrap else ())):
        out[name] = (("fluence", "parameter"), np.full((n, p), np.nan))
    for name in ("ci68", "ci95", *(_BOOTSTRAP if bootstrap else ())):
        out[name] = (("fluence", "parameter", "bound"), np.full((n, p, 2), np.nan))
    for name in ("at_bound", "identifiable"):
        out[name] = (("fluence", "parameter"), np.zeros((n, p), bool))
    for name in ("amplitude", "amplitude_stderr"):
        out[name] = (("fluence", "term", "energy"), np.full((n, len(TERMS), len(energy)), np.nan))
    for name in ("fit", "residual"):
        out[name] = (("fluence", "energy", "delay"), np.full((n, len(energy), len(delay)), np.nan))
    for name in _SCALARS:
        out[name] = ("fluence", np.full(n, np.nan))
    for name in ("signal", "signal_stderr"):
        out[name] = (("fluence", "time", "energy"), np.full((n, len(TIMES), len(energy)), np.nan))
    for k, f in enumerate(fluence.tolist()):
        if f in done:
            _fill(out, k, done[f])
    out = out.merge(_verdicts([done.get(f) for f in fluence.tolist()]))
    out.attrs["forms"] = json.dumps({f"{f:g}": _forms(d) for f, d in (forms or {}).items()})
    return KINETICS.describe(out)


_SCALARS = ("redchi", "chi2", "dof", "t50", "t50_stderr")


def _fill(out: xr.Dataset, k: int, fit: xr.Dataset) -> None:
    here = [PARAMETERS.index(str(name)) for name in fit["parameter"].values]
    for name in (*_PER_PARAMETER, "ci68", "ci95", "at_bound", "identifiable", "bootstrap_stderr", *_BOOTSTRAP):
        if name in fit:
            out[name].values[k, here] = fit[name].values
    e = np.searchsorted(out["energy"].values, fit["energy"].values)
    t = np.searchsorted(out["delay"].values, fit["delay"].values)
    terms = [TERMS.index(str(name)) for name in fit["term"].values]
    for name in ("amplitude", "amplitude_stderr"):
        out[name].values[k][np.ix_(np.array(terms), e)] = fit[name].transpose("term", "trace").values
    for name in ("fit", "residual"):
        out[name].values[k][np.ix_(e, t)] = fit[name].transpose("trace", "delay").values
    for name in _SCALARS:
        if name in fit:
            out[name].values[k] = float(fit[name])
    if "signal" in fit:
        times = np.searchsorted(TIMES, fit["time"].values)
        for name in ("signal", "signal_stderr"):
            out[name].values[k][np.ix_(times, e)] = fit[name].transpose("time", "trace").values


def _forms(compared: xr.Dataset) -> dict[str, dict[str, float]]:
    return {
        str(name): {k: round(float(compared[k].sel(model=name)), 2) for k in ("delta_chi2", "delta_aicc")}
        for name in compared["model"].values
    }


def _verdicts(fits: list[xr.Dataset | None]) -> xr.Dataset:
    """Return verdict and verdict_code (fluence, parameter) of fits in order of fluence."""
    said = [[_verdict(fit, name) for name in PARAMETERS] for fit in fits]
    shape = (len(fits), len(PARAMETERS))
    return xr.Dataset(
        {
            name: (("fluence", "parameter"), np.array([[pair[i] for pair in row] for row in said], str).reshape(shape))
            for i, name in enumerate(("verdict", "verdict_code"))
        }
    )


def _verdict(fit: xr.Dataset | None, name: str) -> tuple[str, str]:
    if fit is None or name not in fit["parameter"].values:
        absent = note("kinetics.no_fit" if fit is None else "kinetics.not_in_the_form", parameter=name)
        return absent.text, absent.code
    one = fit.sel(parameter=name)
    return str(one["verdict"].values), str(one["verdict_code"].values)
