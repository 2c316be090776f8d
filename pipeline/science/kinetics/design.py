r"""What a delay scan can tell about the times before it is taken, and which delays tell most.

The model is that of the fit (`kinetics.model`): time zero, response and log taus :math:`\theta` are shared, every trace
has amplitudes :math:`A_e` of its own. With :math:`g_{ej}` the derivative of trace e at delay j with respect to
:math:`(\theta, A_e)` and :math:`\sigma_{ej}` its standard error, the Fisher information is

.. math::

    B_e = \sum_j g_{ej} g_{ej}^T / \sigma_{ej}^2, \qquad
    S = \mathrm{diag}(1/\sigma_\mathrm{prior}^2) + \sum_e (B_e^{\theta\theta} - B_e^{\theta A} (B_e^{AA})^{-1} B_e^{A\theta}),

and :math:`S^{-1}` is the Cramér-Rao bound: no unbiased fit does better, and the fit here reaches it where the taus are
identifiable. A design is a share of the shots for every candidate delay. The one that minimises the sum of the
relative variances of the taus, :math:`\mathrm{tr}(C S^{-1} C^T)` (A-optimal), is found with the multiplicative
algorithm: each share is multiplied by the root of how much its delay lowers the sum per shot, which never makes it worse.

References
----------
Silvey, Titterington, Torsney, Commun. Stat. A 7, 1379 (1978); Yu, Ann. Stat. 38, 1593 (2010); Pukelsheim, Rieder,
Biometrika 79, 763 (1992), for the rounding.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.science.kinetics.intervals import correlation, inverse
from pipeline.science.kinetics.model import kinetic_trace, trace_gradients
from pipeline.science.kinetics.parameters import parameter_names
from schemas.datasets.kinetic_fits import DELAY_SHARES, EXPECTED_ERRORS

__all__ = [
    "Response",
    "candidate_delays",
    "efficiency",
    "expected_errors",
    "optimal_delays",
    "rounded_shots",
    "shots_for",
    "tau_information",
]

Floats = NDArray[np.float64]
_N_SHARED = 2
"""Time zero and response come before the taus."""
_N_CANDIDATES = 136
_ITERATIONS = 5000
_GAIN = 1e-3
"""The search ends when no delay would lower the sum of variances by more than this fraction per share."""
_NEGLIGIBLE = 2e-3
_MERGING = 1.01
"""Loss that fewer delays may cost."""
_ROUNDING = 1e-12
_MOST = 1e9
"""More shots than this times the present ones are no plan."""


@dataclass(frozen=True)
class Response:
    """What the sample and the set-up are expected to do.

    `amplitudes` has dims (trace, term), in the signal's unit to the power 1/`power`. `t_d_stderr` and `irf_stderr` [ps]
    say how well time zero and response are known from elsewhere: 0 fixed, infinity fitted without a prior.
    """

    taus: tuple[float, ...]
    amplitudes: Floats = field(repr=False)
    power: int = 2
    t_d: float = 0.0
    irf_sigma: float = 0.05
    t_d_stderr: float = np.inf
    irf_stderr: float = np.inf

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the shared parameters."""
        return parameter_names(len(self.taus))

    def traces(self, delay: Floats) -> Floats:
        """Noise-free signal, dims (trace, delay); traces of negative sign are shown positive."""
        return kinetic_trace(delay, **self._form())

    def gradients(self, delay: Floats) -> Floats:
        """Derivatives of the traces, dims (trace, delay, shared parameter and own amplitude)."""
        return trace_gradients(delay, **self._form())

    def _form(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("taus", "amplitudes", "power", "t_d", "irf_sigma")}


def candidate_delays(response: Response, last: float) -> Floats:
    """Delays [ps] to choose from: fine around time zero and growing with the delay, up to `last`.

    Raises
    ------
    DataError
        If `last` does not lie after time zero.
    """
    if not last > response.t_d:
        raise DataError(f"candidate delays end at {last:g} ps, before time zero at {response.t_d:g} ps")
    unit = 3.0 * max(response.taus[0], response.irf_sigma)
    before = 0.5 * unit + 4.0 * response.irf_sigma
    first, end = np.arcsinh(np.array([-before, last - response.t_d]) / unit).tolist()
    return np.unique(np.round(response.t_d + unit * np.sinh(np.linspace(first, end, _N_CANDIDATES)), 3))


def tau_information(response: Response, delay: Floats, precision: Floats) -> Floats:
    """Fisher information about (t_d, irf_sigma, log taus), amplitudes left free, without priors.

    Parameters
    ----------
    response
        Model and parameters.
    delay
        Delays [ps], dims (delay).
    precision
        1 / standard error squared of every point, dims (trace, delay); 0 where there is none.
    """
    gradients = response.gradients(delay)
    blocks = np.einsum("ejp,ej,ejq->epq", gradients, precision, gradients, optimize=True)
    return _shared(blocks, len(response.names))[0]


def expected_errors(response: Response, delay: Floats, precision: Floats, *, held: Floats | None = None) -> xr.Dataset:
    """Return the standard errors that a fit of such data can reach at best.

    Parameters
    ----------
    response, delay, precision
        As in `tau_information`.
    held
        Information about the shared parameters from other data, dims (parameter, parameter).

    Returns
    -------
    Dataset over parameter: value and stderr [ps], relative (stderr of log tau; NaN for t_d and irf_sigma), and
    correlation (parameter, parameter2). Infinite where the data do not touch a parameter, zero where it is given.
    """
    total = tau_information(response, delay, precision) + _prior(response)
    covariance = _inverse(total if held is None else total + held, _free(response))
    sd = np.sqrt(np.diag(covariance))
    value = np.array([response.t_d, response.irf_sigma, *response.taus])
    is_tau = np.arange(len(sd)) >= _N_SHARED
    errors = xr.Dataset(
        {
            "value": ("parameter", value),
            "stderr": ("parameter", sd * np.where(is_tau, value, 1.0)),
            "relative": ("parameter", np.where(is_tau, sd, np.nan)),
            "correlation": (("parameter", "parameter2"), correlation(covariance)),
        },
        coords={"parameter": list(response.names), "parameter2": list(response.names)},
    )
    return EXPECTED_ERRORS.describe(errors)


def shots_for(
    response: Response, delay: Floats, precision: Floats, target: float, *, held: Floats | None = None
) -> Floats:
    """By which factor the shots must grow for each tau to reach a relative error, dims (tau); infinity if by more than 1e9.

    Without a prior on time zero and response and without other data this is (error now / target)²; with them the
    error falls differently, so the factor is searched for.
    """
    own = tau_information(response, delay, precision)
    rest = _prior(response) + (0.0 if held is None else held)

    def relative(factor: float) -> Floats:
        covariance = _inverse(factor * own + rest, _free(response))
        return np.asarray(np.sqrt(np.diag(covariance))[_N_SHARED:])

    factors = []
    for k in range(len(response.taus)):
        low, high = np.log(1e-9), np.log(_MOST)
        if not relative(_MOST)[k] <= target:
            factors.append(np.inf)
            continue
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (low, middle) if relative(float(np.exp(middle)))[k] <= target else (middle, high)
        factors.append(float(np.exp(high)))
    return np.array(factors)


def efficiency(
    response: Response, delay: Floats, precision: Floats, best: xr.Dataset, *, held: Floats | None = None
) -> float:
    """Sum of relative variances of the best design over that of a measured or planned one with the same shots."""
    now = float(np.square(expected_errors(response, delay, precision, held=held)["relative"]).sum())
    return float(best.attrs["criterion"]) / now if np.isfinite(now) else 0.0


def optimal_delays(
    response: Response, candidates: Floats, precision_of_all: Floats, *, held: Floats | None = None
) -> xr.Dataset:
    """Return the A-optimal delays among the candidates and the share of the shots that each should get.

    Parameters
    ----------
    response
        Model and parameters; the best delays depend on them.
    candidates
        Delays [ps] that can be set, dims (delay).
    precision_of_all
        1 / standard error squared that each trace would have if all its shots went to one delay, dims (trace); every
        trace is measured at the same delays.
    held
        Information about the shared parameters from data that stay as they are.

    Returns
    -------
    Dataset over delay [ps]: share (sums to one). Neighbouring candidates are merged into one delay. attrs: criterion
    (sum of the relative variances of the taus), bound (a lower bound of it for any shares of the candidates).

    Raises
    ------
    DataError
        If the candidates do not determine the taus at all.
    """
    delay = np.unique(np.asarray(candidates, dtype=np.float64))
    share, criterion, bound = _multiplicative(response, delay, precision_of_all, held)
    fewer, joined = _merged(delay, share)
    if len(fewer) >= len(response.names) - _N_SHARED:
        joined, sum_of_fewer, _ = _multiplicative(response, fewer, precision_of_all, held, start=joined)
        # between coarse candidates there may be no delay that stands for both
        if sum_of_fewer <= _MERGING * criterion:
            delay, share, criterion = fewer, joined, sum_of_fewer
    kept = share > _NEGLIGIBLE
    shares = xr.Dataset({"share": ("delay", share[kept] / share[kept].sum())}, coords={"delay": delay[kept]})
    return DELAY_SHARES.describe(shares).assign_attrs(criterion=criterion, bound=bound)


def rounded_shots(share: Floats, shots: int) -> NDArray[np.int64]:
    """Whole shots per delay that sum up to `shots`, as near to the shares as whole numbers come (efficient rounding).

    Raises
    ------
    DataError
        If there are fewer shots than delays.
    """
    n = len(share)
    if shots < n:
        raise DataError(f"{shots} shots cannot be spread over {n} delays")
    counts = np.ceil((shots - 0.5 * n) * share / share.sum()).astype(np.int64)
    counts = np.maximum(counts, 1)
    while counts.sum() != shots:
        if counts.sum() < shots:
            counts[np.argmin(counts / share)] += 1
        else:
            counts[np.argmax(np.where(counts > 1, (counts - 1) / share, -np.inf))] -= 1
    return counts


# --- information ------------------------------------------------------------------------------------------------------


def _shared(blocks: Floats, n: int) -> tuple[Floats, Floats]:
    """Information about the n shared parameters, and per trace how its amplitudes answer to them (trace, term, parameter)."""
    total = np.zeros((n, n))
    answers = np.empty((len(blocks), blocks.shape[1] - n, n))
    for e, block in enumerate(blocks):
        answers[e] = -_inverse(block[n:, n:], np.ones(blocks.shape[1] - n, dtype=bool), unknown=0.0) @ block[n:, :n]
        total += block[:n, :n] + block[:n, n:] @ answers[e]
    return 0.5 * (total + total.T), answers


def _prior(response: Response) -> Floats:
    widths = np.array([response.t_d_stderr, response.irf_stderr])
    known = np.where(widths > 0, 1.0 / np.square(np.where(widths > 0, widths, 1.0)), 0.0)
    return np.diag(np.concatenate([known, np.zeros(len(response.taus))]))


def _free(response: Response) -> NDArray[np.bool_]:
    return np.array([response.t_d_stderr > 0, response.irf_stderr > 0, *(True for _ in response.taus)])


def _inverse(matrix: Floats, free: NDArray[np.bool_], unknown: float = np.inf) -> Floats:
    """Covariance from information; `unknown` where there is none."""
    largest = max(float(np.diag(matrix).max(initial=0.0)), 1e-300)
    return inverse(matrix, free, least=1e-12 * largest, smallest=_ROUNDING, unknown=unknown)


# --- design -----------------------------------------------------------------------------------------------------------


def _multiplicative(
    response: Response, delay: Floats, precision: Floats, held: Floats | None, start: Floats | None = None
) -> tuple[Floats, float, float]:
    """Shares, the sum of relative variances, and a lower bound of that sum over all shares."""
    gradients = response.gradients(delay)
    outer = np.einsum("ejp,e,ejq->ejpq", gradients, precision, gradients)
    n, free = len(response.names), _free(response)
    rest = _prior(response) + (0.0 if held is None else held)
    share = np.full(len(delay), 1.0 / len(delay)) if start is None else start / start.sum()
    taus = np.arange(n) >= _N_SHARED
    criterion, bound = np.inf, 0.0
    for _ in range(_ITERATIONS):
        information, answers = _shared(np.tensordot(outer, share, axes=([1], [0])), n)
        columns = _inverse(information + rest, free)[:, taus]
        criterion = float(np.trace(columns[taus]))
        if not np.isfinite(columns).all():
            if start is not None:
                return share, np.inf, bound
            raise DataError("the candidate delays do not determine the times; give delays after time zero")
        both = np.concatenate([np.broadcast_to(columns, (len(answers), *columns.shape)), answers @ columns], axis=1)
        gain = np.maximum(np.einsum("ept,ejpq,eqt->j", both, outer, both, optimize=True), 0.0)
        mean = float(share @ gain)
        # the sum is convex in the shares: its tangent bounds it from below everywhere
        bound = max(bound, criterion + mean - float(gain.max()))
        if gain.max() <= (1.0 + _GAIN) * mean:
            break
        share = share * np.sqrt(gain)
        share /= share.sum()
    return share, criterion, bound


def _merged(delay: Floats, share: Floats) -> tuple[Floats, Floats]:
    """Runs of neighbouring candidates with a share become one delay, their weighted mean."""
    used = np.flatnonzero(share > _NEGLIGIBLE * share.max())
    groups = np.split(used, np.flatnonzero(np.diff(used) > 1) + 1)
    return (
        np.array([float(np.round(share[g] @ delay[g] / share[g].sum(), 3)) for g in groups]),
        np.array([float(share[g].sum()) for g in groups]),
    )
