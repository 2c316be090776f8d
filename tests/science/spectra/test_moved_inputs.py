"""The difference with a wrong pedestal or response, against photons that were made wrong by hand."""

import numpy as np
import pytest
import xarray as xr

from pipeline.science.spectra.moved_inputs import moved_by_pedestal, moved_by_response

PUMPED, UNPUMPED = np.array([4e4, 2e4]), np.array([4.5e4, 3.5e4])
FLAT = {"pumped": 6e4, "unpumped": 7e4}
CHANGE = np.array([0.02, -0.05])
BEAMS = {"pumped": 0, "unpumped": 1}
DIMS = ("fluence", "delay", "energy")


def measured(reference):
    """Two energies; what the difference is compared with has photons PUMPED · exp(CHANGE), or those of the flat field."""
    values = {"delta_xas": CHANGE, "od_unpumped": [0.3, 0.5], "od_pumped": [0.32, 0.45]}
    values |= {"photons_pumped": 100 * PUMPED, "photons_unpumped": 100 * UNPUMPED, "n_pulses": [100, 100]}
    data = {name: (DIMS, np.asarray(one)[None, None]) for name, one in values.items()}
    data["reference"] = (DIMS[:2], np.array([[reference]]))
    return xr.Dataset(data)


def compared(pumped, unpumped, reference):
    return -np.log(pumped / unpumped) + np.log(reference[0] / reference[1])


def beside(reference):
    return (PUMPED * np.exp(CHANGE), UNPUMPED) if reference != "flat_field" else (FLAT["pumped"], FLAT["unpumped"])


@pytest.mark.parametrize("reference", ["in_run", "pump_off_scan", "flat_field"])
def test_a_pedestal_goes_out_where_the_reference_is_in_the_run(reference):
    there = beside(reference)
    before = compared(PUMPED, UNPUMPED, there)
    moved = moved_by_pedestal(measured(reference), {"pumped": 4.0, "unpumped": 3.0}, FLAT)
    same = reference == "in_run"
    expected = [
        compared(PUMPED + 4.0, UNPUMPED, (there[0] + 4.0 * same, there[1])),
        compared(PUMPED, UNPUMPED + 3.0, (there[0], there[1] + 3.0 * same)),
    ]
    for one, after in zip(moved[:2], expected, strict=True):
        np.testing.assert_allclose(one["delta_xas"].values[0, 0] - CHANGE, after - before, rtol=1e-3, atol=1e-15)
        np.testing.assert_allclose(one["od_pumped"] - one["od_unpumped"], one["delta_xas"], atol=1e-15)
    np.testing.assert_allclose(moved[1]["od_unpumped"].values[0, 0], [0.3 - 3 / 4.5e4, 0.5 - 3 / 3.5e4])
    # the run of the reference has a pedestal of its own, of which the sign is not known
    other = 0.0 if same else np.hypot(4.0 / there[0], 3.0 / there[1])
    np.testing.assert_allclose(moved[2]["delta_xas"].values[0, 0] - CHANGE, other, atol=1e-15)


@pytest.mark.parametrize("reference", ["pump_off_scan", "flat_field", "none"])
def test_a_response_that_is_wrong_by_its_error_is_wrong_in_the_reference_too(reference):
    adu = np.arange(512)
    calibration = xr.Dataset(
        {
            "linear_adu_stderr": ("adu", 1e-6 * adu**2.0),
            "gain": 1.25,
            "n_pixels": ("beam", [1000, 1000]),
            "dark_adu": (("cell", "beam"), np.full((2, 2), 4e4)),
            "linearity_misfit": 0.0,
        },
        coords={"adu": adu},
    )

    def photons(true):
        signal = 1.25 * true / 1000
        # 40 ADU of dark signal are taken off behind the table
        return 800 * (signal + 1e-6 * ((40 + signal) ** 2 - 40**2))

    (moved,) = moved_by_response(measured(reference), calibration, BEAMS, FLAT)
    there = tuple(np.asarray(one, float) for one in beside(reference))
    wrong = there if reference == "none" else tuple(map(photons, there))
    after = compared(photons(PUMPED), photons(UNPUMPED), wrong)
    change = moved["delta_xas"].values[0, 0] - CHANGE
    np.testing.assert_allclose(change, after - compared(PUMPED, UNPUMPED, there), rtol=1e-2)
    calibration["linearity_misfit"] = ((), 1e-3)
    _, rest = moved_by_response(measured(reference), calibration, BEAMS, FLAT)
    # linear in the photons, none at those of the flat field
    at_reference = FLAT["pumped"] if reference == "none" else there[0]
    expected = -np.sqrt(2) * 1e-3 * (PUMPED - at_reference) / FLAT["pumped"]
    np.testing.assert_allclose(rest["delta_xas"].values[0, 0] - CHANGE, expected, rtol=1e-6)
    calibration["linear_adu_stderr"] = 0.0 * calibration["linear_adu_stderr"]
    assert len(moved_by_response(measured(reference), calibration, BEAMS, FLAT)) == 1
