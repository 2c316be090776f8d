"""Simulated experiments: raw runs as the facility writes them, from known numbers.

`load_scenario` reads a scenario file, `simulate_scenario` writes `raw/rNNNN/*.h5`, `config.yaml` to process
them, `truth.json` with every number that went in, and the two states' DOS.
"""

from pipeline.simulate.simulate import load_scenario, scenario_path, simulate_scenario

__all__ = ["load_scenario", "scenario_path", "simulate_scenario"]
