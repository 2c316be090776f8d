"""Calculated densities of states from text files: two columns (energy in eV, DOS) or any number of named columns.

# energy_eV  dos_total  dos_O2p          a header, in a comment or bare, names the columns
520.00  0.000  0.000                     space, tab, comma or semicolon; with a semicolon the decimal mark may be a comma
520.02  0.013  0.002  ! remark           #, % and ! start a comment
"""

import re
from os import PathLike
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from pipeline.errors import ConfigError, DataError
from schemas.datasets.model_curves import DOS, DOS_ENERGY

__all__ = ["read_dos"]

_COMMENT = re.compile(r"[#%!]")
_FORTRAN = re.compile(r"(?<=[\d.])[dD](?=[+-]?\d)")
_ENERGY_NAMES = {"e", "ev", "energy", "energies", "photon_energy"}


class _Table(NamedTuple):
    names: list[str] | None
    rows: list[list[float]]
    lines: list[int]


def read_dos(path: str | PathLike[str], column: str | None = None, *, energy_zero: float = 0.0) -> xr.DataArray:
    """Read one DOS.

    Parameters
    ----------
    path
        Text file, UTF-8.
    column
        Name of the DOS column in the header; may be left out if there is only one.
    energy_zero
        Photon energy [eV] at which the energies of the file are zero.

    Returns
    -------
    xr.DataArray
        dim energy [eV], increasing; the DOS in the unit of the file, taken as 1/eV.

    Raises
    ------
    DataError
        The file is missing or malformed; names file, line and what was expected.
    ConfigError
        `column` is not in the file, or is needed because there are several.
    """
    file = Path(path)
    table = _parse(file)
    width = len(table.rows[0])
    energy_at = _energy_column(table.names)
    value_at = _value_column(file, table.names, width, energy_at, column)
    data = np.array(table.rows)
    energy, values = data[:, energy_at], data[:, value_at]
    lines = np.array(table.lines)
    if energy[0] > energy[-1]:
        energy, values, lines = energy[::-1], values[::-1], lines[::-1]
    wrong = np.flatnonzero(np.diff(energy) <= 0)
    if len(wrong):
        line, value = lines[wrong[0] + 1], energy[wrong[0] + 1]
        msg = f"{file}, line {line}: energy {value:g} eV does not continue the order of the file; expected every energy once, rising or falling"
        raise DataError(msg)
    name = table.names[value_at] if table.names else "dos"
    coord = ("energy", np.ascontiguousarray(energy) + energy_zero, DOS_ENERGY.attrs)
    attrs = DOS.attrs | {"column": name, "source": file.name}
    return xr.DataArray(np.ascontiguousarray(values), dims="energy", coords={"energy": coord}, attrs=attrs, name=name)


def _parse(file: Path) -> _Table:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        msg = (
            f"{file}: cannot read the DOS file ({error.strerror}); expected a text file with columns energy_eV and dos"
        )
        raise DataError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"{file}: byte {error.start} is not text; expected a UTF-8 text file with columns energy_eV and dos"
        raise DataError(msg) from error
    rows: list[list[float]] = []
    lines: list[int] = []
    names: list[str] | None = None
    remark: list[str] | None = None
    for number, raw in enumerate(text.splitlines(), start=1):
        content, *comment = _COMMENT.split(raw, maxsplit=1)
        fields = _fields(content)
        if not fields:
            if comment and not rows:
                remark = _fields(comment[0]) or remark
            continue
        if not rows and names is None and not any(_is_number(field) for field in fields):
            names = fields
            continue
        rows.append(_numbers(file, number, fields, len(rows[0]) if rows else None))
        lines.append(number)
    if len(rows) < 2:
        msg = f"{file}: {len(rows)} rows of numbers; expected at least two rows of energy_eV and dos"
        raise DataError(msg)
    if (
        names is None
        and remark is not None
        and len(remark) == len(rows[0])
        and not any(_is_number(field) for field in remark)
    ):
        names = remark
    if names is not None and len(names) != len(rows[0]):
        msg = f"{file}, line {lines[0]}: {len(rows[0])} numbers under a header of {len(names)} names ({', '.join(names)}); expected one name per column"
        raise DataError(msg)
    return _Table(names, rows, lines)


def _fields(text: str) -> list[str]:
    if ";" in text:
        parts = [part.strip().strip("\"'") for part in text.split(";")]
        return [part.replace(",", ".") for part in _without_last_empty(parts)]
    if "," in text:
        return _without_last_empty([part.strip().strip("\"'") for part in text.split(",")])
    return [part.strip("\"'") for part in text.split()]


def _without_last_empty(parts: list[str]) -> list[str]:
    """A separator at the end of a line makes no column."""
    return parts[:-1] if parts and not parts[-1] else parts


def _is_number(field: str) -> bool:
    try:
        float(_FORTRAN.sub("e", field))
    except ValueError:
        return False
    return True


def _numbers(file: Path, line: int, fields: list[str], width: int | None) -> list[float]:
    if len(fields) < 2 or (width is not None and len(fields) != width):
        expected = "energy_eV and dos" if width is None else f"{width} as in the rows above"
        msg = f"{file}, line {line}: {len(fields)} values ({' '.join(fields)}); expected {expected}"
        raise DataError(msg)
    values = []
    for place, field in enumerate(fields, start=1):
        value = float(_FORTRAN.sub("e", field)) if _is_number(field) else float("nan")
        if not np.isfinite(value):
            msg = f"{file}, line {line}: column {place} holds {field!r}; expected a finite number"
            raise DataError(msg)
        values.append(value)
    return values


def _energy_column(names: list[str] | None) -> int:
    """The column called energy (with or without a unit), else the first."""
    for place, name in enumerate(names or []):
        if re.sub(r"[\s_\[(]*ev[\])]*$", "", name.lower()) in _ENERGY_NAMES or name.lower() in _ENERGY_NAMES:
            return place
    return 0


def _value_column(file: Path, names: list[str] | None, width: int, energy_at: int, column: str | None) -> int:
    others = [place for place in range(width) if place != energy_at]
    if column is None:
        if len(others) == 1:
            return others[0]
        known = (
            ", ".join(names[place] for place in others) if names else f"{len(others)} without names: add a header line"
        )
        msg = f"{file}: several DOS columns ({known}); name the one to use, e.g. dos_ground: {{file: {file.name}, column: NAME}}"
        raise ConfigError(msg)
    if names is None:
        msg = f"{file}: no header names the columns, so {column!r} cannot be found; add a line such as '# energy_eV {column}'"
        raise ConfigError(msg)
    if column not in (names[place] for place in others):
        msg = f"{file}: no DOS column {column!r}; there are {', '.join(names[place] for place in others)}"
        raise ConfigError(msg)
    return names.index(column)
