"""Where in the spectrum the pump acts: the window for peaks and mixture when none is given."""

from __future__ import annotations

import numpy as np
import xarray as xr

__all__ = ["difference_window"]


def difference_window(spectra: xr.Dataset) -> tuple[float, float]:
    """Return the stretch of energy [eV] around the strongest positive and negative features of the difference.

    The difference is averaged over fluences and delays by its own errors. The window is centred between its maximum
    and the deepest minimum near it, and reaches 2.3 times their distance to either side, but at least eight bins.
    """
    energy = spectra["energy"].values
    weight = (1.0 / spectra["delta_xas_stderr"] ** 2).where(np.isfinite(spectra["delta_xas"]), 0.0).fillna(0.0)
    total = weight.sum(["fluence", "delay"])
    mean = (
        ((weight * spectra["delta_xas"].fillna(0.0)).sum(["fluence", "delay"]) / total.where(total > 0))
        .fillna(0.0)
        .values
    )
    significance = mean * np.sqrt(total.values)
    strongest = int(np.argmax(np.abs(significance)))
    other = -np.sign(significance[strongest]) * significance
    near = np.abs(energy - energy[strongest]) <= 0.008 * energy[strongest]
    partner = int(np.argmax(np.where(near, other, -np.inf)))
    distance = abs(energy[partner] - energy[strongest])
    step = float(np.median(np.diff(energy))) if len(energy) > 1 else 1.0
    half = max(2.3 * distance, 8 * step)
    centre = 0.5 * (energy[partner] + energy[strongest])
    return float(max(centre - half, energy[0])), float(min(centre + half, energy[-1]))
