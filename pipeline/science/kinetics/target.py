"""The target model of a cube: what is excited goes from |2> to |1> while tau3 runs, as two species or as a line that moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Unpack

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_distribution

from pipeline.science.kinetics._target_projection import Projected, columns, moved_line, project
from pipeline.science.kinetics._target_search import (
    RIVAL,
    Model,
    aicc,
    chi_square,
    degrees_of_freedom,
    moving_minima,
    refined,
    species_minima,
    spread_of,
    still_minima,
    target_model,
)
from pipeline.science.kinetics.intervals import (
    correlation,
    describes,
    has_signal,
    profile_intervals,
    stderr_from_interval,
)
from pipeline.science.kinetics.parameters import parameter_names
from pipeline.science.kinetics.problem import FitOptions, build_problem, linear
from pipeline.science.kinetics.report import contradicted, well_determined
from pipeline.science.kinetics.search import Solution, baselines_of, distinct
from pipeline.science.kinetics.traces import gathered
from schemas.catalogue import note
from schemas.datasets.target_fits import MODELS, TARGET, TARGET_FIT
from schemas.notes import Note

__all__ = [
    "LEAST_ENERGIES",
    "describes_cube",
    "fit_target",
    "gather_targets",
    "line_moves",
    "populations",
]

FloatArray = NDArray[np.float64]

LEAST_ENERGIES = 8
"""Energies that a line which moves can be told from; fewer have no target model."""
_ATTEMPTS = 3
_SEEN = 0.01
"""Part of the largest population from which there is a line to have a place."""
_CHANCE = 1e-3
"""Probability below which the fit with free amplitudes is not taken for one of the target model's kind."""
_CHANGES = 1e-6
"""Probability of χ² below which one spectrum does not do; a search over times and shifts finds some in any noise."""
_ACCEPTABLE = 0.05
"""Probability of χ² below which the errors of the data are not taken at their word."""


def fit_target(traces: xr.Dataset, shared: xr.Dataset, **options: Unpack[FitOptions]) -> xr.Dataset | None:
    """Fit populations that all energies share, with spectra of their own, and say which model describes the cube.

    What is excited, N, rises with tau1; a share of it returns to the ground with tau2; and it goes from |2> to |1> with tau3.
    Two models of what that does to the spectrum are fitted: `species`, whose spectra S2 and S1 are free at every energy,
    and `line that moves`, which keeps its shape while its place goes from `shift` to 0 as e^{-x/tau3}.

    Parameters
    ----------
    traces
        As for `fit_kinetics`, with coordinate energy (trace) [eV].
    shared
        What `fit_kinetics` found for the same traces: its χ², and the error of the constant under each trace.
    options
        As for `fit_kinetics`; the amplitude prior has nothing to act on.

    Returns
    -------
    Dataset as in `TARGET_FIT`, of the line that moves unless AICc of the species is lower by 9; None where there are fewer than `LEAST_ENERGIES` energies,
    where the form has no tau3, or where times are tied to each other.

    References
    ----------
    van Stokkum, Larsen and van Grondelle, Biochim. Biophys. Acta 1657, 82 (2004), for target analysis; Golub and Pereyra,
    SIAM J. Numer. Anal. 10, 413 (1973); Kaufman, BIT 15, 49 (1975), for the derivatives.
    """
    if len(np.unique(np.round(traces["energy"].values, 3))) < LEAST_ENERGIES or options.get("n_exponentials", 3) != 3:
        return None
    ordered = traces.transpose("trace", "delay").sortby("delay")
    delay, signal, stderr = (ordered[n].values.astype(np.float64) for n in ("delay", "delta_xas", "delta_xas_stderr"))
    problem = build_problem(delay, signal, stderr, baseline_stderr=shared["baseline_prior"].values, **options)
    if problem.tied.any():
        return None
    energy = ordered["energy"].values.astype(np.float64)
    species, still = target_model(problem, energy, n_free=2), target_model(problem, energy)
    of_species = species_minima(species, shared)
    found = {
        MODELS[1]: (still, still_minima(still, of_species)),
        MODELS[2]: (species, of_species),
        MODELS[3]: moving_minima(problem, energy, of_species),
    }
    compared = _compared(shared, found)
    # a line that hardly moves does what two species do, so its times are right for both; those of the species are not
    best = MODELS[2] if float(compared["aicc"][2]) + RIVAL < float(compared["aicc"][3]) else MODELS[3]
    result = xr.merge([compared, _result(*found[best], ordered)]).assign_attrs(model=best, power=problem.data.power)
    other = MODELS[2] if best == MODELS[3] else MODELS[3]
    if describes(*(float(compared[n].sel(model=other)) for n in ("chi2", "dof"))):
        times = xr.DataArray(linear(found[other][1][0].theta[:5]), coords={"parameter": list(parameter_names())})
        result = contradicted(result, f"the model “{other}”", times)
    return TARGET_FIT.describe(result)


def describes_cube(target: xr.Dataset | None) -> bool:
    """Whether chance allows the χ² of the target model that is reported (probability above 1 in 1000)."""
    if target is None:
        return False
    best = target.sel(model=target.attrs["model"])
    return describes(float(best["chi2"]), float(best["dof"]))


def line_moves(target: xr.Dataset | None, shared: xr.Dataset) -> bool:
    """Whether the spectrum changes while the times run such that free amplitudes at fixed rates miss it.

    The target model then describes the cube, one spectrum does not do as well, AICc is lower than that of free amplitudes,
    and these give other times (outside their 95 % interval), or a χ² that is higher than their parameters allow.

    Parameters
    ----------
    target, shared
        From `fit_target` and `fit_kinetics`.
    """
    if target is None or not describes_cube(target):
        return False
    chi2, dof, aicc_of = (dict(zip(MODELS, target[n].values.tolist(), strict=True)) for n in ("chi2", "dof", "aicc"))
    free, still, best = MODELS[0], MODELS[1], target.attrs["model"]
    changes = chi2_distribution.sf(chi2[still] - chi2[best], max(dof[still] - dof[best], 1)) < _CHANGES
    # free amplitudes contain what all energies share, so χ² must be lower by what chance makes of their parameters
    fewer = dof[best] - dof[free]
    missed = fewer > 0 and chi2_distribution.cdf(chi2[best] - chi2[free], fewer) < _CHANCE
    low, high = shared["ci95"].values[2:].T
    other = (target["value"].values[2:] < low) | (target["value"].values[2:] > high)
    return bool(changes and aicc_of[best] + RIVAL < aicc_of[free] and (missed or other.any()))


def populations(
    delay: FloatArray,
    *,
    t_d: float,
    irf_sigma: float,
    taus: Sequence[float],
    shares: tuple[float, float],
    power: int = 2,
) -> FloatArray:
    """Populations of |2> and |1> seen through the response, dims (species, delay); 1 is all that is excited at once.

    Parameters
    ----------
    delay
        Delays [ps], dims (delay).
    t_d, irf_sigma, taus
        Time zero, response, and tau1 to tau3 [ps].
    shares
        Of what is excited: what returns to the ground with tau2, and what goes with tau3 while |2> becomes |1>.
    power
        Of rise and return, 2 as in the printed form, or 1.
    """
    theta = np.array([t_d, irf_sigma, *np.log(taus), *shares])
    first, second = columns(theta, np.asarray(delay, np.float64), power, 2, n_returning=2)[0]
    return np.stack([second, first - second])


def gather_targets(fluences: Sequence[float], found: Mapping[float, xr.Dataset]) -> xr.Dataset:
    """Return the group target from the fits of single fluences, NaN where there is none.

    Parameters
    ----------
    fluences
        All fluences [mJ/cm²].
    found
        Fluence -> result of `fit_target`.
    """
    axes = {
        "model": list(MODELS),
        "parameter": list(parameter_names()),
        "bound": ["lower", "upper"],
        "species": ["2", "1"],
    }
    out = gathered(TARGET, fluences, {f: [one] for f, one in found.items()}, axes)
    none = [""] * len(axes["parameter"])
    for name in ("verdict", "verdict_code"):
        said = [found[f][name].values.tolist() if f in found else none for f in fluences]
        out[name] = (("fluence", "parameter"), np.array(said, str).reshape(len(fluences), len(none)))
    out["reported"] = ("fluence", np.array([found[f].attrs["model"] if f in found else "" for f in fluences], str))
    return TARGET.describe(out)


def _compared(shared: xr.Dataset, found: dict[str, tuple[Model, list[Solution]]]) -> xr.Dataset:
    """χ², degrees of freedom and AICc of the seed's formula with free amplitudes and of the models."""
    solved = {name: (model, project(model.cube, minima[0].theta)) for name, (model, minima) in found.items()}
    chi2 = [float(shared["chi2"]), *(chi_square(*one) for one in solved.values())]
    dof = [int(shared["dof"]), *(degrees_of_freedom(*one) for one in solved.values())]
    n = int(shared.attrs["n_points"])
    criterion = [aicc(x, n, d) for x, d in zip(chi2, dof, strict=True)]
    return xr.Dataset(
        {
            "chi2": ("model", chi2),
            "dof": ("model", dof),
            "probability": ("model", chi2_distribution.sf(chi2, dof)),
            "aicc": ("model", criterion),
        },
        coords={"model": list(MODELS)},
    )


def _result(model: Model, minima: list[Solution], ordered: xr.Dataset) -> xr.Dataset:
    problem, cube = model.problem, model.cube
    for attempt in range(_ATTEMPTS):
        best = minima[0]
        found = project(cube, best.theta)
        chi2, dof = chi_square(model, found), degrees_of_freedom(model, found)
        scale = chi2 / dof if chi2_distribution.sf(chi2, dof) < _ACCEPTABLE else 1.0
        spread, widening = spread_of(model, best.theta)
        spread = scale * spread
        errors = np.sqrt(np.diag(spread))
        ends, lower = profile_intervals(
            problem._replace(free=problem.free & (np.arange(len(problem.free)) < 5)),
            [m for m in minima if m.cost - best.cost < RIVAL * scale],
            scale * widening**2,
            errors,
            accept_lower=attempt == _ATTEMPTS - 1,
            refit=lambda _, near, p, x: _held(model, near, p, x),
        )
        if lower is None:
            break
        minima = distinct(problem, [refined(model, lower.theta), *minima])
    rivals = [m.theta for m in minima[1:] if m.cost - best.cost < RIVAL * scale]
    parameters = _parameters(model, minima[0], rivals, ends, spread, scale, (chi2, dof))
    return xr.merge([parameters, _spectra(model, found, best, spread, scale), _traces(model, found, best, ordered)])


def _held(model: Model, near: Solution, p: int, x: float) -> Solution:
    theta = near.theta.copy()
    theta[p] = x
    return refined(model, theta, fixed=p, tolerance=1e-5)


def _parameters(
    model: Model,
    best: Solution,
    rivals: Sequence[FloatArray],
    ends: FloatArray,
    spread: FloatArray,
    scale: float,
    quality: tuple[float, int],
) -> xr.Dataset:
    problem = model.problem
    free, limits, names = problem.free[:5], problem.data.bounds[:, :5], parameter_names()
    value, errors = linear(best.theta[:5]), np.sqrt(np.diag(spread))
    ends = linear(ends[:, :5].swapaxes(-1, -2)).swapaxes(-1, -2)
    ends[:, 1, 0] = np.where(np.isneginf(ends[:, 1, 0]), 0.0, ends[:, 1, 0])
    reach = linear(limits)
    reach = np.where(np.isfinite(reach), reach, np.stack([value - 10 * problem.spacing, value + 10 * problem.spacing]))
    wald = np.where(free, np.minimum(errors[:5] * np.array([1, 1, *value[2:]]), reach[1] - reach[0]), 0.0)
    stderr = np.array([stderr_from_interval(value[p], ends[:, p], wald[p], reach[:, p]) for p in range(5)])
    seen = has_signal(problem, quality[0]) and describes(*quality)
    at_bound = free & ((best.theta[:5] <= limits[0] + 1e-6) | (best.theta[:5] >= limits[1] - 1e-6))
    others = np.array([linear(theta[:5])[2:] for theta in rivals]).reshape(-1, 3)
    known = np.isfinite(ends[1]).all(axis=-1) & ~at_bound
    known[2:] &= well_determined(value[2:], ends[1:, 2:], errors[2:5], others)
    known = (known & seen) | ~free
    said = [
        _verdict(n, float(value[p]), ends[1, p], bool(known[p]), bool(free[p]), quality) for p, n in enumerate(names)
    ]
    pair = ("parameter", "bound")
    extra = {n: (best.theta[p], errors[p]) for p, n in enumerate(problem.names) if p >= 5}
    shift = extra.get("shift", (np.nan, np.nan))
    shares = {
        "returning": extra["returning"],
        "lattice": extra.get("lattice", (0.0, 0.0)),
        "shift": shift,
    }
    return xr.Dataset(
        {
            "value": ("parameter", value),
            "stderr": ("parameter", np.where(free, stderr, 0.0)),
            "ci68": (pair, ends[0]),
            "ci95": (pair, ends[1]),
            "identifiable": ("parameter", known),
            "verdict": ("parameter", ["", "", *(one.text for one in said[2:])]),
            "verdict_code": ("parameter", ["", "", *(one.code for one in said[2:])]),
            "correlation": (("parameter", "parameter2"), correlation(spread[:5, :5])),
            **{n: v for n, (v, _) in shares.items()},
            **{f"{n}_stderr": e for n, (_, e) in shares.items()},
            "redchi": quality[0] / quality[1],
        },
        coords={"parameter": list(names), "parameter2": list(names), "bound": ["lower", "upper"]},
    )


def _verdict(name: str, value: float, ends: FloatArray, known: bool, free: bool, quality: tuple[float, int]) -> Note:
    low, high = ends.tolist()
    if not free:
        return note("kinetics.tau_given", parameter=name, value=value)
    if known:
        return note("kinetics.tau_determined", parameter=name, value=value, low=low, high=high)
    open_end = f"{high:.2g}" if np.isfinite(high) else "open"
    if not describes(*quality):
        chance = float(chi2_distribution.sf(*quality))
        redchi = quality[0] / quality[1]
        return note("kinetics.tau_of_misfit", parameter=name, redchi=redchi, probability=chance, low=low, high=open_end)
    return note("kinetics.tau_of_target_open", parameter=name, low=low, high=open_end)


def _spectra(model: Model, found: Projected, best: Solution, spread: FloatArray, scale: float) -> xr.Dataset:
    """Spectra of |2> and |1> (species, trace) with errors, at what would be excited without rise and return."""
    cube, peak = model.cube, model.problem.peak

    def of(one: Projected, shift: float) -> FloatArray:
        if not cube.moves:
            first, slope = one.spectra.T
            return np.stack([first + slope, first])
        settled = one.spectra[:, 0]
        begin = moved_line(cube.knots, cube.energy, shift)[0].sum(axis=0) @ one.line
        return np.stack([settled + begin, settled])

    theta = best.theta
    value = of(found, theta[-1])
    # errors of what is linear at given times, and what those of the times add
    bare = np.linalg.inv(found.factor)
    inner = np.einsum("eij,ekj->eik", bare, bare)
    if cube.moves:
        begin = moved_line(cube.knots, cube.energy, theta[-1])[0].sum(axis=0)
        gains = np.stack([begin - found.coupling, -found.coupling])
        variance = inner[:, 0, 0] + np.einsum("sek,kl,sel->se", gains, np.linalg.inv(found.gram), gains)
    else:
        variance = np.stack([inner.sum(axis=(1, 2)), inner[:, 0, 0]])
    slopes = []
    for p in np.flatnonzero(model.problem.free):
        step = np.zeros_like(theta)
        step[p] = 1e-3 * np.sqrt(spread[p, p])
        ends = [of(project(cube, t), t[-1]) for t in (theta - step, theta + step)]
        slopes.append((ends[1] - ends[0]) / (2 * step[p]))
    gain = np.stack(slopes)
    free = np.ix_(model.problem.free, model.problem.free)
    variance = scale * variance + np.einsum("pse,pq,qse->se", gain, spread[free], gain)
    return xr.Dataset(
        {
            "species_spectrum": (("species", "trace"), peak * value),
            "species_spectrum_stderr": (("species", "trace"), peak * np.sqrt(variance)),
        },
        coords={"species": ["2", "1"]},
    )


def _traces(model: Model, found: Projected, best: Solution, ordered: xr.Dataset) -> xr.Dataset:
    """Populations and place of the line over the delays, the fit, and what it leaves."""
    problem, data = model.problem, model.problem.data
    share = {n: float(v) for n, v in zip(problem.names, best.theta, strict=True)}
    t_d, irf_sigma, *taus = linear(best.theta[:5]).tolist()
    shares = share["returning"], share.get("lattice", 0.0)
    there = populations(data.delay, t_d=t_d, irf_sigma=irf_sigma, taus=taus, shares=shares, power=data.power)
    constant = baselines_of(data, data.signal - found.model)
    fit = problem.peak * (found.model + constant[:, None])
    excited = there.sum(axis=0)
    seen = np.abs(excited) > _SEEN * np.abs(excited).max()
    moved = share.get("shift", np.nan) * there[0] / np.where(seen, excited, 1.0)
    return xr.Dataset(
        {
            "population": (("species", "delay"), there),
            "line_shift": ("delay", np.where(seen, moved, np.nan)),
            "fit": (("trace", "delay"), fit),
            "residual": (("trace", "delay"), ordered["delta_xas"].values - fit),
        },
        coords={"delay": data.delay, "energy": ("trace", model.cube.energy)},
    )
