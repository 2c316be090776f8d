"""The stages by name, and whose sources decide whether what a stage left behind is current."""

from __future__ import annotations

from pipeline import fits

__all__ = ["CODE", "STAGES"]

STAGES = ("frames", "pulses", "spectra", "fits")
"""Stages from which a dataset can be processed again."""

CODE = {
    "frames": (
        "pipeline.ingest",
        "pipeline.blocks",
        "pipeline.io.cube",
        "pipeline.io.euxfel",
        "pipeline.io.frame_index",
        "pipeline.io.exdf",
        "pipeline.io.store",
    ),
    "calibration": (
        "pipeline.calibrating",
        "pipeline.ingest",
        "pipeline.io.euxfel",
        "pipeline.io.frame_index",
        "pipeline.io.exdf",
        "pipeline.science.detector.*",
    ),
    "pulses": (
        "pipeline.ingest",
        "pipeline.blocks",
        "pipeline.science.detector.reduce",
        "pipeline.science.detector._reduce*",
    ),
    "labels": ("pipeline.labelling", "pipeline.science.pulses.*"),
    "spectra": (
        "pipeline.scans",
        "pipeline.science.spectra.*",
        "pipeline.science.quality.*",
        "pipeline.science.pulses.selection",
    ),
    "fits": fits.MODULES,
    "product": (
        "pipeline.summary",
        "pipeline.plots.*",
        "pipeline.lookup",
        "pipeline.io.publish",
        "pipeline.io.store",
        "schemas.products",
        "schemas.datasets.*",
    ),
}
"""Whose sources decide whether a stage is current."""
