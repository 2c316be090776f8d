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


def off_by(seed):
    """Return (α - truth) in total errors and in α, per fluence, with modes that are drawn at random."""
    rng = np.random.default_rng(seed)
    spectra = demo_spectra(rng)
    modes = modes_of(spectra)
    drawn = (modes * xr.DataArray(rng.standard_normal(2), dims="mode")).sum("mode")
    measured = spectra.assign(delta_xas=spectra["delta_xas"] + drawn, systematic_mode=modes)
    mixture = fit_of()(measured)
    mixture = with_reference_error(mixture, reference_error(measured, mixture))
    total = np.hypot(mixture["alpha_stderr"], mixture["alpha_model_stderr"])
    off = mixture["alpha"] - alpha_of(FLUENCE)
    return (off / total).values, off.values, mixture


def test_films_and_splitting_that_are_not_known_are_fitted_beside_the_shares():
    """2 % of the film alone would move α by 0.01; fitted, it leaves what noise leaves of it."""
    found = [off_by(seed) for seed in range(16)]
    pulls, off = np.array([f[0] for f in found]), np.array([f[1] for f in found])
    # 16 sessions of four shares each, which share what is unknown
    assert 0.5 < np.mean(pulls**2) < 1.7
    assert np.mean(np.abs(pulls) < 2) > 0.85
    assert np.sqrt(np.mean(off**2)) < 0.0015
    mixture = found[0][2]
    assert (mixture["alpha_reference_stderr"] > 0).all()
    assert (mixture["redchi"] < 1.5).all()


def test_spectra_with_a_reference_of_their_own_give_the_same_bits():
    spectra = demo_spectra(np.random.default_rng(3))
    none = spectra.assign(systematic_mode=0.0 * modes_of(spectra))
    xr.testing.assert_identical(fit_of()(none), fit_of()(spectra))


def test_the_baseline_is_the_one_of_generalised_least_squares():
    """Against one solution with the whole covariance: noise and modes, at the excited shift that was found."""
    rng = np.random.default_rng(5)
    spectra = demo_spectra(rng).isel(fluence=[1, 3])
    modes = modes_of(spectra)
    spectra = spectra.assign(delta_xas=spectra["delta_xas"] + 1.5 * modes[0] - modes[1], systematic_mode=modes)
    spectra = spectra.assign(flat_field_constant_stderr=0.0)
    ground, excited = dos()
    shift = 0.01
    fit = fit_mixture(spectra, ground, excited, window=WINDOW, min_delay=MIN_DELAY, excited_shift=shift)
    template = (fit["fit"] / fit["alpha"]).values[0]
    late = spectra.sel(delay=spectra["delay"] >= MIN_DELAY, energy=fit["energy"]).stack(
        row=("fluence", "delay", "energy")
    )
    late = late.where(late["delta_xas"].notnull(), drop=True)
    values, noise = late["delta_xas"].values, late["delta_xas_stderr"].values
    at = np.searchsorted(fit["energy"].values, late["energy"].values)
    design = template[at, None] * (late["fluence"].values[:, None] == spectra["fluence"].values)
    shared = late["systematic_mode"].transpose("mode", "row").values
    precision = np.linalg.inv(np.diag(noise**2) + shared.T @ shared)
    normal = design.T @ precision @ design
    np.testing.assert_allclose(fit["alpha"], np.linalg.solve(normal, design.T @ precision @ values), rtol=1e-6)
    plain = np.linalg.inv(design.T @ (design / noise[:, None] ** 2))
    unknown = np.sqrt(np.diag(np.linalg.inv(normal) - plain))
    np.testing.assert_allclose(fit["alpha_reference_stderr"], unknown, rtol=1e-4)


def test_a_thicker_pumped_film_has_the_same_share():
    fit, spectra = fit_of(), demo_spectra(np.random.default_rng(1))
    thick = spectra.assign(delta_xas=1.05 * spectra["delta_xas"], delta_xas_stderr=1.05 * spectra["delta_xas_stderr"])
    ratio = xr.full_like(spectra["delta_xas"].isel(energy=0, drop=True), 1.05)
    known = per_film(thick.assign(film_ratio=ratio, film_ratio_stderr=0 * ratio + 0.01))
    np.testing.assert_allclose(known["delta_xas"], spectra["delta_xas"])
    np.testing.assert_allclose(fit(known)["alpha"], fit(spectra)["alpha"], rtol=1e-3)
    xr.testing.assert_identical(per_film(spectra), spectra)
    mixture = fit(known)
    error = reference_error(known, mixture)
    np.testing.assert_allclose(error["alpha"], mixture["alpha"] * 0.01 / 1.05)
    assert float(error["slope"]) == pytest.approx(float(mixture["slope"]) * 0.01 / 1.05)


def test_without_anything_unknown_there_is_no_error_more():
    fit, spectra = fit_of(), demo_spectra(np.random.default_rng(2))
    mixture = fit(spectra)
    found = with_reference_error(mixture, reference_error(spectra, mixture))
    assert (found["alpha_model_stderr"] == 0).all()
    other = mixture.assign(alpha_model_stderr=0.01 + 0 * mixture["alpha"])
    np.testing.assert_allclose(
        with_reference_error(other, reference_error(spectra, mixture))["alpha_model_stderr"], 0.01
    )
