"""Options and arguments that several verbs share, with their help."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from flows import settings

__all__ = ["COMMON", "Changes", "Common", "ConfigFile", "Json", "Out", "ProductName", "Profile", "Work"]

Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every verb."""

    log_level: Level = "WARNING"
    "Lowest level of messages on stderr."
    progress: bool = True
    "Show progress: bars on a terminal, a line per run and stage elsewhere."

    def start(self) -> None:
        """Set up logging and Prefect's environment."""
        # an error is one line of ours; Prefect would add a traceback per task, and logging one per line that it cannot send
        quiet = self.log_level in ("WARNING", "ERROR")
        logging.raiseExceptions = not quiet
        settings.apply(settings.QUIET if quiet else self.log_level)
        logging.basicConfig(level=self.log_level, format="%(levelname)s %(message)s", stream=sys.stderr)
        settings.tell_prefect(min(logging.INFO, logging.getLevelNamesMapping()[self.log_level]))
        for handler in logging.getLogger().handlers:
            handler.setLevel(self.log_level)
            handler.addFilter(lambda record: not quiet or not record.name.startswith("prefect"))


COMMON = Common()

ConfigFile = Annotated[Path, Parameter(help="Config file.")]
ProductName = Annotated[str, Parameter(help="A version, its product.zarr, or an output folder; a path or a URL.")]
Profile = Annotated[str, Parameter(help="Instrument profile: its name, or a file.")]
Out = Annotated[
    str | None,
    Parameter(
        name="--out",
        help="Output folder, or a URL to publish to (s3://bucket/prefix); `out` beside the config unless given.",
    ),
]
Work = Annotated[
    # text: a Path would turn a URL into a folder
    str | None,
    Parameter(
        name="--work",
        help="Folder of the working stores; the output folder, or `out` beside the config where products go to a URL.",
    ),
]
Changes = Annotated[
    list[str],
    Parameter(
        name="--set",
        consume_multiple=True,
        negative="",
        help="key=value changes of the config, e.g. kinetics.power=1; repeat, or name several behind one --set.",
    ),
]
Json = Annotated[bool, Parameter(name="--json", negative="", help="Print JSON.")]
