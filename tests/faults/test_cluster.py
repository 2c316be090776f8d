"""A real cluster over TCP, started by command line; workers and schedulers are killed."""

import logging
import os
import pickle
import subprocess
import sys
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from dask.callbacks import Callback
from distributed import Client

from pipeline.compute import workers as compute
from pipeline.compute.workers import Workers, slurm_cluster
from pipeline.errors import ClusterError, ConfigError
from pipeline.euxfel.frame_source import FrameSource
from pipeline.euxfel.reader import open_run
from pipeline.stages.calibrate import make_calibration
from pipeline.stages.inventory import INVENTORY
from pipeline.stages.reduce import REDUCE, reduce_raw
from pipeline.workflow import context_of, process
from schemas.config.compute import Compute, Slurm
from tests.faults.stores import assert_same_stores

ROOT = Path(__file__).parents[2]


class Cluster:
    """A scheduler and workers, each a process of its own."""

    def __init__(self, folder, workers):
        self.processes = {}
        file = folder / "scheduler.json"
        common = ["--scheduler-file", file, "--no-dashboard"]
        self._start(
            "scheduler", folder, "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", *common
        )
        for n in range(workers):
            options = ["--nthreads", "1", "--no-nanny", "--name", f"w{n}", "--local-directory", folder]
            self._start(f"w{n}", folder, "distributed.cli.dask_worker", *options, *common)
        with Client(scheduler_file=str(file), timeout="120s", set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=120)
            self.address = client.scheduler.address

    def _start(self, name, folder, module, *options):
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with (folder / f"{name}.log").open("wb") as log:
            command = [sys.executable, "-m", module, *map(str, options)]
            self.processes[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def kill(self, name):
        self.processes[name].kill()
        self.processes[name].wait()

    def close(self):
        for process_ in self.processes.values():
            process_.kill()
            process_.wait()


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path, workers=2)
    yield made
    made.close()


def reduce_run(job, run, progress=None):
    context = context_of(job, progress)
    with context.workers:
        INVENTORY.run(context, run)
        REDUCE.run(context, run)


def when_under_way(run, action):
    """Return a progress callback that acts once, when a run is reduced in part."""
    acted = []

    def progress(label, done, total):
        if label == f"run {run}" and 0 < done < total and not acted:
            acted.append(done)
            action()

    return progress, acted


def test_a_killed_worker_costs_its_blocks_only_and_a_killed_scheduler_is_one_line(
    cluster, undisturbed, small_job, tmp_path, caplog
):
    job = small_job(tmp_path / "out", f"compute.cluster={cluster.address}")
    progress, killed = when_under_way(2, lambda: cluster.kill("w0"))
    process(job, progress=progress)
    assert killed
    assert_same_stores(undisturbed, job.out)

    REDUCE.forget(job, 6, "frames")
    progress, killed = when_under_way(6, lambda: cluster.kill("scheduler"))
    with pytest.raises(ClusterError, match="scheduler is gone; process again: finished blocks are kept"):
        reduce_run(job, 6, progress)
    assert killed
    entered = len(list((job.run_dir(6) / "blocks").glob("[0-9]*.npz")))
    assert entered > 0
    # goes on with threads from what the cluster has finished
    with caplog.at_level(logging.INFO, "trxas"):
        reduce_run(small_job(job.out), 6)
    assert f"r0006: {entered} of 27 blocks were finished before" in caplog.text
    for store, name in (("frames", "frames"), ("pulses", "photons"), ("pulses", "photons_stderr")):
        one, other = (xr.open_zarr(out / "runs" / "r0006" / f"{store}.zarr")[name] for out in (undisturbed, job.out))
        np.testing.assert_array_equal(one.values, other.values)


def test_an_address_where_nobody_answers_is_a_config_error(monkeypatch):
    monkeypatch.setattr(compute, "CONNECT", "1s")
    with (
        Workers(Compute(cluster="tcp://127.0.0.1:9")) as workers,
        pytest.raises(ConfigError, match=r"compute\.cluster: no dask scheduler answers at tcp://127\.0\.0\.1:9"),
    ):
        workers.map(lambda block, shared: block, [1], None)


def test_a_block_that_ends_every_worker_is_one_line():
    def die(block, shared):
        os._exit(1)

    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 0}),
        Workers(Compute(cluster="processes", workers=1)) as workers,
    ):
        with pytest.raises(ClusterError, match=r"a block of trains ended 1 workers.*lower compute\.memory"):
            workers.map(die, [1], None)
        # a new worker takes its place
        assert workers.map(lambda block, shared: block + shared, [1, 2, 3], 10) == [11, 12, 13]


def test_the_graph_grows_with_blocks_and_what_a_block_carries_does_not_grow_with_the_run(tiny, small_job, tmp_path):
    job = small_job(tmp_path / "out")
    calibration = make_calibration(job)[0]
    sizes = []
    with Callback(start=lambda graph: sizes.append(len(graph))):
        for number, memory in ((2, "11MiB"), (4, "11MiB"), (4, "110MiB")):
            run = open_run(job.raw_run(number), job.instrument)
            reduce_raw(run, calibration, keep=None, cube=None, workers=2, memory=memory)
    # 20 and 46 trains of 16 frames; one train per block, then ten
    assert sizes == [20, 46, 5]
    carried = {n: carried_by_a_block(job, n) for n in (2, 4)}
    assert carried[4] <= carried[2] + 64
    assert carried[4] < 4000


def carried_by_a_block(job, number):
    run = open_run(job.raw_run(number), job.instrument)
    return len(pickle.dumps(FrameSource(run.number, run.index).part(slice(3, 4))))


def test_the_job_script_says_what_the_config_says(tmp_path):
    slurm = Slurm(
        queue="upex",
        account="p2619",
        walltime="02:30:00",
        cores=8,
        memory="32GiB",
        interface="lo",
        directives=["--constraint=x"],
        skip_directives=["--mem"],
        prologue=["module load exfel"],
        python="/opt/python",
    )
    with slurm_cluster(slurm, tmp_path / "logs") as cluster:
        script = cluster.job_script()
    lines = script.splitlines()
    for line in ("-J trxas", "-p upex", "-A p2619", "-t 02:30:00", "--cpus-per-task=8", "--constraint=x"):
        assert f"#SBATCH {line}" in lines
    assert f"#SBATCH -o {tmp_path}/logs/trxas-%J.out" in lines
    assert not any(line.startswith("#SBATCH --mem") for line in lines)
    assert lines.index("module load exfel") < next(i for i, line in enumerate(lines) if "dask_worker" in line)
    worker = next(line for line in lines if "dask_worker" in line)
    assert worker.startswith("/opt/python -m distributed.cli.dask_worker tcp://127.0.0.1:")
    assert "--nthreads 8" in worker
    assert "--interface lo" in worker


def test_ctrl_c_stays_an_interruption_when_jobs_are_submitted():
    code = """
import signal, threading
from pipeline.compute.workers import slurm_cluster
from schemas.config.compute import Slurm
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background starts with it ignored
made = []
thread = threading.Thread(target=lambda: made.append(slurm_cluster(Slurm(interface="lo"))))
thread.start()
thread.join()
made[0].close()
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""
    subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=120)


def test_without_sbatch_slurm_is_a_config_error(monkeypatch, small_job, tmp_path):
    monkeypatch.setattr(compute.shutil, "which", lambda name: None)
    with Workers(Compute(cluster="slurm")) as workers, pytest.raises(ConfigError, match=r"compute\.cluster: slurm"):
        workers.map(lambda block, shared: block, [1], None)
