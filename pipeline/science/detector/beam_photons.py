"""From frames to photons per pulse and beam: one calibration, one fused pass over the pixels.

A pulse's signal in a beam is S = sum_p w_p h(r_p) - D(cell), with the raw value r_p, the linearised value h, the weight
w_p (0 for a bad pixel, else the flat field, scaled to make up for the bad ones) and the dark constant
D(cell) = sum_p w_p <h(dark)>. Dark enters as one number per cell and beam, so it is taken off after the sum. Then
photons N = S / gain, and sigma^2 = q N + sum_p w_p^2 (read noise / gain)^2, q = sum w^2 I / sum w I (1 for w = 1).
"""

from dataclasses import dataclass

import numpy as np
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.detector._pixel_kernel import beam_sums, beam_sums_table, border_sums
from pipeline.science.detector.blank import not_blank
from pipeline.science.detector.unlit import Unlit, prepare_unlit
from schemas.datasets.measured import PULSES

__all__ = [
    "BORDER",
    "Reducer",
    "border_block",
    "pedestal_block",
    "prepare",
    "reduce_block",
    "reduce_frames",
    "subtract_intra_train_dark",
]

BORDER = 2
"""Pixels along the border of a region whose light says whether the region cuts its beam."""


@dataclass(frozen=True)
class Reducer:
    """A calibration as the kernel wants it; made once by `prepare`, shared by all threads.

    Attributes
    ----------
    weight, good : (y, x) f4 and u2;  origin : module (row, column) of their first pixel
    corners : (beam, 4) i8: y0, y1, x0, x1 as indices into `weight`
    poly : (3,) f4 or None;  table : (512,) f4
    saturation : ADU
    cell : (65536,) i8, row of `dark` for a memory cell number, -1 for none
    dark, border_dark : (cell, beam) f8, ADU, of the beam and of the pixels at its border;  read_variance, shot_factor : (beam,) f8, photons^2 and 1
    gain : ADU per photon
    unlit : pixels beside the beams that tell the pedestal, or None
    """

    weight: np.ndarray
    good: np.ndarray
    origin: tuple[int, int]
    corners: np.ndarray
    poly: np.ndarray | None
    table: np.ndarray
    saturation: int
    cell: np.ndarray
    dark: np.ndarray
    border_dark: np.ndarray
    read_variance: np.ndarray
    shot_factor: np.ndarray
    gain: float
    unlit: Unlit | None = None

    @property
    def n_beams(self) -> int:
        """Number of beams."""
        return len(self.corners)

    @property
    def rows(self) -> slice:
        """Module rows that hold all beams and the unlit pixels: more need not be read."""
        first, last = int(self.corners[:, 0].min()), int(self.corners[:, 1].max())
        if self.unlit is not None:
            first, last = min(first, self.unlit.rows[0]), max(last, self.unlit.rows[1])
        return slice(self.origin[0] + first, self.origin[0] + last)

    def row(self, cell_id: np.ndarray) -> np.ndarray:
        """(n,) i8, row of `dark` for memory cells; -1 for one that the dark run lacks."""
        found: np.ndarray = self.cell[np.minimum(np.asarray(cell_id).astype(np.int64), 65535)]
        return found


def prepare(calibration: xr.Dataset) -> Reducer:
    """Lay a calibration out for the kernel."""
    y, x = calibration["y"].values, calibration["x"].values
    corners = np.stack([calibration[name].values.astype(np.int64) for name in ("y0", "y1", "x0", "x1")], axis=1)
    corners -= np.array([y[0], y[0], x[0], x[0]], np.int64)
    table = calibration["linear_adu"].values
    poly = calibration["linear_poly"].values
    lookup = np.full(65536, -1, np.int64)
    known = np.isfinite(calibration["dark_adu"].values).all(axis=1)
    lookup[calibration["cell_id"].values[known].astype(np.int64)] = np.flatnonzero(known)
    return Reducer(
        weight=np.ascontiguousarray(calibration["weight"].values, np.float32),
        good=np.where(calibration["bad_pixel"].values == 0, np.uint16(0xFFFF), np.uint16(0)),
        origin=(int(y[0]), int(x[0])),
        corners=corners,
        # the constant term is the same for every frame; `dark_adu` holds it
        poly=poly[1:].astype(np.float32) if np.isfinite(poly).all() else None,
        table=table.astype(np.float32),
        saturation=int(calibration["saturation"]),
        cell=lookup,
        dark=calibration["dark_adu"].values,
        border_dark=calibration["border_dark"].values,
        read_variance=calibration["read_variance"].values,
        shot_factor=calibration["shot_factor"].values,
        gain=float(calibration["gain"]),
        unlit=prepare_unlit(calibration),
    )


def reduce_block(
    raw: np.ndarray,
    cell_id: np.ndarray,
    calibration: "xr.Dataset | Reducer",
    *,
    y0: int = 0,
    x0: int = 0,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photons per frame and beam from a block of raw frames.

    Parameters
    ----------
    raw : (n, y, x) u2, ADU: whole module or any crop that holds the beams
    cell_id : (n,) memory cell of each frame
    calibration : from `build_calibration`, or prepared (quicker for many blocks)
    y0, x0 : module pixel numbers of raw[:, 0, 0]

    Returns
    -------
    photons (n, beam) f8, their sigma (n, beam) f8, saturated good pixels (n, beam) i4. A frame of a memory cell that
    the dark run lacks gets NaN. The bits of a frame do not depend on the block or the crop it comes in.

    Raises
    ------
    DataError
        The frames are not raw uint16, or a beam lies outside them.
    """
    kernel = calibration if isinstance(calibration, Reducer) else prepare(calibration)
    if raw.dtype != np.uint16 or raw.ndim != 3:
        raise DataError(
            f"raw frames must be uint16 (n, y, x), got {raw.dtype} {raw.shape}: corrected data are no input here"
        )
    cells = np.asarray(cell_id)
    if cells.shape != raw.shape[:1]:
        raise DataError(f"{raw.shape[0]} frames but {cells.size} memory cell numbers")
    shift = (kernel.origin[0] - y0, kernel.origin[1] - x0)
    low = kernel.corners + np.array([shift[0], shift[0], shift[1], shift[1]])
    if low.min() < 0 or low[:, 1].max() > raw.shape[1] or low[:, 3].max() > raw.shape[2]:
        raise DataError(f"a beam reaches outside the frames (rows from {y0}, columns from {x0}, shape {raw.shape[1:]})")
    sums = np.empty((len(raw), kernel.n_beams))
    n_saturated = np.empty((len(raw), kernel.n_beams), np.int32)
    fixed = (raw, kernel.weight, kernel.good, kernel.corners, shift)
    if kernel.poly is not None:
        beam_sums(*fixed, kernel.poly, kernel.saturation, sums, n_saturated)
    else:
        beam_sums_table(*fixed, kernel.table, kernel.saturation, sums, n_saturated)
    row = kernel.row(cells)
    photons = (sums - np.where(row[:, None] >= 0, kernel.dark[row], np.nan)) / kernel.gain
    variance = kernel.shot_factor * np.maximum(photons, 0.0) + kernel.read_variance
    return photons, np.sqrt(variance), n_saturated


def pedestal_block(raw: np.ndarray, cell_id: np.ndarray, kernel: Reducer, *, y0: int = 0, x0: int = 0) -> np.ndarray:
    """Photons (n, beam) f8 that the pedestal adds to each beam, from the unlit pixels of the same frames.

    Parameters are those of `reduce_block`, which must have taken the frames, for a calibration with unlit pixels. NaN where
    fewer than half of the unlit pixels of a chip are near their dark level, or the dark run lacks the memory cell.

    Raises
    ------
    DataError
        There are no unlit pixels in the calibration, or they lie outside the frames.
    """
    unlit = kernel.unlit
    if unlit is None:
        raise DataError("the calibration has no unlit pixels: the pedestal is not known; set detector.pedestal: none")
    shift = (kernel.origin[0] - y0, kernel.origin[1] - x0)
    (top, bottom), (left, right) = unlit.rows, unlit.columns
    inside = top + shift[0] >= 0 and bottom + shift[0] <= raw.shape[1] and left + shift[1] >= 0
    if not (inside and right + shift[1] <= raw.shape[2]):
        raise DataError(
            f"unlit pixels lie outside the frames (rows from {y0}, columns from {x0}, shape {raw.shape[1:]}): keep more of them"
        )
    shifts: np.ndarray = unlit.shifts(raw, kernel.row(cell_id), shift) @ unlit.weight
    return shifts


def border_block(raw: np.ndarray, cell_id: np.ndarray, kernel: Reducer, *, y0: int = 0, x0: int = 0) -> np.ndarray:
    """Photons (n, beam) f8 in the pixels within `BORDER` of the border of each region.

    Parameters are those of `reduce_block`, which must have taken the frames. NaN where the dark run lacks the memory cell.
    """
    shift = (kernel.origin[0] - y0, kernel.origin[1] - x0)
    sums = border_sums(raw, kernel.weight, kernel.corners, shift, kernel.table, BORDER)
    row = kernel.row(cell_id)
    photons: np.ndarray = (sums - np.where(row[:, None] >= 0, kernel.border_dark[row], np.nan)) / kernel.gain
    return photons


def reduce_frames(frames: xr.DataArray, calibration: "xr.Dataset | Reducer") -> xr.Dataset:
    """Photons per pulse and beam of the frames of a run, on whatever dask scheduler computes them.

    The numbers are those of the pipeline's own pass over the frames (`pipeline.stages.reduce`), bit for bit, which reads
    into memory that it uses again instead; before a pedestal is taken off, which needs all frames of a run.

    Parameters
    ----------
    frames : dims (train, pulse, y, x) u2, ADU, with coordinates `present`, `cell_id` (train, pulse) and module pixel
        numbers `y`, `x`; chunked, each chunk is one task and nothing is read before the result is asked for
    calibration : from `build_calibration`, or prepared

    Returns
    -------
    dims (train, pulse, beam): `photons`, `photons_stderr` f8 (NaN where there is no frame, or no dark for its memory
    cell), `n_saturated` i4; all coords of `frames` but y and x. `present` is False and `blank` True where a frame was
    announced that holds nothing. Lazy where `frames` is.

    Raises
    ------
    DataError
        As `reduce_block`; for lazy frames when they are computed.
    """
    kernel = calibration if isinstance(calibration, Reducer) else prepare(calibration)
    ordered = frames.transpose("train", "pulse", "y", "x")
    announced = ordered["present"]
    photons, sigma, n_saturated, recorded = xr.apply_ufunc(
        _reduce_chunk,
        ordered.variable,
        ordered["cell_id"].variable,
        announced.variable,
        input_core_dims=[["y", "x"], [], []],
        output_core_dims=[["beam"], ["beam"], ["beam"], []],
        kwargs={"kernel": kernel, "y0": int(frames["y"][0]), "x0": int(frames["x"][0])},
        dask="parallelized",
        output_dtypes=[np.float64, np.float64, np.int32, np.bool_],
        dask_gufunc_kwargs={"output_sizes": {"beam": kernel.n_beams}, "allow_rechunk": True},
    )
    blank = announced.variable & ~recorded
    if "blank" in frames.coords:
        # a stored cube knows its blank frames already
        blank = blank | ordered["blank"].variable
    coords = {name: c for name, c in ordered.coords.items() if not {"y", "x"} & set(c.dims)}
    data = {"photons": photons, "photons_stderr": sigma, "n_saturated": n_saturated}
    return PULSES.describe(xr.Dataset(data, coords).assign_coords(present=recorded, blank=blank))


def _reduce_chunk(
    raw: np.ndarray, cell_id: np.ndarray, present: np.ndarray, *, kernel: Reducer, y0: int, x0: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Reduce frames (train, pulse, y, x); see `reduce_block`. Also returns which frames were recorded."""
    flat = np.ascontiguousarray(raw).reshape(-1, *raw.shape[2:])
    photons, sigma, n_saturated = reduce_block(flat, cell_id.reshape(-1), kernel, y0=y0, x0=x0)
    recorded = present.reshape(-1) & not_blank(flat)
    photons[~recorded], sigma[~recorded], n_saturated[~recorded] = np.nan, np.nan, 0
    grid = raw.shape[:2]
    tables = (values.reshape(*grid, kernel.n_beams) for values in (photons, sigma, n_saturated))
    return (*tables, recorded.reshape(grid))


def subtract_intra_train_dark(pulses: xr.Dataset, dark_frame: xr.DataArray) -> xr.Dataset:
    """Take off what frames without X-rays inside the train show: offsets that drifted since the dark run.

    N' = N - <N_dark>, the mean over the dark frames of the same train (over the run for a train that has none). Its
    variance is added; it is shared by the pulses of a train, but small: read noise against photon noise.

    Parameters
    ----------
    pulses : dims (train, pulse, beam): `photons`, `photons_stderr`, from `reduce_frames`
    dark_frame : (train, pulse) bool, frames known to have no X-rays

    Returns
    -------
    The same with `photons` and `photons_stderr` corrected, attrs `n_dark_frames` and, in photons, `dark_drift`
    (beam), the mean that was taken off. Without usable dark frames everything stays as it is.
    """
    xr.align(pulses["photons"], dark_frame, join="exact", copy=False)
    dark = pulses["photons"].where(dark_frame)
    count = dark.notnull().sum("pulse")
    n_dark = int(count.sum()) // max(pulses.sizes["beam"], 1)
    if n_dark == 0:
        return pulses.assign_attrs(n_dark_frames=0)
    per_train, variance = dark.mean("pulse"), pulses["photons_stderr"].where(dark_frame) ** 2
    offset = per_train.fillna(dark.mean(("train", "pulse")))
    doubt = (variance.sum("pulse") / count.where(count > 0) ** 2).fillna(
        variance.sum(("train", "pulse")) / count.sum("train") ** 2
    )
    corrected = pulses.assign(
        photons=(pulses["photons"] - offset).transpose(*pulses["photons"].dims),
        photons_stderr=((pulses["photons_stderr"] ** 2 + doubt) ** 0.5).transpose(*pulses["photons"].dims),
    )
    drift = [float(v) for v in offset.mean("train").values]
    return PULSES.describe(corrected).assign_attrs(n_dark_frames=n_dark, dark_drift=drift)
