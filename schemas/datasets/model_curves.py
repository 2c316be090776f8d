"""Curves that science returns as arrays of their own: densities of states, the forward model."""

from __future__ import annotations

from schemas.datasets.spec import Variable

__all__ = ["DOS", "DOS_ENERGY", "EDGE", "FORWARD"]

DOS_ENERGY = Variable(("energy",), "eV", "photon energy")
DOS = Variable(("energy",), "1/eV", "density of states")
EDGE = Variable(("energy",), "1", "tail of the edge above the window, optical density")

FORWARD = {
    "ground_od": Variable(("energy",), "1", "optical density of the ground state"),
    "excited_od": Variable(("energy",), "1", "optical density of the excited state"),
    "line_shift": Variable(("delay",), "eV", "shift of the excited line against its position at late delays"),
    "trace": Variable(("delay",), "1", "difference at the excited line"),
    "excited_fraction": Variable(("delay",), "1", "excited fraction"),
    "delta_xas": Variable(("delay", "energy"), "1", "change of optical density, pumped − unpumped"),
}
"""What the noise-free model returns, by function; dims are those of the axes that it is given."""
