r"""ADC non-linearity from beams that must stay in proportion, and the gain from photon statistics.

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

from pipeline.errors import DataError
from pipeline.science._reduce_kernel import pair_moments
from pipeline.science._sample import N_ADU, Sample, expected_dark, flat_sample

__all__ = ["LENGTH", "calibrate_linearity", "fit_gain", "linear_table", "polynomial_of_table"]

LENGTH = 128.0  # ADU
_CLASSES = 5  # brightness classes per beam
_BLOCKS = 20  # of the jackknife
_THIRDS = 3
_SIGNIFICANCE = 9.0  # chi2 per parameter that a non-linearity must bring to be believed


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
    (0 or 1), `reason`, `level` (ADU), `chi2`, `dof`, `n_frames`. Errors are from a jackknife over trains and from the finite
    dark run. Where no
    power is significant the table is the identity, with the error it could have had.
    """
    sample = flat_sample(frames, dark, beams, bad=bad)
    level = float(np.median(sample.dark_mean[np.unique(sample.cell)][:, sample.good]))
    orders = np.arange(2, max_order + 1)
    group = _classes(sample)
    sums, used = _class_sums(sample, group, level, orders, saturation)
    if used.sum() < 4 * _BLOCKS:
        return _linearity_dataset(
            np.zeros(0), np.zeros((0, 0)), level, f"only {used.sum()} unsaturated frames", {}
        )
    problem = _Proportions(sums[used], sample.blocks(_BLOCKS)[used])
    fits = [problem.fit(n) for n in range(len(orders) + 1)]
    best = 0
    for n in range(1, len(fits)):
        scale = max(fits[n].chi2 / fits[n].dof, 1.0)
        if (fits[best].chi2 - fits[n].chi2) / scale > _SIGNIFICANCE * (n - best):
            best = n
    figures = {"chi2": fits[best].chi2, "dof": fits[best].dof, "n_frames": int(used.sum())}
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


def fit_gain(
    frames: xr.Dataset,
    dark: xr.Dataset,
    beams: xr.Dataset,
    *,
    bad: xr.DataArray | None = None,
    table: np.ndarray | None = None,
    saturation: int = 255,
) -> xr.Dataset:
    r"""Gain (ADU per photon) from the photon-transfer curve of a flat-field run.

    The intensity of every pulse differs, so the variance of a pixel over pulses says nothing. What does is the
    residual e_p = v_p - s_p T against the pixel's share s_p of the beam total T. Of two neighbours p, q, with
    d = e_p - e_q, and d' the same one row below,

        <d^2> - <d d'> = sigma_p^2 + sigma_q^2 + g (s_p + s_q) T + offset.

    A moving beam changes smooth regions alike: most of it cancels in d, the rest in the product d d', which photon noise
    does not enter. The read noise sigma^2 (with the ADC's 1/12) comes from the dark run; `offset` allows for rounding
    that a very quiet dark run did not show. Saturation would bias the variance: pulses whose expected signal comes near
    it are left out by their expectation, never by their value.

    Parameters
    ----------
    frames, dark, beams, bad, saturation : as for `calibrate_linearity`
    table : (512,) linear ADU over raw ADU (default: linear)

    Returns
    -------
    scalars `gain`, `gain_stderr` (ADU per photon, jackknife over trains), `motion` (<d d'> over the photon variance),
    attrs `redchi`, `n_pairs`, `n_frames`.

    Raises
    ------
    DataError
        Too few frames or pixels, or a variance that does not grow with the signal.
    """
    sample = flat_sample(frames, dark, beams, bad=bad)
    table = np.arange(N_ADU, dtype=float) if table is None else table
    linear_dark = np.zeros(sample.dark_mean.shape, np.float32)
    for cell in np.unique(sample.cell):
        linear_dark[cell] = expected_dark(table, sample.dark_mean[cell], sample.read_noise)
    beam_of, n_beams = sample.beam_of, len(sample.corners)
    totals = sample.group_sums(beam_of, n_beams, table[:, None])[:, :, 0]
    lit = (totals > 0.05 * np.median(totals, axis=0)).all(axis=1)
    sample, totals = sample.taking(lit), totals[lit]
    if len(sample.use) < 2 * _BLOCKS:
        raise DataError(
            f"only {len(sample.use)} flat-field frames with light: give detector: gain: in the config"
        )
    profile = _profile(sample, table, linear_dark, totals, beam_of)
    pair, below, group, beam_of_group = _pixel_pairs(sample, profile, beam_of, table, saturation)
    totals = totals[:, beam_of_group]
    n_groups = len(beam_of_group)
    moments = pair_moments(
        sample.raw, sample.use, sample.cell, linear_dark, pair, below, group, n_groups, profile, totals, table
    )
    y, x = pair.T
    # the dark run shows the read noise after the converter, the table undoes that
    slope = np.interp(np.nanmean(linear_dark[np.unique(sample.cell)], axis=0), table, np.gradient(table))
    noise = (slope * sample.read_noise) ** 2 * (1 + sample.dark_doubt())
    count, crossed = (
        np.bincount(group, minlength=n_groups),
        np.bincount(group[below >= 0], minlength=n_groups),
    )
    read = np.bincount(group, noise[y, x] + noise[y, x + 1], minlength=n_groups) / count
    signal = np.bincount(group, profile[y, x] + profile[y, x + 1], minlength=n_groups) / count * totals
    square, cross = moments[..., 0] / count, moments[..., 1] / np.maximum(crossed, 1)
    # the mean profile was made from the same frames and takes up this part of the variance
    taken = 1 - (totals**2).sum(axis=0) / totals.sum(axis=0) ** 2
    use = totals < _ceiling(sample, profile, pair, group, n_groups, table, saturation)
    scatter = np.sqrt(2 / count + 1 / np.maximum(crossed, 1))
    fit = _photon_transfer(signal, (square - cross) / taken - read, read, scatter, use, sample)
    fit["motion"] = ((), float(cross[use].mean() / (square / taken - read)[use].mean()))
    fit["motion"].attrs = {
        "units": "1",
        "long_name": "variance from beam motion over photon variance, taken out",
    }
    return fit.assign_attrs(n_pairs=len(pair), n_frames=int(use.any(axis=1).sum()))


# -- non-linearity


class _Fit:
    """Coefficients and chi2 of one order."""

    def __init__(self, c: np.ndarray, chi2: float, dof: int) -> None:
        self.c, self.chi2, self.dof = c, chi2, dof


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

        def residual(c: np.ndarray) -> np.ndarray:
            linear = data[..., 0] + data[..., 1 : n + 1] @ c
            group, total = linear[..., :-1], linear[..., -1:]
            share = (group * total).sum(axis=1, keepdims=True) / (total * total).sum(axis=1, keepdims=True)
            away: np.ndarray = ((group - share * total) / self.sigma[:, None]).ravel()
            return away

        start = residual(np.zeros(n))
        dof = _THIRDS * 3 * self.n_groups - n
        if n == 0:
            return _Fit(np.zeros(0), float(start @ start), dof)
        solved = optimize.least_squares(residual, np.zeros(n), x_scale=0.05, method="lm")
        return _Fit(solved.x, float(2 * solved.cost), dof)

    def _projected(self, third: int, keep: np.ndarray, offset: np.ndarray | None) -> np.ndarray:
        """(instrument, group + 1, 1 + powers): sums in the orthonormal basis of the intensity powers, total last."""
        gram, cross = self.gram[third][keep].sum(axis=0), self.cross[third][keep].sum(axis=0)
        if offset is not None:
            own, other = offset[(third + 1) % _THIRDS], offset[(third + 2) % _THIRDS]
            cross = cross.copy()
            cross[..., 0] += gram[:, :1] * np.append(
                own, other.sum()
            )  # the first instrument is the constant 1
        return np.linalg.solve(np.linalg.cholesky(gram), cross.reshape(len(gram), -1)).reshape(cross.shape)

    def jackknife(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """Coefficients and their covariance from leaving out one block after the other."""
        c = self.fit(n).c
        parts = np.stack([self.fit(n, leave_out=b).c for b in range(_BLOCKS)])
        away = parts - parts.mean(axis=0)
        return c, (_BLOCKS - 1) / _BLOCKS * (away.T @ away) + 1e-18 * np.eye(n)

    def offset_covariance(self, n: int, sigma: np.ndarray) -> np.ndarray:
        """Covariance of the coefficients from dark levels that are off by `sigma` (third, group), ADU, independently."""
        best, covariance = self.fit(n).c, np.zeros((n, n))
        for index in np.ndindex(sigma.shape):
            offset = np.zeros(sigma.shape)
            offset[index] = sigma[index]
            away = self.fit(n, offset=offset).c - best
            covariance += np.outer(away, away)
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
    columns = [
        (_to_origin(c + step * e, u) - _to_origin(c - step * e, u)) / (2 * step) for e in np.eye(len(c))
    ]
    return np.stack(columns, axis=1)


def _linearity_dataset(
    c: np.ndarray, covariance: np.ndarray, level: float, reason: str, figures: dict[str, float]
) -> xr.Dataset:
    adu = np.arange(N_ADU)
    basis = np.stack([LENGTH * (adu / LENGTH) ** k for k in range(2, 2 + len(c))]) if len(c) else None
    error = np.zeros(N_ADU) if basis is None else np.sqrt(np.einsum("ka,kl,la->a", basis, covariance, basis))
    units = {"units": "ADU"}
    return xr.Dataset(
        {
            "linear_adu": ("adu", linear_table(c), units | {"long_name": "linearised signal"}),
            "linear_adu_stderr": ("adu", error, units | {"long_name": "sigma of the linearised signal"}),
            "coefficient": ("power", c, {"units": "1", "long_name": f"c_k, at {LENGTH:g} ADU"}),
            "covariance": (("power", "power2"), covariance, {"units": "1", "long_name": "covariance of c_k"}),
            "coefficient_stderr": (
                "power",
                np.sqrt(np.diag(covariance)),
                {"units": "1", "long_name": "sigma of c_k"},
            ),
        },
        coords={
            "adu": ("adu", adu, units | {"long_name": "raw signal"}),
            "power": ("power", np.arange(2, 2 + len(c)), {"units": "1", "long_name": "power k"}),
        },
        attrs={"applied": int(len(c) > 0), "reason": reason, "level": level, **figures},
    )


# -- gain


def _profile(
    sample: Sample, table: np.ndarray, linear_dark: np.ndarray, totals: np.ndarray, beam_of: np.ndarray
) -> np.ndarray:
    """(y, x) f8 share of each pixel in the total of its beam, over the whole sample."""
    total = np.zeros(beam_of.shape)
    for start in range(0, len(sample.use), 32):
        part = slice(start, start + 32)
        total += table[np.minimum(sample.raw[sample.use[part]], N_ADU - 1)].sum(axis=0)
    counts = np.bincount(sample.cell, minlength=len(linear_dark)).astype(float)
    seen = counts > 0
    total -= np.tensordot(counts[seen], linear_dark[seen].astype(float), axes=1)
    return np.where(beam_of >= 0, total / totals.sum(axis=0)[beam_of], 0.0)


def _pixel_pairs(
    sample: Sample, profile: np.ndarray, beam_of: np.ndarray, table: np.ndarray, saturation: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Disjoint pairs of like neighbours in a row.

    Returns
    -------
    (p, 2) row and left column, (p,) index of the pair below (-1: none), (p,) group, (group,) beam of a group. Groups are
    three brightness classes per beam. Steep flanks are left out, where a moving beam does not cancel, and so are pixels
    whose offset leaves them much less room than the others have.
    """
    left, right = profile[:, :-1], profile[:, 1:]
    room = _room(sample, table, saturation)
    roomy = sample.good & (room > 0.8 * np.median(room[sample.good]))
    same = (beam_of[:, :-1] >= 0) & (beam_of[:, :-1] == beam_of[:, 1:]) & roomy[:, :-1] & roomy[:, 1:]
    like = np.abs(left - right) < 0.15 * (left + right)
    pairs, groups, beams = [], [], []
    for beam in range(len(sample.corners)):
        inside = same & (beam_of[:, :-1] == beam)
        if not inside.any():
            continue
        inside &= like & (left + right > 0.4 * np.percentile((left + right)[inside], 90))
        inside[:, 1::2] = False
        y, x = np.nonzero(inside)
        if len(y) < 30:
            continue
        bright = left[y, x] + right[y, x]
        level = np.argsort(np.argsort(bright)) * 3 // len(bright)
        pairs.append(np.stack([y, x], axis=1))
        groups.append(level + 3 * len(beams))
        beams.append(beam)
    if not pairs:
        raise DataError(
            "the beams have too few evenly lit pixels for a photon-transfer curve; give detector: gain:"
        )
    pair, group = np.concatenate(pairs), np.concatenate(groups)
    number = np.full((profile.shape[0] + 1, profile.shape[1]), -1)
    number[pair[:, 0], pair[:, 1]] = np.arange(len(pair))
    below = number[pair[:, 0] + 1, pair[:, 1]]
    return pair, np.where((below >= 0) & (group[below] == group), below, -1), group, np.repeat(beams, 3)


def _room(sample: Sample, table: np.ndarray, saturation: int) -> np.ndarray:
    """(y, x) f8 ADU between the highest dark level of a pixel and saturation."""
    room: np.ndarray = table[min(saturation, N_ADU - 1)] - sample.dark_mean[np.unique(sample.cell)].max(
        axis=0
    )
    return room


def _ceiling(
    sample: Sample,
    profile: np.ndarray,
    pair: np.ndarray,
    group: np.ndarray,
    n_groups: int,
    table: np.ndarray,
    saturation: int,
) -> np.ndarray:
    """(group,) beam total (ADU) up to which no pixel of the group saturates, judged by its mean signal."""
    room = _room(sample, table, saturation)
    ceiling = np.full(n_groups, np.inf)
    for column in (pair[:, 1], pair[:, 1] + 1):
        # three quarters of 200 ADU leave 50: four sigma even at 1 photon per ADU
        np.minimum.at(
            ceiling, group, 0.75 * room[pair[:, 0], column] / np.maximum(profile[pair[:, 0], column], 1e-12)
        )
    return ceiling


def _photon_transfer(
    signal: np.ndarray,
    excess: np.ndarray,
    read: np.ndarray,
    scatter: np.ndarray,
    use: np.ndarray,
    sample: Sample,
) -> xr.Dataset:
    """Fit excess variance = g m + offset by weighted least squares, errors by jackknife.

    signal, excess, use : (n, group);  read, scatter : (group,), ADU^2 and relative sigma of a variance
    """
    if use.sum() < 2 * _BLOCKS:
        raise DataError(
            "nearly all flat-field frames are close to saturation; give detector: gain: in the config"
        )
    gain = float(excess[use].sum() / signal[use].sum())
    if not gain > 0:
        raise DataError(
            "the noise of the flat-field run does not grow with its signal; give detector: gain: in the config"
        )
    blocks = np.broadcast_to(sample.blocks(_BLOCKS)[:, None], use.shape)[use]
    m, v = signal[use], excess[use]
    # the weights come from the model: weights that follow the noise would pull the gain down
    sigma = ((read + gain * np.abs(signal)) * scatter)[use]
    design = np.stack([m, np.ones_like(m)], axis=1) / sigma[:, None]
    normal = np.stack([design[blocks == b].T @ design[blocks == b] for b in range(_BLOCKS)])
    right = np.stack([design[blocks == b].T @ (v / sigma)[blocks == b] for b in range(_BLOCKS)])
    prior = np.diag([0.0, 1 / _rounding_doubt(read) ** 2])

    def solve(keep: np.ndarray) -> np.ndarray:
        solution: np.ndarray = np.linalg.solve(normal[keep].sum(axis=0) + prior, right[keep].sum(axis=0))
        return solution

    best = solve(np.ones(_BLOCKS, bool))
    parts = np.stack([solve(np.arange(_BLOCKS) != b) for b in range(_BLOCKS)])
    stderr = np.sqrt((_BLOCKS - 1) * parts.var(axis=0))
    residual = v / sigma - design @ best
    per_photon = {"units": "ADU/photon"}
    return xr.Dataset(
        {
            "gain": ((), float(best[0]), per_photon | {"long_name": "gain"}),
            "gain_stderr": ((), float(stderr[0]), per_photon | {"long_name": "sigma of the gain"}),
        },
        attrs={"redchi": float(residual @ residual / (len(v) - 2))},
    )


def _rounding_doubt(read: np.ndarray) -> float:
    """ADU^2 by which the dark run's variance of a pair may miss the rounding noise of lit pixels.

    Rounding adds 1/12 to each pixel once the noise exceeds half an ADU; in quieter pixels it depends on the offset.
    """
    quiet = float(np.median(read)) / 2 < 0.3
    return 1 / 6 if quiet else 0.03
