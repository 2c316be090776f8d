r"""The three-exponential kinetics of a difference signal, convolved in closed form with a Gaussian response.

.. math::

    y(t) = s\,\bigl[\Theta(x)\,(1 - e^{-x/\tau_1})\,(A_1 + A_2 e^{-x/\tau_2} + A_3 e^{-x/\tau_3})\bigr]^{p}
           \otimes G(\sigma), \qquad x = t - t_d

with p = 2 as printed (after Mitrano et al., Sci. Adv. 5, eaax3346, 2019) or p = 1. Expanded, it is a sum of
exponentials, and each of them has the closed form

.. math::

    E(x; k, \sigma) = \tfrac12 e^{-x^2/2\sigma^2}\,\mathrm{erfcx}\!\left(\frac{k\sigma - x/\sigma}{\sqrt2}\right),

which does not overflow where the product exp x erfc does (large k sigma, large k x).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy.special import comb, erfc, erfcx

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ExponentialTable",
    "amplitude_products",
    "convolved_exponential",
    "decay_names",
    "exponential_table",
    "kinetic_basis",
    "kinetic_basis_derivatives",
    "kinetic_trace",
    "product_derivatives",
    "trace_gradients",
]

_SQRT2 = np.sqrt(2.0)


class ExponentialTable(NamedTuple):
    """The expanded model: column `column[m]` gains `weight[m]` E(x; k) with k = `counts[m]` . (1/tau1, 1/tau2, ...)."""

    column: NDArray[np.int64]
    weight: NDArray[np.float64]
    counts: NDArray[np.float64]
    n_columns: int


@lru_cache
def exponential_table(power: int = 2, n_exponentials: int = 3, *, plain: bool = False) -> ExponentialTable:
    """Expand the model into single exponentials.

    Parameters
    ----------
    power
        2: columns are the products A_i A_j (i <= j, row by row); 1: columns are the A_i.
    n_exponentials
        Number of taus, 1 to 3; also the number of amplitudes.
    plain
        Instead of the product form a constant and a sum of exponentials, n_exponentials + 1 columns (power 1 only).

    Raises
    ------
    ValueError
        For a power other than 1 or 2 or a number of exponentials other than 1, 2 or 3.
    """
    if power not in (1, 2) or n_exponentials not in (1, 2, 3) or (plain and power != 1):
        raise ValueError(f"no kinetic model with power {power} and {n_exponentials} exponentials")
    unit = np.eye(n_exponentials)
    decays = [np.zeros(n_exponentials), *unit[1:]]
    rows: list[tuple[int, float, NDArray[np.float64]]] = []
    if plain:
        rows = [(i, 1.0, c) for i, c in enumerate([np.zeros(n_exponentials), *unit])]
        n_columns = n_exponentials + 1
    else:
        pairs = _pairs(n_exponentials) if power == 2 else [(i,) for i in range(n_exponentials)]
        for column, pair in enumerate(pairs):
            decay = np.sum([decays[i] for i in pair], axis=0)
            multiplicity = 2.0 if len(set(pair)) == 2 else 1.0
            for m in range(power + 1):
                rows.append((column, multiplicity * (-1.0) ** m * comb(power, m), decay + m * unit[0]))
        n_columns = len(pairs)
    return ExponentialTable(
        np.array([r[0] for r in rows]), np.array([r[1] for r in rows]), np.array([r[2] for r in rows]), n_columns
    )


def amplitude_products(amplitudes: ArrayLike, power: int = 2) -> NDArray[np.float64]:
    """Coefficients of the basis columns: A_i A_j with i <= j for power 2, the A_i themselves for power 1.

    Parameters
    ----------
    amplitudes
        Dims (..., term).
    power
        1 or 2.
    """
    a = np.asarray(amplitudes, dtype=np.float64)
    if power == 1:
        return a
    return np.stack([a[..., i] * a[..., j] for i, j in _pairs(a.shape[-1])], axis=-1)


def decay_names(power: int = 2, n_exponentials: int = 3) -> tuple[list[str], NDArray[np.float64]]:
    """Names of the decays after the rise, in the order of `amplitude_products`, and their rates in 1/tau2, 1/tau3.

    For power 2 and three exponentials: 0, 1/tau2, 1/tau3, 2/tau2, 1/tau2+1/tau3, 2/tau3.
    """
    unit = np.eye(n_exponentials)[:, 1:]
    pairs = _pairs(n_exponentials) if power == 2 else [(i,) for i in range(n_exponentials)]
    counts = np.array([np.sum([unit[i] for i in pair], axis=0) for pair in pairs])
    names = ["+".join(f"{int(n)}/tau{k + 2}" for k, n in enumerate(row) if n) or "0" for row in counts.tolist()]
    return names, counts


def convolved_exponential(delay: ArrayLike, rate: ArrayLike, irf_sigma: float) -> NDArray[np.float64]:
    """Theta(x) exp(-k x) convolved with a unit-area Gaussian; relative error below 1e-12.

    Parameters
    ----------
    delay
        Delay after time zero [ps].
    rate
        k [1/ps], zero or positive; broadcasts against the delays.
    irf_sigma
        Standard deviation of the Gaussian [ps]; 0 gives the exact step.
    """
    x, k = np.asarray(delay, dtype=np.float64), np.asarray(rate, dtype=np.float64)
    if irf_sigma == 0.0:
        return np.where(x >= 0.0, np.exp(-k * np.maximum(x, 0.0)), 0.0)
    u = x / irf_sigma
    z = (k * irf_sigma - u) / _SQRT2
    # the two forms are equal; each is used where its factors stay between 0 and about 1
    late = z < 0.0
    exponent = np.where(late, k * (0.5 * k * irf_sigma**2 - x), -0.5 * u * u)
    # erfcx of a very negative number overflows, so it never sees one
    return 0.5 * np.exp(exponent) * np.where(late, erfc(z), erfcx(np.maximum(z, 0.0)))


def kinetic_trace(
    delay: ArrayLike,
    *,
    t_d: float,
    irf_sigma: float,
    taus: Sequence[float],
    amplitudes: ArrayLike,
    power: int = 2,
    sign: ArrayLike = 1,
) -> NDArray[np.float64]:
    """Kinetic traces of given taus and amplitudes.

    Parameters
    ----------
    delay
        Delays [ps], any shape.
    t_d, irf_sigma
        Time zero and standard deviation of the instrument response [ps]; sigma 0 is the form without response.
    taus
        tau1 (rise), tau2, tau3 [ps]; one to three of them.
    amplitudes
        Dims (..., term): A1, A2, A3 per trace, in the square root of the signal's unit for power 2.
    power
        2 as printed, 1 without the square.
    sign
        s = +1 or -1 per trace, dims (...).

    Returns
    -------
    ndarray
        Dims (..., *delay), in the unit of the amplitudes to that power.

    Raises
    ------
    ValueError
        If a tau is not positive, sigma is negative, or the numbers of taus and amplitudes differ.
    """
    t = np.asarray(delay, dtype=np.float64)
    a = np.asarray(amplitudes, dtype=np.float64)
    if a.shape[-1:] != (len(taus),):
        raise ValueError(f"{len(taus)} taus need as many amplitudes, got shape {a.shape}")
    basis = kinetic_basis(t.ravel(), t_d=t_d, irf_sigma=irf_sigma, taus=taus, power=power)
    y = amplitude_products(a, power) @ basis
    return (np.asarray(sign)[..., None] * y).reshape(a.shape[:-1] + t.shape)


def kinetic_basis(
    delay: ArrayLike, *, t_d: float, irf_sigma: float, taus: Sequence[float], power: int = 2
) -> NDArray[np.float64]:
    """The model's basis columns, dims (column, delay); a trace is `sign * amplitude_products(A) @ basis`."""
    rates, x = _checked(taus, irf_sigma), np.asarray(delay, dtype=np.float64) - t_d
    table = exponential_table(power, len(rates))
    basis = np.zeros((table.n_columns, x.size))
    for column, weight, counts in zip(table.column, table.weight, table.counts, strict=True):
        basis[column] += weight * convolved_exponential(x, counts @ rates, irf_sigma)
    return basis


def kinetic_basis_derivatives(
    delay: ArrayLike, *, t_d: float, irf_sigma: float, taus: Sequence[float], power: int = 2
) -> NDArray[np.float64]:
    """Analytic derivatives of `kinetic_basis`, dims (parameter, column, delay).

    Parameter order: t_d [1/ps], irf_sigma [1/ps], log tau1, log tau2, log tau3. With g the Gaussian,
    dE/dk = (k sigma^2 - x) E - sigma^2 g, dE/dx = g - k E, dE/dsigma = sigma (k^2 E - k g - x g / sigma^2).
    """
    rates, x = _checked(taus, irf_sigma), np.asarray(delay, dtype=np.float64) - t_d
    table = exponential_table(power, len(rates))
    s = irf_sigma
    # the terms with g cancel between the exponentials of one column, except in d/dsigma and d/dk at sigma > 0
    gauss = np.exp(-0.5 * (x / s) ** 2) / (s * np.sqrt(2 * np.pi)) if s > 0 else np.zeros_like(x)
    out = np.zeros((2 + len(rates), table.n_columns, x.size))
    for column, weight, counts in zip(table.column, table.weight, table.counts, strict=True):
        k = float(counts @ rates)
        e = convolved_exponential(x, k, s)
        d_rate = (k * s * s - x) * e - s * s * gauss
        out[0, column] -= weight * (gauss - k * e)
        if s > 0:
            out[1, column] += weight * (s * k * (k * e - gauss) - x * gauss / s)
        out[2:, column] -= weight * (counts * rates)[:, None] * d_rate
    return out


def product_derivatives(amplitudes: ArrayLike, power: int = 2) -> NDArray[np.float64]:
    """Derivatives of `amplitude_products` with respect to the amplitudes, dims (..., term, column)."""
    a = np.asarray(amplitudes, dtype=np.float64)
    # exact, products being at most quadratic
    change = [amplitude_products(a + u, power) - amplitude_products(a - u, power) for u in np.eye(a.shape[-1])]
    return 0.5 * np.stack(change, axis=-2)


def trace_gradients(
    delay: ArrayLike, *, t_d: float, irf_sigma: float, taus: Sequence[float], amplitudes: ArrayLike, power: int = 2
) -> NDArray[np.float64]:
    """Derivatives of `kinetic_trace` of sign +1, dims (trace, delay, parameter and own amplitude).

    Arguments as there, amplitudes (trace, term); parameters as in `kinetic_basis_derivatives`.
    """
    a = np.atleast_2d(np.asarray(amplitudes, dtype=np.float64))
    slopes = kinetic_basis_derivatives(delay, t_d=t_d, irf_sigma=irf_sigma, taus=taus, power=power)
    basis = kinetic_basis(delay, t_d=t_d, irf_sigma=irf_sigma, taus=taus, power=power)
    shared = np.einsum("ec,pcj->ejp", amplitude_products(a, power), slopes)
    return np.concatenate([shared, np.einsum("ekc,cj->ejk", product_derivatives(a, power), basis)], axis=-1)


def _pairs(n: int) -> list[tuple[int, int]]:
    return [(i, j) for i in range(n) for j in range(i, n)]


def _checked(taus: Sequence[float], irf_sigma: float) -> NDArray[np.float64]:
    values = np.asarray(taus, dtype=np.float64)
    if not (values > 0).all() or not irf_sigma >= 0:
        raise ValueError(f"taus must be positive and irf_sigma not negative, got {values.tolist()} and {irf_sigma}")
    return 1.0 / values
