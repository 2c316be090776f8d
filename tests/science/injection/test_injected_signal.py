"""The injected signal is the measured one: in size, in shape and in time."""

import numpy as np
import pytest

from pipeline.science.injection.injected_signal import TAUS, course_of, signal_of
from pipeline.science.kinetics.model import kinetic_trace
from tests.science.injection_truth import DELAY, FORM, fitted, mixture, scans


def test_the_course_of_a_scan_is_its_fit_without_its_baseline():
    course = course_of(scans().isel(scan=0), fitted(), 8.0)
    np.testing.assert_allclose(course.at(DELAY), scans()["delta_xas"].values[0])
    np.testing.assert_allclose(course.times(4.0).at(DELAY), 4 * scans()["delta_xas"].values[0])


@pytest.mark.parametrize("taus", [(0.001, 0.3, 2.0), (0.2, 0.3, 200.0), (np.nan, 0.3, 2.0)])
def test_times_that_no_data_could_tell_give_way_to_the_published_ones(taus):
    course = course_of(scans().isel(scan=0), fitted(taus=taus), 8.0)
    assert course.taus == TAUS
    fine = np.linspace(-0.2, 5.0, 105)
    assert np.abs(course.at(fine)).max() == pytest.approx(np.abs(scans()["delta_xas"]).max())
    assert course.at(fine).min() < 0


def test_spectra_show_the_mixture_with_the_course_of_the_strongest_scan():
    signal = signal_of(8.0, fitted(), mixture(), scans())
    late = np.array([[4.8, 10.0]])
    assert signal.share(late).mean() == pytest.approx(1.0)
    found = signal.at_energies(np.array([529.0]), late, 2.0)
    np.testing.assert_allclose(found, 2 * 0.05 * np.sin(529.0) * signal.share(late))
    assert signal.at_energies(np.array([np.nan]), late).tolist() == [[0.0, 0.0]]
    # a trace that falls belongs to the same fraction as one that rises
    assert (signal.share(np.array([0.2])) > 0).all()
    np.testing.assert_allclose(signal.at_delays(528.3, DELAY), scans()["delta_xas"].values[0])
    assert signal.at_delays(528.3, np.array([np.nan])).tolist() == [0.0]


def test_time_zero_and_response_may_be_others():
    signal = signal_of(8.0, fitted(), mixture(), scans()).moved(0.1, 0.02)
    expected = -kinetic_trace(DELAY, **(FORM | {"t_d": 0.1, "irf_sigma": 0.02}))
    np.testing.assert_allclose(signal.at_delays(528.2, DELAY), expected)


def test_a_fraction_within_its_error_is_injected_as_large_as_five_of_them():
    signal = signal_of(8.0, fitted(), mixture(alpha=0.001, stderr=0.002), scans())
    assert signal.alpha == pytest.approx(0.01)


def test_without_delay_scans_and_mixture_there_is_a_usual_course_and_no_fraction():
    nothing = mixture(np.nan, np.nan)
    signal = signal_of(8.0, fitted(), nothing, scans().isel(scan=slice(0)))
    assert np.isnan(signal.alpha)
    assert signal.course.taus == TAUS
    assert dict(signal.scans) == {}
