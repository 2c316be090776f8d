"""Simulated kinetic traces with known truth, shared by the tests of the kinetics fit."""

import numpy as np
import xarray as xr

from pipeline.science.kinetics.model import kinetic_trace

TAUS = (0.15, 0.24, 1.5)
DENSE = np.concatenate([np.linspace(-0.2, 1.2, 73), np.geomspace(1.25, 60.0, 27)])
PUBLISHED = np.array([-0.1, 0, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.8, 2, 4.8, 5, 10, 59.8])
OPPOSITE = (1.0, 1.67, -0.67)
SAME = (0.42, 1.06, 0.53)


def simulate(
    amplitudes: tuple[float, float, float] = OPPOSITE,
    *,
    snr: float = 200.0,
    seed: int = 0,
    power: int = 2,
    n_traces: int = 1,
    delay: np.ndarray = DENSE,
    t_d: float = 0.01,
    irf_sigma: float = 0.05,
    taus: tuple[float, float, float] = TAUS,
) -> xr.Dataset:
    """Traces of peak 0.01 OD with the noise that gives `snr`; several traces mix three component spectra."""
    energy = np.array([528.2]) if n_traces == 1 else np.linspace(526.0, 534.0, n_traces)
    centre, width = np.array([528.2, 529.2, 531.0]), np.array([0.7, 0.9, 1.6])
    shape = np.exp(-0.5 * ((energy[:, None] - centre) / width) ** 2) + 0.15
    a = np.asarray(amplitudes) * (np.ones((1, 3)) if n_traces == 1 else shape)
    clean = kinetic_trace(delay, t_d=t_d, irf_sigma=irf_sigma, taus=taus, amplitudes=a, power=power)
    clean *= 0.01 / np.abs(clean).max()
    sigma = 0.01 / snr
    noisy = clean + sigma * np.random.default_rng(seed).standard_normal(clean.shape)
    dims = ("trace", "delay")
    return xr.Dataset(
        {"delta_xas": (dims, noisy), "delta_xas_stderr": (dims, np.full(clean.shape, sigma))},
        coords={"delay": delay, "energy": ("trace", energy)},
    )
