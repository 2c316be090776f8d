"""All benchmarks, one after the other; figures as text and, together, as JSON in `bench/figures.json`."""

import argparse
import json
import subprocess
import sys
from pathlib import Path

BENCHES = (
    "bench_reduce",
    "bench_ingest",
    "bench_binning",
    "bench_kinetics",
    "bench_mixture",
    "bench_flow",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller runs, rougher figures")
    parser.add_argument(
        "only",
        nargs="*",
        help=f"some of {', '.join(BENCHES)}, with or without bench_; effects takes an hour, mixture_coverage ten minutes",
    )
    options = parser.parse_args()
    figures = {}
    wanted = [name if name.startswith("bench_") else f"bench_{name}" for name in options.only]
    for name in wanted or BENCHES:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"tests.benchmarks.{name}", *(["--quick"] if options.quick else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        *shown, last = done.stdout.strip().splitlines()
        print("\n".join(shown), flush=True)
        figures[name] = json.loads(last)
    target = Path("bench") / "figures.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    print(target)


if __name__ == "__main__":
    main()
