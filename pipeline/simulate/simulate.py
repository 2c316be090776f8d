"""From a scenario to a folder of raw runs with known truth."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml
from pydantic import ValidationError

from pipeline.errors import ConfigError
from pipeline.simulate.module import build_module
from pipeline.simulate.session import plan_session
from pipeline.simulate.timetable import plan_run
from pipeline.simulate.truth import describe_run, run_config, truth_of, write_dos, write_text
from pipeline.simulate.write_run import write_run
from schemas.reading import describe_error
from schemas.scenario import Scenario

__all__ = ["load_scenario", "scenario_path", "simulate_scenario"]

SCENARIOS = Path(__file__).resolve().parents[2] / "sample_runs"


def scenario_path(name: str | Path) -> Path:
    """Return a scenario's file from its path or its name in sample_runs; raises ConfigError naming those there are."""
    for candidate in (Path(name), SCENARIOS / f"{name}.yaml"):
        if candidate.is_file():
            return candidate
    known = ", ".join(sorted(p.stem for p in SCENARIOS.glob("*.yaml")))
    raise ConfigError(f"scenario {str(name)!r} is neither a file nor one of {known}")


def load_scenario(path: str | Path) -> Scenario:
    """Read and check a scenario file.

    Raises
    ------
    ConfigError
        If the file cannot be read or a key is unknown, missing or wrong; the message names file and key.
    """
    path = Path(path)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        raise ConfigError(f"{path}: not valid YAML{f' in line {mark.line + 1}' if mark else ''}") from None
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a scenario is a mapping of keys (name: …, runs: …)")
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        raise ConfigError(f"{path}: {describe_error(error, Scenario)}") from None


def simulate_scenario(
    scenario: Scenario,
    out: Path,
    *,
    seed: int | None = None,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write the runs of a scenario below `out`, with config, truth and DOS files.

    Parameters
    ----------
    scenario
        What to simulate.
    out
        Folder; made if need be. An earlier simulation in it is replaced, anything else is not touched.
    seed
        Start of all random numbers; the scenario's own unless given.
    workers
        Threads that draw frames; the files do not depend on it.
    progress
        Called with the number of frames written so far and in total.

    Returns
    -------
    Path
        The run configuration, `out/config.yaml`.

    Raises
    ------
    ConfigError
        If `workers` is below 1, a run asks for more faults than it has trains, or `out` holds runs that were
        not simulated.
    """
    if workers < 1:
        raise ConfigError(f"workers: {workers} is below 1")
    seed = scenario.seed if seed is None else seed
    out = Path(out)
    module = build_module(scenario, seed)
    session = plan_session(scenario, seed)
    plans = [plan_run(scenario, i, seed, session) for i in range(len(scenario.runs))]
    _clear(out)
    truth = truth_of(scenario, seed, module, [describe_run(scenario, p) for p in plans])
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "truth.json", truth)
    total, done = sum(p.n_frames for p in plans), 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        if progress is not None:
            progress(done, total)

    for plan in plans:
        folder = out / "raw" / f"r{plan.spec.run:04d}"
        write_run(scenario, plan, module, folder, workers=workers, progress=advance)
    write_dos(scenario, out)
    # last: a config is there once all it names is there
    write_text(out / "config.yaml", run_config(scenario))
    return out / "config.yaml"


def _clear(out: Path) -> None:
    """Take away an earlier simulation: none of its sequence files may stay among the new ones."""
    folders = sorted((out / "raw").glob("r[0-9][0-9][0-9][0-9]"))
    if folders and not (out / "truth.json").is_file():
        raise ConfigError(f"{out}: holds runs but no truth.json, so they may be real data; choose another folder")
    (out / "config.yaml").unlink(missing_ok=True)
    for folder in folders:
        for file in [*folder.glob("RAW-R*-S*.h5"), folder / "karabo_data_map.json"]:
            file.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()
