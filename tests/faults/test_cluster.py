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
from distributed import Client, LocalCluster

from pipeline.compute import workers as compute
from pipeline.compute.workers import Workers, slurm_cluster
from pipeline.errors import ClusterError, ConfigError, DataError
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


def test_blocks_grow_in_number_with_the_run_and_what_a_block_carries_does_not(tiny, small_job, tmp_path):
    job = small_job(tmp_path / "out")
    calibration = make_calibration(job)[0]
    sizes = []

    class Counting(Workers):
        def map(self, function, blocks, *rest):
            sizes.append(len(blocks))
            return super().map(function, blocks, *rest)

    for number, memory in ((2, "11MiB"), (4, "11MiB"), (4, "110MiB")):
        run = open_run(job.raw_run(number), job.instrument)
        workers = Counting(Compute(workers=2))
        reduce_raw(run, calibration, keep=None, cube=None, workers=workers, memory=memory)
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


def test_a_client_that_is_there_is_used_and_stays_open():
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        with Workers(Compute(cluster="threads"), client=client) as workers:
            assert set(workers.map(process_of, list(range(70)), 0)) == {*client.run(os.getpid).values()}
            with pytest.raises(DataError, match="block 3 is bad"):
                workers.map(fails_at, [1, 2, 3, 4], 3)
        assert client.status == "running"
        assert workers.map(process_of, [1], 0) != [os.getpid()]


def process_of(block, shared):
    return os.getpid()


def fails_at(block, shared):
    if block == shared:
        raise DataError(f"block {block} is bad")


def test_a_block_that_fails_ends_the_others_that_wait():
    begun = []

    def work(block, shared):
        begun.append(block)
        fails_at(block, shared)

    with Workers(Compute(cluster="threads", workers=1)) as workers, pytest.raises(DataError, match="block 5 is bad"):
        workers.map(work, list(range(1000)), 5)
    assert max(begun) < 1000 - compute.WINDOW


@pytest.mark.parametrize("order", [1, -1])
def test_results_come_in_the_order_of_the_blocks_and_progress_ends_with_all(order):
    told = []
    with Workers(Compute(cluster="threads", workers=3)) as workers:
        blocks = list(range(300))[::order]
        assert workers.map(lambda block, shared: (block, shared), blocks, "x", told.append) == [
            (b, "x") for b in blocks
        ]
    assert told == sorted(told)
    assert told[-1] == 300


def test_nobody_works_for_too_long_is_one_line(monkeypatch):
    monkeypatch.setattr(compute, "PATIENCE", 0.5)
    monkeypatch.setattr(compute, "LOOK", 0.1)
    with (
        LocalCluster(n_workers=0, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
        Workers(Compute(), client=client) as workers,
        pytest.raises(ClusterError, match=r"the dask client: no workers for \d+ s; start workers there"),
    ):
        workers.map(process_of, [1], 0)


def test_without_sbatch_slurm_is_a_config_error(monkeypatch, small_job, tmp_path):
    monkeypatch.setattr(compute.shutil, "which", lambda name: None)
    with (
        Workers(Compute(cluster="slurm")) as workers,
        pytest.raises(ConfigError, match=r"compute\.cluster: slurm: there is no sbatch here"),
    ):
        workers.map(lambda block, shared: block, [1], None)
