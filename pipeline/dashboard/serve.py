"""The web server of the dashboard: loopback by default, no static files, nothing from other hosts."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

__all__ = ["make_server"]

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def make_server(out: Path, port: int, *, host: str = "127.0.0.1") -> Any:
    """Return a server that shows the products of an output folder; `server.start()` and its `io_loop` run it.

    Port 0 picks a free one, see `server.port`; `host` is the address to listen on.

    Raises
    ------
    OSError
        If the port is taken or the address is not one of this machine.
    """
    # scripts and styles come from this server; the default would be a content network
    os.environ["BOKEH_RESOURCES"] = "server"
    import panel as pn
    from bokeh.settings import settings

    from pipeline.dashboard.app import make_page
    from pipeline.dashboard.data import Catalogue

    catalogue = Catalogue(out)
    # the page may be reached through a tunnel, so any port is right; any other host would be another site's page
    names = {host, *_LOOPBACK} if host in _LOOPBACK else {host, *_LOOPBACK, socket.gethostname(), socket.getfqdn()}
    settings.allowed_ws_origin.set_value([f"{_bracketed(name)}:*" for name in sorted(names)])
    return pn.io.server.get_server(
        {"/": lambda: make_page(catalogue)},
        port=port,
        address=host,
        title="trxas",
        show=False,
        start=False,
        location=True,
    )


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name else name
