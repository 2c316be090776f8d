"""Energy scans near time zero with arrival jitter of 80 fs: sharp where pulses are binned by their own delay."""

import numpy as np
import pytest

from pipeline.science.labels.timing import delay_spread
from pipeline.science.spectra.scans import quality_cells, spectra
from pipeline.science.sums.binning import sweep_edges
from pipeline.science.sums.edges import edges_of_delay
from tests.science.pulse_truth import make_pulses
from tests.science.spectra.test_difference import STEPS, true_delta

OFFSET = np.log(0.96 / 1.04)
MONITOR = 0.005


def jittered(rng, *, nominal=0.0, trains=30, fluence=8.0, known=True, photons=2e6):
    """Return an energy scan whose signal is a step in time at 0, seen through an arrival jitter of 80 fs."""
    energy = np.repeat(STEPS, trains)
    run = make_pulses(rng, energy, photons=photons, sase=0.1, delay=nominal, n_pulses=20)
    shape = run["drop_reason"].shape
    arrival = rng.normal(0, 0.06, (shape[0], 1)) + rng.normal(0, 0.053, shape)
    run["photons"].values[..., 0] *= np.exp(-true_delta(energy)[:, None] * (nominal + arrival > 0))
    seen = arrival + rng.normal(0, MONITOR, shape)
    delay = nominal + seen if known else np.full(shape, nominal)
    return run.assign(arrival=(("train", "pulse"), seen)).assign_coords(
        delay=(("train", "pulse"), delay), fluence=fluence
    )


def level(found):
    """Return the part of the signal that is there at every delay, and its standard error."""
    truth = true_delta(found["energy"])
    weight = (1 / found["delta_xas_stderr"] ** 2).where(np.isfinite(found["delta_xas"]), 0.0)
    power = (weight * truth**2).sum("energy")
    part = (weight * truth * (found["delta_xas"].fillna(0.0) + OFFSET)).sum("energy") / power
    return part, 1 / np.sqrt(power)


def test_own_delays_give_a_step_as_sharp_as_the_monitor():
    found = spectra([jittered(np.random.default_rng(31))], delay_bins=0.02).isel(fluence=0)
    # bins of a given width reach as far as the jitter
    assert int(found["n_pulses"].sum()) > 0.998 * len(STEPS) * 30 * 20
    part, error = level(found)
    away = (np.abs(found["delay"]) > 0.01 + 3 * MONITOR) & (np.abs(found["delay"]) < 0.2)
    pulls = ((part - (found["delay"] > 0)) / error).values[away.values]
    assert len(pulls) > 12
    assert np.mean(pulls**2) < 2.0
    # only bins that the step, as wide as the monitor's noise, can reach are between
    between = (part > 0.1) & (part < 0.9) & (np.abs(found["delay"]) < 0.2)
    assert 1 <= int(between.sum()) <= 3


@pytest.mark.parametrize("known", [True, False])
def test_one_bin_is_as_blurred_as_it_must_be_and_says_so(known):
    run = jittered(np.random.default_rng(32), nominal=0.05, known=known)
    found = spectra([run]).isel(fluence=0)
    assert found.sizes["delay"] == 1
    part, error = level(found)
    # Φ(50 fs / 80 fs)
    assert float(part[0]) == pytest.approx(0.734, abs=4 * float(error[0]) + 0.02)
    assert delay_spread(run, edges_of_delay([run], None)[0]) == pytest.approx(0.08, rel=0.05)


def test_the_spread_is_that_inside_the_bins():
    run = jittered(np.random.default_rng(33))
    edges = sweep_edges(run["delay"].values.ravel(), width=0.04)
    assert delay_spread(run, edges) == pytest.approx(0.04 / np.sqrt(12), rel=0.05)


def test_pulses_go_to_the_nearest_position_visited_at_their_fluence():
    rng = np.random.default_rng(34)
    runs = [jittered(rng, nominal=at, trains=4) for at in (-0.2, 0.0, 0.2)]
    runs.append(jittered(rng, nominal=0.2, trains=4, fluence=32.0))
    found = spectra(runs)
    np.testing.assert_allclose(found["delay"], [-0.2, 0.0, 0.2], atol=0.03)
    counts = found["n_pulses"].sum("energy")
    assert counts.sel(fluence=32.0).values.tolist() == [0, 0, runs[3]["drop_reason"].size]
    cells = [quality_cells(r, kind="energy_scan", delay_bins=e) for r, e in zip(runs, edges_of_delay(runs, None))]
    assert int(counts.sum()) == sum(int((c >= 0).sum()) for c in cells) > 0.99 * sum(c.size for c in cells)
    alone = int((np.abs(runs[1]["delay"]) < 0.1).sum())
    assert alone < int(counts.sel(fluence=8.0)[1]) < runs[1]["drop_reason"].size + alone
    row = found.sel(fluence=8.0)
    assert float(row["delay"][2]) - float(row["delay"][0]) == pytest.approx(0.4, abs=0.03)


def test_pulses_outside_given_delay_bins_are_not_counted_as_used():
    run = jittered(np.random.default_rng(35), trains=4)
    bins = [-0.05, 0.0, 0.05]
    cell = quality_cells(run, kind="energy_scan", delay_bins=bins)
    assert int((cell >= 0).sum()) == int(spectra([run], delay_bins=bins)["n_pulses"].sum()) < cell.size
