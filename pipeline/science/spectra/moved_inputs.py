"""How delta_xas moves when the pedestal or the response of the detector is wrong by its error.

With c the relative error that a beam's photons get, and r the same for what the difference is compared with,

    ΔXAS = −ln(I_p / I_u) + ln(I_p⁰ / I_u⁰)   moves by   −(c_p − c_u) + (r_p − r_u).

An error of the response is the same in all runs, so that much of it goes out. An error of the pedestal is one per run: it goes
out where the reference is in the same run only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr

__all__ = ["moved_by_pedestal", "moved_by_response"]

SAME_RUN = ("in_run", "before_time_zero")
"""References that are in the same run as what is compared with them."""

Photons = Mapping[str, xr.DataArray | float]
"""Photons per pulse of the beams pumped and unpumped."""


def moved_by_response(
    measured: xr.Dataset, calibration: xr.Dataset, beams: Mapping[str, int], flat: Mapping[str, float]
) -> list[xr.Dataset]:
    """Return the difference with the response wrong by its error: the table's, and what its polynomial leaves.

    Parameters
    ----------
    measured
        Spectra or delay scans: delta_xas, od_unpumped, od_pumped, n_pulses, photons_pumped, photons_unpumped, reference.
    calibration
        linear_adu_stderr (adu), gain, n_pixels (beam), dark_adu (cell, beam), linearity_misfit.
    beams
        Number of the beams pumped and unpumped.
    flat
        Their photons per pulse in the flat field.

    Returns
    -------
    The moved data, one for each independent error.

    Notes
    -----
    The error of the table is one of its polynomial's coefficient: it has one sign at all signals. A pixel is taken to have
    the mean signal of its beam.
    """
    table, adu = calibration["linear_adu_stderr"].values, calibration["adu"].values.astype(np.float64)

    def of_table(beam: str, photons: Any) -> Any:
        pixels = float(calibration["n_pixels"][beams[beam]])
        dark = float(calibration["dark_adu"].isel(beam=beams[beam]).mean()) / pixels
        signal = photons * float(calibration["gain"]) / pixels
        return (np.interp(dark + signal, adu, table) - np.interp(dark, adu, table)) / signal

    def of_misfit(beam: str, photons: Any) -> Any:
        # both beams may be off, each by itself
        size = np.sqrt(2.0) * float(calibration["linearity_misfit"]) if beam == "pumped" else 0.0
        return size * (photons / flat[beam] - 1.0)

    known = [of_table] if table.any() else []
    known += [of_misfit] if float(calibration["linearity_misfit"]) > 0 else []
    here, there = _photons(measured), _reference_photons(measured, flat)
    return [_moved(measured, _each(change, here), _each(change, there)) for change in known]


def moved_by_pedestal(
    measured: xr.Dataset, pedestal: Mapping[str, float], flat: Mapping[str, float]
) -> list[xr.Dataset]:
    """Return the difference with the pedestal wrong by its error: of either beam, and of the run of the reference.

    Parameters
    ----------
    measured, flat
        As in `moved_by_response`.
    pedestal
        Error of the pedestal in the beams pumped and unpumped [photons per pulse].

    Returns
    -------
    The moved data, three in this order. An error of the beam "reference" moves the optical density by 1e-4
    of itself and is left out.
    """
    here, there = _photons(measured), _reference_photons(measured, flat)
    same = measured["reference"].isin(SAME_RUN)
    moved = []
    for beam in ("pumped", "unpumped"):
        change = {name: pedestal[name] / here[name] if name == beam else 0.0 for name in here}
        at_reference = {name: pedestal[name] / there[name] if name == beam else 0.0 for name in there}
        moved.append(_moved(measured, change, {name: xr.where(same, one, 0.0) for name, one in at_reference.items()}))
    both = np.sqrt(sum((pedestal[name] / there[name]) ** 2 for name in there))
    nothing = dict.fromkeys(here, 0.0)
    return [*moved, _moved(measured, nothing, {"pumped": xr.where(same, 0.0, both), "unpumped": 0.0})]


def _each(change: Callable[[str, Any], Any], photons: Photons) -> dict[str, Any]:
    return {beam: change(beam, one) for beam, one in photons.items()}


def _photons(measured: xr.Dataset) -> dict[str, xr.DataArray]:
    """Photons per pulse of both beams in every bin, NaN in empty ones."""
    pulses = measured["n_pulses"].where(measured["n_pulses"] > 0)
    return {beam: measured[f"photons_{beam}"] / pulses for beam in ("pumped", "unpumped")}


def _reference_photons(measured: xr.Dataset, flat: Mapping[str, float]) -> dict[str, xr.DataArray]:
    """Photons per pulse of what a bin is compared with: without the pump at the same energy, or those of the flat field."""
    here, at_flat = _photons(measured), measured["reference"] == "flat_field"
    here["pumped"] = here["pumped"] * np.exp(measured["delta_xas"])
    return {beam: xr.where(at_flat, flat.get(beam, np.nan), one) for beam, one in here.items()}


def _moved(measured: xr.Dataset, change: Mapping[str, Any], at_reference: Mapping[str, Any]) -> xr.Dataset:
    compared = measured["reference"] != "none"
    reference = xr.where(compared, at_reference["pumped"] - at_reference["unpumped"], 0.0)
    difference = measured["delta_xas"] - (change["pumped"] - change["unpumped"]) + reference
    unpumped = measured["od_unpumped"] - change["unpumped"]
    values = {"delta_xas": difference, "od_unpumped": unpumped, "od_pumped": unpumped + difference}
    return measured.assign(
        {n: (measured[n].dims, v.transpose(*measured[n].dims).values, measured[n].attrs) for n, v in values.items()}
    )
