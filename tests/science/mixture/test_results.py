"""Lines and mixture in the hands of lmfit: at a minimum that its own minimiser does not leave."""

import numpy as np
import pytest
import xarray as xr
from lmfit.model import load_modelresult

from pipeline.science.lmfit_results import as_json, as_report
from pipeline.science.mixture.alpha import fit_mixture
from pipeline.science.mixture.alpha_result import mixture_result
from pipeline.science.peaks.line_result import peaks_result
from pipeline.science.peaks.lines import fit_peaks
from tests.science.mixture import test_alpha as test_mixture
from tests.science.peaks.test_lines import APART, simulate


def refitted(result):
    return result.model.fit(result.data, result.params, weights=result.weights, scale_covar=False, **result.userkws)


def moved(result):
    again = refitted(result)
    return max(abs(again.params[n].value - result.params[n].value) / result.params[n].stderr for n in result.var_names)


def read_again(result, tmp_path):
    (tmp_path / "fit.json").write_text(as_json(result))
    return load_modelresult(tmp_path / "fit.json")


def test_lmfits_own_minimiser_leaves_the_lines_where_they_are(tmp_path):
    spectra = simulate(np.random.default_rng(2), APART, n=6, offset=1e-3)
    result = peaks_result(spectra, fit_peaks(spectra, window=(525.0, 533.0)))
    assert result.nvarys == 6 * 7
    assert moved(result) < 0.1
    assert result.chisqr - refitted(result).chisqr < 1e-4
    again = read_again(result, tmp_path)
    np.testing.assert_array_equal(again.best_fit, result.best_fit)
    assert again.params == result.params
    assert ("could not be estimated" in as_report(result)) is False


def test_spectra_and_lines_that_were_not_found_have_no_parameters():
    one = {"A": APART["A"]}
    parts = [simulate(np.random.default_rng(3), lines, n=1) for lines in (one, {}, APART)]
    spectra = xr.concat([p.assign_coords(delay=[0.1 * i]) for i, p in enumerate(parts)], dim="delay")
    spectra["delta_xas"][0, 2, 4] = np.nan
    peaks = fit_peaks(spectra, window=(525.0, 533.0))
    np.testing.assert_array_equal(peaks["detected"].values[:, 0], [[True, False, True], [False, False, True]])
    result = peaks_result(spectra, peaks)
    assert {n.rsplit("_", 1)[1] for n in result.params} == {"0", "2"}
    assert {n[0] for n in result.params if n.endswith("_0")} == {"A", "o"}
    assert result.ndata == 2 * spectra.sizes["energy"] - 1
    np.testing.assert_array_equal(np.unique(result.userkws["delay"]), [0.0, 0.2])
    assert moved(result) < 0.1
    nothing = spectra.isel(delay=[1])
    assert peaks_result(nothing, fit_peaks(nothing, window=(525.0, 533.0))) is None


def test_lmfits_own_minimiser_leaves_the_fractions_where_they_are(tmp_path):
    spectra = test_mixture.simulate(np.random.default_rng(4), test_mixture.ALPHA)
    spectra["delta_xas"][0, 3, 20] = np.nan
    fit = fit_mixture(spectra, test_mixture.GROUND, test_mixture.EXCITED, window=test_mixture.WINDOW)
    result = mixture_result(spectra, fit, 0.8)
    assert list(result.params) == [f"alpha_{k}" for k in range(4)]
    assert result.ndata == 2 * 4 * fit.sizes["energy"] - 1
    used = (spectra["delay"] >= 0.8).values
    chi2 = (fit["redchi"] * (2 * fit.sizes["energy"] - 1 - np.array([1, 0, 0, 0]))).sum()
    assert result.chisqr == pytest.approx(float(chi2))
    assert used.sum() == 2
    again = refitted(result)
    assert moved(result) < 1e-6
    # what the shapes' errors add is in ours only
    ours, theirs = (np.array([r.params[n].stderr for n in result.params]) for r in (result, again))
    assert ours[3] > 1.04 * theirs[3]
    np.testing.assert_allclose(theirs, fit["alpha_stderr_independent"], rtol=1e-3)
    np.testing.assert_allclose(result.covar, fit["alpha_covariance"], rtol=1e-9)
    read = read_again(result, tmp_path)
    np.testing.assert_array_equal(read.best_fit, result.best_fit)
    assert read.ci_out["alpha_2"][1][1] == float(fit["alpha_ci68"][2, 0])


def test_without_a_late_spectrum_there_is_no_result():
    spectra = test_mixture.simulate(np.random.default_rng(4), test_mixture.ALPHA).isel(delay=[0, 1])
    fit = fit_mixture(spectra, test_mixture.GROUND, test_mixture.EXCITED, window=test_mixture.WINDOW)
    assert mixture_result(spectra, fit, 0.8) is None
