"""Simulated experiments, written once per session, and copies of them to damage."""

import json
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from flows import settings

settings.apply("ERROR")

from extra_data import RunDirectory
from extra_data.reader import DataCollection

from pipeline import plots
from pipeline.simulate import load_scenario, simulate_scenario
from pipeline.stages import publish
from schemas.scenario import Scenario
from tests.command import trxas
from tests.shared import made_once

# a loaded machine is no fault of the code
hypothesis.settings.register_profile("no deadline", deadline=None)
hypothesis.settings.load_profile("no deadline")

_LITTLE_COMPILED = re.compile(
    r"tests/(schemas|euxfel|storage|watch|simulate|science/(?!kinetics/|test_kernels|test_rules))"
)

SAMPLE_RUNS = Path(__file__).parents[1] / "sample_runs"


@dataclass
class Simulated:
    """A folder with runs, and what is said to be in it."""

    scenario: Scenario
    out: Path
    truth: dict[str, Any]

    def open(self, run: int) -> DataCollection:
        return RunDirectory(self.out / "raw" / f"r{run:04d}")

    def frames_source(self) -> str:
        return self.scenario.sources.frames.format(module=self.scenario.detector.module)

    def run(self, number: int) -> dict[str, Any]:
        return next(r for r in self.truth["runs"] if r["run"] == number)


def simulated(name: str, tmp_path_factory: pytest.TempPathFactory, scenarios: Path = SAMPLE_RUNS) -> Simulated:
    scenario = load_scenario(scenarios / f"{name}.yaml")
    out = made_once(tmp_path_factory, name, lambda folder: simulate_scenario(scenario, folder))
    return Simulated(scenario, out, json.loads((out / "truth.json").read_text(encoding="utf-8")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the file that compiles, and beside it those that need little of that; what takes long is not last."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        items.sort(
            key=lambda item: "test_process.py" not in item.nodeid and 2 - bool(_LITTLE_COMPILED.match(item.nodeid))
        )


@pytest.fixture(scope="module", autouse=True)
def compiled(request):
    """Let one process compile the kernels of a fresh clone, for which all of them would need minutes at once."""
    if "PYTEST_XDIST_WORKER" in os.environ and not _LITTLE_COMPILED.match(request.node.nodeid):
        request.getfixturevalue("first_run")


@pytest.fixture(scope="session", autouse=True)
def few_figures():
    """Leave the figures out of products that a test makes in its own process: they take a third of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "draw_product", lambda tree, summary, folder: None)
        yield


@pytest.fixture(scope="module")
def all_figures(few_figures):
    """Draw them all the same."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(publish, "draw_product", plots.draw_product)
        yield


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return simulated("tiny", tmp_path_factory)


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return simulated("faults", tmp_path_factory)


@pytest.fixture(scope="session")
def beamtime_tiny(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return simulated("beamtime_tiny", tmp_path_factory, Path(__file__).parent)


@pytest.fixture(scope="session")
def first_run(tiny: Simulated, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with `out` of `trxas process` on the tiny experiment, its `stdout`, and the `prefect` home it used."""

    def make(folder: Path) -> None:
        folder.mkdir()
        done = trxas("process", tiny.out / "config.yaml", "--out", folder / "out", home=folder / "prefect")
        assert done.returncode == 0, done.stderr
        (folder / "stdout").write_text(done.stdout, encoding="utf-8")

    return made_once(tmp_path_factory, "processed", make)


@pytest.fixture(scope="session")
def processed(first_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the output folder, and what was printed, of `trxas process` on the tiny experiment."""
    out = tmp_path_factory.mktemp("processed") / "out"
    shutil.copytree(first_run / "out", out)
    return out, (first_run / "stdout").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def prefect_home(first_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a home of Prefect with the tables of its database: making them takes several seconds."""
    home = tmp_path_factory.mktemp("prefect") / "home"
    shutil.copytree(first_run / "prefect", home)
    return home


def copy_of(simulated: Simulated, target: Path) -> Path:
    """Return a copy of a simulated experiment whose files may be damaged; files are linked until they are written."""
    shutil.copytree(simulated.out, target)
    return target
