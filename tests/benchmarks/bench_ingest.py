"""One pass from raw to frames cube and pulses, and from the cube to pulses again.

c  raw → compressed cube + pulses, in raw bytes per second: at least 1.5 times what one module writes live (524 MB/s);
   and the size of the cube over the size of raw.
e  cube → pulses against raw → pulses of the same frames, in frames per second: at least 1.
"""

import argparse
import json
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np

from pipeline import ingest
from pipeline.io.euxfel import open_run
from pipeline.simulate import load_scenario, simulate_scenario
from schemas.instrument import load_instrument
from tests.benchmarks.bench_reduce import FRAME_BYTES, FRAMES_PER_TRAIN, make_calibration, write_run

LIVE = 524e6
"""Bytes per second of one module at 400 frames per train and 10 trains per second."""


def bench(n_frames: int, workers: int) -> dict:
    """All measurements; the temporary files are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="trxas-bench-"))
    try:
        path = write_run(folder / "r0001", n_frames, 1, stock=simulated_frames(folder))
        run = open_run(path.parent, load_instrument("scs-dssc-boz"))
        calibration = make_calibration()
        crop = ingest.crop_to_beams(calibration)
        common = {"workers": workers, "memory": "1GiB"}
        ingest.reduce_raw(run, calibration, keep=crop, cube=folder / "warm.zarr", **common)
        one_pass = fastest(lambda: ingest.reduce_raw(run, calibration, keep=crop, cube=folder / "a.zarr", **common))
        raw = fastest(lambda: ingest.reduce_raw(run, calibration, keep=None, cube=None, **common))
        again = fastest(lambda: ingest.reduce_stored(folder / "a.zarr", run.labels, calibration, workers=workers))
        stored = sum(f.stat().st_size for f in (folder / "a.zarr").rglob("*") if f.is_file())
        size = n_frames * FRAME_BYTES
        cropped = n_frames * int(np.prod(crop.shape)) * 2
    finally:
        shutil.rmtree(folder)
    return {
        "frames": n_frames,
        "workers": workers,
        "c_raw_GB_per_s": size / one_pass / 1e9,
        "c_ratio_to_live": size / one_pass / LIVE,
        "c_cube_over_raw": stored / size,
        "c_cube_over_cropped": stored / cropped,
        "e_ratio": raw / again,
        "e_raw_frames_per_s": n_frames / raw,
        "e_cube_frames_per_s": n_frames / again,
    }


def fastest(work) -> float:
    """Return the least wall time of three calls."""
    times = []
    for _ in range(3):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def simulated_frames(folder: Path) -> np.ndarray:
    """Return a train of frames with real noise: random numbers would not compress like a detector's."""
    import h5py

    scenario = load_scenario(Path(__file__).parents[2] / "sample_runs" / "tiny.yaml")
    simulate_scenario(scenario, folder / "tiny")
    parts = []
    for path in sorted((folder / "tiny" / "raw").glob("r000[2-5]/*DSSC*.h5")):
        with h5py.File(path) as file:
            parts.append(file["INSTRUMENT/SCS_DET_DSSC1M-1/DET/15CH0:xtdf/image/data"][:])
    return np.concatenate(parts)[:FRAMES_PER_TRAIN]


def main(arguments: list[str] | None = None) -> dict:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small run, rougher figures")
    options = parser.parse_args(arguments)
    workers = len(os.sched_getaffinity(0))
    figures = bench(4000 if options.quick else 16_000, workers)
    print(
        f"c: raw to cube and pulses {figures['c_raw_GB_per_s']:.2f} GB/s of raw with {workers} workers, "
        f"{figures['c_ratio_to_live']:.2f} x live (>= 1.5); cube {figures['c_cube_over_raw']:.2f} of raw, "
        f"{figures['c_cube_over_cropped']:.2f} of what is kept"
    )
    print(f"e: cube to pulses {figures['e_ratio']:.2f} x the rate of raw to pulses (>= 1)")
    return figures


if __name__ == "__main__":
    print(json.dumps(main()))
