"""XDI, the text format of the XAS community: one file per measured fluence and delay.

After the XDI 1.0 specification (Ravel et al., J. Phys. Conf. Ser. 712 (2016) 012148): version line, fields
`# Namespace.tag: value`, a line of slashes before free comments, a line of dashes, column labels, numbers. The abscissa is
the first column. A grating monochromator has no d-spacing, so `Mono.d_spacing` is left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from pipeline.results.export.parts import measured, provenance, sample_of

__all__ = ["write_xdi"]

COLUMNS = ("od_unpumped", "od_pumped", "delta_xas")


def write_xdi(tree: xr.DataTree, target: Path) -> list[Path]:
    """Write `f<fluence>_t<delay>ps.xdi` for every measured spectrum; numbers are written so that they read back exactly."""
    written = []
    for one in measured(tree):
        fluence, delay = float(one["fluence"]), float(one["delay"])
        path = target / f"f{fluence:g}_t{delay:.4g}ps.xdi"
        path.write_text(_text(tree, one), encoding="utf-8")
        written.append(path)
    return written


def _text(tree: xr.DataTree, one: xr.Dataset) -> str:
    # without a reference beam there is no optical density, and XDI has no word for a number that is not there
    known = [n for n in COLUMNS if bool(np.isfinite(one[n]).any())]
    names = [n for name in known for n in (name, f"{name}_stderr")]
    table = np.column_stack([one["energy"].values, *(one[n].values for n in names)])
    complete = np.isfinite(table).all(axis=1)
    origin, sample = provenance(tree), sample_of(tree)
    fields = {
        "Column.1": "energy eV",
        **{f"Column.{i}": n for i, n in enumerate(names, start=2)},
        "Element.symbol": sample["element"],
        "Element.edge": sample["edge"],
        "Sample.name": sample["name"],
        "Sample.stoichiometry": sample["formula"],
        "Pump.fluence": f"{float(one['fluence'])!r} mJ/cm^2",
        "Pump.delay": f"{float(one['delay'])!r} ps",
        **{f"Trxas.{k}": v for k, v in origin.items() if k != "config"},
    }
    comments = [
        "od_*: optical density -ln(I/I_reference); delta_xas: pumped minus unpumped; *_stderr: standard error",
        *(f"{n} is not known" for n in COLUMNS if n not in known),
    ]
    if not complete.all():
        comments.append(f"{int((~complete).sum())} energies at which not all columns are known are left out")
    if sample["element"] is None or sample["edge"] is None:
        comments.append("element and edge are not known: give sample.element and sample.edge in the config")
    lines = [
        f"# XDI/1.0 trxas/{origin.get('code_version', '0')}",
        *(f"# {k}: {v}" for k, v in fields.items() if v is not None),
        "# ///",
        *(f"# {c}" for c in comments),
        "# ---",
        "# energy " + " ".join(names),
        *(" ".join(repr(float(v)) for v in row) for row in table[complete]),
    ]
    return "\n".join(lines) + "\n"
