"""A sample of flat-field frames as the plain arrays the calibration kernels want."""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.detector._pixel_kernel import group_sums, saturated_pixels

__all__ = ["N_ADU", "Sample", "cell_lookup", "expected_dark", "flat_sample"]

N_ADU = 512


@dataclass(frozen=True)
class Sample:
    """Present frames of a flat-field run whose memory cell the dark run knows.

    Attributes
    ----------
    raw : (n, y, x) u2;  use : (m,) indices of the frames to use
    cell : (m,) index of the memory cell in the dark calibration;  train : (m,) index of the train
    y, x : module pixel numbers
    dark_mean, read_noise : (cell, y, x), (y, x) f4, ADU, cropped to the frames
    dark_frames : (cell,) dark frames behind dark_mean
    good : (y, x) bool
    corners : (beam, 4) i8: y0, y1, x0, x1 as indices into the frames
    """

    raw: np.ndarray
    use: np.ndarray
    cell: np.ndarray
    train: np.ndarray
    y: np.ndarray
    x: np.ndarray
    dark_mean: np.ndarray
    read_noise: np.ndarray
    dark_frames: np.ndarray
    good: np.ndarray
    corners: np.ndarray

    @property
    def beam_of(self) -> np.ndarray:
        """(y, x) i4: the beam a good pixel is in, -1 for none."""
        beam = np.full(self.good.shape, -1, np.int32)
        for b, (y0, y1, x0, x1) in enumerate(self.corners):
            beam[y0:y1, x0:x1] = np.where(self.good[y0:y1, x0:x1], b, -1)
        return beam

    def taking(self, keep: np.ndarray) -> "Sample":
        """The same with only the frames for which `keep` (m,) is true (the pixels are shared, not copied)."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Sample(**(values | {name: values[name][keep] for name in ("use", "cell", "train")}))

    def blocks(self, n: int) -> np.ndarray:
        """(m,) number in [0, n) of the jackknife block: whole trains where there are enough of them."""
        trains, order = np.unique(self.train, return_inverse=True)
        if len(trains) >= n:
            return order * n // len(trains)
        return np.arange(len(self.use)) % n

    def mean_image(self) -> np.ndarray:
        """(y, x) f8 mean dark-subtracted image, ADU."""
        total = np.zeros(self.good.shape)
        for start in range(0, len(self.use), 64):  # a block at a time, so that no float copy of the sample arises
            total += self.raw[self.use[start : start + 64]].sum(axis=0, dtype=np.uint64)
        share = np.bincount(self.cell, minlength=len(self.dark_mean)) / len(self.use)
        seen = share > 0
        return total / len(self.use) - np.tensordot(share[seen], self.dark_mean[seen].astype(float), axes=1)

    def saturated(self, saturation: int) -> np.ndarray:
        """(m,) bool: frames in which a good pixel of a beam is at or above `saturation` ADU."""
        good = np.where(self.good, np.uint16(0xFFFF), np.uint16(0))
        hit: np.ndarray = saturated_pixels(self.raw, self.use, good, self.corners, saturation) > 0
        return hit

    def dark_doubt(self) -> float:
        """Variance of the dark level over that of a dark frame, as it scatters from cell to cell around its mean."""
        counts = np.bincount(self.cell, minlength=len(self.dark_frames))
        seen = counts > 0
        share, n = counts[seen] / len(self.cell), self.dark_frames[seen]
        return float((share * (1 - share) / n).sum())

    def offset_sigma(self, group: np.ndarray, n_groups: int) -> np.ndarray:
        """(group,) f8 ADU by which the finite dark run leaves the mean of group sums uncertain."""
        counts = np.bincount(self.cell, minlength=len(self.dark_frames))
        seen = counts > 0
        per_pixel = ((counts[seen] / len(self.cell)) ** 2 / self.dark_frames[seen]).sum()
        inside = group >= 0
        noise = np.nan_to_num(self.read_noise[inside].astype(float)) ** 2
        return np.sqrt(per_pixel * np.bincount(group[inside], noise, minlength=n_groups))

    def group_sums(self, group: np.ndarray, n_groups: int, tables: np.ndarray) -> np.ndarray:
        """(m, group, table) f8: sums of `tables` (512, table) over groups of pixels (y, x), the dark part taken off."""
        sums = group_sums(self.raw, self.use, group.astype(np.int32), n_groups, np.ascontiguousarray(tables))
        dark = np.full((len(self.dark_mean), n_groups, tables.shape[1]), np.nan)
        inside = group >= 0
        for cell in np.unique(self.cell):
            for k in range(tables.shape[1]):
                level = expected_dark(tables[:, k], self.dark_mean[cell][inside], self.read_noise[inside])
                dark[cell, :, k] = np.bincount(group[inside], level, minlength=n_groups)
        return sums - dark[self.cell]


def expected_dark(table: np.ndarray, mean: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Mean of table[ADU] over Gaussian noise around `mean` (ADU), f8.

    Three-point Gauss-Hermite quadrature: exact for a table that is a polynomial up to the fifth order, but for the
    straight lines drawn between its entries.
    """
    adu = np.arange(len(table), dtype=float)
    mean, wide = mean.astype(float), np.sqrt(3) * np.nan_to_num(sigma.astype(float))
    low, high = (_extended(mean + shift, adu, table) for shift in (-wide, wide))
    return (4 * _extended(mean, adu, table) + low + high) / 6


def _extended(at: np.ndarray, adu: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Linear interpolation that goes on straight below 0 ADU, where the noise of a low pedestal reaches."""
    return np.interp(at, adu, table) + np.minimum(at, 0.0) * (table[1] - table[0])


def flat_sample(frames: xr.Dataset, dark: xr.Dataset, beams: xr.Dataset, *, bad: xr.DataArray | None = None) -> Sample:
    """Check that frames, dark and beams belong together and lay them out for the kernels.

    Raises
    ------
    DataError
        A beam lies outside the frames, the dark calibration does not cover them, or no frame is usable.
    """
    raw = frames["frames"].transpose("train", "pulse", "y", "x").values
    n_trains, n_pulses, ny, nx = raw.shape
    y, x = frames["y"].values.astype(np.int64), frames["x"].values.astype(np.int64)
    if not (np.isin(y, dark["y"].values).all() and np.isin(x, dark["x"].values).all()):
        raise DataError(
            f"the dark calibration does not cover rows {y[0]}..{y[-1]}, columns {x[0]}..{x[-1]} of the frames; "
            "calibrate the dark run on the same region"
        )
    dark = dark.sel(y=y, x=x)
    flags = dark["bad_pixel"] if bad is None else bad.sel(y=y, x=x)
    cell = cell_lookup(dark)[np.minimum(frames["cell_id"].values.astype(np.int64), 65535)]
    usable = frames["present"].values & (cell >= 0)
    if not usable.any():
        raise DataError(
            "no flat-field frame has a memory cell that the dark run holds; take a dark run of the same cells"
        )
    corners = np.stack([beams[name].values.astype(np.int64) for name in ("y0", "y1", "x0", "x1")], axis=1)
    corners[:, :2] -= y[0]
    corners[:, 2:] -= x[0]
    if (corners < 0).any() or (corners[:, 1] > ny).any() or (corners[:, 3] > nx).any():
        raise DataError("a beam reaches outside the flat-field frames; read them with a larger crop")
    return Sample(
        raw=raw.reshape(-1, ny, nx),
        use=np.flatnonzero(usable),
        cell=cell[usable],
        train=np.broadcast_to(np.arange(n_trains)[:, None], (n_trains, n_pulses))[usable],
        y=y,
        x=x,
        dark_mean=dark["dark_mean"].values,
        read_noise=dark["read_noise"].values,
        dark_frames=dark["n_frames"].values,
        good=flags.values == 0,
        corners=corners,
    )


def cell_lookup(dark: xr.Dataset) -> np.ndarray:
    """(65536,) i8: index of a memory cell number in the dark calibration, -1 where it holds no frames of it."""
    lookup = np.full(65536, -1, np.int64)
    known = dark["n_frames"].values > 0
    lookup[dark["cell_id"].values[known].astype(np.int64)] = np.flatnonzero(known)
    return lookup
