"""Kinetic traces whose truth is drawn at random: times, signs and sizes of amplitudes, response, delays and noise."""

from typing import NamedTuple

import numpy as np
import xarray as xr

from pipeline.science.kinetics.model import kinetic_trace

RANGES = ((0.08, 0.3), (0.15, 0.6), (0.8, 4.0))
"""Of tau1, tau2, tau3 [ps]."""
IRF = (0.03, 0.06)
IRF_STDERR = 0.003
"""How well the response is known beforehand [ps]."""


class Truth(NamedTuple):
    taus: tuple[float, ...]
    t_d: float
    irf_sigma: float
    measured_irf: float
    """What a measurement of the response gave."""
    amplitudes: np.ndarray
    """(trace, term)"""
    sign: int
    traces: xr.Dataset


def random_traces(seed: int, *, snr: float, n_traces: int = 1, power: int = 2) -> Truth:
    """Traces of peak 0.01 OD; delays in steps of 20 to 40 fs up to 1.2 ps, then ever wider up to 20 to 60 ps."""
    rng = np.random.default_rng([seed, n_traces, power])
    taus = tuple(float(np.exp(rng.uniform(*np.log(one)))) for one in RANGES)
    sigma, t_d, sign = rng.uniform(*IRF), rng.uniform(-0.03, 0.03), int(rng.choice([-1, 1]))
    delay = np.concatenate(
        [np.arange(rng.uniform(-0.4, -0.15), 1.2, rng.uniform(0.02, 0.04)), np.geomspace(1.3, rng.uniform(20, 60), 25)]
    )
    amplitudes = rng.choice([-1.0, 1.0], (n_traces, 3)) * np.exp(rng.uniform(*np.log([0.3, 1.5]), (n_traces, 3)))
    clean = sign * kinetic_trace(delay, t_d=t_d, irf_sigma=sigma, taus=taus, amplitudes=amplitudes, power=power)
    clean *= 0.01 / np.abs(clean).max()
    noise = 0.01 / snr
    values = clean + noise * rng.standard_normal(clean.shape)
    dims = ("trace", "delay")
    traces = xr.Dataset(
        {"delta_xas": (dims, values), "delta_xas_stderr": (dims, np.full(clean.shape, noise))},
        coords={"delay": delay, "energy": ("trace", 528.0 + 0.1 * np.arange(n_traces))},
    )
    measured = sigma + IRF_STDERR * rng.standard_normal()
    return Truth(taus, t_d, sigma, float(measured), amplitudes, sign, traces)
