"""The figure of the error budget: of every number a bar, cut into what each source adds to its variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.plots.style import COLOURS, new_figure, save
from pipeline.results.budget_report import shown_in, total_of
from schemas.datasets.budget import SOURCES

__all__ = ["draw_budget"]

_COLOURS = dict(zip(SOURCES, (*COLOURS, "#F0E442", "#999999"), strict=True))
"""Colour of each source."""


def draw_budget(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the budget of a summary: shares of the variance, with the total error beside, and what is not known."""
    figure, (axes,) = new_figure(1, width=7.4, height=1.3 + 0.28 * len(rows))
    labels = []
    for place, row in enumerate(rows):
        name, factor = shown_in(row)
        labels.append(name)
        total, left = total_of(row["entries"]), 0.0
        unknown = [entry["source"] for entry in row["entries"] if entry["error"] is None]
        for entry in row["entries"] if total > 0 else ():
            share = ((entry["error"] or 0.0) / total) ** 2
            hatch = "///" if entry["status"] == "beside" else None
            axes.barh(place, share, left=left, height=0.7, color=_COLOURS[entry["source"]], hatch=hatch, ec="w", lw=0)
            left += share
        text = f"{factor * total:.2g}" + (f"   + {', '.join(unknown)}?" if unknown else "")
        axes.annotate(text, (1.01, place), va="center", fontsize=7, annotation_clip=False)
    for source, colour in _COLOURS.items():
        axes.barh(0, 0, color=colour, label=source)
    axes.set(xlim=(0, 1), ylim=(len(rows) - 0.4, -0.6), xlabel="share of the variance", yticks=range(len(rows)))
    axes.set_yticklabels(labels, fontsize=7)
    axes.set_title("error budget; hatched: beside the stated errors; right: total, and what is not known")
    axes.legend(ncols=5, fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.42 / (0.6 + 0.28 * len(rows))))
    save(figure, path)
