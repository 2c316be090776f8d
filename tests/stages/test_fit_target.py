"""The target model among the fits of a dataset: when it takes the place of free amplitudes, and what a person reads of it."""

import numpy as np
import pytest
import xarray as xr

from pipeline.plots.style import house_style
from pipeline.plots.target_figure import draw_target
from pipeline.results.lookup import intervals
from pipeline.results.summary import _kinetics, summary_text
from pipeline.stages.fit_kinetics import fit_all_kinetics
from schemas.datasets.target_fits import MODELS, TARGET
from schemas.summary_parts import KineticsSummary
from tests.science.moving_line import LAWS, TAUS, Sample, cube, of_another_law, peak_a_alone
from tests.stages.test_fit_kinetics import config


def measured(sample: Sample, **options) -> tuple[xr.Dataset, xr.Dataset]:
    """Spectra and a delay scan at 8 mJ/cm² of a simulated cube."""
    traces = cube(sample, **options)
    scan = peak_a_alone(traces).rename_dims(trace="scan").assign_coords(fluence=("scan", [8.0]))
    spectra = cube(sample, scan=None, **options).swap_dims(trace="energy").transpose("delay", "energy")
    return spectra.expand_dims(fluence=[8.0]), scan


@pytest.fixture(scope="module")
def moving():
    spectra, scan = measured(Sample(power=2, returning=0.85), snr=300, seed=1)
    return spectra, scan, fit_all_kinetics(spectra, scan, config())


def shown(groups: dict[str, xr.Dataset], **kinetics) -> tuple[list[dict], list[str]]:
    """The summary's part about kinetics, and its lines."""
    tree = xr.DataTree.from_dict({f"/{name}": group for name, group in groups.items()})
    summary = _kinetics(tree, config(**kinetics))
    for one in summary:
        KineticsSummary.model_validate(one)
    return summary, summary_text({"dataset": "x", "kinetics": summary}).splitlines()


def test_where_the_line_moves_the_target_model_gives_the_times_of_all_energies(moving):
    _, _, (groups, fits, notes) = moving
    said = {n.code: n.text for n in notes}
    assert "kinetics.line_moves" in said
    assert "“line that moves” takes all energies (tau1 0.1" in said["kinetics.line_moves"]
    # the delay scan alone is described, and it alone is fitted with free amplitudes
    assert fits[8.0][0].sizes["trace"] == 1
    target = TARGET.check(groups["target"]).sel(fluence=8.0, parameter=["tau1", "tau2", "tau3"])
    assert (np.abs(target["value"] - TAUS) < 3 * target["stderr"]).all()
    summary, lines = shown({n: groups[n] for n in ("kinetics", "target")})
    assert summary[0]["target"]["model"] == MODELS[3]
    assert summary[0]["target"]["free_amplitudes_aicc"] > 9
    head = next(i for i, line in enumerate(lines) if line.startswith("  target model of all energies, line that moves"))
    assert lines[head + 3].startswith("    tau1      0.1")
    assert lines[head + 6].startswith("    the line moves from -0.")
    assert lines[head + 7].endswith("% of what is excited returns with tau2")


@pytest.mark.parametrize("law", LAWS)
def test_a_line_that_moves_by_another_law_gives_no_time_that_is_wrong(law):
    """χ² may allow a model that is wrong: then its times are not those of the other model, or of the delay scan."""
    said = []
    for seed, snr in ((1, 60), (2, 60), (3, 150)):
        spectra, scan, taus = of_another_law(law, snr=snr, seed=seed)
        groups = fit_all_kinetics(spectra, scan, config())[0]
        for group in ("target", "kinetics"):
            found = groups[group].sel(fluence=8.0, parameter=["tau1", "tau2", "tau3"])
            off = np.abs(np.log(found["value"].values / taus)) > np.log(1.5)
            assert not (found["identifiable"].values & off).any()
        said += groups["target"]["verdict_code"].values.ravel().tolist()
    assert "kinetics.tau_of_target_rival" in said


def test_without_a_delay_scan_free_amplitudes_are_not_called_known(moving):
    spectra, scan, _ = moving
    groups, _, notes = fit_all_kinetics(spectra, scan.isel(scan=[]), config())
    assert "kinetics.line_moves" in [n.code for n in notes]
    taus = groups["kinetics"].sel(fluence=8.0, parameter=["tau1", "tau2", "tau3"])
    assert not taus["identifiable"].any()
    assert (taus["verdict_code"] == "kinetics.tau_of_moving_line").all()
    assert "target" not in fit_all_kinetics(spectra, scan, config(**{"global": False}))[0]


def test_the_figure_has_spectra_populations_and_the_move(moving, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("pipeline.plots.style.save", lambda figure, path: drawn.append(figure))
    with house_style():
        draw_target(moving[2][0]["target"], 2, tmp_path / "target.png")
    titles = [axes.get_title() for axes in drawn[0].axes]
    assert titles[0].startswith("8 mJ/cm²: line that moves, χ²/dof")
    assert titles[2].startswith("the line moves from -0.")
    (first, second), (early, late) = ([line.get_ydata() for line in axes.get_lines()[:2]] for axes in drawn[0].axes[:2])
    assert np.argmax(first) <= np.argmax(second)
    assert (early[-1], late[-1]) == (pytest.approx(0, abs=1e-6), pytest.approx(late.max(), rel=1e-3))


def test_two_exponentials_without_the_square_are_told_as_what_they_are():
    spectra, scan = measured(Sample(returning=0.7, move=0.0), snr=100, seed=2)
    chosen = {"n_exponentials": 2, "power": 1}
    groups, _, notes = fit_all_kinetics(spectra.isel(energy=[]), scan, config(**chosen))
    assert [n.text for n in notes if "unsquared, 2 exponentials” over the simpler “unsquared, 2" in n.text] == []
    summary, lines = shown(groups, **chosen)
    assert lines[2].startswith("kinetics at 8 mJ/cm², unsquared, 2 exponentials   χ²/dof")
    assert not any("tau3" in line or "no fit" in line for line in lines)
    assert {one.name for one in intervals(summary)} == {"tau1", "tau2"}
    tau3 = summary[0]["parameters"]["tau3"]
    assert (tau3["value"], tau3["verdict_code"]) == (None, "kinetics.not_in_the_form")
    half = summary[0]["half_rise"]
    assert 0.02 < half["value"] < 0.2
    line = next(line for line in lines if line.startswith("  any form: half rise at 0."))
    assert "528.20 eV has" in line
    assert [one["delay"] for one in summary[0]["signals"]] == [0.3, 1.0, 60.0]
    assert line.endswith("mOD at 60 ps")
