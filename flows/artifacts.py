"""What a flow run shows in Prefect: progress of the heavy stages, the summary, quality by run, the figures.

A temporary server gets no artifacts: nobody can look at them.
"""

from __future__ import annotations

import base64
import io
import logging
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

from PIL import Image
from prefect import artifacts

from flows import progress, server
from flows.states import slug
from pipeline.results.summary import summary_text
from pipeline.stages.base import Progress
from pipeline.storage import versions
from pipeline.storage.places import Place

__all__ = ["progress_artifact", "show_product"]

COLOURS = 64
"""Of a figure in Prefect's pages: enough for lines, bands and maps."""
EVERY = 1.0
"""Seconds between updates of a progress artifact: each is a request."""

log = logging.getLogger("trxas")
_requests = ThreadPoolExecutor(1, thread_name_prefix="progress")


@contextmanager
def progress_artifact(dataset: str, what: str, text: str) -> Iterator[Progress]:
    """Yield a callback that reports progress to the terminal and to an artifact, which the first report creates.

    A separate thread makes the requests: the work neither waits for them nor fails with them.
    """
    if not server.is_persistent():
        yield progress.report
        return
    key, last, made = slug(f"{dataset}-{what}"), time.monotonic(), list[Any]()

    def request(share: float) -> None:
        try:
            if made:
                artifacts.update_progress_artifact(made[0], share)
            else:
                made.append(artifacts.create_progress_artifact(share, key=key, description=text))
        except Exception as error:
            log.debug("progress of %s is not shown: %s", key, error)

    def report(label: str, done: int, total: int) -> None:
        nonlocal last
        progress.report(label, done, total)
        if done >= total or time.monotonic() - last >= EVERY:
            last = time.monotonic()
            # the context says to which task the artifact belongs
            _requests.submit(copy_context().run, request, progress.percent(done, total))

    yield report


def show_product(version: Place, *, figures: bool = True) -> None:
    """Publish a version's summary, its quality by run and (where they are new) its figures as artifacts of the flow run."""
    if not server.is_persistent():
        return
    summary: Any = versions.read_summary(version)
    dataset = slug(summary["dataset"])
    text = f"**{version}**\n\n```\n{summary_text(summary)}\n```"
    artifacts.create_markdown_artifact(
        text, key=f"{dataset}-summary", description=f"{summary['dataset']} {summary['version']}"
    )
    rows = [{name: _cell(value) for name, value in run.items()} for run in summary["runs"]]
    artifacts.create_table_artifact(rows, key=f"{dataset}-quality", description="what became of every run")
    drawn = [f for f in (version / "figures").iterdir() if f.name.endswith(".png")] if figures else []
    for figure in sorted(drawn, key=lambda f: f.name):
        key = f"{dataset}-figure-{slug(figure.name.removesuffix('.png'))}"
        artifacts.create_image_artifact(_picture(figure), key=key, description=str(figure))


def _picture(figure: Place) -> str:
    """Return a figure as a data URL in few colours, at a third of its size: Prefect's database stores each twice."""
    small = io.BytesIO()
    with Image.open(io.BytesIO(figure.read_bytes())) as image:
        image.convert("RGB").quantize(COLOURS, method=Image.Quantize.FASTOCTREE).save(small, "PNG")
    return f"data:image/png;base64,{base64.b64encode(small.getvalue()).decode()}"


def _cell(value: object) -> object:
    if isinstance(value, list):
        return "; ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else value
