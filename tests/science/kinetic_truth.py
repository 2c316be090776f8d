"""Simulated kinetic traces with known truth, shared by the tests of the kinetics fit."""

import lmfit
import numpy as np
import xarray as xr

from pipeline.science.kinetics.model import (
    amplitude_products,
    convolved_exponential,
    exponential_table,
    kinetic_trace,
)

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


def lmfit_model(power: int = 2, sign: int = 1) -> lmfit.Model:
    """The formula as a plain lmfit model of one trace, all parameters non-linear, to compare with."""
    table = exponential_table(power)

    def kinetics(delay, t_d=0.0, irf_sigma=0.05, tau1=0.15, tau2=0.3, tau3=1.5, A1=1.0, A2=1.0, A3=1.0):
        rates = table.counts @ (1.0 / np.array([tau1, tau2, tau3]))
        weights = sign * table.weight * amplitude_products((A1, A2, A3), power)[table.column]
        return weights @ convolved_exponential(np.asarray(delay) - t_d, rates[:, None], irf_sigma)

    model = lmfit.Model(kinetics, independent_vars=["delay"])
    model.set_param_hint("irf_sigma", min=0.0)
    for tau in ("tau1", "tau2", "tau3"):
        model.set_param_hint(tau, min=1e-3)
    return model
