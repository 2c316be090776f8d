"""Sums of signed Gaussian lines fitted to many spectra at once, on plain arrays.

All spectra of a scan share one energy axis, so they are fitted as one batch: residuals (spectrum, energy), Jacobians (spectrum, energy, parameter), one
small linear solve per spectrum and step. A bin that was not measured has weight zero.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.science.peaks.line_shape import LN16, gaussian

__all__ = ["LineFit", "LineModel", "aicc", "fit_line_model", "normal_equations"]

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
_BATCH = 64  # spectra per block of the start search: keeps its (spectrum, line, line) arrays inside the cache
_MAX_STEPS = 80
_N_STARTS = 3
# Two merging lines of opposite sign are a derivative: their heights can grow without limit at equal chi2. A weak prior on the heights, three times
# the largest value of the spectrum wide, ends that valley and is not felt by lines that the data resolve.
HEIGHT_PRIOR = 3.0


@dataclass(frozen=True)
class LineModel:
    """Which lines are in the fit (their signs), whether they share one width, and whether a constant is added.

    `fwhm` (one value per line) fixes the widths; they are then no parameters.
    """

    signs: tuple[int, ...]
    shared_fwhm: bool
    offset: bool
    fwhm: tuple[float, ...] | None = None

    @property
    def n_lines(self) -> int:
        """Number of lines."""
        return len(self.signs)

    @property
    def n_widths(self) -> int:
        """Number of width parameters."""
        if self.fwhm is not None:
            return 0
        return min(1, self.n_lines) if self.shared_fwhm else self.n_lines

    @property
    def n_parameters(self) -> int:
        """Number of free parameters: positions, widths, amplitudes, offset."""
        return 2 * self.n_lines + self.n_widths + int(self.offset)


class LineFit(NamedTuple):
    """Best fit of one model to every spectrum; `theta` is (spectrum, parameter): positions, ln fwhm, amplitudes, offset."""

    theta: Floats
    covariance: Floats
    chi2: Floats
    objective: Floats  # chi2 + prior, what was minimised
    free: Bools  # no parameter sits at its limit: what was fitted is a line, not an edge or a background


def aicc(chi2: Floats, n_parameters: int, n_points: NDArray[np.int_]) -> Floats:
    """Akaike's criterion corrected for few points (Hurvich and Tsai, Biometrika 76, 297, 1989); infinite if undefined."""
    spare = n_points - n_parameters - 1
    correction = 2.0 * n_parameters * (n_parameters + 1) / np.where(spare > 0, spare, 1)
    return np.where(spare > 0, chi2 + 2.0 * n_parameters + correction, np.inf)


def fit_line_model(
    energy: Floats,
    values: Floats,
    weights: Floats,
    model: LineModel,
    first: Floats | None = None,
    *,
    search: bool = True,
) -> LineFit:
    """Global weighted least squares of `model` to each row of `values`.

    Parameters
    ----------
    energy
        Photon energies of the window, (energy,), increasing.
    values, weights
        Spectra and 1 / sigma^2, (spectrum, energy); weight 0 marks a missing bin.
    model
        The lines to fit.
    first
        Extra starting points (spectrum, parameter), such as the solution of a model nested in this one.
    search
        False: start from `first` alone.
    """
    limits = _limits(energy, values, weights, model)
    starts = [] if not search and first is not None else _starts(energy, values, weights, model)
    if first is not None:
        starts = [first, *starts]
    count, size = len(starts), len(values)
    tiled = tuple(np.tile(limit, (count, 1)) for limit in limits)
    start = np.clip(np.concatenate(starts), *tiled)
    fit = _minimise(
        energy, np.tile(values, (count, 1)), np.tile(weights, (count, 1)), model, start, (tiled[0], tiled[1])
    )
    return reduce(_better, [_rows(fit, slice(k * size, (k + 1) * size)) for k in range(count)])


def _rows(fit: LineFit, rows: slice) -> LineFit:
    return LineFit(fit.theta[rows], fit.covariance[rows], fit.chi2[rows], fit.objective[rows], fit.free[rows])


def _limits(energy: Floats, values: Floats, weights: Floats, model: LineModel) -> tuple[Floats, Floats]:
    n_lines, n_widths = model.n_lines, model.n_widths
    span = energy[-1] - energy[0]
    narrowest = np.log(np.median(np.diff(energy)))
    largest = 10.0 * np.max(np.abs(values) * (weights > 0), axis=1) + np.finfo(float).tiny
    lower = np.full((len(values), model.n_parameters), -np.inf)
    upper = np.full((len(values), model.n_parameters), np.inf)
    lower[:, :n_lines], upper[:, :n_lines] = energy[0], energy[-1]
    lower[:, n_lines : n_lines + n_widths], upper[:, n_lines : n_lines + n_widths] = narrowest, np.log(span)
    for k, sign in enumerate(model.signs):
        column = n_lines + n_widths + k
        lower[:, column] = 0.0 if sign > 0 else -largest
        upper[:, column] = largest if sign > 0 else 0.0
    return lower, upper


# --- starting points: every pair of dictionary lines, solved in closed form ---------------------------------------------------


def _dictionary(energy: Floats, model: LineModel) -> tuple[Floats, Floats]:
    """Positions and widths of trial lines that cover the window densely enough for the refinement to converge."""
    span, step = energy[-1] - energy[0], np.median(np.diff(energy))
    narrow = max(2.0 * step, 0.08 * span)
    widths = np.geomspace(narrow, max(0.4 * span, 1.5 * narrow), 4)
    if model.fwhm is not None:
        widths = np.unique(model.fwhm)
    places = np.linspace(energy[0], energy[-1], int(np.clip(2.0 * span / narrow, 8, 28)))
    position, fwhm = np.meshgrid(places, widths, indexing="ij")
    return position.ravel(), fwhm.ravel()


def _starts(energy: Floats, values: Floats, weights: Floats, model: LineModel) -> list[Floats]:
    if model.n_lines == 0:
        return [np.zeros((len(values), model.n_parameters))]
    found = [np.empty((len(values), model.n_parameters)) for _ in range(_N_STARTS)]
    for begin in range(0, len(values), _BATCH):
        rows = slice(begin, begin + _BATCH)
        for k, theta in enumerate(_starts_of_block(energy, values[rows], weights[rows], model)):
            found[k][rows] = theta
    return found


def _starts_of_block(energy: Floats, values: Floats, weights: Floats, model: LineModel) -> list[Floats]:
    position, fwhm = _dictionary(energy, model)
    lines = gaussian(energy, position[:, None], fwhm[:, None])
    total = np.maximum(weights.sum(axis=1), np.finfo(float).tiny)
    mean_line = (weights @ lines.T) / total[:, None] * model.offset
    mean_value = (weights * values).sum(axis=1) / total * model.offset
    gram = np.einsum("se,ie,je->sij", weights, lines, lines, optimize=True)
    gram -= total[:, None, None] * mean_line[:, :, None] * mean_line[:, None, :]
    overlap = (weights * values) @ lines.T - (total * mean_value)[:, None] * mean_line
    if model.n_lines == 1:
        return _single_starts(position, fwhm, gram, overlap, model)
    return _pair_starts(position, fwhm, gram, overlap, model)


def _single_starts(position: Floats, fwhm: Floats, gram: Floats, overlap: Floats, model: LineModel) -> list[Floats]:
    norm = np.maximum(np.einsum("sii->si", gram), np.finfo(float).tiny)
    height = overlap / norm
    gain = np.where(height * model.signs[0] > 0, height * overlap, 0.0)
    starts = []
    for _ in range(_N_STARTS):
        best = np.argmax(gain, axis=1)
        pick = np.take_along_axis(height, best[:, None], axis=1)[:, 0]
        starts.append(_pack(model, [position[best]], [fwhm[best]], [pick]))
        near = np.abs(position[None, :] - position[best][:, None]) < 0.7 * fwhm[best][:, None]
        gain = np.where(near, 0.0, gain)
    return starts


def _pair_starts(position: Floats, fwhm: Floats, gram: Floats, overlap: Floats, model: LineModel) -> list[Floats]:
    norm = np.maximum(np.einsum("sii->si", gram), np.finfo(float).tiny)
    product = norm[:, :, None] * norm[:, None, :]
    determinant = product - gram**2
    usable = determinant > 0.02 * product  # nearly equal lines of opposite sign are a derivative, not two lines
    if model.shared_fwhm:
        usable &= fwhm[:, None] == fwhm[None, :]
    determinant = np.where(usable, determinant, 1.0)
    first = (norm[:, None, :] * overlap[:, :, None] - gram * overlap[:, None, :]) / determinant
    second = (norm[:, :, None] * overlap[:, None, :] - gram * overlap[:, :, None]) / determinant
    usable &= (first * model.signs[0] > 0) & (second * model.signs[1] > 0)
    gain = np.where(usable, first * overlap[:, :, None] + second * overlap[:, None, :], 0.0)
    n, size = len(position), len(gram)
    starts = []
    for _ in range(_N_STARTS):
        i, j = np.divmod(np.argmax(gain.reshape(size, -1), axis=1), n)
        rows = np.arange(size)
        heights = [first[rows, i, j], second[rows, i, j]]
        starts.append(_pack(model, [position[i], position[j]], [fwhm[i], fwhm[j]], heights))
        near_i = np.abs(position[None, :] - position[i][:, None]) < 0.7 * fwhm[i][:, None]
        near_j = np.abs(position[None, :] - position[j][:, None]) < 0.7 * fwhm[j][:, None]
        gain = np.where(near_i[:, :, None] & near_j[:, None, :], 0.0, gain)
    return starts


def _pack(model: LineModel, positions: list[Floats], fwhms: list[Floats], heights: list[Floats]) -> Floats:
    columns = [*positions, *(np.log(w) for w in fwhms[: model.n_widths]), *heights]
    if model.offset:
        columns.append(np.zeros_like(heights[0]))
    return np.stack(columns, axis=1)


# --- refinement: Levenberg-Marquardt with limits, all spectra in step ----------------------------------------------------------


def _model_and_jacobian(energy: Floats, theta: Floats, model: LineModel) -> tuple[Floats, Floats]:
    n_lines, n_widths = model.n_lines, model.n_widths
    curve = np.zeros((len(theta), len(energy)))
    jacobian = np.zeros((len(theta), len(energy), model.n_parameters))
    for k in range(n_lines):
        width_column = n_lines + min(k, n_widths - 1)
        height_column = n_lines + n_widths + k
        fwhm = np.exp(theta[:, width_column, None]) if model.fwhm is None else model.fwhm[k]
        height = theta[:, height_column, None]
        distance = (energy - theta[:, k, None]) / fwhm
        line = np.exp(-LN16 * distance**2)
        slope = 2.0 * LN16 * height * line * distance
        curve += height * line
        jacobian[:, :, k] = slope / fwhm
        if n_widths:
            jacobian[:, :, width_column] += slope * distance
        jacobian[:, :, height_column] = line
    if model.offset:
        curve += theta[:, -1, None]
        jacobian[:, :, -1] = 1.0
    return curve, jacobian


def _height_prior(values: Floats, weights: Floats, model: LineModel) -> Floats:
    """1 / variance of the prior on every parameter, (spectrum, parameter); zero except for the heights."""
    largest = np.max(np.abs(values) * (weights > 0), axis=1)
    precision = np.zeros((len(values), model.n_parameters))
    begin = model.n_lines + model.n_widths
    precision[:, begin : begin + model.n_lines] = (1.0 / np.where(largest > 0, HEIGHT_PRIOR * largest, np.inf) ** 2)[
        :, None
    ]
    return precision


def normal_equations(
    energy: Floats, values: Floats, weights: Floats, model: LineModel, theta: Floats
) -> tuple[Floats, Floats, Floats]:
    """Objective (chi2 + prior), half its descent and half its curvature (Gauss-Newton) per spectrum."""
    curve, jacobian = _model_and_jacobian(energy, theta, model)
    misfit = values - curve
    weighted = jacobian * weights[:, :, None]
    prior = _height_prior(values, weights, model)
    objective = np.sum(weights * misfit**2, axis=1) + np.sum(prior * theta**2, axis=1)
    descent = np.einsum("sep,se->sp", weighted, misfit) - prior * theta
    curvature = np.matmul(weighted.transpose(0, 2, 1), jacobian)
    diagonal = np.arange(model.n_parameters)
    curvature[:, diagonal, diagonal] += prior
    return objective, descent, curvature


def _minimise(
    energy: Floats, values: Floats, weights: Floats, model: LineModel, start: Floats, limits: tuple[Floats, Floats]
) -> LineFit:
    def equations(rows: NDArray[np.int_], theta: Floats) -> tuple[Floats, Floats, Floats]:
        return normal_equations(energy, values[rows], weights[rows], model, theta)

    theta = start.copy()
    if model.n_parameters:
        _levenberg_marquardt(equations, theta, limits)
    objective, _, curvature = equations(np.arange(len(theta)), theta)
    chi2 = objective - np.sum(_height_prior(values, weights, model) * theta**2, axis=1)
    inside = np.asarray((theta > limits[0]) & (theta < limits[1]))
    return LineFit(theta, _inverse(curvature), chi2, objective, np.asarray(inside.all(axis=1)))


def _levenberg_marquardt(
    equations: Callable[[NDArray[np.int_], Floats], tuple[Floats, Floats, Floats]],
    theta: Floats,
    limits: tuple[Floats, Floats],
) -> None:
    """Minimise in place. A parameter pressed against its limit is held there for that step; done when a step is < 1e-4 sigma."""
    rows = np.arange(len(theta))
    damping = np.full(len(theta), 1e-3)
    chi2, descent, curvature = equations(rows, theta)
    for _ in range(_MAX_STEPS):
        lower, upper = limits[0][rows], limits[1][rows]
        here = theta[rows]
        held = ((here <= lower) & (descent < 0)) | ((here >= upper) & (descent > 0))
        step, scale = _damped_step(descent, curvature, damping, held)
        trial = np.clip(here + step, lower, upper)
        new_chi2, new_descent, new_curvature = equations(rows, trial)
        better = new_chi2 <= chi2
        moved = np.max(np.abs(trial - here) * scale, axis=1)
        theta[rows[better]] = trial[better]
        damping = np.where(better, damping * 0.1, damping * 5.0)
        chi2 = np.where(better, new_chi2, chi2)
        descent = np.where(better[:, None], new_descent, descent)
        curvature = np.where(better[:, None, None], new_curvature, curvature)
        going = (moved > 1e-4) & (damping < 1e12)
        if not going.any():
            return
        rows, damping, chi2 = rows[going], damping[going], chi2[going]
        descent, curvature = descent[going], curvature[going]


def _damped_step(descent: Floats, curvature: Floats, damping: Floats, held: Bools) -> tuple[Floats, Floats]:
    diagonal = np.einsum("spp->sp", curvature)
    scale = np.sqrt(np.maximum(diagonal, np.finfo(float).tiny))
    fixed = held | (diagonal <= 0)
    scaled = curvature / (scale[:, :, None] * scale[:, None, :])
    scaled = np.where(fixed[:, :, None] | fixed[:, None, :], 0.0, scaled)
    count = scaled.shape[1]
    scaled[:, np.arange(count), np.arange(count)] = 1.0 + damping[:, None] + 1e-12
    step = np.linalg.solve(scaled, np.where(fixed, 0.0, descent / scale)[:, :, None])[:, :, 0] / scale
    return step, np.where(fixed, 0.0, scale)


def _inverse(curvature: Floats) -> Floats:
    """Covariance from the curvature of chi2 / 2; NaN where some parameter is not determined."""
    diagonal = np.einsum("spp->sp", curvature)
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    scaled = curvature / (scale[:, :, None] * scale[:, None, :])
    covariance = np.full_like(curvature, np.nan)
    if curvature.shape[1]:
        good = np.isfinite(scaled).all(axis=(1, 2)) & (np.linalg.cond(np.nan_to_num(scaled)) < 1e12)
        covariance[good] = np.linalg.inv(scaled[good])
    return np.asarray(covariance / (scale[:, :, None] * scale[:, None, :]))


def _better(a: LineFit, b: LineFit) -> LineFit:
    """Row by row the better local solution: one off its limits before one at a limit, then the smaller objective."""
    take = np.where(a.free == b.free, b.objective < a.objective - 1e-9, b.free)
    return LineFit(
        np.where(take[:, None], b.theta, a.theta),
        np.where(take[:, None, None], b.covariance, a.covariance),
        np.where(take, b.chi2, a.chi2),
        np.where(take, b.objective, a.objective),
        np.where(take, b.free, a.free),
    )
