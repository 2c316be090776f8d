"""How fast raw frames become pulses, against what the machine could do at best and what the plain way costs.

    python tests/benchmarks/bench_reduce.py [--quick] [--json FILE] [--workers N]

Writes a run of random frames in EXDF layout to a temporary folder, reads it in fresh processes and prints ratios:
(a) raw to pulses, fully corrected, over merely reading the same bytes with h5py into a reused buffer;
(b) the same over the dask path (KeyData.dask_array, float32, dark, flat field, sums), each one process with two
    threads: frames/s and peak memory;
(d) cost per frame and peak memory as the run grows.
"""

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import h5py
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

SOURCE = "SCS_DET_DSSC1M-1/DET/15CH0:xtdf"
DATA = f"INSTRUMENT/{SOURCE}/image/data"
REGIONS = [(20, 150, 14, 114), (190, 320, 14, 114), (360, 490, 14, 114)]
FRAMES_PER_TRAIN = 400
FRAME_BYTES = 128 * 512 * 2
BLOCK = 64  # frames: 8 MB, so that a block is still in cache when the kernel sees it


def write_run(folder: Path, n_frames: int, frames_per_chunk: int, stock: np.ndarray | None = None) -> Path:
    """Write one sequence file of one module; the same train of frames (random unless given) over and over."""
    folder.mkdir(parents=True)
    path = folder / "RAW-R0001-DSSC15-S00000.h5"
    n_trains = n_frames // FRAMES_PER_TRAIN
    n_frames = n_trains * FRAMES_PER_TRAIN
    if stock is None:
        stock = np.random.default_rng(1).integers(30, 250, (FRAMES_PER_TRAIN, 1, 128, 512)).astype(np.uint16)
    train_ids = np.arange(10_000, 10_000 + n_trains, dtype=np.uint64)
    with h5py.File(path, "w", libver=("earliest", "v110")) as file:
        file["METADATA/dataFormatVersion"] = np.array([b"1.2"])
        sources = file.create_group("METADATA/dataSources")
        sources["dataSourceId"] = np.array([f"INSTRUMENT/{SOURCE}/image".encode()])
        sources["root"] = np.array([b"INSTRUMENT"])
        sources["deviceId"] = np.array([f"{SOURCE}/image".encode()])
        file["INDEX/trainId"] = train_ids
        file["INDEX/timestamp"] = train_ids * 100_000_000
        file["INDEX/flag"] = np.ones(n_trains, np.int32)
        file["INDEX/origin"] = np.full(n_trains, -1, np.int32)
        file[f"INDEX/{SOURCE}/image/first"] = np.arange(n_trains, dtype=np.uint64) * FRAMES_PER_TRAIN
        file[f"INDEX/{SOURCE}/image/count"] = np.full(n_trains, FRAMES_PER_TRAIN, np.uint64)
        image = file.create_group(f"INSTRUMENT/{SOURCE}/image")
        image["trainId"] = np.repeat(train_ids, FRAMES_PER_TRAIN)[:, None]
        image["pulseId"] = np.tile(np.arange(FRAMES_PER_TRAIN, dtype=np.uint64), n_trains)[:, None]
        image["cellId"] = np.tile(np.arange(FRAMES_PER_TRAIN, dtype=np.uint16), n_trains)[:, None]
        shape, chunks = (n_frames, 1, 128, 512), (frames_per_chunk, 1, 128, 512)
        data = image.create_dataset("data", shape, "u2", chunks=chunks, maxshape=(None, 1, 128, 512))
        for start in range(0, n_frames, FRAMES_PER_TRAIN):
            data[start : start + FRAMES_PER_TRAIN] = stock
    return path


def make_reducer():
    """Return the calibration as the kernel wants it."""
    from pipeline.science.detector.beam_photons import prepare

    return prepare(make_calibration())


def make_calibration():
    """Return a calibration with everything switched on: cells, bad pixels, cubic non-linearity, gain, pedestal."""
    import xarray as xr

    from pipeline.science.detector.assemble import build_calibration
    from pipeline.science.detector.beams import beam_dataset
    from pipeline.science.detector.dark import dark_calibration, dark_sums
    from pipeline.science.detector.linearity import linear_table
    from pipeline.science.detector.unlit import unlit_pixels, with_unlit_pixels

    rng = np.random.default_rng(2)
    sums = None
    cells = np.arange(FRAMES_PER_TRAIN)
    for _ in range(4):
        frames = rng.integers(36, 44, (FRAMES_PER_TRAIN, 128, 512)).astype(np.uint16)
        frames[:, 50, 60] = 255
        sums = dark_sums(frames, cells, FRAMES_PER_TRAIN, out=sums)
    table = linear_table(np.array([0.03, -0.01]))
    dark, beams = dark_calibration(sums), beam_dataset(REGIONS)
    image = xr.zeros_like(dark["read_noise"]) + rng.normal(0, 0.02, (128, 512))
    for x0, x1, y0, y1 in REGIONS:
        image[y0:y1, x0:x1] += 60.0
    bare = build_calibration(dark, beams, None, gain=1.2, nonlinearity=table)
    return with_unlit_pixels(bare, dark, unlit_pixels(image, dark, beams))


# -- what is timed: each runs in a process of its own, on frames first .. first + count


def reduce_part(path, first, count, reducer, wait) -> float:
    """Raw to photons, sigma, saturated pixels and the pedestal of the unlit pixels."""
    from pipeline.euxfel.chunkread import FrameReader
    from pipeline.science.detector.beam_photons import pedestal_block, reduce_block

    reader = FrameReader(path, DATA)
    rows = reducer.rows
    buffer = np.empty((BLOCK, rows.stop - rows.start, 512), np.uint16)

    def one(at: int, n: int) -> None:
        raw = reader.read(at, n, out=buffer, rows=rows)
        cell = np.arange(at, at + n) % FRAMES_PER_TRAIN
        reduce_block(raw, cell, reducer, y0=rows.start)
        if reducer.unlit is not None:
            pedestal_block(raw, cell, reducer, y0=rows.start)

    return _timed(one, first, count, wait)


def reduce_threads(path, first, count, reducer, wait) -> float:
    """Do the same with two threads in one process: reading does not go through the HDF5 lock."""
    half = count // 2
    parts = [(first, half), (first + half, count - half)]
    reduce_part(path, first, min(BLOCK, count), reducer, wait)  # compiles
    with ThreadPoolExecutor(2) as pool:
        gate = Barrier(2)
        return max(pool.map(lambda part: reduce_part(path, *part, reducer, gate.wait), parts))


def read_part(path, first, count, _reducer, wait) -> float:
    """Reading alone, with h5py into one reused buffer of a train (or of a block, whichever is quicker here)."""
    with h5py.File(path) as file:
        data = file[DATA]
        buffer = np.empty((BLOCK, 1, 128, 512), np.uint16)

        def one(at: int, n: int) -> None:
            data.read_direct(buffer[:n], np.s_[at : at + n])

        return _timed(one, first, count, wait)


def _timed(one, first, count, wait) -> float:
    one(first, min(BLOCK, count))  # compile, open, touch the buffer
    best = np.inf
    for _ in range(4):
        wait()
        start = time.perf_counter()
        for at in range(first, first + count, BLOCK):
            one(at, min(BLOCK, first + count - at))
        best = min(best, time.perf_counter() - start)
    return best


def dask_part(path, _first, count, reducer, _wait) -> float:
    """Do what the documentation of the tools suggests, over the first `count` frames."""
    import dask
    from extra_data import RunDirectory

    run = RunDirectory(str(Path(path).parent)).select_trains(np.s_[: count // FRAMES_PER_TRAIN])
    dark = np.full((128, 512), 40, np.float32)
    flat = np.ones((128, 512), np.float32)
    start = time.perf_counter()
    frames = run[f"{SOURCE}", "image.data"].dask_array()[:, 0].astype(np.float32)
    corrected = (frames - dark) * flat
    sums = [corrected[:, y0:y1, x0:x1].sum(axis=(1, 2)) for x0, x1, y0, y1 in REGIONS]
    dask.compute(*sums, scheduler="threads", num_workers=2)
    return time.perf_counter() - start


def _child(task, path, first, count, reducer, barrier, results) -> None:
    seconds = task(path, first, count, reducer, barrier.wait)
    results.put((seconds, peak_memory()))


def peak_memory() -> float:
    """Return the highest resident memory of this process so far, bytes (ru_maxrss would count the parent's too)."""
    status = Path("/proc/self/status").read_text()
    return 1024.0 * int(status.split("VmHWM:")[1].split()[0])


def run_parts(task, path, n_frames, reducer, workers) -> tuple[float, float]:
    """Return frames/s of all workers together, and the highest peak memory of one (bytes)."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(workers), context.Queue()
    share = n_frames // workers
    children = [
        context.Process(target=_child, args=(task, path, w * share, share, reducer, barrier, results))
        for w in range(workers)
    ]
    for child in children:
        child.start()
    figures = [results.get(timeout=600) for _ in children]
    for child in children:
        child.join()
    return share * workers / max(f[0] for f in figures), max(f[1] for f in figures)


def bench(n_frames: int, n_dask: int, growth: tuple[int, ...], workers: int) -> dict:
    """All measurements; the temporary files are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="trxas-bench-"))
    figures: dict = {"frames": n_frames, "workers": workers, "frame_bytes": FRAME_BYTES}
    try:
        reducer = make_reducer()
        for per_chunk in (1, 32):
            path = write_run(folder / f"r{per_chunk:04d}", n_frames, per_chunk)
            for w in sorted({1, workers}):
                read, pulses, memory = 0.0, 0.0, 0.0
                for _ in range(2):  # in turns, so that a busy spell of the machine does not hit one of them alone
                    read = max(read, run_parts(read_part, path, n_frames, reducer, w)[0])
                    rate, peak = run_parts(reduce_part, path, n_frames, reducer, w)
                    pulses, memory = max(pulses, rate), max(memory, peak)
                figures[f"a_chunk{per_chunk}_workers{w}"] = {
                    "read_GB_per_s": read * FRAME_BYTES / 1e9,
                    "pulses_GB_per_s": pulses * FRAME_BYTES / 1e9,
                    "ratio": pulses / read,
                    "peak_MB": memory / 1e6,
                }
            if per_chunk == 1:
                slow, heavy = run_parts(dask_part, path, n_dask, reducer, 1)
                pulses, light = run_parts(reduce_threads, path, n_frames, reducer, 1)
                figures["b_dask"] = {
                    "frames": n_dask,
                    "dask_frames_per_s": slow,
                    "pulses_frames_per_s": pulses,
                    "speed_ratio": pulses / slow,
                    "dask_peak_MB": heavy / 1e6,
                    "pulses_peak_MB": light / 1e6,
                    "memory_ratio": light / heavy,
                }
            path.unlink()
        path = write_run(folder / "r0100", max(growth), 1)
        rounds = [{n: run_parts(reduce_part, path, n, reducer, 1) for n in growth} for _ in range(2)]
        cost = {n: tuple(max(part[n][k] for part in rounds) for k in range(2)) for n in growth}
        figures["d_growth"] = {
            str(n): {"us_per_frame": 1e6 / rate, "peak_MB": memory / 1e6} for n, (rate, memory) in cost.items()
        }
        figures["d_cost_ratio"] = cost[growth[0]][0] / cost[growth[-1]][0]
    finally:
        shutil.rmtree(folder)
    return figures


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small run: a minute, rougher figures")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    sizes = (4000, 3200, (1200, 8000)) if options.quick else (16_000, 6400, (5000, 20_000, 50_000))
    figures = bench(*sizes, options.workers)
    for name, value in figures.items():
        if name.startswith("a_"):
            print(
                f"{name}: pulses {value['pulses_GB_per_s']:.1f} GB/s, h5py read {value['read_GB_per_s']:.1f} GB/s, "
                f"ratio {value['ratio']:.2f} (>= 0.8), peak {value['peak_MB']:.0f} MB per worker"
            )
    b = figures["b_dask"]
    print(f"b: {b['speed_ratio']:.0f} x the dask path (>= 20), memory {b['memory_ratio']:.3f} of it (<= 0.1)")
    for n, value in figures["d_growth"].items():
        print(f"d: {n} frames: {value['us_per_frame']:.2f} us/frame, peak {value['peak_MB']:.0f} MB")
    print(f"d: cost per frame of the longest over the shortest run {figures['d_cost_ratio']:.3f} (0.9 to 1.1)")
    print(json.dumps(figures))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
