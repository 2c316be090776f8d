"""The front door: scenarios, what is written, determinism, memory."""

import hashlib
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import xarray as xr

import schemas.reading
from pipeline.errors import ConfigError
from pipeline.science import forward
from pipeline.simulate import load_scenario, simulate_scenario
from pipeline.simulate.timetable import build_model, plan_run
from pipeline.simulate.write_run import BLOCK_FRAMES
from schemas.instrument import load_instrument
from schemas.scenario import Scenario

SAMPLE_RUNS = Path(__file__).parents[2] / "sample_runs"
DARK = "name: x\nruns: [{run: 1, kind: dark, trains: 2}]\n"
SCENARIOS = sorted(SAMPLE_RUNS.glob("*.yaml"))


def small(**changes: object) -> Scenario:
    runs = [
        {"run": 1, "kind": "dark", "trains": 3},
        {"run": 2, "kind": "delay_scan", "fluence": 8.0, "energy": 528.2, "delays": [0.0, 0.2, 1.0, 5.0]},
    ]
    return Scenario.model_validate({"name": "small", "machine": {"pulses_per_train": 30}, "runs": runs} | changes)


def contents(folder: Path) -> dict[str, np.ndarray]:
    """Every dataset of every file, by path."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(folder.rglob("*.h5")):
        with h5py.File(path) as file:
            file.visititems(
                lambda name, item, p=path: (
                    found.update({f"{p.relative_to(folder)}:{name}": item[()]})
                    if isinstance(item, h5py.Dataset)
                    else None
                )
            )
    return found


def test_the_same_seed_gives_the_same_files_for_any_number_of_workers(tmp_path: Path) -> None:
    for name, workers, seed in (("one", 1, 5), ("three", 3, 5), ("other", 3, 6)):
        simulate_scenario(small(), tmp_path / name, workers=workers, seed=seed)
    one, three, other = (contents(tmp_path / name) for name in ("one", "three", "other"))
    assert one.keys() == three.keys()
    assert all(np.array_equal(one[k], three[k]) for k in one)
    data = next(k for k in one if k.startswith("raw/r0002") and k.endswith("image/data"))
    assert not np.array_equal(one[data], other[data])
    for name in ("truth.json", "config.yaml", "dos_ground.txt"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "three" / name).read_bytes()


def test_what_a_scenario_does_not_ask_for_changes_no_frame(tiny: Any) -> None:
    total = hashlib.sha256()
    for run in tiny.truth["runs"]:
        total.update(tiny.open(run["run"])[tiny.frames_source(), "image.data"].ndarray().tobytes())
    # of the files before effects such as drift and pump light were there
    assert total.hexdigest()[:16] == "8c8006646082ac4a"


def test_frames_of_a_run_differ_from_each_other(tmp_path: Path) -> None:
    simulate_scenario(small(), tmp_path)
    data = next(v for k, v in contents(tmp_path).items() if k.endswith("image/data"))
    assert len({frame.tobytes() for frame in data}) == len(data)


def test_memory_is_a_few_blocks_and_not_a_run(tmp_path: Path) -> None:
    block = BLOCK_FRAMES * 128 * 512 * 2
    scenario = small(runs=[{"run": 1, "kind": "dark", "trains": 40}])
    simulate_scenario(small(), tmp_path / "warm")
    tracemalloc.start()
    try:
        simulate_scenario(scenario, tmp_path / "run", workers=2)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    run = 40 * 30 * 128 * 512 * 2
    assert peak < 6 * block < run / 2


def test_progress_counts_every_frame(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    simulate_scenario(small(), tmp_path, progress=lambda done, total: calls.append((done, total)))
    assert calls[-1] == (210, 210)
    assert [c[0] for c in calls] == sorted(c[0] for c in calls)


def test_an_earlier_simulation_is_replaced_entirely(tmp_path: Path) -> None:
    simulate_scenario(small(machine={"pulses_per_train": 8, "trains_per_sequence": 2}), tmp_path)
    (tmp_path / "raw" / "r0002" / "karabo_data_map.json").write_text("[]")
    (tmp_path / "raw" / "r0002" / "notes.txt").write_text("mine")
    simulate_scenario(small(), tmp_path)
    names = {p.name for p in (tmp_path / "raw" / "r0002").iterdir()}
    assert names == {"RAW-R0002-DA01-S00000.h5", "RAW-R0002-DSSC15-S00000.h5", "notes.txt"}


def test_runs_that_were_not_simulated_are_not_touched(tmp_path: Path) -> None:
    folder = tmp_path / "raw" / "r0002"
    folder.mkdir(parents=True)
    (folder / "RAW-R0002-DSSC15-S00000.h5").write_text("precious")
    with pytest.raises(ConfigError, match=r"no truth\.json"):
        simulate_scenario(small(), tmp_path)
    assert (folder / "RAW-R0002-DSSC15-S00000.h5").read_text() == "precious"


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda p: p.stem)
def test_sample_scenarios_are_small_enough(path: Path) -> None:
    scenario = load_scenario(path)
    frames = sum(plan_run(scenario, i, scenario.seed).n_frames for i in range(len(scenario.runs)))
    assert frames <= {"demo": 25_000, "beamtime": 26_500, "cu_l3": 5_000, "noise_levels": 6_000}.get(path.stem, 2_600)


@pytest.mark.parametrize("name", ["tiny", "faults", "beamtime_tiny"])
def test_the_run_config_is_valid_and_names_what_is_there(name: str, request: pytest.FixtureRequest) -> None:
    sim = request.getfixturevalue(name)
    config = schemas.reading.load_config(sim.out / "config.yaml")
    assert config.dataset == sim.scenario.name
    runs = config.runs
    without_pump = [*runs.flat_fields, *(s.run for s in runs.pump_off_scans)]
    listed = {runs.dark, *without_pump, *(s.run for s in runs.scans)}
    assert listed == {r.run for r in sim.scenario.runs}
    assert config.delay.t0 == sim.scenario.delay.t0
    assert config.mixture.min_delay == 4.0
    assert (sim.out / str(config.mixture.dos_ground)).is_file()
    instrument = load_instrument(config.instrument).with_sources(config.sources)
    for run in sim.truth["runs"]:
        sources = sim.open(run["run"]).all_sources
        assert instrument.energy.source in sources
        assert instrument.delay_stage.source in sources
        assert instrument.frames.source.format(module=sim.scenario.detector.module) in sources
        assert instrument.arrival is not None
        recorded = next(r.arrival_recorded for r in sim.scenario.runs if r.run == run["run"])
        assert (instrument.arrival.source in sources) == recorded


def test_the_config_overrides_only_what_deviates(tiny: Any, faults: Any) -> None:
    assert schemas.reading.load_config(tiny.out / "config.yaml").sources == {}
    changed = schemas.reading.load_config(faults.out / "config.yaml").sources
    assert set(changed) == {"frames", "energy", "delay_stage", "arrival"}


def test_the_dos_files_broaden_to_the_spectra(tiny: Any) -> None:
    model = build_model(tiny.scenario)
    for state, spectrum in (("ground", forward.ground_od), ("excited", forward.excited_od)):
        path = tiny.out / f"dos_{state}.txt"
        assert path.read_text().splitlines()[0].split() == ["energy_eV", "dos"]
        energy, dos = np.loadtxt(path, skiprows=1, unpack=True)
        sigma = model.resolution / np.sqrt(8 * np.log(2))
        offset = np.arange(-75, 76) * 0.02
        kernel = np.exp(-0.5 * (offset / sigma) ** 2)
        broad = np.convolve(dos, kernel / kernel.sum(), mode="valid")
        expected = spectrum(model, xr.DataArray(energy[75:-75], dims="energy"))
        np.testing.assert_allclose(broad, expected, atol=2e-8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DARK + "colour: 3\n", "colour: unknown key"),
        (DARK + "detector: {gain: -1}\n", r"detector\.gain.*greater than 0"),
        (DARK.replace("]", ", {run: 1, kind: dark, trains: 3}]"), "run 1 is listed twice"),
        ("name: x\nruns: [{run: 1, kind: dark}]\n", "trains: missing"),
        ("name: [\n", "not valid YAML"),
        ("- 1\n", "a scenario is a mapping of keys"),
        (DARK + "beams: {width: 200}\n", "module is 512 wide"),
        (DARK + "machine: {pulse_id_step: 99}\n", "2700 slots"),
    ],
)  # fmt: skip
def test_a_wrong_scenario_is_refused_in_one_line_that_names_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "scenario.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message) as caught:
        load_scenario(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_scenario_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        load_scenario(tmp_path / "nowhere.yaml")


def test_more_faults_than_trains_are_refused(tmp_path: Path) -> None:
    runs = [{"run": 4, "kind": "dark", "trains": 5, "missing_trains": 4}]
    with pytest.raises(ConfigError, match="run 4: missing_trains"):
        simulate_scenario(small(runs=runs), tmp_path)
    assert not (tmp_path / "config.yaml").exists()


def test_no_workers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="workers: 0 is below 1"):
        simulate_scenario(small(), tmp_path, workers=0)


def test_two_beams_make_no_reference(tmp_path: Path) -> None:
    config = simulate_scenario(small(beams={"order": ["unpumped", "pumped"]}), tmp_path)
    loaded = schemas.reading.load_config(config)
    assert isinstance(loaded.beams, schemas.config.detector.AutoBeams)
    assert loaded.beams.count == 2
