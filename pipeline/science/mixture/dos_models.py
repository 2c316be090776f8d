"""The mixture under several models of the two states: one result, and how far the others lie from it.

The error of α counts noise. How good the DOS are it cannot know; where there are several, each is fitted to the same data, and their spread is the model
error: with α_0 from the first model and α_1 ... α_M from the others,

    model error = sqrt(sum_m (α_m - α_0)^2 / M),

the root mean square distance from the value that is reported. Where the DOS miss the spectra, what may be true instead is tried as well (`_alternatives`), and the
farthest is added in quadrature. It is not a part of `alpha_stderr`. Noise moves all models alike and hardly enters it.

Without DOS, model peaks stand for them. The pre-edge peak of the unpumped spectrum is a Gaussian on a straight line and the tail of the edge above the
window; the excited peak is a Gaussian with position, width and area of its own, fitted to ΔXAS, so that α is the part of the ground peak that is gone.
The model error comes from another form of the tail and from an excited peak that is the ground peak moved.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.optimize import least_squares

from pipeline.errors import DataError
from pipeline.science.mixture._alternatives import COMPARED, LOWER, Fits, as_well, fit_measured, instead
from pipeline.science.mixture._ground import merge_scans
from pipeline.science.mixture.alpha import fit_mixture
from pipeline.science.mixture.dos import builtin_dos
from pipeline.science.peaks.line_shape import gaussian
from schemas.datasets.fitted import MIXTURE
from schemas.datasets.model_curves import EDGE

__all__ = [
    "BUILTIN",
    "LOWER",
    "fit_builtin_models",
    "fit_models",
    "model_error_parts",
    "rising_edge",
    "with_model_error",
]

Floats = NDArray[np.float64]
BUILTIN = ("own excited peak", "exponential edge", "ground peak moved")
"""Names of the built-in models, the one that is reported first."""
_MIN_GAIN = 16.0
"""Fall of chi2 that makes an edge real."""
BEYOND = 1.25
"""How much farther than the farthest model the truth may be, none of which it need be."""


def fit_models(
    spectra: xr.Dataset,
    models: Mapping[str, tuple[xr.DataArray, xr.DataArray]],
    *,
    ground: Literal["dos", "measured"] = "dos",
    alternatives: bool = True,
    **options: object,
) -> xr.Dataset:
    """Fit the mixture with every pair of DOS and return the first result with the model error.

    Beside other DOS, models are what describes the unpumped spectrum as well as what is reported: other forms of the tail
    that an edge has in the window, and a window that ends lower; and where the DOS misses the spectrum, the measured one in
    its place.

    Parameters
    ----------
    spectra
        As in `fit_mixture`.
    models
        Name -> (ground, excited) DOS; the first is the one reported.
    ground
        "measured": the ground component of the first model is the unpumped spectrum without its background, and the excited
        DOS is scaled as the area of the ground DOS asks for.
    alternatives
        Whether models beside the DOS are tried.
    options
        Of `fit_mixture`.

    Raises
    ------
    DataError
        A DOS cannot be used (`CoverageError`: does not cover the window); the message names the model if there are several.
    """
    results: dict[str, xr.Dataset] = {}
    fits = None
    for name, dos in models.items():
        try:
            results[name] = fit_mixture(spectra, *dos, **options)  # type: ignore[arg-type]
            if fits is None:
                fits = _around(spectra, dos, results[name], options, ground, alternatives=alternatives)
                results[name] = fits.first
        except DataError as error:
            raise type(error)(f"model {name}: {error}" if len(models) > 1 else str(error)) from None
    if fits is None:
        raise DataError("no model to fit the mixture with: give a pair of DOS")
    out = with_model_error(results | fits.others | fits.instead, may_be=list(fits.instead))
    # nothing else was needed: no error where there is a share
    zero = {f"{n}_model_stderr": out[f"{n}_model_stderr"].fillna(0.0).where(out[n].notnull()) for n in COMPARED}
    return MIXTURE.describe(out.assign(zero))


def _around(
    spectra: xr.Dataset,
    dos: tuple[xr.DataArray, xr.DataArray],
    first: xr.Dataset,
    options: Mapping[str, object],
    ground: str,
    *,
    alternatives: bool,
) -> Fits:
    """Return the first result with what describes the spectra as well, or may be true instead."""
    if ground == "measured":
        return fit_measured(spectra, dos, first, options)
    if not alternatives:
        return Fits(first, {}, {})
    return Fits(first, as_well(spectra, dos, first, options), instead(spectra, dos, first, options))


def fit_builtin_models(
    spectra: xr.Dataset, *, window: tuple[float, float], min_delay: float = 0.8, **options: object
) -> xr.Dataset:
    """Fit the mixture with model peaks in the place of DOS, with their model error.

    Parameters
    ----------
    spectra, window, min_delay
        As in `fit_mixture`.
    options
        Further options of `fit_mixture`; no broadening, as the peaks are as measured.

    Raises
    ------
    DataError
        No peak in the unpumped spectrum, or no lines in ΔXAS.
    """
    results = {}
    forms: tuple[Literal["gaussian", "exponential"], ...] = ("gaussian", "exponential")
    edges = {form: rising_edge(spectra, window=window, form=form) for form in forms}
    for name, form in zip(BUILTIN, (*forms, forms[0]), strict=True):
        flat = spectra.assign(od_unpumped=spectra["od_unpumped"] - edges[form])
        ground, excited = builtin_dos(flat, window=window, min_delay=min_delay)
        shape = "dos" if name == BUILTIN[2] else "free"
        results[name] = fit_mixture(
            flat,
            ground,
            excited,
            window=window,
            min_delay=min_delay,
            excited_shape=shape,  # type: ignore[arg-type]
            edge="none",
            **options,  # type: ignore[arg-type]
        )
    return with_model_error(results)


def with_model_error(results: Mapping[str, xr.Dataset], *, may_be: Collection[str] = ()) -> xr.Dataset:
    """Return the first result with those of all models beside it.

    Parameters
    ----------
    results
        Name of the model -> result of `fit_mixture` on the same spectra.
    may_be
        Names of those that may be true instead of the first, any of them: the one that is farthest off counts, with what its
        own error exceeds that of the first, and a quarter more.

    Returns
    -------
    The first dataset and, over model: `alpha_by_model` (model, fluence), `slope_by_model`, `intercept_by_model`, each with `_stderr`,
    `redchi_by_model` (model, fluence), `ground_redchi_by_model`; and `alpha_model_stderr` (fluence), `slope_model_stderr`, `intercept_model_stderr`, NaN
    where there is one model only.
    """
    xr.align(*results.values(), join="exact", copy=False)
    names = list(results)
    first = next(iter(results.values()))
    out = first.assign_coords(model=np.array(names))
    for name in (*(f"{n}{s}" for n in COMPARED for s in ("", "_stderr")), "redchi", "ground_redchi"):
        values = np.stack([r[name].values for r in results.values()])
        base = name.removesuffix("_stderr")
        out[f"{base}_by_model{name[len(base) :]}"] = (("model", *first[name].dims), values)
    for name in COMPARED:
        values = np.stack([r[name].values for r in results.values()])
        own = np.stack([r[f"{name}_stderr"].values for r in results.values()])
        others, misses = _away(names, values, own, may_be)
        square = [np.mean([*others.values()], axis=0)] if others else []
        square += [np.max([*misses.values()], axis=0)] if misses else []
        spread = np.sqrt(np.sum(square, axis=0)) if square else np.nan * values[0]
        out[f"{name}_model_stderr"] = (first[name].dims, spread)
    return MIXTURE.describe(out.assign_attrs(may_be=[*may_be]))


def model_error_parts(mixture: xr.Dataset, name: str) -> dict[str, xr.DataArray]:
    """Return the model error of a number in two parts whose squares sum up to its square.

    Parameters
    ----------
    mixture
        From `with_model_error`.
    name
        alpha, slope or intercept.

    Returns
    -------
    `dos`: other states, edges and shapes; `window`: other energies. NaN where no model of that kind was tried.
    """
    values, own = (mixture[n].transpose("model", ...).values for n in (f"{name}_by_model", f"{name}_by_model_stderr"))
    names = [str(n) for n in mixture["model"].values]
    others, misses = _away(names, values, own, np.atleast_1d(mixture.attrs["may_be"]).tolist())
    worst = np.max([*misses.values()], axis=0) if misses else 0.0
    parts = {}
    for part, wanted in (("dos", False), ("window", True)):
        mine = [v / len(others) for n, v in others.items() if n.endswith("window") is wanted]
        mine += [np.where(v == worst, v, 0.0) for n, v in misses.items() if n.endswith("window") is wanted]
        square = np.sum(mine, axis=0) if mine else np.full(values.shape[1:], np.nan)
        parts[part] = mixture[name].copy(data=np.sqrt(square))
    return parts


def _away(
    names: Sequence[str], values: Floats, own: Floats, may_be: Collection[str]
) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return squared distances from the first model (model, ...): of those that count alike, and of those that may be true."""
    away = dict(zip(names, np.square(values - values[0]), strict=True))
    wider = dict(zip(names, np.maximum(np.square(own) - np.square(own[0]), 0.0), strict=True))
    others = {n: away[n] for n in names[1:] if n not in may_be}
    return others, {n: BEYOND**2 * away[n] + wider[n] for n in may_be}


def rising_edge(
    spectra: xr.Dataset, *, window: tuple[float, float], form: Literal["gaussian", "exponential"] = "gaussian"
) -> xr.DataArray:
    """Return the tail that the absorption above the window has inside it, dim energy of `spectra`; zero outside the window or if there is none.

    Fitted to the unpumped spectra together with a Gaussian peak and a straight line.

    Parameters
    ----------
    spectra
        `od_unpumped` with error, dims (fluence, delay, energy).
    window
        Photon energies [eV] that hold the pre-edge peak.
    form
        "gaussian": the flank of a peak above the window, exp(-4 ln2 (E - c)^2 / w^2); "exponential": exp(E / w).
    """
    merged = merge_scans(spectra, window)
    energy, span = merged.energy, float(merged.energy[-1] - merged.energy[0])
    values, vectors = np.linalg.eigh(merged.precision)
    root = np.sqrt(np.maximum(values, 0.0))[:, None] * vectors.T
    known = values > 1e-12 * values[-1]
    target = np.where(known, (vectors.T @ merged.moment) / np.sqrt(np.where(known, values, 1.0)), 0.0)
    line = energy - energy.mean()

    def tail(q: Floats) -> Floats:
        if form == "exponential":
            return np.asarray(np.exp((energy - energy[-1]) / q[0]))
        return gaussian(energy, energy[-1] + q[0], q[1]) / gaussian(energy[-1:], energy[-1] + q[0], q[1])

    def solved(x: Floats, *, edge: bool) -> tuple[Floats, Floats]:
        columns = [gaussian(energy, x[0], x[1]), line, *([tail(x[2:])] if edge else [])]
        basis = root @ np.stack(columns, axis=1)
        weights = np.linalg.lstsq(basis, target, rcond=None)[0]
        return basis @ weights - target, weights

    peak = [energy[0] + 0.5 * span, 0.3 * span]
    limits = [[energy[0], 0.02 * span], [energy[-1], span]]
    start = [0.1 * span] if form == "exponential" else [0.3 * span, 0.5 * span]
    low, high = ([0.03 * span], [span]) if form == "exponential" else ([0.05 * span, 0.2 * span], [span, 2.0 * span])
    plain = least_squares(lambda x: solved(x, edge=False)[0], peak, bounds=limits, x_scale=[0.1, 0.1])
    full = least_squares(
        lambda x: solved(x, edge=True)[0],
        [*plain.x, *start],
        bounds=([*limits[0], *low], [*limits[1], *high]),
        x_scale=[0.1, 0.1, *(0.3 for _ in start)],
        xtol=1e-10,
        ftol=1e-12,
    )
    height = float(solved(full.x, edge=True)[1][2])
    real = height > 0 and 2.0 * (plain.cost - full.cost) > _MIN_GAIN
    curve = xr.zeros_like(spectra["energy"], dtype=np.float64)
    if real:
        at = np.searchsorted(spectra["energy"].values, energy)
        curve.values[at] = height * tail(full.x[2:])
    return curve.rename("edge").assign_attrs(EDGE.attrs)
