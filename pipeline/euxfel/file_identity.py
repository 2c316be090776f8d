"""Which file it is that was opened: another one may get its name while a run is processed."""

from __future__ import annotations

import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import DataError

__all__ = ["FileIdentity"]


@dataclass(frozen=True)
class FileIdentity:
    """What tells a file from another one of its name, or from itself before it was written to."""

    host: str
    device: int
    inode: int
    size: int
    mtime_ns: int

    @classmethod
    def of(cls, file: Path | int) -> FileIdentity:
        """Return the identity of the file of a name, or of an open file.

        Raises
        ------
        DataError
            If there is no such file, or it is a folder or a pipe, of which opening may never return; names it.
        """
        name = file.name if isinstance(file, Path) else f"file {file}"
        try:
            found = file.stat() if isinstance(file, Path) else os.fstat(file)
        except OSError as error:
            raise DataError(f"{name}: {error.strerror or error}") from error
        if not stat.S_ISREG(found.st_mode):
            raise DataError(f"{name}: is no file but a {_KIND.get(stat.S_IFMT(found.st_mode), 'device')}")
        return cls(socket.gethostname(), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    def require(self, name: str, now: FileIdentity) -> None:
        """Raise DataError if the file is not the same now."""
        # hosts of a cluster number the devices that they share as they like
        if self._told(now.host) != now._told(self.host):
            raise DataError(f"{name} changed while it was processed; process again when nothing writes to the run")

    def _told(self, other_host: str) -> tuple[int, ...]:
        device = (self.device,) if self.host == other_host else ()
        return (*device, self.inode, self.size, self.mtime_ns)


_KIND = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFSOCK: "socket"}
