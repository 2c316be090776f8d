"""Simulated experiments, written once per session, and copies of them to damage."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flows import settings

settings.apply("ERROR")

from extra_data import RunDirectory
from extra_data.reader import DataCollection

from pipeline.simulate import load_scenario, simulate_scenario
from schemas.scenario import Scenario

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


def simulated(name: str, out: Path) -> Simulated:
    scenario = load_scenario(SAMPLE_RUNS / f"{name}.yaml")
    simulate_scenario(scenario, out)
    return Simulated(scenario, out, json.loads((out / "truth.json").read_text(encoding="utf-8")))


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return simulated("tiny", tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def faults(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return simulated("faults", tmp_path_factory.mktemp("faults"))


def copy_of(simulated: Simulated, target: Path) -> Path:
    """Return a copy of a simulated experiment whose files may be damaged; files are linked until they are written."""
    shutil.copytree(simulated.out, target)
    return target
