"""The shape of a line."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["LN16", "gaussian"]

Floats = NDArray[np.float64]
LN16 = 4.0 * np.log(2.0)
"""So that the width is the full width at half maximum."""


def gaussian(energy: Floats, position: Floats | float, fwhm: Floats | float) -> Floats:
    """Gaussian of unit height; arguments broadcast."""
    return np.asarray(np.exp(-LN16 * ((energy - position) / fwhm) ** 2))
