"""An undisturbed product of a part of the tiny experiment, cut into blocks of one train."""

import pytest

from pipeline.job import load_job
from pipeline.workflow import process

SMALL = (
    "runs.energy_scans=[{run: 5, fluence: 16.0}]",
    "kinetics.global=false",
    "compute.workers=2",
    # one train of 16 frames per block
    "compute.memory=11MiB",
)


@pytest.fixture(scope="session")
def small_job(tiny):
    """Return what makes a job of an output folder and changes of the config."""
    return lambda out, *changes: load_job(tiny.out / "config.yaml", out, [*SMALL, *changes])


@pytest.fixture(scope="session")
def undisturbed(small_job, tmp_path_factory):
    """Return the output folder of a job that nothing disturbed."""
    job = small_job(tmp_path_factory.mktemp("undisturbed"))
    process(job)
    return job.out
