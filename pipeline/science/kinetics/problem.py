"""Set-up of a kinetics fit: data in units of their peak, what is free or given, bounds and priors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError
from pipeline.science.kinetics._basis import KineticData
from pipeline.science.kinetics.model import exponential_table
from pipeline.science.kinetics.parameters import Known, Setting, known_parameters

if TYPE_CHECKING:
    import lmfit

__all__ = ["FitOptions", "Problem", "build_problem", "linear"]

FloatArray = NDArray[np.float64]

_ARRAYS = [name for name in KineticData._fields if name != "power"]
_WIDEST_IRF = 0.3
"""Upper bound of a fitted sigma [ps], unless the delays are coarser: pump and X-ray pulses of 30 to 100 fs."""
_SMALL_OFFSET = 0.2
"""Error of a trace's constant, in units of its largest signal, that leaves its sign alone."""


class FitOptions(TypedDict, total=False):
    """Options that a fit of the kinetics takes as keywords."""

    power: int
    """2 as printed (squared form), the default; 1 without the square."""
    n_exponentials: int
    """3; or 2 (rise and one decay) or 1 (rise only)."""
    irf_sigma: Setting
    """Standard deviation of the Gaussian response [ps]: "fit", a number (fixed), or (value, standard error) as a prior."""
    t_d: Setting
    """Time zero [ps], likewise."""
    parameters: lmfit.Parameters | None
    """The shared parameters as lmfit writes them, from `kinetic_parameters`, in place of irf_sigma and t_d."""
    amplitude_prior: float | None
    """Standard deviation of the amplitudes' prior in units of the largest signal, 3 by default; None: no prior."""


class Problem(NamedTuple):
    """Scaled data, what is free, and how to get back to physical units."""

    data: KineticData
    names: tuple[str, ...]
    free: NDArray[np.bool_]
    start: FloatArray
    """Parameter values to begin with; the taus are placeholders."""
    peak: float
    spacing: float
    n_terms: int
    n_points: int
    n_amplitudes: int
    known: tuple[Known, ...] = ()
    """What was said of each parameter beforehand."""

    @property
    def tied(self) -> NDArray[np.bool_]:
        """Parameters (parameter,) that are formulas of others."""
        return np.array([one.expr is not None for one in self.known] or [False] * len(self.names))

    @property
    def is_symmetric(self) -> bool:
        """Whether tau2 and tau3 are alike: nothing tells one from the other."""
        return self.may_exchange(self.data.bounds[0]) and bool((self.data.bounds[:, 3] == self.data.bounds[:, 4]).all())

    def may_exchange(self, theta: FloatArray) -> bool:
        """Return whether tau2 and tau3 of theta may exchange their names: both are free and the bounds of both allow it."""
        if len(self.names) != 5:
            return False
        named = {w for one in self.known if one.expr for w in re.findall(r"\w+", one.expr)}
        alike = (self.data.prior[:, 3] == self.data.prior[:, 4]).all() and not named & set(self.names[3:])
        low, high = self.data.bounds[:, 3:]
        swapped = theta[[4, 3]]
        return bool(alike and self.free[3:].all() and ((low <= swapped) & (swapped <= high)).all())

    @property
    def dof(self) -> int:
        """Points minus all fitted numbers, at least 1."""
        return max(self.n_points - int(self.free.sum()) - self.n_amplitudes - self.n_baselines, 1)

    @property
    def n_baselines(self) -> int:
        """Constants under the traces that the data know better than their priors do."""
        known = np.square(self.data.weight).sum(axis=1)
        return int((known > self.data.offset).sum())


def build_problem(
    delay: FloatArray,
    signal: FloatArray,
    stderr: FloatArray,
    *,
    power: int = 2,
    n_exponentials: int = 3,
    irf_sigma: Setting = "fit",
    t_d: Setting = "fit",
    amplitude_prior: float | None = 3.0,
    plain: bool = False,
    parameters: lmfit.Parameters | None = None,
    baseline_stderr: FloatArray | None = None,
) -> Problem:
    """Set up a fit of traces; see `FitOptions`.

    Parameters
    ----------
    delay
        Ascending delays [ps], dims (delay).
    signal, stderr
        ΔXAS and its standard error [OD], dims (trace, delay); NaN where missing.
    plain
        A constant and a sum of exponentials in place of the product form.
    baseline_stderr
        How well the constant under each trace [OD] is known to be zero, dims (trace); 0 or None: it is.

    Raises
    ------
    ConfigError
        For an unknown setting of a parameter, the power or the number of exponentials.
    DataError
        If a standard error is zero or negative, or there are too few points.
    """
    try:
        table = exponential_table(power, n_exponentials, plain=plain)
    except ValueError as error:
        raise ConfigError(f"kinetics: {error}; power is 1 or 2, n_exponentials 1 to 3") from None
    usable = np.isfinite(signal) & np.isfinite(stderr)
    if (stderr[usable] <= 0).any():
        raise DataError(f"{(stderr[usable] <= 0).sum()} points have delta_xas_stderr <= 0; leave them out as NaN")
    n_terms = table.n_columns if power == 1 else n_exponentials
    n_amplitudes = int(np.minimum(usable.sum(axis=1), n_terms).sum())
    known = known_parameters(n_exponentials, {"t_d": t_d, "irf_sigma": irf_sigma}, parameters)
    free = np.array([one.is_free for one in known.values()])
    needed = int(free.sum()) + n_amplitudes + 1
    if usable.sum() < needed:
        raise DataError(
            f"{usable.sum()} points in {len(signal)} traces are too few for {n_exponentials} exponentials: "
            f"at least {needed} are needed"
        )
    weight = np.where(usable, 1.0 / np.where(usable, stderr, 1.0), 0.0)
    peak = float(np.max(np.where(usable, np.abs(signal) - np.where(usable, stderr, 0.0), 0.0)))
    peak = peak if peak > 0 else float(np.max(np.abs(signal[usable])) or 1.0)
    spacing, span = _spacing(delay), float(delay[-1] - delay[0])
    defaults = np.full(2 + n_exponentials, np.log(spacing))
    defaults[:2] = float(delay[0]), min(spacing, 0.5 * _WIDEST_IRF)
    start, prior = _start_and_prior(known, defaults)
    reach = {"t_d": (-np.inf, np.inf), "irf_sigma": (0.0, max(_WIDEST_IRF, 3 * spacing))}
    if not (free[1] and known["irf_sigma"].stderr is None):
        reach["irf_sigma"] = (0.0, np.inf)
    bounds = _bounds(known, reach, (0.2 * spacing, 4.0 * span))
    start = np.where(free, np.clip(start, *bounds), start)
    ridge = 0.0 if amplitude_prior is None else amplitude_prior ** (-2.0 * power)
    offset = np.zeros(len(signal)) if baseline_stderr is None else baseline_stderr
    pull = signal / peak * (weight * peak)
    # under a trace that an offset may turn over its sign is open
    own = np.max(np.where(usable, np.abs(signal), 0.0), axis=1)
    signs = np.where(offset > _SMALL_OFFSET * own, 0, _signs(pull, usable)) if power == 2 else np.ones(len(signal))
    data = KineticData(
        delay=np.ascontiguousarray(delay, dtype=np.float64),
        signal=np.where(usable, signal / peak, 0.0),
        weight=weight * peak,
        column=table.column,
        row_weight=table.weight,
        counts=table.counts,
        power=power,
        ridge=np.full(table.n_columns, ridge),
        prior=prior,
        bounds=bounds,
        max_step=np.array([2.0 * spacing, 2.0 * spacing] + [1.0] * n_exponentials),
        allowed_sign=signs.astype(np.int64),
        offset=np.where(offset > 0, (peak / np.where(offset > 0, offset, 1.0)) ** 2, np.inf),
    )
    # one memory layout, or the kernels would be compiled once more for another
    contiguous: dict[str, Any] = {name: np.ascontiguousarray(getattr(data, name)) for name in _ARRAYS}
    data = data._replace(**contiguous)
    numbers = {"n_terms": n_terms, "n_points": int(usable.sum()), "n_amplitudes": n_amplitudes}
    return Problem(data, tuple(known), free, start, peak, spacing, **numbers, known=tuple(known.values()))


def linear(theta: FloatArray) -> FloatArray:
    """Return parameters [ps] from theta (..., parameter), which holds the logarithms of the taus."""
    return np.concatenate([theta[..., :2], np.exp(theta[..., 2:])], axis=-1)


def _start_and_prior(known: dict[str, Known], defaults: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Values to begin with, and the priors (centre and 1 / sd, 0: none; parameter), both over theta."""
    start, prior = defaults.copy(), np.zeros((2, len(known)))
    for p, (name, one) in enumerate(known.items()):
        is_tau = name.startswith("tau")
        if one.value is not None and (one.stderr is not None or not one.vary):
            start[p] = np.log(one.value) if is_tau else one.value
        if one.stderr is not None and one.value is not None:
            prior[1, p] = (one.value if is_tau else 1.0) / one.stderr
        if not is_tau or prior[1, p] > 0:
            prior[0, p] = start[p]
    return start, prior


def _bounds(known: dict[str, Known], reach: dict[str, tuple[float, float]], taus: tuple[float, float]) -> FloatArray:
    """Bounds of theta (2, parameter): those given, else the range of the search, which makes room for what is given."""
    bounds = np.empty((2, len(known)))
    log_reach = np.log(taus)
    for p, (name, one) in enumerate(known.items()):
        is_tau = name.startswith("tau")
        low, high = log_reach if is_tau else reach[name]
        smallest, largest = (np.log(max(x, 1e-300)) if is_tau else x for x in (one.low, one.high))
        room = np.log(10.0) if is_tau else 1.0
        if np.isfinite(one.low) and (not is_tau or one.low > 0):
            low, high = smallest, high if high > smallest else smallest + room
        if np.isfinite(one.high):
            low, high = low if low < largest else largest - room, largest
        if name == "irf_sigma":
            low = max(low, 0.0)
        if is_tau and one.value is not None and (not one.vary or one.stderr is not None):
            low, high = min(low, np.log(one.value)), max(high, np.log(one.value))
        bounds[:, p] = low, high
    return bounds


def _spacing(delay: FloatArray) -> float:
    """Typical step [ps] of the densely sampled part."""
    steps = np.diff(np.unique(delay))
    span = float(delay[-1] - delay[0])
    return max(float(np.quantile(steps, 0.25)), 1e-4 * span)


def _signs(pull: FloatArray, usable: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Sign of each trace, 0 where positive and negative points both stand out of the noise."""
    expected = 0.5 * usable.sum(axis=1)
    squares = np.where(usable, np.square(pull), 0.0)
    up = np.maximum((squares * (pull > 0)).sum(axis=1) - expected, 0.0)
    down = np.maximum((squares * (pull < 0)).sum(axis=1) - expected, 0.0)
    clear = np.minimum(up, down) < 0.01 * np.maximum(up, down)
    return np.where(clear, np.where(up >= down, 1, -1), 0).astype(np.int64)
