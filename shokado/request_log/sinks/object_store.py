"""An address of fsspec: segments are put there as they are, under their own names, and read from there again.

`s3://`, `gs://` and `az://` need a package each (`make sinks`), which take their credentials from where they always do:
the environment, the machine's role, files of the user. Nothing of that is a setting here.
"""

import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from math import inf
from pathlib import Path
from typing import IO, Any

from configuration.credentials import without_credentials
from shokado.request_log.segments import SUFFIX, Segment
from shokado.request_log.sinks.sink import FailureReason, SinkFailure, Step

INSTALL = "make sinks"
_WHOLE = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"))
"""Where a file is there when all of it is; elsewhere, what is half written has another name."""
_PART = ".part"
_MESSAGE_CHARACTERS = 300


class PackageMissing(Exception):
    """An address cannot be used here; the message names the package that it needs."""


def check_address(url: str) -> None:
    """Raise `PackageMissing` where fsspec does not know the address's scheme, or the package is not installed.

    Nothing of it is imported.
    """
    from fsspec.registry import known_implementations, registry

    scheme = url.partition("://")[0]
    if scheme in registry:
        return
    if scheme not in known_implementations:
        known = "s3, gs, az, file"
        raise PackageMissing(f"{scheme}:// is none of the addresses that fsspec knows, such as those of {known}")
    package = str(known_implementations[scheme]["class"]).partition(".")[0]
    if importlib.util.find_spec(package) is None:
        raise PackageMissing(f"{scheme}:// needs the package {package}, which is not installed: {INSTALL}")


@dataclass(frozen=True, slots=True)
class StoredSegment(Segment):
    """A segment in an object store."""

    file_system: Any = None

    def open(self) -> IO[bytes]:
        found: IO[bytes] = self.file_system.open(str(self.path), "rb")
        return found


class ObjectStore:
    """The folder that an address names. For one thread."""

    def __init__(self, url: str) -> None:
        """Raises `PackageMissing`, and what the package raises."""
        import fsspec

        check_address(url)
        self._file_system, self._folder = fsspec.core.url_to_fs(url, use_listings_cache=False)
        self._scheme = url.partition("://")[0]
        self.name = without_credentials(url)

    def steps(self, segment: Segment) -> Iterator[Step]:
        yield partial(self._put, segment)

    def segments(self) -> list[Segment]:
        """The segments that are there, in the order in which they were begun. Raises `SinkFailure`."""
        try:
            self._file_system.invalidate_cache()
            entries = self._file_system.ls(self._folder, detail=True)
        except FileNotFoundError:
            return []
        except Exception as error:
            raise _failure(error) from None
        found = [
            StoredSegment(Path(entry["name"]), entry["size"], False, _written_at(entry), self._file_system)
            for entry in entries
            if entry["type"] == "file" and entry["name"].endswith(SUFFIX)
        ]
        return sorted(found, key=lambda segment: segment.path.name)

    def _put(self, segment: Segment) -> None:
        target = f"{self._folder.rstrip('/')}/{segment.path.name}"
        try:
            if self._scheme in _WHOLE:
                self._file_system.put_file(str(segment.path), target)
            else:
                self._file_system.makedirs(self._folder, exist_ok=True)
                self._file_system.put_file(str(segment.path), target + _PART)
                self._file_system.mv(target + _PART, target)
        except Exception as error:
            if not segment.path.exists():
                # The limits have removed it meanwhile.
                raise FileNotFoundError(segment.path) from None
            raise _failure(error) from None


def _written_at(entry: Mapping[str, Any]) -> float:
    """When a file was put there, in Unix seconds, as the packages of several stores say it; infinite if none does."""
    said = next((entry[key] for key in ("LastModified", "updated", "last_modified", "mtime") if key in entry), inf)
    if isinstance(said, str):
        said = datetime.fromisoformat(said)
    return said.timestamp() if isinstance(said, datetime) else float(said)


def _failure(error: Exception) -> SinkFailure:
    """What a package of any store raises, in our words."""
    words = " ".join(without_credentials(f"{type(error).__name__}: {error}").split())[:_MESSAGE_CHARACTERS]
    if isinstance(error, PermissionError) or "Credentials" in type(error).__name__:
        return SinkFailure(FailureReason.DENIED, words)
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return SinkFailure(FailureReason.TIMEOUT, words)
    if isinstance(error, ConnectionError) or "Connection" in type(error).__name__:
        return SinkFailure(FailureReason.UNREACHABLE, words)
    return SinkFailure(FailureReason.REFUSED, words)
