"""What is known about the detector: dark run, beams, converter, gain, and the calibration that reduces frames."""

from __future__ import annotations

from schemas.datasets.measured import X, Y
from schemas.datasets.spec import DatasetSpec, Variable

__all__ = ["BEAMS", "CALIBRATION", "DARK", "GAIN", "IMAGE", "LINEARITY"]

_CELL_ID = Variable(("cell",), "1", "memory cell of the detector", "int")
_BAD_PIXEL = Variable(("y", "x"), "1", "bad pixels (0: good)", "int")
_ADU = Variable(("adu",), "ADU", "raw signal", "int")
_LINEAR = Variable(("adu",), "ADU", "linearised signal", stderr=True)
_GAIN = Variable((), "ADU/photon", "gain", stderr=True)

DARK = DatasetSpec(
    "dark",
    "Offset and noise of every pixel and memory cell.",
    {"cell_id": _CELL_ID, "y": Y, "x": X},
    {
        "dark_mean": Variable(("cell", "y", "x"), "ADU", "mean dark signal"),
        "dark_std": Variable(("cell", "y", "x"), "ADU", "standard deviation of the dark signal"),
        "n_frames": Variable(("cell",), "1", "dark frames of the memory cell", "int"),
        "read_noise": Variable(
            ("y", "x"), "ADU", "standard deviation of the dark signal inside a cell, over all cells"
        ),
        "bad_pixel": _BAD_PIXEL,
    },
)

_CORNERS = {
    "x0": Variable(("beam",), "1", "first column of the beam", "int"),
    "x1": Variable(("beam",), "1", "column after the last of the beam", "int"),
    "y0": Variable(("beam",), "1", "first row of the beam", "int"),
    "y1": Variable(("beam",), "1", "row after the last of the beam", "int"),
}

BEAMS = DatasetSpec(
    "beams",
    "Where the beams are on the module.",
    {},
    {**_CORNERS, "level": Variable(("beam",), "ADU", "mean signal in the core of the beam", required=False)},
)

IMAGE = DatasetSpec(
    "image",
    "The image on which the beams were found.",
    {"y": Y, "x": X},
    {"image": Variable(("y", "x"), "ADU", "mean dark-subtracted image")},
)

LINEARITY = DatasetSpec(
    "linearity",
    "The table that straightens the converter, and the polynomial that it comes from.",
    {
        "adu": _ADU.optional(),
        "power": Variable(("power",), "1", "power k of the raw signal", "int", required=False),
    },
    {
        "linear_adu": _LINEAR,
        "coefficient": Variable(("power",), "1", "coefficient c_k", required=False, stderr=True),
        "covariance": Variable(("power", "power2"), "1", "covariance of c_k", required=False),
    },
)

GAIN = DatasetSpec(
    "gain",
    "Photon-transfer curve of a flat-field run.",
    {},
    {
        "gain": _GAIN,
        "motion": Variable(
            (), "1", "variance from beam motion over photon variance, which was subtracted", required=False
        ),
    },
)

CALIBRATION = DatasetSpec(
    "calibration",
    "All that the reduction of frames needs.",
    {
        "cell_id": _CELL_ID,
        "y": Y,
        "x": X,
        "adu": _ADU,
        "power": Variable(("power",), "1", "power of the raw signal", "int"),
    },
    {
        **_CORNERS,
        "weight": Variable(("y", "x"), "1", "weight of a pixel in its beam"),
        "bad_pixel": _BAD_PIXEL,
        "dark_adu": Variable(("cell", "beam"), "ADU", "weighted dark sum of the beam"),
        "border_dark": Variable(("cell", "beam"), "ADU", "the part of it at the border of the beam's region"),
        "linear_adu": _LINEAR,
        "linearity_chi2": Variable(
            (), "1", "χ² per degree of freedom of the non-linearity; NaN: not fitted", required=False
        ),
        "linearity_misfit": Variable(
            (), "1", "rms change with intensity of a pixel group's share of the light that it leaves", required=False
        ),
        "linear_poly": Variable(("power",), "ADU^(1-power)", "linear_adu as a cubic; NaN: no cubic"),
        "read_variance": Variable(("beam",), "1", "variance of photons from read noise"),
        "shot_factor": Variable(("beam",), "1", "variance of photons from photon noise, per photon"),
        "n_pixels": Variable(("beam",), "1", "good pixels in the beam", "int"),
        "gain": _GAIN,
        "saturation": Variable((), "ADU", "signal from which on a pixel counts as saturated", "int"),
        "read_noise": Variable((), "ADU", "median read noise of good pixels"),
        "n_bad_pixels": Variable((), "1", "bad pixels of the module", "int"),
        "unlit": Variable(
            ("y", "x"),
            "1",
            "readout chip whose pedestal an unlit pixel tells; -1: it is not used",
            "int",
            required=False,
        ),
        "unlit_level": Variable(("y", "x"), "ADU", "dark level of an unlit pixel, rounded", "int", required=False),
        "unlit_dark": Variable(
            ("cell", "chip"), "ADU", "mean dark level of the chip's unlit pixels above unlit_level", required=False
        ),
        "pedestal_weight": Variable(
            ("chip", "beam"), "1/ADU", "photons in the beam per ADU of the chip's pedestal", required=False
        ),
        "pedestal_variance": Variable(
            ("beam",), "1", "variance of the photons that the unlit pixels of a frame tell", required=False
        ),
        "pedestal_dark_variance": Variable(
            ("beam",), "1", "the part of it from the finite dark run, per memory cell", required=False
        ),
        "noise_over_shot": Variable(
            (), "1", "noise of beam ratios over photon noise, held-out half", required=False, stderr=True
        ),
        "noise_over_shot_raw": Variable((), "1", "the same without non-linearity and flat field", required=False),
    },
)
