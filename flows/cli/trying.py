"""Before there are data of your own: `demo`, `simulate`, `plan`, `doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from flows.cli.options import COMMON, Changes, Common, Json, Out
from pipeline.errors import TrxasError

__all__ = ["demo", "doctor", "plan", "simulate"]


def demo(*, out: Path = Path("demo"), common: Common = COMMON) -> None:
    """Simulate the seed experiment small, process it, and print the summary beside the simulated truth.

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
        A scenario file, or the name of one in sample_runs (demo, tiny, …).
    out
        Folder for raw/, config.yaml and truth.json.
    seed
        Other random numbers than the scenario's own.
    """
    common.start()
    from flows.demo import run_simulation

    print(run_simulation(scenario, out, seed, progress=common.progress) / "config.yaml")


def plan(
    path: str,
    *,
    as_json: Json = False,
    changes: Changes = [],
    planned: Annotated[bool, Parameter(name="--planned", negative="")] = False,
    out: Out = None,
    common: Common = COMMON,
) -> None:
    """Tell which errors on the times to expect, how many shots a target takes, and which delays would be better.

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
    """Show versions, settings, disk and memory, and what would stop a run here."""
    common.start()
    from flows.doctor import examine

    report, faults = examine()
    print(report)
    if faults:
        raise TrxasError("\n".join(faults))
