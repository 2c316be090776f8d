"""Locations of products: a folder of the file system, or a URL that fsspec understands (s3://bucket/prefix, memory://…).

A local place is a `pathlib.Path`; a remote one has the few methods of it that readers and publishers need.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec

from pipeline.errors import ConfigError, ProductError

__all__ = ["Place", "Remote", "place"]

_EXTRAS = {"s3": "s3", "s3a": "s3"}
"""Protocols that need an optional part of trxas."""
_LOCAL = ("file", "local")


@dataclass(frozen=True)
class Remote:
    """A folder or an object behind a URL; nothing is cached, so that what others write is seen."""

    url: str

    def __truediv__(self, name: str) -> Remote:
        return Remote(f"{self.url.rstrip('/')}/{name}")

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """Last part of the URL."""
        return self.url.rstrip("/").rpartition("/")[2]

    @property
    def parent(self) -> Remote:
        """What holds this."""
        return Remote(self.url.rstrip("/").rpartition("/")[0])

    def is_file(self) -> bool:
        """Return whether there is an object of this name."""
        with self._reached() as (fs, path):
            try:
                return bool(fs.info(path, refresh=True)["type"] == "file")
            except FileNotFoundError:
                return False

    def is_dir(self) -> bool:
        """Return whether there is anything below this."""
        return any(self.iterdir())

    def exists(self) -> bool:
        """Return whether there is anything."""
        return self.is_file() or self.is_dir()

    def iterdir(self) -> Iterator[Remote]:
        """Yield what is directly below this, sorted by name; nothing where there is nothing."""
        with self._reached() as (fs, path):
            try:
                found = fs.ls(path, detail=False, refresh=True)
            except (FileNotFoundError, NotADirectoryError):
                found = []
        names = {str(p).rstrip("/").rpartition("/")[2] for p in found if str(p).rstrip("/") != path.rstrip("/")}
        yield from (self / name for name in sorted(names - {""}))

    def read_bytes(self) -> bytes:
        """Return the content of an object."""
        with self._reached() as (fs, path):
            return bytes(fs.cat_file(path))

    def read_text(self, encoding: str = "utf-8") -> str:
        """Return the content of an object as text."""
        return self.read_bytes().decode(encoding)

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the content of objects below this by name, many at a time; those that are not there are left out."""
        with self._reached() as (fs, path):
            wanted = {f"{path.rstrip('/')}/{name}": name for name in names}
            found = fs.cat(list(wanted), on_error="omit") if wanted else {}
        return {wanted[str(path)]: bytes(content) for path, content in found.items()}

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        """Write an object in one request: a reader sees either the old or the new content."""
        with self._reached() as (fs, path):
            fs.pipe_file(path, text.encode(encoding))

    def check_writable(self) -> None:
        """Write and remove a small object, so that a wrong bucket or a missing permission is reported before hours of work."""
        probe = self / f"writable-{secrets.token_hex(8)}"
        try:
            probe.write_text("")
        except FileNotFoundError:
            raise ConfigError(f"{self}: there is no such bucket or container") from None
        probe.remove()

    def upload(self, files: Mapping[str, Path]) -> None:
        """Upload local files under the given names, many at a time, in no order."""
        with self._reached() as (fs, path):
            fs.put([str(p) for p in files.values()], [f"{path.rstrip('/')}/{name}" for name in files])

    def remove(self) -> None:
        """Remove an object, or everything below this; does nothing if there is none."""
        with self._reached() as (fs, path):
            try:
                fs.rm(path, recursive=True)
            except FileNotFoundError:
                return

    @contextmanager
    def _reached(self) -> Iterator[tuple[Any, str]]:
        """Yield file system and path; a failure becomes one line that names the URL and the remedy."""
        try:
            fs, path = fsspec.core.url_to_fs(self.url, use_listings_cache=False)
        except ImportError as error:
            protocol = self.url.partition("://")[0]
            extra = _EXTRAS.get(protocol)
            way = f"pip install 'trxas[{extra}]'" if extra else str(error).splitlines()[0]
            raise ConfigError(f"{self.url}: {protocol}:// needs a package that is not installed: {way}") from None
        except ValueError as error:
            raise ConfigError(f"{self.url}: {str(error).splitlines()[0]}") from None
        try:
            yield fs, path
        except FileNotFoundError:
            raise FileNotFoundError(f"{self.url}: not there") from None
        except Exception as error:
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise ProductError(
                f"{self.url}: cannot be reached ({text}); check the address, AWS_ENDPOINT_URL and the credentials"
            ) from None


Place = Path | Remote
"""A folder or file, local or remote."""


def place(where: Place | str) -> Place:
    """Return the place that a path or URL names; file:// URLs and plain paths are local."""
    if not isinstance(where, str):
        return where
    protocol, separator, rest = where.partition("://")
    if not separator:
        return Path(where)
    return Path(rest) if protocol in _LOCAL else Remote(where.rstrip("/"))
