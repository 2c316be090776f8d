"""Which lines and which widths the spectra ask for: variants of the line model, compared over all spectra at once, on plain arrays."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.science.peaks._line_kernel import LineFit, LineModel, aicc, fit_line_model, normal_equations
from pipeline.science.peaks.line_shape import gaussian

__all__ = ["N_FREEST", "Candidate", "Lines", "best_candidate", "freest_lines"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int_]
_SIGNS = (+1, -1)
_FREEST = LineModel(_SIGNS, False, True)
N_FREEST = _FREEST.n_parameters
"""Parameters of `freest_lines` per spectrum."""
_MIN_HEIGHT = 3.0  # in sigma; merging lines reach a large delta chi2 with undetermined heights: not two lines


class Lines(NamedTuple):
    """What was fitted, both lines in fixed columns (A, B); NaN where a line was not detected. Leading axis: spectrum."""

    values: Floats  # (spectrum, 3, 2): position, fwhm, amplitude
    stderr: Floats
    position_covariance: Floats
    offset: Floats
    offset_stderr: Floats
    chi2: Floats
    n_parameters: Ints


class Candidate(NamedTuple):
    """One variant of the model fitted to all spectra; `widths` is common, common per line, shared or free."""

    evidence: float
    lines: Lines
    widths: str
    offset: bool


class _Spectra(NamedTuple):
    energy: Floats
    values: Floats
    weights: Floats

    def fit(self, model: LineModel, first: Floats | None = None) -> "_Fitted":
        return _Fitted(model, fit_line_model(*self, model, first), model.n_parameters)

    def rows(self, chosen: NDArray[np.bool_]) -> "_Spectra":
        return _Spectra(self.energy, self.values[chosen], self.weights[chosen])


class _Fitted(NamedTuple):
    model: LineModel
    fit: LineFit
    n_parameters: int  # per spectrum; widths common to all spectra are counted once, in the total


def best_candidate(
    energy: Floats, values: Floats, weights: Floats, n_bins: Ints, *, min_delta_chi2: float
) -> Candidate:
    """Fit every variant to every spectrum (spectrum, energy); return the one with the smallest summed AICc.

    Spectra without any weight take part in nothing and come back without lines.
    """
    spectra = _Spectra(energy, values, weights)
    candidates = []
    for offset in (False, True):
        empty = spectra.fit(LineModel((), True, offset))
        single = [spectra.fit(LineModel((sign,), True, offset)) for sign in _SIGNS]
        shared = spectra.fit(LineModel(_SIGNS, True, offset))
        free = spectra.fit(
            LineModel(_SIGNS, False, offset), np.insert(shared.fit.theta, 2, shared.fit.theta[:, 2], axis=1)
        )
        for pair, name in ((shared, "shared"), (free, "free")):
            variants = {name: ([empty, *single, pair], 0)}
            both = _shows_both(pair.fit, [empty.fit, *(f.fit for f in single)], min_delta_chi2)
            if both.sum() > 1:
                common = _with_common_widths(spectra, pair, both)
                variants["common" if name == "shared" else "common per line"] = ([empty, *common], pair.model.n_widths)
            for widths, (fits, n_common) in variants.items():
                lines = _select_lines(fits, min_delta_chi2)
                evidence = _summed_aicc(lines, n_bins) + 2.0 * n_common
                candidates.append(Candidate(evidence, lines, widths, offset))
    return min(candidates, key=lambda candidate: candidate.evidence)


def freest_lines(energy: Floats, values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Fit both lines with widths of their own and a constant to each spectrum; return the lines (spectrum, line, energy) and the constant."""
    spectra = _Spectra(energy, values, weights)
    shared = spectra.fit(LineModel(_SIGNS, True, True)).fit.theta
    theta = spectra.fit(_FREEST, np.insert(shared, 2, shared[:, 2], axis=1)).fit.theta
    position, log_fwhm, height = (theta[:, k : k + 2, None] for k in (0, 2, 4))
    return height * gaussian(energy, position, np.exp(log_fwhm)), theta[:, 6]


def _shows_both(pair: LineFit, simpler: list[LineFit], min_delta_chi2: float) -> NDArray[np.bool_]:
    """Spectra in which two lines beat anything simpler and all their parameters are determined."""
    gain = np.min([fit.chi2 for fit in simpler], axis=0) - pair.chi2
    determined = np.isfinite(pair.covariance).all(axis=(1, 2))
    return np.asarray(pair.free & (gain > min_delta_chi2) & determined)


def _summed_aicc(lines: Lines, n_bins: Ints) -> float:
    table = np.stack([aicc(lines.chi2, k, n_bins) for k in range(int(lines.n_parameters.max()) + 1)])
    return float(table[lines.n_parameters, np.arange(len(n_bins))][n_bins > 0].sum())


def _select_lines(fits: list[_Fitted], min_delta_chi2: float) -> Lines:
    """Per spectrum the set of lines that pays: smallest chi2 + min_delta_chi2 x lines; a line at a limit is no line."""
    cost = [
        np.where(f.fit.free | (f.model.n_lines == 0), f.fit.chi2 + min_delta_chi2 * f.model.n_lines, np.inf)
        for f in fits
    ]
    choice = np.argmin(np.stack(cost), axis=0)
    rows = np.arange(len(choice))
    tables = [_tabulate(f) for f in fits]
    return Lines(*(np.stack(column)[choice, rows] for column in zip(*tables, strict=True)))


def _tabulate(fitted: _Fitted) -> Lines:
    model, fit = fitted.model, fitted.fit
    n, lines, widths = len(fit.theta), model.n_lines, model.n_widths
    variance = np.einsum("spp->sp", fit.covariance)
    sigma = np.sqrt(np.where(variance >= 0, variance, np.nan))
    values, stderr = np.full((n, 3, 2), np.nan), np.full((n, 3, 2), np.nan)
    for k, sign in enumerate(model.signs):
        width, height = lines + min(k, widths - 1), lines + widths + k
        fwhm = np.exp(fit.theta[:, width])
        seen = (np.abs(fit.theta[:, height]) > _MIN_HEIGHT * sigma[:, height])[:, None]
        column = _SIGNS.index(sign)
        found = np.stack([fit.theta[:, k], fwhm, fit.theta[:, height]], axis=1)
        error = np.stack([sigma[:, k], fwhm * sigma[:, width], sigma[:, height]], axis=1)
        values[:, :, column] = np.where(seen, found, np.nan)
        stderr[:, :, column] = np.where(seen, error, np.nan)
    covariance = fit.covariance[:, 0, 1] if lines == len(_SIGNS) else np.full(n, np.nan)
    zeros = np.zeros(n)
    offset, offset_stderr = (fit.theta[:, -1], sigma[:, -1]) if model.offset else (zeros, zeros)
    return Lines(values, stderr, covariance, offset, offset_stderr, fit.chi2, np.full(n, fitted.n_parameters))


# --- widths common to all spectra ---------------------------------------------------------------------------------------------


def _with_common_widths(spectra: _Spectra, pair: _Fitted, both: NDArray[np.bool_]) -> list[_Fitted]:
    """Fits with A, B and both lines whose ln fwhm are the same in all spectra, learned where `both` lines are plain.

    The objective summed over spectra is minimised by Newton steps in the widths alone, every other parameter following (Schur complement).
    """
    model = pair.model
    columns = np.arange(model.n_lines, model.n_lines + model.n_widths)
    seen = spectra.rows(both)
    precision = 1.0 / np.einsum("spp->sp", pair.fit.covariance)[both][:, columns]
    precision = np.where(np.isfinite(precision), precision, 0.0)
    log_fwhm = np.sum(precision * pair.fit.theta[both][:, columns], axis=0) / np.maximum(precision.sum(axis=0), 1e-300)
    covariance = np.full((len(columns), len(columns)), np.nan)
    first = np.delete(pair.fit.theta[both], columns, axis=1)
    for step_number in range(8):
        fit = fit_line_model(*seen, _fixed(model, log_fwhm), first, search=step_number == 0)
        first = fit.theta
        _, descent, curvature = normal_equations(*seen, model, _insert(model, fit.theta, log_fwhm))
        # where a spectrum says nothing of a line, the curvature is singular
        covariance = np.linalg.pinv(_schur(curvature, columns).sum(axis=0), hermitian=True)
        step = np.clip(covariance @ descent[:, columns].sum(axis=0), -0.3, 0.3)
        log_fwhm = log_fwhm + step
        if np.all(np.abs(step) < 1e-3 * np.sqrt(np.diag(covariance))):
            break
    fits = []
    for signs in ((+1,), (-1,), _SIGNS):
        keep = [0] if model.shared_fwhm else [_SIGNS.index(sign) for sign in signs]
        part = LineModel(signs, model.shared_fwhm, model.offset)
        fits.append(_fit_with_widths(spectra, part, log_fwhm[keep], covariance[np.ix_(keep, keep)]))
    return fits


def _fixed(model: LineModel, log_fwhm: Floats) -> LineModel:
    widths = np.broadcast_to(np.exp(log_fwhm), (model.n_lines,))
    return LineModel(model.signs, model.shared_fwhm, model.offset, tuple(float(w) for w in widths))


def _insert(model: LineModel, theta: Floats, log_fwhm: Floats) -> Floats:
    block = np.broadcast_to(log_fwhm, (len(theta), model.n_widths))
    return np.concatenate([theta[:, : model.n_lines], block, theta[:, model.n_lines :]], axis=1)


def _schur(curvature: Floats, columns: Ints) -> Floats:
    """Curvature in the width columns after every other parameter has followed."""
    others = np.setdiff1d(np.arange(curvature.shape[1]), columns)
    cross = curvature[:, others][:, :, columns]
    return curvature[:, columns][:, :, columns] - cross.transpose(0, 2, 1) @ (
        np.linalg.pinv(curvature[:, others][:, :, others], hermitian=True) @ cross
    )


def _fit_with_widths(spectra: _Spectra, model: LineModel, log_fwhm: Floats, width_covariance: Floats) -> _Fitted:
    """Fit with the widths given; their error is carried into every other parameter."""
    fixed = _fixed(model, log_fwhm)
    fit = fit_line_model(*spectra, fixed)
    theta = _insert(model, fit.theta, log_fwhm)
    columns = np.arange(model.n_lines, model.n_lines + model.n_widths)
    others = np.setdiff1d(np.arange(model.n_parameters), columns)
    _, _, curvature = normal_equations(*spectra, model, theta)
    follow = -fit.covariance @ curvature[:, others][:, :, columns]
    covariance = np.empty((len(theta), model.n_parameters, model.n_parameters))
    covariance[:, others[:, None], others] = fit.covariance + follow @ width_covariance @ follow.transpose(0, 2, 1)
    covariance[:, others[:, None], columns] = follow @ width_covariance
    covariance[:, columns[:, None], others] = (follow @ width_covariance).transpose(0, 2, 1)
    covariance[:, columns[:, None], columns] = width_covariance
    return _Fitted(model, fit._replace(theta=theta, covariance=covariance), fixed.n_parameters)
