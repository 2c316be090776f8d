"""Time zero of delay scans: its bias and its error, scans that say nothing, and axes that run backwards."""

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.kinetics.model import kinetic_trace
from pipeline.science.kinetics.time_zero import fit_time_zero
from tests.science.kinetic_truth import DENSE, OPPOSITE, SAME, simulate

EARLY = np.concatenate([np.arange(-1.0, 1.5, 0.05), np.geomspace(1.6, 60.0, 15)])


def scans(*traces, fluence=8.0):
    """Return traces as delay scans."""
    joined = xr.concat(traces, dim="trace").rename(trace="scan")
    return joined.assign_coords(fluence=("scan", np.full(joined.sizes["scan"], fluence)))


def drawn(seed, snr, delay=EARLY):
    """Return a scan whose times, signs, sizes and response are drawn, and time zero is at 0."""
    rng = np.random.default_rng([seed, 77])
    low, high = np.log([(0.08, 0.15, 0.8), (0.3, 0.6, 4.0)])
    taus = tuple(np.exp(rng.uniform(low, high)))
    amplitudes = tuple(rng.uniform(0.4, 1.5, 3) * np.where(rng.random(3) < 0.5, -1, 1))
    response = rng.uniform(0.03, 0.06)
    options = {"snr": snr, "seed": seed, "delay": delay, "t_d": 0.0, "irf_sigma": response, "taus": taus}
    return scans(simulate(amplitudes, **options))


@pytest.mark.parametrize("snr", [20, 300])
def test_neither_bias_nor_a_wrong_error_whatever_times_and_signs(snr):
    found = [fit_time_zero(drawn(2000 + seed, snr)) for seed in range(24)]
    value, stderr = (np.array([float(one[n]) for one in found]) for n in ("t_d", "t_d_stderr"))
    pull = value / stderr
    # the mean of 24 unit pulls is within 0.6, their width within 0.45
    assert abs(pull.mean()) < 0.6
    assert 0.55 < pull.std() < 1.45
    assert np.average(value, weights=stderr**-2) == pytest.approx(0.0, abs=0.01)


def test_time_zero_is_where_the_form_begins_not_where_the_signal_is_half_high():
    trace = simulate(SAME, snr=300, delay=DENSE, t_d=0.05, irf_sigma=0.04)
    found = fit_time_zero(scans(trace), irf_sigma=0.04)
    assert float(found["t_d"]) == pytest.approx(0.05, abs=0.01)
    size = np.abs(trace["delta_xas"].values[0])
    half = DENSE[np.argmax(size > 0.5 * size.max())]
    assert half > 0.14
    assert float(found["t_d_stderr"]) < 0.01


def test_any_zero_of_the_axis_gives_the_same():
    trace = scans(simulate(OPPOSITE, snr=100, delay=EARLY))
    near = fit_time_zero(trace)
    far = fit_time_zero(trace.assign_coords(delay=EARLY - 800.0))
    assert float(far["t_d"]) == pytest.approx(float(near["t_d"]) - 800.0, abs=5e-3)


def test_scans_add_up_and_a_disagreement_enlarges_the_error():
    shapes = (OPPOSITE, SAME, (1.0, -0.5, 0.3))
    alike = fit_time_zero(scans(*(simulate(a, snr=100, delay=EARLY, seed=i, t_d=0.1) for i, a in enumerate(shapes))))
    stderr = alike["time_zero_stderr"].values
    assert float(alike["p"]) > 0.05
    assert int(alike["dof"]) == 2
    assert float(alike["t_d_stderr"]) == pytest.approx(np.sum(stderr**-2) ** -0.5)
    assert float(alike["t_d"]) == pytest.approx(0.1, abs=3 * float(alike["t_d_stderr"]))
    moved = scans(*(simulate(SAME, snr=300, delay=EARLY, seed=i, t_d=t) for i, t in enumerate((0.0, 0.0, 0.3))))
    apart = fit_time_zero(moved)
    expected = np.sqrt(float(apart["chi2"]) / 2 * np.sum(apart["time_zero_stderr"].values ** -2.0) ** -1)
    assert float(apart["p"]) < 1e-3
    assert float(apart["t_d_stderr"]) == pytest.approx(expected)


def test_an_offset_before_the_onset_is_taken_off():
    trace = scans(simulate(SAME, snr=100, delay=EARLY, t_d=0.0))
    found = fit_time_zero(trace.assign(delta_xas=trace["delta_xas"] + 5e-4))
    assert float(found["t_d"]) == pytest.approx(0.0, abs=3 * float(found["t_d_stderr"]))
    assert float(found["fit"].values[0, 0]) == pytest.approx(5e-4, abs=1e-4)


def test_points_that_a_scan_lacks_are_left_out():
    trace = scans(
        simulate(SAME, snr=100, delay=EARLY, t_d=0.0), simulate(OPPOSITE, snr=100, delay=EARLY, seed=1, t_d=0.0)
    )
    values = trace["delta_xas"].values.copy()
    values[0, ::7] = np.nan
    values[1] = np.nan
    found = fit_time_zero(trace.assign(delta_xas=(("scan", "delay"), values)))
    assert np.isnan(found["time_zero"].values[1])
    assert np.isnan(found["fit"].values[0, ::7]).all()
    assert float(found["t_d"]) == pytest.approx(0.0, abs=3 * float(found["t_d_stderr"]))


def test_a_signal_that_precedes_the_pump_is_told_and_dated():
    trace = scans(simulate(OPPOSITE, snr=100, delay=EARLY, t_d=0.0))
    found = fit_time_zero(trace.assign_coords(delay=5.0 - EARLY))
    assert bool(found["is_reversed"])
    assert float(found["t_d"]) == pytest.approx(5.0, abs=0.03)
    assert not bool(fit_time_zero(trace)["is_reversed"])


def exact(delay, amplitudes=SAME):
    clean = kinetic_trace(delay, t_d=0.0, irf_sigma=0.05, taus=(0.15, 0.24, 1.5), amplitudes=np.array([amplitudes]))
    return scans(
        xr.Dataset(
            {
                "delta_xas": (("trace", "delay"), clean),
                "delta_xas_stderr": (("trace", "delay"), np.full(clean.shape, 0.01)),
            },
            coords={"delay": delay, "energy": ("trace", [528.2])},
        )
    )


@pytest.mark.parametrize("delay", [np.geomspace(1.0, 60.0, 30), np.arange(-3.0, -1.0, 0.05), np.arange(-0.1, 0.4, 0.1)])
def test_a_scan_without_a_step_says_nothing(delay):
    with pytest.raises(DataError, match=r"no step in 1 delay scan: no scan has delays without a signal, then a rise"):
        fit_time_zero(exact(delay))
