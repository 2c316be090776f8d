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
    "DamagedError",
    "DataError",
    "ProductError",
    "TrxasError",
    "causes",
    "timed_out",
    "is_transient",
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
    """A given curve does not cover the range where it is needed."""


class ProductError(TrxasError, ValueError):
    """A stored product does not match its schema, or is missing."""


class DamagedError(ProductError):
    """A stored intermediate result was damaged; it is gone, and the same command makes it anew."""


class ClusterError(TrxasError, RuntimeError):
    """The workers cannot go on; finished blocks are kept, and the same command continues from there."""


class BusyError(TrxasError, RuntimeError):
    """Another process is using the output folder; the message says which."""


def is_transient(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, is a file-system error that usually goes away by itself.

    A missing, forbidden or damaged file is not transient; nor are a wrong config and wrong data.
    """
    return any(isinstance(e, OSError) and e.errno in _PASSING for e in causes(error))


def timed_out(error: BaseException | None) -> bool:
    """Return whether an error, or one of its causes, is a timeout or a lost connection."""
    return any(isinstance(e, TimeoutError | ConnectionError) for e in causes(error))


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error, its cause, the cause of that, and so on."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
