"""One product for all tests of the dashboard, a server over a folder of copies of it, and a real browser."""

import os
import shutil
import threading
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.synthetic import fitted, publish_version

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="session")
def made():
    """Return the tree and the summary of a product; τ1 at 8 mJ/cm² is marked as not determined by the data."""
    tree, summary = deepcopy(fitted("seed"))
    tau = next(k for k in summary["kinetics"] if k["fluence"] == 8.0)["parameters"]["tau1"]
    tau |= {"identifiable": False, "ci95": [None, 0.31], "verdict": "tau1 is below 0.31 ps (95 %)"}
    return tree, summary


@pytest.fixture(scope="session")
def published(made, tmp_path_factory):
    """Return an output folder with one version; not to be changed."""
    out = tmp_path_factory.mktemp("published")
    publish_version(out, *made)
    return out


@pytest.fixture
def out(published, tmp_path):
    """Return a copy of the output folder that a test may change."""
    shutil.copytree(published, tmp_path / "out")
    return tmp_path / "out"


@pytest.fixture(scope="module")
def browser():
    """Return headless Chromium; its event loop must not be there when flows run in the same process."""
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("chromium is missing; the dashboard is tested in a real browser")
        pytest.skip("chromium is missing: apt install chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield chromium
        chromium.close()


@dataclass
class Seen:
    """A page, and what the browser had to say about it."""

    page: object
    address: str
    hosts: set = field(default_factory=set)
    faults: list = field(default_factory=list)


@pytest.fixture
def serve():
    """Start the dashboard's server on a folder, in a thread; returns its address."""
    running = []

    def start(folder: Path) -> str:
        ready, box = threading.Event(), []

        def run() -> None:
            import asyncio

            from pipeline.dashboard.serve import make_server

            asyncio.set_event_loop(asyncio.new_event_loop())
            server = make_server(folder, 0)
            server.start()
            box.append(server)
            server.io_loop.add_callback(ready.set)
            server.io_loop.start()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert ready.wait(60)
        running.append((box[0], thread))
        return f"http://127.0.0.1:{box[0].port}"

    yield start
    for server, thread in running:
        server.io_loop.add_callback(server.stop)
        server.io_loop.add_callback(server.io_loop.stop)
        thread.join(20)


@pytest.fixture
def visit(browser, serve):
    """Open the dashboard of a folder in a new window the size of a laptop's screen."""
    contexts = []

    def open_page(folder: Path, query: str = "", *, scheme: str = "light") -> Seen:
        context = browser.new_context(viewport={"width": 1366, "height": 768}, color_scheme=scheme)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        seen = Seen(page, serve(folder))
        page.on("request", lambda request: seen.hosts.add(request.url.split("/")[2] if "//" in request.url else ""))
        page.on("websocket", lambda socket: seen.hosts.add(socket.url.split("/")[2]))
        page.on("console", lambda m: seen.faults.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda error: seen.faults.append(str(error)))
        page.goto(seen.address + query)
        return seen

    yield open_page
    for context in contexts:
        context.close()
