"""The journal of a watch: what became of each version, in one file that is replaced as a whole.

In: a path. Out: an entry for each version that was seen, by its exact address. Whoever is killed while it is written
leaves the one before; one process at a time has it.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from shokado.lifecycle.errors import WatchRefused


class WatchStage(StrEnum):
    """How far a version is."""

    SEEN = "seen"
    TRIED = "tried"
    """It is active in staging, with a smoke test that went well."""
    BEGUN = "begun"
    """It is, or is about to be, a candidate in production."""
    TAKEN = "taken"
    """It was active in production."""
    REFUSED = "refused"

    @property
    def is_settled(self) -> bool:
        return self in (WatchStage.TAKEN, WatchStage.REFUSED)


class WatchEntry(BaseModel):
    """What is known of a version."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stage: WatchStage = WatchStage.SEEN
    attempts: int = 0
    """How often a server refused to load it."""
    version: str = ""
    """Its name in production, from `begun` on."""
    generation: int = 0
    """Production's generation before it became a candidate there."""
    why: str = ""


class _Content(BaseModel):
    model_config = ConfigDict(extra="forbid")

    format: int = 1
    versions: dict[str, WatchEntry] = {}


class WatchJournal:
    """The entries, and the file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._content = self._read()

    def of(self, uri: str) -> WatchEntry | None:
        return self._content.versions.get(uri)

    def under_way(self) -> list[str]:
        """The addresses of all that are not settled, the first one first."""
        return [uri for uri, entry in self._content.versions.items() if not entry.stage.is_settled]

    def set(self, uri: str, entry: WatchEntry) -> None:
        """Note it, so that it is known after whatever happens next. Raises `WatchRefused`."""
        self._content.versions[uri] = entry
        beside = self._path.with_name(f"{self._path.name}.new")
        try:
            with beside.open("w", encoding="utf-8") as file:
                file.write(self._content.model_dump_json(indent=2) + "\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self._path)
        except OSError as error:
            raise WatchRefused(f"The journal {self._path} cannot be written: {error}.") from error

    def _read(self) -> _Content:
        try:
            return _Content.model_validate(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return _Content()
        except (OSError, ValueError, ValidationError) as error:
            reason = str(error).splitlines()[0]
            raise WatchRefused(
                f"{self._path} is no journal of a watch: {reason}", f"mv {self._path} elsewhere"
            ) from error


@contextmanager
def opened_journal(path: Path) -> Iterator[WatchJournal]:
    """The journal, for this process alone. Raises `WatchRefused`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_name(f"{path.name}.lock").open("w")
    except OSError as error:
        raise WatchRefused(f"The journal {path} cannot be used: {error}.") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise WatchRefused(f"Another watch has the journal {path}.", "name another: --journal FILE") from None
        yield WatchJournal(path)
