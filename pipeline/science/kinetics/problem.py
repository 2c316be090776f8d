"""Set-up of a kinetics fit: data in units of their peak, what is free or given, bounds and priors."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ConfigError, DataError
from pipeline.science.kinetics._basis import KineticData
from pipeline.science.kinetics.model import exponential_table

__all__ = ["Problem", "Setting", "build_problem"]

Setting = str | float | tuple[float, float]
FloatArray = NDArray[np.float64]

_ARRAYS = [name for name in KineticData._fields if name != "power"]
_WIDEST_IRF = 0.3
"""Upper bound of a fitted sigma [ps], unless the delays are coarser: pump and X-ray pulses of 30 to 100 fs."""


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

    @property
    def dof(self) -> int:
        """Points minus all fitted numbers, at least 1."""
        return max(self.n_points - int(self.free.sum()) - self.n_amplitudes, 1)


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
    tau_bounds: tuple[float, float] | None = None,
    plain: bool = False,
) -> Problem:
    """Set up a fit of traces (trace, delay) on ascending delays; points with NaN are left out.

    Raises
    ------
    ConfigError
        For an unknown setting of t_d, irf_sigma, the power or the number of exponentials.
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
    free = np.array([t_d == "fit" or isinstance(t_d, tuple), irf_sigma == "fit" or isinstance(irf_sigma, tuple)])
    free = np.concatenate([free, np.ones(n_exponentials, dtype=bool)])
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
    lowest, highest = tau_bounds or (0.2 * spacing, 4.0 * span)
    taus = np.log([[lowest] * n_exponentials, [highest] * n_exponentials])
    time_zero = _setting(t_d, "t_d", float(delay[0]))
    sigma = _setting(irf_sigma, "irf_sigma", min(spacing, 0.5 * _WIDEST_IRF))
    if not sigma[0] >= 0:
        raise ConfigError(f"kinetics.irf_sigma is {sigma[0]:g} ps; give zero or a positive number, or fit")
    wide = (-np.inf, np.inf)
    sigma_bounds = (0.0, max(_WIDEST_IRF, 3 * spacing)) if irf_sigma == "fit" else (0.0, np.inf)
    bounds = np.concatenate([np.array([wide, sigma_bounds]).T, taus], axis=1)
    prior = np.zeros((2, 2 + n_exponentials))
    prior[:, 0], prior[:, 1] = time_zero, sigma
    ridge = 0.0 if amplitude_prior is None else amplitude_prior ** (-2.0 * power)
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
        allowed_sign=_signs(signal / peak * (weight * peak), usable) if power == 2 else np.ones(len(signal), np.int64),
    )
    # one memory layout, or the kernels would be compiled once more for another
    contiguous: dict[str, Any] = {name: np.ascontiguousarray(getattr(data, name)) for name in _ARRAYS}
    data = data._replace(**contiguous)
    names = ("t_d", "irf_sigma", *(f"tau{i + 1}" for i in range(n_exponentials)))
    start = np.concatenate([[time_zero[0], sigma[0]], np.full(n_exponentials, np.log(spacing))])
    return Problem(data, names, free, start, peak, spacing, n_terms, int(usable.sum()), n_amplitudes)


def _setting(setting: Setting, name: str, default: float) -> tuple[float, float]:
    """(centre, 1 / sd) of a parameter; 1 / sd is 0 where it is free or fixed."""
    if isinstance(setting, tuple):
        value, stderr = setting
        if not (np.isfinite(value) and stderr > 0):
            raise ConfigError(f"kinetics.{name}: a measured value needs a positive error, got {value} +- {stderr}")
        return float(value), 1.0 / float(stderr)
    if isinstance(setting, str):
        if setting != "fit":
            raise ConfigError(f"kinetics.{name} is {setting!r}; give a number in ps, a value with error, or fit")
        return default, 0.0
    return float(setting), 0.0


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
