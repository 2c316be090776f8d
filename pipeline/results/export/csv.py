"""CSV: one table per group and set of dims; the header names units, meaning and provenance in lines that begin with #."""

from __future__ import annotations

import json
from pathlib import Path

import xarray as xr

from pipeline.results.export.parts import provenance

__all__ = ["write_csv"]


def write_csv(tree: xr.DataTree, target: Path) -> list[Path]:
    """Write `<group>.csv` with the variables of the most dims, and `<group>_<dims>.csv` with the others.

    `pandas.read_csv(path, comment="#")` reads them; numbers are written so that they read back exactly.
    """
    origin = [f"# {k}: {v}" for k, v in provenance(tree).items()]
    written = []
    for name, node in tree.children.items():
        dataset = node.to_dataset().load()
        for k, dims in enumerate(sorted({v.dims for v in dataset.data_vars.values()}, key=lambda d: (-len(d), d))):
            chosen = dataset[[n for n, v in dataset.data_vars.items() if v.dims == dims]]
            path = target / (f"{name}.csv" if k == 0 else f"{name}_{'_'.join(map(str, dims)) or 'scalars'}.csv")
            columns = [
                f"# column {n} [{v.attrs.get('units', '1')}]: {v.attrs.get('long_name', n)}"
                for n, v in _columns(chosen)
            ]
            notes = [f"# {k}: {v if isinstance(v, str) else json.dumps(v)}" for k, v in dataset.attrs.items()]
            header = "\n".join([f"# trxas table of /{name}", *origin, *notes, *columns])
            path.write_text(f"{header}\n{_table(chosen)}", encoding="utf-8")
            written.append(path)
    return written


def _columns(dataset: xr.Dataset) -> list[tuple[str, xr.DataArray]]:
    return [(str(n), dataset[n]) for n in [*dataset.coords, *dataset.data_vars]]


def _table(dataset: xr.Dataset) -> str:
    if dataset.sizes:
        return str(dataset.to_dataframe().to_csv(lineterminator="\n"))
    return str(dataset.expand_dims("row").to_dataframe().to_csv(index=False, lineterminator="\n"))
