"""A plain dashboard: one page per version with summary and figures, read from the products on every request.

It serves figures of published versions only, and nothing else of the output folder.
"""

from __future__ import annotations

import html
import json
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pipeline.summary import summary_text

__all__ = ["make_server", "render"]

_FIGURE = re.compile(r"/([A-Za-z0-9][\w.-]*)/(v\d{4,})/([\w.-]+\.png)")
_PAGE = re.compile(r"/([A-Za-z0-9][\w.-]*)/(v\d{4,})/?")
_STYLE = """:root{color-scheme:light dark}body{font:15px/1.4 system-ui,sans-serif;margin:1.5rem;max-width:75rem}
pre{overflow-x:auto;font-size:13px}img{max-width:100%;background:#fff;margin:.4rem 0}nav a{margin-right:.8rem}.bad{color:#c33}"""


def make_server(out: Path, port: int) -> ThreadingHTTPServer:
    """Return a server on loopback that shows the products of an output folder; port 0 takes a free one."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, kind, body = render(out, unquote(urlsplit(self.path).path))
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            return

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


def render(out: Path, path: str) -> tuple[int, str, bytes]:
    """Return HTTP status, content type and body for a path."""
    if found := _FIGURE.fullmatch(path):
        figure = out / "products" / found[1] / found[2] / "figures" / found[3]
        if figure.is_file():
            return HTTPStatus.OK, "image/png", figure.read_bytes()
    elif (found := _PAGE.fullmatch(path)) and (out / "products" / found[1] / found[2]).is_dir():
        return _page(HTTPStatus.OK, _version(out, found[1], found[2]))
    elif path == "/":
        return _page(HTTPStatus.OK, _start(out))
    return _page(HTTPStatus.NOT_FOUND, f"<p class=bad>Nothing at {html.escape(path)}. <a href='/'>All datasets</a></p>")


def _versions(out: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for summary in sorted((out / "products").glob("*/v*/summary.json")):
        found.setdefault(summary.parent.parent.name, []).append(summary.parent.name)
    return found


def _start(out: Path) -> str:
    versions = _versions(out)
    if not versions:
        return f"<p>No products in {html.escape(str(out))} yet. <code>trxas process CONFIG --out {html.escape(str(out))}</code></p>"
    return "".join(
        f"<h2>{html.escape(name)}</h2>{_links(name, numbers)}{_content(out, name, numbers[-1])}"
        for name, numbers in versions.items()
    )


def _version(out: Path, dataset: str, version: str) -> str:
    return f"<nav><a href='/'>all datasets</a></nav><h2>{html.escape(dataset)} {version}</h2>{_content(out, dataset, version)}"


def _links(name: str, numbers: list[str]) -> str:
    return "<nav>" + "".join(f"<a href='/{name}/{v}'>{v}</a>" for v in reversed(numbers)) + "</nav>"


def _content(out: Path, dataset: str, version: str) -> str:
    folder = out / "products" / dataset / version
    try:
        text = summary_text(json.loads((folder / "summary.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"<p class=bad>{version} cannot be read: {html.escape(str(error))}</p>"
    figures = "".join(
        f"<figure><img src='/{dataset}/{version}/{f.name}' alt='{html.escape(f.stem)}'></figure>"
        for f in sorted((folder / "figures").glob("*.png"))
    )
    return f"<pre>{html.escape(text)}</pre>{figures}"


def _page(status: int, body: str) -> tuple[int, str, bytes]:
    page = f"<!doctype html><meta charset=utf-8><title>trxas</title><style>{_STYLE}</style><h1>trxas</h1>{body}"
    return status, "text/html; charset=utf-8", page.encode()
