"""What orchestration costs: the command with its Prefect flow against the same stages called as plain functions.

flow      seconds of `trxas process` minus seconds of a process that calls `pipeline.workflow.process` on the same data,
          both from nothing to a product in an empty folder; at most 3 s + 2 %. Processor time likewise, of the command
          itself: that of the server, which ends by itself, is not in it. On a loaded machine the wall clock says little.
start     what of it is Prefect's start: importing it, and waiting for its temporary server (which gets ready while the
          science is imported).
first     the same in an empty PREFECT_HOME: the database is made once.
tasks     dask tasks of a run, by trains and by pulses per train: they grow with blocks of trains, not with frames.
"""

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pipeline.compute.chunk_plan import plan_blocks
from pipeline.simulate import load_scenario, simulate_scenario

SAMPLE_RUNS = Path(__file__).parents[2] / "sample_runs"
FRAME_BYTES = 128 * 512 * 2
ALLOWED = 3.0
SHARE = 0.02

PLAIN = """
import json, sys
from pathlib import Path
from pipeline.job import load_job
from pipeline.results.summary import summary_text
from pipeline.workflow import process
version = process(load_job(Path(sys.argv[1]), sys.argv[2])).version
print(summary_text(json.loads((version / "summary.json").read_text())))
"""
START = """
import time
began = time.perf_counter()
from flows import server, settings
settings.apply(settings.QUIET)
import prefect.main
imported = time.perf_counter()
server.start()
with server.running():
    ready = time.perf_counter()
    print(imported - began, ready - imported)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the tiny experiment instead of the demo's 3.3 GB")
    parser.add_argument("--data", type=Path, help="folder of an experiment that was simulated before")
    parser.add_argument("--pairs", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="trxas-bench-") as name:
        folder = Path(name)
        data = options.data or folder / "data"
        if options.data is None:
            scenario = load_scenario(SAMPLE_RUNS / ("tiny.yaml" if options.quick else "demo.yaml"))
            simulate_scenario(scenario, data, workers=len(os.sched_getaffinity(0)))
        figures = bench(folder, data / "config.yaml", options.pairs) | {"tasks": graph_sizes()}
    flow, plain = figures["flow_s"], figures["plain_s"]
    print(f"flow {flow:.2f} s, plain functions {plain:.2f} s (medians of {options.pairs} alternating runs)")
    print(f"overhead {figures['overhead_s']:.2f} s wall, {figures['overhead_cpu_s']:.2f} s of processors;", end=" ")
    print(f"allowed {figures['allowed_s']:.2f} s wall")
    print(f"import of prefect {figures['import_s']:.2f} s, server {figures['server_s']:.2f} s more")
    print(f"first run in an empty PREFECT_HOME: {figures['first_overhead_s']:.2f} s over plain functions")
    for row in figures["tasks"]:
        print("{trains} trains of {pulses} pulses ({frames} frames): {tasks} tasks".format(**row))
    print(json.dumps(figures))


def bench(folder: Path, config: Path, pairs: int) -> dict:
    """Time both ways alternately, each in a new process and an empty output folder."""
    home = folder / "home"
    flow = [sys.executable, "-m", "flows.cli", "process", str(config), "--no-progress", "--out"]
    plain = [sys.executable, "-c", PLAIN, str(config)]
    # compiled kernels and files in memory for both; the first flow also makes Prefect's database
    timed(plain, folder / "out", home)
    first = timed(flow, folder / "out", home)
    flows, plains = [], []
    for _ in range(pairs):
        plains.append(timed(plain, folder / "out", home))
        flows.append(timed(flow, folder / "out", home))
    started = subprocess.run(
        [sys.executable, "-c", START], env=environment(home), stdout=subprocess.PIPE, text=True, check=True
    )
    imported, ready = map(float, started.stdout.split())
    reference = statistics.median(wall for wall, _ in plains)
    over = statistics.median(f[0] - p[0] for f, p in zip(flows, plains, strict=True))
    return {
        "flow_s": statistics.median(wall for wall, _ in flows),
        "plain_s": reference,
        "overhead_s": over,
        "overhead_cpu_s": statistics.median(f[1] - p[1] for f, p in zip(flows, plains, strict=True)),
        "allowed_s": ALLOWED + SHARE * reference,
        "within": over <= ALLOWED + SHARE * reference,
        "first_overhead_s": first[0] - reference,
        "import_s": imported,
        "server_s": ready,
    }


def timed(command: list[str], out: Path, home: Path) -> tuple[float, float]:
    """Return wall and processor seconds of a command that writes to an empty folder."""
    shutil.rmtree(out, ignore_errors=True)
    used, began = processor(), time.perf_counter()
    subprocess.run([*command, str(out)], env=environment(home), stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - began, processor() - used


def processor() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def environment(home: Path) -> dict[str, str]:
    own = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    return own | {"PREFECT_HOME": str(home), "OMP_NUM_THREADS": "1"}


def graph_sizes() -> list[dict]:
    rows = []
    for trains, pulses in ((1000, 100), (1000, 400), (10_000, 100), (10_000, 400)):
        plan = plan_blocks(trains, pulses * FRAME_BYTES, workers=2, memory="2GiB")
        rows.append({"trains": trains, "pulses": pulses, "frames": trains * pulses, "tasks": len(list(plan.slices()))})
    return rows


if __name__ == "__main__":
    main()
