"""From raw runs to a product: `process`, `reprocess`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from cyclopts import Parameter

from flows.cli.options import COMMON, Changes, Common, ConfigFile, Out, Work
from flows.cli.products import print_summary
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from flows.process import Stage

__all__ = ["process", "reprocess"]


def process(
    config: ConfigFile,
    *,
    out: Out = None,
    work: Work = None,
    changes: Changes = [],
    common: Common = COMMON,
) -> None:
    """Run the Prefect flow from raw runs to a published product; goes on where it stopped, skips what is current."""
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
    """Process again from a stage on; what comes before is taken from the stores.

    Parameters
    ----------
    stage
        frames, pulses, spectra or fits.
    """
    _run_flow(config, out, work, changes, stage, common)


def _run_flow(
    config: Path, out: str | None, work: Path | None, changes: list[str], stage: str | None, common: Common
) -> None:
    common.start()
    from flows import server, starting

    # the temporary server gets ready while the rest is imported
    server.start()
    with starting.importing():
        from pipeline.job import load_job

        # a config that is wrong is told before a flow starts, and before what takes seconds to import
        load_job(config, out, changes, work=work)
        from pipeline.workflow import RESTARTS

        if stage is not None and stage not in RESTARTS:
            raise ConfigError(f"--from {stage}: not one of {', '.join(RESTARTS)}")
        from flows import progress
        from flows.process import process as flow
        from flows.process import reprocess as flow_from

    stores = None if work is None else str(work)
    with server.running(), progress.shown(common.progress):
        if stage is None:
            version = flow(str(config), out, changes, work=stores)
        else:
            version = flow_from(str(config), cast("Stage", stage), changes, out, work=stores)
    print_summary(version)
