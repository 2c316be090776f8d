"""Current state of a raw folder: which files exist, and which of them cannot be opened."""

from __future__ import annotations

import errno
from fnmatch import fnmatch
from pathlib import Path

from pipeline.errors import DataError
from pipeline.euxfel.run_files import open_files, run_folder, run_numbers

__all__ = ["files_of", "has_marker", "list_runs", "unreadable"]

Files = dict[str, tuple[int, int]]
"""Size [bytes] and modification time [ns] by name."""

MAP = "karabo_data_map"
"""What extra-data writes into the folder of a run that somebody opens: no part of the run."""


def list_runs(folder: Path) -> dict[int, Files]:
    """Return the files of every run in a raw folder; nothing is opened."""
    return {number: files_of(run_folder(folder, number)) for number in run_numbers(folder)}


def files_of(folder: Path) -> Files:
    """Return size and modification time of the files of one run: also of those that are not EXDF, such as half copies."""
    found: Files = {}
    for path in folder.iterdir():
        if MAP in path.name:
            continue
        try:
            stat = path.stat()
        except OSError as error:
            # renamed by a copying program at this moment, which the next look sees, or a link to itself
            if error.errno in (errno.ENOENT, errno.ELOOP):
                continue
            raise
        if path.is_file():
            found[path.name] = (stat.st_size, stat.st_mtime_ns)
    return dict(sorted(found.items()))


def has_marker(files: Files, pattern: str) -> bool:
    """Return whether a run holds the facility's marker file for closed runs."""
    return any(fnmatch(name, pattern) for name in files)


def unreadable(folder: Path) -> list[str]:
    """Return one line per file of a run that cannot be opened as EXDF."""
    try:
        files = open_files(folder)
    except DataError as error:
        return [str(error)]
    for file in files.files:
        file.close()
    return [f"run {files.run}: {problem}" for problem in files.problems]
