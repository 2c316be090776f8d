"""Known signals in sessions with each reference: what comes back, and what shows in the pulls."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import ProductError
from pipeline.job import Job
from pipeline.stages.base import Context
from pipeline.stages.bin import bin_differences
from pipeline.stages.fit_kinetics import fit_all_kinetics
from pipeline.stages.fit_mixture import fit_late_spectra
from pipeline.stages.inject import INJECT, Session, inject_and_fit, inject_many, session_of
from schemas.datasets.injection import RECOVERED
from tests.science import mixture_truth
from tests.science.session_truth import EVERY_SECOND, WINDOW, job_of, session_pulses, short_session

MODELS = {"main": mixture_truth.dos()}


class Measured(NamedTuple):
    job: Job
    groups: dict[str, xr.Dataset]
    session: Session


def measured(pump, *flats, pump_off=(), **effects):
    """Process a session; effects as in a scenario."""
    job = job_of(*flats, pump_off=pump_off)
    pulses = session_pulses(short_session(pump=pump, **effects), 2)
    runs = {n: pulses[n] for n in job.reduced_runs}
    spectra, scan = bin_differences(job, runs)
    kinetics = fit_all_kinetics(spectra, scan, job.config)[0]["kinetics"]
    mixture, _ = fit_late_spectra(spectra, job.config, MODELS, WINDOW)
    groups = {"spectra": spectra, "delay_scan": scan, "kinetics": kinetics, "mixture": mixture}
    return Measured(job, groups, session_of(job, runs, groups, MODELS))


def pulls(session, n):
    rows = xr.concat([inject_and_fit(k, session) for k in range(n)], dim="draw")
    found = (rows["alpha"] - rows["alpha_true"]) / rows["alpha_stderr"]
    return rows, found.values[np.isfinite(found.values)]


def test_pulses_without_pump_in_the_runs_carry_signals():
    one = measured(EVERY_SECOND, 2, films={"thickness": 1.02})
    assert set(one.session.carriers.values()) == {"in_run"}
    # half as many pulses on either side: √2 where the session has as many with pump as without
    np.testing.assert_allclose(one.session.noise, np.sqrt(2), rtol=0.1)
    rows, found = pulls(one.session, 4)
    RECOVERED.check(rows)
    assert np.sqrt(np.mean(found**2)) < 2.0
    # the session's signal grows with the noise: 8, 16 and 32 mJ/cm² excite 5, 12.2 and 27 %
    expected = np.sqrt(2) * mixture_truth.alpha_of(np.array([8.0, 16.0, 32.0]))
    np.testing.assert_allclose(rows["alpha_true"][0], expected, rtol=0.12)
    assert not rows["alpha_true"][1].values.any()
    assert np.isfinite(rows["tau"].sel(fluence=8.0)[0]).all()
    xr.testing.assert_identical(inject_and_fit(2, one.session), rows.isel(draw=[2]))


def test_without_any_pulse_without_pump_the_measured_signal_cancels():
    one = measured("all", 2)
    assert set(one.session.carriers.values()) == {"on_top"}
    np.testing.assert_allclose(one.session.noise, 2.0, rtol=0.1)
    context = SimpleNamespace(job=one.job, tell=lambda *about: None)
    made = inject_many(context, one.session, one.groups, n=2, seed=0)
    injection = made.datasets["injection"]
    pulled = (injection["alpha"] - injection["alpha_true"]) / injection["alpha_stderr"]
    assert np.abs(pulled).max() < 4.5
    assert [n.code for n in made.notes] == ["injection.on_top"]
    assert "runs 4, 5, 6, 7, 8, 9, 10 had pulses with pump only" in made.notes[0].text
    assert injection.attrs["n"] == 2


@pytest.mark.parametrize(
    ("wear", "drift", "holds"), [pytest.param(0.003, 0.003, True, marks=pytest.mark.long), (0.03, 0.05, False)]
)
def test_pump_off_scans_show_what_the_reference_does_not_hold(wear, drift, holds):
    """Films wear and the ratio drifts as is usual; then ten times as much, which the reference does not expect."""
    splitting = {"slope": 0.002, "drift": drift, "walk": 0.4 * drift}
    effects = {"films": {"thickness": 1.02, "wear_per_run": wear}, "splitting": splitting}
    one = measured("all", 2, 12, pump_off=(3, 11), **effects)
    assert {n for n, carrier in one.session.carriers.items() if carrier == "on_top"} == {10}
    rows, found = pulls(one.session, 5)
    # one fluence a draw
    assert np.isfinite(rows["alpha"]).sum("fluence").values.tolist() == [1] * 5
    assert bool(np.sqrt(np.mean(found**2)) < 1.4) is holds


def test_a_dataset_that_is_not_processed_is_refused(tmp_path):
    job = job_of(2)
    job = Job(job.config, tmp_path, tmp_path, tmp_path / "out", job.instrument)
    with pytest.raises(ProductError, match="is not processed with this config and program"):
        INJECT.ask(Context(job, None), n=1, seed=0)
