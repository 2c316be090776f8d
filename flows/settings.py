"""Settings for Prefect without telemetry and network; imported before prefect, and leaves what the user has set."""

import logging
import os

__all__ = ["CLAIM_TIMEOUT", "DEFAULTS", "QUIET", "apply", "tell_prefect", "timeout"]

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # for flows that are called from Python: a loaded machine needs more than the usual 20 s to start Prefect's own server
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # what the pipeline logs (with run numbers) is shown with the flow run
    "PREFECT_LOGGING_EXTRA_LOGGERS": "trxas",
    # GPFS and other cluster file systems do not lock; files are only read
    "HDF5_USE_FILE_LOCKING": "FALSE",
}

QUIET = "CRITICAL"
"""Level of what Prefect prints on the terminal, where our own lines say what is wrong; its API gets all messages."""

HOUR = 3600.0
CLAIM_TIMEOUT = 24 * HOUR
"""Seconds to wait for another process that works in the same output folder."""


def apply(console_level: str | None = None) -> None:
    """Set the environment for Prefect, where the user has not; `console_level` limits what it prints."""
    extra = {} if console_level is None else {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": console_level}
    if console_level == QUIET:
        # what its background threads print when they lose the server
        extra["PREFECT_LOGGING_INTERNAL_LEVEL"] = QUIET
    for name, value in {**DEFAULTS, **extra}.items():
        os.environ.setdefault(name, value)


def tell_prefect(level: int = logging.INFO) -> None:
    """Send the pipeline's log to Prefect's API from this level on, whatever is printed; DEBUG stays DEBUG."""
    log = logging.getLogger("trxas")
    if log.level == logging.NOTSET or level < log.level:
        log.setLevel(level)


def timeout() -> float:
    """Return the seconds after which a task is given up: TRXAS_TIMEOUT_HOURS, or half a day.

    Long enough for the slowest task; a task that hangs (on a dead file system, say) must not hold a worker for ever.
    """
    try:
        return HOUR * float(os.environ.get("TRXAS_TIMEOUT_HOURS", "12"))
    except ValueError:
        return HOUR * 12
