"""The constant under a kinetic trace: whether the data demand one that the reference does not have, and its error."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2 as chi2_distribution

from pipeline.science.kinetics._basis import fill_basis
from pipeline.science.kinetics.intervals import Covariance, error_scale
from pipeline.science.kinetics.model import amplitude_products, product_derivatives
from pipeline.science.kinetics.problem import Problem
from pipeline.science.kinetics.search import Solution, baselines, refine

__all__ = ["baseline_errors", "baseline_is_demanded"]

FloatArray = NDArray[np.float64]
_EARLY = 3.0
"""So many σ of the response before time zero there is no signal yet."""
_CHANCE = 1.0 / 370.0
"""Probability, by chance, of what counts as a constant: 3 σ."""


def baseline_is_demanded(problem: Problem, best: Solution) -> bool:
    """Whether the traces stand on constants by more than chance allows (1 in 370): so say χ² and the points before time zero.

    χ² alone would take what a wrong time zero leaves for a constant.
    """
    data = problem.data
    free = problem._replace(data=data._replace(offset=np.ones_like(data.offset)))
    on_it = refine(free, best, thorough=True, tolerance=1e-2)
    scale = error_scale(free, on_it)
    early = np.square(data.weight * (data.delay < on_it.theta[0] - _EARLY * on_it.theta[1]))
    gains = np.square((early * data.signal).sum(axis=1)) / np.maximum(early.sum(axis=1), 1e-300)
    used = int((data.weight > 0).any(axis=1).sum()), int((early > 0).any(axis=1).sum())
    chances = chi2_distribution.sf([(best.cost - on_it.cost) / scale, gains.sum() / scale], used)
    return bool(used[1] and (chances < _CHANCE).all())


def baseline_errors(problem: Problem, best: Solution, spread: Covariance) -> tuple[FloatArray, FloatArray]:
    """Return the constant of each trace and its standard error (trace), in scaled units; zeros where there is none."""
    (theta, amplitudes, signs, _), data = best, problem.data
    phi, d_phi = np.empty((data.ridge.size, data.delay.size)), np.empty((theta.size, data.ridge.size, data.delay.size))
    fill_basis(theta, data, phi, d_phi, True)
    weight = np.square(data.weight)
    precision = weight.sum(axis=1) + data.offset
    slopes = np.einsum("ec,pcj,ej->ep", amplitude_products(amplitudes, data.power), d_phi, weight)
    inner = np.einsum("ekc,cj,ej->ek", product_derivatives(amplitudes, data.power), phi, weight)
    gain = signs[:, None] * np.concatenate([slopes, inner], axis=1) / precision[:, None]
    variance = 1.0 / precision + np.einsum("ep,epq,eq->e", gain, spread.traces, gain)
    return baselines(problem, best), np.sqrt(variance)
