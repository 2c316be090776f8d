"""Calculated densities of states from text files: two columns (energy in eV, DOS) or any number of named columns.

# energy_eV  dos_total  dos_O2p          a header, in a comment or bare, names the columns
520.00  0.000  0.000                     space, tab, comma or semicolon; with a semicolon the decimal mark may be a comma
520.02  0.013  0.002  ! remark           #, % and ! start a comment
"""

import re
from os import PathLike
from pathlib import Path

import numpy as np
import xarray as xr

from pipeline.errors import ConfigError, DataError
from schemas.datasets.model_curves import DOS, DOS_ENERGY

__all__ = ["read_dos"]

_COMMENT = re.compile(r"[#%!]")
_FORTRAN = re.compile(r"(?<=[\d.])[dD](?=[+-]?\d)")
_ENERGY_NAMES = {"e", "ev", "energy", "energies", "photon_energy"}


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
    names, rows = _parse(file)
    lines, data = np.array(list(rows)), np.array(list(rows.values()))
    energy_at = _energy_column(names)
    value_at = _value_column(file, names, data.shape[1], energy_at, column)
    if data[0, energy_at] > data[-1, energy_at]:
        lines, data = lines[::-1], data[::-1]
    energy, values = data[:, energy_at].copy(), data[:, value_at].copy()
    wrong = np.flatnonzero(np.diff(energy) <= 0)
    if len(wrong):
        at = wrong[0] + 1
        raise DataError(
            f"{file}, line {lines[at]}: energy {energy[at]:g} eV does not continue the order of the file; "
            "expected every energy once, rising or falling"
        )
    coord = ("energy", energy + energy_zero, DOS_ENERGY.attrs)
    name = names[value_at] if names else "dos"
    attrs = DOS.attrs | {"column": name, "source": file.name}
    return xr.DataArray(values, dims="energy", coords={"energy": coord}, attrs=attrs, name=name)


def _parse(file: Path) -> tuple[list[str] | None, dict[int, list[float]]]:
    """Return the names of the columns, if the file has any, and the rows of numbers by line."""
    rows: dict[int, list[float]] = {}
    names: list[str] | None = None
    remark: list[str] = []
    for number, raw in enumerate(_text(file).splitlines(), start=1):
        content, *comment = _COMMENT.split(raw, maxsplit=1)
        fields = _fields(content)
        if not fields:
            if comment and not rows:
                remark = _fields(comment[0]) or remark
        elif not rows and names is None and not any(map(_is_number, fields)):
            names = fields
        else:
            rows[number] = _numbers(file, number, fields, len(next(iter(rows.values()))) if rows else None)
    if len(rows) < 2:
        raise DataError(f"{file}: {len(rows)} rows of numbers; expected at least two rows of energy_eV and dos")
    line, width = next((line, len(row)) for line, row in rows.items())
    if names is None and len(remark) == width and not any(map(_is_number, remark)):
        names = remark
    if names is not None and len(names) != width:
        raise DataError(
            f"{file}, line {line}: {width} numbers under a header of {len(names)} names ({', '.join(names)}); "
            "expected one name per column"
        )
    return names, rows


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(
            f"{file}: cannot read the DOS file ({error.strerror}); expected a text file with columns energy_eV and dos"
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"{file}: byte {error.start} is not text; expected a UTF-8 text file with columns energy_eV and dos"
        ) from error


def _fields(text: str) -> list[str]:
    separator = ";" if ";" in text else "," if "," in text else None
    parts = [part.strip().strip("\"'") for part in text.split(separator)]
    if separator is not None and parts and not parts[-1]:
        # a separator at the end of a line makes no column
        parts.pop()
    return [part.replace(",", ".") for part in parts] if separator == ";" else parts


def _is_number(field: str) -> bool:
    try:
        float(_FORTRAN.sub("e", field))
    except ValueError:
        return False
    return True


def _numbers(file: Path, line: int, fields: list[str], width: int | None) -> list[float]:
    if len(fields) < 2 or (width is not None and len(fields) != width):
        expected = "energy_eV and dos" if width is None else f"{width} as in the rows above"
        raise DataError(f"{file}, line {line}: {len(fields)} values ({' '.join(fields)}); expected {expected}")
    values = [float(_FORTRAN.sub("e", field)) if _is_number(field) else np.nan for field in fields]
    for place, value in enumerate(values):
        if not np.isfinite(value):
            raise DataError(
                f"{file}, line {line}: column {place + 1} holds {fields[place]!r}; expected a finite number"
            )
    return values


def _energy_column(names: list[str] | None) -> int:
    """The column called energy (with or without a unit), else the first."""
    for place, name in enumerate(names or []):
        if {re.sub(r"[\s_\[(]*ev[\])]*$", "", name.lower()), name.lower()} & _ENERGY_NAMES:
            return place
    return 0


def _value_column(file: Path, names: list[str] | None, width: int, energy_at: int, column: str | None) -> int:
    others = [place for place in range(width) if place != energy_at]
    if column is None and len(others) == 1:
        return others[0]
    there = ", ".join(names[place] for place in others) if names else ""
    if column is None:
        known = there or f"{len(others)} without names: add a header line"
        raise ConfigError(
            f"{file}: several DOS columns ({known}); name the one to use, e.g. dos_ground: {{file: {file.name}, column: NAME}}"
        )
    if names is None:
        raise ConfigError(
            f"{file}: no header names the columns, so {column!r} cannot be found; add a line such as '# energy_eV {column}'"
        )
    if column not in (names[place] for place in others):
        raise ConfigError(f"{file}: no DOS column {column!r}; there are {there}")
    return names.index(column)
