"""Locations: folders of this machine and addresses of fsspec, in which a batch reads tables and writes parts.

What is written is there as a whole or not at all: on this machine under another name first, in an object store by one
put, which such stores make whole or not at all.
"""

import contextlib
import os
import posixpath
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from configuration.credentials import without_credentials
from configuration.file_lock import lock
from shokado.lifecycle.errors import BatchRefused
from shokado.request_log.sinks.object_store import PackageMissing, check_address

HIDDEN = (".", "_")
"""How names begin that readers of tables, such as Spark's and Arrow's, leave alone."""
_TEMPORARY = ".tmp"
_MARKS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated")
"""What packages of several stores call that by which a changed file is told."""


class Location:
    """A file or folder at an address. Cheap to make; for one thread."""

    def __init__(self, address: str) -> None:
        """Raises `BatchRefused` for an address whose package is not installed."""
        import fsspec

        scheme = address.partition("://")[0] if "://" in address else "file"
        try:
            check_address(f"{scheme}://")
        except PackageMissing as error:
            raise BatchRefused(f"{without_credentials(address)}: {error}.") from None
        try:
            self._file_system, path = fsspec.core.url_to_fs(address, use_listings_cache=False)
        except (ImportError, ValueError, OSError) as error:
            raise BatchRefused(f"{without_credentials(address)} cannot be used: {error}.") from None
        self.path = path.rstrip("/") or "/"
        self.name = without_credentials(address)
        self.is_local = scheme in ("file", "local")
        self.address = self.path if self.is_local else address
        """What names the same place to a process elsewhere."""

    def is_below(self, other: "Location") -> bool:
        """Whether it is the same, or lies within the other one."""
        same_store = type(self._file_system) is type(other._file_system)
        return same_store and (self.path == other.path or self.path.startswith(f"{other.path.rstrip('/')}/"))

    def at(self, *names: str) -> str:
        """The path of something below."""
        return posixpath.join(self.path, *names)

    def files(self) -> list[str]:
        """The paths of all files below, or its own where it is one, in order. Raises `BatchRefused`."""
        with self._plainly():
            self._file_system.invalidate_cache()
            if self._file_system.isfile(self.path):
                return [self.path]
            return sorted(self._file_system.find(self.path))

    def names(self, *folder: str) -> set[str]:
        """The names of what lies directly in a folder below; empty where there is none. Raises `BatchRefused`."""
        with self._plainly():
            self._file_system.invalidate_cache()
            try:
                entries = self._file_system.ls(self.at(*folder), detail=False)
            except FileNotFoundError:
                return set()
            return {posixpath.basename(entry.rstrip("/")) for entry in entries}

    def size_and_mark(self, path: str) -> tuple[int, str]:
        """How large a file is, and what tells it from what it was before a change. Raises `BatchRefused`."""
        with self._plainly():
            try:
                found = self._file_system.info(path)
            except FileNotFoundError:
                raise self._gone(path) from None
        mark = next((str(found[name]) for name in _MARKS if found.get(name) is not None), "")
        return int(found["size"] or 0), mark

    def open(self, path: str) -> IO[bytes]:
        """A file to read. Raises `BatchRefused`."""
        with self._plainly():
            try:
                found: IO[bytes] = self._file_system.open(path, "rb")
            except FileNotFoundError:
                raise self._gone(path) from None
        return found

    def read(self, path: str) -> bytes:
        """The bytes of a file. Raises `BatchRefused`, and `FileNotFoundError` where there is none."""
        with self._plainly():
            found: bytes = self._file_system.cat_file(path)
            return found

    @contextmanager
    def writing(self, path: str) -> Iterator[Path]:
        """A file of this machine to write, which is what is at the path once the block has ended well.

        Raises `BatchRefused` where that cannot be written to, and what the block raises.
        """
        folder = Path(posixpath.dirname(path)) if self.is_local else Path(tempfile.gettempdir())
        # Hidden, so that no reader of the folder takes it for a part.
        temporary = folder / f".{posixpath.basename(path)}-{secrets.token_hex(4)}{_TEMPORARY}"
        try:
            with self._plainly():
                folder.mkdir(parents=True, exist_ok=True)
            yield temporary
            with self._plainly():
                if self.is_local:
                    with temporary.open("rb") as file:
                        os.fsync(file.fileno())
                    temporary.replace(path)
                else:
                    self._file_system.put_file(str(temporary), path)
        finally:
            temporary.unlink(missing_ok=True)

    def write(self, path: str, content: bytes) -> None:
        """Put that there. Raises `BatchRefused`."""
        with self.writing(path) as temporary, self._plainly():
            temporary.write_bytes(content)

    def remove(self, path: str) -> None:
        """Remove a file, if it is there. Raises `BatchRefused`."""
        with self._plainly(), contextlib.suppress(FileNotFoundError):
            self._file_system.rm_file(path)

    def remove_left_overs(self, *folder: str) -> None:
        """Remove what killed processes were writing in a folder below."""
        if self.is_local:
            for left_over in Path(self.at(*folder)).glob(f".*{_TEMPORARY}"):
                left_over.unlink(missing_ok=True)

    @contextmanager
    def locked(self, name: str, told: str) -> Iterator[None]:
        """Hold a lock that lasts as long as its process, on this machine; raise `BatchRefused(told)` where another one
        has it. In an object store there is none: two runs of one plan write the same parts.
        """
        if not self.is_local:
            yield
            return
        with ExitStack() as held:
            with self._plainly():
                Path(self.at(name)).parent.mkdir(parents=True, exist_ok=True)
                file = held.enter_context(Path(self.at(name)).open("wb"))
            if not lock(file):
                raise BatchRefused(told)
            yield

    def _gone(self, path: str) -> BatchRefused:
        return BatchRefused(f"{self.name}: {relative(path, self.path)} has gone.")

    @contextmanager
    def _plainly(self) -> Iterator[None]:
        """Raise `BatchRefused` for what packages of any store raise; a file that is not there stays what it is."""
        try:
            yield
        except (BatchRefused, FileNotFoundError):
            raise
        except Exception as error:
            words = " ".join(without_credentials(f"{type(error).__name__}: {error}").split())[:300]
            raise BatchRefused(f"{self.name}: {words}") from error


def relative(path: str, folder: str) -> str:
    """The path as it is below a folder; of the folder itself, which is a file then, its name."""
    return posixpath.basename(path) if path == folder else posixpath.relpath(path, folder)
