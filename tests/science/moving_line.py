"""Cubes of a line that moves while the times run, or of two species, by brute force: fine grid, numerical convolution."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.special import voigt_profile

PUBLISHED = np.array([-0.1, 0, 0.1, 0.2, 0.3, 0.5, 0.8, 1, 1.8, 2, 4.8, 5, 10, 59.8])
FINE = np.concatenate(
    [[-1.0, -0.3], np.arange(-0.06, 0.49, 0.02), np.arange(0.5, 1.6, 0.08), np.geomspace(1.8, 60, 14)]
)
ENERGIES = np.arange(526.6, 531.05, 0.2)
PEAK_A = 528.2
TAUS = (0.15, 0.24, 1.5)


class Sample(NamedTuple):
    """What is simulated; energies eV, times ps."""

    taus: tuple[float, float, float] = TAUS
    t_d: float = 0.01
    irf_sigma: float = 0.04
    returning: float = 0.5
    """Share of the excited that returns with tau2."""
    power: int = 1
    move: float = -0.2
    """Position of the excited line at the beginning less that at the end."""
    fwhm: float = 0.9
    lorentzian: float = 0.0
    """Share of the width that is Lorentzian."""
    species: bool = False
    """The line does not move: one at its first place fades while one at its last place grows."""


def difference(sample: Sample, energy: np.ndarray, delay: np.ndarray) -> np.ndarray:
    """ΔXAS (energy, delay), largest value 0.01."""
    g = np.arange(-6.0, 6.001, 0.01)
    weight = np.exp(-0.5 * g**2)
    x = delay[:, None] - sample.t_d + sample.irf_sigma * g
    out = np.stack([_without_response(sample, energy, one) @ weight for one in x], axis=1) / weight.sum()
    return 0.01 * out / _largest(sample)


def _largest(sample: Sample) -> float:
    x = np.linspace(0.0, 2.0, 400)
    return float(np.abs(_without_response(sample, np.linspace(526.6, 531.0, 200), x)).max())


def _without_response(sample: Sample, energy: np.ndarray, x: np.ndarray) -> np.ndarray:
    after = np.maximum(x, 0.0)
    tau1, tau2, tau3 = sample.taus
    excited = ((1 - np.exp(-after / tau1)) * (1 - sample.returning * (1 - np.exp(-after / tau2)))) ** sample.power
    u = np.exp(-after / tau3)
    place = PEAK_A + sample.move * u
    at = energy[:, None]
    if sample.species:
        line = u * _line(sample, at - PEAK_A - sample.move) + (1 - u) * _line(sample, at - PEAK_A)
    else:
        line = _line(sample, at - place)
    ground = 1.1 * np.exp(-4 * np.log(2) * ((at - 529.0) / 1.1) ** 2)
    else_where = 0.2 * np.exp(-4 * np.log(2) * ((at - 530.6) / 0.8) ** 2)
    return np.where(x > 0, excited * (line - ground + else_where), 0.0)


def _line(sample: Sample, apart: np.ndarray) -> np.ndarray:
    sigma = (1 - sample.lorentzian) * sample.fwhm / 2.3548
    gamma = sample.lorentzian * sample.fwhm / 2
    return voigt_profile(apart, sigma, gamma) / voigt_profile(0.0, sigma, gamma)


def cube(
    sample: Sample | None = None,
    *,
    snr: float = 100.0,
    seed: int = 0,
    energy: np.ndarray = ENERGIES,
    delay: np.ndarray = PUBLISHED,
    scan: np.ndarray | None = FINE,
) -> xr.Dataset:
    """Traces with noise of 0.01 OD / snr: every energy of the spectra, and a delay scan at peak A, each at its own delays."""
    sample = sample or Sample()
    rng = np.random.default_rng(seed)
    delays = np.unique(np.concatenate([delay, [] if scan is None else scan]))
    clean = np.full((len(energy) + (scan is not None), len(delays)), np.nan)
    clean[: len(energy), np.searchsorted(delays, delay)] = difference(sample, energy, delay)
    energies = energy
    if scan is not None:
        clean[-1, np.searchsorted(delays, scan)] = difference(sample, np.array([PEAK_A]), scan)[0]
        energies = np.append(energy, PEAK_A)
    noise = 0.01 / snr
    dims = ("trace", "delay")
    traces = xr.Dataset(
        {
            "delta_xas": (dims, clean + noise * rng.standard_normal(clean.shape)),
            "delta_xas_stderr": (dims, np.where(np.isnan(clean), np.nan, noise)),
        },
        coords={"delay": delays, "energy": ("trace", energies)},
    )
    return traces.sortby("energy")


LAWS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "settles in 0.8 ps": lambda t: 1 - np.clip(t / 0.8, 0, 1) ** 2 * (3 - 2 * np.clip(t / 0.8, 0, 1)),
    "faster than the times": lambda t: np.exp(-t / 0.3),
    "slower than the times": lambda t: np.exp(-t / 8.0),
    "stays and grows narrow": lambda t: 0 * t,
}
"""How a line may move that no model has."""


def of_another_law(law: str, *, snr: float, seed: int) -> tuple[xr.Dataset, xr.Dataset, np.ndarray]:
    """Spectra and a delay scan at 8 mJ/cm² that follow the printed formula, while the line moves by a law of its own; and the times."""
    rng = np.random.default_rng([seed, 7])
    taus = np.array([rng.uniform(0.08, 0.25), rng.uniform(0.2, 0.5), rng.uniform(1.0, 3.0)])
    move, g = rng.uniform(-0.35, -0.15), np.arange(-6, 6.001, 0.02)
    weight = np.exp(-0.5 * g**2) / np.exp(-0.5 * g**2).sum()

    def seen(delay: np.ndarray, shape: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        t = delay[:, None] + 0.04 * g
        a = np.maximum(t, 0)
        decays = 1 + 2.5 * np.exp(-a / taus[1]) - 0.5 * np.exp(-a / taus[2])
        return np.where(t > 0, ((1 - np.exp(-a / taus[0])) * decays) ** 2 * shape(a), 0) @ weight

    def line_at(energy: float) -> Callable[[np.ndarray], np.ndarray]:
        ground = 1.1 * np.exp(-4 * np.log(2) * ((energy - 529.1) / 1.1) ** 2)

        def shape(t: np.ndarray) -> np.ndarray:
            width = 0.9 * (1 + 0.4 * np.exp(-t / 0.5) * (law == "stays and grows narrow"))
            place = PEAK_A + move * LAWS[law](t)
            return np.exp(-4 * np.log(2) * ((energy - place) / width) ** 2) - ground

        return shape

    spectra = np.array([seen(PUBLISHED, line_at(energy)) for energy in ENERGIES]).T
    scan, noise = seen(FINE, np.ones_like), 0.01 / snr
    values = [0.01 * v / np.abs(spectra).max() + noise * rng.standard_normal(v.shape) for v in (spectra, scan[None])]
    coords = [{"delay": PUBLISHED, "energy": ENERGIES}, {"delay": FINE, "energy": ("scan", [PEAK_A])}]
    made = [
        xr.Dataset({"delta_xas": (dims, v), "delta_xas_stderr": (dims, np.full(v.shape, noise))}, at)
        for dims, v, at in zip((("delay", "energy"), ("scan", "delay")), values, coords, strict=True)
    ]
    return made[0].expand_dims(fluence=[8.0]), made[1].assign_coords(fluence=("scan", [8.0])), taus


def peak_a_alone(traces: xr.Dataset) -> xr.Dataset:
    """The delay scan of a cube, at its own delays."""
    longest = traces["delta_xas"].notnull().sum("delay").values
    one = traces.isel(trace=[int(np.argmax(longest))])
    return one.isel(delay=np.flatnonzero(one["delta_xas"].notnull().values[0]))
