"""Before processing: `demo`, `simulate`, `inspect`, `init`, `plan`, `doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.cli.options import COMMON, Changes, Common, Json, Out, Profile
from pipeline.errors import ConfigError, TrxasError

__all__ = ["demo", "doctor", "init", "inspect", "plan", "simulate"]


def demo(*, out: Path = Path("demo"), common: Common = COMMON) -> None:
    """Simulate the published experiment as a beamtime runs it, process it, and print the summary beside the simulated truth.

    Parameters
    ----------
    out
        Folder for raw runs and products.
    """
    common.start()
    from flows.demo import run_demo

    print(run_demo(out, progress=common.progress))


def simulate(scenario: str, *, out: Path, seed: int | None = None, common: Common = COMMON) -> None:
    """Write a scenario as EuXFEL runs, with a config to process them and the truth.

    Parameters
    ----------
    scenario
        A scenario file, or the name of one in sample_runs (beamtime, demo, tiny, …).
    out
        Folder for raw/, config.yaml and truth.json.
    seed
        Seed of the random numbers; the scenario's own unless given.
    """
    common.start()
    from flows.demo import run_simulation

    print(run_simulation(scenario, out, seed, progress=common.progress) / "config.yaml")


def inspect(
    raw_run: Path,
    *,
    instrument: Profile = "scs-dssc-boz",
    as_json: Json = False,
    common: Common = COMMON,
) -> None:
    """Show what is in a raw run, what moved, and what is wrong with it.

    Parameters
    ----------
    raw_run
        Folder of the run.
    """
    common.start()
    from pipeline.euxfel.survey import inspect_run, inspect_text
    from pipeline.job import instrument_of

    report = inspect_run(raw_run, instrument_of(instrument, {}))
    print(json.dumps(report, indent=1) if as_json else inspect_text(report))


def init(
    raw_dir: Path,
    *,
    output: Annotated[Path, Parameter(name=["-o", "--output"])] = Path("config.yaml"),
    instrument: Profile = "scs-dssc-boz",
    changes: Changes = [],
    common: Common = COMMON,
) -> None:
    """Inspect every run of a folder, classify it, and write a config to edit.

    Where the profile's sources are missing, energy and delay stage are looked for among the sources that moved.

    Parameters
    ----------
    raw_dir
        Folder of rNNNN runs.
    output
        Config file to write; an existing one is not overwritten.
    """
    common.start()
    from pipeline.euxfel.draft import check_folder, draft

    check_folder(raw_dir)
    if output.exists():
        raise ConfigError(f"{output} exists and is kept; write to another file with -o FILE, or remove it first")
    if not output.parent.is_dir():
        raise ConfigError(f"-o {output}: {output.parent} is not a folder")
    found, text = draft(raw_dir, instrument, changes)
    output.write_text(text, encoding="utf-8")
    for run in found:
        print(f"run {run['run']:4d}  {run['kind']}")
    print(output)


def plan(
    path: str,
    *,
    as_json: Json = False,
    changes: Changes = [],
    planned: Annotated[bool, Parameter(name="--planned", negative="")] = False,
    out: Out = None,
    common: Common = COMMON,
) -> None:
    """Predict the errors of the time constants, the shots needed for a target error, and better delays.

    Parameters
    ----------
    path
        A product (a path or a URL), or a config: its product if it was processed, else its `plan` section or that section's defaults.
    planned
        Use the config's `plan` section even if there is a product.
    """
    common.start()
    from pipeline.results.plan import make_plan, plan_text

    result = make_plan(path, changes, out=out, from_config=planned)
    print(json.dumps(result, indent=1, ensure_ascii=False) if as_json else plan_text(result))


def doctor(*, common: Common = COMMON) -> None:
    """Show versions, settings, disk and memory, and what would prevent a run on this machine."""
    common.start()
    from flows.doctor import examine

    report, faults = examine()
    print(report)
    if faults:
        raise TrxasError("\n".join(faults))
