"""Where blocks of trains are worked on: threads or processes of this machine, a dask scheduler by address, or SLURM.

All of them are executors of `concurrent.futures`, so blocks and results are the same everywhere. A scheduler gives what a
worker that dies had in hand to another one.
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
"""Seconds without any worker after which a cluster is given up; SLURM jobs may wait in the queue for as long as they do."""

CONNECT = "20s"
"""How long an address is tried: a scheduler that was just submitted takes a while to listen."""

LOOK = 5.0
"""Seconds without a result after which it is asked whether anybody works."""

WINDOW = 64
"""Blocks in hand at a time, at least; the memory of a scheduler does not grow with the run."""

_WAY_OUT = "process again: finished blocks are kept"
_GONE = f"the scheduler is gone; {_WAY_OUT}"

Block = TypeVar("Block")
Result = TypeVar("Result")


def threads_of(settings: Compute) -> int:
    """Return the number of blocks that are in work at a time."""
    if settings.cluster == "slurm":
        return _jobs_of(settings) * settings.slurm.cores
    return len(os.sched_getaffinity(0)) if settings.workers == "auto" else settings.workers


def _jobs_of(settings: Compute) -> int:
    return 1 if settings.workers == "auto" else settings.workers


class Workers:
    """The workers of a config's `compute`; a cluster is started when it is first needed and ends with the context.

    Parameters
    ----------
    settings
        The config's `compute`.
    logs
        Folder for what SLURM jobs print, unless the config names one.
    client
        A dask client to use whatever `compute.cluster` says; it stays open.
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

        Parameters
        ----------
        function
            Known by name to the workers.
        shared
            Sent to every process once.
        done
            Called with the number of blocks done.

        Raises
        ------
        TrxasError
            What a block raised; `ClusterError` if the cluster cannot go on.
        """
        if not blocks:
            return []
        if self._given is None and self.settings.cluster == "threads":
            with ThreadPoolExecutor(threads_of(self.settings), "block") as threads:
                return self._map(threads, function, blocks, shared, done)
        client = self._connected()
        # a task and not scattered data: if the worker that holds it dies, it is made again
        held = client.submit(_same, shared, pure=False)
        try:
            return self._map(client.get_executor(pure=False), function, blocks, held, done)
        except TrxasError:
            raise
        except Exception as error:
            told = self._cluster_fault(client, error)
            if told is None:
                raise
            raise ClusterError(f"{self._name}: {told}") from None

    def _map(
        self,
        executor: Executor,
        function: Callable[[Block, Any], Result],
        blocks: Sequence[Block],
        shared: Any,
        done: Callable[[int], None],
    ) -> list[Result]:
        """Keep a window of blocks in hand: as one is finished, the next is given out."""
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
            # a scheduler that is gone does not answer
            if self._client is None or self._client.status == "running":
                for future in running:
                    future.cancel()
        return [results[n] for n in range(len(blocks))]

    @property
    def _name(self) -> str:
        return "the dask client" if self._given is not None else f"compute.cluster {self.settings.cluster}"

    def _connected(self) -> Client:
        if self._client is None:
            # half a second to import, needed here only
            from distributed import Client

            if not log.isEnabledFor(logging.INFO):
                # what it reports in tracebacks we tell in one line
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
        """Return whether somebody works on blocks."""
        client = self._client
        return client is None or (client.status == "running" and bool(client.nthreads()))

    def _check(self, idle: float) -> None:
        """Raise ClusterError if there is no hope: nobody has worked for so many seconds."""
        if self._client is not None and self._client.status != "running":
            raise ClusterError(f"{self._name}: {_GONE}")
        if idle < PATIENCE:
            return
        if self._cluster is None or self.settings.cluster != "slurm":
            raise ClusterError(f"{self._name}: no workers for {idle:.0f} s; start workers there, and {_WAY_OUT}")
        if not _in_queue([job.job_id for job in self._cluster.workers.values()]):
            raise ClusterError(f"{self._name}: the jobs ended before they worked; {self._logs} holds what they printed")
        # told once a minute
        if int(idle / LOOK) % 12 == 0:
            log.warning("%s: our jobs wait in the queue, or do not connect (compute.slurm.interface)", self._name)

    def _cluster_fault(self, client: Client, error: Exception) -> str | None:
        """Return what is wrong with the cluster where a block failed; None where the block itself is at fault."""
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
    return shared


def _local_cluster(workers: int) -> Any:
    from distributed import LocalCluster

    # memory is planned by us; a limit of dask's would kill workers for the page cache they touch
    options = {"threads_per_worker": 1, "memory_limit": 0, "dashboard_address": "127.0.0.1:0"}
    try:
        return LocalCluster(n_workers=workers, silence_logs=logging.CRITICAL, **options)
    except RuntimeError:
        raise ClusterError(
            "compute.cluster processes: workers do not start; a script needs `if __name__ == '__main__':`, or choose threads"
        ) from None


def _started(settings: Compute, logs: Path | str | None) -> Any:
    """Start SLURM jobs; those that end are replaced."""
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise ConfigError("compute.cluster: slurm: there is no sbatch here; process on a login node of the cluster")
    cluster = slurm_cluster(settings.slurm, logs)
    # the cluster submits in the background, where what sbatch says is lost
    asked = subprocess.run([sbatch, "--test-only"], input=cluster.job_script(), capture_output=True, text=True)  # noqa: S603
    if asked.returncode:
        cluster.close()
        said = (
            [line for line in asked.stderr.splitlines() if "error" in line] or asked.stderr.splitlines() or ["refused"]
        )
        raise ConfigError(f"compute.slurm: {said[-1].strip()}")
    jobs = _jobs_of(settings)
    cluster.adapt(minimum_jobs=jobs, maximum_jobs=jobs, interval="10s")
    return cluster


def _in_queue(jobs: list[str]) -> bool:
    """Return whether any of these SLURM jobs waits or runs."""
    squeue = shutil.which("squeue")
    if squeue is None or not jobs:
        return False
    asked = subprocess.run([squeue, "-h", "-j", ",".join(jobs)], capture_output=True, text=True)  # noqa: S603
    return bool(asked.stdout.strip())


def slurm_cluster(slurm: Slurm, logs: Path | str | None = None) -> Any:
    """Return a dask-jobqueue cluster without jobs, which print to a folder; `job_script()` shows what is submitted."""
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
