"""`trxas demo` and `trxas simulate`: data with known truth, and what the pipeline makes of them."""

from __future__ import annotations

import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import xarray as xr

from flows import progress as bars
from flows import server
from pipeline.results.summary import summary_text
from pipeline.simulate import load_scenario, scenario_path, simulate_scenario
from pipeline.simulate.against_truth import compare, compare_differences, comparison_text, differences_text

__all__ = ["SCENARIO", "run_demo", "run_simulation"]

SCENARIO = "beamtime"
"""The demo: the published experiment as a beamtime would really run it."""


def run_simulation(name: str, out: Path, seed: int | None, *, progress: bool) -> Path:
    """Simulate a scenario; returns the output folder."""
    scenario = load_scenario(scenario_path(name))
    workers = len(os.sched_getaffinity(0))
    with bars.shown(progress):
        options: dict[str, Any] = {"seed": seed, "workers": workers, "progress": partial(bars.report, "simulate")}
        bars.timed("simulate", lambda: simulate_scenario(scenario, out, **options))
    return out


def run_demo(out: Path, *, progress: bool) -> str:
    """Simulate (once), process, and return the summary beside the truth."""
    if not (out / "truth.json").is_file():
        run_simulation(SCENARIO, out, None, progress=progress)
    server.start()
    from flows.process import process

    with server.running(), bars.shown(progress):
        version = Path(process(str(out / "config.yaml"), str(out / "out")))
    summary = json.loads((version / "summary.json").read_text(encoding="utf-8"))
    truth = json.loads((out / "truth.json").read_text(encoding="utf-8"))
    tree = xr.open_datatree(version / "product.zarr", engine="zarr")
    differences = compare_differences(tree["spectra"].to_dataset(), tree["delay_scan"].to_dataset(), truth)
    table = f"{comparison_text(compare(summary, truth))}\n\n{differences_text(differences)}"
    return f"{summary_text(summary)}\n\n{table}\n\nproduct  {version / 'product.zarr'}\nfigures  {version / 'figures'}"
