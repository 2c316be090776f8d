"""Dark statistics per pixel and memory cell, and the pixels that cannot be trusted.

The sums are whole numbers, so merging them is exact: any split of a dark run into blocks, in any order, gives
the same bits.
"""

from dataclasses import dataclass

import numba
import numpy as np
import xarray as xr

from pipeline.errors import DataError
from schemas.datasets.calibration import DARK

__all__ = [
    "DEAD",
    "HOT",
    "NOISY",
    "UNRESPONSIVE",
    "DarkSums",
    "dark_calibration",
    "dark_sums",
    "find_bad_pixels",
    "find_unresponsive_pixels",
    "merge_dark_sums",
    "with_bad_pixel_attrs",
]

DEAD, HOT, NOISY, UNRESPONSIVE = np.uint8(1), np.uint8(2), np.uint8(4), np.uint8(8)
_MAX_ADU = 511  # 9-bit mode; the counters below never overflow at this value
_TILE = 64  # pixels: the side of one readout chip, inside which offsets and noise are alike


@dataclass(frozen=True)
class DarkSums:
    """Exact sums over dark frames, per memory cell and pixel.

    Attributes
    ----------
    count : (cell,) i8, frames seen
    total : (cell, y, x) u4 or u8, sum of the ADU values
    total_sq : (cell, y, x) u4 or u8, sum of the squared ADU values

    Four bytes are kept as long as they cannot overflow (8,000 frames per cell and more in 8-bit mode): at 800
    cells that is 420 MB, not 840.
    """

    count: np.ndarray
    total: np.ndarray
    total_sq: np.ndarray

    @property
    def n_cells(self) -> int:
        """Number of memory cells there is room for."""
        return len(self.count)


def dark_sums(frames: np.ndarray, cell_index: np.ndarray, n_cells: int, out: DarkSums | None = None) -> DarkSums:
    """Add up dark frames per memory cell in one pass, without a floating-point copy.

    Parameters
    ----------
    frames : (n, y, x) u2, raw ADU, at most 511
    cell_index : (n,) integers in [0, n_cells); the sums are kept in this order of cells
    n_cells : number of cells
    out : sums to go on with (changed in place and returned; widened when they might overflow)

    Returns
    -------
    The sums. Blocks may come in any order, or be summed apart and merged with `merge_dark_sums`.

    Raises
    ------
    DataError
        Shapes do not fit, a cell index is out of range, or an ADU value is above 511.
    """
    frames = np.asarray(frames)
    cells = np.asarray(cell_index, dtype=np.int64)
    if frames.ndim != 3 or frames.dtype != np.uint16:
        raise DataError(f"dark frames must be uint16 (n, y, x), got {frames.dtype} {frames.shape}")
    if cells.shape != frames.shape[:1]:
        raise DataError(f"{frames.shape[0]} dark frames but {cells.size} cell numbers")
    if cells.size and not (cells.min() >= 0 and cells.max() < n_cells):
        raise DataError(f"memory cell {cells.max()} is outside the {n_cells} cells of the dark run; raise n_cells")
    if frames.size and frames.max() > _MAX_ADU:
        raise DataError(f"dark frames hold {frames.max()} ADU, above the {_MAX_ADU} of a 9-bit ADC: not raw data")
    shape = (n_cells, *frames.shape[1:])
    if out is None:
        out = DarkSums(np.zeros(n_cells, np.int64), np.zeros(shape, np.uint32), np.zeros(shape, np.uint32))
    if out.total.shape != shape:
        raise DataError(f"dark sums of shape {out.total.shape} cannot take frames of shape {shape}")
    added = np.bincount(cells, minlength=n_cells)
    out = _widened(out, out.count + added)
    _add_frames(frames, cells, out.total, out.total_sq)
    out.count[...] += added
    return out


def merge_dark_sums(a: DarkSums, b: DarkSums) -> DarkSums:
    """Sums of both: exact, associative and commutative; neither argument changes."""
    if a.total.shape != b.total.shape:
        raise DataError(f"dark sums of shapes {a.total.shape} and {b.total.shape} do not belong together")
    count = a.count + b.count
    a = _widened(a, count)
    return DarkSums(count, a.total + b.total.astype(a.total.dtype), a.total_sq + b.total_sq.astype(a.total_sq.dtype))


def dark_calibration(
    sums: DarkSums,
    *,
    cell_id: np.ndarray | None = None,
    y: np.ndarray | None = None,
    x: np.ndarray | None = None,
) -> xr.Dataset:
    """Mean, sigma and bad pixels from the sums over a dark run.

    Parameters
    ----------
    sums : the sums of the whole run
    cell_id : numbers of the memory cells (default 0, 1, ...)
    y, x : module pixel numbers (default from 0: a whole module)

    Returns
    -------
    dims (cell, y, x), coords cell_id(cell), y, x: `dark_mean` f4 and `dark_std` f4 in ADU (NaN for a cell with
    no frames; sigma with the n - 1 denominator, NaN below two frames), `n_frames` (cell), `read_noise` (y, x) f4
    in ADU (over all cells, their offsets taken out) and `bad_pixel` (y, x) u1 bit flags.
    """
    n_cells, ny, nx = sums.total.shape
    if not sums.count.any():
        raise DataError("the dark run holds no frames; choose another dark run")
    mean = np.full(sums.total.shape, np.nan, np.float32)
    std = np.full(sums.total.shape, np.nan, np.float32)
    pooled = np.zeros((ny, nx))
    for cell in np.flatnonzero(sums.count):  # one cell at a time: float64 for all of them would be gigabytes
        n = int(sums.count[cell])
        total = sums.total[cell].astype(np.float64)
        # n * sum of squares - square of the sum is a whole number below 2**53, hence exact and never negative
        spread = (n * sums.total_sq[cell].astype(np.float64) - total * total) / n
        mean[cell] = total / n
        pooled += spread
        if n > 1:
            std[cell] = np.sqrt(spread / (n - 1))
    dof = int(np.maximum(sums.count - 1, 0).sum())
    read_noise = np.sqrt(pooled / dof) if dof else np.full((ny, nx), np.nan)
    cell_ids = np.arange(n_cells) if cell_id is None else np.asarray(cell_id)
    dark = xr.Dataset(
        {
            "dark_mean": (("cell", "y", "x"), mean),
            "dark_std": (("cell", "y", "x"), std),
            "n_frames": ("cell", sums.count.copy()),
            "read_noise": (("y", "x"), read_noise.astype(np.float32)),
        },
        coords={
            "cell_id": ("cell", cell_ids.astype(np.uint16)),
            "y": np.arange(ny) if y is None else np.asarray(y),
            "x": np.arange(nx) if x is None else np.asarray(x),
        },
    )
    return DARK.describe(dark.assign(bad_pixel=find_bad_pixels(dark)))


def find_bad_pixels(dark: xr.Dataset, *, threshold: float = 10.0) -> xr.DataArray:
    """Pixels that their dark signal reveals: dead, hot, noisy.

    The mean over the cells and the sigma are compared with the median of the readout chip around the pixel (64 x 64
    pixels), in units of the robust sigma 1.4826 MAD of these distances over the module. Too high a mean is hot, too
    large a sigma is noisy. A sigma of 0 in all cells is dead, provided that a pixel of typical noise would
    have been seen to move: where many pixels never leave one ADU value, the dark run cannot tell.

    Parameters
    ----------
    dark : `dark_mean`, `read_noise`, `n_frames` as from `dark_calibration`
    threshold : distance in robust sigmas from which on a pixel is bad

    Returns
    -------
    (y, x) u1 bit flags, CF style.
    """
    seen = dark["n_frames"].values > 0
    level = np.nanmean(dark["dark_mean"].values[seen], axis=0, dtype=np.float64)
    sigma = dark["read_noise"].values.astype(np.float64)
    flags = np.zeros(level.shape, np.uint8)
    # the floors keep a perfectly uniform module (MAD 0) from flagging pixels that differ by nothing that matters
    flags[_robust_distance(np.asarray(level), floor=0.5) > threshold] |= HOT
    if np.isfinite(sigma).all():
        still = sigma == 0
        if still.mean() < 0.05:
            flags[still] |= DEAD
        with np.errstate(divide="ignore"):
            log_sigma: np.ndarray = np.log(np.where(still, np.median(sigma), sigma))
        if np.isfinite(log_sigma).all():
            flags[_robust_distance(np.asarray(log_sigma), floor=0.05) > threshold] |= NOISY
    return with_bad_pixel_attrs(xr.DataArray(flags, dims=("y", "x"), coords={"y": dark["y"], "x": dark["x"]}))


def find_unresponsive_pixels(
    image: xr.DataArray, beams: xr.Dataset, *, low: float = 0.3, high: float = 2.5
) -> xr.DataArray:
    """Pixels inside a beam that see much less, or more, light than their neighbours.

    Parameters
    ----------
    image : (y, x) mean dark-subtracted flat-field image, ADU
    beams : x0, x1, y0, y1 over `beam`, half-open module pixel numbers
    low, high : accepted range of the signal over the median of the 5 x 5 pixels around it

    Returns
    -------
    (y, x) u1, `UNRESPONSIVE` or 0. Pixels whose surroundings have less than a fifth of the beam's signal are not
    judged: there is too little light.
    """
    from scipy import ndimage

    values = np.nan_to_num(image.values.astype(np.float64))
    around = ndimage.median_filter(values, size=5, mode="nearest")
    flags = np.zeros(values.shape, np.uint8)
    y, x = image["y"].values, image["x"].values
    for beam in range(beams.sizes["beam"]):
        corner = {name: int(beams[name].values[beam]) for name in ("y0", "y1", "x0", "x1")}
        box = np.ix_((y >= corner["y0"]) & (y < corner["y1"]), (x >= corner["x0"]) & (x < corner["x1"]))
        signal, local = values[box], around[box]
        lit = local > 0.2 * np.percentile(local, 90)
        odd = lit & ((signal < low * local) | (signal > high * local))
        flags[box] = np.where(odd, UNRESPONSIVE, np.uint8(0))
    return with_bad_pixel_attrs(xr.DataArray(flags, dims=("y", "x"), coords={"y": image["y"], "x": image["x"]}))


def with_bad_pixel_attrs(flags: xr.DataArray) -> xr.DataArray:
    """Return the flags with the CF description of their bits."""
    return flags.assign_attrs(
        DARK["bad_pixel"].attrs,
        flag_masks=[int(DEAD), int(HOT), int(NOISY), int(UNRESPONSIVE)],
        flag_meanings="dead hot noisy unresponsive",
    )


def _robust_distance(values: np.ndarray, *, floor: float) -> np.ndarray:
    """Distance from the median of the tile, in robust sigmas (at least `floor`) of these distances."""
    deviation = np.empty(values.shape)
    for y in range(0, values.shape[0], _TILE):
        for x in range(0, values.shape[1], _TILE):
            tile = values[y : y + _TILE, x : x + _TILE]
            # a sliver left over by a crop has no median of its own worth having
            deviation[y : y + _TILE, x : x + _TILE] = tile - np.median(tile if min(tile.shape) >= 8 else values)
    spread = 1.4826 * np.median(np.abs(deviation - np.median(deviation)))
    return deviation / max(float(spread), floor)


def _widened(sums: DarkSums, count: np.ndarray) -> DarkSums:
    """The same sums with room for `count` frames per cell."""
    if int(count.max(initial=0)) * _MAX_ADU**2 < 2**32 or sums.total_sq.dtype == np.uint64:
        return sums
    return DarkSums(sums.count, sums.total.astype(np.uint64), sums.total_sq.astype(np.uint64))


@numba.njit(nogil=True, cache=True)
def _add_frames(frames: np.ndarray, cells: np.ndarray, total: np.ndarray, total_sq: np.ndarray) -> None:
    for i in range(frames.shape[0]):
        for y in range(frames.shape[1]):
            row, s, q = frames[i, y], total[cells[i], y], total_sq[cells[i], y]
            for x in range(row.size):
                value = np.uint32(row[x])
                s[x] += value
                q[x] += value * value
