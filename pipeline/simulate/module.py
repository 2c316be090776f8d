"""The simulated detector module and the beams on it: what is the same in all frames of a scenario."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from schemas.scenario import BeamsSpec, DetectorSpec, Scenario

__all__ = ["ASICS", "HEIGHT", "WIDTH", "Beam", "Module", "build_module", "linear_adu"]

HEIGHT, WIDTH = 128, 512
CELLS = 800
ASIC_SIDE = 64
ASICS = (HEIGHT // ASIC_SIDE) * (WIDTH // ASIC_SIDE)
"""Readout chips of 64 x 64 pixels, counted row by row: (2, 8)."""
_HOT_RANGE = (120.0, 240.0)
_LOUD = 10.0

F4 = NDArray[np.float32]


@dataclass(frozen=True)
class Beam:
    """One beam of the zone plate; `region` is [x0, x1, y0, y1] at half intensity, upper ends excluded."""

    role: str
    region: tuple[int, int, int, int]
    flux: float
    corner: tuple[int, int]
    """Row and column of the patch's first pixel."""
    patch: F4
    """Illumination (y, x) relative to its mean inside the region."""


@dataclass(frozen=True)
class Module:
    """Pedestals, bad pixels and beams."""

    offset: F4
    """Pedestal (y, x) [ADU] before the converter."""
    offset_slope: F4
    """How much of `cell_slope` a pixel takes (y, x) [ADU]."""
    cell_level: F4
    """What a memory cell adds to all pixels (cell) [ADU]."""
    cell_slope: F4
    """Weight of `offset_slope` in a memory cell (cell)."""
    dead: NDArray[np.int64]
    """Flat numbers of pixels with a constant value, which is `dead_value`."""
    dead_value: NDArray[np.uint16]
    hot: NDArray[np.int64]
    noisy: NDArray[np.int64]
    loud_noise: F4
    """Extra noise [ADU] of the hot and then the noisy pixels."""
    beams: tuple[Beam, ...]
    pump_light: F4
    """Stray light of the pump laser (y, x) relative to its mean."""

    @property
    def loud(self) -> NDArray[np.int64]:
        """Flat numbers of the hot and the noisy pixels."""
        return np.concatenate([self.hot, self.noisy])


def build_module(scenario: Scenario, seed: int) -> Module:
    """Draw the module of a scenario; the same seed gives the same module in every run."""
    spec = scenario.detector
    rng = np.random.default_rng([seed, 0xDE7])
    bad = rng.choice(HEIGHT * WIDTH, spec.dead_pixels + spec.hot_pixels + spec.noisy_pixels, replace=False)
    dead, hot, noisy = np.split(bad, [spec.dead_pixels, spec.dead_pixels + spec.hot_pixels])
    offset = spec.offset + spec.offset_pixel_sigma * rng.standard_normal((HEIGHT, WIDTH))
    offset.ravel()[hot] = rng.uniform(*_HOT_RANGE, hot.size)
    values = np.where(np.arange(dead.size) % 2, rng.integers(1, 60, dead.size), 0)
    return Module(
        offset=offset.astype(np.float32),
        offset_slope=(spec.offset_mixed_sigma * rng.standard_normal((HEIGHT, WIDTH))).astype(np.float32),
        cell_level=(spec.offset_cell_sigma * rng.standard_normal(CELLS)).astype(np.float32),
        cell_slope=rng.standard_normal(CELLS).astype(np.float32),
        dead=dead,
        dead_value=values.astype(np.uint16),
        hot=hot,
        noisy=noisy,
        loud_noise=np.full(hot.size + noisy.size, _LOUD * spec.read_noise, np.float32),
        beams=_beams(scenario.beams, rng),
        pump_light=_stray_light(seed),
    )


def _stray_light(seed: int) -> F4:
    rng = np.random.default_rng([seed, 0x617])
    field = _structure((np.arange(HEIGHT) + 0.5) / HEIGHT, (np.arange(WIDTH) + 0.5) / WIDTH, rng)
    return (1.0 + 0.5 * field).astype(np.float32)


def linear_adu(spec: DetectorSpec) -> NDArray[np.float64]:
    """Return for every raw value 0 … full_scale the linear ADU that the converter bends into it."""
    raw = np.arange(spec.full_scale + 1, dtype=float)
    if spec.knee is not None:
        return np.where(raw > spec.knee, spec.knee + (raw - spec.knee) / spec.slope_above_knee, raw)
    if spec.curvature == 0.0:
        return raw
    bend = spec.curvature / spec.full_scale
    # root of raw = v - bend v², the smaller one; past the turning point nothing reaches the raw value
    return np.asarray((1.0 - np.sqrt(np.maximum(1.0 - 4.0 * bend * raw, 0.0))) / (2.0 * bend))


def _beams(spec: BeamsSpec, rng: np.random.Generator) -> tuple[Beam, ...]:
    flux = dict(zip(("pumped", "unpumped", "reference"), spec.flux, strict=True))
    margin = int(np.ceil(4 * spec.edge_sigma))
    beams = []
    for i, role in enumerate(spec.order):
        x0, y0 = spec.first_x + i * spec.pitch, spec.first_y
        x = np.arange(-margin, spec.width + margin, dtype=np.float64) + 0.5
        y = np.arange(-margin, spec.height + margin, dtype=np.float64) + 0.5
        patch = np.outer(_plateau(y, spec.height, spec.edge_sigma), _plateau(x, spec.width, spec.edge_sigma))
        patch *= 1.0 + spec.unevenness * _structure(y / spec.height, x / spec.width, rng)
        patch /= patch[margin:-margin, margin:-margin].mean()
        beams.append(
            Beam(
                role=role,
                region=(x0, x0 + spec.width, y0, y0 + spec.height),
                flux=flux[role],
                corner=(y0 - margin, x0 - margin),
                patch=patch.astype(np.float32),
            )
        )
    return tuple(beams)


def _plateau(position: NDArray[np.float64], extent: int, sigma: float) -> NDArray[np.float64]:
    edges = special.ndtr(position / sigma) * special.ndtr((extent - position) / sigma)
    # far out the tail only costs time
    return np.asarray(np.where(edges > 1e-3, edges, 0.0))


def _structure(v: NDArray[np.float64], u: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """A smooth field of mean 0 and largest absolute value 1; `u`, `v` run from 0 to 1 across the beam."""
    field = np.zeros((v.size, u.size))
    for i in range(3):
        for j in range(3):
            if i + j:
                weight = rng.normal() / (i + j) ** 1.5
                field += weight * np.outer(np.cos(np.pi * i * v), np.cos(np.pi * j * u))
    field -= field.mean()
    return np.asarray(field / np.abs(field).max())
