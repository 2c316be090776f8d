"""What the differences of a product are compared with, and what that leaves open: for the summary, in numbers and words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import xarray as xr

from pipeline.results.wording import finite_or_none, reference_words
from pipeline.science.sums.edges import is_same_energy
from schemas.config import Config

__all__ = ["reference_lines", "references_of"]


def references_of(tree: xr.DataTree, config: Config) -> list[dict[str, Any]]:
    """Return which reference served the spectra of every fluence, and every delay scan, with its errors."""
    spectra, scan, quality = (tree[n].to_dataset() for n in ("spectra", "delay_scan", "quality"))
    found = []
    for fluence in spectra["fluence"].values.tolist() if spectra.sizes["energy"] else []:
        runs = [s.run for s in config.runs.energy_scans if s.fluence == fluence]
        found.append({"fluence": fluence, "energy": None} | _row(spectra.sel(fluence=fluence), quality, runs))
    for k in range(scan.sizes["scan"]):
        fluence, energy = float(scan["fluence"][k]), float(scan["energy"][k])
        runs = [
            s.run
            for s in config.runs.delay_scans
            if s.fluence == fluence and (s.energy is None or bool(is_same_energy(s.energy, np.array(energy))))
        ]
        found.append({"fluence": fluence, "energy": energy} | _row(scan.isel(scan=k), quality, runs))
    return found


def _row(result: xr.Dataset, quality: xr.Dataset, runs: list[int]) -> dict[str, Any]:
    measured = result["n_pulses"] > 0
    by_delay = measured if "energy" not in measured.dims else measured.any("energy")
    names = result["reference"].values[by_delay.values].tolist() if "reference" in result else []
    return {
        "delays": dict(Counter(map(str, names))),
        "without_pump": _share(quality, runs),
        "stderr": _median(result, "delta_xas_stderr", measured),
        "stderr_systematic": _median(result, "delta_xas_stderr_systematic", measured),
    }


def _share(quality: xr.Dataset, runs: list[int]) -> float | None:
    if "pulses_without_pump" not in quality:
        return None
    chosen = quality.isel(run=np.isin(quality["run"].values, runs))
    used = int(chosen["pulses_used"].sum())
    return int(chosen["pulses_without_pump"].sum()) / used if used else None


def _median(result: xr.Dataset, name: str, measured: xr.DataArray) -> float | None:
    values = result[name].transpose(*measured.dims).values[measured.values] if name in result else np.zeros(0)
    return finite_or_none(np.median(values)) if len(values) else None


def reference_lines(references: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Return the references of a summary for a terminal; rows that are alike share a line."""
    said: dict[str, list[str]] = {}
    for row in references:
        scan = "" if row["energy"] is None else f"scan at {row['energy']:.2f} eV, "
        said.setdefault(_words(row), []).append(f"{scan}{row['fluence']:g} mJ/cm²")
    if said:
        yield "difference against"
    for words, where in said.items():
        yield f"  {words}: {'; '.join(where)}"


def _words(row: Mapping[str, Any]) -> str:
    words, share = reference_words(row["delays"]) or "nothing", row["without_pump"]
    if share and "in_run" in row["delays"]:
        words += f" ({share:.0%})"
    unknown = row["stderr_systematic"]
    if unknown is None and "none" in row["delays"]:
        return f"{words}, offset not known"
    return f"{words}, ± {1e3 * unknown:.2g} mOD that it cannot know" if unknown else words
