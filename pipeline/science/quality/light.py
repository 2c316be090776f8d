"""Does the difference depend on how bright the pulses were, or on light that falls beside the regions of the beams?

Neither should. Where it does, the detector is not linear, its pedestal is off, or a region cuts its beam.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.stats import chi2, rankdata

from pipeline.science.spectra.difference import Along, TrainNoise, estimate
from pipeline.science.sums.accumulate import accumulate, mean_coordinate
from pipeline.science.sums.contrast import ratio

__all__ = ["border_change", "intensity_test"]

_INTENSITY = ("intensity_chi2", "intensity_p", "intensity_change", "intensity_change_stderr")
_BORDER = ("border_change", "border_change_stderr")


def intensity_test(
    pulses: xr.Dataset, cell: np.ndarray, *, along: Along = "energy", train_noise: TrainNoise | None = None
) -> dict[str, float]:
    """Compare the difference of the brightest with that of the dimmest third of the pulses of every bin.

    The reference beam, which the difference does not use, says how bright a pulse is. Without one it is the geometric mean
    of the two others: its noise moves both alike, so that the choice does not favour either.

    Parameters
    ----------
    pulses
        photons, photons_stderr (train, pulse, beam).
    cell
        Bin of each pulse, -1 for those that do not count (train, pulse).
    along
        Coordinate that the run scans.
    train_noise
        Variance that the pulses of a train share, see `pipeline.science.spectra.scans.noise_of_trains`.

    Returns
    -------
    dict
        intensity_chi2: χ² per degree of freedom of the difference between the thirds; intensity_p: how probable that is by
        chance; intensity_change and intensity_change_stderr: its mean, bright less dim [OD]. NaN without pulses to compare.
    """
    found = dict.fromkeys(_INTENSITY, float("nan"))
    third = _thirds(_brightness(pulses), cell)
    if not ((third == 0).any() and (third == 2).any()):
        return found
    n_cells = int(cell.max()) + 1
    axis = mean_coordinate(accumulate(pulses, cell, n_cells, along=along), along)[0]
    filled = np.flatnonzero(np.isfinite(axis.values))
    value, variance = [], []
    for number in (0, 2):
        sums = accumulate(pulses, np.where(third == number, cell, -1), n_cells, along=along).isel(cell=filled)
        axis_here = axis.isel(cell=filled)
        one = estimate(sums, ratio("pumped", "unpumped"), along=along, axis=axis_here, train_noise=train_noise)
        value.append(one[0].values)
        variance.append(one[1].values)
    # delta_xas is a constant less the ratio
    change, weight = value[0] - value[1], 1.0 / (variance[0] + variance[1])
    good = np.isfinite(change) & np.isfinite(weight)
    if not good.any():
        return found
    statistic, total = float(np.sum((weight * change**2)[good])), float(np.sum(weight[good]))
    return {
        "intensity_chi2": statistic / int(good.sum()),
        "intensity_p": float(chi2.sf(statistic, int(good.sum()))),
        "intensity_change": float(np.sum((weight * change)[good])) / total,
        "intensity_change_stderr": total**-0.5,
    }


def border_change(pulses: xr.Dataset) -> dict[str, float]:
    """Return how the light at the border of the regions changes over the energies of a run, pumped less unpumped beam.

    Light that moves across the border of a region is lost from its beam, and about as much lies just inside: a change of this
    size in a beam changes its optical density by as much. A straight line through the trains, times the span of energies;
    the error is that of their scatter.

    Parameters
    ----------
    pulses
        border (train, beam), energy (train); without border, or at one energy: NaN.

    Returns
    -------
    dict
        border_change and border_change_stderr [OD].
    """
    found = dict.fromkeys(_BORDER, float("nan"))
    if "border" not in pulses:
        return found
    beams = [str(b) for b in pulses["beam"].values]
    border = pulses["border"].transpose("train", "beam").values
    value = border[:, beams.index("pumped")] - border[:, beams.index("unpumped")]
    energy = pulses["energy"].values
    good = np.isfinite(value) & np.isfinite(energy)
    if good.sum() < 10 or np.ptp(energy[good]) == 0:
        return found
    x = energy[good] - energy[good].mean()
    slope = float(x @ value[good]) / float(x @ x)
    left = value[good] - value[good].mean() - slope * x
    error = float(np.sqrt(left @ left / (len(x) - 2) / (x @ x)))
    return {"border_change": slope * float(np.ptp(x)), "border_change_stderr": error * float(np.ptp(x))}


def _brightness(pulses: xr.Dataset) -> np.ndarray:
    """(train, pulse) f8, photons."""
    beams = [str(b) for b in pulses["beam"].values]
    photons = pulses["photons"].transpose("train", "pulse", "beam").values
    if "reference" in beams:
        reference: np.ndarray = photons[..., beams.index("reference")]
        return reference
    both = photons[..., beams.index("pumped")] * photons[..., beams.index("unpumped")]
    return np.sqrt(np.maximum(both, 0.0))


def _thirds(light: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """(train, pulse) 0, 1, 2 from dim to bright inside each bin; -1 for what does not count, or in bins of few pulses."""
    third = np.full(cell.shape, -1)
    used = (cell >= 0) & np.isfinite(light)
    order = np.argsort(cell[used], kind="stable")
    numbers, first = np.unique(cell[used][order], return_index=True)
    found = np.full(int(used.sum()), -1)
    for part in np.split(order, first[1:]) if len(numbers) else []:
        if len(part) >= 6:
            rank = rankdata(light[used][part], method="ordinal") - 1
            found[part] = rank * 3 // len(part)
    third[used] = found
    return third
