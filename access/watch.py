"""The keys of a server that runs: read again when their file changes, also behind a symlink as Kubernetes swaps it."""

import asyncio
import logging
from pathlib import Path

from access.keys import KeyFileError, KeyRing, read_keys

LOOK_EVERY_S = 1.0

logger = logging.getLogger("bentoml.shokado")


class KeyWatch:
    """`ring` has the keys that hold now. Those of before hold on while the file cannot be used."""

    def __init__(self, path: Path) -> None:
        """Raises `KeyFileError` when the file cannot be used, or has no key: nobody could ask for anything."""
        self.path = path
        self._seen = self._signature()
        self.ring: KeyRing = read_keys(path)
        self.failure: str | None = None
        """Why the file cannot be used."""
        if not self.ring.keys:
            raise KeyFileError(f"{path}: holds no key")

    def look(self) -> None:
        """Take over what has changed."""
        seen = self._signature()
        if seen == self._seen:
            return
        try:
            self.ring = read_keys(self.path)
        except KeyFileError as error:
            self.failure = str(error)
            logger.error("%s; the keys of before still hold", error)
        else:
            self.failure = None
            logger.info("%s: %d keys hold now", self.path, len(self.ring.keys))
        self._seen = seen

    async def run(self) -> None:
        """Look every second, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            # A file system can be slow.
            await asyncio.to_thread(self.look)

    def _signature(self) -> tuple[int, ...]:
        """Changes whenever the file does; empty while there is none."""
        try:
            found = self.path.stat()
        except OSError:
            return ()
        return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
