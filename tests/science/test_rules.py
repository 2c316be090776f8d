"""What every public function of science keeps to: it leaves its arguments alone, and never joins axes that differ.

A new public function must get a row in `CALLS`. Modules whose name begins with an underscore are not public: compiled
kernels fill the arrays that they are given.
"""

import copy
import dataclasses
import functools
import importlib
import inspect
import pkgutil
from types import SimpleNamespace

import lmfit
import numpy as np
import pytest
import xarray as xr

import pipeline.science
from pipeline.science import forward
from pipeline.science.detector import (
    assemble,
    beam_photons,
    beams,
    dark,
    flat_field,
    flat_sample,
    gain,
    linearity,
    pedestal,
    unlit,
)
from pipeline.science.injection import recovery
from pipeline.science.kinetics import (
    components,
    design,
    forms,
    intervals,
    lmfit_model,
    parameters,
    problem,
    search,
    shared,
    starts,
    target,
)
from pipeline.science.labels import condition
from pipeline.science.mixture import alpha, dos_models
from pipeline.science.peaks import extrema, lines, smooth_curve
from pipeline.science.quality import noise
from pipeline.science.spectra import compared as comparing
from pipeline.science.spectra import difference, scans, uncertainty
from pipeline.science.sums import accumulate, contrast
from schemas.datasets.kinetic_fits import COMPONENTS
from tests.science import injection_truth, mixture_truth, moving_line
from tests.science.conftest import DetectorTruth
from tests.science.kinetic_truth import TAUS, simulate
from tests.science.pulse_truth import make_pulses

STEPS = np.repeat([528.0, 528.5, 529.0, 529.5], 4)


# --- small examples, each made once ---------------------------------------------------------------------------------


@functools.cache
def camera():
    """Return a small detector: its dark run, beams, flat field, calibration and what goes into them."""
    truth = DetectorTruth(n_cells=4, shape=(64, 192))
    offset = truth.dark(20)
    light, _ = truth.flat(30)
    calibration = assemble.build_calibration(offset, truth.beams, light, gain=1.3)
    image = (light["frames"].mean(("train", "pulse")) - offset["dark_mean"].mean("cell")).drop_vars(["y", "x"])
    image = image.assign_coords(y=offset["y"], x=offset["x"])
    beside = unlit.unlit_pixels(image, offset, truth.beams)
    followed = unlit.with_unlit_pixels(calibration, offset, beside)
    pulses = beam_photons.reduce_frames(light["frames"].isel(train=slice(4)), calibration)
    pulses = pulses.assign(pedestal=0.01 * pulses["photons"], dark_frame=xr.zeros_like(pulses["present"]))
    rng = np.random.default_rng(0)
    total = rng.gamma(8, 1e5 / 8, (400, 1)) * np.ones((1, 3))
    moments = np.stack([total, total * (0.1 + 0.01 * rng.standard_normal((400, 3)))], axis=-1)
    raw = light["frames"].values.reshape(-1, 64, 192)[:6]
    return SimpleNamespace(
        dark=offset,
        beams=truth.beams,
        flat=light,
        calibration=calibration,
        image=image,
        unlit=beside,
        followed=followed,
        pulses=pulses,
        sample=flat_sample.flat_sample(light, offset, truth.beams),
        moments=(moments, total, np.arange(400) // 10),
        raw=raw,
        cells=np.array([0, 1, 2, 3, 0, 1]),
        sums=dark.dark_sums(raw, np.array([0, 1, 2, 3, 0, 1]), 4),
    )


@functools.cache
def run(delay=1.0, seed=1, first_train=1000):
    """Return an energy scan across a step, with a recorded arrival time."""
    od = 0.2 + 0.3 * (STEPS > 528.9)
    rng = np.random.default_rng(seed)
    pulses = make_pulses(rng, STEPS, od=od, n_pulses=6, delay=delay, first_train=first_train)
    return pulses.assign(arrival=(("train", "pulse"), np.zeros((16, 6))))


@functools.cache
def scan():
    """Return a delay scan at one energy."""
    pulses = make_pulses(np.random.default_rng(2), np.full(16, 528.0), n_pulses=6)
    delay = np.repeat([-1.0, 0.0, 1.0, 2.0], 4)
    return pulses.assign_coords(
        delay=(("train", "pulse"), np.repeat(delay[:, None], 6, 1)), nominal_delay=("train", delay)
    )


def cell():
    return np.repeat(np.arange(16)[:, None] // 4, 6, axis=1)


@functools.cache
def sums():
    return accumulate.accumulate(run(), cell(), 4)


@functools.cache
def interleaved():
    """Return the energy scan with the pump on every second pulse."""
    return run().assign_coords(condition=condition.condition_by_pulse(run(), [1, 0]))


@functools.cache
def with_laser():
    fires = np.zeros((16, 24), bool)
    fires[:, ::8] = True
    known = {"laser": (("train", "slot"), fires), "laser_known": ("train", np.ones(16, bool))}
    return run().assign(known).assign_coords(pulse_slot=("pulse", 4 * np.arange(6)))


@functools.cache
def sums_by_condition():
    return accumulate.accumulate(interleaved(), cell(), 4, by_condition=True)


@functools.cache
def pump_off():
    """Return the reference that a flat field and a pump-off scan give."""
    return comparing.outside_reference([scan()], [run()], [run(2.0)])[0]


def compared_run():
    return comparing.compared(scans.spectra, [interleaved()], pump_off())


FLAT = {"pumped": 4e4, "unpumped": 4e4}
RATIO = contrast.ratio("pumped", "unpumped")


@functools.cache
def single_pulses():
    """Return log ratios of pulses with their variance, pulse, train and cell."""
    rng = np.random.default_rng(3)
    index = np.arange(96)
    return (rng.normal(0, 0.01, 96), np.full(96, 1e-4), index % 6, index // 6, index // 24)


@functools.cache
def fitted():
    """Return traces, their fit, and the inside of it."""
    data = simulate(snr=100, n_traces=2, seed=1)
    inner = problem.build_problem(
        *(np.array(data[n].values) for n in ("delay", "delta_xas", "delta_xas_stderr")), irf_sigma=0.05
    )
    minima = search.solve(inner)
    fit = shared.fit_kinetics(data, irf_sigma=0.05)
    spread = intervals.covariance(inner, minima[0])
    return SimpleNamespace(traces=data, problem=inner, minima=minima, fit=fit, spread=spread)


@functools.cache
def compared():
    return forms.compare_models(fitted().traces, irf_sigma=0.05)


@functools.cache
def targeted():
    """Return a cube of a line that moves, its fit with free amplitudes and its target model."""
    traces = moving_line.cube(moving_line.Sample(), snr=300, energy=moving_line.ENERGIES[2:18:2], scan=None)
    fit = shared.fit_kinetics(traces, irf_sigma=0.04, power=1, systematics=False)
    return traces, fit, target.fit_target(traces, fit, irf_sigma=0.04, power=1)


@functools.cache
def cube():
    """Return spectra as traces: (delay, energy)."""
    return fitted().traces.rename(trace="energy").assign_coords(energy=fitted().traces["energy"].values)


@functools.cache
def grouped():
    """Return spectra and a delay scan with the dims that the stages use."""
    data = fitted().traces
    spectra = cube().expand_dims(fluence=[8.0]).transpose("fluence", "delay", "energy")
    return spectra, data.rename(trace="scan").assign_coords(fluence=("scan", [8.0, 8.0]))


@functools.cache
def measured():
    """Return simulated spectra at two fluences and late delays."""
    late = mixture_truth.DELAY[mixture_truth.DELAY >= mixture_truth.MIN_DELAY][:2]
    return mixture_truth.demo_spectra(np.random.default_rng(4), fluence=np.array([8.0, 32.0]), delay=late)


@functools.cache
def mixtures():
    ground, excited = mixture_truth.dos()
    return {
        name: alpha.fit_mixture(measured(), ground * factor, excited, window=mixture_truth.WINDOW, min_delay=4.0)
        for name, factor in (("one", 1.0), ("other", 1.1))
    }


@functools.cache
def peaks():
    return lines.fit_peaks(measured())


@functools.cache
def peak_points():
    """Return energies, differences and 1/σ (spectrum, energy)."""
    energy = measured()["energy"].values
    return energy, *(a.reshape(-1, len(energy)) for a in extrema.usable(measured()))


@functools.cache
def plan():
    """Return a response, delays and precisions."""
    response = design.Response(TAUS, np.array([[1.0, 2.0, 1.1]]), 1, irf_stderr=0.0)
    delay = np.sort(np.concatenate([np.linspace(-0.2, 1.2, 12), np.geomspace(1.5, 60.0, 8)]))
    return response, delay, np.full((1, 20), 1e4)


def rng():
    return np.random.default_rng(0)


MODEL, WINDOW = mixture_truth.MODEL, mixture_truth.WINDOW
ENERGY = xr.DataArray(np.linspace(526, 532, 13), dims="energy", coords={"energy": np.linspace(526, 532, 13)})
DELAY = xr.DataArray(np.linspace(-1, 5, 7), dims="delay", coords={"delay": np.linspace(-1, 5, 7)})
BASIS = {"t_d": 0.0, "irf_sigma": 0.05, "taus": TAUS}
GRID = np.linspace(-1.0, 5.0, 20)
OF_COMPONENTS = {"component": range(1, 7), "decay": ["0"], "parameter": ["tau1"], "bound": ["lower", "upper"]}


# --- one call of every public function ------------------------------------------------------------------------------

CALLS = {
    "detector.assemble.build_calibration": lambda: ((camera().dark, camera().beams, camera().flat), {"gain": 1.3}),
    "detector.assemble.flat_field_noise": lambda: ((camera().flat, camera().calibration), {}),
    "detector.beam_photons.border_block": lambda: (
        (camera().raw, camera().cells, beam_photons.prepare(camera().calibration)),
        {},
    ),
    "detector.beam_photons.pedestal_block": lambda: (
        (camera().raw, camera().cells, beam_photons.prepare(camera().followed)),
        {},
    ),
    "detector.beam_photons.prepare": lambda: ((camera().calibration,), {}),
    "detector.beam_photons.reduce_block": lambda: ((camera().raw, camera().cells, camera().calibration), {}),
    "detector.beam_photons.reduce_frames": lambda: (
        (camera().flat["frames"].isel(train=slice(3)), camera().calibration),
        {},
    ),
    "detector.beam_photons.subtract_intra_train_dark": lambda: ((camera().pulses, first_is_dark(camera().pulses)), {}),
    "detector.beams.beam_dataset": lambda: (([(1, 5, 2, 6), (8, 12, 2, 6)],), {}),
    "detector.beams.find_beams": lambda: ((camera().image,), {"bad": camera().dark["bad_pixel"]}),
    "detector.blank.not_blank": lambda: ((camera().raw,), {}),
    "detector.crop.crop_to_beams": lambda: ((camera().beams,), {}),
    "detector.dark.dark_calibration": lambda: ((camera().sums,), {}),
    "detector.dark.dark_sums": lambda: ((camera().raw, camera().cells, 4), {}),
    "detector.dark.find_bad_pixels": lambda: ((camera().dark,), {}),
    "detector.dark.find_unresponsive_pixels": lambda: ((camera().image, camera().beams), {}),
    "detector.dark.merge_dark_sums": lambda: ((camera().sums, camera().sums), {}),
    "detector.dark.with_bad_pixel_attrs": lambda: ((camera().dark["bad_pixel"],), {}),
    "detector.flat_field.beam_moments": lambda: (
        (camera().sample, linearity.linear_table(np.zeros(0)), 1.3),
        {"order": 1},
    ),
    "detector.flat_field.fit_flat_field": lambda: (camera().moments, {}),
    "detector.flat_field.flat_field_weight": lambda: (
        (camera().sample.corners, camera().sample.good, flat_field.fit_flat_field(*camera().moments)),
        {},
    ),
    "detector.flat_field.ratio_noise": lambda: ((*camera().moments[:2], np.zeros((3, 1))), {}),
    "detector.flat_sample.cell_lookup": lambda: ((camera().dark,), {}),
    "detector.flat_sample.expected_dark": lambda: (
        (np.arange(512.0), np.array([40.0, 60.5]), np.array([1.0, 2.0])),
        {},
    ),
    "detector.flat_sample.flat_sample": lambda: ((camera().flat, camera().dark, camera().beams), {}),
    "detector.gain.fit_gain": lambda: ((camera().flat, camera().dark, camera().beams), {}),
    "detector.linearity.calibrate_linearity": lambda: ((camera().flat, camera().dark, camera().beams), {}),
    "detector.linearity.linear_table": lambda: ((np.array([0.01, 0.002]),), {}),
    "detector.linearity.polynomial_of_table": lambda: ((np.arange(512.0),), {}),
    "detector.pedestal.subtract_pedestal": lambda: ((camera().pulses, camera().followed), {}),
    "detector.pedestal.subtract_pump_light": lambda: ((camera().pulses, first_is_dark(camera().pulses)), {}),
    "detector.unlit.at_shifted_level": lambda: ((camera().dark, camera().unlit, np.array([0.1, 0.2, 0.3])), {}),
    "detector.unlit.chip_shifts": lambda: ((np.full((30, 1), 0.2), np.arange(30.0)), {}),
    "detector.unlit.prepare_unlit": lambda: ((camera().followed,), {}),
    "detector.unlit.unlit_pixels": lambda: ((camera().image, camera().dark, camera().beams), {}),
    "detector.unlit.with_unlit_pixels": lambda: ((camera().calibration, camera().dark, camera().unlit), {}),
    "forward.delta_xas": lambda: ((MODEL, ENERGY, DELAY), {"fluence": 8.0}),
    "forward.excited_fraction": lambda: ((MODEL, DELAY), {"fluence": 8.0}),
    "forward.excited_od": lambda: ((MODEL, ENERGY), {"shift": DELAY}),
    "forward.ground_od": lambda: ((MODEL, ENERGY), {}),
    "forward.line_shift": lambda: ((MODEL, DELAY), {}),
    "forward.scaled_amplitudes": lambda: ((MODEL, 8.0), {}),
    "forward.trace": lambda: ((MODEL, DELAY), {"fluence": 8.0}),
    "forward.without_resolution": lambda: ((MODEL,), {}),
    "injection.injected_pulses.as_scan": lambda: ((interleaved(), run()), {}),
    "injection.injected_pulses.halved": lambda: ((run(), rng()), {}),
    "injection.injected_pulses.measured_signal": lambda: ((run(), injection_truth.scans()), {}),
    "injection.injected_pulses.parts_by_train": lambda: ((interleaved(),), {}),
    "injection.injected_pulses.pulses_of": lambda: ((interleaved(), 0), {}),
    "injection.injected_pulses.with_signal": lambda: (
        (interleaved(), xr.zeros_like(interleaved()["condition"], dtype=float)),
        {},
    ),
    "injection.injected_signal.course_of": lambda: (
        (injection_truth.scans().isel(scan=0), injection_truth.fitted(), 8.0),
        {},
    ),
    "injection.injected_signal.signal_of": lambda: (
        (8.0, injection_truth.fitted(), injection_truth.mixture(), injection_truth.scans()),
        {},
    ),
    "injection.recovery.injection_notes": lambda: (
        (recovery.recovered(injection_truth.draws(n=20), {4: "in_run"}, injection_truth.SESSION),),
        {},
    ),
    "injection.recovery.pull_of": lambda: ((np.ones(2), np.zeros(2), np.array([[0.5, 1.5]] * 2)), {}),
    "injection.recovery.recovered": lambda: (
        (injection_truth.draws(n=20), {4: "in_run"}, injection_truth.SESSION),
        {},
    ),
    "injection.recovery.size_of": lambda: ((3,), {}),
    "kinetics.components.cube_components": lambda: ((cube(),), {}),
    "kinetics.components.gather_components": lambda: (
        ([8.0], {8.0: components.cube_components(cube())}, {8.0: fitted().fit}, {}),
        {},
    ),
    "kinetics.components.single_trace_fits": lambda: ((fitted().traces, fitted().fit), {}),
    "kinetics.design.candidate_delays": lambda: ((plan()[0], 60.0), {}),
    "kinetics.design.efficiency": lambda: ((*plan(), design.optimal_delays(plan()[0], plan()[1], np.array([1e4]))), {}),
    "kinetics.design.expected_errors": lambda: (plan(), {}),
    "kinetics.design.optimal_delays": lambda: ((plan()[0], plan()[1], np.array([1e4])), {}),
    "kinetics.design.rounded_shots": lambda: ((np.array([0.2, 0.3, 0.5]), 17), {}),
    "kinetics.design.shots_for": lambda: ((*plan(), 0.1), {}),
    "kinetics.design.tau_information": lambda: (plan(), {}),
    "kinetics.error_parts.moved_times": lambda: (
        (fitted().traces, fitted().fit),
        {"moved": 1.01 * fitted().traces, "irf_sigma": 0.05},
    ),
    "kinetics.error_parts.time_error_parts": lambda: ((fitted().traces, fitted().fit), {"irf_sigma": 0.05}),
    "kinetics.forms.compare_models": lambda: ((fitted().traces,), {"irf_sigma": 0.05}),
    "kinetics.intervals.bootstrap_parameters": lambda: (
        (fitted().problem, fitted().minima),
        {"n_draws": 2, "rng": rng()},
    ),
    "kinetics.intervals.chi_square": lambda: ((fitted().problem, fitted().minima[0]), {}),
    "kinetics.intervals.correlation": lambda: ((np.diag([4.0, 0.0]),), {}),
    "kinetics.intervals.covariance": lambda: ((fitted().problem, fitted().minima[0]), {}),
    "kinetics.intervals.describes": lambda: ((90.0, 93.0), {}),
    "kinetics.intervals.design_bound": lambda: ((fitted().problem, fitted().minima[0]), {}),
    "kinetics.intervals.error_scale": lambda: ((fitted().problem, fitted().minima[0]), {}),
    "kinetics.intervals.has_signal": lambda: ((fitted().problem, 90.0), {}),
    "kinetics.intervals.inverse": lambda: ((np.diag([4.0, 0.0]), np.array([True, True])), {}),
    "kinetics.intervals.profile_intervals": lambda: (
        (fitted().problem, fitted().minima, 1.0, np.sqrt(np.diag(fitted().spread.theta))),
        {},
    ),
    "kinetics.intervals.refit_replicates": lambda: (
        (fitted().problem, fitted().minima, [fitted().problem.peak * fitted().problem.data.signal]),
        {},
    ),
    "kinetics.intervals.stderr_from_interval": lambda: (
        (1.0, np.array([[0.9, 1.1], [0.8, 1.2], [0.7, 1.3]]), 0.1, np.array([0.01, 10.0])),
        {},
    ),
    "kinetics.model.amplitude_products": lambda: ((np.ones((2, 3)),), {}),
    "kinetics.model.convolved_exponential": lambda: ((GRID, np.array(1.0), 0.05), {}),
    "kinetics.model.decay_names": lambda: ((2, 3), {}),
    "kinetics.model.exponential_table": lambda: ((2, 3), {}),
    "kinetics.model.kinetic_basis": lambda: ((GRID,), BASIS),
    "kinetics.model.kinetic_basis_derivatives": lambda: ((GRID,), BASIS),
    "kinetics.model.kinetic_trace": lambda: ((GRID,), BASIS | {"amplitudes": np.array([1.0, 2.0, -0.5])}),
    "kinetics.model.product_derivatives": lambda: ((np.array([1.0, 2.0, -0.5]),), {}),
    "kinetics.model.trace_gradients": lambda: ((GRID,), BASIS | {"amplitudes": np.array([1.0, 2.0, -0.5])}),
    "kinetics.problem.build_problem": lambda: ((GRID, np.exp(-GRID)[None] * (GRID > 0), np.full((1, 20), 0.01)), {}),
    "kinetics.problem.linear": lambda: ((np.zeros((2, 5)),), {}),
    "kinetics.report.bootstrap_summary": lambda: ((np.random.default_rng(1).standard_normal((20, 5)),), {}),
    "kinetics.report.contradicted": lambda: (
        (targeted()[2], "another fit", 3 * targeted()[2]["value"], 3 * targeted()[2]["ci95"]),
        {},
    ),
    "kinetics.report.decay_spectra": lambda: ((fitted().problem, fitted().minima[0], fitted().spread), {}),
    "kinetics.report.numbers_from_fit": lambda: (
        (fitted().problem, fitted().minima[0], fitted().spread),
        {},
    ),
    "kinetics.report.systematic_shifts": lambda: ((fitted().problem, fitted().minima[0]), {}),
    "kinetics.report.verdicts": lambda: ((fitted().problem, fitted().minima[0], fitted().fit), {}),
    "kinetics.report.without_prior": lambda: ((fitted().problem, fitted().minima[0]), {}),
    "kinetics.search.canonical": lambda: ((fitted().minima[0], fitted().problem), {}),
    "kinetics.lmfit_model.kinetic_result": lambda: ((fitted().traces, fitted().fit), {}),
    "kinetics.lmfit_model.kinetics": lambda: (
        (GRID, np.zeros(20, np.int64), np.ones(20), np.full(20, -1), np.full(20, 528.0), 2),
        {"tau1": 0.1, "tau2": 0.3, "tau3": 2.0, "A1_0": 1.0, "A2_0": 2.0, "A3_0": -0.5},
    ),
    "kinetics.parameters.kinetic_parameters": lambda: (({"tau1": {"value": 0.1, "stderr": 0.01}},), {}),
    "kinetics.parameters.known_parameters": lambda: ((3, {"irf_sigma": 0.05}, ties()), {}),
    "kinetics.parameters.parameter_names": lambda: ((3,), {}),
    "kinetics.starts.with_given": lambda: ((fitted().problem, fitted().problem.start[None]), {}),
    "lmfit_results.as_json": lambda: ((result_of_fit(),), {}),
    "lmfit_results.as_report": lambda: ((result_of_fit(), "a line"), {}),
    "lmfit_results.interval_ends": lambda: ((1.0, np.array([0.9, 1.1]), np.array([0.8, 1.2])), {}),
    "lmfit_results.result_at": lambda: (a_line(), {}),
    "mixture.alpha_result.mixture_result": lambda: ((measured(), mixtures()["one"], 4.0), {}),
    "mixture.alpha_result.mixture_shares": lambda: ((np.ones(2), np.zeros(2), np.zeros(2)), {"alpha_0": 0.1}),
    "peaks.extrema.find_extrema": lambda: ((measured(),), {}),
    "peaks.extrema.mean_separation": lambda: ((peaks(),), {}),
    "peaks.extrema.usable": lambda: ((measured(),), {}),
    "peaks.extrema.window_slice": lambda: ((measured()["energy"].values, (526.5, 531.0)), {}),
    "peaks.line_result.peaks_result": lambda: ((measured(), peaks()), {}),
    "peaks.line_shape.gaussian": lambda: ((GRID, 1.0, 0.5), {}),
    "kinetics.baseline.baseline_errors": lambda: ((fitted().problem, fitted().minima[0], fitted().spread), {}),
    "kinetics.baseline.baseline_is_demanded": lambda: ((fitted().problem, fitted().minima[0]), {}),
    "kinetics.search.baselines": lambda: ((fitted().problem, fitted().minima[0]), {}),
    "kinetics.search.baselines_of": lambda: ((fitted().problem.data, fitted().problem.data.signal), {}),
    "kinetics.search.distinct": lambda: ((fitted().problem, fitted().minima), {}),
    "kinetics.search.model_traces": lambda: ((fitted().problem, fitted().minima[0]), {}),
    "kinetics.search.polish": lambda: ((fitted().problem, fitted().minima[0]), {}),
    "kinetics.search.refine": lambda: ((fitted().problem, fitted().problem.start), {}),
    "kinetics.search.solve": lambda: ((fitted().problem,), {}),
    "kinetics.shared.fit_kinetics": lambda: ((fitted().traces,), {"irf_sigma": 0.05, "n_bootstrap": 2}),
    "kinetics.shared.solve_kinetics": lambda: ((fitted().traces,), {"irf_sigma": 0.05}),
    "kinetics.shared.with_bootstrap": lambda: (
        (shared.solve_kinetics(fitted().traces, irf_sigma=0.05),),
        {"n_draws": 2},
    ),
    "kinetics.starts.abridged": lambda: ((fitted().problem,), {}),
    "kinetics.starts.start_points": lambda: ((starts.with_time_zero(fitted().problem),), {}),
    "kinetics.starts.with_time_zero": lambda: ((fitted().problem,), {}),
    "kinetics.traces.baseline_demanded": lambda: (
        (8.0, fitted().traces.assign(baseline_stderr=("trace", [0.0, 0.0])), fitted().fit),
        {},
    ),
    "kinetics.traces.collect_traces": lambda: ((*grouped(), 8.0), {"include_spectra": True}),
    "kinetics.traces.describes_data": lambda: ((fitted().fit,), {}),
    "kinetics.traces.gather_fits": lambda: (({8.0: fitted().fit, 16.0: None}, {8.0: compared()}), {}),
    "kinetics.traces.gathered": lambda: (
        (COMPONENTS, [8.0], {8.0: [components.cube_components(cube())]}, OF_COMPONENTS),
        {},
    ),
    "kinetics.traces.prior_decides": lambda: ((8.0, fitted().fit), {}),
    "kinetics.traces.simpler_form": lambda: ((8.0, compared(), forms.form_name(1, 3)), {}),
    "kinetics.forms.form_name": lambda: ((1, 2), {}),
    "kinetics.report.well_determined": lambda: (
        (
            np.array([0.2, 1.0]),
            np.array([[[0.15, 0.25], [0.5, 3.0]], [[0.1, 0.3], [0.3, 9.0]]]),
            *np.ones((2, 2)) * 0.1,
        ),
        {},
    ),
    "kinetics.report.withheld": lambda: ((fitted().fit,), {}),
    "kinetics.target.describes_cube": lambda: ((targeted()[2],), {}),
    "kinetics.target.fit_target": lambda: (targeted()[:2], {"irf_sigma": 0.04, "power": 1}),
    "kinetics.target.gather_targets": lambda: (([8.0, 16.0], {8.0: targeted()[2]}), {}),
    "kinetics.target.line_moves": lambda: ((targeted()[2], targeted()[1]), {}),
    "kinetics.target.populations": lambda: (
        (GRID,),
        {"t_d": 0.0, "irf_sigma": 0.05, "taus": TAUS, "shares": (0.7, 0.0)},
    ),
    "kinetics.time_zero.fit_time_zero": lambda: ((onset(),), {"irf_sigma": 0.05}),
    "labels.monitors.monitor_notes": lambda: (({3: triggered(), 4: run()}, "trigger"), {}),
    "labels.monitors.session_mean": lambda: (({3: triggered(), 4: run()}, "trigger"), {}),
    "labels.roles.assign_roles": lambda: (([run(-1.0), run()], None, ["pumped", "unpumped", "reference"]), {}),
    "labels.selection.count_reasons": lambda: ((np.array([[0, 1, 1]], np.uint8),), {}),
    "labels.selection.select_pulses": lambda: ((run(),), {"exclude_pulses": [4]}),
    "labels.timing.delay_spread": lambda: ((scan(), np.array([-2.0, 0.5, 3.0])), {}),
    "labels.timing.known_delay": lambda: ((run(),), {}),
    "labels.timing.ps_per_unit": lambda: ((labels()["delay_stage"],), {}),
    "labels.timing.pulse_delay": lambda: ((labels(),), {"t0": 120.0}),
    "mixture.alpha.fit_mixture": lambda: ((measured(), *mixture_truth.dos()), {"window": WINDOW, "min_delay": 4.0}),
    "mixture.dos.broaden": lambda: ((mixture_truth.dos()[0], 0.3, 0.1), {}),
    "mixture.dos.broadening_reach": lambda: ((0.3, 0.1), {}),
    "mixture.dos.shape_of": lambda: ((mixture_truth.dos()[0], 0.3, 0.1), {}),
    "mixture.dos.builtin_dos": lambda: ((measured(),), {"window": WINDOW, "min_delay": 4.0}),
    "mixture.dos_models.fit_builtin_models": lambda: ((measured(),), {"window": WINDOW, "min_delay": 4.0}),
    "mixture.dos_models.fit_models": lambda: (
        (measured(), {"dos": mixture_truth.dos()}),
        {"window": WINDOW, "min_delay": 4.0},
    ),
    "mixture.dos_models.model_error_parts": lambda: ((dos_models.with_model_error(mixtures()), "alpha"), {}),
    "mixture.dos_models.rising_edge": lambda: ((measured(),), {"window": WINDOW}),
    "mixture.reference_error.per_film": lambda: ((measured(),), {}),
    "mixture.reference_error.reference_error": lambda: (
        (measured(), mixtures()["one"]),
        {},
    ),
    "mixture.reference_error.with_reference_error": lambda: (
        (dos_models.with_model_error(mixtures()), mixtures()["one"]),
        {},
    ),
    "mixture.dos_models.with_model_error": lambda: ((mixtures(),), {}),
    "peaks.lines.fit_peaks": lambda: ((measured(),), {}),
    "peaks.smooth_curve.choose_kernel": lambda: (peak_points(), {}),
    "peaks.smooth_curve.smooth": lambda: ((smooth_curve.choose_kernel(*peak_points()), *peak_points()), {}),
    "peaks.windows.difference_window": lambda: ((measured(),), {}),
    "quality.agreement.compare_runs": lambda: (
        ({3: run(), 4: run(seed=9, first_train=2000)}, {6: scan(), 7: scan()}),
        {},
    ),
    "quality.backlash.backlash": lambda: ((run(), np.array([527.75, 528.25, 528.75, 529.25, 529.75])), {}),
    "quality.backlash.directions": lambda: ((np.array([1.0, 2.0, 3.0, 2.0, 1.0]),), {}),
    "quality.burst.about_mean": lambda: ((np.arange(4.0), np.ones(4), np.array([0, 0, 1, 1])), {}),
    "quality.burst.burst_drift": lambda: (single_pulses(), {}),
    "quality.burst.burst_profile": lambda: ((*single_pulses()[:4], 6, single_pulses()[4]), {}),
    "quality.burst.effects_of_delay": lambda: (
        (*single_pulses()[:2], single_pulses()[4], np.linspace(-1, 1, 96)),
        {"along": "energy"},
    ),
    "quality.burst.pulse_groups": lambda: ((6, 4, 2), {}),
    "quality.burst.resolved": lambda: ((scans.spectra, [run()], [np.arange(3), np.arange(3, 6)], [(0.0, 0.0)] * 2), {}),
    "quality.noise.profile_of_burst": lambda: ((run(), cell()), {}),
    "quality.noise.run_quality": lambda: ((run(), cell()), {"early": noise.Early(run(-1.0), cell(), (0.0, 0.01))}),
    "quality.light.border_change": lambda: (
        (run().assign(border=(("train", "beam"), np.full((16, 3), 0.01))),),
        {},
    ),
    "quality.light.intensity_test": lambda: ((run(), cell()), {}),
    "quality.session_design.rank_correlation": lambda: ((np.arange(4), np.arange(4)[::-1]), {}),
    "quality.session_design.session_notes": lambda: (
        ({3: run(), 4: run(2.0)}, {6: scan()}, scans.spectra([run(), run(2.0)]), scans.delay_scans([scan()]), None),
        {},
    ),
    "quality.noise.without_photons": lambda: ((xr.Dataset({"photons_pumped": DELAY, "delta_xas": DELAY}),), {}),
    "spectra.difference.difference": lambda: ((sums(), (0.1, 0.01)), {"along": "energy", "axis": axis()}),
    "spectra.difference.estimate": lambda: ((sums(), RATIO), {"along": "energy", "axis": axis()}),
    "spectra.resampling.resampled_differences": lambda: (
        ([run()], [scan()], scans.spectra([run()]), scans.delay_scans([scan()])),
        {"energy_bins": None, "delay_bins": None, "n_draws": 2},
    ),
    "spectra.resampling.train_weights": lambda: ((np.array([0, 0, 1, 1, -1]),), {"rng": rng()}),
    "kinetics.traces.traces_of": lambda: ((grouped(), 8.0), {}),
    "labels.join.joined": lambda: (numbered(), {}),
    "labels.join.run_group": lambda: ((3,), {}),
    "spectra.scans.at_steps": lambda: (([run(), run(2.0)],), {}),
    "spectra.scans.delay_scans": lambda: (([scan()],), {"pulses": np.arange(3)}),
    "spectra.reference.constant_of": lambda: ((None, [scan()]), {}),
    "labels.selection.only_pulses": lambda: ((run(), np.arange(3)), {}),
    "spectra.reference.before_time_zero": lambda: (([scan()],), {}),
    "spectra.reference.flat_constant": lambda: (([scan()],), {"pulses": np.arange(3)}),
    "spectra.reference.noise_of_trains": lambda: (([scan()],), {}),
    "spectra.scans.quality_cells": lambda: ((run(),), {"kind": "energy_scan"}),
    "spectra.scans.spectra": lambda: (([run(), run(2.0)],), {"pulses": np.arange(3)}),
    "spectra.uncertainty.beyond_noise": lambda: ((1.3, 20), {}),
    "spectra.uncertainty.moderated_variance": lambda: (variances(), {"along": "energy"}),
    "spectra.uncertainty.prior_of_ratio": lambda: ((np.array([1.0, np.nan, 2.0]), np.array([3, 3, 3])), {}),
    "sums.accumulate.accumulate": lambda: ((run(), cell(), 4), {}),
    "sums.accumulate.accumulate_runs": lambda: (([run()], [cell()[:, 0]], 4), {}),
    "sums.contrast.log_contrast": lambda: ((sums(), RATIO), {"slope": xr.zeros_like(axis())}),
    "sums.accumulate.mean_coordinate": lambda: ((sums(), "energy"), {}),
    "sums.accumulate.merge_sums": lambda: (([sums(), sums()],), {}),
    "sums.contrast.pulse_scatter": lambda: ((sums(), RATIO), {}),
    "sums.contrast.counts_of": lambda: ((sums(), RATIO), {}),
    "sums.contrast.is_change": lambda: ((RATIO,), {}),
    "sums.contrast.ratio": lambda: (("pumped", "unpumped"), {}),
    "sums.accumulate.without_pump": lambda: (("pumped",), {}),
    "labels.condition.one_condition": lambda: ((interleaved(), condition.OFF), {}),
    "labels.condition.condition_by_pulse": lambda: ((interleaved(), [1, 0]), {}),
    "labels.condition.condition_by_train": lambda: ((interleaved(), [1, 0]), {}),
    "labels.condition.condition_by_laser": lambda: ((with_laser(), 0), {}),
    "labels.condition.laser_offsets": lambda: ((with_laser(),), {}),
    "labels.pump_evidence.find_period": lambda: (([interleaved()], [run()]), {}),
    "labels.pump_evidence.swapped": lambda: (([interleaved()],), {}),
    "labels.pump_evidence.variation": lambda: (([interleaved()], condition.OFF), {}),
    "labels.selection.only_condition": lambda: ((interleaved(), condition.ON), {}),
    "spectra.moved_inputs.moved_by_pedestal": lambda: ((compared_run(), {"pumped": 9.0, "unpumped": 9.0}, FLAT), {}),
    "spectra.moved_inputs.moved_by_response": lambda: (
        (compared_run(), camera().calibration, {"pumped": 0, "unpumped": 1}, FLAT),
        {},
    ),
    "spectra.compared.compared": lambda: ((scans.spectra, [interleaved()], pump_off()), {}),
    "spectra.compared.has_both_conditions": lambda: ((interleaved(),), {}),
    "spectra.compared.outside_reference": lambda: (([scan()], [run()], [interleaved()]), {}),
    "spectra.difference.in_run_difference": lambda: ((sums_by_condition(),), {"along": "energy", "axis": axis()}),
    "spectra.difference.log_change": lambda: ((sums_by_condition(),), {"along": "energy", "axis": axis()}),
    "spectra.pump_off.fit_pump_off": lambda: ((pump_off().model.points, None, [(0.0, 0.1)]), {}),
    "spectra.pump_off.hours": lambda: ((np.arange(3),), {}),
    "spectra.pump_off.pump_off_points": lambda: (([run(), scan()],), {}),
    "spectra.pump_off.unpumped_density": lambda: (([run(), scan()],), {}),
    "spectra.pump_off.without_ratio": lambda: ((run(), pump_off().model), {}),
    "spectra.pump_off_curve.pump_off_curve": lambda: ((pump_off().model, [2, 3], [run(2.0)]), {}),
    "sums.accumulate.join_limbs": lambda: ((sums(),), {}),
    "sums.accumulate.total": lambda: ((sums(), "photons"), {}),
    "sums.accumulate.without": lambda: ((sums(), sums()), {}),
    "sums.binning.assign": lambda: ((np.array([1.0, np.nan, 3.0]), np.array([0.0, 2.0, 3.0])), {}),
    "sums.binning.centred_edges": lambda: ((np.array([1.0, 2.0]),), {"outer": 0.5}),
    "sums.binning.energy_edges": lambda: (([STEPS, STEPS[::-1]],), {}),
    "sums.binning.grid_edges": lambda: ((1.0, 2.0, 0.5), {}),
    "sums.binning.snap_to_steps": lambda: (([STEPS, STEPS + 1e-3],), {"resolution": 1e-3}),
    "sums.binning.step_centres": lambda: ((STEPS,), {}),
    "sums.binning.step_centres_of_all": lambda: (([np.array([1.0, 2.0]), np.array([2.0, 3.0])],), {}),
    "sums.binning.step_edges": lambda: ((np.array([1.0, 2.0]),), {}),
    "sums.binning.sweep_edges": lambda: ((np.array([2.0, 1.0, np.nan]),), {"width": 0.3}),
    "sums.edges.edges_of_delay": lambda: (([run(), run(2.0)], None), {}),
    "sums.edges.edges_of_energy": lambda: (([run(), run(2.0)], None), {}),
    "sums.edges.energy_of_scan": lambda: ((scan(),), {}),
    "sums.edges.is_same_energy": lambda: ((528.2, np.array([528.2, 529.0])), {}),
    "sums.edges.group_scans": lambda: (([scan(), scan()],), {}),
    "sums.edges.nominal_edges": lambda: (([scan()], None), {}),
}
"""Every public function, and how to call it on something small."""


IN_PLACE = {
    "peaks.line_result.peak_lines": "the function of an lmfit model, called by it with arrays that it makes",
}
"""Functions that are not called here, and why."""


def ties():
    return parameters.kinetic_parameters({"tau2": {"expr": "1.6*tau1"}})


@functools.cache
def tied():
    """Return a problem with a formula, and its minima."""
    data = simulate(snr=100, seed=1)
    arrays = (np.array(data[n].values) for n in ("delay", "delta_xas", "delta_xas_stderr"))
    inner = problem.build_problem(*arrays, irf_sigma=0.05, parameters=ties())
    return SimpleNamespace(problem=inner, minima=[search.solve(fitted().problem)[0]])


@functools.cache
def result_of_fit():
    return lmfit_model.kinetic_result(fitted().traces, fitted().fit)


def a_line():
    """Return an lmfit model, its parameters, data, weights and independent values."""
    line = lmfit.Model(lambda x, a, b: a + b * x)
    return line, line.make_params(a=1.0, b=2.0), GRID, np.ones(20), {"x": GRID}


def onset():
    """Return a delay scan across time zero."""
    return simulate(snr=100).rename(trace="scan").assign_coords(fluence=("scan", [8.0]))


def triggered():
    """Return pulses with a recorded trigger delay."""
    pulses = run()
    return pulses.assign(trigger=("train", np.zeros(pulses.sizes["train"])))


def first_is_dark(pulses):
    shape = (pulses.sizes["train"], pulses.sizes["pulse"])
    return xr.DataArray(np.broadcast_to(np.arange(shape[1]) == 0, shape), dims=("train", "pulse"))


def labels():
    return xr.Dataset(
        {
            "delay_stage": ("train", np.array([120.0, 121.0]), {"units": "mm"}),
            "trigger": ("train", np.array([0.0, 1.0])),
            "arrival": (("train", "pulse"), np.zeros((2, 3))),
        }
    )


def numbered():
    """Return pulses whose beams are numbered, and their labels."""
    pulses, beams = run(), np.array([str(b) for b in run()["beam"].values])
    names = ["train_id", "energy", "delay", "nominal_delay", "fluence"]
    labels = pulses[["drop_reason"]].reset_coords(drop=True).assign_coords({n: pulses[n].variable for n in names})
    bare = pulses.drop_vars(["delay", "nominal_delay", "fluence", "drop_reason"]).assign_coords(beam=np.arange(3))
    return bare, labels.assign_coords(role=("beam", beams))


def axis():
    return accumulate.mean_coordinate(sums(), "energy")[0]


def variances():
    energy = np.arange(6.0)
    values = np.abs(np.random.default_rng(5).standard_normal((3, 2, 6))) + 0.5
    values[2] = 5.0
    return tuple(xr.DataArray(v, dims=("delay", "energy"), coords={"energy": energy}) for v in values)


# --- the rules ------------------------------------------------------------------------------------------------------


def public_functions():
    """Return every function that a public module of science offers, by its name below `pipeline.science`."""
    found = {}
    for info in pkgutil.walk_packages(pipeline.science.__path__, "pipeline.science."):
        module = importlib.import_module(info.name)
        if info.ispkg or info.name.rpartition(".")[2].startswith("_"):
            continue
        for name in module.__all__:
            value = getattr(module, name)
            if callable(value) and not inspect.isclass(value) and getattr(value, "__module__", "") == info.name:
                found[f"{info.name}.{name}".removeprefix("pipeline.science.")] = value
    return found


FUNCTIONS = public_functions()


def test_every_public_function_has_a_row():
    assert sorted(set(FUNCTIONS) - set(CALLS) - set(IN_PLACE)) == [], "give these a row in CALLS"
    assert sorted({*CALLS, *IN_PLACE} - set(FUNCTIONS)) == [], "these are gone"


def assert_same(before, after, where):
    """Assert that two arguments are the same to the bit, whatever they consist of."""
    assert type(before) is type(after), where
    if isinstance(before, xr.Dataset | xr.DataArray):
        xr.testing.assert_identical(before, after)
        for name in before.coords:
            assert before[name].dtype == after[name].dtype, where
    elif isinstance(before, np.ndarray):
        np.testing.assert_array_equal(before, after, err_msg=where, strict=True)
    elif dataclasses.is_dataclass(before) or type(before).__module__.startswith("pipeline."):
        names = before._fields if isinstance(before, tuple) else vars(before)
        for name in names:
            assert_same(getattr(before, name), getattr(after, name), f"{where}.{name}")
    elif isinstance(before, lmfit.Model):
        assert before.dumps() == after.dumps(), where
    elif isinstance(before, lmfit.model.ModelResult):
        assert before.fit_report() == after.fit_report(), where
    elif isinstance(before, dict):
        assert list(before) == list(after), where
        for key in before:
            assert_same(before[key], after[key], f"{where}[{key}]")
    elif isinstance(before, list | tuple):
        assert len(before) == len(after), where
        for k, pair in enumerate(zip(before, after, strict=True)):
            assert_same(*pair, f"{where}[{k}]")
    elif not callable(before) and not isinstance(before, np.random.Generator):  # to draw from it is what that is for
        assert before == after, where


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(set(CALLS) & set(FUNCTIONS)))
def test_arguments_are_left_alone(name):
    """A2. The call is made on the arguments themselves, and they are compared with copies made before."""
    args, kwargs = CALLS[name]()
    before = copy.deepcopy((args, kwargs))
    FUNCTIONS[name](*args, **kwargs)
    assert_same(before, (args, kwargs), name)


def moved(array, dim):
    """Return the same with the coordinate of a dim moved: nothing and half of it overlap with what it was."""
    values = array[dim].values if dim in array.coords else np.arange(array.sizes[dim], dtype=float)
    return array.assign_coords({dim: np.concatenate([values[1:], values[-1:] + (values[-1:] - values[-2:-1])])})


def labelled(array, *dims):
    return array.assign_coords({d: np.arange(array.sizes[d], dtype=float) for d in dims})


def replicates():
    return fitted().traces["delta_xas"].expand_dims(draw=2).drop_vars("energy")


MISMATCHED = {
    "subtract_intra_train_dark: pulse": lambda: beam_photons.subtract_intra_train_dark(
        labelled(camera().pulses, "pulse"), moved(labelled(first_is_dark(camera().pulses), "pulse"), "pulse")
    ),
    "unlit_pixels: x of the dark run": lambda: unlit.unlit_pixels(
        camera().image, moved(camera().dark, "x"), camera().beams
    ),
    "with_unlit_pixels: y of the unlit pixels": lambda: unlit.with_unlit_pixels(
        camera().calibration, camera().dark, moved(camera().unlit, "y")
    ),
    "subtract_pump_light: pulse": lambda: pedestal.subtract_pump_light(
        labelled(camera().pulses, "pulse"), moved(labelled(first_is_dark(camera().pulses), "pulse"), "pulse")
    ),
    "find_beams: x of the bad pixels": lambda: beams.find_beams(
        camera().image, bad=moved(camera().dark["bad_pixel"].astype(int), "x")
    ),
    "flat_sample: y of the bad pixels": lambda: flat_sample.flat_sample(
        camera().flat, camera().dark, camera().beams, bad=moved(camera().dark["bad_pixel"].astype(int), "y")
    ),
    "build_calibration: x of the dark run": lambda: assemble.build_calibration(
        moved(camera().dark, "x"), camera().beams, camera().flat, gain=1.3
    ),
    "fit_gain: x of the dark run": lambda: gain.fit_gain(camera().flat, moved(camera().dark, "x"), camera().beams),
    "calibrate_linearity: x of the dark run": lambda: linearity.calibrate_linearity(
        camera().flat, moved(camera().dark, "x"), camera().beams
    ),
    "reduce_frames: x of the calibration": lambda: beam_photons.reduce_frames(
        camera().flat["frames"].isel(train=slice(2), x=slice(10, None)), camera().calibration
    ),
    "excited_od: energies of the shift": lambda: forward.excited_od(MODEL, ENERGY, shift=moved(0 * ENERGY, "energy")),
    "delta_xas: energy and delay along one dim": lambda: forward.delta_xas(
        MODEL, ENERGY.rename(energy="point"), moved(0 * ENERGY.rename(energy="point"), "point"), fluence=8.0
    ),
    "fit_kinetics: delays of the replicates": lambda: shared.fit_kinetics(
        fitted().traces, irf_sigma=0.05, replicates=moved(replicates(), "delay")
    ),
    "difference: cells of the axis": lambda: difference.difference(
        labelled(sums(), "cell"), (0.0, 0.0), along="energy", axis=moved(labelled(axis(), "cell"), "cell")
    ),
    "estimate: cells of the axis": lambda: difference.estimate(
        labelled(sums(), "cell"), RATIO, along="energy", axis=moved(labelled(axis(), "cell"), "cell")
    ),
    "log_contrast: cells of the slope": lambda: contrast.log_contrast(
        labelled(sums(), "cell"), RATIO, slope=moved(labelled(axis(), "cell"), "cell")
    ),
    "merge_sums: cells": lambda: accumulate.merge_sums(
        [labelled(sums(), "cell"), moved(labelled(sums(), "cell"), "cell")]
    ),
    "without: cells": lambda: accumulate.without(labelled(sums(), "cell"), moved(labelled(sums(), "cell"), "cell")),
    "moderated_variance: energies of the shot noise": lambda: uncertainty.moderated_variance(
        variances()[0], moved(variances()[1], "energy"), variances()[2], along="energy"
    ),
    "moderated_variance: energies of the trains": lambda: uncertainty.moderated_variance(
        variances()[0], variances()[1], moved(variances()[2], "energy"), along="energy"
    ),
    "with_model_error: fluences": lambda: dos_models.with_model_error(
        {"one": mixtures()["one"], "other": mixtures()["other"].assign_coords(fluence=[8.0, 16.0])}
    ),
    "with_model_error: energies": lambda: dos_models.with_model_error(
        {"one": mixtures()["one"], "other": moved(mixtures()["other"], "energy")}
    ),
}
"""Functions of two labelled arguments, called with axes of which a part overlaps."""


@pytest.mark.parametrize("call", MISMATCHED)
def test_axes_that_differ_are_an_error(call):
    """A13. Plain arithmetic would keep what both have, without a word."""
    with pytest.raises((ValueError, KeyError, xr.AlignmentError), match=r"align|exact|cover|beam|label|not all"):
        MISMATCHED[call]()


LAZY = {
    "reduce_frames": lambda data: beam_photons.reduce_frames(data["frames"], camera().calibration),
    "build_calibration": lambda data: assemble.build_calibration(camera().dark, camera().beams, data, gain=1.3),
}


@pytest.mark.parametrize("name", LAZY)
def test_frames_may_be_lazy(name):
    """Frames in dask chunks give the same bits as frames in memory."""
    eager = camera().flat.isel(train=slice(6))
    lazy = eager.chunk({"train": 2})
    xr.testing.assert_identical(LAZY[name](lazy), LAZY[name](eager))
    assert lazy["frames"].chunks is not None
