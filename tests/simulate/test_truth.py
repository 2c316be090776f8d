"""What `truth.json` says can be read back from the frames with simple statistics."""

import json
from typing import Any

import numpy as np
import pytest


def read(sim: Any, run: int) -> np.ndarray:
    """Frames (train, pulse, y, x) of a run without faults."""
    data = sim.open(run)[sim.frames_source(), "image.data"].ndarray()
    return data.reshape(-1, sim.scenario.machine.pulses_per_train, 128, 512)


def good_pixels(truth: dict[str, Any]) -> np.ndarray:
    good = np.ones((128, 512), bool)
    for pixels in truth["detector"]["bad_pixels"].values():
        good[tuple(np.transpose(pixels))] = False
    return good


@pytest.fixture(scope="module")
def linear(tiny: Any) -> Any:
    """Linearised, dark-subtracted ADU of a run."""
    table = np.array(tiny.truth["detector"]["nonlinearity"]["linear_adu"])
    dark = table[read(tiny, 1)].mean(axis=0)

    def of(run: int) -> np.ndarray:
        return (table[read(tiny, run)] - dark).astype(np.float32)

    return of


@pytest.fixture(scope="module")
def photons(tiny: Any, linear: Any) -> Any:
    """Photons (train, pulse) per beam role, and whether no pixel of the pulse is saturated."""
    good = good_pixels(tiny.truth)

    def of(run: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
        values, raw = linear(run), read(tiny, run)
        sums, clean = {}, np.ones(raw.shape[:2], bool)
        for beam in tiny.truth["beams"]:
            x0, x1, y0, y1 = beam["region"]
            inside = good[y0:y1, x0:x1]
            sums[beam["role"]] = (
                values[..., y0:y1, x0:x1][..., inside].sum(axis=-1, dtype=float) / tiny.truth["detector"]["gain"]
            )
            clean &= (raw[..., y0:y1, x0:x1][..., inside] < 255).all(axis=-1)
        return sums, clean

    return of


def test_dark_frames_have_the_offset_and_the_read_noise(tiny: Any) -> None:
    spec = tiny.scenario.detector
    dark, good = read(tiny, 1).astype(float), good_pixels(tiny.truth)
    bent = spec.offset - spec.curvature * spec.offset**2 / spec.full_scale
    assert dark[..., good].mean() == pytest.approx(bent, abs=1.0)
    # rounding adds 1/12
    noise = np.sqrt(dark.var(axis=0, ddof=1)[:, good].mean() - 1 / 12)
    assert noise == pytest.approx(spec.read_noise, rel=0.02)
    level = dark[..., good].mean(axis=(0, 2))
    expected = np.array(tiny.truth["detector"]["cell_level"])[: level.size]
    assert np.corrcoef(level, expected)[0, 1] > 0.99
    # pixel and cell do not simply add
    mean = dark.mean(axis=0)[:, good]
    mixed = mean - mean.mean(axis=0) - (mean - mean.mean(axis=0)).mean(axis=1, keepdims=True)
    assert mixed.std() > 0.3


def test_bad_pixels_are_where_the_truth_says(tiny: Any) -> None:
    dark, flat = read(tiny, 1).astype(float), read(tiny, 2).astype(float)
    bad = {k: tuple(np.transpose(v)) for k, v in tiny.truth["detector"]["bad_pixels"].items()}
    good = good_pixels(tiny.truth)
    assert (dark.std(axis=(0, 1))[bad["dead"]] == 0).all()
    assert (flat.std(axis=(0, 1))[bad["dead"]] == 0).all()
    assert (dark.mean(axis=(0, 1))[bad["hot"]] > 100).all()
    usual = dark.std(axis=0).mean(axis=0)
    assert (usual[bad["noisy"]] > 3 * np.median(usual[good])).all()
    assert usual[good].max() < 3 * np.median(usual[good])
    inside = [x0 <= x < x1 and y0 <= y < y1 for b in tiny.truth["beams"] for x0, x1, y0, y1 in [b["region"]]
              for v in tiny.truth["detector"]["bad_pixels"].values() for y, x in v]  # fmt: skip
    assert sum(inside) > 5


def test_photon_transfer_gives_the_gain(tiny: Any, linear: Any) -> None:
    flat, good = linear(2), good_pixels(tiny.truth)
    x0, x1, y0, y1 = tiny.truth["beams"][2]["region"]
    patch = flat[..., y0 + 5 : y1 - 5, x0 + 5 : x1 - 5][..., good[y0 + 5 : y1 - 5, x0 + 5 : x1 - 5]]
    patch = patch.reshape(-1, patch.shape[-1])
    intensity = patch.mean(axis=1)
    keep = intensity < 1.3 * intensity.mean()  # far from saturation
    shape = patch[keep].mean(axis=0) / intensity[keep].mean()
    residual = patch[keep] - intensity[keep, None] * shape
    variance = (residual**2).mean(axis=1) * keep.sum() / (keep.sum() - 1)
    slope, at_zero = np.polyfit(intensity[keep], variance, 1)
    assert slope == pytest.approx(tiny.truth["detector"]["gain"], rel=0.01)
    assert at_zero == pytest.approx(tiny.truth["detector"]["read_noise"] ** 2, abs=1.0)


def test_without_the_linearisation_the_gain_is_wrong(tiny: Any) -> None:
    # otherwise the test above would say nothing about the non-linearity
    table = tiny.truth["detector"]["nonlinearity"]
    assert np.interp(200.0, table["adu"], table["linear_adu"]) > 204.0


def test_beams_have_the_photons_of_the_truth(tiny: Any, photons: Any) -> None:
    sums, _ = photons(2)
    od = tiny.run(2)["od"]
    for beam in tiny.truth["beams"]:
        transmission = 1.0 if beam["role"] == "reference" else np.exp(-od)
        # 320 pulses of 40 % spread and 20 trains of 5 %; the soft edges are outside the region
        expected = beam["photons_per_pulse"] * transmission
        assert sums[beam["role"]].mean() == pytest.approx(expected, rel=0.1)
    spread = sums["reference"].std() / sums["reference"].mean()
    assert spread == pytest.approx(tiny.scenario.light.relative_sigma, rel=0.15)


def test_beams_share_the_intensity_up_to_shot_noise(photons: Any) -> None:
    sums, clean = photons(2)
    a, b = sums["unpumped"][clean], sums["reference"][clean]
    ratio = a.sum() / b.sum()
    pull = (a - ratio * b) / np.sqrt(a + ratio**2 * b)
    assert pull.std() == pytest.approx(1.0, abs=5 / np.sqrt(2 * pull.size))


@pytest.mark.parametrize("run", [3, 5, 6])
def test_differences_are_the_noise_free_ones_within_shot_noise(tiny: Any, photons: Any, run: int) -> None:
    flat, clean = photons(2)
    constant = np.log(flat["pumped"][clean].sum() / flat["unpumped"][clean].sum())
    sums, clean = photons(run)
    pumped, unpumped = ((sums[k] * clean).sum(axis=1) for k in ("pumped", "unpumped"))
    measured = constant - np.log(pumped / unpumped)
    sigma = np.sqrt(1 / pumped + 1 / unpumped)
    expected = np.ravel(tiny.run(run)["delta_xas"])
    chi2 = (((measured - expected) / sigma) ** 2).sum()
    assert chi2 / expected.size == pytest.approx(1.0, abs=5 * np.sqrt(2 / expected.size))
    assert (expected**2 / sigma**2).sum() > 25 * expected.size  # it is not all noise


def test_the_unpumped_spectrum_is_the_ground_state(tiny: Any, photons: Any) -> None:
    flat, clean = photons(2)
    constant = np.log(flat["unpumped"][clean].sum() / flat["reference"][clean].sum()) + tiny.run(2)["od"]
    sums, clean = photons(3)
    unpumped, reference = ((sums[k] * clean).sum(axis=1) for k in ("unpumped", "reference"))
    sigma = np.sqrt(1 / unpumped + 1 / reference)
    pull = (constant - np.log(unpumped / reference) - tiny.run(3)["od_unpumped"]) / sigma
    assert (pull**2).mean() == pytest.approx(1.0, abs=5 * np.sqrt(2 / pull.size))


def test_the_truth_is_complete_and_plain_json(tiny: Any) -> None:
    text = (tiny.out / "truth.json").read_text(encoding="utf-8")
    truth = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} in truth.json"))
    assert truth["seed"] == tiny.scenario.seed
    assert truth["kinetics"]["taus"] == [0.15, 0.24, 1.5]
    assert truth["mixture"]["fluences"] == [16.0, 32.0]
    assert truth["mixture"]["alpha"] == pytest.approx([0.05 + 8 * 0.22 / 24, 0.27])
    peaks = tiny.run(3)["peaks"]
    assert peaks["A"]["position"][0] == pytest.approx(528.02, abs=0.01)
    assert tiny.run(4)["peaks"]["A"]["position"] == [528.2]
    assert peaks["B"]["amplitude"][0] < 0 < peaks["A"]["amplitude"][0]
