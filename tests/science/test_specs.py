"""What science returns is what the specifications say: every variable, its dims, type and units."""

import numpy as np
import pytest
import xarray as xr

from pipeline.science import forward
from pipeline.science.detector.assemble import build_calibration
from pipeline.science.detector.beam_photons import reduce_frames
from pipeline.science.detector.gain import fit_gain
from pipeline.science.detector.linearity import calibrate_linearity
from pipeline.science.kinetics.components import cube_components, gather_components, single_trace_fits
from pipeline.science.kinetics.design import expected_errors, optimal_delays
from pipeline.science.kinetics.forms import compare_models
from pipeline.science.kinetics.shared import fit_kinetics
from pipeline.science.kinetics.traces import gather_fits
from pipeline.science.labels.selection import REASONS, select_pulses
from pipeline.science.labels.timing import pulse_delay
from pipeline.science.mixture.alpha import fit_mixture
from pipeline.science.mixture.dos import broaden, builtin_dos
from pipeline.science.mixture.dos_models import fit_builtin_models, rising_edge
from pipeline.science.peaks.lines import fit_peaks
from pipeline.science.quality.agreement import FIGURES
from pipeline.science.quality.burst import resolved
from pipeline.science.quality.noise import run_quality
from pipeline.science.spectra.compared import Outside, compared
from pipeline.science.spectra.resampling import resampled_differences
from pipeline.science.spectra.scans import delay_scans, quality_cells, spectra
from pipeline.science.sums.accumulate import accumulate, join_limbs, merge_sums
from pipeline.stages.bin_quality import AXES
from schemas.datasets import calibration, fitted, measured, model_curves
from schemas.datasets import kinetic_fits as kinetics
from schemas.datasets.quality import QUALITY
from tests.science.kinetic_truth import PUBLISHED, simulate
from tests.science.kinetics.test_design import COARSE, precision, response
from tests.science.mixture_truth import MIN_DELAY, WINDOW, demo_spectra, dos
from tests.science.pulse_truth import make_pulses

CONSTANT = (0.01, 1e-4)
OUTSIDE = Outside("flat_field", CONSTANT, None, applied=False)


def scan(seed=0, **options):
    rng = np.random.default_rng(seed)
    energy = np.repeat(np.arange(527.0, 530.0, 0.3), 4)
    return make_pulses(rng, energy, delta=0.05 * np.exp(-((energy - 528.2) ** 2)), n_pulses=6, **options)


def steps(seed=1):
    run = scan(seed).assign_coords(energy=("train", np.full(40, 528.2)))
    delay = np.repeat(np.linspace(-1, 2, 10), 4)
    return run.assign_coords(
        nominal_delay=("train", delay), delay=(("train", "pulse"), np.repeat(delay[:, None], 6, axis=1))
    )


@pytest.mark.parametrize("runs", [[], [scan()]], ids=["no run", "a run"])
def test_spectra_and_delay_scans(runs):
    cubes = compared(spectra, runs, OUTSIDE) if runs else spectra([])
    assert measured.SPECTRA.check(cubes).sizes["energy"] == 10 * len(runs)
    scans = compared(delay_scans, [steps()], OUTSIDE) if runs else delay_scans([])
    assert measured.DELAY_SCAN.check(scans).sizes["delay"] == 10 * len(runs)


def test_spectra_and_delay_scans_along_the_burst():
    groups = [np.arange(3), np.arange(3, 6)]
    measured.BURST_SPECTRA.check(resolved(spectra, [scan()], groups, [CONSTANT] * 2))
    measured.BURST_DELAY_SCAN.check(resolved(delay_scans, [steps()], groups, [CONSTANT] * 2))


def test_replicates_are_differences():
    bins = {"energy_bins": None, "delay_bins": None}
    given = (spectra([scan()]), delay_scans([steps()]))
    drawn = resampled_differences([scan()], [steps()], *given, **bins, n_draws=2)
    for replicate in drawn:
        assert replicate.attrs["units"] == measured.SPECTRA["delta_xas"].units


@pytest.mark.parametrize(("along", "unit"), [("energy", "eV"), ("delay", "ps")])
def test_sums(along, unit):
    run = scan()
    cell = np.zeros((run.sizes["train"], run.sizes["pulse"]), np.int64)
    sums = accumulate(run, cell, 2, along=along)
    assert measured.SUMS.check(sums)["product_mixed"].attrs["units"] == unit
    assert measured.SUMS.check(merge_sums([sums, sums]))["product_shifted"].attrs["units"] == f"{unit}^2"
    assert join_limbs(sums)["energy_1"].attrs == sums["energy_1"].attrs


def test_labels():
    run = scan()
    assert select_pulses(run).attrs.items() >= measured.DROP_REASON.attrs.items()
    labels = run.assign(delay_stage=("train", np.zeros(run.sizes["train"]), {"units": "mm"}))
    assert pulse_delay(labels).attrs == measured.PULSE_DELAY.attrs


def test_peaks():
    peaks = fit_peaks(demo_spectra(np.random.default_rng(0)), window=WINDOW)
    fitted.PEAKS.check(peaks)


def test_mixture():
    data = demo_spectra(np.random.default_rng(0))
    fitted.MIXTURE.check(fit_mixture(data, *dos(), window=WINDOW, min_delay=MIN_DELAY))
    fitted.MIXTURE.check(fit_builtin_models(data, window=WINDOW, min_delay=MIN_DELAY))
    for curve in (*builtin_dos(data, window=WINDOW, min_delay=MIN_DELAY), broaden(dos()[0], 0.1, 0.0)):
        assert curve["energy"].attrs == model_curves.DOS_ENERGY.attrs
        assert {"units", "long_name"} <= set(curve.attrs)
    assert rising_edge(data, window=WINDOW).attrs == model_curves.EDGE.attrs


@pytest.fixture(scope="module")
def traces():
    return simulate(n_traces=3, delay=PUBLISHED)


@pytest.fixture(scope="module")
def fit(traces):
    return fit_kinetics(traces, irf_sigma=0.05, n_bootstrap=2)


def test_kinetics(traces, fit):
    kinetics.KINETIC_FIT.check(fit)
    kinetics.KINETIC_FIT.check(fit_kinetics(traces, irf_sigma=0.05, amplitude_prior=None, systematics=False))
    kinetics.KINETICS.check(gather_fits({8.0: fit, 16.0: None}))
    kinetics.KINETICS.check(gather_fits({}))
    kinetics.KINETIC_FORMS.check(compare_models(traces, irf_sigma=0.05))


def test_components(traces, fit):
    cubes = {8.0: cube_components(demo_spectra(np.random.default_rng(0)).isel(fluence=0))}
    kinetics.CUBE_COMPONENTS.check(cubes[8.0])
    alone = {8.0: single_trace_fits(traces.isel(trace=[1]), fit)}
    kinetics.SINGLE_TRACE_FITS.check(alone[8.0])
    kinetics.COMPONENTS.check(gather_components([8.0, 16.0], cubes, {8.0: fit}, alone))
    kinetics.COMPONENTS.check(gather_components([], {}, {}, {}))


def test_planning():
    planned = response()
    kinetics.EXPECTED_ERRORS.check(expected_errors(planned, COARSE, precision(planned, COARSE, 50.0)))
    kinetics.DELAY_SHARES.check(optimal_delays(planned, COARSE, np.array([1e4])))


def test_quality():
    """The group is put together by the stage; science gives its numbers by name."""
    specified = dict(QUALITY.expanded())
    run = scan()
    numbers = run_quality(run, quality_cells(run, kind="energy_scan"))
    names = [*numbers, *FIGURES, *AXES, *(f"dropped_{r}" for r in REASONS[1:])]
    assert set(names) <= set(specified)
    assert all(specified[n].dims == ("run",) for n in names)
    assert all(specified[n].kind == "float" for n in numbers)


def test_detector(detector_truth):
    truth = detector_truth()
    dark, (flat, _) = truth.dark(30), truth.flat(40)
    calibration.DARK.check(dark)
    calibration.BEAMS.check(truth.beams)
    calibration.LINEARITY.check(calibrate_linearity(flat, dark, truth.beams, bad=dark["bad_pixel"]))
    calibration.GAIN.check(fit_gain(flat, dark, truth.beams))
    made = build_calibration(dark, truth.beams, flat)
    calibration.CALIBRATION.check(made)
    calibration.CALIBRATION.check(build_calibration(dark, truth.beams, None, gain=truth.gain))
    pulses = reduce_frames(flat["frames"], made)
    for name in ("photons", "photons_stderr", "n_saturated"):
        expected = measured.PULSES[name]
        assert pulses[name].dims == expected.dims
        assert expected.attrs.items() <= pulses[name].attrs.items()


def test_the_forward_model():
    from tests.science.mixture_truth import MODEL

    energy = xr.DataArray(np.arange(526.0, 530.0), dims="energy")
    delay = xr.DataArray(np.arange(0.0, 3.0), dims="delay")
    made = {
        "ground_od": forward.ground_od(MODEL, energy),
        "excited_od": forward.excited_od(MODEL, energy),
        "line_shift": forward.line_shift(MODEL, delay),
        "trace": forward.trace(MODEL, delay, fluence=8.0),
        "excited_fraction": forward.excited_fraction(MODEL, delay, fluence=8.0),
        "delta_xas": forward.delta_xas(MODEL, energy, delay, fluence=8.0),
    }
    assert made.keys() == model_curves.FORWARD.keys()
    for name, array in made.items():
        assert set(array.dims) == set(model_curves.FORWARD[name].dims)
        assert array.attrs == model_curves.FORWARD[name].attrs
