"""What errors on the times to expect from more shots: the Cramér-Rao bound of a product's delays and errors."""

from __future__ import annotations

import xarray as xr

from pipeline.errors import ProductError

__all__ = ["TARGET", "plan_text"]

TARGET = 0.2
"""Relative error that is aimed at."""


def plan_text(kinetics: xr.Dataset) -> str:
    """Return, for every fitted fluence and time, the error that is possible now and the shots that the target needs.

    Errors fall with the root of the number of shots, so the target needs (error now / target)² times as many; this holds
    for the delays as measured.

    Raises
    ------
    ProductError
        If no fluence was fitted.
    """
    lines = []
    for fluence in kinetics["fluence"].values.tolist():
        fit = kinetics.sel(fluence=fluence)
        if not bool(fit["value"].notnull().any()):
            continue
        lines.append(f"{fluence:g} mJ/cm², delays and errors as measured")
        for name in ("tau1", "tau2", "tau3"):
            value, bound = (float(fit[v].sel(parameter=name)) for v in ("value", "crb"))
            if not value > 0 or not bound > 0:
                lines.append(f"  {name}  not fitted")
                continue
            relative = bound / value
            lines.append(
                f"  {name} = {value:.3g} ps: possible error {relative:.0%} of it; {TARGET:.0%} takes "
                f"{max((relative / TARGET) ** 2, 0.0):.2g} times these shots"
            )
    if not lines:
        raise ProductError("the product holds no kinetic fit to plan from; process a delay scan first")
    lines.append("More delays between 0 and 0.7 ps, at steps of 40 fs or less, help more than more shots far out.")
    return "\n".join(lines)
