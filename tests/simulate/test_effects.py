"""What a session adds to noise: each effect alone, estimated from the raw files without any of the pipeline's code."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pipeline.simulate import simulate_scenario
from pipeline.simulate.module import linear_adu
from pipeline.simulate.session import plan_session
from schemas.scenario import Scenario
from tests.conftest import Simulated

PLAIN = {
    "seed": 3,
    "machine": {"pulses_per_train": 8, "pulse_id_step": 8},
    "light": {"relative_sigma": 0.2},
    "detector": {"curvature": 0.0, "dead_pixels": 0, "hot_pixels": 0, "noisy_pixels": 0},
    "beams": {"unevenness": 0.0},
}
DARK = {"run": 1, "kind": "dark", "trains": 8}
FLAT = {"run": 2, "kind": "flat_field", "trains": 12, "energy": 528.2}
SCAN = {"run": 4, "kind": "energy_scan", "fluence": 32.0, "delay": 0.2, "energies": [528.2], "trains_per_step": 12}
OFF = {"run": 6, "kind": "pump_off_scan", "energies": [527.0, 528.0, 529.0, 530.0], "trains_per_step": 6}
BRIGHT = np.s_[..., 15:113, 42:128], np.s_[..., 15:113, 192:278]
"""Inside the pumped and the unpumped beam."""
UNLIT = np.s_[..., 2:60, 450:510]


def session(out: Path, *runs: dict[str, Any], **changes: Any) -> Simulated:
    """Write a session; sections of the plain scenario are changed key by key."""
    parts = {k: PLAIN.get(k, {}) | v if isinstance(v, dict) else v for k, v in changes.items()}
    scenario = Scenario.model_validate({"name": "effect", "runs": [DARK, *runs]} | PLAIN | parts)
    simulate_scenario(scenario, out)
    return Simulated(scenario, out, json.loads((out / "truth.json").read_text(encoding="utf-8")))


def frames(sim: Simulated, run: int) -> np.ndarray:
    """Frames (train, pulse, y, x) of a run [ADU]."""
    data = sim.open(run)[sim.frames_source(), "image.data"].ndarray()
    return data.reshape(-1, sim.scenario.machine.pulses_per_train, 128, 512).astype(np.float32)


def ratio(sim: Simulated, run: int) -> np.ndarray:
    """−ln(pumped/unpumped) of every pulse, (train, pulse)."""
    data = frames(sim, run) - frames(sim, 1).mean(axis=0)
    pumped, unpumped = (data[beam].sum(axis=(-2, -1), dtype=float) for beam in BRIGHT)
    return -np.log(pumped / unpumped)


def shots(sim: Simulated, run: int) -> np.ndarray:
    """Which frames the truth says are pumped, (train, pulse)."""
    return np.array([list(train) for train in sim.run(run)["pumped"]]) == "1"


def mean_and_error(values: np.ndarray) -> tuple[float, float]:
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(values.size))


def agree(values: np.ndarray, others: np.ndarray, expected: float) -> bool:
    """Whether the difference of two means is what is expected, within four standard errors."""
    (a, da), (b, db) = mean_and_error(values), mean_and_error(others)
    return abs(a - b - expected) < 4 * np.hypot(da, db)


def ground_od(*energies: float) -> np.ndarray:
    """Optical density below the edge, worked out by hand from the scenario's defaults, the far lines left out."""
    away = np.array(energies) - 529.2
    return 0.05 + 0.25 * np.exp(-4 * np.log(2) * away**2)


def test_every_second_pulse_is_pumped_and_the_others_are_the_reference(tmp_path: Path) -> None:
    sim = session(tmp_path, SCAN, pump={"pulses": [1, 0]})
    expected = np.tile([True, False], (12, 4))
    assert (shots(sim, 4) == expected).all()
    measured, change = ratio(sim, 4), sim.run(4)["delta_xas"][0][0]
    assert change > 0.05
    assert agree(measured[expected], measured[~expected], change)


@pytest.mark.parametrize("order", [["pumped", "reference", "unpumped"], ["unpumped", "pumped"]])
def test_the_pump_finds_its_beam_in_any_order(tmp_path: Path, order: list[str]) -> None:
    sim = session(tmp_path, SCAN, pump={"pulses": [1, 0]}, beams={"order": order}, films={"thickness": 1.3})
    data = frames(sim, 4) - frames(sim, 1).mean(axis=0)
    regions = {b["role"]: b["region"] for b in sim.truth["beams"]}
    sums = {k: data[..., y0:y1, x0:x1].sum(axis=(-2, -1), dtype=float) for k, (x0, x1, y0, y1) in regions.items()}
    assert list(sums) == order
    other = next(k for k in order if k not in ("pumped", "unpumped")) if len(order) == 3 else "unpumped"
    for role, change in (("pumped", 1.3 * sim.run(4)["delta_xas"][0][0]), ("unpumped", 0.0)):
        if role != other:
            measured = -np.log(sums[role] / sums[other])
            assert agree(measured[:, ::2], measured[:, 1::2], change)


def test_a_pattern_over_trains_goes_by_train_id(tmp_path: Path) -> None:
    sim = session(tmp_path, SCAN, pump={"trains": [0, 1]}, machine={"first_train": 1_600_000_001})
    on = np.array(sim.open(4).train_ids) % 2 == 1
    assert (shots(sim, 4) == on[:, None]).all()
    assert agree(ratio(sim, 4)[on], ratio(sim, 4)[~on], sim.run(4)["delta_xas"][0][0])


def test_a_run_may_have_its_own_pattern(tmp_path: Path) -> None:
    runs = [SCAN | {"run": 4 + i, "pump": pump} for i, pump in enumerate(["all", "none", {"pulses": [0, 1]}])]
    sim = session(tmp_path, *runs, pump={"pulses": [1, 0]})
    assert [shots(sim, run).mean() for run in (4, 5, 6)] == [1.0, 0.0, 0.5]
    assert agree(ratio(sim, 4), ratio(sim, 5), sim.run(4)["delta_xas"][0][0])
    assert sim.run(5)["pump"] is None


def test_shots_that_do_not_come_leave_the_sample_alone(tmp_path: Path) -> None:
    scan = SCAN | {"trains_per_step": 60}
    sim = session(tmp_path, scan, laser={"missing_shots": 0.2, "missing_trains": 0.1})
    on = shots(sim, 4)
    silent = ~on.any(axis=1)
    assert 1 <= silent.sum() <= 14
    assert (~on[~silent]).mean() == pytest.approx(0.2, abs=0.08)
    assert agree(ratio(sim, 4)[on], ratio(sim, 4)[~on], sim.run(4)["delta_xas"][0][0])


def test_the_pumped_film_is_thicker(tmp_path: Path) -> None:
    sim = session(tmp_path, OFF, films={"thickness": 1.2})
    by_energy = ratio(sim, 6).reshape(4, -1)
    assert agree(by_energy[2], by_energy[0], 0.2 * np.diff(ground_od(527.0, 529.0))[0])


def test_a_thicker_film_shows_a_larger_difference(tmp_path: Path) -> None:
    sim = session(tmp_path, SCAN, pump={"pulses": [1, 0]}, films={"thickness": 1.5})
    on, measured = shots(sim, 4), ratio(sim, 4)
    assert agree(measured[on], measured[~on], 1.5 * sim.run(4)["delta_xas"][0][0])


def test_the_splitting_depends_on_photon_energy(tmp_path: Path) -> None:
    terms = {"energy": 528.0, "slope": 0.02, "curvature": 0.01, "wiggle": 0.015, "wiggle_period": 4.0}
    sim = session(tmp_path, OFF, splitting=terms)
    by_energy = ratio(sim, 6).reshape(4, -1)
    expected = [-0.02 + 0.01 - 0.015, 0.0, 0.02 + 0.01 + 0.015, 0.04 + 0.04]
    np.testing.assert_allclose(sim.run(6)["splitting_od"], expected, atol=1e-12)
    for k in (0, 2, 3):
        assert agree(by_energy[k], by_energy[1], expected[k])


def test_the_ratio_drifts_with_the_clock_of_the_session(tmp_path: Path) -> None:
    later = FLAT | {"run": 3, "gap": 180.0}
    sim = session(tmp_path, FLAT, later, splitting={"drift": 0.02}, machine={"gap": 10.0, "time_lapse": 40.0})
    first, last = (sim.open(run).train_ids[0] for run in (2, 3))
    hours = 40.0 * (last - first) / 36_000
    assert hours == pytest.approx(2.0, abs=0.05)
    assert sim.run(3)["hours"][0] - sim.run(2)["hours"][0] == pytest.approx(hours)
    assert agree(ratio(sim, 3), ratio(sim, 2), 0.02 * hours)


def test_the_ratio_walks_at_random(tmp_path: Path) -> None:
    runs = [FLAT | {"run": 2 + i, "gap": 1800.0} for i in range(4)]
    sim = session(tmp_path, *runs, splitting={"walk": 0.1})
    walk = [np.mean(sim.run(r["run"])["ratio_drift_od"]) for r in runs]
    assert np.std(walk) > 0.01
    for run, there in zip((3, 4, 5), walk[1:], strict=True):
        assert agree(ratio(sim, run), ratio(sim, 2), there - walk[0])
    ends = [plan_session(sim.scenario, seed)[-1] for seed in range(300)]
    # σ of a σ from 300 values is 4 %
    assert np.std([end.drift[-1] for end in ends]) == pytest.approx(0.1 * np.sqrt(ends[0].hours[-1]), rel=0.16)


@pytest.mark.parametrize(
    ("films", "lost"),
    # 12 trains of 4 pumped pulses at 32 mJ/cm²
    [({"wear_per_run": 0.3}, 0.3), ({"wear_per_dose": 0.2}, 0.2 * 48 * 32 / 1000)],
)
def test_the_pump_wears_the_film(tmp_path: Path, films: dict[str, float], lost: float) -> None:
    flats = [FLAT | {"energy": 529.2}, FLAT | {"energy": 529.2, "run": 3}, FLAT | {"energy": 529.2, "run": 5}]
    sim = session(tmp_path, flats[0], flats[1], SCAN, flats[2], pump={"pulses": [1, 0]}, films=films)
    assert agree(ratio(sim, 3), ratio(sim, 2), 0.0)
    assert agree(ratio(sim, 5), ratio(sim, 3), -lost * ground_od(529.2)[0])
    film = sim.run(4)["film_ratio"]
    assert film[0] == 1.0
    assert np.diff(film) == pytest.approx([-lost / 12] * 11)
    assert sim.run(5)["film_ratio"] == pytest.approx([1.0 - lost] * 12)


def test_pump_light_is_on_pumped_frames_with_and_without_xrays(tmp_path: Path) -> None:
    sim = session(
        tmp_path,
        SCAN,
        SCAN | {"run": 5, "fluence": 0.0},
        pump={"pulses": [0, 1]},
        machine={"dark_frames": [6, 7]},
        detector={"pump_light": 0.4},
    )
    light = frames(sim, 4) - frames(sim, 1).mean(axis=0)
    without_xrays = light[:, 7] - light[:, 6]
    # 65,536 pixels of 0.7 ADU noise, 12 trains and the dark's 8
    assert without_xrays.mean() == pytest.approx(0.4, abs=0.01)
    blocks = without_xrays.mean(axis=0).reshape(2, 64, 8, 64).mean(axis=(1, 3))
    assert blocks.std() > 0.02
    assert light[:, 1:6:2][UNLIT].mean() - light[:, 0:6:2][UNLIT].mean() > 0.1
    assert not shots(sim, 5).any()
    off = frames(sim, 5) - frames(sim, 1).mean(axis=0)
    assert off[:, 7].mean() == pytest.approx(0.0, abs=0.01)


def test_pump_light_can_be_in_a_dark_run(tmp_path: Path) -> None:
    sim = session(tmp_path, detector={"pump_light": 2.0}, runs=[DARK | {"pump": {"pulses": [1, 0]}}])
    level = frames(sim, 1).mean(axis=(0, 2, 3)) - np.array(sim.truth["detector"]["cell_level"][:8])
    assert level[::2].mean() - level[1::2].mean() == pytest.approx(2.0, abs=0.01)


def asic_means(data: np.ndarray) -> np.ndarray:
    """Means of blocks of 64 x 64 pixels, (…, 16)."""
    return data.reshape(*data.shape[:-2], 2, 64, 8, 64).mean(axis=(-3, -1)).reshape(*data.shape[:-2], 16)


def test_pedestals_move_since_the_dark_run(tmp_path: Path) -> None:
    dim = FLAT | {"flux": {"pumped": 1e-6, "unpumped": 1e-6, "reference": 1e-6}}
    change = {"mean": 2.0, "sigma": 1.0, "in_run": 1.5}
    sim = session(tmp_path, dim, dim | {"run": 3}, detector={"pedestal": change})
    dark = asic_means(frames(sim, 1)).mean(axis=0)
    shifts = {run: (asic_means(frames(sim, run)) - dark).mean(axis=1) for run in (2, 3)}
    for run, shift in shifts.items():
        said = sim.run(run)["pedestal_adu"]
        np.testing.assert_allclose(shift[0], said["first"], atol=0.03)
        np.testing.assert_allclose(shift[-1], said["last"], atol=0.03)
        np.testing.assert_allclose(shift[6] - shift[5], (shift[-1] - shift[0]) / 11, atol=0.04)
    every = np.array([s.mean(axis=0) for s in shifts.values()])
    assert every.mean() == pytest.approx(2.0, abs=4 / np.sqrt(32))
    assert every.std() == pytest.approx(1.0, rel=0.5)
    assert np.std([s[-1] - s[0] for s in shifts.values()]) == pytest.approx(1.5, rel=0.5)
    assert not np.any(sim.run(1)["pedestal_adu"]["last"])


def test_asics_jump_from_frame_to_frame(tmp_path: Path) -> None:
    sim = session(tmp_path, detector={"pedestal": {"frame": 0.5}})
    means = asic_means(frames(sim, 1))
    means -= means.mean(axis=0)
    # 8 trains share their mean; 64 x 64 pixels of 0.76 ADU leave 0.012
    assert means.std() == pytest.approx(0.5 * np.sqrt(7 / 8), rel=0.1)
    assert abs(np.corrcoef(means[..., 0].ravel(), means[..., 1].ravel())[0, 1]) < 0.5


def test_the_arrival_monitor_has_a_mean_and_may_be_missing(tmp_path: Path) -> None:
    arrival = {"mean": 450.0, "train_sigma": 5.0}
    sim = session(tmp_path, SCAN, SCAN | {"run": 5, "arrival_recorded": False}, arrival=arrival)
    names = sim.scenario.sources
    read = sim.open(4)[names.arrival, names.arrival_key].ndarray()[:, 2 * np.array(sim.run(4)["xray_slots"])]
    assert read.mean() == pytest.approx(450.0, abs=4 * 5 / np.sqrt(12))
    assert names.arrival not in sim.open(5).all_sources
    assert [sim.run(r)["arrival_mean"] for r in (4, 5)] == [450.0, None]
    # the mean is the monitor's, not the sample's: the trace at 0.2 ps would be another at 0.65 ps
    assert agree(ratio(sim, 4), ratio(sim, 5), 0.0)


def test_the_stage_makes_up_for_the_trigger_of_a_run(tmp_path: Path) -> None:
    sim = session(tmp_path, SCAN, SCAN | {"run": 5, "trigger": 2.5})
    names = sim.scenario.sources
    assert names.trigger not in sim.open(4).all_sources
    assert (sim.open(5)[names.trigger, names.trigger_key].ndarray() == 2.5).all()
    stage = [sim.open(r)[names.delay_stage, names.delay_stage_key].ndarray().mean() for r in (4, 5)]
    assert (stage[1] - stage[0]) * 6.671281904 == pytest.approx(2.5, abs=0.002)
    assert [sim.run(r)["trigger"] for r in (4, 5)] == [None, 2.5]


def test_a_response_with_a_knee_compresses_above_it(tmp_path: Path) -> None:
    flat = FLAT | {"trains": 40}
    detector = {"knee": 80.0, "slope_above_knee": 0.5, "offset_pixel_sigma": 0.0, "offset_cell_sigma": 0.0}
    sim = session(tmp_path, flat, detector=detector, light={"relative_sigma": 0.4}, beams={"flux": [0.2, 0.7, 1]})
    data, pedestal = frames(sim, 2), frames(sim, 1).mean()
    weak, strong = (data[beam].mean(axis=(-2, -1)).ravel() - pedestal for beam in BRIGHT)
    # at the knee the response bends with the spread of the pixels, 7 ADU
    below, above = strong < 25, strong > 52
    low, high = (np.polyfit(weak[part], strong[part], 1)[0] for part in (below, above))
    assert min(below.sum(), above.sum()) > 20
    assert high / low == pytest.approx(0.5, rel=0.1)
    table = np.array(sim.truth["detector"]["nonlinearity"]["linear_adu"])
    np.testing.assert_array_equal(table, linear_adu(sim.scenario.detector))
    assert table[[80, 81, 255]] == pytest.approx([80.0, 82.0, 430.0])


def test_several_flat_fields_and_pump_off_scans_are_in_the_config(tmp_path: Path) -> None:
    later = [FLAT | {"run": 7}, OFF | {"run": 8}]
    sim = session(tmp_path, FLAT, OFF, SCAN, *later, pump={"pulses": [1, 0]})
    config = yaml.safe_load((sim.out / "config.yaml").read_text(encoding="utf-8"))
    assert config["runs"] == {
        "dark": 1,
        "flat_field": [2, 7],
        "pump_off_scans": [{"run": 6}, {"run": 8}],
        "energy_scans": [{"run": 4, "fluence": 32.0}],
    }
    # without bits in the bunch pattern only the config can tell
    assert config["pump"] == {"pulses": [1, 0]}
    assert sim.run(6)["energies"] == OFF["energies"]
    np.testing.assert_allclose(sim.run(6)["od_unpumped"], ground_od(*OFF["energies"]), atol=0.03)
    assert agree(ratio(sim, 8), ratio(sim, 6), 0.0)
