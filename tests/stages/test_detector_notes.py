"""What calibration and reduction say to a person about the detector."""

import numpy as np
import xarray as xr

from pipeline.stages import calibrate, reduce


def calibration(**attrs):
    return xr.Dataset({"linearity_chi2": 94.4, "linearity_misfit": 0.0153}, attrs=attrs)


def test_a_response_that_is_not_described_is_a_fault_unless_the_gain_is_given():
    (said,) = calibrate._notes(calibration(response_described=0, photons_relative=1))
    assert (said.code, said.severity) == ("response.not_described", "fault")
    assert "χ²/dof 94.4" in said.text
    assert "1.5 %" in said.text
    (said,) = calibrate._notes(calibration(response_described=0, photons_relative=0))
    assert (said.code, said.severity) == ("response.gain_given", "caution")
    assert calibrate._notes(calibration(response_described=1, photons_relative=0)) == []
    # a calibration of an earlier version
    assert calibrate._notes(calibration()) == []


def test_a_pedestal_that_cannot_be_followed_is_told_with_its_reason():
    lacking = calibration(pedestal_lacking=1, pedestal_reason="2 of 14 readout chips have too few")
    (said,) = calibrate._notes(lacking)
    assert (said.code, said.severity) == ("pedestal.unknown", "info")
    assert said.text.endswith("2 of 14 readout chips have too few")
    assert calibrate._notes(calibration(pedestal_lacking=0, pedestal_reason="switched off")) == []


def test_a_pedestal_that_was_taken_off_is_told_in_adu():
    photons = np.broadcast_to([100.0, -600.0], (3, 4, 2))
    taken = xr.Dataset({"pedestal_subtracted": (("train", "pulse", "beam"), photons)})
    weights = xr.Dataset({"pedestal_weight": (("chip", "beam"), np.array([[500.0, 1000.0], [1500.0, 1000.0]]))})
    (said,) = reduce._notes(4, taken, weights)
    assert (said.code, said.severity, said.run) == ("pedestal.moved", "info", 4)
    assert "moved by -0.30 ADU" in said.text
    assert reduce._notes(4, taken.drop_vars("pedestal_subtracted"), weights) == []
