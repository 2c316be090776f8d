"""Workers that process train blocks: local threads or processes, a dask scheduler given by its address, or SLURM jobs.

All are used as `concurrent.futures` executors, so blocks and results are the same everywhere. The dask scheduler
reassigns the blocks of a worker that dies.
"""

from __future__ import annotations

import concurrent.futures
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pipeline.compat import connection_lost, slurm_cluster_class
from pipeline.errors import ClusterError, ConfigError, TrxasError
from schemas.config.compute import Compute, Slurm

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Workers", "slurm_cluster", "threads_of"]

log = logging.getLogger("trxas")

PATIENCE = 60.0
"""Time without any worker after which a cluster is considered lost [s]; does not apply to SLURM jobs in the queue."""

CONNECT = "20s"
"""Connection timeout; a scheduler that was just submitted takes a while to listen."""

LOOK = 5.0
"""Time without a result after which the workers are checked [s]."""

WINDOW = 64
"""Minimum number of blocks submitted at a time; bounds the scheduler's memory whatever the length of the run."""

_WAY_OUT = "process again: finished blocks are kept"
_GONE = f"the scheduler is gone; {_WAY_OUT}"

Block = TypeVar("Block")
Result = TypeVar("Result")


def threads_of(settings: Compute) -> int:
    """Return the number of blocks processed at a time."""
    if settings.cluster == "slurm":
        return _jobs_of(settings) * settings.slurm.cores
    return len(os.sched_getaffinity(0)) if settings.workers == "auto" else settings.workers


def _jobs_of(settings: Compute) -> int:
    return 1 if settings.workers == "auto" else settings.workers


class Workers:
    """The workers described by `compute` in the config; a cluster starts on first use and is closed with the context.

    SLURM jobs write their output to the folder `logs` unless the config names one. A dask client that is given is used
    instead of `compute.cluster`, and is not closed.
    """

    def __init__(self, settings: Compute, logs: Path | str | None = None, *, client: Client | None = None):
        self.settings = settings
        self._logs = settings.slurm.log_directory or logs
        self._client = self._given = client
        self._cluster: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        opened = [self._cluster] if self._client is self._given else [self._client, self._cluster]
        self._client, self._cluster = self._given, None
        for part in opened:
            if part is not None:
                part.close()

    def map(
        self,
        function: Callable[[Block, Any], Result],
        blocks: Sequence[Block],
        shared: Any,
        done: Callable[[int], None] = lambda n: None,
    ) -> list[Result]:
        """Return `function(block, shared)` for every block, in the order of the blocks.

        The function must be importable by the workers; `shared` is sent to every process once; `done` is called with the
        number of finished blocks.

        Raises
        ------
        TrxasError
            The error of a block; `ClusterError` if the cluster fails.
        """
        if not blocks:
            return []
        if self._given is None and self.settings.cluster == "threads":
            with ThreadPoolExecutor(threads_of(self.settings), "block") as threads:
                return self._map(threads, function, blocks, shared, done)
        client = self._connected()
        # a task that only holds the data: dask recomputes it if the worker that holds it dies, scattered data it does not
        held = client.submit(_same, shared, pure=False)
        try:
            return self._map(client.get_executor(pure=False), function, blocks, held, done)
        except TrxasError:
            raise
        except Exception as error:
            fault = self._cluster_fault(client, error)
            if fault is None:
                raise
            raise ClusterError(f"{self._name}: {fault}") from None

    def _map(
        self,
        executor: Executor,
        function: Callable[[Block, Any], Result],
        blocks: Sequence[Block],
        shared: Any,
        done: Callable[[int], None],
    ) -> list[Result]:
        """Keep a window of submitted blocks: as one finishes, submit the next."""
        window = max(WINDOW, 4 * threads_of(self.settings))
        results: dict[int, Result] = {}
        waiting = iter(enumerate(blocks))
        running: dict[Future[Result], int] = {}
        last = time.monotonic()
        try:
            while len(results) < len(blocks):
                for number, block in islice(waiting, window - len(running)):
                    running[executor.submit(function, block, shared)] = number
                finished = concurrent.futures.wait(running, LOOK, FIRST_COMPLETED).done
                if finished or self._at_work():
                    last = time.monotonic()
                else:
                    self._check(time.monotonic() - last)
                for future in finished:
                    results[running.pop(future)] = future.result()
                if finished:
                    done(len(results))
        finally:
            # a lost scheduler does not answer cancel requests
            if self._client is None or self._client.status == "running":
                for future in running:
                    future.cancel()
        return [results[n] for n in range(len(blocks))]

    @property
    def _name(self) -> str:
        return "the dask client" if self._given is not None else f"compute.cluster {self.settings.cluster}"

    def _connected(self) -> Client:
        if self._client is None:
            # imported here because it takes half a second
            from distributed import Client

            if not log.isEnabledFor(logging.INFO):
                # its tracebacks are replaced by our one-line errors
                for name in ("distributed", "distributed.client"):
                    logging.getLogger(name).setLevel(logging.CRITICAL)
            address = self.settings.cluster
            if address == "processes":
                self._cluster = _local_cluster(threads_of(self.settings))
            elif address == "slurm":
                self._cluster = _started(self.settings, self._logs)
            try:
                self._client = Client(self._cluster or address, timeout=CONNECT, set_as_default=False)
            except OSError:
                raise ConfigError(f"compute.cluster: no dask scheduler answers at {address}") from None
        return self._client

    def _at_work(self) -> bool:
        """Return whether there are workers (always true for threads)."""
        client = self._client
        return client is None or (client.status == "running" and bool(client.nthreads()))

    def _check(self, idle: float) -> None:
        """Raise ClusterError if the cluster is lost; `idle` is the time without workers [s]."""
        if self._client is not None and self._client.status != "running":
            raise ClusterError(f"{self._name}: {_GONE}")
        if idle < PATIENCE:
            return
        if self._cluster is None or self.settings.cluster != "slurm":
            raise ClusterError(f"{self._name}: no workers for {idle:.0f} s; start workers there, and {_WAY_OUT}")
        if not _in_queue([job.job_id for job in self._cluster.workers.values()]):
            raise ClusterError(f"{self._name}: the jobs ended before they worked; {self._logs} holds what they printed")
        # once a minute
        if int(idle / LOOK) % 12 == 0:
            log.warning("%s: our jobs wait in the queue, or do not connect (compute.slurm.interface)", self._name)

    def _cluster_fault(self, client: Client, error: Exception) -> str | None:
        """Return the cluster fault behind a failed block; None if the block itself failed."""
        from distributed import KilledWorker

        if isinstance(error, KilledWorker):
            return (
                f"a block of trains ended {error.allowed_failures + 1} workers, the last at {error.last_worker.address}; "
                f"lower compute.memory or give workers more memory, and {_WAY_OUT}"
            )
        if isinstance(error, ModuleNotFoundError):
            return f"a worker lacks {error.name}; start workers where trxas is installed"
        gone = isinstance(error, CancelledError | connection_lost()) or client.status != "running"
        return _GONE if gone else None


def _same(shared: Any) -> Any:
    """Return the argument: a task that only holds data on the cluster."""
    return shared


def _local_cluster(workers: int) -> Any:
    from distributed import LocalCluster

    # the block plan limits memory; dask's own limit would kill workers because of page cache
    options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": "127.0.0.1:0"}
    try:
        return LocalCluster(n_workers=workers, silence_logs=logging.CRITICAL, **options)
    except RuntimeError:
        raise ClusterError(
            "compute.cluster processes: workers do not start; a script needs `if __name__ == '__main__':`, or choose threads"
        ) from None


def _started(settings: Compute, logs: Path | str | None) -> Any:
    """Start SLURM jobs; jobs that end are replaced."""
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise ConfigError("compute.cluster: slurm: there is no sbatch here; process on a login node of the cluster")
    cluster = slurm_cluster(settings.slurm, logs)
    # dask-jobqueue submits in the background and loses sbatch's error messages, so try the script first
    completed = subprocess.run([sbatch, "--test-only"], input=cluster.job_script(), capture_output=True, text=True)  # noqa: S603
    if completed.returncode:
        cluster.close()
        printed = completed.stderr.splitlines()
        errors = [line for line in printed if "error" in line] or printed or ["refused"]
        raise ConfigError(f"compute.slurm: {errors[-1].strip()}")
    jobs = _jobs_of(settings)
    cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs, interval="10s")
    return cluster


def _in_queue(jobs: list[str]) -> bool:
    """Return whether any of these SLURM jobs is pending or running."""
    squeue = shutil.which("squeue")
    if squeue is None or not jobs:
        return False
    completed = subprocess.run([squeue, "-h", "-j", ",".join(jobs)], capture_output=True, text=True)  # noqa: S603
    return bool(completed.stdout.strip())


def slurm_cluster(slurm: Slurm, logs: Path | str | None = None) -> Any:
    """Return a dask-jobqueue cluster without jobs; `logs` is the folder of job output, `job_script()` the script to submit."""
    given = {name: value for name in ("queue", "account", "interface", "python") if (value := getattr(slurm, name))}
    return slurm_cluster_class()(
        cores=slurm.cores,
        processes=1,
        memory=slurm.memory,
        walltime=slurm.walltime,
        job_extra_directives=list(slurm.directives),
        job_directives_skip=list(slurm.skip_directives),
        job_script_prologue=list(slurm.prologue),
        log_directory=None if logs is None else str(logs),
        local_directory=slurm.local_directory,
        job_name="trxas",
        scheduler_options={"dashboard_address": "127.0.0.1:0"},
        **given,
    )
