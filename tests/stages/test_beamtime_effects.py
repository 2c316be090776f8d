"""What a beamtime adds to noise, effect by effect, as pulses: ΔXAS and α are the truth's within their total errors with any reference.

`python -m tests.benchmarks effects` does the same with many sessions; detector and files are in `tests/end_to_end/test_beamtime.py`.
"""

import numpy as np
import pytest

from tests.benchmarks.bench_effects import EFFECTS, measured

SIZES = {
    "thickness": EFFECTS["pumped film 2 % thicker"],
    "splitting": EFFECTS["splitting 2 mOD/eV, bent, with waves of 0.5 mOD"],
    "drift": EFFECTS["drift 3 mOD an hour, and 1 mOD/√h at random"],
    "wear": EFFECTS["wear 0.3 % a run"],
}


@pytest.mark.parametrize("effect", SIZES)
def test_pulses_without_pump_in_the_run_take_it_off(effect):
    one = measured(SIZES[effect], "in_run", 1)
    assert np.mean(one.statistical**2) == pytest.approx(1.0, abs=4 * np.sqrt(2 / len(one.z)))
    np.testing.assert_array_equal(one.z, one.statistical)
    assert np.abs(one.alpha).max() < 4
    assert not [code for code in one.told if "reference" in code]


@pytest.mark.parametrize("effect", SIZES)
@pytest.mark.parametrize("reference", [pytest.param("pump_off_scan", marks=pytest.mark.long), "flat_field"])
def test_elsewhere_it_is_measured_or_in_the_total_error(effect, reference):
    """Bins share what is not known: a session is not many more than one number, and none is off by four errors."""
    one = measured(SIZES[effect], reference, 3)
    assert np.mean(one.z**2) < 4
    assert np.mean(np.abs(one.z) < 3) > 0.95
    assert np.abs(one.alpha).max() < 3
    assert abs(one.slope) < 3
