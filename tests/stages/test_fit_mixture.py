"""What the mixture says about its models and the spectra."""

import numpy as np
import pytest
import xarray as xr

from pipeline.science import forward
from pipeline.stages.fit_mixture import fit_late_spectra
from tests.synthetic import config, groups, model

WINDOW = (526.5, 531.0)


@pytest.fixture(scope="module")
def spectra():
    """One late delay, which every fluence has: over several the fraction falls, which no mean of them follows."""
    return groups()["spectra"].sel(delay=slice(None, 4.8))


@pytest.fixture(scope="module")
def dos():
    """The states that the spectra were made of."""
    energy = xr.DataArray(np.arange(515.0, 545.0, 0.02), dims="energy")
    energy = energy.assign_coords(energy=energy)
    return forward.ground_od(model(), energy), forward.excited_od(model(), energy)


def said(spectra, models):
    mixture, notes = fit_late_spectra(spectra, config("seed"), models, WINDOW)
    return mixture, {note.code: note for note in notes}


def test_the_right_states_give_nothing_to_say(spectra, dos):
    mixture, notes = said(spectra, {"main": dos})
    # 5 % at 8 and 27 % at 32 mJ/cm² are no line through zero
    assert set(notes) == {"mixture.intercept"}
    assert np.isfinite(mixture["alpha"]).all()


def test_without_dos_the_built_in_peaks_are_named(spectra):
    _, notes = said(spectra, {})
    assert notes["mixture.model_peaks"].severity == "caution"
    assert set(notes) <= {"mixture.model_peaks", "mixture.models_differ", "mixture.intercept"}


def test_without_late_spectra_there_is_no_mixture_and_nothing_to_worry_about(spectra, dos):
    mixture, notes = said(spectra.sel(delay=slice(None, 3.9)), {"main": dos})
    assert np.isnan(mixture["alpha"]).all()
    (note,) = notes.values()
    assert (note.code, note.severity) == ("mixture.no_late_spectrum", "info")
    assert note.text == "no mixture: no spectrum at delays of 4 ps or later"


def test_a_mixture_that_cannot_be_fitted_says_why(spectra, dos):
    unknown = spectra.assign(od_unpumped=spectra["od_unpumped"] * np.nan)
    mixture, notes = said(unknown, {"main": dos})
    assert np.isnan(mixture["alpha"]).all()
    assert set(notes) == {"mixture.not_fitted"}
    assert notes["mixture.not_fitted"].text.startswith("no mixture: no unpumped spectrum between 526.5 and 531 eV")


def test_a_ground_state_that_is_another_one_is_told(spectra, dos):
    ripple = 0.02 * np.sin(2 * np.pi * spectra["energy"] / 1.1)
    _, notes = said(spectra.assign(od_unpumped=spectra["od_unpumped"] + ripple), {"main": dos})
    assert "χ²/dof" in notes["mixture.ground_misfit"].text


def test_a_difference_that_is_no_mixture_is_told_by_fluence(spectra, dos):
    ripple = 0.01 * np.sin(2 * np.pi * spectra["energy"] / 1.1) * (spectra["fluence"] == 16.0)
    bent = spectra.assign(delta_xas=spectra["delta_xas"] + ripple, od_pumped=spectra["od_pumped"] + ripple)
    _, notes = said(bent, {"main": dos})
    assert notes["mixture.misfit"].fluence == 16.0
    assert notes["mixture.misfit"].text.startswith("mixture at 16 mJ/cm²: the DOS do not describe the difference")


def test_models_that_differ_are_told(spectra, dos):
    ground, excited = dos
    other = (ground, excited + 0.5 * (excited - ground))
    mixture, notes = said(spectra, {"main": dos, "other": other})
    note = notes["mixture.models_differ"]
    alpha = mixture.sel(fluence=note.fluence)
    assert float(alpha["alpha_model_stderr"]) > 0.1 * float(alpha["alpha"])
    assert f"alpha = {100 * float(alpha['alpha']):.2g} % differs between the DOS by" in note.text


def test_what_the_reference_leaves_open_is_told(spectra, dos):
    like_a_share = 0.05 * (dos[1] - dos[0]).interp(energy=spectra["energy"]) + 0.0 * spectra["delta_xas"]
    unknown = spectra.assign(systematic_mode=like_a_share.fillna(0.0).expand_dims("mode"))
    mixture, notes = said(unknown, {"main": dos})
    note = notes["mixture.reference_unknown"]
    assert note.severity == "caution"
    assert float(mixture["alpha_model_stderr"].sel(fluence=note.fluence)) > 0.1 * float(
        mixture["alpha"].sel(fluence=note.fluence)
    )


def test_fluences_without_a_delay_in_common_are_told(spectra, dos):
    late = spectra.sel(delay=[4.8])
    both = xr.concat([late, late.assign_coords(delay=[10.0])], "delay", data_vars="minimal")
    apart = both["delta_xas"].where((both["delay"] > 5) == (both["fluence"] > 9))
    mixture, notes = said(both.assign(delta_xas=apart), {"main": dos})
    assert notes["mixture.delays_differ"].text.startswith("the fluences share no delay from 4 ps on")
    assert mixture.attrs["delays"] == [4.8, 10.0]
    _, notes = said(both, {"main": dos})
    assert "mixture.delays_differ" not in notes


def test_a_line_that_misses_zero_is_told(spectra, dos):
    mixture, notes = said(spectra, {"main": dos})
    assert float(mixture["intercept"]) == pytest.approx(-0.0233, abs=0.003)
    assert "does not pass through zero (intercept -2." in notes["mixture.intercept"].text
    more = 0.0233 * (dos[1] - dos[0]).interp(energy=spectra["energy"]) * (spectra["delay"] > 4)
    raised = spectra.assign({n: spectra[n] + more for n in ("delta_xas", "od_pumped")})
    assert "mixture.intercept" not in said(raised, {"main": dos})[1]
