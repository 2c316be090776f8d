"""One pass from raw to frames cube and pulses, and from the cube to pulses again.

c  raw → compressed cube + pulses, in raw bytes per second: at least 1.5 times what one module writes live (524 MB/s);
   and the size of the cube over the size of raw.
e  cube → pulses against raw → pulses of the same frames, in frames per second: at least 1.
f  what the pipeline's own pass is worth: its rate over that of the same numbers through dask and xarray
   (`reduce_frames` on `trxas.raw_frames` and `trxas.frames`, threads), from raw and from the cube: above 1.
"""

import argparse
import dataclasses
import json
import multiprocessing
import os
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import xarray as xr

from pipeline.euxfel.lazy_frames import lazy_frames
from pipeline.euxfel.reader import open_run
from pipeline.science.detector.beam_photons import reduce_frames
from pipeline.science.detector.crop import crop_to_beams
from pipeline.simulate import load_scenario, simulate_scenario
from pipeline.stages.reduce import reduce_raw, reduce_stored
from pipeline.storage import store
from pipeline.storage.lazy_cube import lazy_cube
from schemas.instrument import load_instrument
from tests.benchmarks.bench_reduce import FRAME_BYTES, FRAMES_PER_TRAIN, make_calibration, peak_memory, write_run

LIVE = 524e6
"""Bytes per second of one module at 400 frames per train and 10 trains per second."""


def bench(n_frames: int, workers: int) -> dict:
    """All measurements; the temporary files are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="trxas-bench-"))
    try:
        path = write_run(folder / "r0001", n_frames, 1, stock=simulated_frames(folder))
        run = open_run(path.parent, load_instrument("scs-dssc-boz"))
        calibration = make_calibration()
        crop = crop_to_beams(calibration)
        common = {"workers": workers, "memory": "1GiB"}
        reduce_raw(run, calibration, keep=crop, cube=folder / "warm.zarr", **common)
        one_pass = fastest(lambda: reduce_raw(run, calibration, keep=crop, cube=folder / "a.zarr", **common))
        raw = fastest(lambda: reduce_raw(run, calibration, keep=None, cube=None, **common))
        again = fastest(lambda: reduce_stored(folder / "a.zarr", calibration, workers=workers))
        options = {"scheduler": "threads", "num_workers": workers}
        lazy_raw = fastest(lambda: reduce_frames(lazy_frames(run, rows=crop.rows), calibration).compute(**options))
        lazy_again = fastest(lambda: reduce_frames(lazy_cube(folder / "a.zarr"), calibration).compute(**options))
        store.write_tree(folder / "calibration.zarr", xr.DataTree(calibration))
        peaks = {n: memory_of(path, folder, n) for n in (n_frames // 10, n_frames)}
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
        "memory_MB": {str(n): peak for n, peak in peaks.items()},
        "e_ratio": raw / again,
        "e_raw_frames_per_s": n_frames / raw,
        "e_cube_frames_per_s": n_frames / again,
        "f_raw_ratio": lazy_raw / raw,
        "f_cube_ratio": lazy_again / again,
        "f_raw_lazy_frames_per_s": n_frames / lazy_raw,
        "f_cube_lazy_frames_per_s": n_frames / lazy_again,
    }


def memory_of(path: Path, folder: Path, n_frames: int) -> float:
    """Return the peak memory [MB] of a fresh process that fills the cube and the pulses from the first frames of a run."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    child = context.Process(target=_one_pass, args=(path, folder / f"m{n_frames}.zarr", n_frames, results))
    child.start()
    peak = results.get()
    child.join()
    shutil.rmtree(folder / f"m{n_frames}.zarr")
    return peak / 1e6


def _one_pass(path: Path, cube: Path, n_frames: int, results) -> None:
    run = open_run(path.parent, load_instrument("scs-dssc-boz"))
    n = n_frames // FRAMES_PER_TRAIN
    short = {name: getattr(run.index, name)[:n] for name in ("train_id", "file", "row", "cell_id")}
    run = dataclasses.replace(
        run, index=dataclasses.replace(run.index, **short), labels=run.labels.isel(train=slice(0, n))
    )
    calibration = store.open_dataset(cube.parent / "calibration.zarr").load()
    crop = crop_to_beams(calibration)
    reduce_raw(run, calibration, keep=crop, cube=cube, workers=2, memory="1GiB")
    results.put(peak_memory())


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
    figures = bench(4000 if options.quick else 50_000, workers)
    print(
        f"c: raw to cube and pulses {figures['c_raw_GB_per_s']:.2f} GB/s of raw with {workers} workers, "
        f"{figures['c_ratio_to_live']:.2f} x live (>= 1.5); cube {figures['c_cube_over_raw']:.2f} of raw, "
        f"{figures['c_cube_over_cropped']:.2f} of what is kept"
    )
    print(f"e: cube to pulses {figures['e_ratio']:.2f} x the rate of raw to pulses (>= 1)")
    print(
        f"f: the pipeline's pass over the same through dask and xarray: raw {figures['f_raw_ratio']:.1f} x, cube "
        f"{figures['f_cube_ratio']:.1f} x the rate (> 1)"
    )
    shown = ", ".join(f"{n} frames {peak:.0f} MB" for n, peak in figures["memory_MB"].items())
    print(f"memory: peak of one process with two threads, imports included: {shown}")
    return figures


if __name__ == "__main__":
    print(json.dumps(main()))
