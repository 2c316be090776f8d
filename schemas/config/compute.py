"""Where the heavy stages run: the `compute` part of a config."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from schemas.strict import Strict

__all__ = ["Compute", "Slurm"]


class Slurm(Strict):
    """Jobs of a SLURM cluster; every job is one worker process with a thread per core."""

    queue: str | None = None
    """Partition (`sbatch -p`); the cluster's default unless given."""
    account: str | None = None
    """Account that pays (`sbatch -A`)."""
    walltime: Annotated[str, Field(pattern=r"^(\d+-)?\d{1,2}:\d{2}:\d{2}$")] = "04:00:00"
    """Longest time of a job, [days-]hours:minutes:seconds; a job that ends is replaced."""
    cores: Annotated[int, Field(ge=1)] = 4
    """Cores of a job."""
    memory: str = "8GiB"
    """Memory of a job; a block in work takes 0.2 GiB per core, the program 0.5 GiB."""
    interface: str | None = None
    """Network interface over which workers and scheduler talk, e.g. ib0; workers that never connect lack the right one."""
    directives: list[str] = Field(default=[])
    """Further #SBATCH lines, e.g. --constraint=V100."""
    skip_directives: list[str] = Field(default=[])
    """#SBATCH lines that the cluster refuses, by a part of them, e.g. --mem where nodes are given whole."""
    prologue: list[str] = Field(default=[])
    """Shell lines before the worker starts, e.g. module load or source .../activate."""
    log_directory: str | None = None
    """Where jobs print to; `logs` in the output folder unless given."""
    local_directory: str | None = None
    """Folder on the node for dask's own small files; /tmp unless given."""
    python: str | None = None
    """Python on the nodes; the one that runs this unless given."""


class Compute(Strict):
    """Where the heavy stages run; never changes a number."""

    cluster: str = "threads"
    """threads, processes, the address of a running dask scheduler (tcp://…), or slurm."""
    workers: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Number of workers, for slurm of jobs; auto: the processors that this process may use, or one job."""
    memory: str = "2GiB"
    """Memory for all frame buffers together; blocks of trains are planned to fit."""
    slurm: Slurm = Slurm()
    """What is asked of SLURM."""

    @field_validator("cluster")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in ("threads", "processes", "slurm") and not value.startswith(("tcp://", "tls://")):
            raise ValueError(f"{value!r} is not threads, processes, slurm or a tcp:// address")
        return value
