"""Runs that measured the same, beside each other: every figure worked out from exact photons."""

import numpy as np
import pytest
from scipy.stats import chi2

from pipeline.science.quality.agreement import FIGURES, compare_runs
from tests.science.pulse_truth import exact_pulses

ENERGY = np.repeat([528.0, 528.5, 529.0], 2)
SHOT = 1 / 3200 + 1 / 4000
"""Photon noise of ln(pumped / unpumped) in a bin of eight pulses."""


def scan(pumped=400.0, unpumped=500.0, *, delay=1.0, fluence=8.0, energy=ENERGY):
    photons = np.stack(np.broadcast_arrays(pumped, unpumped, 1000.0), axis=-1)
    photons = photons[:, None, :] if photons.ndim == 2 else photons
    # the errors are those of the plain numbers, whatever is injected
    return exact_pulses(energy, photons, delay=delay, fluence=fluence, stderr=np.sqrt([400.0, 500.0, 1000.0]))


def test_two_runs_that_differ_by_a_constant():
    """ΔXAS of the second is 1 % larger in all three bins: an offset of −0.01 against the first, its error by weights."""
    runs = {3: scan(), 4: scan(400.0 * np.exp(-0.01))}
    found = compare_runs(runs, {})
    sums = 3200 * np.exp(-0.01)
    other = 3200 / sums**2 + 1 / 4000
    error = np.sqrt((SHOT + other) / 3)
    for number, sign in ((3, -1), (4, 1)):
        one = found[number]
        assert one["offset"] == pytest.approx(sign * 0.01, rel=1e-6)
        assert one["offset_stderr"] == pytest.approx(error, rel=1e-3)
        assert one["agreement_chi2"] == pytest.approx(0.01**2 / (SHOT + other), rel=1e-3)
        assert one["agreement_p"] == pytest.approx(chi2.sf(3 * one["agreement_chi2"], 3))
        assert one["normalisation"] == pytest.approx(0.0, abs=1e-9)
        assert one["normalisation_stderr"] == pytest.approx(np.sqrt(2 * (1 / 4000 + 1 / 8000) / 3), rel=1e-3)


def test_a_run_is_compared_with_the_sum_of_the_others():
    """Two alike beside a third: the third is off against both together, each of the two against the other two."""
    runs = {3: scan(), 4: scan(), 5: scan(unpumped=500.0 * np.exp(0.02))}
    found = compare_runs(runs, {})
    assert found[5]["offset"] == pytest.approx(0.02, rel=1e-6)
    # unpumped over reference went up: od_unpumped of this run is lower than that of the others
    assert found[5]["normalisation"] == pytest.approx(-0.02, rel=1e-6)
    mean = np.log(0.5 * (1 + np.exp(0.02)))
    assert found[3]["offset"] == pytest.approx(-mean, rel=1e-6)
    assert found[3]["normalisation"] == pytest.approx(mean, rel=1e-6)
    # the error is that of one run and of twice as much
    assert found[5]["offset_stderr"] == pytest.approx(np.sqrt((1.5 * 1 / 3200 + 1.5 / 4000) / 3), rel=0.01)


def test_a_difference_in_one_bin_is_in_chi_square():
    shift = np.array([0, 0, 0, 0, 0.03, 0.03])
    found = compare_runs({3: scan(), 4: scan(400.0 * np.exp(-shift))}, {})
    assert found[4]["agreement_chi2"] == pytest.approx(0.03**2 / (2 * SHOT) / 3, rel=0.05)
    assert found[4]["offset"] == pytest.approx(0.01, rel=0.05)


@pytest.mark.parametrize(
    ("change", "alike"),
    [({}, True), ({"delay": 1.009}, True), ({"delay": 1.011}, False), ({"fluence": 16.0}, False)],
)
def test_runs_at_one_fluence_and_delay_are_compared(change, alike):
    found = compare_runs({3: scan(), 4: scan(**change)}, {})
    assert np.isfinite(found[3]["offset"]) == alike
    assert np.isfinite(found[4]["agreement_p"]) == alike
    # the unpumped sample is the same whatever the pump does
    assert np.isfinite(found[3]["normalisation"])


def test_delay_scans_are_compared_with_their_like():
    def delay_scan(pumped, **options):
        return scan(pumped, delay=np.repeat([0.0, 1.0, 2.0], 2), **({"energy": np.full(6, 528.0)} | options))

    runs = {6: delay_scan(400.0), 7: delay_scan(400.0 * np.exp(-0.01)), 8: delay_scan(400.0, energy=np.full(6, 530.0))}
    found = compare_runs({}, runs)
    assert found[7]["offset"] == pytest.approx(0.01, rel=1e-6)
    assert found[7]["agreement_chi2"] == pytest.approx(0.01**2 / (2 * SHOT), rel=0.02)
    assert np.isnan(found[8]["offset"])
    assert np.isnan(found[7]["normalisation"])


def test_one_run_or_runs_without_energy_have_no_like():
    blind = scan(energy=np.full(6, np.nan))
    for runs in ({3: scan()}, {3: blind, 4: blind}, {}):
        found = compare_runs(runs, {})
        assert list(found) == list(runs)
        for one in found.values():
            assert set(one) == set(FIGURES)
            assert np.isnan(list(one.values())).all()


def test_two_beams_are_compared_without_a_reference():
    runs = {n: scan(p).isel(beam=[0, 1]) for n, p in ((3, 400.0), (4, 404.0))}
    found = compare_runs(runs, {})
    assert found[4]["offset"] == pytest.approx(-np.log(1.01), rel=1e-6)
    assert np.isnan(found[4]["normalisation"])
