"""What the pulses of a run say against what the config says of it: an axis that stands, pulses that are lost."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import xarray as xr

from pipeline.job import Job
from pipeline.science.labels.selection import count_reasons
from schemas.catalogue import note
from schemas.notes import Note

__all__ = ["run_notes"]

MOVES = {"eV": 0.25, "mm": 5e-3, "ps": 0.03}
"""Span from which on an axis moves, by its unit: more than an encoder's noise, less than any scan."""
FEW = 0.05
"""Share of the pulses of a run that may be lost without a word: a few are too bright or too dim in any run."""
LOSSES = {
    "no_calibration": "their memory cells are not in the dark run: record one with the cells of the scans",
    "no_energy": "the monochromator's reading is unknown",
    "no_delay": "the reading of the delay stage is unknown",
    "no_condition": "it is not known whether the pump reached them",
}
"""What nobody asked for, by drop reason."""
FILTERS = {
    "low_intensity": "there is too little light in them (filters.min_intensity)",
    "saturated": "pixels are saturated (filters.max_saturated); attenuate the beam",
}
"""What the config asks for, by drop reason."""


def run_notes(job: Job, runs: Mapping[int, xr.Dataset]) -> list[Note]:
    """Return what is wrong with runs, from their pulses with all labels."""
    notes = []
    for number, run in runs.items():
        notes += _axes(job.config.kind_of(number), number, run) + _lost(number, run) + _cells(number, run)
    return notes


def _axes(kind: str, number: int, run: xr.Dataset) -> list[Note]:
    """Say so where the axis of a scan stands; a run in which it was not recorded is told elsewhere."""
    energy, stage = (_moves(run, name) for name in ("energy", "delay_stage"))
    own, other = (stage, energy) if kind == "delay_scan" else (energy, stage)
    if kind == "flat_field" or own is None or own:
        return []
    names = ("delay stage", "photon energy") if kind == "delay_scan" else ("photon energy", "delay stage")
    right = "energy_scans" if kind == "delay_scan" else "delay_scans"
    way_out = f"the {names[1]} moves; list it under runs.{right}" if other else "nothing else moves either"
    return [note("run.wrong_axis", run=number, kind=kind.replace("_", " "), still=names[0], way_out=way_out)]


def _moves(run: xr.Dataset, name: str) -> bool | None:
    """Return whether an axis moves, outliers left out; None where it is unknown."""
    if name not in run.coords:
        return None
    values = run[name].values
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.percentile(values, [5, 95])
    return bool(high - low > MOVES[run[name].attrs.get("units", "eV" if name == "energy" else "mm")])


def _lost(number: int, run: xr.Dataset) -> list[Note]:
    """Say why pulses are lost, where these are more than a few."""
    counts = count_reasons(run["drop_reason"].values)
    meanings = LOSSES | FILTERS
    wanted = counts["used"] + sum(counts[name] for name in meanings)
    found = [(name, text, counts[name] / wanted) for name, text in meanings.items() if counts[name] > FEW * wanted]
    announced = int((run["present"] | run["blank"]).sum())
    blank = int(run["blank"].sum())
    if blank > FEW * announced:
        found.append(("absent", "their frames were announced and never written", blank / announced))
    return [
        note(
            "pulses.filtered" if name in FILTERS else "pulses.lost",
            run=number,
            percent=100 * share,
            reason=name,
            meaning=meaning,
        )
        for name, meaning, share in found
    ]


def _cells(number: int, run: xr.Dataset) -> list[Note]:
    cells = np.unique(run["cell_id"].values[run["present"].values])
    if run.sizes["pulse"] < 2 or len(cells) != 1:
        return []
    return [note("pulses.one_cell", run=number, cell=int(cells[0]))]
