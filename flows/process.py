"""The flows: raw runs → published product, a task per run and per stage; and reprocessing from a later stage.

Their docstrings say "Args:" because Prefect shows in its forms what it finds there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow
from pydantic import Field

from flows import settings, tasks
from flows.server import retry_while_unreachable
from flows.states import completed, failed, named_flow_run
from pipeline import workflow
from pipeline.errors import TrxasError
from pipeline.job import load_job
from pipeline.results.compare import other_settings
from pipeline.storage import versions
from pipeline.storage.claim import claimed

__all__ = ["Change", "Restart", "process", "reprocess"]

Restart = Literal["frames", "pulses", "spectra", "fits"]
Change = Annotated[
    str,
    Field(
        # no brackets: Prefect interprets them as markup in its validation message
        pattern=r"^\w+(\.\w+)*\s*=.+$",
        description="key=value of the config; the value is YAML",
        examples=["kinetics.power=1", "delay.t0=120.02"],
    ),
]


@flow(name="trxas-process", persist_result=False, validate_parameters=True)
def process(
    config: str,
    out: str | None = None,
    changes: list[Change] = [],  # noqa: B006 (Prefect copies it; its UI then asks for a list)
    restart: Restart | None = None,
    waiting: dict[int, str] | None = None,
    work: str | None = None,
) -> str:
    """Process a dataset; returns the published version, a folder or a URL.

    A run that cannot be used is reported and left out; the others give their result all the same.

    Args:
        config: Path of the config file, as the worker's machine sees it.
        out: Output folder, or a URL to publish to; `out` beside the config unless given.
        changes: `key=value` changes of the config.
        restart: Stage from which everything runs again even if it is current.
        waiting: Scan runs to leave out for now, and why.
        work: Folder of the working stores; the output folder unless given.
    """
    return _process("process", config, out, changes, work, restart, waiting or {})


@flow(name="trxas-reprocess", persist_result=False, validate_parameters=True)
def reprocess(
    config: str,
    stage: Restart = "fits",
    changes: list[Change] = [],  # noqa: B006
    out: str | None = None,
    work: str | None = None,
) -> str:
    """Reprocess a dataset from a stage onwards, with config changes; earlier results are read from the stores.

    Args:
        config: Path of the config file, as the worker's machine sees it.
        stage: First stage that runs again, even if it is current; earlier ones run where a change demands it.
        changes: `key=value` changes of the config.
        out: Output folder, or a URL to publish to; `out` beside the config unless given.
        work: Folder of the working stores; the output folder unless given.
    """
    return _process("reprocess", config, out, changes, work, stage, {})


def _process(
    verb: str,
    config: str,
    out: str | None,
    changes: list[str],
    work: str | None,
    restart: str | None,
    waiting: dict[int, str],
) -> Any:
    """Process a dataset, which no other process may work on meanwhile; returns the final state."""
    try:
        job = load_job(Path(config), out, changes, work=work)
        name = verb if verb == "process" else f"{verb}-{restart}"
        with named_flow_run(name, job.config.dataset), claimed(job.out, verb, wait=settings.CLAIM_TIMEOUT):
            former = versions.intact_latest(job.product_dir)
            done = workflow.process(job, restart=restart, waiting=waiting, run=tasks.as_task)
            # a failure to show the product must not fail its publication
            retry_while_unreachable(tasks.task_show, done.version, former, return_state=True)
            return completed(str(done.version), done.left_out, other_settings(former, done.version))
    except TrxasError as error:
        return failed(error)
