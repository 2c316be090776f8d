"""Pulses and their labels, kept apart in the stores, as one dataset."""

import xarray as xr

__all__ = ["joined", "run_group"]


def run_group(number: int) -> str:
    """Return the name of the group that holds the labels of a run."""
    return f"r{number:04d}"


def joined(pulses: xr.Dataset, labels: xr.Dataset) -> xr.Dataset:
    """Return pulses with their labels.

    Parameters
    ----------
    pulses
        Pulses of a run, see `schemas.datasets.measured.PULSES`; its beams are numbered.
    labels
        Their labels, see `schemas.datasets.measured.LABELS`.

    Returns
    -------
    The pulses with energy, delay, nominal_delay and fluence as coordinates, `drop_reason`, and beams named by their roles.

    Raises
    ------
    ValueError
        If the two are not of the same trains and pulses.
    """
    pulses = pulses.drop_vars("energy")
    with xr.set_options(arithmetic_join="exact"):
        named = pulses.assign_coords({n: v for n, v in labels.coords.items() if n not in ("role", "t0")})
    return named.assign_coords(beam=labels["role"].values).assign(drop_reason=labels["drop_reason"])
