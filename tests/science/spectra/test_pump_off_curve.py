"""The curve of the reference is the model, and its points are what was measured, under the numbers of their runs."""

import numpy as np
import pytest

from pipeline.science.spectra.compared import outside_reference
from pipeline.science.spectra.pump_off import hours
from pipeline.science.spectra.pump_off_curve import pump_off_curve
from schemas.datasets.measured import REFERENCE
from tests.science.spectra.test_compared import ENERGY, Session, delta


@pytest.fixture(scope="module")
def measured():
    session = Session(5)
    flat = session.run(np.full(60, 528.2))
    first = session.run(np.repeat(ENERGY, 4))
    scan = session.run(np.repeat(ENERGY, 4), shape=delta(np.repeat(ENERGY, 4)))
    last = session.run(np.repeat(ENERGY, 4))
    outside, _ = outside_reference([flat], [first, last], [scan])
    return outside.model, scan, pump_off_curve(outside.model, [2, 3, 7], [scan])


def test_points_and_runs_are_those_of_the_model(measured):
    model, _, curve = measured
    REFERENCE.check(curve)
    np.testing.assert_array_equal(curve["measured"], model.points["c"])
    np.testing.assert_array_equal(np.unique(curve["measured_run"]), [2, 3, 7])
    assert (curve["measured_run"] == 2).sum() == 1
    assert float(curve["measured_hours"].min()) == 0.0
    assert curve["measured_hours"].values.max() == pytest.approx(np.ptp(model.points["hours"].values))


def test_the_curve_is_the_model_at_the_mean_time_of_the_scans_and_its_drift_is_zero_there(measured):
    model, scan, curve = measured
    time = hours(scan["train_id"].values).mean()
    expected = model.at(curve["energy"].values, np.full(curve.sizes["energy"], time))
    for name, values in zip(("c", "c_stderr", "c_stderr_systematic"), expected, strict=True):
        np.testing.assert_allclose(curve[name], values)
    since = time - model.points["hours"].values.min()
    assert np.interp(since, curve["hours"], curve["drift"]) == pytest.approx(0.0, abs=2e-5)
    # the flat field and all scans have this energy; no other energy has so many runs
    assert float(curve["drift_energy"]) == 528.2
