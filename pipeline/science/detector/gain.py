"""Gain (ADU per photon) from photon statistics."""

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.detector._pixel_kernel import pair_moments
from pipeline.science.detector.flat_sample import N_ADU, Sample, expected_dark, flat_sample
from schemas.datasets.calibration import GAIN

__all__ = ["fit_gain"]

_BLOCKS = 20  # of the jackknife


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
        raise DataError(f"only {len(sample.use)} flat-field frames with light; set detector.gain in the config")
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
    fit["motion"] = float(cross[use].mean() / (square / taken - read)[use].mean())
    return GAIN.describe(fit).assign_attrs(n_pairs=len(pair), n_frames=int(use.any(axis=1).sum()))


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
    pairs: list[np.ndarray] = []
    groups: list[np.ndarray] = []
    beams: list[int] = []
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
            "the beams have too few evenly lit pixels for a photon-transfer curve; set detector.gain in the config"
        )
    pair, group = np.concatenate(pairs), np.concatenate(groups)
    number = np.full((profile.shape[0] + 1, profile.shape[1]), -1)
    number[pair[:, 0], pair[:, 1]] = np.arange(len(pair))
    below = number[pair[:, 0] + 1, pair[:, 1]]
    return pair, np.where((below >= 0) & (group[below] == group), below, -1), group, np.repeat(beams, 3)


def _room(sample: Sample, table: np.ndarray, saturation: int) -> np.ndarray:
    """(y, x) f8 ADU between the highest dark level of a pixel and saturation."""
    room: np.ndarray = table[min(saturation, N_ADU - 1)] - sample.dark_mean[np.unique(sample.cell)].max(axis=0)
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
        np.minimum.at(ceiling, group, 0.75 * room[pair[:, 0], column] / np.maximum(profile[pair[:, 0], column], 1e-12))
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
        raise DataError("nearly all flat-field frames are close to saturation; set detector.gain in the config")
    gain = float(excess[use].sum() / signal[use].sum())
    if not gain > 0:
        raise DataError(
            "the noise of the flat-field run does not grow with its signal; set detector.gain in the config"
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
    return xr.Dataset(
        {"gain": float(best[0]), "gain_stderr": float(stderr[0])},
        attrs={"redchi": float(residual @ residual / (len(v) - 2))},
    )


def _rounding_doubt(read: np.ndarray) -> float:
    """ADU^2 by which the dark run's variance of a pair may miss the rounding noise of lit pixels.

    Rounding adds 1/12 to each pixel once the noise exceeds half an ADU; in quieter pixels it depends on the offset.
    """
    quiet = float(np.median(read)) / 2 < 0.3
    return 1 / 6 if quiet else 0.03
