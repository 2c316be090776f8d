"""Spectra as the demo scenario would give them, straight from the forward model and photon counts, without frames."""

from pathlib import Path

import numpy as np
import xarray as xr

from pipeline.science import forward
from pipeline.simulate import load_scenario
from pipeline.simulate.timetable import build_model
from schemas.scenario import EnergyScan, grid_values

SCENARIO = load_scenario(Path(__file__).parents[2] / "sample_runs" / "demo.yaml")
MODEL = build_model(SCENARIO)
WINDOW = (526.5, 531.0)
MIN_DELAY = 4.0
GAUSSIAN_FWHM = SCENARIO.absorption.resolution
_SCANS = [r for r in SCENARIO.runs if isinstance(r, EnergyScan)]
FLUENCE = np.unique([r.fluence for r in _SCANS])
DELAY = np.unique([r.delay for r in _SCANS])
ENERGY = np.array(sorted(grid_values(_SCANS[0].energies)))
_BEAMS = SCENARIO.beams
PHOTONS = _BEAMS.photons * _BEAMS.width * _BEAMS.height * np.array(_BEAMS.flux)
"""Per pulse through no sample: pumped, unpumped, reference."""
PULSES = SCENARIO.machine.pulses_per_train
FLAT_FIELD_PULSES = 50 * PULSES


def alpha_of(fluence: np.ndarray) -> np.ndarray:
    """Share of the excited state at the reference delay."""
    reference = xr.DataArray(MODEL.reference_delay)
    return np.array([float(forward.excited_fraction(MODEL, reference, fluence=f)) for f in fluence])


def dos() -> tuple[xr.DataArray, xr.DataArray]:
    """The DOS files of the scenario: both states before broadening."""
    sharp = forward.without_resolution(MODEL)
    energy = xr.DataArray(np.arange(514.0, 547.0, 0.02), dims="energy")
    energy = energy.assign_coords(energy=energy)
    return forward.ground_od(sharp, energy), forward.excited_od(sharp, energy)


def demo_spectra(
    rng: np.random.Generator,
    *,
    alpha: np.ndarray | None = None,
    fluence: np.ndarray = FLUENCE,
    delay: np.ndarray = DELAY,
    pulses: int = PULSES,
    model: forward.ForwardModel = MODEL,
    flat_field_pulses: int = FLAT_FIELD_PULSES,
) -> xr.Dataset:
    """One simulated experiment; `alpha` (fluence) holds at delays from `MIN_DELAY` on, by default the scenario's.

    Every (fluence, delay) that the scenario measures has shot noise of its own in three beams; the constant between
    the beams comes from one flat field and is in every difference.
    """
    share = np.interp(fluence, FLUENCE, alpha_of(FLUENCE)) if alpha is None else np.asarray(alpha)
    energy = xr.DataArray(ENERGY, dims="energy")
    ground = forward.ground_od(model, energy).values
    difference = forward.excited_od(model, energy).values - ground
    shape = (len(fluence), len(delay), len(ENERGY))
    late = delay >= MIN_DELAY
    change = (share[:, None] * late)[:, :, None] * difference
    measured = np.ones(shape[:2], bool) if len(delay) == 1 else late[None, :] | (fluence[:, None] == fluence[0])
    truth = [ground + change, np.broadcast_to(ground, shape), np.zeros(shape)]
    counts = [rng.poisson(pulses * n * np.exp(-od)) for n, od in zip(PHOTONS, truth, strict=True)]
    flux = -np.log(PHOTONS[0] / PHOTONS[1])
    flat_error = np.sqrt(np.sum(1.0 / (PHOTONS[:2] * flat_field_pulses * np.exp(-ground.mean()))))
    constant = -flux + flat_error * rng.standard_normal()
    unpumped = -np.log(counts[1] / counts[2])
    delta = -np.log(counts[0] / counts[1]) + constant
    variance = [1.0 / c for c in counts]
    data = {
        "od_unpumped": (unpumped, variance[1] + variance[2]),
        "od_pumped": (unpumped + delta, variance[0] + variance[2] + flat_error**2),
        "delta_xas": (delta, variance[0] + variance[1] + flat_error**2),
    }
    gap = np.where(measured[:, :, None], 1.0, np.nan)
    dims = ("fluence", "delay", "energy")
    variables = {n: (dims, v * gap) for n, (v, _) in data.items()}
    variables |= {f"{n}_stderr": (dims, np.sqrt(v) * gap) for n, (_, v) in data.items()}
    spectra = xr.Dataset(variables, coords={"fluence": fluence, "delay": delay, "energy": ENERGY})
    return spectra.assign(flat_field_constant=constant, flat_field_constant_stderr=flat_error)


def line_of(alpha: np.ndarray, fluence: np.ndarray = FLUENCE) -> tuple[float, float]:
    """Slope and intercept of shares that lie on a line."""
    slope, intercept = np.polyfit(fluence, alpha, 1)
    return float(slope), float(intercept)


def pulls_of(results: list[xr.Dataset], alpha: np.ndarray) -> dict[str, np.ndarray]:
    """(estimate - truth) / standard error of everything that has a truth, one row per experiment."""
    truth = dict(zip(("slope", "intercept"), line_of(alpha), strict=True))
    pulls = {
        name: np.array([float((r[name] - value) / r[f"{name}_stderr"]) for r in results])[:, None]
        for name, value in truth.items()
    }
    pulls["alpha"] = np.array([((r["alpha"] - alpha) / r["alpha_stderr"]).values for r in results])
    delays = np.array([((r["alpha_delay"] - alpha[:, None]) / r["alpha_delay_stderr"]).values for r in results])
    late = results[0]["delay"].values >= MIN_DELAY
    pulls["alpha_delay"] = delays[:, :, late].reshape(len(results), -1)
    return pulls
