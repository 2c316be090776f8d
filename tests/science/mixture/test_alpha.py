"""Share of the excited state: true errors with every common part, honest ends, and clear words for a DOS that does not reach."""

import numpy as np
import pytest
import xarray as xr

from pipeline.errors import DataError
from pipeline.science.mixture.alpha import fit_mixture
from pipeline.science.mixture.dos import broaden, builtin_dos

WINDOW = (526.5, 531.01)
FLUENCE = np.array([8.0, 16.0, 24.0, 32.0])
ALPHA = 0.0 + 0.0085 * FLUENCE
DELAY = np.array([-1.0, 0.3, 0.8, 4.8])


def dos(peak: float, fwhm: float, *, low: float = 515.0, high: float = 550.0, origin: float = 0.0) -> xr.DataArray:
    energy = np.arange(low, high, 0.02)
    where = energy - origin

    def line(position, width):
        return np.exp(-4 * np.log(2) * ((where - position) / width) ** 2)

    values = (
        0.3 * line(peak, fwhm) + 0.25 * line(532.0, 1.6) + 0.6 * line(534.0, 2.2) + 0.3 / (1 + np.exp(-(where - 536.0)))
    )
    return xr.DataArray(values, dims="energy", coords={"energy": energy}, name="dos")


GROUND, EXCITED = dos(529.0, 1.0), dos(528.0, 1.1)
SHIFT, EXTRA = 0.15, 0.4


def simulate(
    rng: np.random.Generator,
    alpha: np.ndarray,
    *,
    fluence: np.ndarray = FLUENCE,
    delay: np.ndarray = DELAY,
    noise: tuple[float, float, float] = (2e-3, 2e-3, 2e-3),
    scale: float = 1.3,
    origin: float = 0.0,
) -> xr.Dataset:
    """Spectra with the noise of three beams (pumped, unpumped, reference; relative, per bin), a slope and a level of their own for every scan."""
    energy = origin + np.arange(525.0, 538.0, 0.2)
    curves = []
    for one in (GROUND, EXCITED):
        smooth = broaden(one, EXTRA, 0.0, edges="hold")
        curves.append(scale * np.interp(energy - origin - SHIFT, smooth["energy"], smooth))
    shape = (len(fluence), len(delay), len(energy))
    share = np.where(delay >= 0.79, np.asarray(alpha)[:, None], 0.0)[:, :, None]
    level = rng.normal(0.0, 0.1, shape[:2])[:, :, None] + 0.004 * (energy - energy.mean())
    pumped, unpumped, reference = (s * rng.standard_normal(shape) for s in noise)
    delta = share * (curves[1] - curves[0])
    data = {
        "od_unpumped": (curves[0] + level - unpumped + reference, np.hypot(noise[1], noise[2])),
        "od_pumped": (curves[0] + level + delta - pumped + reference, np.hypot(noise[0], noise[2])),
        "delta_xas": (delta - pumped + unpumped, np.hypot(noise[0], noise[1])),
    }
    dims = ("fluence", "delay", "energy")
    variables = {name: (dims, values) for name, (values, _) in data.items()}
    variables |= {f"{name}_stderr": (dims, np.full(shape, sigma)) for name, (_, sigma) in data.items()}
    return xr.Dataset(variables, coords={"fluence": fluence, "delay": delay, "energy": energy})


def many(
    n: int, seed: int, alpha: np.ndarray, truths: dict[str, float], **options
) -> tuple[dict[str, np.ndarray], list[xr.Dataset]]:
    """Pulls of scalars and of every alpha over n simulated experiments."""
    names = [key for key in ("excited_shift", "min_delay") if key in options]
    fit_options = {key: options.pop(key) for key in names}
    results = [
        fit_mixture(
            simulate(np.random.default_rng([seed, k]), alpha, **options), GROUND, EXCITED, window=WINDOW, **fit_options
        )
        for k in range(n)
    ]
    pulls = {
        name: np.array([float((r[name] - truth) / r[f"{name}_stderr"]) for r in results])
        for name, truth in truths.items()
    }
    pulls["alpha"] = np.array([((r["alpha"] - alpha) / r["alpha_stderr"]).values for r in results])
    return pulls, results


def assert_calibrated(pull: np.ndarray) -> None:
    n = len(pull)
    assert abs(pull.mean()) < 4 / np.sqrt(n), pull.mean()
    assert abs(pull.std() - 1) < 4 / np.sqrt(2 * n), pull.std()


def test_errors_of_everything_are_true():
    truths = {
        "scale": 1.3,
        "ground_shift": SHIFT,
        "excited_shift": SHIFT,
        "extra_fwhm": EXTRA,
        "slope": 0.0085,
        "intercept": 0.0,
    }
    pulls, results = many(120, 1, ALPHA, truths)
    for name in truths:
        assert_calibrated(pulls[name])
    for f in range(len(FLUENCE)):
        assert_calibrated(pulls["alpha"][:, f])
    assert np.mean([float(r["redchi"].mean()) for r in results]) == pytest.approx(1.0, abs=0.03)
    assert np.mean([float(r["ground_redchi"]) for r in results]) == pytest.approx(1.0, abs=0.03)
    assert np.mean([float(r["linear_p"]) for r in results]) == pytest.approx(0.5, abs=0.12)
    assert np.mean([float(r["linear_chi2"]) for r in results]) == pytest.approx(2.0, abs=0.75)
    early = np.array([((r["alpha_delay"] - ALPHA[:, None]) / r["alpha_delay_stderr"]).values[:, 2] for r in results])
    assert_calibrated(early[:, 0])
    assert all(r["alpha_delay"][:, :2].isnull().all() for r in results)
    assert all(r.attrs["excited_shift"] == "free" for r in results)


@pytest.mark.parametrize(
    ("noise", "understated"),
    [
        pytest.param(
            (1e-3, 1e-3, 4e-3), 2.0, id="the reference beam limits the ground component", marks=pytest.mark.long
        ),
        pytest.param((3e-4, 4e-3, 3e-4), 0.9, id="the unpumped beam is in both steps", marks=pytest.mark.long),
    ],
)
def test_common_errors_matter_and_are_carried(noise, understated):
    """A large share: the error of the ground component enters, and cancels in part where its noise is that of ΔXAS."""
    alpha, options = np.array([0.8, 0.9]), {"fluence": np.array([8.0, 16.0]), "delay": np.array([1.0]), "noise": noise}
    pulls, results = many(150, 2, alpha, {}, **options)
    assert_calibrated(pulls["alpha"][:, 0])
    assert_calibrated(pulls["alpha"][:, 1])
    naive = np.array([((r["alpha"] - alpha) / r["alpha_stderr_independent"]).values for r in results])
    assert naive.std() > understated
    distance = np.array([float(r["alpha"][1] - r["alpha"][0]) - 0.1 for r in results])
    expected = [np.array([-1, 1]) @ r["alpha_covariance"].values @ np.array([-1, 1]) for r in results]
    assert distance.std() == pytest.approx(np.sqrt(np.mean(expected)), rel=0.25)


@pytest.mark.parametrize("alpha", [0.0, pytest.param(1.0, marks=pytest.mark.long)])
def test_the_ends_of_the_scale_are_honest(alpha):
    """No clipping: the estimate scatters to both sides of 0 and 1."""
    truth = np.full(4, alpha)
    pulls, results = many(50, 3, truth, {}, excited_shift="ground")
    assert_calibrated(pulls["alpha"].ravel()[::2])
    estimates = np.array([r["alpha"].values for r in results])
    assert 0.2 < (estimates > alpha).mean() < 0.8
    for name in ("alpha_ci68", "alpha_ci95"):
        assert all(((r[name] >= 0) & (r[name] <= 1)).all() for r in results)


def test_without_a_signal_a_free_shift_falls_back():
    pulls, results = many(40, 4, np.zeros(4), {})
    assert np.mean([r.attrs["excited_shift"] == "ground" for r in results]) > 0.9
    assert abs(pulls["alpha"]).max() < 5


def test_an_excited_dos_off_its_place_is_found():
    moved = EXCITED.assign_coords(energy=EXCITED["energy"] + 0.4)
    result = fit_mixture(simulate(np.random.default_rng(5), ALPHA), GROUND, moved, window=WINDOW)
    assert float(result["excited_shift"]) == pytest.approx(SHIFT - 0.4, abs=5 * float(result["excited_shift_stderr"]))
    np.testing.assert_allclose(result["alpha"], ALPHA, atol=0.02)
    fixed = fit_mixture(
        simulate(np.random.default_rng(5), ALPHA), GROUND, moved, window=WINDOW, excited_shift=SHIFT - 0.4
    )
    assert fixed.attrs["excited_shift"] == "fixed"
    assert float(fixed["excited_shift_stderr"]) == 0.0


def test_positions_and_curves():
    data = simulate(np.random.default_rng(6), ALPHA, noise=(5e-4, 5e-4, 5e-4))
    result = fit_mixture(data, GROUND, EXCITED, window=WINDOW)
    for name, one in (("ground", GROUND), ("excited", EXCITED)):
        smooth = broaden(one, EXTRA, 0.0, edges="hold").sel(energy=slice(*WINDOW))
        true = float(smooth["energy"][int(smooth.values.argmax())]) + SHIFT
        assert abs(float(result[f"{name}_position"]) - true) < 0.012 + 4 * float(result[f"{name}_position_stderr"])
        assert float(result[f"{name}_fwhm"]) == pytest.approx(np.hypot(1.05, EXTRA), abs=0.12)
        assert 0 < float(result[f"{name}_fwhm_stderr"]) < 0.05
    late = data["delta_xas"].sel(delay=[0.8, 4.8], energy=slice(*WINDOW)).mean("delay")
    np.testing.assert_allclose(result["fit"] + result["residual"], late, atol=1e-12)
    both = result["component_ground"] + result["component_excited"]
    ground = result["component_ground"] / (1 - result["alpha"])
    np.testing.assert_allclose(both - ground, result["fit"], atol=1e-12)
    for name in result.data_vars:
        assert {"units", "long_name"} <= set(result[name].attrs), name


def test_missing_bins_fluences_and_delays():
    data = simulate(np.random.default_rng(7), ALPHA)
    data["delta_xas"].values[2] = np.nan
    data["delta_xas"].values[0, 2, 9] = np.nan
    data["od_unpumped"].values[1, :, 12:15] = np.nan
    before = data.copy(deep=True)
    result = fit_mixture(data, GROUND, EXCITED, window=WINDOW)
    xr.testing.assert_identical(data, before)
    assert np.isnan(result["alpha"][2])
    others = [0, 1, 3]
    assert (np.abs(result["alpha"] - ALPHA) < 5 * result["alpha_stderr"])[others].all()
    assert float(result["slope"]) == pytest.approx(0.0085, abs=5 * float(result["slope_stderr"]))
    none = fit_mixture(data, GROUND, EXCITED, window=WINDOW, min_delay=20.0)
    assert none["alpha"].isnull().all()
    assert np.isnan(none["slope"])


def test_one_fluence_has_no_slope():
    data = simulate(np.random.default_rng(8), ALPHA).isel(fluence=[3])
    result = fit_mixture(data, GROUND, EXCITED, window=WINDOW)
    assert abs(float(result["alpha"][0]) - ALPHA[3]) < 5 * float(result["alpha_stderr"][0])
    assert np.isnan(result["slope"])
    assert "two fluences" in result["slope"].attrs["reason"]


def test_a_delay_measured_a_little_early_counts():
    data = simulate(np.random.default_rng(9), ALPHA).assign_coords(delay=[-1.0, 0.3, 0.7985, 4.8])
    assert fit_mixture(data, GROUND, EXCITED, window=WINDOW)["alpha_delay"][:, 2].notnull().all()


def test_builtin_peaks_at_another_edge():
    """Cu L3: nothing but the window and the spectra says where the edge is."""
    origin, fwhm = 931.0 - 529.0, 1.2
    rng = np.random.default_rng(10)
    data = simulate(rng, ALPHA, origin=origin, noise=(8e-4, 8e-4, 8e-4))
    energy = data["energy"].values

    def line(position):
        return 0.4 * np.exp(-4 * np.log(2) * ((energy - position) / fwhm) ** 2)

    move = np.where(DELAY >= 0.8, ALPHA[:, None], 0.0)[:, :, None] * (line(929.9) - line(931.0))
    noise = (data["delta_xas_stderr"].values * rng.standard_normal(move.shape) for _ in range(2))
    data["delta_xas"].values[:] = move + next(noise)
    data["od_unpumped"].values[:] = line(931.0) + 0.01 * (energy - 931.0) + next(noise)
    window = (928.5, 933.5)
    result = fit_mixture(data, *builtin_dos(data, window=window), window=window)
    assert float(result["ground_position"]) == pytest.approx(931.0, abs=0.01)
    assert float(result["ground_fwhm"]) == pytest.approx(fwhm, abs=0.03)
    assert float(result["excited_position"]) == pytest.approx(929.9, abs=0.05)
    assert (np.abs(result["alpha"] - ALPHA) < 5 * result["alpha_stderr"]).all()


@pytest.mark.parametrize(
    ("ground", "excited", "message"),
    [
        (dos(529.0, 1.0, low=528.5), EXCITED, r"ground DOS covers 528\.5 \.\.\. .* needs 526\.\d+ \.\.\. 531\.\d+ eV"),
        (GROUND, dos(528.0, 1.1, high=529.5), r"excited DOS covers 515 \.\.\. 529\.\d+ eV"),
        (GROUND.assign_coords(energy=GROUND["energy"] - 529.0), EXCITED, "give a longer DOS on the photon energy axis"),
    ],
)
def test_a_dos_that_does_not_reach(ground, excited, message):
    data = simulate(np.random.default_rng(11), ALPHA)
    with pytest.raises(DataError, match=message):
        fit_mixture(data, ground, excited, window=WINDOW, gaussian_fwhm=0.2)


def test_too_few_energies():
    data = simulate(np.random.default_rng(12), ALPHA)
    with pytest.raises(DataError, match=r"only 0 energies inside the mixture window 700 .*: the spectra cover 5"):
        fit_mixture(data, GROUND, EXCITED, window=(700.0, 710.0))
    with pytest.raises(DataError, match="every value is missing"):
        fit_mixture(data * np.nan, GROUND, EXCITED, window=WINDOW)


def gaussian_dos(peak: float, fwhm: float) -> xr.DataArray:
    energy = np.arange(515.0, 545.0, 0.02)
    return xr.DataArray(
        np.exp(-4 * np.log(2) * ((energy - peak) / fwhm) ** 2), dims="energy", coords={"energy": energy}, name="dos"
    )


def gaussian_spectra(
    rng: np.random.Generator, *, share: float, extra: float, excited: float, noise: float
) -> xr.Dataset:
    """One spectrum of two Gaussian states, 1.0 and `excited` eV wide before `extra` broadens both."""
    energy = np.arange(526.0, 532.0, 0.1)
    states = [
        fwhm / np.hypot(fwhm, extra) * gaussian_dos(peak, np.hypot(fwhm, extra)).interp(energy=energy).values
        for peak, fwhm in ((529.0, 1.0), (528.0, excited))
    ]
    light = noise * rng.standard_normal((3, len(energy)))
    delta = share * (states[1] - states[0])
    data = {
        "od_unpumped": states[0] - light[1] + light[2],
        "od_pumped": states[0] + delta - light[0] + light[2],
        "delta_xas": delta - light[0] + light[1],
    }
    dims, coords = ("fluence", "delay", "energy"), {"fluence": [8.0], "delay": [1.0], "energy": energy}
    variables = {n: (dims, v[None, None]) for n, v in data.items()}
    variables |= {f"{n}_stderr": (dims, np.full((1, 1, len(energy)), np.sqrt(2) * noise)) for n in data}
    return xr.Dataset(variables, coords=coords)


def test_widths_and_their_errors_are_those_of_gaussians():
    """Squares of widths add up, and so an error of the extra broadening moves a width by as much as that says."""
    data = gaussian_spectra(np.random.default_rng(20), share=0.3, extra=0.6, excited=1.4, noise=1e-3)
    fit = fit_mixture(data, gaussian_dos(529.0, 1.0), gaussian_dos(528.0, 1.4), window=(526.5, 531.5))
    extra, error = float(fit["extra_fwhm"]), float(fit["extra_fwhm_stderr"])
    assert extra == pytest.approx(0.6, abs=4 * error)
    for name, own in (("ground", 1.0), ("excited", 1.4)):
        assert float(fit[f"{name}_fwhm"]) == pytest.approx(np.hypot(own, extra), rel=2e-3)
        expected = extra * error / np.hypot(own, extra)
        assert float(fit[f"{name}_fwhm_stderr"]) == pytest.approx(expected, rel=0.1), name
    assert float(fit["ground_position"]) == pytest.approx(529.0, abs=4 * float(fit["ground_position_stderr"]))
    assert float(fit["ground_position_stderr"]) == pytest.approx(float(fit["ground_shift_stderr"]), rel=0.05)


def test_a_free_excited_width_has_an_error_of_its_own():
    """The scatter of fitted widths over repeated experiments is what each says, and more than the ground's is."""
    rng = np.random.default_rng(21)
    fits = [
        fit_mixture(
            gaussian_spectra(rng, share=0.4, extra=0.5, excited=1.2, noise=3e-3),
            gaussian_dos(529.0, 1.0),
            gaussian_dos(528.0, 1.0),
            window=(526.5, 531.5),
            excited_shape="free",
        )
        for _ in range(30)
    ]
    assert {f.attrs["excited_shift"] for f in fits} == {"shape"}
    for name, truth in (
        ("excited_fwhm", np.hypot(1.2, 0.5)),
        ("excited_area", 1.2),
        ("ground_fwhm", np.hypot(1.0, 0.5)),
    ):
        value, error = (np.array([float(f[n]) for f in fits]) for n in (name, f"{name}_stderr"))
        pulls = (value - truth) / error
        # 30 experiments: three standard errors of mean and width
        assert abs(pulls.mean()) < 3 / np.sqrt(30), name
        assert abs(pulls.std() - 1) < 3 / np.sqrt(60), name
    assert float(fits[0]["excited_fwhm_stderr"]) > 2 * float(fits[0]["ground_fwhm_stderr"])


def test_fluences_are_compared_at_the_delays_that_all_share():
    """Shares that still grow by half until 10 ps, which only the lowest fluence was measured at: one line all the same."""
    delay, off = np.array([4.8, 10.0]), []
    for seed in range(20):
        spectra = simulate(np.random.default_rng(seed), ALPHA, delay=delay)
        later = simulate(np.random.default_rng(seed), 1.5 * ALPHA, delay=delay)
        spectra = xr.where(spectra["delay"] < 5, spectra, later, keep_attrs=True).transpose(
            "fluence", "delay", "energy"
        )
        lone = spectra.where((spectra["delay"] < 5) | (spectra["fluence"] < 9))
        found = fit_mixture(lone, GROUND, EXCITED, window=WINDOW, min_delay=4.0)
        assert found.attrs["delays"] == [4.8]
        np.testing.assert_array_equal(found["alpha_delay"].notnull().sum("delay"), [2, 1, 1, 1])
        off.append(((found["alpha"] - ALPHA) / found["alpha_stderr"]).values)
    assert np.abs(np.mean(off, axis=0)).max() < 4 / np.sqrt(20)
    apart = spectra.where((spectra["delay"] > 5) == (spectra["fluence"] < 9))
    assert fit_mixture(apart, GROUND, EXCITED, window=WINDOW, min_delay=4.0).attrs["delays"] == [4.8, 10.0]
