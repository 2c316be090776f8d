"""CSV: one table per group and set of dims; the header names units, meaning and provenance in lines that begin with #."""

from __future__ import annotations

import json
from pathlib import Path

import xarray as xr

from pipeline.results.export.parts import by_dims, provenance

__all__ = ["write_csv"]


def write_csv(tree: xr.DataTree, target: Path) -> list[Path]:
    """Write `<group>.csv` with the variables of the most dims, and `<group>_<dims>.csv` with the others.

    `pandas.read_csv(path, comment="#")` reads them; numbers are written so that they read back exactly.
    """
    origin = [f"# {k}: {v}" for k, v in provenance(tree).items()]
    written = []
    for name, node in tree.children.items():
        dataset = node.to_dataset().load()
        notes = [f"# {k}: {v if isinstance(v, str) else json.dumps(v)}" for k, v in dataset.attrs.items()]
        for part, chosen in by_dims(name, dataset):
            columns = [
                f"# column {n} [{chosen[n].attrs.get('units', '1')}]: {chosen[n].attrs.get('long_name', n)}"
                for n in [*chosen.coords, *chosen.data_vars]
            ]
            header = "\n".join([f"# trxas table of /{name}", *origin, *notes, *columns])
            written.append(target / f"{part}.csv")
            written[-1].write_text(f"{header}\n{_table(chosen)}", encoding="utf-8")
    return written


def _table(dataset: xr.Dataset) -> str:
    table = dataset.to_dataframe() if dataset.sizes else dataset.expand_dims("row").to_dataframe()
    return str(table.to_csv(index=bool(dataset.sizes), lineterminator="\n"))
