"""User-facing errors: one-line messages that name the run, the source, the value and the remedy.

Every class also derives from the matching builtin, so `except ValueError` keeps working.
"""

import errno
from collections.abc import Iterator

__all__ = [
    "BusyError",
    "ClusterError",
    "ConfigError",
    "CoverageError",
    "DataError",
    "ProductError",
    "TrxasError",
    "causes",
    "hangs",
    "may_pass",
]

# by name, because not every platform defines all of them
_PASSING = {
    getattr(errno, name)
    for name in (
        *("EIO", "EAGAIN", "EBUSY", "EINTR", "ETIMEDOUT", "ESTALE", "ENOLCK", "EREMOTEIO", "EHOSTDOWN", "EHOSTUNREACH"),
        *("ENETDOWN", "ENETRESET", "ENETUNREACH", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED"),
    )
    if hasattr(errno, name)
}


class TrxasError(Exception):
    """Base of all deliberate errors; the command line prints the message and exits with `exit_code`."""

    exit_code = 1


class ConfigError(TrxasError, ValueError):
    """The configuration or the command line is at fault; the message names the key."""

    exit_code = 2


class DataError(TrxasError, ValueError):
    """A run or a dataset is at fault; the message names the run, the source and the value."""


class CoverageError(DataError):
    """A curve that was given ends before what it is needed for; going on without it would hide that."""


class ProductError(TrxasError, ValueError):
    """A stored product does not match its schema, or there is none where one was expected."""


class ClusterError(TrxasError, RuntimeError):
    """The machines that do the work cannot go on; what is finished is kept and the same command goes on from there."""


class BusyError(TrxasError, RuntimeError):
    """Another process works on the same folder; the message says which."""


def may_pass(error: BaseException | None) -> bool:
    """Return whether an error, or one that it came from, is of the kind that a file system gets over by itself.

    A file that is missing, forbidden or damaged stays so; a config or data that are wrong stay so.
    """
    return any(isinstance(e, OSError) and e.errno in _PASSING for e in causes(error))


def hangs(error: BaseException | None) -> bool:
    """Return whether an error, or one that it came from, is that something did not answer: later it may."""
    return any(isinstance(e, TimeoutError | ConnectionError) for e in causes(error))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, the one that it came from, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
