"""The `trxas` command. Every verb parses its arguments, calls one function and prints; heavy imports wait until needed.

The verbs stand in `before`, `during` and `after`, by when they are used; `options` has what they share.
"""

from __future__ import annotations

import logging
import sys

from cyclopts import App, CycloptsError

from flows.cli import after, before, during
from pipeline.errors import TrxasError

__all__ = ["app", "main"]


def _version() -> str:
    from pipeline.storage.hashes import code_version

    return code_version()


app = App(
    name="trxas",
    help="From raw European XFEL detector frames of a pump-probe absorption experiment to physics.",
    help_format="plaintext",
    version=_version,
    version_flags=["--version"],
)

for _verb in (
    *(before.demo, before.simulate, before.inspect, before.init, before.plan, before.doctor),
    *(during.process, during.reprocess, during.sweep, during.watch, during.deploy),
    *(after.show, after.t0, after.inject, after.validate, after.export, after.dashboard),
):
    app.command(_verb)


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit: 0 done, 1 data or product at fault, 2 usage or config error."""
    arguments = _common_last(sys.argv[1:] if arguments is None else arguments)
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _fail(" ".join(str(error).split()), 2)
    except TrxasError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail("interrupted; the next run goes on from here", 130)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        logging.getLogger("trxas").debug("traceback", exc_info=True)
        text = str(error).splitlines()[0] if str(error) else ""
        _fail(f"unexpected {type(error).__name__}: {text} (--log-level DEBUG shows where; this is a fault of trxas)", 1)
    sys.exit(0)


def _common_last(arguments: list[str]) -> list[str]:
    """Move the common options behind the verb, where the parser knows them: they may be written before it too."""
    first = 0
    while first < len(arguments) and arguments[first].startswith(("--log-level", "--no-progress", "--progress")):
        first += 2 if arguments[first] == "--log-level" else 1
    return arguments[first:] + arguments[:first] if first < len(arguments) else arguments


def _fail(message: str, code: int) -> None:
    for line in message.splitlines() or [""]:
        print(f"trxas: {line}", file=sys.stderr)
    sys.exit(code)
