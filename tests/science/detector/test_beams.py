"""Beams are found wherever they are, and only as many as there are."""

import numpy as np
import pytest
import xarray as xr
from scipy.ndimage import gaussian_filter
from scipy.special import ndtr

from pipeline.errors import ConfigError, DataError
from pipeline.science.detector.beams import beam_dataset, find_beams

APART = [(40, 130, 9, 119), (190, 280, 9, 119), (340, 430, 9, 119)]


def image(regions, levels, *, sigma=2.0, noise=0.05, hot=40, tilt=0.0, speckle=0.0, seed=0, origin=(0, 0)):
    rng = np.random.default_rng(seed)
    y, x = np.indices((128, 512)) + 0.5
    light = np.zeros((128, 512))
    for (x0, x1, y0, y1), level in zip(regions, levels, strict=True):
        u = x + tilt * (y - (y0 + y1) / 2)
        patch = ndtr((u - x0) / sigma) * ndtr((x1 - u) / sigma) * ndtr((y - y0) / sigma) * ndtr((y1 - y) / sigma)
        rough = gaussian_filter(rng.standard_normal(light.shape), 10)
        light += level * patch * np.exp(speckle * rough / rough.std())
    light += noise * rng.standard_normal(light.shape)
    light[rng.integers(0, 128, hot), rng.integers(0, 512, hot)] = rng.choice([200.0, 1000.0, -40.0], hot)
    coords = {"y": origin[0] + np.arange(128), "x": origin[1] + np.arange(512)}
    return xr.DataArray(light, dims=("y", "x"), coords=coords)


CASES = {
    "plain": (APART, [60, 62, 58], {}),
    "weak third": (APART, [60, 62, 6], {}),
    "weak middle": (APART, [60, 6, 58], {}),
    "at the edges": ([(0, 100, 0, 110), (200, 300, 30, 128), (412, 512, 0, 128)], [60, 50, 6], {}),
    "nearly touching": ([(40, 140, 9, 119), (147, 247, 9, 119), (254, 354, 9, 119)], [60, 62, 10], {}),
    "uneven": (APART, [60, 62, 30], {"speckle": 0.4}),
    "tilted": (APART, [60, 62, 58], {"tilt": 0.15}),
    "small": ([(60, 80, 9, 29), (200, 220, 50, 70), (350, 370, 90, 110)], [60, 62, 30], {}),
    "one above the other": ([(60, 160, 5, 40), (60, 160, 47, 80), (60, 160, 88, 122)], [60, 62, 30], {}),
    "few photons": (APART, [10, 10, 1], {"noise": 0.4}),
    "nearly all of the module": (
        [(0, 164, 0, 128), (172, 340, 0, 128), (348, 512, 0, 128)],
        [10, 10, 8],
        {"sigma": 1.0},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_beams_are_found_with_all_their_light(name):
    regions, levels, options = CASES[name]
    beams = find_beams(image(regions, levels, **options))
    for b, (x0, x1, y0, y1) in enumerate(regions):
        found = [int(beams[n][b]) for n in ("x0", "x1", "y0", "y1")]
        reach = 11 + 110 * options.get("tilt", 0.0)
        assert x0 - reach <= found[0] <= x0 + 1, found
        assert x1 - 1 <= found[1] <= x1 + reach, found
        assert y0 - reach <= found[2] <= y0 + 1, found
        assert y1 - 1 <= found[3] <= y1 + reach, found


def test_beams_do_not_overlap_and_stay_on_the_module():
    beams = find_beams(image(*CASES["nearly touching"][:2]))
    assert (beams["x0"].values[1:] >= beams["x1"].values[:-1]).all()
    edge = find_beams(image(*CASES["at the edges"][:2]))
    assert int(edge["x0"].min()) == 0
    assert int(edge["x1"].max()) == 512


def test_regions_are_in_module_pixels_of_the_crop():
    moved = find_beams(image(APART, [60, 62, 58], origin=(100, 1000)))
    plain = find_beams(image(APART, [60, 62, 58]))
    assert (moved["x0"] == plain["x0"] + 1000).all()
    assert (moved["y1"] == plain["y1"] + 100).all()


def test_flagged_and_missing_pixels_are_bridged():
    light = image(APART, [60, 62, 58], hot=0)
    bad = xr.zeros_like(light, dtype=np.uint8)
    bad[:, 80:86] = 1
    light[:, 80:86] = 5000.0
    light[40:50, 200:210] = np.nan
    before = light.copy(deep=True)
    beams = find_beams(light, bad=bad)
    assert beams.sizes["beam"] == 3
    assert abs(int(beams["x0"][0]) - 40) <= 8
    xr.testing.assert_identical(light, before)


def test_two_beams_are_found_as_two_and_three_as_three():
    assert find_beams(image(APART[:2], [60, 30])).sizes["beam"] == 2
    assert find_beams(image(APART, [60, 30, 40])).sizes["beam"] == 3


def test_two_beams_by_request():
    assert find_beams(image(APART[:2], [60, 30]), count=2).sizes["beam"] == 2


@pytest.mark.parametrize(
    ("regions", "levels", "found"),
    [
        ([], [], "found 0"),
        (APART[:1], [60], "found 1 bright patches at"),
        (
            [(10, 110, 9, 119), (130, 230, 9, 119), (260, 360, 9, 119), (390, 490, 9, 119)],
            [60, 62, 58, 30],
            "found 4",
        ),
    ],
)
def test_any_other_number_is_an_error_that_names_the_way_out(regions, levels, found):
    with pytest.raises(DataError, match=found) as error:
        find_beams(image(regions, levels))
    assert ", not two or three; give the regions in the config, beams: {pumped: [x0, x1, y0, y1], ...}" in str(
        error.value
    )
    assert "or check the flat-field run" in str(error.value)


def test_given_regions_are_ordered_and_checked():
    beams = beam_dataset([APART[2], APART[0], APART[1]])
    assert beams["x0"].values.tolist() == [40, 190, 340]
    with pytest.raises(ConfigError, match=r"beams: regions \[0, 50, 0, 50\] and \[40, 90, 40, 90\] overlap"):
        beam_dataset([(0, 50, 0, 50), (40, 90, 40, 90)])
    with pytest.raises(ConfigError, match=r"beams: region \[50, 50, 0, 50\] is empty; give \[x0, x1, y0, y1\]"):
        beam_dataset([(50, 50, 0, 50)])
