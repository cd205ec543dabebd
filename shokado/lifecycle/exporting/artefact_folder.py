"""Where exported artefacts lie: a folder of this machine, or an address of an object store, as fsspec knows them.

    <address>/<model>/<version>/  card.json, model files, .., and at last SHA256SUMS, which `sha256sum --check` reads

What has no SHA256SUMS is not whole: it is being written, or whoever wrote it was killed. Everything raises
`ExportFailed`, whose words repeat no credentials.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from runners.artefacts.background import BACKGROUND_FILE
from runners.artefacts.card import CARD_FILE, FileKind
from runners.artefacts.reference import REFERENCE_FILE
from shokado.lifecycle.errors import ExportFailed
from shokado.request_log.sinks.object_store import INSTALL, PackageMissing, check_address

SUMS = "SHA256SUMS"
FILES = frozenset((CARD_FILE, REFERENCE_FILE, BACKGROUND_FILE, *(kind.file_name for kind in FileKind)))
"""All that an artefact may have: nothing else gets into a store."""
_LINE = re.compile(r"(?P<sum>[0-9a-f]{64})  (?P<name>[A-Za-z0-9._-]+)")
_CHUNK = 1 << 20
_OF_KEYS = frozenset(("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory"))
"""Schemes of stores that have keys and no folders: what makes folders would make a bucket."""


class ArtefactFolder:
    """One folder, by its address. For one thread."""

    def __init__(self, address: str) -> None:
        with _plainly(address):
            import fsspec

            if "://" in address:
                check_address(address)
            self._file_system, path = fsspec.core.url_to_fs(address, use_listings_cache=False)
            self._path = path.rstrip("/")
            self._has_keys = address.partition("://")[0] in _OF_KEYS
        self.address = address.rstrip("/")

    def sums(self) -> dict[str, str]:
        """The digest of each file; empty where there is nothing that is whole."""
        with _plainly(self.address):
            self._file_system.invalidate_cache()
            if not self._file_system.exists(self._of(SUMS)):
                return {}
            text = self._file_system.cat_file(self._of(SUMS)).decode("utf-8", "replace")
        found = [_LINE.fullmatch(line) for line in text.splitlines()]
        if not found or not all(found):
            raise ExportFailed(f"{self.address}/{SUMS} is no list of digests.")
        return {line["name"]: line["sum"] for line in found if line is not None}

    def put(self, folder: Path, sums: Mapping[str, str]) -> None:
        """Write the files of a folder with these digests, and at last the list of them; then read all of it again."""
        with _plainly(self.address):
            if not self._has_keys:
                self._file_system.makedirs(self._path, exist_ok=True)
            # Until the new list is there, nobody takes what is half of one and half of the other.
            if self._file_system.exists(self._of(SUMS)):
                self._file_system.rm_file(self._of(SUMS))
            for name in sums:
                self._file_system.put_file(str(folder / name), self._of(name))
            lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
            self._file_system.pipe_file(self._of(SUMS), lines.encode())
        self.check(sums)

    def check(self, sums: Mapping[str, str]) -> None:
        """Read all files, and hold them to their digests."""
        for name, digest in sums.items():
            with _plainly(self.address), self._file_system.open(self._of(name), "rb") as file:
                found = _digest(file)
            if found != digest:
                raise ExportFailed(f"{self.address}/{name} is not what was written: its SHA-256 is {found}.")

    def fetch(self, folder: Path) -> dict[str, str]:
        """Copy all files into a folder, hold them to their digests, and give those."""
        sums = self.sums()
        if not sums:
            raise ExportFailed(
                f"{self.address} has no whole artefact: there is no {SUMS}. It is the folder of one version, such as "
                "var/export/customers/v2."
            )
        if strange := set(sums) - FILES:
            raise ExportFailed(f"{self.address} has files that no artefact has: {', '.join(sorted(strange))}.")
        for name, digest in sums.items():
            with _plainly(self.address):
                self._file_system.get_file(self._of(name), str(folder / name))
            with (folder / name).open("rb") as file:
                if (found := _digest(file)) != digest:
                    raise ExportFailed(f"{self.address}/{name} is damaged: its SHA-256 is {found}, not {digest}.")
        return sums

    def _of(self, name: str) -> str:
        return f"{self._path}/{name}"


def digest_of_file(path: Path) -> str:
    with path.open("rb") as file:
        return _digest(file)


def _digest(file: Any) -> str:
    digest = hashlib.sha256()
    while chunk := file.read(_CHUNK):
        digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def _plainly(address: str) -> Iterator[None]:
    """Raise `ExportFailed` for what the package of any store raises."""
    try:
        yield
    except ExportFailed:
        raise
    except PackageMissing as error:
        raise ExportFailed(f"{error}.", INSTALL if INSTALL in str(error) else None) from None
    except Exception as error:  # each store's package has some of its own
        words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise ExportFailed(f"{address} cannot be used: {words}") from None
