"""What workers refuse: memory that is no memory or too little, and processes that cannot start."""

import distributed
import pytest

from pipeline.compute.chunk_plan import parse_memory, plan_blocks
from pipeline.compute.workers import Workers
from pipeline.errors import ClusterError, ConfigError
from schemas.config.compute import Compute


def test_memory_that_is_none_or_too_little():
    with pytest.raises(ConfigError, match=r"compute\.memory: 'much' is not a size such as 2GiB"):
        parse_memory("much")
    with pytest.raises(
        ConfigError, match=r"10MiB is too little for 2 workers with trains of 13 MB; give at least \d+MiB"
    ):
        plan_blocks(100, 13_107_200, workers=2, memory="10MiB")


def test_processes_that_do_not_start(monkeypatch):
    """As in a script whose import starts workers whose import starts workers."""

    def bootstrapping(**options):
        raise RuntimeError("an attempt has been made to start a new process before the current one is ready")

    monkeypatch.setattr(distributed, "LocalCluster", bootstrapping)
    with (
        Workers(Compute(cluster="processes", workers=1)) as workers,
        pytest.raises(ClusterError, match=r"compute\.cluster processes: workers do not start; a script needs `if"),
    ):
        workers.map(lambda block, shared: block, [1], None)
