"""The stages by name, and whose sources decide whether what a stage left behind is current."""

from __future__ import annotations

from pipeline.stages import fit as fits

__all__ = ["CODE", "STAGES"]

STAGES = ("frames", "pulses", "spectra", "fits")
"""Stages from which a dataset can be processed again."""

CODE = {
    "frames": (
        "pipeline.stages.passes",
        "pipeline.stages.blocks",
        "pipeline.storage.cube",
        "pipeline.euxfel.reader",
        "pipeline.euxfel.frame_index",
        "pipeline.euxfel.run_files",
        "pipeline.storage.store",
    ),
    "calibration": (
        "pipeline.stages.calibration_runs",
        "pipeline.stages.passes",
        "pipeline.euxfel.reader",
        "pipeline.euxfel.frame_index",
        "pipeline.euxfel.run_files",
        "pipeline.science.detector.*",
    ),
    "pulses": (
        "pipeline.stages.passes",
        "pipeline.stages.blocks",
        "pipeline.science.detector.beam_photons",
        "pipeline.science.detector._pixel_kernel",
    ),
    "labels": ("pipeline.stages.label", "pipeline.science.labels.*"),
    "spectra": (
        "pipeline.stages.bin",
        "pipeline.science.spectra.*",
        "pipeline.science.quality.*",
        "pipeline.science.labels.selection",
    ),
    "fits": fits.MODULES,
    "product": (
        "pipeline.results.summary",
        "pipeline.plots.*",
        "pipeline.results.lookup",
        "pipeline.storage.versions",
        "pipeline.storage.store",
        "schemas.products",
        "schemas.datasets.*",
    ),
}
"""Whose sources decide whether a stage is current."""
