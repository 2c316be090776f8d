"""Pulses → mergeable sums: all that ratios of sums and their errors need, cell by cell.

A cell is one bin of (fluence, energy, delay). What is kept per cell: the number of pulses and of trains, the photon sums
S_a of every beam, Σ_trains X_a·X_b of the trains' photon sums X (the train is the unit of resampling), the variance
expected from photon and read noise, and the first two photon-weighted moments of energy and delay: the bin's own
coordinates.

Where pulses with the pump and without it alternate, those without are kept apart by condition, as if further beams had
seen them (`without_pump`): what pulses of one train share is in the products of both, so it cancels in their difference.

Every sum is held in three slices on fixed grids of powers of two (`LIMB_BITS` apart), in which float64 additions are
exact. Sums of any two sets of trains therefore add up to those of both together, bit for bit, in any order and grouping,
and taking a part off again (`without`) leaves exactly the rest. J. Demmel, H. D. Nguyen, IEEE Trans. Comput. 64, 2060
(2015) call this pre-rounding. The finest grids (`_FINEST`) lie 10⁻⁷ to 10⁻¹⁴ below one photon.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import numpy as np
import xarray as xr

from pipeline.science.sums._accumulate_kernel import add_trains
from schemas.datasets.measured import CONDITIONS, SUMS

__all__ = [
    "accumulate",
    "accumulate_runs",
    "join_limbs",
    "mean_coordinate",
    "merge_sums",
    "total",
    "without",
    "without_pump",
]

Along = Literal["energy", "delay"]

_MOMENTS = ("energy_1", "energy_2", "delay_1", "delay_2")
_LIMBS = 3
LIMB_BITS = 32
"""Bits between the grids: a cell holds up to 2²² trains before a slice could lose a bit."""
_FINEST = {"photons": -48, "shot_variance": -48, "energy_1": -44, "energy_2": -36, "delay_1": -48, "delay_2": -48}
_FINEST |= {"product": -40, "product_pulses": -40, "product_shifted": -28, "product_mixed": -36}
"""Power of two of the finest grid of each sum. The largest sum that is exact is 2¹¹⁷ times that; beyond, it rounds."""
_FEW_TRAINS = 200
"""Fewer trains than this are not worth a thread."""


def without_pump(beam: str) -> str:
    """Return under which name sums by condition hold a beam's pulses without pump."""
    return f"{beam}_{CONDITIONS[1]}"


def accumulate(
    pulses: xr.Dataset, cell: np.ndarray, n_cells: int, *, along: Along = "energy", by_condition: bool = False
) -> xr.Dataset:
    """Return the sums of one run's pulses in given cells.

    Parameters
    ----------
    pulses
        photons, photons_stderr (train, pulse, beam), energy (train) [eV], delay (train, pulse) [ps].
    cell
        Integer (train, pulse): number of the cell, -1 for pulses that do not count.
    n_cells
        Number of cells.
    along
        Coordinate that is scanned: a slope against it inside a cell is not noise, see `pipeline.science.sums.contrast`.
    by_condition
        See `accumulate_runs`.

    Returns
    -------
    Dataset over (limb, cell, beam, beam_b, pair): n_pulses, n_trains; photons; shot_variance; the moments energy_1,
    energy_2, delay_1, delay_2; and with the trains' photon sums X and sums Y of photons × scanned coordinate: product
    Σ X_a X_b, product_mixed Σ X_a Y_b, product_shifted Σ Y_a Y_b; product_pulses Σ x_a x_b is over single pulses. `pair`
    counts beams a ≤ b. What is summed over trains has the slices `limb`, see `join_limbs`.
    """
    store = _Store(n_cells, pulses.sizes["beam"], len(CONDITIONS) if by_condition else 1)
    rows = np.where((cell >= 0).any(axis=1), 0, -1)
    store.add(pulses, rows, np.empty(0), along, column=np.ascontiguousarray(cell, np.int64))
    return store.dataset(pulses["beam"].values, along)


def accumulate_runs(
    runs: Sequence[xr.Dataset],
    rows: Iterable[np.ndarray],
    n_rows: int,
    *,
    delay_edges: Sequence[np.ndarray] | None = None,
    along: Along = "energy",
    by_condition: bool = False,
    workers: int = 1,
) -> xr.Dataset:
    """Return the sums of several runs over (row, delay bin) in one pass over their pulses.

    Memory is that of the sums, whatever the number of runs; no array as long as the pulses is made.

    Parameters
    ----------
    runs
        Pulses as for `accumulate`, with `drop_reason` (train, pulse): pulses with another value than 0 do not count.
    rows
        Of each run, integer (train): row of the train's cells, -1 for trains that do not count.
    n_rows
        Number of rows.
    delay_edges
        Of each run, edges of the delay bins [ps], the same number for all, not decreasing; pulses go by their own
        delay, the last edge belongs to the last bin. None: one bin, whatever the delay.
    along
        Coordinate that is scanned.
    by_condition
        Whether pulses of the condition `off` are kept apart, see `without_pump`; the cells' energy and delay, n_pulses and
        n_trains are then those of the pulses with pump, n_pulses_off and n_trains_off those of the others, and
        n_trains_any counts trains with either.
    workers
        Threads. They share no cell, and sums are exact: the result does not depend on their number.

    Returns
    -------
    Dataset as from `accumulate`; cell = row · number of delay bins + delay bin.
    """
    edges = [np.empty(0)] * len(runs) if delay_edges is None else [np.asarray(e, np.float64) for e in delay_edges]
    n_conditions = len(CONDITIONS) if by_condition else 1
    store = _Store(n_rows * max(len(edges[0]) - 1, 1), runs[0].sizes["beam"], n_conditions)
    for run, row, bins in zip(runs, rows, edges, strict=True):
        store.add(run, np.asarray(row, np.int64), np.ascontiguousarray(bins), along, workers=workers)
    return store.dataset(runs[0]["beam"].values, along)


class _Store:
    """The sums of all cells, to which runs are added."""

    def __init__(self, n_cells: int, n_beams: int, n_conditions: int) -> None:
        self.beams = (0,) * n_beams
        self.parts = _layout(n_beams * n_conditions)
        n_terms = max(part.stop for part in self.parts.values())
        self.n = np.zeros((n_cells, n_conditions), np.int64)
        self.trains = np.zeros((n_cells, n_conditions + 1), np.int64)
        self.limbs = np.zeros((_LIMBS, n_cells, n_terms))
        # 1.5 · 2⁵² units of a grid: adding it rounds to the grid, for either sign
        self.magic = np.empty((_LIMBS, n_terms))
        for name, part in self.parts.items():
            for limb in range(_LIMBS):
                self.magic[limb, part] = 1.5 * 2.0 ** (52 + _FINEST[name] + LIMB_BITS * (_LIMBS - 1 - limb))

    def add(
        self,
        run: xr.Dataset,
        rows: np.ndarray,
        edges: np.ndarray,
        along: Along,
        *,
        column: np.ndarray | None = None,
        workers: int = 1,
    ) -> None:
        """Add the pulses of a run, trains in the order of their rows, so that the cells in use stay in the cache."""
        chosen = np.flatnonzero(rows >= 0)
        chosen = chosen[np.argsort(rows[chosen], kind="stable")]
        of_pulse = ("train", "pulse")
        drop_reason = np.zeros((0, 0)) if column is not None else run["drop_reason"].transpose(*of_pulse).values
        drop_reason = np.ascontiguousarray(drop_reason, np.uint8)
        photons, stderr = (_floats(run[name].transpose(*of_pulse, "beam")) for name in ("photons", "photons_stderr"))
        energy, delay = np.nan_to_num(_floats(run["energy"])), _floats(run["delay"].transpose(*of_pulse))
        given = np.zeros((0, 0), np.int64) if column is None else column
        condition = np.zeros((0, 0), np.uint8)
        if self.n.shape[1] > 1 and "condition" in run.coords:
            condition = np.ascontiguousarray(run["condition"].transpose(*of_pulse).values, np.uint8)
        bins = (edges, _scale(edges))
        scanned = 0 if along == "energy" else 1
        sums = (self.n, self.trains, self.limbs)

        def add_some(trains: np.ndarray) -> None:
            pulses = (drop_reason, condition, photons, stderr, energy, delay)
            add_trains(trains, rows, given, *bins, *pulses, scanned, self.beams, self.magic, *sums)

        parts = _split(chosen, rows, workers if len(chosen) >= _FEW_TRAINS else 1)
        if len(parts) == 1:
            add_some(parts[0])
        else:
            with ThreadPoolExecutor(workers) as pool:
                list(pool.map(add_some, parts))

    def dataset(self, beams: np.ndarray, along: Along) -> xr.Dataset:
        """Return the sums by name; they share memory with this object."""
        data: dict[str, tuple[object, np.ndarray]] = {
            "n_pulses": ("cell", self.n[:, 0]),
            "n_trains": ("cell", self.trains[:, 0]),
        }
        if self.n.shape[1] > 1:
            counts = {
                "n_pulses_off": self.n[:, 1],
                "n_trains_off": self.trains[:, 1],
                "n_trains_any": self.trains[:, 2],
            }
            data |= {name: ("cell", values) for name, values in counts.items()}
            beams = np.array([*beams, *(without_pump(str(b)) for b in beams)])
        for name, part in self.parts.items():
            values, dims = self.limbs[:, :, part], SUMS[name].dims
            shape = (*values.shape[:2], *(len(beams) if d.startswith("beam") else values.shape[2] for d in dims[2:]))
            data[name] = (dims, values.reshape(shape))
        sums = SUMS.describe(xr.Dataset(data, coords={"beam": beams}))
        for name, moment in (("product_mixed", 1), ("product_shifted", 2)):
            sums[name].attrs["units"] = SUMS[f"{along}_{moment}"].units
        return sums


def _layout(n_beams: int) -> dict[str, slice]:
    """Return where each sum lies among a cell's terms, as the kernel writes them."""
    n_pairs = n_beams * (n_beams + 1) // 2
    sizes = {"photons": n_beams, "shot_variance": n_beams, **dict.fromkeys(_MOMENTS, 1)}
    sizes |= dict.fromkeys(("product", "product_pulses", "product_shifted"), n_pairs)
    sizes |= {"product_mixed": n_beams**2}
    ends = np.cumsum(list(sizes.values())).tolist()
    return {name: slice(end - size, end) for (name, size), end in zip(sizes.items(), ends, strict=True)}


def _scale(edges: np.ndarray) -> float:
    """Return the bins per unit of equal bins, 0 for others."""
    span = float(np.ptp(edges)) if len(edges) else np.inf
    equal = np.isfinite(span) and np.ptp(np.diff(edges)) < 1e-6 * span
    return (len(edges) - 1) / span if equal else 0.0


def _floats(array: xr.DataArray) -> np.ndarray:
    return np.ascontiguousarray(array.values, np.float64)


def _split(chosen: np.ndarray, rows: np.ndarray, parts: int) -> list[np.ndarray]:
    """Cut trains, sorted by row, into parts of about equal length that share no row."""
    sorted_rows = rows[chosen]
    wanted = [len(chosen) * i // parts for i in range(1, parts)]
    cuts = np.unique(np.searchsorted(sorted_rows, sorted_rows[wanted])) if wanted else np.empty(0, np.int64)
    return np.split(chosen, cuts[cuts > 0])


def merge_sums(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return the sums of all parts together: the same bits in any order and grouping.

    The parts must be of different trains: a train split between two parts would count as two.
    """
    with xr.set_options(arithmetic_join="exact", keep_attrs=True):
        return functools.reduce(operator.add, parts)


def without(whole: xr.Dataset, part: xr.Dataset) -> xr.Dataset:
    """Return the sums of a whole less those of one of its parts: exactly those of the other parts."""
    with xr.set_options(arithmetic_join="exact", keep_attrs=True):
        return whole - part


def join_limbs(sums: xr.Dataset) -> xr.Dataset:
    """Return sums with their slices put together: plain float64, which merge no longer exactly."""
    return sums.assign({str(name): total(sums, str(name)) for name, v in sums.data_vars.items() if "limb" in v.dims})


def total(sums: xr.Dataset, name: str) -> xr.DataArray:
    """Return one of the sums in plain float64, from slices or settled ones."""
    value = sums[name]
    if "limb" not in value.dims:
        return value
    # from the finest slice up
    high, middle, low = (value.isel(limb=i) for i in range(_LIMBS))
    return ((low + middle) + high).assign_attrs(value.attrs)


def mean_coordinate(sums: xr.Dataset, name: str, *, over: Sequence[str] = ()) -> tuple[xr.DataArray, xr.DataArray]:
    """Return the photon-weighted mean of energy or delay in each cell, of pulses with pump, and its variance; NaN in empty cells.

    `over`: dims of cells that are taken together.
    """
    seen = [b for b in sums["beam"].values if not str(b).endswith(without_pump(""))]
    weight, first, second = (
        what.sum(dims) if dims else what
        for what, dims in (
            (total(sums, "photons").sel(beam=seen), ["beam", *over]),
            (total(sums, f"{name}_1"), [*over]),
            (total(sums, f"{name}_2"), [*over]),
        )
    )
    weight = weight.where(weight > 0)
    mean = first / weight
    return mean, (second / weight - mean**2).clip(min=0.0)
