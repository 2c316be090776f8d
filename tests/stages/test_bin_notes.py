"""What binning says about the reference, the bins and the axes."""

import numpy as np
import pytest
import xarray as xr
import yaml

from pipeline.errors import DataError
from pipeline.job import load_job
from pipeline.stages.bin import bin_scans
from pipeline.stages.bin_quality import roles_notes
from tests.science.pulse_truth import make_pulses
from tests.science.spectra.test_difference import STEPS


def scan(rng, *, jitter=0.0, **options):
    run = make_pulses(rng, np.repeat(STEPS, 6), **options)
    return run.assign_coords(delay=run["delay"] + jitter * rng.standard_normal((run.sizes["train"], 1)))


def flat(rng):
    return make_pulses(rng, np.full(40, 528.0), delay=-10.0)


@pytest.fixture
def said(tmp_path):
    """Bin runs: 2 is the flat field, those in `delay_scans` are delay scans, the others energy scans; returns the notes."""

    def binned(runs, delay_scans=()):
        entries = {n: {"run": n, "fluence": 8.0} for n in runs if n != 2}
        listed = {
            "dark": 1,
            "energy_scans": [e for n, e in entries.items() if n not in delay_scans],
            "delay_scans": [e for n, e in entries.items() if n in delay_scans],
            **({"flat_field": 2} if 2 in runs else {}),
        }
        gain = {} if 2 in runs else {"detector": {"gain": 1.0}}
        config = tmp_path / "config.yaml"
        config.write_text(yaml.safe_dump({"schema": 1, "dataset": "x", "raw": ".", "runs": listed, **gain}))
        return bin_scans(load_job(config), runs)[1]

    return binned


def about(notes):
    return {note.code: (note.run, note.severity) for note in notes}


def test_with_a_flat_field_and_a_reference_there_is_nothing_to_say(said):
    rng = np.random.default_rng(0)
    assert said({2: flat(rng), 3: scan(rng)}) == []


def test_without_a_flat_field_the_constant_comes_from_early_delays_or_is_unknown(said):
    rng = np.random.default_rng(1)
    early, late = scan(rng, delay=-1.0), scan(rng, delay=1.0)
    assert about(said({3: early, 4: late})) == {"reference.flat_field_missing": (None, "caution")}
    assert about(said({4: late})) == {"reference.offset_unknown": (None, "fault")}


def test_two_beams_give_no_optical_density(said):
    rng = np.random.default_rng(2)
    runs = {2: flat(rng), 3: scan(rng)}
    assert about(said({n: r.isel(beam=[0, 1]) for n, r in runs.items()})) == {"beams.no_reference": (None, "info")}


@pytest.mark.parametrize(("delay", "jitter", "blurred"), [(0.1, 0.1, True), (4.8, 0.1, False), (0.1, 0.01, False)])
def test_jitter_matters_near_time_zero_only(said, delay, jitter, blurred):
    rng = np.random.default_rng(3)
    expected = {"bins.delay_blur": (3, "caution")} if blurred else {}
    assert about(said({2: flat(rng), 3: scan(rng, delay=delay, jitter=jitter)})) == expected


def test_scans_without_energies_are_named_and_an_error_where_there_is_nothing_else(said):
    rng = np.random.default_rng(4)
    lost = scan(rng).assign_coords(energy=("train", np.full(6 * len(STEPS), np.nan)))
    reason = "no train of the energy scans has a photon energy; set sources.energy"
    with pytest.raises(DataError, match=f"^x: {reason}$"):
        said({2: flat(rng), 3: lost})
    delays = np.repeat([-1.0, 0.0, 0.5, 2.0], 10)
    swept = make_pulses(rng, np.full(40, 528.2)).assign_coords(
        delay=(("train", "pulse"), np.repeat(delays[:, None], 20, axis=1)), nominal_delay=("train", delays)
    )
    notes = said({2: flat(rng), 3: lost, 4: swept}, delay_scans=[4])
    assert [(n.code, n.text) for n in notes] == [("bins.empty", reason)]


def test_a_difference_before_time_zero_as_large_as_an_optical_density_is_a_wrong_beam():
    early = {
        "delta_xas": (("scan", "delay"), np.array([[0.06, 0.061, 0.059, 0.08]])),
        "delta_xas_stderr": (("scan", "delay"), np.full((1, 4), 3e-4)),
        "delta_xas_stderr_systematic": (("scan", "delay"), np.full((1, 4), 4e-3)),
    }
    coords = {"fluence": ("scan", [8.0]), "delay": [-2.0, -1.0, -0.5, 1.0]}
    scan = xr.Dataset(early, coords=coords)
    found = roles_notes({"delay_scan": scan})
    assert [n.code for n in found] == ["beams.roles_wrong"]
    assert "60 ± 4 mOD" in found[0].text
    # what the reference cannot know may be as large
    assert roles_notes({"delay_scan": scan.assign(delta_xas_stderr_systematic=0.02 + 0 * scan["delta_xas"])}) == []
