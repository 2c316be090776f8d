"""The difference over energy and delay in parts: components above noise, spectra of the decays, single-energy fits."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Unpack

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.science.kinetics.model import decay_names
from pipeline.science.kinetics.parameters import parameter_names
from pipeline.science.kinetics.problem import FitOptions
from pipeline.science.kinetics.shared import fit_kinetics
from pipeline.science.kinetics.traces import gathered
from schemas.datasets.kinetic_fits import COMPONENTS, CUBE_COMPONENTS, SINGLE_TRACE_FITS

__all__ = ["N_COMPONENTS", "cube_components", "gather_components", "single_trace_fits"]

FloatArray = NDArray[np.float64]

N_COMPONENTS = 6
"""Number of components that are kept."""
_DRAWS = 500
_FALSE_ALARM = 0.01
"""Probability with which noise alone counts as a component."""
TAUS = parameter_names()[2:]
_COMPONENTS = np.arange(1, N_COMPONENTS + 1)
_OF_A_TAU = {"tau": "value", "tau_stderr": "stderr", "tau_ci95": "ci95", "tau_identifiable": "identifiable"}


def cube_components(spectra: xr.Dataset, *, seed: int = 0) -> xr.Dataset:
    """Singular components of the noise-weighted difference, and how many of them are above noise.

    The difference is divided by a(delay)·b(energy), the separable form nearest to its standard errors, so that noise has
    unit variance and a signal keeps its rank. Component k counts if its singular value exceeds the 99 % quantile of the
    largest one of noise in what the k - 1 components before leave of the rows and columns; that quantile comes from
    drawn noise of the actual errors and so holds for few delays too. Only the largest block of delays and energies
    without gaps is used.

    Parameters
    ----------
    spectra
        delta_xas and delta_xas_stderr over (delay, energy), NaN where not measured.
    seed
        Seed of the drawn noise.

    Returns
    -------
    Dataset over component, delay, energy: singular_values and noise_level (component); n_components, -1 where there are
    fewer than two delays or energies; spectra_left (component, energy) [OD], delays_right (component, delay) with
    largest value 1, whose products add up to the difference.

    References
    ----------
    S. Kritchman, B. Nadler, Chemometr. Intell. Lab. Syst. 94, 19 (2008), for the sequential test.
    """
    ordered = spectra[["delta_xas", "delta_xas_stderr"]].transpose("delay", "energy")
    value, error = (np.asarray(ordered[n].values, np.float64) for n in ("delta_xas", "delta_xas_stderr"))
    usable = np.isfinite(value) & np.isfinite(error) & (error > 0)
    rows, columns = _block(usable)
    axes = {name: spectra[name].values for name in ("delay", "energy")}
    out = CUBE_COMPONENTS.empty({"component": _COMPONENTS, **axes})
    if len(rows) < 2 or len(columns) < 2:
        return out
    at = np.ix_(rows, columns)
    logs = np.log(error[at])
    a = np.exp(logs.mean(axis=1, keepdims=True) - 0.5 * logs.mean())
    b = np.exp(logs.mean(axis=0, keepdims=True) - 0.5 * logs.mean())
    u, s, vt = np.linalg.svd(value[at] / (a * b), full_matrices=True)
    noise = np.random.default_rng(seed).standard_normal((_DRAWS, *logs.shape)) * (error[at] / (a * b))
    n_kept = min(N_COMPONENTS, len(s))
    levels = np.array([_noise_level(noise, u[:, k:], vt[k:]) for k in range(n_kept)])
    above = s[:n_kept] > levels
    out["n_components"].values[...] = n_kept if above.all() else np.argmin(above)
    out["singular_values"].values[:n_kept] = s[:n_kept]
    out["noise_level"].values[:n_kept] = levels
    for k in range(n_kept):
        course, spectrum = a[:, 0] * u[:, k], s[k] * b[0] * vt[k]
        largest = course[np.argmax(np.abs(course))]
        out["delays_right"].values[k, rows] = course / largest
        out["spectra_left"].values[k, columns] = spectrum * largest
    return out


def single_trace_fits(
    traces: xr.Dataset,
    shared: xr.Dataset,
    **options: Unpack[FitOptions],
) -> xr.Dataset:
    """Fit every trace alone, with time zero and response known as well as the shared fit knows them.

    Parameters
    ----------
    traces
        As for `fit_kinetics`.
    shared
        The fit of all traces together.
    options
        As for `fit_kinetics`; what the shared fit found of t_d and irf_sigma takes the place of what they say.

    Returns
    -------
    Dataset over trace and parameter (tau1 ...): tau, tau_stderr, tau_ci95 (bound), tau_identifiable; NaN and False where
    a trace has too few points. Most single energies do not determine their times; the verdict says which do.
    """
    times = copy.deepcopy(options.get("parameters"))
    for name in ("t_d", "irf_sigma"):
        if times is not None and name in times:
            times[name].set(value=-np.inf, vary=True, min=-np.inf, max=np.inf, expr="")
            times[name].user_data = None
    known: FitOptions = {"t_d": _known(shared, "t_d"), "irf_sigma": _known(shared, "irf_sigma"), "parameters": times}
    names = list(TAUS[: options.get("n_exponentials", 3)])
    axes = {"parameter": names, "bound": ["lower", "upper"], "energy": traces["energy"].values}
    out = SINGLE_TRACE_FITS.empty(axes)
    for e in range(traces.sizes["trace"]):
        one = traces.isel(trace=[e])
        try:
            measured = one.isel(delay=np.flatnonzero(one["delta_xas"].notnull().values[0]))
            fit = fit_kinetics(measured, systematics=False, **options | known).sel(parameter=names)
        except DataError:
            continue
        for name, source in _OF_A_TAU.items():
            out[name].values[e] = fit[source].values
    return out


def gather_components(
    fluences: Sequence[float],
    cubes: Mapping[float, xr.Dataset],
    fits: Mapping[float, xr.Dataset],
    alone: Mapping[float, xr.Dataset],
) -> xr.Dataset:
    """Return one dataset over fluence, on common axes of energy and delay, NaN where there is nothing.

    Parameters
    ----------
    fluences
        All fluences [mJ/cm²].
    cubes, fits, alone
        By fluence, from `cube_components`, `fit_kinetics` and `single_trace_fits`.
    """
    axes = {"component": _COMPONENTS, "decay": decay_names()[0], "parameter": TAUS, "bound": ["lower", "upper"]}
    of_fits = {f: fit.rename(rate="decay_rate")[["decay_rate", "das", "das_stderr"]] for f, fit in fits.items()}
    parts = {f: [some[f] for some in (cubes, of_fits, alone) if f in some] for f in fluences}
    return gathered(COMPONENTS, fluences, parts, axes)


def _block(usable: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows and columns of the largest block without gaps, rows dropped from the emptiest on."""
    counts = usable.sum(axis=1)
    best: tuple[int, NDArray[np.int64], NDArray[np.int64]] = (0, np.empty(0, np.int64), np.empty(0, np.int64))
    for least in np.unique(counts[counts > 0]):
        rows = np.flatnonzero(counts >= least)
        columns = np.flatnonzero(usable[rows].all(axis=0))
        if len(rows) * len(columns) > best[0]:
            best = (len(rows) * len(columns), rows, columns)
    return best[1], best[2]


def _noise_level(noise: FloatArray, u: FloatArray, vt: FloatArray) -> float:
    """Quantile of the largest singular value of noise in the space of the columns of u and the rows of vt."""
    rest = np.einsum("ik,dij,lj->dkl", u, noise, vt, optimize=True)
    gram = rest @ rest.transpose(0, 2, 1) if rest.shape[1] <= rest.shape[2] else rest.transpose(0, 2, 1) @ rest
    return float(np.sqrt(np.quantile(np.linalg.eigvalsh(gram)[:, -1], 1.0 - _FALSE_ALARM)))


def _known(shared: xr.Dataset, name: str) -> float | tuple[float, float]:
    value, stderr = (float(shared[v].sel(parameter=name)) for v in ("value", "stderr"))
    return (value, stderr) if stderr > 0 else value
