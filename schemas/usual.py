"""What is not measured is unknown by its usual size: the `usual` part of a config."""

from __future__ import annotations

from schemas.strict import Positive, Strict

__all__ = ["USUAL", "Usual"]


class Usual(Strict):
    """Usual sizes of what a beamtime adds to the ratio of the beams without pump, one standard deviation each."""

    films: Positive = 0.02
    """Relative difference of the films' thickness."""
    splitting: Positive = 1e-3
    """Change of the splitting ratio with photon energy [OD per eV]."""
    drift: Positive = 3e-3
    """Change of the ratio in time [OD per hour]; half as much in an hour comes and goes at random."""
    wear: Positive = 3e-3
    """Relative loss of the pumped film per run with pump; a third as much differs from run to run."""


USUAL = Usual()
