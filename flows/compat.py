"""Parts of Prefect that it does not promise to keep: all of them are here, as in `pipeline.compat`."""

from __future__ import annotations

from typing import Any

__all__ = ["NOT_SERVED", "prefect_app"]

NOT_SERVED = 76
"""Exit code of the temporary server where this Prefect has no application to serve."""


def prefect_app() -> Any:
    """Return Prefect's API as an ASGI application for the settings of this process; None where there is none.

    Why: it alone can be served on a socket that is open already, with its records in memory, by a process that ends with
    ours (docs/decisions/0001). It is in Prefect's reference, but Prefect tells its users to call other things.
    Without it: Prefect's own temporary server, which takes seconds longer to start.
    """
    try:
        from prefect.server.api.server import create_app

        return create_app(ephemeral=True, final=True)
    except (ImportError, TypeError):
        return None
