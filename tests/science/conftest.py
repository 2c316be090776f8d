"""A small detector with known truth, shared by the tests of the reduction."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import xarray as xr

from pipeline.science.detector.beams import beam_dataset
from pipeline.science.detector.dark import dark_calibration, dark_sums


@dataclass
class DetectorTruth:
    """Poisson photons in beams of uneven light, SASE fluctuations, ADC with offsets, read noise and non-linearity."""

    gain: float = 1.3
    read_noise: float = 0.9
    quadratic: float = 0.0  # h(r) = r + 128 (c_2 (r/128)^2 + c_3 (r/128)^3)
    cubic: float = 0.0
    pointing: float = 0.0  # pixels rms: the beams move
    lean: float = 0.0  # rms: the light moves inside beams that stay, brighter by this much at one edge
    response: float = 0.04  # rms over pixels
    photons: tuple[float, ...] = (50.0, 60.0, 40.0)  # mean photons per pixel in the core
    shape: tuple[int, int] = (64, 192)
    regions: tuple[tuple[int, int, int, int], ...] = ((8, 58, 8, 56), (70, 120, 8, 56), (132, 182, 8, 56))
    n_cells: int = 8
    moved: float = 0.0  # pedestal of the flat-field run above that of the dark run, ADU
    seed: int = 1
    dead: tuple[tuple[int, int], ...] = ((20, 30), (30, 90))
    hot: tuple[tuple[int, int], ...] = ((25, 35), (40, 150), (2, 2))
    blind: tuple[tuple[int, int], ...] = ((33, 33),)
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.offset = (
            40 + 3 * self.rng.standard_normal((1, *self.shape)) + self.rng.standard_normal((self.n_cells, *self.shape))
        )
        self.sensitivity = 1 + self.response * self.rng.standard_normal(self.shape)
        for y, x in self.blind:
            self.sensitivity[y, x] = 0.0
        adu = np.arange(-20, 512, 0.25)
        self._pedestal = self.linear(self.offset)
        self._adu, self._linear = adu, self.linear(adu)

    def linear(self, adu: np.ndarray) -> np.ndarray:
        u = adu / 128
        return adu + 128 * (self.quadratic * u**2 + self.cubic * u**3)

    @property
    def beams(self) -> xr.Dataset:
        return beam_dataset(list(self.regions))

    def illumination(self, shift: float = 0.0, lean: float = 0.0) -> np.ndarray:
        """(beam, y, x) photons per pixel at intensity 1: soft edges, tilted, uneven."""
        y, x = np.indices(self.shape)
        light = np.zeros((len(self.regions), *self.shape))
        for b, (x0, x1, y0, y1) in enumerate(self.regions):
            u, v = (
                (x - shift - (x0 + x1 - 1) / 2) / ((x1 - x0) / 2 - 3),
                (y - (y0 + y1 - 1) / 2) / ((y1 - y0) / 2 - 3),
            )
            edge = 1 / (1 + np.exp(12 * (np.abs(u) - 0.85))) / (1 + np.exp(12 * (np.abs(v) - 0.85)))
            uneven = (1 + (0.3, -0.2, 0.1)[b % 3] * u) * (1 + 0.25 * np.sin(2 * u + b) * np.cos(2 * v))
            light[b] = self.photons[b] * edge * np.clip(uneven, 0.1, None) * (1 + lean * u)
        return light

    def read_out(self, photons: np.ndarray, cell: np.ndarray, moved: np.ndarray | float = 0.0) -> np.ndarray:
        """(n, y, x) u2 raw frames from detected photons; moved: what is added before the converter, ADU."""
        signal = (
            self.gain * photons
            + moved
            + self._pedestal[cell]
            + self.read_noise * self.rng.standard_normal(photons.shape)
        )
        raw = np.clip(np.round(np.interp(signal, self._linear, self._adu)), 0, 255).astype(np.uint16)
        for y, x in self.dead:
            raw[:, y, x] = 3
        for y, x in self.hot:
            raw[:, y, x] = 255
        return raw

    def dark(self, n_per_cell: int = 60) -> xr.Dataset:
        sums = None
        for _ in range(n_per_cell):
            cell = np.arange(self.n_cells)
            raw = self.read_out(np.zeros((self.n_cells, *self.shape)), cell)
            sums = dark_sums(raw, cell, self.n_cells, out=sums)
        return dark_calibration(sums)

    def flat(self, n_trains: int = 100, fluctuation: float = 0.35) -> tuple[xr.Dataset, np.ndarray]:
        """Frames dataset, and (train, pulse, beam) the photons detected in each region."""
        raw = np.empty((n_trains, self.n_cells, *self.shape), np.uint16)
        truth = np.empty((n_trains, self.n_cells, len(self.regions)))
        still = self.illumination() * self.sensitivity
        for t in range(n_trains):
            intensity = self.rng.gamma(1 / fluctuation**2, fluctuation**2, self.n_cells)
            mean = np.zeros((self.n_cells, *self.shape))
            for p in range(self.n_cells):
                light = still
                if self.pointing or self.lean:
                    move = (self.pointing, self.lean) * self.rng.standard_normal(2)
                    light = self.illumination(*move) * self.sensitivity
                mean[p] = intensity[p] * light.sum(axis=0)
            photons = self.rng.poisson(mean)
            raw[t] = self.read_out(photons, np.arange(self.n_cells), self.moved)
            for b, (x0, x1, y0, y1) in enumerate(self.regions):
                truth[t, :, b] = photons[:, y0:y1, x0:x1].sum(axis=(1, 2))
        return self.frames(raw), truth

    def frames(self, raw: np.ndarray, *, y0: int = 0, x0: int = 0) -> xr.Dataset:
        n_trains, n_pulses, ny, nx = raw.shape
        cell = np.broadcast_to(np.arange(n_pulses, dtype=np.uint16), (n_trains, n_pulses))
        return xr.Dataset(
            {"frames": (("train", "pulse", "y", "x"), raw, {"units": "ADU", "long_name": "raw frames"})},
            coords={
                "train_id": ("train", np.arange(1000, 1000 + n_trains, dtype=np.uint64)),
                "pulse_id": ("pulse", np.arange(n_pulses, dtype=np.uint64)),
                "cell_id": (("train", "pulse"), cell),
                "present": (("train", "pulse"), np.ones((n_trains, n_pulses), bool)),
                "y": ("y", np.arange(y0, y0 + ny)),
                "x": ("x", np.arange(x0, x0 + nx)),
            },
        )


@pytest.fixture(scope="session")
def detector_truth() -> type[DetectorTruth]:
    return DetectorTruth
