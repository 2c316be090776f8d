"""Several DOS and built-in peaks: what the reported share is, how far the models lie apart, and calibration at the demo's noise."""

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import CoverageError, DataError
from pipeline.science import forward
from pipeline.science.mixture.alpha import fit_mixture
from pipeline.science.mixture.dos import broaden
from pipeline.science.mixture.dos_models import (
    BEYOND,
    BUILTIN,
    fit_builtin_models,
    fit_models,
    model_error_parts,
    rising_edge,
    with_model_error,
)
from tests.science.mixture_truth import (
    ENERGY,
    FLUENCE,
    GAUSSIAN_FWHM,
    MIN_DELAY,
    MODEL,
    WINDOW,
    alpha_of,
    demo_spectra,
    dos,
    pulls_of,
)

ALPHA = alpha_of(FLUENCE)
GROUND, EXCITED = dos()
OPTIONS = {"window": WINDOW, "min_delay": MIN_DELAY, "gaussian_fwhm": GAUSSIAN_FWHM}


def data(seed: int, **options) -> xr.Dataset:
    return demo_spectra(np.random.default_rng([99, seed]), **options)


def assert_calibrated(pulls: dict[str, np.ndarray]) -> None:
    for name, values in pulls.items():
        n = len(values)
        assert np.abs(values.mean(axis=0)).max() < 4.0 / np.sqrt(n), name
        assert np.abs(values.std(axis=0) - 1).max() < 4.0 / np.sqrt(2 * n), name


@pytest.mark.parametrize(
    ("alpha", "options"),
    [
        pytest.param(ALPHA, {}, id="the demo"),
        pytest.param(
            np.array([0.0, 1 / 3, 2 / 3, 1.0]),
            {"delay": np.array([4.8, 10.0])},
            id="0 to 1, two delays",
            marks=pytest.mark.long,
        ),
        pytest.param(ALPHA, {"flat_field_pulses": 30}, id="a flat field that limits", marks=pytest.mark.long),
    ],
)
def test_shares_slope_and_delays_are_calibrated_at_the_noise_of_the_demo(alpha, options):
    results = [fit_mixture(data(k, alpha=alpha, **options), GROUND, EXCITED, **OPTIONS) for k in range(30)]
    assert_calibrated(pulls_of(results, alpha))
    assert np.mean([float(r["linear_p"]) for r in results]) == pytest.approx(0.5, abs=0.17)


@pytest.mark.long
def test_the_flat_field_constant_is_one_error_not_many():
    """A window on one side of the lines, where a common offset does not cancel: only the common error explains the scatter."""
    options = {"flat_field_pulses": 20}
    side = {**OPTIONS, "window": (526.5, 528.6), "excited_shift": "ground"}
    results = [fit_mixture(data(k, **options), GROUND, EXCITED, **side) for k in range(30)]
    pull = np.array([((r["alpha"] - ALPHA) / r["alpha_stderr"]).values for r in results])
    assert np.abs(pull.std(axis=0) - 1).max() < 4.0 / np.sqrt(60)
    naive = np.array([(r["alpha_stderr_independent"] / r["alpha_stderr"]).values for r in results])
    assert naive.mean() < 0.7
    correlation = results[0]["alpha_covariance"].values / np.outer(*(2 * [results[0]["alpha_stderr"].values]))
    assert (correlation > 0.5).all()


def test_the_spread_of_several_dos_is_the_model_error():
    models = {"main": (GROUND, EXCITED), "wide": (GROUND, broaden(EXCITED, 0.3, 0.0)), "weak": (GROUND, 0.95 * EXCITED)}
    spectra = data(1)
    before = spectra.copy(deep=True)
    result = fit_models(spectra, models, **OPTIONS)
    xr.testing.assert_identical(spectra, before)
    alone = fit_mixture(spectra, GROUND, EXCITED, **OPTIONS)
    for name in alone.data_vars:
        xr.testing.assert_identical(result[name].drop_vars("model", errors="ignore"), alone[name])
    assert result["model"].values.tolist() == list(models)
    by_model = result["alpha_by_model"].values
    for m, (ground, excited) in enumerate(models.values()):
        np.testing.assert_array_equal(by_model[m], fit_mixture(spectra, ground, excited, **OPTIONS)["alpha"])
    np.testing.assert_allclose(result["alpha_model_stderr"], np.sqrt(((by_model[1:] - by_model[0]) ** 2).mean(axis=0)))
    assert float(result["slope_model_stderr"]) > 5 * float(result["slope_stderr"])
    assert result["alpha_model_stderr"].dims == ("fluence",)
    single = fit_models(spectra, {"main": models["main"]}, **OPTIONS)
    assert (single["alpha_model_stderr"] == 0).all()
    assert single["slope_model_stderr"] == 0


def test_a_dos_that_does_not_reach_names_its_model():
    short = EXCITED.sel(energy=slice(519.99, 529.01))
    with pytest.raises(
        CoverageError, match=r"^model other: the excited DOS covers 52\d.* \.\.\. 529 eV, the mixture needs 5"
    ):
        fit_models(data(2), {"main": (GROUND, EXCITED), "other": (GROUND, short)}, **OPTIONS)


def test_no_model_is_told():
    with pytest.raises(DataError, match="no model to fit the mixture with"):
        fit_models(data(2), {}, **OPTIONS)


@pytest.fixture(scope="module")
def builtin() -> list[xr.Dataset]:
    return [fit_builtin_models(data(k), window=WINDOW, min_delay=MIN_DELAY) for k in range(6)]


@pytest.mark.long
def test_built_in_peaks_are_right_and_know_what_they_do_not_know(builtin):
    ratio = np.mean([r["alpha"].values / ALPHA for r in builtin], axis=0)
    np.testing.assert_allclose(ratio, 1.0, atol=0.015)
    pull = np.array(
        [((r["alpha"] - ALPHA) / np.hypot(r["alpha_stderr"], r["alpha_model_stderr"])).values for r in builtin]
    )
    assert (np.abs(pull) < 1).mean() > 0.6
    assert (np.abs(pull) < 3).all()
    for r in builtin:
        assert r["model"].values.tolist() == list(BUILTIN)
        assert (r["alpha_model_stderr"] < 0.03 * r["alpha"]).all()
        assert float(r["ground_redchi"]) < 1.5
        assert float(r["redchi"].max()) < 2.0
        for name, true in (("fwhm", MODEL.excited.fwhm), ("position", MODEL.excited.position)):
            assert abs(float(r[f"excited_{name}"]) - true) < 5 * float(r[f"excited_{name}_stderr"])
        area = MODEL.excited.height * MODEL.excited.fwhm / (MODEL.ground.height * MODEL.ground.fwhm)
        assert abs(float(r["excited_area"]) - area) < 6 * float(r["excited_area_stderr"])


def test_built_in_peaks_without_much_signal_fall_back(builtin):
    share = 0.12 * ALPHA
    faint = fit_builtin_models(data(3, pulses=2, alpha=share), window=WINDOW, min_delay=MIN_DELAY)
    assert builtin[0].attrs["excited_shift"] == "shape"
    assert faint.attrs["excited_shift"] != "shape"
    assert float(faint["excited_area"]) == 1.0
    assert (np.abs(faint["alpha"] - share) < 4 * faint["alpha_stderr"]).all()
    with pytest.raises(DataError, match="no maximum and minimum"):
        fit_builtin_models(data(4, pulses=1, alpha=np.zeros(4)), window=WINDOW, min_delay=MIN_DELAY)


@pytest.mark.parametrize("form", ["gaussian", "exponential"])
def test_the_tail_of_the_edge_is_found(form):
    spectra = data(5)
    edge = rising_edge(spectra, window=WINDOW, form=form)
    assert edge.dims == ("energy",)
    energy = xr.DataArray(ENERGY, dims="energy")
    rest = forward.ground_od(MODEL, energy) - 0.25 * np.exp(-4 * np.log(2) * (energy - 529.2) ** 2)
    inside = (ENERGY >= 530.0) & (WINDOW[1] + 1e-9 >= ENERGY)
    rise = (rest.values - rest.values[0])[inside]
    np.testing.assert_allclose((edge.values[inside] - edge.values[1]), rise, atol=0.004)
    assert (edge.values[~((WINDOW[0] <= ENERGY) & (WINDOW[1] + 1e-9 >= ENERGY))] == 0).all()
    flat = spectra.assign(od_unpumped=spectra["od_unpumped"] - rest)
    assert float(np.abs(rising_edge(flat, window=WINDOW, form=form)).max()) < 0.01


def test_the_model_error_in_parts_of_dos_and_window_sums_up_to_it():
    sizes = {"main": 0.0, "other": 0.3, "lower window": 0.4, "free excited peak": 0.1, "inner window": -0.2}
    like = xr.DataArray([0.1, 0.2], dims="fluence", coords={"fluence": [8.0, 32.0]})
    results = {
        name: xr.Dataset({"alpha": like + size, "alpha_stderr": xr.zeros_like(like) + 0.1})
        .assign(redchi=like, ground_redchi=1.0)
        .assign(dict.fromkeys(("slope", "intercept"), size))
        .assign({f"{n}_stderr": 0.1 for n in ("slope", "intercept")})
        for name, size in sizes.items()
    }
    made = with_model_error(results, may_be=["free excited peak", "inner window"])
    for name in ("alpha", "slope"):
        parts = model_error_parts(made, name)
        # half of each square of those that count alike; of those that may be, the farthest alone, and a quarter more
        np.testing.assert_allclose(parts["dos"], np.sqrt(0.3**2 / 2))
        np.testing.assert_allclose(parts["window"], np.sqrt(0.4**2 / 2 + (BEYOND * 0.2) ** 2))
        both = np.hypot(parts["dos"], parts["window"])
        np.testing.assert_allclose(both, made[f"{name}_model_stderr"])
    alone = model_error_parts(with_model_error({"main": results["main"]}), "alpha")
    assert all(np.isnan(part).all() for part in alone.values())
