"""Which pulses count, and why the others do not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from schemas.datasets.measured import CONDITIONS, DROP_REASON

__all__ = ["REASONS", "count_reasons", "only_condition", "only_pulses", "select_pulses"]

REASONS = (
    "used",
    "absent",
    "dark",
    "excluded",
    "no_calibration",
    "low_intensity",
    "saturated",
    "no_energy",
    "no_delay",
    "no_condition",
    "outside_bins",
)
"""Why a pulse was left out; the first that applies. Position 0 is `used`."""


def select_pulses(
    pulses: xr.Dataset,
    *,
    min_intensity: float = 0.1,
    max_saturated: int = 0,
    exclude_pulses: Sequence[int] = (),
    need_delay: bool = True,
    need_energy: bool = True,
) -> xr.DataArray:
    """Return the reason code of every pulse, 0 where it is used (see `REASONS`).

    The intensity is that of the reference beam, or of the unpumped beam where there is none: a threshold on the
    pumped beam would select on the quantity that is measured.

    Parameters
    ----------
    pulses
        photons and n_saturated (train, pulse, beam), present and dark_frame (train, pulse), energy, delay, and where it is
        known the condition (train, pulse).
    min_intensity
        Floor as a fraction of the median intensity of the run's X-ray pulses.
    max_saturated
        Saturated pixels allowed, all beams together.
    exclude_pulses
        Pulse ids left out.

    Returns
    -------
    DataArray (train, pulse) of uint8, CF flag attributes.
    """
    beams = [str(b) for b in pulses["beam"].values]
    monitor = "reference" if "reference" in beams else "unpumped"
    photons = pulses["photons"].values
    intensity = photons[:, :, beams.index(monitor)]
    absent = ~pulses["present"].values
    dark = pulses["dark_frame"].values & ~absent
    calibrated = np.isfinite(photons).all(axis=2)
    lit = calibrated & ~dark
    floor = min_intensity * np.median(intensity[lit]) if lit.any() else np.inf
    with np.errstate(invalid="ignore"):
        low = ~(intensity > max(floor, 0.0)) | (photons <= 0).any(axis=2)
    excluded = np.isin(pulses["pulse_id"].values, np.asarray(exclude_pulses, np.int64))[None, :]
    conditions = [
        absent,
        dark & low,
        np.broadcast_to(excluded, absent.shape),
        ~calibrated,
        low,
        pulses["n_saturated"].values.sum(axis=2) > max_saturated,
        need_energy & np.broadcast_to(np.isnan(pulses["energy"].values)[:, None], absent.shape),
        need_delay & np.isnan(pulses["delay"].values),
        _unknown_condition(pulses),
    ]
    code = np.select(conditions, np.arange(1, len(conditions) + 1), default=0).astype(np.uint8)
    flags = {"flag_values": list(range(len(REASONS))), "flag_meanings": " ".join(REASONS)}
    return xr.DataArray(code, dims=DROP_REASON.dims, attrs=DROP_REASON.attrs | flags)


def _unknown_condition(pulses: xr.Dataset) -> np.ndarray:
    if "condition" not in pulses.coords:
        return np.zeros(pulses["present"].shape, bool)
    unknown: np.ndarray = pulses["condition"].transpose("train", "pulse").values >= len(CONDITIONS)
    return unknown


def count_reasons(code: np.ndarray) -> dict[str, int]:
    """Return the number of pulses by reason."""
    counts = np.bincount(np.asarray(code).ravel(), minlength=len(REASONS))
    return {reason: int(n) for reason, n in zip(REASONS, counts, strict=True)}


def only_condition(run: xr.Dataset, condition: int) -> xr.Dataset:
    """Return a run in which only pulses of one condition count; all do where no condition is known."""
    if "condition" not in run.coords:
        return run
    return _only(run, run["condition"].transpose("train", "pulse").values == condition)


def only_pulses(run: xr.Dataset, pulses: np.ndarray) -> xr.Dataset:
    """Return a run in which only some pulses of each train count."""
    return _only(run, np.isin(np.arange(run.sizes["pulse"]), pulses))


def _only(run: xr.Dataset, chosen: np.ndarray) -> xr.Dataset:
    code = np.where(chosen, run["drop_reason"].transpose("train", "pulse").values, REASONS.index("excluded"))
    return run.assign(drop_reason=(("train", "pulse"), code.astype(np.uint8)))
