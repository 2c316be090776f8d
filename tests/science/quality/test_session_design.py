"""A session whose order lets drift and wear look like physics is told so, with how much; another one is not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import spearmanr

from pipeline.science.labels.condition import condition_by_pulse
from pipeline.science.quality.session_design import rank_correlation, session_notes
from pipeline.science.spectra.compared import compared, outside_reference
from pipeline.science.spectra.scans import delay_scans, spectra
from schemas.usual import USUAL
from tests.science.spectra.test_compared import ENERGY, Session, delta, od

NUMBERS = st.lists(st.integers(-5, 5), min_size=3, max_size=12)


@given(NUMBERS, st.randoms(use_true_random=False))
def test_the_rank_correlation_is_spearmans(a, random):
    b = random.sample(a, len(a))
    if len(set(a)) == 1:
        assert rank_correlation(a, b) == 0.0
    else:
        assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
        assert rank_correlation(a, np.exp(a)) == pytest.approx(1.0)


def energy_scans(order, *, delay=4.8, gap=0.3, in_run=False, last=False):
    """Return notes on energy scans at fluences in an order, with a flat field before; `last`: a pump-off scan after each."""
    session = Session(3)
    flat, runs, off = session.run(np.full(40, 528.2)), {}, []
    delays = np.broadcast_to(delay, len(order))
    for k, (fluence, at) in enumerate(zip(order, delays, strict=True)):
        run = session.run(np.repeat(ENERGY, 3), shape=delta(np.repeat(ENERGY, 3)), fluence=fluence, delay=at, gap=gap)
        if in_run:
            run = run.assign_coords(condition=condition_by_pulse(run, [1, 0]))
        runs[3 + k] = run
        if last:
            off.append(session.run(np.repeat(ENERGY, 3)))
    outside, _ = outside_reference([flat], off, list(runs.values()))
    cube, scan = compared(spectra, list(runs.values()), outside), delay_scans([])
    return session_notes(runs, {}, cube, scan, outside.model), outside


@pytest.mark.parametrize(
    ("order", "goes"), [((8.0, 16.0, 32.0), "rises"), ((32.0, 8.0, 8.0), "falls"), ((8.0, 32.0, 16.0, 8.0), None)]
)
def test_fluences_in_the_order_of_time_are_told_unless_they_are_interleaved(order, goes):
    notes, _ = energy_scans(order)
    assert [n.code for n in notes] == (["design.fluence_with_time"] if goes else [])
    if goes:
        assert notes[0].text.startswith(f"fluence {goes} with time over 3 runs")
        assert notes[0].severity == "caution"


def test_pulses_without_pump_in_the_runs_leave_nothing_to_tell():
    assert energy_scans((8.0, 16.0, 32.0), in_run=True)[0] == []


def test_pump_off_scans_between_the_runs_make_the_open_part_smaller():
    """What is said is the root of the variance of the change that data leave open; with the flat field alone it is the usual sizes."""

    def unknown(notes):
        return [float(n.text.split(": ")[1].split(" mOD")[0]) for n in notes]

    (alone,) = unknown(energy_scans((8.0, 16.0, 32.0))[0])
    between = unknown(energy_scans((8.0, 16.0, 32.0), last=True)[0])
    # the thicker of the two peaks of the difference; two runs and a bit of wear, with what differs from run to run
    at = ENERGY[np.argmin(delta(ENERGY))]
    wear = USUAL.wear * od(at) * np.sqrt(2.0**2 + 0.33**2 * 2.0)
    assert alone > 1e3 * wear
    assert alone < 2e3 * wear + 3e3 * USUAL.drift
    assert all(one < 0.7 * alone for one in between)


def test_energy_scans_in_the_order_of_their_delays_are_told():
    notes, _ = energy_scans((8.0, 8.0, 8.0), delay=(0.2, 1.0, 4.8))
    (said,) = notes
    assert (said.code, said.fluence, said.run) == ("design.delay_with_time", 8.0, None)
    assert said.text.startswith("energy scans at 8 mJ/cm²: delay rises with time")
    assert energy_scans((8.0, 8.0, 8.0, 8.0), delay=(0.2, 4.8, 1.0, 0.2))[0] == []


def scanned(delays, *, model):
    session = Session(4)
    flat = session.run(np.full(40, 528.2))
    run = session.run(np.full(len(delays), 528.2), shape=delta(528.2), delay=0.0)
    run = run.assign_coords(
        nominal_delay=("train", delays), delay=(("train", "pulse"), np.repeat(delays[:, None], 8, axis=1))
    )
    outside, _ = outside_reference([flat], [], [run])
    scan = compared(delay_scans, [run], outside)
    return session_notes({}, {9: run}, spectra([]), scan, outside.model if model else None)


def test_a_delay_scan_that_goes_one_way_once_is_told_and_one_to_and_fro_is_not():
    up = np.repeat(np.linspace(-1.0, 20.0, 30), 200)
    (said,) = scanned(up, model=True)
    assert (said.code, said.run, said.fluence) == ("design.delay_with_time", 9, 8.0)
    assert said.text.startswith("delay scan at 528.20 eV, 8 mJ/cm²: delay rises with time (10 min)")
    (said,) = scanned(-up, model=True)
    assert "delay falls with time" in said.text
    assert scanned(np.concatenate([up[::2], up[::-2]]), model=True) == []


def test_without_anything_measured_the_usual_drift_is_what_is_not_known():
    up = np.repeat(np.linspace(-1.0, 20.0, 30), 200)
    (said,) = scanned(up, model=False)
    unknown = 1e3 * USUAL.drift * 5999 / 36000
    assert f": {unknown:.2g} mOD of drift" in said.text
