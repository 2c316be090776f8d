"""Prefect without telemetry and without a network; imported before prefect, changes nothing that the user has set."""

import os

__all__ = ["DEFAULTS", "apply"]

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # a loaded machine needs longer than the usual 20 s to start the temporary server
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "trxas",
    # GPFS and other cluster file systems do not lock; files are only read
    "HDF5_USE_FILE_LOCKING": "FALSE",
}


def apply(log_level: str = "WARNING") -> None:
    """Set the environment for Prefect, where the user has not."""
    for name, value in {**DEFAULTS, "PREFECT_LOGGING_LEVEL": log_level}.items():
        os.environ.setdefault(name, value)
