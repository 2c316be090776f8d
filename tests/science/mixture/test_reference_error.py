"""What the reference cannot know is in the error of the shares, and films of another thickness do not change them."""

import functools

import numpy as np
import pytest
import xarray as xr

from pipeline.science.mixture.alpha import fit_mixture
from pipeline.science.mixture.dos_models import with_model_error
from pipeline.science.mixture.reference_error import per_film, reference_error, with_reference_error
from tests.science.mixture_truth import FLUENCE, MIN_DELAY, WINDOW, alpha_of, demo_spectra, dos


@functools.cache
def fit_of():
    ground, excited = dos()
    return lambda spectra: with_model_error(
        {"main": fit_mixture(spectra, ground, excited, window=WINDOW, min_delay=MIN_DELAY)}
    )


def modes_of(spectra, films=0.02, slope=1e-3):
    """Films that differ by 2 % and a splitting that changes by 1 mOD per eV, as independent errors of all spectra."""
    od = spectra["od_unpumped"].mean(["fluence", "delay"])
    energy = spectra["energy"] - 528.5
    each = [films * (od - od.isel(energy=0)), slope * energy]
    like = xr.zeros_like(spectra["delta_xas"])
    return xr.concat([like + one for one in each], "mode").transpose("mode", "fluence", "delay", "energy")


def test_errors_cover_when_films_and_splitting_are_drawn_as_they_are_unknown():
    fit, pulls = fit_of(), []
    for seed in range(24):
        rng = np.random.default_rng(seed)
        spectra = demo_spectra(rng)
        modes = modes_of(spectra)
        drawn = (modes * xr.DataArray(rng.standard_normal(2), dims="mode")).sum("mode")
        measured = spectra.assign(delta_xas=spectra["delta_xas"] + drawn, systematic_mode=modes)
        mixture = fit(measured)
        mixture = with_reference_error(mixture, reference_error(measured, mixture, fit))
        total = np.hypot(mixture["alpha_stderr"], mixture["alpha_model_stderr"])
        pulls.append(((mixture["alpha"] - alpha_of(FLUENCE)) / total).values)
    pulls = np.array(pulls)
    # 24 sessions of two numbers each: 1 ± 0.2
    assert 0.5 < np.mean(pulls**2) < 1.7
    assert np.mean(np.abs(pulls) < 2) > 0.85


def test_a_thicker_pumped_film_has_the_same_share():
    fit, spectra = fit_of(), demo_spectra(np.random.default_rng(1))
    thick = spectra.assign(delta_xas=1.05 * spectra["delta_xas"], delta_xas_stderr=1.05 * spectra["delta_xas_stderr"])
    ratio = xr.full_like(spectra["delta_xas"].isel(energy=0, drop=True), 1.05)
    known = per_film(thick.assign(film_ratio=ratio, film_ratio_stderr=0 * ratio + 0.01))
    np.testing.assert_allclose(known["delta_xas"], spectra["delta_xas"])
    np.testing.assert_allclose(fit(known)["alpha"], fit(spectra)["alpha"], rtol=1e-3)
    xr.testing.assert_identical(per_film(spectra), spectra)
    mixture = fit(known)
    error = reference_error(known, mixture, fit)
    np.testing.assert_allclose(error["alpha"], mixture["alpha"] * 0.01 / 1.05)
    assert float(error["slope"]) == pytest.approx(float(mixture["slope"]) * 0.01 / 1.05)


def test_without_anything_unknown_there_is_no_error_more():
    fit, spectra = fit_of(), demo_spectra(np.random.default_rng(2))
    mixture = fit(spectra)
    found = with_reference_error(mixture, reference_error(spectra, mixture, fit))
    assert (found["alpha_model_stderr"] == 0).all()
    other = mixture.assign(alpha_model_stderr=0.01 + 0 * mixture["alpha"])
    np.testing.assert_allclose(
        with_reference_error(other, reference_error(spectra, mixture, fit))["alpha_model_stderr"], 0.01
    )
