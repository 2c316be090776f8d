"""The figures of a product, as PNG and PDF. Error bands everywhere, colours that colour-blind people can tell apart."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from pipeline.plots.budget_figure import draw_budget
from pipeline.plots.component_figure import draw_components, has_components
from pipeline.plots.fit_figures import draw_mixture, draw_peaks
from pipeline.plots.injection_figure import draw_injection
from pipeline.plots.kinetics_figure import draw_kinetics
from pipeline.plots.quality_figures import draw_beams, draw_burst, draw_quality
from pipeline.plots.reference_figure import draw_reference
from pipeline.plots.spectra_figures import draw_absorption, draw_differences, draw_map
from pipeline.plots.style import house_style
from pipeline.plots.target_figure import draw_target
from pipeline.plots.time_zero_figure import draw_time_zero
from pipeline.results.lookup import power_of

__all__ = ["draw_beams", "draw_product"]

log = logging.getLogger("trxas")


def draw_product(tree: xr.DataTree, summary: Mapping[str, Any], folder: Path) -> None:
    """Draw all figures of a product into a folder; a figure without data is left out."""
    groups = {str(name): node.to_dataset() for name, node in tree.children.items()}
    spectra, scan, mixture = (groups[n] for n in ("spectra", "delay_scan", "mixture"))
    drawings: dict[str, Callable[[Path], object]] = {"quality": lambda to: draw_quality(groups["quality"], to)}
    if "burst_profile" in groups["quality"]:
        drawings["burst"] = lambda to: draw_burst(groups["quality"], to)
    if spectra.sizes["energy"]:
        drawings |= {
            "spectra": lambda to: draw_absorption(spectra, to),
            "delta_xas": lambda to: draw_differences(spectra, to),
            "map": lambda to: draw_map(spectra, to),
            "peaks": lambda to: draw_peaks(groups["peaks"], to),
            "mixture": lambda to: draw_mixture(mixture, spectra, to),
        }
    if scan.sizes["scan"]:
        power = power_of(tree.attrs)
        drawings["kinetics"] = lambda to: draw_kinetics(scan, groups["kinetics"], summary, power, to)
    components = groups.get("components", xr.Dataset())
    if "reference" in groups:
        drawings["reference"] = lambda to: draw_reference(groups["reference"], to)
    if summary.get("budget"):
        drawings["budget"] = lambda to: draw_budget(summary["budget"], to)
    if "time_zero" in groups:
        drawings["time_zero"] = lambda to: draw_time_zero(scan, groups["time_zero"], to)
    if "target" in groups:
        drawings["target"] = lambda to: draw_target(groups["target"], power_of(tree.attrs), to)
    if "injection" in groups:
        drawings["injection"] = lambda to: draw_injection(groups["injection"], to)
    if has_components(components):
        drawings["components"] = lambda to: draw_components(components, to)
    with house_style():
        for name, draw in drawings.items():
            try:
                draw(folder / f"{name}.png")
            except Exception as error:  # a picture must not cost the numbers
                log.warning("figure %s cannot be drawn: %s", name, error)
