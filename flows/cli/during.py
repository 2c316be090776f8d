"""During processing: `process`, `reprocess`, `sweep`, `watch`, `deploy`."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from cyclopts import Parameter, validators

from flows.cli.after import print_summary
from flows.cli.options import COMMON, Changes, Common, ConfigFile, Out, Work
from pipeline.errors import ConfigError, DataError

if TYPE_CHECKING:
    from flows.process import Restart

__all__ = ["deploy", "process", "reprocess", "sweep", "watch"]


def process(
    config: ConfigFile,
    *,
    out: Out = None,
    work: Work = None,
    changes: Changes = [],
    common: Common = COMMON,
) -> None:
    """Run the Prefect flow from raw runs to a published product; resumes where it stopped and skips what is current."""
    _run_flow(config, out, work, changes, None, common)


def reprocess(
    config: ConfigFile,
    *,
    stage: Annotated[str, Parameter(name="--from")],
    changes: Changes = [],
    out: Out = None,
    work: Work = None,
    common: Common = COMMON,
) -> None:
    """Process again from a stage onwards, with earlier results taken from the stores.

    Parameters
    ----------
    stage
        frames, pulses, spectra or fits.
    """
    _run_flow(config, out, work, changes, stage, common)


def sweep(
    config: ConfigFile,
    *,
    changes: Annotated[
        list[str],
        Parameter(
            name="--set",
            consume_multiple=True,
            negative="",
            help="key=a,b,c: values of a key of the config, e.g. mixture.min_delay=0.8,2,4. Several keys: every combination.",
        ),
    ],
    out: Out = None,
    work: Work = None,
    common: Common = COMMON,
) -> None:
    """Show τ and α against choices of the analysis: a table and a figure. The dataset must be processed, and stays as it is."""
    common.start()
    from flows import progress, settings
    from pipeline.choices import run_choices
    from pipeline.job import load_job
    from pipeline.results.sweep import choices_of, sweep_text

    choices = choices_of(changes)
    job = load_job(config, out, work=work)
    with progress.shown(common.progress):
        swept = run_choices(config, job, choices, progress=progress.report, wait=settings.CLAIM_TIMEOUT)
    print(sweep_text(swept.table))
    print(f"table   {swept.folder / 'table.csv'}\nfigure  {swept.folder / 'sweep.png'}")
    if len(swept.failed) == len(choices):
        raise DataError(f"no choice gave a result; the first: {swept.failed[0]}")


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
    """Watch the raw folder; process and publish runs as they become complete.

    Parameters
    ----------
    config
        Config file; its `watch:` section says what happens to runs that are not listed.
    once
        Look once, then exit.
    interval
        Seconds between looks.
    """
    common.start()
    from flows import progress
    from flows.watch import keep_watching

    with progress.shown(common.progress):
        keep_watching(
            str(config),
            out,
            changes,
            work=work,
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
    """Create the Prefect deployments of a dataset: process, reprocess and watch; needs a Prefect server.

    Parameters
    ----------
    interval
        Seconds between looks of the watching deployment.
    cron
        When the watching deployment looks, e.g. "*/10 * * * *".
    pool
        Work pool; created, for process workers, if it does not exist.
    """
    common.start()
    from flows.deploy import deploy as make

    print(make(config, out, work, interval=interval, cron=cron, pool=pool))


def _run_flow(
    config: Path, out: str | None, work: str | None, changes: list[str], stage: str | None, common: Common
) -> None:
    common.start()
    from flows import server

    # the temporary server starts while the rest is imported
    server.start()
    from pipeline.job import load_job

    # a wrong config is reported before a flow starts, and before imports that take seconds
    load_job(config, out, changes, work=work)
    from pipeline.workflow import RESTARTS

    if stage is not None and stage not in RESTARTS:
        raise ConfigError(f"--from {stage}: not one of {', '.join(RESTARTS)}")
    from flows import progress
    from flows.process import process as flow
    from flows.process import reprocess as flow_from

    # what was imported stays until the end: not searching it for garbage saves most of a second
    gc.freeze()
    with server.running(), progress.shown(common.progress):
        if stage is None:
            version = flow(str(config), out, changes, work=work)
        else:
            version = flow_from(str(config), cast("Restart", stage), changes, out, work=work)
    print_summary(version)
