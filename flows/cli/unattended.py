"""Processing by itself: `watch`, `deploy`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from flows.cli.options import COMMON, Changes, Common, ConfigFile, Out, Work

__all__ = ["deploy", "watch"]


def watch(
    config: Path,
    *,
    out: Out = None,
    work: Work = None,
    once: Annotated[bool, Parameter(negative="")] = False,
    interval: Annotated[float, Parameter(validator=validators.Number(gt=0))] = 60.0,
    changes: Changes = [],
    common: Common = COMMON,
) -> None:
    """Look at the raw folder again and again; process and publish runs as they become complete.

    Parameters
    ----------
    config
        Config file; its `watch:` section says what becomes of runs that are not listed.
    once
        Look once and end.
    interval
        Seconds between looks.
    """
    common.start()
    from flows import starting

    with starting.importing():
        from flows import progress
        from flows.keep_watching import keep_watching

    with progress.shown(common.progress):
        keep_watching(
            str(config),
            out,
            changes,
            work=None if work is None else str(work),
            once=once,
            interval=interval,
            tell=lambda text: print(text, flush=True),
        )


def deploy(
    config: ConfigFile,
    *,
    out: Out = None,
    work: Work = None,
    interval: Annotated[float | None, Parameter(validator=validators.Number(gt=0))] = None,
    cron: str | None = None,
    pool: str = "trxas",
    common: Common = COMMON,
) -> None:
    """Make the Prefect deployments of a dataset: process, reprocess and watch; needs a Prefect server.

    Parameters
    ----------
    interval
        Seconds between looks of the watching deployment.
    cron
        When the watching deployment looks, e.g. "*/10 * * * *".
    pool
        Work pool; made (for workers that start processes) where it is missing.
    """
    common.start()
    from flows.deploy import deploy as make

    print(make(config, out, work, interval=interval, cron=cron, pool=pool))
