r"""Smooth weights per beam that make beam ratios insensitive to where the X-rays point.

When the beam moves, a beam's total changes with the slope of its illumination and transmission, and the ratio of two
beams gains noise that photons do not explain. With the moments M_bk = sum_p u_k(p) h_p of beam b over polynomials u_k
of the position (u, v in [-1, 1] across the beam), the weights w_b = 1 + sum_k a_bk u_k make the normalised ratio

    rho_t = ln S_b - ln S_c,   S_b = M_b0 + sum_k a_bk M_bk

least noisy. Gauss-Newton steps on all pairs of beams at once, weighted by photon noise, with a ridge prior that keeps
the weights near 1.
"""

import numpy as np

from pipeline.errors import ConfigError
from pipeline.science.detector._pixel_kernel import weighted_sums
from pipeline.science.detector.flat_sample import Sample, expected_dark

__all__ = ["FlatField", "beam_moments", "fit_flat_field", "flat_field_weight", "ratio_noise"]

_PRIOR = 0.1  # sigma of the weights' coefficients: weights stay within some 10 % of 1 unless the data insist
_MAX_ORDER = 3


class FlatField:
    """Coefficients (beam, k) of the polynomials after the constant one, and the noise with and without them.

    Attributes
    ----------
    coefficients : (beam, k) f8, 1;  order : polynomial order
    noise_before, noise_after, noise_stderr : ratio noise over photon noise in the held-out half, and the sigma of both
    applied, reason : whether the held-out half speaks for it
    """

    def __init__(
        self, coefficients: np.ndarray, order: int, before: float, after: float, stderr: float, reason: str
    ) -> None:
        self.coefficients, self.order = coefficients, order
        self.noise_before, self.noise_after, self.noise_stderr = before, after, stderr
        self.reason = reason

    @property
    def applied(self) -> bool:
        """Whether the weights differ from 1."""
        return bool(np.any(self.coefficients))


def fit_flat_field(
    moments: np.ndarray,
    variance: np.ndarray,
    train: np.ndarray,
    *,
    order: int | None = 1,
    min_gain: float = 2.0,
) -> FlatField:
    """Fit the weights on the even trains, judge them on the odd ones, and keep them only where they help there.

    Parameters
    ----------
    moments : (n, beam, 1 + k) f8, photons, from `beam_moments`; saturated frames taken out
    variance : (n, beam) f8, photons^2, photon and read noise of the totals
    train : (n,) number of the train of a frame (a train is not split between the halves)
    order : polynomial order, None for no flat field
    min_gain : sigmas by which the held-out chi2 must fall

    Raises
    ------
    ConfigError
        The order is not 1, 2 or 3.
    """
    n_beams, n_terms = moments.shape[1], moments.shape[2] - 1
    none = np.zeros((n_beams, n_terms))
    held_out = _held_out(train)
    before, stderr = ratio_noise(moments[held_out], variance[held_out], none)
    if order is None or n_terms == 0:
        return FlatField(none, 0, before, before, stderr, "switched off")
    if not 1 <= order <= _MAX_ORDER:
        raise ConfigError(f"detector.flat_field.order: {order} is not 1, 2 or 3")
    if held_out.sum() < 20 * n_beams * n_terms:
        return FlatField(
            none, 0, before, before, stderr, f"only {len(train)} frames for {n_beams * n_terms} coefficients"
        )
    trial = _solve(moments[~held_out], variance[~held_out])
    after, _ = ratio_noise(moments[held_out], variance[held_out], trial)
    gains = (
        _pulls(moments[held_out], variance[held_out], none) ** 2
        - _pulls(moments[held_out], variance[held_out], trial) ** 2
    )
    mean = gains.mean(axis=1)
    if mean.mean() < min_gain * mean.std() / np.sqrt(len(mean)):
        reason = f"no less noise in the held-out half ({after:.3f} against {before:.3f} of photon noise)"
        return FlatField(none, 0, before, before, stderr, reason)
    reason = f"noise of the held-out half fell from {before:.3f} to {after:.3f} of photon noise"
    return FlatField(_solve(moments, variance), order, before, after, stderr, reason)


def beam_moments(sample: Sample, table: np.ndarray, gain: float, *, order: int | None) -> np.ndarray:
    """(m, beam, 1 + k) f8, photons: moments of every frame over the polynomials, dark part taken off."""
    maps = polynomial_maps(sample.corners, sample.good, order or 0)
    sums = weighted_sums(sample.raw, sample.use, maps, sample.corners, table)
    dark = np.full((len(sample.dark_mean), *sums.shape[1:]), np.nan)
    for cell in np.unique(sample.cell):
        level = expected_dark(table, sample.dark_mean[cell], sample.read_noise)
        level = np.where(sample.good, level, 0.0)
        for b, (y0, y1, x0, x1) in enumerate(sample.corners):
            dark[cell, b] = np.einsum("kyx,yx->k", maps[:, y0:y1, x0:x1], level[y0:y1, x0:x1])
    return (sums - dark[sample.cell]) / gain


def flat_field_weight(corners: np.ndarray, good: np.ndarray, flat_field: FlatField) -> np.ndarray:
    """(y, x) f8 weights: 0 outside the beams and on bad pixels."""
    order = flat_field.order if flat_field.applied else 0
    maps = polynomial_maps(corners, good, order)
    weight = maps[0].copy()
    for b, (y0, y1, x0, x1) in enumerate(corners):
        box = np.s_[y0:y1, x0:x1]
        for k in range(1, len(maps)):
            weight[box] += flat_field.coefficients[b, k - 1] * maps[k][box]
    return weight


def polynomial_maps(corners: np.ndarray, good: np.ndarray, order: int) -> np.ndarray:
    """(1 + k, y, x) f8: u^i v^j with i + j <= order over each beam, u and v in [-1, 1], 0 elsewhere and on bad pixels."""
    powers = [(i, n - i) for n in range(order + 1) for i in range(n + 1)]
    maps = np.zeros((len(powers), *good.shape))
    for y0, y1, x0, x1 in corners:
        u = np.linspace(-1, 1, x1 - x0)[None, :]
        v = np.linspace(-1, 1, y1 - y0)[:, None]
        for k, (i, j) in enumerate(powers):
            maps[k, y0:y1, x0:x1] = np.where(good[y0:y1, x0:x1], u**i * v**j, 0.0)
    return maps


def ratio_noise(moments: np.ndarray, variance: np.ndarray, coefficients: np.ndarray) -> tuple[float, float]:
    """Scatter of the log ratios of all pairs of beams over what photon and read noise explain, and its sigma.

    The scatter is the standard deviation of the pulls; 1 is the limit.
    """
    pulls = _pulls(moments, variance, coefficients)
    n_beams = moments.shape[1]
    # of the pairs among n beams only n - 1 are independent
    noise = float(np.sqrt((pulls**2).mean() * len(pulls) / max(len(pulls) - 1, 1)))
    return noise, noise / np.sqrt(2 * len(pulls) * max(n_beams - 1, 1))


def _pulls(moments: np.ndarray, variance: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """(n, pair) log ratios over their sigma, their weighted mean taken off."""
    first, second = _pairs(moments.shape[1])
    total = _totals(moments, coefficients)
    relative = variance / np.maximum(moments[..., 0], 1.0) ** 2
    weight = 1 / (relative[:, first] + relative[:, second])
    ratio = np.log(total[:, first] / total[:, second])
    return (ratio - (weight * ratio).sum(axis=0) / weight.sum(axis=0)) * np.sqrt(weight)


def _solve(moments: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """(beam, k) coefficients that minimise the squared pulls of all pairs plus the prior."""
    n, n_beams, n_terms = moments.shape[0], moments.shape[1], moments.shape[2] - 1
    first, second = _pairs(n_beams)
    relative = variance / np.maximum(moments[..., 0], 1.0) ** 2
    root = 1 / np.sqrt(relative[:, first] + relative[:, second])
    a = np.zeros((n_beams, n_terms))
    prior = np.eye(n_beams * n_terms) / _PRIOR**2
    for _ in range(4):
        slope = moments[..., 1:] / _totals(moments, a)[..., None]  # d ln S / d a
        design = np.zeros((n, len(first), n_beams, n_terms))
        for p, (b, c) in enumerate(zip(first, second, strict=True)):
            design[:, p, b] = slope[:, b]
            design[:, p, c] = -slope[:, c]
        design = design.reshape(n, len(first), -1)
        weight = root**2
        design = (design - (weight[..., None] * design).sum(axis=0) / weight.sum(axis=0)[:, None]) * root[..., None]
        flat = design.reshape(-1, n_beams * n_terms)
        residual = _pulls(moments, variance, a).ravel()
        step = np.linalg.solve(flat.T @ flat + prior, -flat.T @ residual - prior @ a.ravel())
        a = a + step.reshape(a.shape)
    return a


def _totals(moments: np.ndarray, coefficients: np.ndarray) -> np.ndarray:
    """(n, beam) weighted totals, at least one photon."""
    k = coefficients.shape[1]
    return np.maximum(moments[..., 0] + np.einsum("nbk,bk->nb", moments[..., 1 : 1 + k], coefficients), 1.0)


def _pairs(n_beams: int) -> tuple[np.ndarray, np.ndarray]:
    first, second = np.triu_indices(n_beams, 1)
    return first, second


def _held_out(train: np.ndarray) -> np.ndarray:
    """(n,) bool: every other train; every other frame where there are too few trains."""
    trains, order = np.unique(train, return_inverse=True)
    return (order if len(trains) >= 4 else np.arange(len(train))) % 2 == 1
