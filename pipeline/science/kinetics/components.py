"""The difference over energy and delay in parts: components above noise, spectra of the decays, single-energy fits."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.science.kinetics.model import decay_names
from pipeline.science.kinetics.shared import fit_kinetics
from schemas.datasets.kinetic_fits import COMPONENTS, CUBE_COMPONENTS, SINGLE_TRACE_FITS

if TYPE_CHECKING:
    import lmfit

__all__ = ["N_COMPONENTS", "cube_components", "gather_components", "single_trace_fits"]

FloatArray = NDArray[np.float64]

N_COMPONENTS = 6
"""Components that are kept; more than three or four above noise have not been seen in such data."""
_DRAWS = 500
_FALSE_ALARM = 0.01
"""Probability with which noise alone counts as a component."""
TAUS = ("tau1", "tau2", "tau3")
_DECAYS = tuple(decay_names(2, 3)[0])


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
    ordered = spectra.transpose("delay", "energy")
    value, error = (np.asarray(ordered[n].values, np.float64) for n in ("delta_xas", "delta_xas_stderr"))
    usable = np.isfinite(value) & np.isfinite(error) & (error > 0)
    rows, columns = _block(usable)
    out = xr.Dataset(
        {
            "singular_values": ("component", np.full(N_COMPONENTS, np.nan)),
            "noise_level": ("component", np.full(N_COMPONENTS, np.nan)),
            "n_components": ((), -1),
            "spectra_left": (("component", "energy"), np.full((N_COMPONENTS, value.shape[1]), np.nan)),
            "delays_right": (("component", "delay"), np.full((N_COMPONENTS, value.shape[0]), np.nan)),
        },
        coords={
            "component": np.arange(1, N_COMPONENTS + 1),
            "delay": spectra["delay"].values,
            "energy": spectra["energy"].values,
        },
    )
    if len(rows) < 2 or len(columns) < 2:
        return CUBE_COMPONENTS.describe(out)
    at = np.ix_(rows, columns)
    logs = np.log(error[at])
    a = np.exp(logs.mean(axis=1, keepdims=True) - 0.5 * logs.mean())
    b = np.exp(logs.mean(axis=0, keepdims=True) - 0.5 * logs.mean())
    u, s, vt = np.linalg.svd(value[at] / (a * b), full_matrices=True)
    noise = np.random.default_rng(seed).standard_normal((_DRAWS, *logs.shape)) * (error[at] / (a * b))
    n_kept = min(N_COMPONENTS, len(s))
    levels = np.array([_noise_level(noise, u[:, k:], vt[k:]) for k in range(n_kept)])
    above = s[:n_kept] > levels
    out["n_components"] = ((), int(n_kept if above.all() else np.argmin(above)))
    out["singular_values"].values[:n_kept] = s[:n_kept]
    out["noise_level"].values[:n_kept] = levels
    for k in range(n_kept):
        course, spectrum = a[:, 0] * u[:, k], s[k] * b[0] * vt[k]
        largest = course[np.argmax(np.abs(course))]
        out["delays_right"].values[k, rows] = course / largest
        out["spectra_left"].values[k, columns] = spectrum * largest
    return CUBE_COMPONENTS.describe(out)


def single_trace_fits(
    traces: xr.Dataset,
    shared: xr.Dataset,
    *,
    power: int = 2,
    n_exponentials: int = 3,
    amplitude_prior: float | None = 3.0,
    parameters: lmfit.Parameters | None = None,
) -> xr.Dataset:
    """Fit every trace alone, with time zero and response known as well as the shared fit knows them.

    Parameters
    ----------
    traces
        As for `fit_kinetics`.
    shared
        The fit of all traces together.
    power, n_exponentials, amplitude_prior, parameters
        As for `fit_kinetics`; what `parameters` says of t_d and irf_sigma gives way to what the shared fit found.

    Returns
    -------
    Dataset over trace and parameter (tau1 ...): tau, tau_stderr, tau_ci95 (bound), tau_identifiable; NaN and False where
    a trace has too few points. Most single energies do not determine their times; the verdict says which do.
    """
    times = copy.deepcopy(parameters)
    for name in ("t_d", "irf_sigma"):
        if times is not None and name in times:
            times[name].set(value=-np.inf, vary=True, min=-np.inf, max=np.inf, expr="")
            times[name].user_data = None
    n, names = traces.sizes["trace"], list(TAUS[:n_exponentials])
    shape = (n, n_exponentials)
    out = xr.Dataset(
        {
            "tau": (("trace", "parameter"), np.full(shape, np.nan)),
            "tau_stderr": (("trace", "parameter"), np.full(shape, np.nan)),
            "tau_ci95": (("trace", "parameter", "bound"), np.full((*shape, 2), np.nan)),
            "tau_identifiable": (("trace", "parameter"), np.zeros(shape, bool)),
        },
        coords={"parameter": names, "bound": ["lower", "upper"], "energy": ("trace", traces["energy"].values)},
    )
    for e in range(n):
        one = traces.isel(trace=[e])
        try:
            fit = fit_kinetics(
                one.isel(delay=np.flatnonzero(one["delta_xas"].notnull().values[0])),
                power=power,
                n_exponentials=n_exponentials,
                irf_sigma=_known(shared, "irf_sigma"),
                t_d=_known(shared, "t_d"),
                parameters=times,
                amplitude_prior=amplitude_prior,
                systematics=False,
            ).sel(parameter=names)
        except DataError:
            continue
        for name, source in (("tau", "value"), ("tau_stderr", "stderr"), ("tau_ci95", "ci95")):
            out[name].values[e] = fit[source].values
        out["tau_identifiable"].values[e] = fit["identifiable"].values
    return SINGLE_TRACE_FITS.describe(out)


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
    parts = [*cubes.values(), *fits.values()]
    energy = np.unique(np.concatenate([p["energy"].values for p in parts])) if parts else np.empty(0)
    delay = np.unique(np.concatenate([c["delay"].values for c in cubes.values()])) if cubes else np.empty(0)
    sizes = {
        "fluence": len(fluences),
        "component": N_COMPONENTS,
        "decay": len(_DECAYS),
        "parameter": len(TAUS),
        "bound": 2,
        "energy": len(energy),
        "delay": len(delay),
    }
    dims = {
        "singular_values": ("fluence", "component"),
        "noise_level": ("fluence", "component"),
        "spectra_left": ("fluence", "component", "energy"),
        "delays_right": ("fluence", "component", "delay"),
        "decay_rate": ("fluence", "decay"),
        **dict.fromkeys(("das", "das_stderr"), ("fluence", "decay", "energy")),
        **dict.fromkeys(("tau", "tau_stderr"), ("fluence", "energy", "parameter")),
        "tau_ci95": ("fluence", "energy", "parameter", "bound"),
    }
    out = xr.Dataset({n: (d, np.full([sizes[x] for x in d], np.nan)) for n, d in dims.items()})
    out["n_components"] = ("fluence", np.full(len(fluences), -1))
    map_dims = ("fluence", "energy", "parameter")
    out["tau_identifiable"] = (map_dims, np.zeros([sizes[x] for x in map_dims], bool))
    for k, fluence in enumerate(fluences):
        if fluence in cubes:
            _fill_cube(out, k, cubes[fluence], energy, delay)
        if fluence in fits:
            fit = fits[fluence]
            rows = np.array([_DECAYS.index(str(d)) for d in fit["decay"].values])
            out["decay_rate"].values[k, rows] = fit["rate"].values
            for name in ("das", "das_stderr"):
                out[name].values[k][np.ix_(rows, np.searchsorted(energy, fit["energy"].values))] = fit[name].values
        if fluence in alone:
            one = alone[fluence]
            e = np.searchsorted(energy, one["energy"].values)
            for name in ("tau", "tau_stderr", "tau_ci95", "tau_identifiable"):
                out[name].values[k, e, : one.sizes["parameter"]] = one[name].values
    out = out.assign_coords(
        fluence=np.asarray(fluences, np.float64),
        component=np.arange(1, N_COMPONENTS + 1),
        decay=np.array(_DECAYS),
        parameter=np.array(TAUS),
        bound=np.array(["lower", "upper"]),
        energy=energy,
        delay=delay,
    )
    return COMPONENTS.describe(out)


def _fill_cube(out: xr.Dataset, k: int, cube: xr.Dataset, energy: FloatArray, delay: FloatArray) -> None:
    out["n_components"].values[k] = int(cube["n_components"])
    for name in ("singular_values", "noise_level"):
        out[name].values[k] = cube[name].values
    out["spectra_left"].values[k][:, np.searchsorted(energy, cube["energy"].values)] = cube["spectra_left"].values
    out["delays_right"].values[k][:, np.searchsorted(delay, cube["delay"].values)] = cube["delays_right"].values


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
