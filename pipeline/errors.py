"""The errors people see: one line that names the run, the source, the value and the way out.

Every class is also the builtin that generic code expects, so `except ValueError` keeps working.
"""

__all__ = ["ConfigError", "DataError", "ProductError", "TrxasError"]


class TrxasError(Exception):
    """Base of all errors raised on purpose; the command line prints its one line and exits with `exit_code`."""

    exit_code = 1


class ConfigError(TrxasError, ValueError):
    """The configuration or the command line is at fault; the message names the key."""

    exit_code = 2


class DataError(TrxasError, ValueError):
    """A run or a dataset is at fault; the message names the run, the source and the value."""


class ProductError(TrxasError, ValueError):
    """A stored product does not match its schema, or there is none where one was expected."""
