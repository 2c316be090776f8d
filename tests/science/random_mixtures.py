"""Mixtures whose truth is drawn at random: shapes of the states, tails from above, window, noise, shares, and the DOS that an analysis would have."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter1d
from scipy.stats import norm

Curve = Callable[[np.ndarray], np.ndarray]
STATES = ("pseudo-Voigt", "asymmetric", "two lines")
TAILS = ("none", "error function", "arctan", "logistic", "gaussian", "lorentzian", "exponential")
DOS = ("right", "no edge", "one line", "0.3 eV too broad", "excited 0.3 eV too broad")
"""The DOS of an analysis: as the sample's with its edge; the same without any edge; a line of usual shape and the same
width, area and place, without edge; without edge and broadened, both or the excited one."""
_GRID = np.arange(517.0, 543.0, 0.02)


class Mixture(NamedTuple):
    spectra: xr.Dataset
    dos: tuple[xr.DataArray, xr.DataArray]
    window: tuple[float, float]
    alpha: np.ndarray
    """(fluence)"""


def random_mixture(seed: int, state: str, dos: str) -> Mixture:
    """A session of two to four fluences and one or two late delays; ΔXAS has 10 to 100 times its noise at the highest fluence."""
    rng = np.random.default_rng([seed, STATES.index(state), DOS.index(dos)])
    peak, fwhm, step = rng.uniform(528.5, 529.2), rng.uniform(0.8, 1.4), rng.choice([0.1, 0.2])
    window = (peak - rng.uniform(2.2, 3.0), peak + rng.uniform(1.9, 2.8))
    tail = _tail(rng, TAILS[rng.integers(len(TAILS))], window[1])
    moved, area, wider = rng.uniform(0.4, 1.1), rng.uniform(0.75, 1.1), rng.uniform(0.95, 1.2)
    height, shape = rng.uniform(0.2, 0.5), _state(rng, state, fwhm)
    ground, excited = _drawn(shape, peak, 1.0, height), _drawn(shape, peak - moved, wider, height * area)
    fluence = np.sort(rng.choice([4.0, 8.0, 12.0, 16.0, 24.0, 32.0], rng.integers(2, 5), replace=False))
    alpha = rng.uniform(0.1, 0.6) * fluence / fluence[-1] + rng.uniform(-0.02, 0.03)
    noise = np.abs(excited - ground).max() * alpha[-1] / np.exp(rng.uniform(*np.log([10.0, 100.0])))
    energy = np.arange(window[0] - rng.uniform(0, 0.5), window[1] + 0.5, step)
    n_delays = rng.integers(1, 3)
    states = np.stack([ground, excited])
    edge = tail(_GRID)
    spectra = _measured(rng, energy, states, edge, alpha, noise, fluence, n_delays)
    return Mixture(spectra, _dos(dos, states, edge, peak, moved), window, alpha)


def _line(x: np.ndarray, eta: float) -> np.ndarray:
    """A pseudo-Voigt line of height and width 1."""
    return eta / (1 + 4 * x**2) + (1 - eta) * np.exp(-4 * np.log(2) * x**2)


def _state(rng: np.random.Generator, state: str, fwhm: float) -> Curve:
    """A peak about 0, of height 1 or so."""
    eta = rng.uniform(0.1, 0.7) if state == "pseudo-Voigt" else rng.uniform(0.0, 0.3)
    if state == "asymmetric":
        skew = rng.uniform(0.7, 1.0)
        return lambda x: _line(x / (fwhm * np.where(x < 0, skew, 2 - skew)), eta)
    if state == "two lines":
        ratio, apart = rng.uniform(0.3, 0.9), rng.uniform(0.5, 1.0)
        return lambda x: _line(x / (0.8 * fwhm), eta) + ratio * _line((x - apart) / (0.8 * fwhm), eta)
    return lambda x: _line(x / fwhm, eta)


def _drawn(shape: Curve, at: float, wider: float, height: float) -> np.ndarray:
    return height / wider * shape((_GRID - at) / wider)


def _tail(rng: np.random.Generator, form: str, end: float) -> Curve:
    """What rises above: an edge 0.8 to 3 eV above the window, of any form."""
    at, width, height = end + rng.uniform(0.8, 3.0), rng.uniform(0.4, 1.5), rng.uniform(0.3, 1.0)
    forms: dict[str, Curve] = {
        "none": lambda e: 0 * e,
        "error function": lambda e: norm.cdf((e - at) / width),
        "arctan": lambda e: 0.5 + np.arctan((e - at) / (0.5 * width)) / np.pi,
        "logistic": lambda e: 1 / (1 + np.exp(-(e - at) / (0.5 * width))),
        "gaussian": lambda e: np.exp(-4 * np.log(2) * ((e - at) / (2 * width)) ** 2),
        "lorentzian": lambda e: 1 / (1 + 4 * ((e - at) / width) ** 2),
        "exponential": lambda e: np.exp(np.minimum(e - at, 0) / width),
    }
    return lambda e: height * forms[form](e)


def _dos(
    kind: str, states: np.ndarray, edge: np.ndarray, peak: float, moved: float
) -> tuple[xr.DataArray, xr.DataArray]:
    """Ground and excited DOS on the photon energy axis."""
    found = states + edge if kind == "right" else states.copy()
    if kind == "one line":
        areas = states.sum(axis=1) * 0.02
        centre = (states[0] * _GRID).sum() / states[0].sum()
        near = np.abs(_GRID - centre) < 3
        fwhm = areas[0] / states[0][near].max() / 1.0645
        found = np.stack([_line((_GRID - at) / fwhm, 0.0) for at in (centre, centre - moved)])
        found *= (areas / fwhm / 1.0645)[:, None]
    broad = {"0.3 eV too broad": (0, 1), "excited 0.3 eV too broad": (1,)}.get(kind, ())
    for k in broad:
        found[k] = gaussian_filter1d(found[k], 0.3 / 2.355 / 0.02)
    ground, excited = (xr.DataArray(v, dims="energy", coords={"energy": _GRID}) for v in found)
    return ground, excited


def _measured(
    rng: np.random.Generator,
    energy: np.ndarray,
    states: np.ndarray,
    edge: np.ndarray,
    alpha: np.ndarray,
    noise: float,
    fluence: np.ndarray,
    n_delays: int,
) -> xr.Dataset:
    """Spectra with the noise of three beams, and a level and a slope of the optical density."""
    ground, excited, above = (np.interp(energy, _GRID, v) for v in (*states, edge))
    shape = (len(fluence), n_delays, len(energy))
    beams = noise / np.sqrt(2) * np.array([1.0, 1.0, rng.uniform(0.5, 2.0)])
    pumped, unpumped, reference = (s * rng.standard_normal(shape) for s in beams)
    level = rng.normal(0.0, 0.1, shape[:2])[:, :, None] + rng.normal(0.0, 0.004) * (energy - energy.mean())
    delta = alpha[:, None, None] * (excited - ground)
    data = {
        "od_unpumped": (ground + above + level - unpumped + reference, np.hypot(beams[1], beams[2])),
        "od_pumped": (ground + above + level + delta - pumped + reference, np.hypot(beams[0], beams[2])),
        "delta_xas": (delta - pumped + unpumped, np.hypot(beams[0], beams[1])),
    }
    dims = ("fluence", "delay", "energy")
    variables = {n: (dims, values) for n, (values, _) in data.items()}
    variables |= {f"{n}_stderr": (dims, np.full(shape, sigma)) for n, (_, sigma) in data.items()}
    coords = {"fluence": fluence, "delay": [4.8, 10.0][:n_delays], "energy": energy}
    spectra = xr.Dataset(variables, coords=coords)
    return _with_reference(rng, spectra, ground + above) if rng.uniform() < 0.3 else spectra


def _with_reference(rng: np.random.Generator, spectra: xr.Dataset, density: np.ndarray) -> xr.Dataset:
    """Add what a flat field does not know, and say how large it may be: films that differ by 2 %, a splitting of 1 mOD per eV."""
    energy = spectra["energy"].values
    each = np.stack([0.02 * (density - density[0]), 1e-3 * (energy - energy.mean())])
    modes = xr.DataArray(each, dims=("mode", "energy")) * xr.ones_like(spectra["delta_xas"])
    drawn = (modes * xr.DataArray(rng.standard_normal(2), dims="mode")).sum("mode")
    change = {n: spectra[n] + drawn for n in ("delta_xas", "od_pumped")}
    return spectra.assign(change | {"systematic_mode": modes.transpose("mode", "fluence", "delay", "energy")})
