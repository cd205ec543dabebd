"""The keys of a server that runs: read again when their file changes, also behind a symlink as Kubernetes swaps it."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from runners.engines.thread import begin_in_own_thread
from shokado.access.keys import KeyFileError, KeyRing, parse_keys, read_text

LOOK_EVERY_S = 1.0
"""How soon a change is seen: with `SETTLE_S`, keys change within two seconds."""
SETTLE_S = 0.25
"""What has changed is looked at again after so long, and counts when it is still the same: it may have been half of a
file that was being written."""
LOOK_TIMEOUT_S = 5.0
"""How long a look may take before it is said that the file cannot be read: a file system may hang."""

logger = logging.getLogger("bentoml.shokado")


class KeyWatch:
    """`ring` has the keys that hold now. Those of before hold on while the file cannot be used."""

    def __init__(self, path: Path, read: Callable[[Path], bytes] = read_text) -> None:
        """Raises `KeyFileError` when the file cannot be used, or has no key: nobody could ask for anything."""
        self.path = path
        self._read = read
        text = read(path)
        self.ring: KeyRing = parse_keys(path, text)
        self._seen: bytes | str = text
        """What the last look found: the file's text, or why there was none."""
        self._judged: bytes | str = text
        self._unusable: str | None = None
        self._unread: str | None = None
        if not self.ring.keys:
            raise KeyFileError(f"{path}: holds no key")

    @property
    def failure(self) -> str | None:
        """Why the file cannot be used."""
        return self._unread or self._unusable

    @property
    def settled(self) -> bool:
        """Whether the last look found nothing that waits to be found again."""
        return self._seen == self._judged

    def look(self) -> None:
        """Read the file, and take over what two looks in a row have found."""
        found: bytes | str
        try:
            found = self._read(self.path)
        except KeyFileError as error:
            found = str(error)
        again, self._seen = found == self._seen, found
        if again and not self.settled:
            self._judged = found
            self._take_over(found)

    def _take_over(self, found: bytes | str) -> None:
        try:
            if isinstance(found, str):
                raise KeyFileError(found)
            self.ring = parse_keys(self.path, found)
        except KeyFileError as error:
            self._unusable = str(error)
            logger.error("%s; the keys of before still hold", error)
        else:
            self._unusable = None
            logger.info("%s: %d keys hold now", self.path, len(self.ring.keys))

    async def run(self, timeout_s: float = LOOK_TIMEOUT_S) -> None:
        """Look every second, until cancelled."""
        while True:
            await self._look_beside(timeout_s)
            await asyncio.sleep(LOOK_EVERY_S if self.settled else SETTLE_S)

    async def _look_beside(self, timeout_s: float) -> None:
        """Look in a thread that nobody need wait for, not even the end of the process: a file system can hang."""
        looked = begin_in_own_thread(self.look)
        done, _ = await asyncio.wait((looked,), timeout=timeout_s)
        if not done:
            self._tell_unread(f"{self.path}: was not read within {timeout_s:g} s")
        try:
            await looked
        except Exception as error:
            self._tell_unread(f"{self.path}: cannot be read: {error!r}")
            return
        if self._unread is not None:
            self._unread = None
            logger.info("%s: is read again", self.path)

    def _tell_unread(self, failure: str) -> None:
        if failure != self._unread:
            logger.error("%s; the keys of before still hold", failure)
        self._unread = failure
