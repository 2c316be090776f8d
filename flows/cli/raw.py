"""What is in raw runs: `inspect`, `init`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from flows.cli.options import COMMON, Changes, Common, Json, Profile
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from schemas.instrument import Instrument

__all__ = ["init", "inspect"]


def inspect(
    raw_run: Path,
    *,
    instrument: Profile = "scs-dssc-boz",
    as_json: Json = False,
    common: Common = COMMON,
) -> None:
    """Show what is in a raw run, what moved, and what is wrong with it.

    Parameters
    ----------
    raw_run
        Folder of the run.
    """
    common.start()
    from pipeline.euxfel.survey import inspect_run, inspect_text

    report = inspect_run(raw_run, _instrument(instrument))
    print(json.dumps(report, indent=1) if as_json else inspect_text(report))


def init(
    raw_dir: Path,
    *,
    output: Annotated[Path, Parameter(name=["-o", "--output"])] = Path("config.yaml"),
    instrument: Profile = "scs-dssc-boz",
    changes: Changes = [],
    common: Common = COMMON,
) -> None:
    """Inspect every run of a folder, classify it, and write a config to edit.

    Energy and stage that the profile knows under other names are sought among what moved.

    Parameters
    ----------
    raw_dir
        Folder of rNNNN runs.
    output
        Config file to write; an existing one is not overwritten.
    """
    common.start()
    from pipeline.euxfel.draft import check_folder, draft

    check_folder(raw_dir)
    if output.exists():
        raise ConfigError(f"{output} exists and is kept; write to another file with -o FILE, or remove it first")
    if not output.parent.is_dir():
        raise ConfigError(f"-o {output}: {output.parent} is not a folder")
    found, text = draft(raw_dir, instrument, changes)
    output.write_text(text, encoding="utf-8")
    for run in found:
        print(f"run {run['run']:4d}  {run['kind']}")
    print(output)


def _instrument(name: str) -> Instrument:
    from schemas.instrument import load_instrument

    try:
        return load_instrument(name).with_sources({})
    except ValueError as error:
        raise ConfigError(str(error)) from None
