r"""ADC non-linearity from beams that must stay in proportion.

The detector reads r = D(linear ADU). The table h = D^{-1} is a low-order polynomial,

    h(r) = r + sum_k c_k L (r / L)^k,   k = 2, 3,   L = 128 ADU,

whose slope at 0 ADU is 1: that separates it from the gain. (It is fitted around the dark level d, with slope 1 there,
where its terms are least alike, and then scaled to slope 1 at 0.) Light of any intensity must be shared among bright
and dim pixels in fixed proportions, so for a group g of pixels sum_g h - <dark> = f_g sum_all h - <dark>, whatever the
intensity. The sums of every group are projected onto powers of the intensity before these conditions are solved.
Group, sum and intensity come from disjoint thirds of the pixels: their photon noise is independent, so noise in the
regressors (an instrumental-variables fit) does not bias the table.
"""

import numpy as np
import xarray as xr
from scipy import optimize
from scipy.stats import chi2

from pipeline.science.detector.flat_sample import N_ADU, Sample, flat_sample
from schemas.datasets.calibration import LINEARITY

__all__ = ["LENGTH", "calibrate_linearity", "linear_table", "polynomial_of_table"]

LENGTH = 128.0  # ADU
_CLASSES = 5  # brightness classes per beam
_BLOCKS = 20  # of the jackknife
_THIRDS = 3
_SIGNIFICANCE = 9.0  # chi2 per parameter that a non-linearity must bring to be believed
_CHANCE, _MISFIT = (
    1e-6,
    1e-3,
)  # probability of chi2, and deviation of a group of pixels, beyond which the model is wrong


def linear_table(coefficients: np.ndarray) -> np.ndarray:
    """(512,) f8 table h(ADU) for coefficients c_2, c_3, ..."""
    u = np.arange(N_ADU) / LENGTH
    return LENGTH * (u + sum((c * u**k for k, c in enumerate(coefficients, start=2)), np.zeros(N_ADU)))


def polynomial_of_table(table: np.ndarray, *, upto: int = 255, tolerance: float = 0.02) -> np.ndarray:
    """(4,) f8 coefficients p0..p3 of the cubic in ADU that a table is, to `tolerance` ADU up to ADU `upto`; NaN if none."""
    adu = np.arange(upto + 1, dtype=float)
    poly = np.polynomial.Polynomial.fit(adu, table[: upto + 1], 3).convert()
    coefficients = np.zeros(4)
    coefficients[: len(poly.coef)] = poly.coef
    if np.abs(poly(adu) - table[: upto + 1]).max() > tolerance:
        return np.full(4, np.nan)
    identity = np.array([0.0, 1.0, 0.0, 0.0])
    rounding = np.abs(coefficients - identity) * float(upto) ** np.arange(4) < 1e-9
    return np.where(rounding, identity, coefficients)


def calibrate_linearity(
    frames: xr.Dataset,
    dark: xr.Dataset,
    beams: xr.Dataset,
    *,
    bad: xr.DataArray | None = None,
    saturation: int = 255,
    max_order: int = 3,
) -> xr.Dataset:
    """Table that makes beam ratios independent of intensity, from a flat-field run.

    Parameters
    ----------
    frames : flat-field frames, dims (train, pulse, y, x)
    dark, beams : from `dark_calibration` and `find_beams`
    bad : (y, x) bad-pixel flags (default those of `dark`)
    saturation : ADU; frames with a saturated good pixel are left out
    max_order : highest power of the polynomial

    Returns
    -------
    `linear_adu` and `linear_adu_stderr` (adu) f8 ADU, `coefficient` and `coefficient_stderr` (power), `covariance` (power, power2); attrs `applied`
    (0 or 1), `described` (0: the response is not one that a polynomial describes), `reason`, `level` (ADU), `chi2`, `dof`,
    `misfit` (rms over groups of pixels by which their share of the light still changes with intensity, beyond noise),
    `n_frames`. Errors are from a jackknife over trains and from the finite
    dark run. Where no
    power is significant the table is the identity, with the error it could have had.
    """
    sample = flat_sample(frames, dark, beams, bad=bad)
    level = float(np.median(sample.dark_mean[np.unique(sample.cell)][:, sample.good]))
    orders = np.arange(2, max_order + 1)
    group = _classes(sample)
    sums, used = _class_sums(sample, group, level, orders, saturation)
    if used.sum() < 4 * _BLOCKS:
        return _linearity_dataset(np.zeros(0), np.zeros((0, 0)), level, f"only {used.sum()} unsaturated frames", {})
    problem = _Proportions(sums[used], sample.blocks(_BLOCKS)[used])
    fits = [problem.fit(n) for n in range(len(orders) + 1)]
    best = 0
    for n in range(1, len(fits)):
        scale = max(fits[n].chi2 / fits[n].dof, 1.0)
        if (fits[best].chi2 - fits[n].chi2) / scale > _SIGNIFICANCE * (n - best):
            best = n
    figures = {
        "chi2": fits[best].chi2,
        "dof": fits[best].dof,
        "misfit": fits[best].misfit,
        "described": int(fits[best].misfit < _MISFIT or chi2.sf(fits[best].chi2, fits[best].dof) > _CHANCE),
        "n_frames": int(used.sum()),
    }
    if best == 0:
        reason = "no significant change of beam ratios with intensity"
        return _linearity_dataset(np.zeros(0), np.zeros((0, 0)), level, reason, figures)
    offset = sample.offset_sigma(group, _THIRDS * problem.n_groups).reshape(_THIRDS, -1)
    c, covariance = problem.jackknife(best)
    covariance = covariance + problem.offset_covariance(best, offset)
    if c @ np.linalg.solve(covariance, c) < _SIGNIFICANCE * best:
        reason = "the change of beam ratios with intensity is not the same in all parts of the run"
        return _linearity_dataset(np.zeros(0), np.zeros((0, 0)), level, reason, figures)
    turn = _to_origin_jacobian(c, level / LENGTH)
    covariance = turn @ covariance @ turn.T
    return _linearity_dataset(_to_origin(c, level / LENGTH), covariance, level, "significant", figures)


class _Fit:
    """Coefficients, chi2 and misfit of one order."""

    def __init__(self, c: np.ndarray, chi2: float, dof: int, misfit: float) -> None:
        self.c, self.chi2, self.dof, self.misfit = c, chi2, dof, misfit


class _Proportions:
    """Group sums projected onto powers of the intensity, block by block; solves for the coefficients.

    sums : (n, third, group, 1 + powers): linear sum first, then the powers
    """

    def __init__(self, sums: np.ndarray, block: np.ndarray) -> None:
        total = sums[..., 0].sum(axis=2)  # (n, third)
        self.n_groups = sums.shape[2]
        self.gram, self.cross, scale = [], [], total.mean()
        for third in range(_THIRDS):
            z = (total[:, third] / scale)[:, None] ** np.arange(4)
            weight = 1 / np.clip(total[:, third] / scale, 0.1, None)
            data = np.concatenate(
                [sums[:, (third + 1) % _THIRDS], sums[:, (third + 2) % _THIRDS].sum(axis=1, keepdims=True)],
                axis=1,
            )
            wz = weight[:, None] * z
            self.gram.append(np.stack([wz[block == b].T @ z[block == b] for b in range(_BLOCKS)]))
            self.cross.append(
                np.stack([np.einsum("ni,ngk->igk", wz[block == b], data[block == b]) for b in range(_BLOCKS)])
            )
        self.sigma = np.stack([self._scatter(sums, total / scale, third) for third in range(_THIRDS)])

    def _scatter(self, sums: np.ndarray, intensity: np.ndarray, third: int) -> np.ndarray:
        """(group,) sigma of the weighted residual of a group sum against the total of the other third."""
        y = sums[:, (third + 1) % _THIRDS, :, 0]
        total = sums[:, (third + 2) % _THIRDS, :, 0].sum(axis=1)
        root = np.sqrt(1 / np.clip(intensity[:, third], 0.1, None))[:, None]
        residual = root * (y - total[:, None] * (y.sum(axis=0) / total.sum()))
        z = root * intensity[:, third, None] ** np.arange(4)
        residual -= z @ np.linalg.lstsq(z, residual, rcond=None)[0]
        return residual.std(axis=0) * np.sqrt(len(y) / (len(y) - 4))

    def fit(self, n: int, *, leave_out: int = -1, offset: np.ndarray | None = None) -> _Fit:
        """Solve with the first `n` powers, without one block of frames, or with offsets (third, group) added."""
        keep = np.arange(_BLOCKS) != leave_out
        data = np.stack([self._projected(third, keep, offset) for third in range(_THIRDS)])

        def deviation(c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            linear = data[..., 0] + data[..., 1 : n + 1] @ c
            group, total = linear[..., :-1], linear[..., -1:]
            share = (group * total).sum(axis=1, keepdims=True) / (total * total).sum(axis=1, keepdims=True)
            return group - share * total, group

        def residual(c: np.ndarray) -> np.ndarray:
            residuals: np.ndarray = (deviation(c)[0] / self.sigma[:, None]).ravel()
            return residuals

        c = np.zeros(n)
        if n:
            c = optimize.least_squares(residual, c, x_scale=0.05, method="lm").x
        left, group = deviation(c)
        # one of the four instruments is used up by the share
        excess = float(np.sum(left**2) - 3 * np.sum(self.sigma**2))
        misfit = np.sqrt(max(excess, 0.0) / float(np.sum(group**2)))
        best = residual(c)
        return _Fit(c, float(best @ best), _THIRDS * 3 * self.n_groups - n, misfit)

    def _projected(self, third: int, keep: np.ndarray, offset: np.ndarray | None) -> np.ndarray:
        """(instrument, group + 1, 1 + powers): sums in the orthonormal basis of the intensity powers, total last."""
        gram, cross = self.gram[third][keep].sum(axis=0), self.cross[third][keep].sum(axis=0)
        if offset is not None:
            own, other = offset[(third + 1) % _THIRDS], offset[(third + 2) % _THIRDS]
            cross = cross.copy()
            cross[..., 0] += gram[:, :1] * np.append(own, other.sum())  # the first instrument is the constant 1
        return np.linalg.solve(np.linalg.cholesky(gram), cross.reshape(len(gram), -1)).reshape(cross.shape)

    def jackknife(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients and their covariance from leaving out one block after the other."""
        c = self.fit(n).c
        parts = np.stack([self.fit(n, leave_out=b).c for b in range(_BLOCKS)])
        deviation = parts - parts.mean(axis=0)
        return c, (_BLOCKS - 1) / _BLOCKS * (deviation.T @ deviation) + 1e-18 * np.eye(n)

    def offset_covariance(self, n: int, sigma: np.ndarray) -> np.ndarray:
        """Covariance of the coefficients from dark levels that are off by `sigma` (third, group), ADU, independently."""
        best, covariance = self.fit(n).c, np.zeros((n, n))
        for index in np.ndindex(sigma.shape):
            offset = np.zeros(sigma.shape)
            offset[index] = sigma[index]
            deviation = self.fit(n, offset=offset).c - best
            covariance += np.outer(deviation, deviation)
        return covariance


def _classes(sample: Sample) -> np.ndarray:
    """(y, x) number of the pixel's third, beam and brightness class; -1 outside."""
    image, beam_of = sample.mean_image(), sample.beam_of
    n_beams = len(sample.corners)
    brightness = np.zeros(image.shape, np.int64)
    for beam in range(n_beams):
        inside = beam_of == beam
        edges = np.quantile(image[inside], np.linspace(0, 1, _CLASSES + 1)[1:-1])
        brightness[inside] = np.searchsorted(edges, image[inside])
    y, x = np.indices(image.shape)
    third = (x + 2 * y) % _THIRDS  # neighbours along both axes differ
    return np.where(beam_of >= 0, (third * n_beams + beam_of) * _CLASSES + brightness, -1)


def _class_sums(
    sample: Sample, group: np.ndarray, level: float, orders: np.ndarray, saturation: int
) -> tuple[np.ndarray, np.ndarray]:
    """(n, third, group, 1 + powers) dark-subtracted sums over pixels of like brightness, and the usable frames."""
    n_groups = len(sample.corners) * _CLASSES
    adu = np.arange(N_ADU, dtype=float)
    tables = [adu, *(LENGTH * ((adu - level) / LENGTH) ** k for k in orders)]
    sums = sample.group_sums(group, _THIRDS * n_groups, np.stack(tables, axis=1))
    sums = sums.reshape(len(sums), _THIRDS, n_groups, -1)
    total = sums[..., 0].sum(axis=(1, 2))
    return sums, ~sample.saturated(saturation) & (total > 0.05 * np.median(total))


def _to_origin(c: np.ndarray, u: float) -> np.ndarray:
    """Coefficients around 0 ADU with slope 1 there, from those around u * LENGTH with slope 1 there."""
    around = np.polynomial.Polynomial([0.0, 1.0, *c])(np.polynomial.Polynomial([-u, 1.0]))
    moved: np.ndarray = around.coef[2:] / around.coef[1]
    return moved


def _to_origin_jacobian(c: np.ndarray, u: float) -> np.ndarray:
    """Derivatives of `_to_origin`, by central differences."""
    step = 1e-5
    columns = [(_to_origin(c + step * e, u) - _to_origin(c - step * e, u)) / (2 * step) for e in np.eye(len(c))]
    return np.stack(columns, axis=1)


def _linearity_dataset(
    c: np.ndarray, covariance: np.ndarray, level: float, reason: str, figures: dict[str, float]
) -> xr.Dataset:
    adu = np.arange(N_ADU)
    basis = np.stack([LENGTH * (adu / LENGTH) ** k for k in range(2, 2 + len(c))]) if len(c) else None
    error = np.zeros(N_ADU) if basis is None else np.sqrt(np.einsum("ka,kl,la->a", basis, covariance, basis))
    linearity = xr.Dataset(
        {
            "linear_adu": ("adu", linear_table(c)),
            "linear_adu_stderr": ("adu", error),
            "coefficient": ("power", c),
            "coefficient_stderr": ("power", np.sqrt(np.diag(covariance))),
            "covariance": (("power", "power2"), covariance),
        },
        coords={"adu": adu, "power": np.arange(2, 2 + len(c))},
    )
    return LINEARITY.describe(linearity).assign_attrs(applied=int(len(c) > 0), reason=reason, level=level, **figures)
