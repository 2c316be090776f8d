"""Every row is compared with the best reference there is, and its errors cover what films, splitting, drift and wear do."""

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.labels.condition import OFF, ON, condition_by_pulse, condition_by_train, one_condition
from pipeline.science.labels.selection import only_condition
from pipeline.science.spectra.compared import compared, outside_reference
from pipeline.science.spectra.pump_off import TRAINS_PER_HOUR, pump_off_points
from pipeline.science.spectra.reference import noise_of_trains
from pipeline.science.spectra.scans import delay_scans, spectra
from schemas.usual import Usual
from tests.science.pulse_truth import make_pulses

ENERGY = np.arange(526.0, 532.01, 0.25)


def od(energy):
    """A ground state that no model of the reference contains."""
    energy = np.asarray(energy)
    return 0.15 + 0.4 / (1 + np.exp(-(energy - 530.6) / 0.3)) + 0.3 * np.exp(-(((energy - 528.9) / 0.5) ** 2))


def delta(energy, size=0.012):
    energy = np.asarray(energy)
    return size * (np.exp(-(((energy - 528.2) / 0.4) ** 2)) - 0.8 * np.exp(-(((energy - 529.1) / 0.5) ** 2)))


class Session:
    """A beamtime with a film that is thicker by some per cent, splitting that changes with energy, a drift and wear."""

    def __init__(self, seed, *, films=0.02, slope=1e-3, drift=3e-3, wear=2e-3, excess=0.0):
        self.rng = np.random.default_rng(seed)
        self.films, self.slope, self.excess, self.wear = films, slope, excess, wear
        steps = self.rng.normal(0, 0.5 * drift * np.sqrt(0.02), 400) + 0.02 * drift * self.rng.standard_normal()
        self.walk = np.cumsum(steps)
        self.train, self.worn = 1_000_000, 0.0

    def run(
        self, energy, *, shape=None, delay=4.8, pattern=None, trains=None, gap=0.05, photons=3e5, pulses=8, fluence=8.0
    ):
        """Pulses of a run; `shape`: ΔXAS of its pumped pulses, None without pump."""
        n = len(energy)
        wears = self.wear if shape is not None else 0.0
        time = (np.arange(n) + self.train - 1_000_000) / TRAINS_PER_HOUR
        c = (
            (self.films - self.worn - wears * np.arange(n) / n) * od(energy)
            + self.slope * (energy - 529.0)
            + np.interp(time, 0.02 * np.arange(400), self.walk)
        )
        off, on = (
            make_pulses(
                np.random.default_rng(self.rng.integers(2**32)),
                energy,
                od=od(energy),
                delta=c + change,
                n_pulses=pulses,
                photons=photons,
                read_variance=0.0,
                delay=delay,
                first_train=self.train,
            )
            for change in (0.0, 0.0 if shape is None else shape)
        )
        jitter = 1 + self.excess * self.rng.standard_normal((n, 1, 3))
        conditioned = one_condition(on, OFF) if shape is None else one_condition(on, 0)
        if pattern is not None and shape is not None:
            conditioned = condition_by_pulse(on, pattern)
        if trains is not None and shape is not None:
            conditioned = condition_by_train(on, trains)
        photons_seen = (
            xr.where(conditioned == OFF, off["photons"], on["photons"]).transpose(*on["photons"].dims) * jitter
        )
        self.train += n + int(gap * TRAINS_PER_HOUR)
        self.worn += wears
        return on.assign(photons=photons_seen, photons_stderr=np.sqrt(photons_seen)).assign_coords(
            condition=conditioned, fluence=fluence
        )


def z_of(found, truth, *, total):
    row = found.isel(fluence=0, delay=0) if "fluence" in found.dims else found.isel(scan=0)
    error = row["delta_xas_stderr"]
    if total:
        error = np.hypot(error, row["delta_xas_stderr_systematic"])
    return ((row["delta_xas"] - truth) / error).values


STEPS = np.repeat(ENERGY, 6)


@pytest.mark.parametrize(
    ("how", "excess"),
    [
        ({"pattern": [1, 0]}, 0.0),
        ({"pattern": [1, 0]}, 0.004),
        ({"pattern": [0, 1, 1]}, 0.0),
        ({"trains": [1, 0]}, 0.0),
    ],
    ids=["pulses", "train noise", "odd pattern", "trains"],
)
def test_pulses_without_pump_in_the_run_take_off_films_splitting_drift_and_wear(how, excess):
    """χ²/dof of 24 spectra of 25 bins with statistical errors only; the standard error of the mean is 0.06."""
    z = []
    for seed in range(24):
        session = Session(seed, excess=excess)
        session.worn = 0.05
        run = session.run(STEPS, shape=delta(STEPS), **how)
        found = compared(spectra, [run], outside_reference([], [], [run])[0])
        assert (found["reference"] == "in_run").all()
        assert (found["delta_xas_stderr_systematic"] == 0).all()
        z.append(z_of(found, delta(ENERGY), total=False))
    assert np.mean(np.square(z)) == pytest.approx(1.0, abs=0.17)
    assert abs(np.mean(z)) < 4 / np.sqrt(np.size(z))


def test_in_run_noise_of_trains_cancels():
    """Trains whose ratio jitters by 0.6 %: what is left is as far as both conditions had not the same light."""
    run = Session(3, excess=0.004).run(STEPS, shape=delta(STEPS), pattern=[1, 0], pulses=40)
    found = compared(spectra, [run], outside_reference([], [], [run])[0])
    alone = spectra([only_condition(run, ON)])
    ratio, before = (float((one["delta_xas_stderr"] / one["delta_xas_stderr_shot"]).mean()) for one in (found, alone))
    assert ratio < 1.4
    assert before > 2 * ratio


def sessions(n, **scans):
    """Spectra of sessions in which all pulses of the scan are pumped; `scans`: how many pump-off scans and flat fields."""
    for seed in range(n):
        rng = np.random.default_rng(1000 + seed)
        size = {
            "films": 0.02 * rng.standard_normal(),
            "slope": 1e-3 * rng.standard_normal(),
            "wear": 3e-3 * rng.standard_normal(),
        }
        session = Session(seed, **size)
        flats = [session.run(np.full(60, 528.5))]
        still = [session.run(np.repeat(ENERGY, 4)) for _ in range(min(scans.get("pump_off", 0), 1))]
        runs = [session.run(STEPS, shape=delta(STEPS)) for _ in range(3)]
        still += [session.run(np.repeat(ENERGY, 4)) for _ in range(scans.get("pump_off", 0) - 1)]
        flats += [session.run(np.full(60, 528.5)) for _ in range(scans.get("flats", 1) - 1)]
        noise = noise_of_trains(flats[:1])
        outside, _ = outside_reference(flats, still, runs, train_noise=noise)
        yield compared(spectra, runs[1:2], outside, train_noise=noise)


def test_rows_with_and_without_a_reference_of_their_own_stand_side_by_side():
    """Pulses arrive a little early or late; of the second run every twentieth train was not pumped."""
    session = Session(5)
    flat, still = session.run(np.full(60, 528.5)), session.run(np.repeat(ENERGY, 4))
    patterns = ((1.0, {"pattern": [1, 0]}), (4.8, {"trains": [0] + [1] * 19}))
    runs = [session.run(STEPS, shape=delta(STEPS), delay=at, **pattern) for at, pattern in patterns]
    rng = np.random.default_rng(6)
    runs = [run.assign_coords(delay=run["delay"] + 0.01 * rng.standard_normal(run["delay"].shape)) for run in runs]
    found = compared(spectra, runs, outside_reference([flat], [still], runs)[0])
    assert found["reference"].values.tolist() == [["in_run", "pump_off_scan"]]
    alone = compared(spectra, runs[:1], outside_reference([flat], [still], runs[:1])[0])
    np.testing.assert_array_equal(found["delta_xas"][0, 0], alone["delta_xas"][0, 0])
    np.testing.assert_allclose(found["delay"], [1.0, 4.8], atol=0.01)
    assert (found["delta_xas_stderr_systematic"][0, 0] == 0).all()
    assert (found["delta_xas_stderr_systematic"][0, 1] > 0).all()
    assert np.mean(np.abs(z_of(found.isel(delay=[1]), delta(ENERGY), total=True)) < 3) > 0.9


@pytest.mark.parametrize(
    ("scans", "kind"),
    [
        ({"pump_off": 2, "flats": 2}, "pump_off_scan"),
        pytest.param({"pump_off": 1}, "pump_off_scan", marks=pytest.mark.long),
        ({}, "flat_field"),
        pytest.param({"flats": 2}, "flat_field", marks=pytest.mark.long),
    ],
    ids=["two pump-off scans", "one pump-off scan", "flat field", "two flat fields"],
)
def test_total_errors_cover_where_the_reference_is_from_elsewhere(scans, kind):
    """Bins of a session share films, slope, drift and wear, so 40 sessions are 40 numbers: 68 % ± 7 %, χ² 1 ± 0.22."""
    z = []
    for found in sessions(40, **scans):
        assert (found["reference"] == kind).all()
        z.append(z_of(found, delta(ENERGY), total=True))
    z = np.array(z)
    assert np.mean(np.abs(z) < 1) > 0.52
    assert np.mean(np.abs(z) < 2) > 0.88
    assert 0.45 < np.mean(z**2) < 1.7


def test_the_film_is_seen_with_a_pump_off_scan_and_is_an_error_without():
    with_scan, without = (next(sessions(1, **scans)) for scans in ({"pump_off": 2}, {}))
    at_edge = {"fluence": 0, "delay": 0, "energy": -1}
    good, bad = (float(one["delta_xas_stderr_systematic"].isel(at_edge)) for one in (with_scan, without))
    # two per cent of an optical density that is 0.35 higher than at the flat field's energy, and 3 meV/eV over 3.5 eV
    assert bad == pytest.approx(np.hypot(0.02 * (od(532.0) - od(528.5)), 1e-3 * 3.5), rel=0.5)
    assert good < 0.35 * bad


@pytest.mark.long
def test_a_drift_along_a_delay_scan_is_in_the_error_or_cancels():
    """A plateau after an hour at 3 mOD per √hour: without pulses between it is unknown by as much, with them it is not."""
    steps = np.repeat(np.linspace(-1.0, 60.0, 12), 8)
    z_all, z_own = [], []
    for seed in range(80):
        session = Session(seed, wear=0.0)
        flat = session.run(np.full(40, 528.2), gap=0.6)
        for pattern, z in ((None, z_all), ([1, 0], z_own)):
            run = session.run(np.full(len(steps), 528.2), shape=np.where(steps > 0, 0.012, 0.0), pattern=pattern)
            run = run.assign_coords(
                nominal_delay=("train", steps), delay=(("train", "pulse"), np.repeat(steps[:, None], 8, 1))
            )
            outside, _ = outside_reference([flat], [], [run])
            found = compared(delay_scans, [run], outside)
            truth = np.where(found["delay"] > 0, 0.012, 0.0)
            z.append(z_of(found, truth, total=pattern is None))
    assert np.mean(np.square(z_own)) == pytest.approx(1.0, abs=0.2)
    # 80 sessions of one drift each: 68 % ± 5 %
    assert np.mean(np.abs(z_all) < 1) > 0.55
    assert np.mean(np.abs(z_all) < 2) > 0.88


def test_runs_of_which_no_pulse_counts_are_no_reference():
    dark = Session(1).run(np.full(5, 528.2))
    dark["drop_reason"].values[:] = 2
    with pytest.raises(DataError, match=r"no pulse without pump counts; is it a run with X-rays\?"):
        pump_off_points([dark])


def delay_run(session, *, pattern=None, energy=528.2, **more):
    """A delay scan from −1 ps on, whose plateau is 12 mOD."""
    steps = np.repeat(np.array([-1.0, -0.5, 1.0, 5.0]), 8)
    run = session.run(np.full(32, energy), shape=np.where(steps > 0, 0.012, 0.0), pattern=pattern, **more)
    return run.assign_coords(
        nominal_delay=("train", steps), delay=(("train", "pulse"), np.repeat(steps[:, None], 8, axis=1))
    )


def test_without_anything_else_delays_before_time_zero_are_the_reference_and_its_error_is_known():
    session = Session(4)
    run = delay_run(session)
    outside, notes = outside_reference([], [], [run])
    found = compared(delay_scans, [run], outside)
    assert [n.code for n in notes] == ["reference.flat_field_missing"]
    assert (found["reference"] == "before_time_zero").all()
    assert np.isfinite(found["delta_xas_stderr_systematic"]).all()
    assert (np.abs(z_of(found, np.array([0.0, 0.0, 0.012, 0.012]), total=True)) < 4).all()
    late = run.assign_coords(delay=run["delay"] + 2.0, nominal_delay=run["nominal_delay"] + 2.0)
    outside, notes = outside_reference([], [], [late])
    assert (outside.kind, [n.code for n in notes]) == ("none", ["reference.offset_unknown"])


def test_pulses_without_pump_of_one_run_are_the_reference_of_another_that_has_none():
    """No flat field, no pump-off scan, no early delay: 8 % more flux in one beam must not become a difference."""
    session = Session(5, drift=0.0, wear=0.0)
    shared = delay_run(session, pattern=[1, 0])
    alone = delay_run(session, fluence=16.0)
    late = [
        run.assign_coords(delay=run["delay"] + 2.0, nominal_delay=run["nominal_delay"] + 2.0) for run in (shared, alone)
    ]
    outside, notes = outside_reference([], [], late)
    assert notes == []
    found = compared(delay_scans, late, outside)
    assert found["reference"].isel(scan=0, delay=0) == "in_run"
    assert found["reference"].isel(scan=1, delay=0) != "none"
    np.testing.assert_allclose(found["delta_xas"].isel(scan=1), [0.0, 0.0, 0.012, 0.012], atol=0.003)


def test_photons_are_those_that_the_sample_let_through_whatever_the_number_of_bins():
    session = Session(6, films=0.05)
    energy = np.repeat(np.arange(526.0, 532.0, 0.001), 1)
    still, run = session.run(np.repeat(ENERGY, 4)), session.run(energy, shape=delta(energy), pulses=2)
    outside, _ = outside_reference([], [still], [run])
    found = compared(spectra, [run], outside, energy_bins=(526.0, 531.99, 0.001))
    assert found.sizes["energy"] > 4096
    seen = run["photons"].sel(beam="pumped").sum()
    assert float(found["photons_pumped"].sum()) == pytest.approx(float(seen), rel=2e-3)


def test_scans_at_neighbouring_energies_have_times_of_their_own():
    session = Session(7)
    flat = session.run(np.full(40, 528.2))
    first, later = delay_run(session), delay_run(session, energy=528.5, gap=1.0)
    last = delay_run(session, energy=528.5)
    found = compared(delay_scans, [first, last], outside_reference([flat], [], [first, later, last])[0])
    soon, late = (float(found["delta_xas_stderr_systematic"].isel(scan=k).mean()) for k in (0, 1))
    assert late > 3 * soon


def test_films_that_differ_more_than_usual_are_unknown_by_more():
    session = Session(8)
    flat, run = session.run(np.full(40, 528.2)), session.run(np.repeat(ENERGY, 4), shape=delta(ENERGY.repeat(4)))
    one, more = (
        compared(spectra, [run], outside_reference([flat], [], [run], usual=Usual(films=films))[0])
        for films in (0.02, 0.06)
    )
    ratio = (more["delta_xas_stderr_systematic"] / one["delta_xas_stderr_systematic"]).isel(energy=-1)
    assert 2.5 < float(ratio.squeeze()) < 3.01
    np.testing.assert_array_equal(more["delta_xas"], one["delta_xas"])
